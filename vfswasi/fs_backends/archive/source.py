"""Where the bytes of an archive come from: positional reads of a path or a file object (of a URL: `remote_source`).

Every source reads whole ranges or raises `FsError` (IO), and may be used by several threads at once.
An archive that is opened by path is read with `preadv`, not mapped: a mapping of a file that somebody
shortens kills the host with SIGBUS, a read merely comes back short.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import threading
from typing import Protocol

from ...errors import Errno, FsError, MountError
from ...printing import shown
from .. import waiting
from ..base import Key, Traffic

SPOOL_MAX_BYTES = 4 << 30
_COPY_BYTES = 1 << 20


def cannot(kind: str) -> str:
    """How messages begin. kind: of an archive, or "module": any one file is read the same way."""
    return f"cannot mount {kind} archive" if kind in ("zip", "tar", "zip or tar") else f"cannot read the {kind}"


class BinaryFile(Protocol):
    """What is needed of a file object; `readinto` is used where it exists."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class ArchiveSource:
    """`size` bytes that can be read anywhere. `name` says in messages what they are, without secrets."""

    name: str
    size: int

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset`. Raises IO, also when the bytes are not there."""
        raise NotImplementedError

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`. Raises IO."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise FsError(Errno.IO, f"{self.name}: range {offset}+{count} is outside the archive")
        data = bytearray(count)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def traffic(self) -> Traffic | None:
        """What was moved so far, where the archive is far away."""
        return None

    def close(self) -> None:
        """Release what the source owns."""


class PathSource(ArchiveSource):
    """A regular file, opened here and closed here. `status`: what fstat said when it was opened."""

    def __init__(self, path: str | os.PathLike[str], kind: str = "zip") -> None:
        self.name = shown(os.fspath(path))
        self.path = os.fspath(path)
        try:
            # O_NONBLOCK: opening a FIFO must not wait for its writer; regular files do not care.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise MountError(f"{cannot(kind)} {self.name}: no such file; check the path") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MountError(f"{cannot(kind)} {self.name}: {reason}; check the path") from error
        self.status = os.fstat(self._fd)
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            raise MountError(f"{cannot(kind)} {self.name}: not a regular file; give a .{kind} file")
        self.size = self.status.st_size

    def read_into(self, offset: int, view: memoryview) -> None:
        read_file_into(self._fd, offset, view, self.name)

    def is_unchanged(self) -> bool:
        """Whether the file is what it was when it was opened, as far as its size and time tell."""
        try:
            now = os.fstat(self._fd)
        except OSError:
            return False
        before = self.status
        return (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    def close(self) -> None:
        # The number may be given to another file: a late read must fail, not read that one.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_file_into(fd: int, offset: int, view: memoryview, name: str) -> None:
    """Fill `view` from an open file. Raises IO, also when the file ends too early."""
    try:
        count = os.preadv(fd, (view,), offset)
        while count != len(view):
            more = os.preadv(fd, (view[count:],), offset + count)
            if not more:
                break
            count += more
    except (OSError, OverflowError, ValueError) as error:
        raise FsError(Errno.IO, f"{name}: read at {offset} failed") from error
    if count != len(view):
        raise FsError(Errno.IO, f"{name}: the archive became shorter while it was mounted")


class BytesSource(ArchiveSource):
    """An archive that is in memory already."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self._data = memoryview(data)
        self.name = name
        self.size = len(data)

    def read_into(self, offset: int, view: memoryview) -> None:
        piece = self._data[offset : offset + len(view)]
        if len(piece) != len(view):
            raise FsError(Errno.IO, f"{self.name}: read at {offset} is outside the archive")
        view[:] = piece


class ObjectSource(ArchiveSource):
    """A seekable binary file object; its position is ours under a lock.

    `owner`: what opened the file. It lives as long as the source, which then closes the file; None leaves
    the file open.
    """

    def __init__(self, file: BinaryFile, name: str, owner: object = None, kind: str = "zip") -> None:
        self.name = name
        self._file = file
        self._owner = owner
        self._lock = threading.Lock()
        self._readinto = getattr(file, "readinto", None)
        try:
            self.size = int(file.seek(0, 2))
        except Exception as error:
            self.close()
            raise MountError(
                f"{cannot(kind)} {name}: it cannot seek ({type(error).__name__}); give a seekable binary file or a path"
            ) from error

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        try:
            with self._lock:
                self._file.seek(offset)
                while done < len(view):
                    count = self._read_some(view[done:])
                    if not 0 < count <= len(view) - done:
                        break
                    done += count
        except Exception as error:  # clients of remote stores raise anything
            raise FsError(Errno.IO, f"{self.name}: read at {offset} failed") from error
        if done != len(view):
            raise FsError(Errno.IO, f"{self.name}: short read at {offset}")

    def _read_some(self, view: memoryview) -> int:
        if self._readinto is not None:
            return self._readinto(view) or 0
        data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._owner is None:
            return
        try:
            self._file.close()  # type: ignore[attr-defined]
        except Exception:  # nothing was written, so nothing can be lost
            pass
        self._owner = None


def source_of(source: str | os.PathLike[str] | BinaryFile | ArchiveSource, kind: str = "zip") -> ArchiveSource:
    """The source for what a user passed; messages call it a `kind` archive. Raises TypeError, MountError."""
    if isinstance(source, ArchiveSource):
        return source
    if isinstance(source, str | os.PathLike):
        return PathSource(source, kind)
    if isinstance(source, io.TextIOBase) or not (hasattr(source, "seek") and hasattr(source, "read")):
        raise TypeError(f"source must be a path or a seekable binary file, not {type(source).__name__}")
    name = f"<{type(source).__name__} object>"
    if type(source) is io.BytesIO:
        return BytesSource(source.getvalue(), name)  # shares its memory; no lock, no position
    return ObjectSource(source, name, kind=kind)


def place_in(source: object, root: str) -> Key | None:
    """`Backend.place` of the directory `root` in the archive at a path; None for archives that are no files."""
    if isinstance(source, PathSource):
        source = source.path
    if not isinstance(source, str | os.PathLike):
        return None
    return ("archive", os.path.realpath(os.fspath(source)), *(name for name in root.split("/") if name))


class SpooledSource(ArchiveSource):
    """A copy of an archive that can only be read from the start to the end, in an unnamed file of our own."""

    def __init__(self, file: BinaryFile, name: str, kind: str) -> None:
        """Raises MountError, CANCELED."""
        self.name = name
        self.size = 0
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
        except OSError as error:
            raise MountError(f"{cannot(kind)} {name}: no room for a copy of it") from error
        try:
            while data := self._next(file, kind):
                waiting.check_time(name)
                waiting.spend(count=len(data))
                self.size += len(data)
                if self.size > SPOOL_MAX_BYTES:
                    raise MountError(f"{cannot(kind)} {name}: it is larger than {SPOOL_MAX_BYTES:,} bytes")
                self._file.write(data)
            self._file.flush()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise MountError(f"{cannot(kind)} {name}: no room for a copy of it") from error
            raise

    def _next(self, file: BinaryFile, kind: str) -> bytes:
        try:
            return file.read(_COPY_BYTES)
        except Exception as error:  # clients of remote stores raise anything
            raise MountError(f"{cannot(kind)} {self.name}: {type(error).__name__} while it came") from error

    def read_into(self, offset: int, view: memoryview) -> None:
        read_file_into(self._file.fileno(), offset, view, self.name)

    def close(self) -> None:
        self._file.close()
