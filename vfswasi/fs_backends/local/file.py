"""An open file of a host directory, and what it shares with the directory's backend: error numbers and
inode numbers. `local` holds the other half, everything that has to do with names."""

from __future__ import annotations

import errno
import os
import threading
from typing import Final

try:
    import resource
except ImportError:  # a system without limits
    resource = None  # type: ignore[assignment]

from ...errors import Errno, FsError
from ..base import Buffer, FileType, Handle, ReadableBuffer, Stat

# What a call to the operating system may raise: OverflowError for numbers that its types cannot hold,
# ValueError for NUL in a name and for names that are not Unicode.
HOST_ERRORS: Final = (OSError, ValueError, OverflowError)

_ERRNOS: Final = {
    getattr(errno, f"E{member.name}"): member for member in Errno if hasattr(errno, f"E{member.name}")
} | {errno.E2BIG: Errno.TOOBIG, errno.EOPNOTSUPP: Errno.NOTSUP}

_FILETYPES: Final = {
    0o02: FileType.CHARACTER_DEVICE,
    0o04: FileType.DIRECTORY,
    0o06: FileType.BLOCK_DEVICE,
    0o10: FileType.REGULAR_FILE,
    0o12: FileType.SYMBOLIC_LINK,
    0o14: FileType.SOCKET_STREAM,
}
_FILETYPE_OF_MODE: Final = tuple(_FILETYPES.get(kind, FileType.UNKNOWN) for kind in range(16))

# Numbers from here up are given by us; the root's own device has the numbers below to itself.
_GIVEN_IDENTS: Final = 1 << 63
_TABLE_IDENTS: Final = _GIVEN_IDENTS | 1 << 62
_DEVICE_SHIFT: Final = 48
_DEVICES_MAX: Final = 1 << 14

# The guest's times are u64; further out than that no file system keeps them anyway.
_TIME_MIN_NS: Final = -(1 << 63)
_TIME_MAX_NS: Final = (1 << 64) - 1

_OFFSET_END: Final = 1 << 63

# Beside what a deferred write needs: other processes write too.
_PLENTY_BYTES: Final = 64 << 20

# By preview1 `advice`: normal, sequential, random, willneed, dontneed, noreuse.
_ADVICE: Final = tuple(
    getattr(os, f"POSIX_FADV_{name}", 0)
    for name in ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
)
_RWF_APPEND: Final[int] = getattr(os, "RWF_APPEND", 0)

_new_tuple: Final = tuple.__new__


def translate(error: OSError | ValueError | OverflowError) -> FsError:
    """The error that a guest sees for one of HOST_ERRORS; raise it `from` the original."""
    if isinstance(error, OSError):
        return FsError(_ERRNOS.get(error.errno, Errno.IO), str(error))
    if isinstance(error, OverflowError):
        return FsError(Errno.FBIG, str(error))
    if isinstance(error, UnicodeError):
        return FsError(Errno.ILSEQ, str(error))
    return FsError(Errno.INVAL, str(error))


def kept_times(now: os.stat_result, atim_ns: int | None, mtim_ns: int | None) -> tuple[int, int]:
    """The pair for `os.utime`: None keeps what `now` has, the rest is clamped to what file systems take."""
    atim_ns = now.st_atime_ns if atim_ns is None else max(_TIME_MIN_NS, min(atim_ns, _TIME_MAX_NS))
    mtim_ns = now.st_mtime_ns if mtim_ns is None else max(_TIME_MIN_NS, min(mtim_ns, _TIME_MAX_NS))
    return atim_ns, mtim_ns


class Idents:
    """One number for each object below a root whose device is `dev`, stable while this object lives.

    Below a root there may be mount points, so (device, inode number) have to become one number. On the root's
    device it is the inode number. On others it is made of both, without memory, so that a guest that
    creates and removes files all day grows no table; a table serves the numbers that do not fit.
    """

    def __init__(self, dev: int) -> None:
        self.dev = dev
        self._lock = threading.Lock()
        self._devices: dict[int, int] = {}
        self._table: dict[tuple[int, int], int] = {}

    def ident(self, dev: int, ino: int) -> int | None:
        """The number for an object, None if the file system has none (0)."""
        if dev == self.dev and 0 < ino < _GIVEN_IDENTS:
            return ino
        if not ino:
            return None
        with self._lock:
            index = self._devices.setdefault(dev, len(self._devices))
            if ino < 1 << _DEVICE_SHIFT and index < _DEVICES_MAX:
                return _GIVEN_IDENTS | index << _DEVICE_SHIFT | ino
            return self._table.setdefault((dev, ino), _TABLE_IDENTS + len(self._table))

    def stat(self, host: os.stat_result) -> Stat:
        mode, ino, dev, nlink, _, _, size, _, _, _ = host  # 0.07 us; by their names these five take 0.12
        return _new_tuple(  # the constructor of a NamedTuple costs twice as much
            Stat,
            (
                _FILETYPE_OF_MODE[mode >> 12],
                size,
                host.st_atime_ns,
                host.st_mtime_ns,
                host.st_ctime_ns,
                nlink,
                ino if dev == self.dev and 0 < ino < _GIVEN_IDENTS else self.ident(dev, ino),
            ),
        )


