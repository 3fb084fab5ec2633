"""A file that is written beside its place and takes it when it is whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

_LINKS_UNKNOWN = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def written_beside(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[IO[bytes]]:
    """A new file, open for writing; what is at the path stays as it is until the `with` block ends without an
    exception. Then it is replaced, and a file that replaces another has its mode. A link at the path is followed. What
    is no regular file, such as `/dev/stdout`, is written as it is.

    Raises OSError; FileExistsError without `overwrite`, and nothing was written then.
    """
    import tempfile  # slow to import

    real = os.path.realpath(path)
    try:
        old: os.stat_result | None = os.stat(real)
    except FileNotFoundError:
        old = None
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory", os.fspath(path))
    if old is not None and not overwrite:
        raise _exists(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(real, "wb") as file:
            yield file
        return
    directory = os.path.dirname(real)
    try:
        descriptor, temporary = tempfile.mkstemp(".tmp", ".vfswasi-", directory)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such directory to write in", os.fspath(path)) from error
    except OSError as error:
        error.filename = os.fspath(path)  # not that of the temporary one
        raise
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(descriptor, _usual_mode() if old is None else old.st_mode & 0o777)
            os.fsync(descriptor)
        if overwrite:
            os.replace(temporary, real)
        else:
            _put_new(temporary, real, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync(directory)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """What cannot be written says which file it was to be in, which the system does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def _put_new(temporary: str, real: str, path: str | os.PathLike[str]) -> None:
    """Not in place of what somebody else has put there meanwhile."""
    try:
        os.link(temporary, real, follow_symlinks=False)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _LINKS_UNKNOWN:
            raise
        if os.path.lexists(real):
            raise _exists(path) from None
        os.replace(temporary, real)
        return
    os.unlink(temporary)


def _exists(path: str | os.PathLike[str]) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "is there already; give another name, or overwrite=True", os.fspath(path))


def _usual_mode() -> int:
    """What `open` gives a new file. The mask can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _sync(directory: str) -> None:
    with suppress(OSError):  # the file is there; some systems cannot do that
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
