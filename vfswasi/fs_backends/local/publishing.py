"""What many changes to a local directory need that are made as a whole, beside what every store can do."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows, where there are no local directories either
    fcntl = None  # type: ignore[assignment]

from ...errors import Errno, FsError
from ..base import Key
from ..waiting import check_time
from .backend import _LIST, _OBJECT, _PIN, LocalBackend
from .file import HOST_ERRORS, translate

_POLL_S = 0.02
_PERMISSIONS = 0o777  # what makes a program run as somebody else is not for contents that others wrote


@contextlib.contextmanager
def alone(backend: LocalBackend) -> Iterator[None]:
    """No other process or thread is in this block for the same directory; waits for them, and as long as the run has
    time. A process that was killed is not waited for. Raises CANCELED, and NOTSUP: the file system has no locks."""
    try:
        fd = backend._open((), _LIST)
    except HOST_ERRORS as error:
        raise translate(error) from error
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                    raise FsError(Errno.NOTSUP, f"a directory of this file system cannot be locked: {error}") from error
            check_time("changes")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def keep_permissions(backend: LocalBackend, old: Key, new: Key) -> None:
    """The file `new` gets the permissions of the file `old` and, where the system lets us, its owner and group. Raises
    FsError."""
    try:
        fd = backend._open(old, _OBJECT)
        try:
            host = os.fstat(fd)
        finally:
            os.close(fd)
        with contextlib.closing(backend.open(new, True)) as handle:
            mine = os.fstat(handle._fd)
            if (host.st_uid, host.st_gid) != (mine.st_uid, mine.st_gid):
                for uid, gid in ((host.st_uid, -1), (-1, host.st_gid)):
                    with contextlib.suppress(PermissionError):
                        os.fchown(handle._fd, uid, gid)
            os.fchmod(handle._fd, host.st_mode & _PERMISSIONS)
    except HOST_ERRORS as error:
        raise translate(error) from error


def why_fixed(backend: LocalBackend, key: Key) -> str | None:
    """Why names in the directory `key` cannot be moved out of it to others below the root; None: they can. Raises
    FsError: it cannot be looked at."""
    try:
        fd = backend._open(key, _PIN) if key else -1
    except HOST_ERRORS as error:
        raise translate(error) from error
    try:
        here = fd if fd >= 0 else backend._root
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=here, effective_ids=os.access in os.supports_effective_ids):
            return "its directory cannot be written to"
        if os.fstat(here).st_dev != os.fstat(backend._root).st_dev:
            return "it is on another file system than the directory that is changed"
        return None
    finally:
        if fd >= 0:
            os.close(fd)


def has_unseen(backend: LocalBackend, key: Key) -> bool:
    """Whether the directory has names that are not UTF-8, which `list` leaves out. Raises FsError."""
    try:
        fd = backend._open(key, _LIST)
        try:
            return any(not _is_utf8(name) for name in os.listdir(fd))
        finally:
            os.close(fd)
    except HOST_ERRORS as error:
        raise translate(error) from error


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True