class LocalHandle(Handle):
    """An open regular file of the host. It owns `fd`; reads and writes are positional and whole."""

    __slots__ = ("_fd", "_host", "_idents", "_writable")

    def __init__(self, fd: int, writable: bool, idents: Idents, host: os.stat_result | None = None) -> None:
        """`host`: what is known of the file already."""
        self._fd = fd
        self._host = host
        self._writable = writable
        self._idents = idents

    def read_into(self, offset: int, buf: Buffer) -> int:
        wanted = len(buf)
        if offset + wanted >= _OFFSET_END:  # the system takes no range that ends there
            if offset >= _OFFSET_END - 1:
                return 0
            buf = memoryview(buf)[: _OFFSET_END - 1 - offset]
            wanted = len(buf)
        try:
            done = got = os.preadv(self._fd, (buf,), offset)
            # One call moves at most 2 GiB, and a network file system may be interrupted.
            while got and done < wanted:
                got = os.preadv(self._fd, (memoryview(buf)[done:],), offset + done)
                done += got
        except HOST_ERRORS as error:
            raise translate(error) from error
        return done

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        """As the protocol says, but the bytes before the one that met NOSPC, DQUOT or FBIG stay written."""
        if not self._writable:
            raise FsError(Errno.ROFS)
        wanted = len(buf)
        if not wanted:
            return
        if offset + wanted >= _OFFSET_END:
            raise FsError(Errno.FBIG)
        try:
            done = os.pwrite(self._fd, buf, offset)
            while done < wanted:
                done += _progress(os.pwrite(self._fd, memoryview(buf)[done:], offset + done))
        except HOST_ERRORS as error:
            raise translate(error) from error

    def append(self, buf: ReadableBuffer) -> int:
        """One step on Linux, so that appending processes never overwrite each other; if another one appends
        right afterwards, the offset returned may be the end of its bytes."""
        if not self._writable:
            raise FsError(Errno.ROFS)
        if not _RWF_APPEND:
            return super().append(buf)
        wanted = len(buf)
        try:
            done = os.pwritev(self._fd, (buf,), 0, _RWF_APPEND) if wanted else 0
            while done < wanted:
                rest = memoryview(buf)[done:]
                done += _progress(os.pwritev(self._fd, (rest,), 0, _RWF_APPEND))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # Linux before 4.16
                return super().append(buf)
            raise translate(error) from error
        return self.size()

    def truncate(self, size: int) -> None:
        if not self._writable:
            raise FsError(Errno.ROFS)
        try:
            os.ftruncate(self._fd, size)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def size(self) -> int:
        try:
            # Half the cost of fstat; nothing here uses the cursor that it moves.
            return os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise translate(error) from error

    def stat(self) -> Stat:
        try:
            return self._idents.stat(os.fstat(self._fd))
        except OSError as error:
            raise translate(error) from error

    def ident(self) -> int | None:
        try:
            host = self._host or os.fstat(self._fd)
        except OSError as error:
            raise translate(error) from error
        return self._idents.ident(host.st_dev, host.st_ino)

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        try:
            os.utime(self._fd, ns=kept_times(os.fstat(self._fd), atim_ns, mtim_ns))
        except HOST_ERRORS as error:
            raise translate(error) from error

    def allocate(self, offset: int, length: int) -> None:
        if not self._writable:
            raise FsError(Errno.ROFS)
        if hasattr(os, "posix_fallocate"):
            try:
                return os.posix_fallocate(self._fd, offset, length)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise translate(error) from error
            except OverflowError as error:
                raise translate(error) from error
        return super().allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        """True while there is plenty of room: at least 64 MiB beside these bytes, and no limit on the file's size in
        the way. Nothing is taken from the disk: blocks behind the end of a file can only be given back by setting its
        size, and that could cut off what another process has just added."""
        if not length:
            return True
        if not self._writable:
            return False
        if resource is not None:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            if limit != resource.RLIM_INFINITY and offset + length > limit:
                return False
        try:
            disk = os.fstatvfs(self._fd)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= length + _PLENTY_BYTES

    def advise(self, offset: int, length: int, advice: int) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        try:
            os.posix_fadvise(self._fd, offset, length, _ADVICE[advice])
        except (OSError, OverflowError, IndexError):
            pass  # a hint that the host does not take

    def sync(self, data_only: bool) -> None:
        try:
            sync_descriptor(self._fd, data_only)
        except OSError as error:
            raise translate(error) from error

    def close(self) -> None:
        # From here on the number may belong to somebody else's file.
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise translate(error) from error


def sync_descriptor(fd: int, data_only: bool) -> None:
    """Make a file's contents, or a directory's names, durable. Raises OSError."""
    if data_only and hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _progress(count: int) -> int:
    if not count:
        raise OSError(errno.EIO, "the host writes nothing and reports no error")
    return count
