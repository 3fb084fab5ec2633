"""`fd_*` calls about the descriptor and the object behind it: close, renumber, flags, rights, attributes, sync."""

from __future__ import annotations

from struct import error as StructError

from ...abi import constants as c
from ...abi.layouts import FDSTAT, PRESTAT, Abi
from ...errors import Errno, FsError
from ...fs_backends.base import Stat
from ...kernel.descriptor import OFFSET_MAX, OpenDirectory
from ...kernel.paths import stat as path_stat
from ...kernel.process import Process
from ..memory import GuestMemory


def fd_advise(process: Process, memory: GuestMemory, fd: int, offset: int, length: int, advice: int) -> None:
    """How the bytes from `offset` on will be used; passed on to the store.

    Errors, in order: BADF, SPIPE, NOTCAPABLE (FD_ADVISE), INVAL (unknown advice; a range beyond 2**63 - 1).
    Spec: preview1 fd_advise.
    """
    file = process.fds.positioned(fd, c.RIGHT_FD_ADVISE)
    if advice > c.ADVICE_MAX or offset > OFFSET_MAX or length > OFFSET_MAX:
        raise FsError(Errno.INVAL)
    file.advise(offset, length, advice)


def fd_allocate(process: Process, memory: GuestMemory, fd: int, offset: int, length: int) -> None:
    """Make room for `length` bytes at `offset`; the file grows to hold them, as with posix_fallocate(3).

    Errors, in order: BADF, SPIPE, NOTCAPABLE (FD_ALLOCATE), INVAL (length 0), FBIG, NOSPC, IO.
    Spec: preview1 fd_allocate.
    """
    file = process.fds.file(fd, c.RIGHT_FD_ALLOCATE)
    if not length:
        raise FsError(Errno.INVAL)
    if offset + length > OFFSET_MAX:
        raise FsError(Errno.FBIG)
    file.inode.handle.allocate(offset, length)


def fd_close(process: Process, memory: GuestMemory, fd: int) -> None:
    """Errors: BADF, and what a deferred write ran into (IO, NOSPC); the descriptor is closed in any case.

    Spec: preview1 fd_close.
    """
    process.fds.close(fd)


def fd_datasync(process: Process, memory: GuestMemory, fd: int) -> None:
    """What was written, or the names in a directory, are on disk. FD_SYNC, which is to do more, is enough.

    Errors, in order: BADF, INVAL (stream), NOTCAPABLE (FD_DATASYNC), IO. Spec: preview1 fd_datasync.
    """
    descriptor = process.fds.get(fd, 0)
    if not descriptor.rights & c.RIGHT_FD_SYNC:
        process.fds.get(fd, c.RIGHT_FD_DATASYNC)
    descriptor.sync(True)


def fd_sync(process: Process, memory: GuestMemory, fd: int) -> None:
    """What was written, or the names in a directory, are on disk, and the attributes of the object too.

    Errors, in order: BADF, INVAL (stream), NOTCAPABLE (FD_SYNC), IO. Spec: preview1 fd_sync.
    """
    process.fds.get(fd, c.RIGHT_FD_SYNC).sync(False)


def fd_fdstat_get(process: Process, memory: GuestMemory, fd: int, stat_ptr: int) -> None:
    """stat_ptr: {u8 type, u16 flags at 2, u64 rights at 8, u64 inheriting rights at 16}, 24 bytes.

    Errors, in order: FAULT, BADF. Spec: preview1 fd_fdstat_get.
    """
    target = memory.slice(stat_ptr, FDSTAT.size)
    descriptor = process.fds.get(fd, 0)
    FDSTAT.pack_into(target, 0, descriptor.filetype, descriptor.flags, descriptor.rights, descriptor.inheriting)


def fd_fdstat_set_flags(process: Process, memory: GuestMemory, fd: int, flags: int) -> None:
    """Replace the flags, at once: a set APPEND holds for the next write.

    Errors, in order: BADF (a directory too), NOTCAPABLE (FD_FDSTAT_SET_FLAGS), INVAL (unknown bits), NOTSUP
    (SYNC flags the store cannot keep). Spec: preview1 fd_fdstat_set_flags.
    """
    descriptor = process.fds.to_change(fd, c.RIGHT_FD_FDSTAT_SET_FLAGS)
    if flags & ~c.FDFLAGS_ALL:
        raise FsError(Errno.INVAL)
    descriptor.set_flags(flags)


def fd_fdstat_set_rights(process: Process, memory: GuestMemory, fd: int, base: int, inheriting: int) -> None:
    """Rights only shrink.

    Errors, in order: BADF, NOTCAPABLE (a right that the descriptor does not have). Spec: preview1 fd_fdstat_set_rights.
    """
    descriptor = process.fds.to_change(fd, 0)
    if base & ~descriptor.rights or inheriting & ~descriptor.inheriting:
        raise FsError(Errno.NOTCAPABLE)
    descriptor.rights = base
    descriptor.inheriting = inheriting


def pack_filestat(abi: Abi, view: memoryview, ptr: int, dev: int, serial: int, stat: Stat) -> None:
    """Encode attributes at `ptr`, which was checked; times outside u64 are clamped, unknown ones are 0."""
    filetype, size, atim, mtim, ctim, nlink, _ = stat
    pack_into = abi.filestat.pack_into
    try:
        pack_into(view, ptr, dev, serial, filetype, nlink, size, atim or 0, mtim or 0, ctim or 0)
    except StructError:
        times = map(_clamp, (atim, mtim, ctim))
        pack_into(view, ptr, dev, serial, filetype, min(nlink, abi.nlink_max), size, *times)


def _clamp(time_ns: int | None) -> int:
    return min(max(time_ns or 0, 0), 2**64 - 1)


def fd_filestat_get(process: Process, memory: GuestMemory, fd: int, stat_ptr: int, *, abi: Abi) -> None:
    """stat_ptr: `abi.filestat`, 64 bytes (unstable: 56).

    Errors, in order: FAULT, BADF, NOTCAPABLE (FD_FILESTAT_GET), IO. Spec: preview1 fd_filestat_get.
    """
    if stat_ptr + abi.filestat.size > memory.size:
        memory.check(stat_ptr, abi.filestat.size)
    found = process.fds.get(fd, c.RIGHT_FD_FILESTAT_GET).stat()
    pack_filestat(abi, memory.view, stat_ptr, *found)


def fd_filestat_set_size(process: Process, memory: GuestMemory, fd: int, size: int) -> None:
    """Cut the file or let it grow with zeros; the cursor stays.

    Errors, in order: BADF (directory), NOTCAPABLE (FD_FILESTAT_SET_SIZE), FBIG (above 2**63 - 1), NOSPC, IO.
    Spec: preview1 fd_filestat_set_size.
    """
    file = process.fds.file(fd, c.RIGHT_FD_FILESTAT_SET_SIZE)
    if size > OFFSET_MAX:
        raise FsError(Errno.FBIG)
    file.inode.handle.truncate(size)


def fd_filestat_set_times(process: Process, memory: GuestMemory, fd: int, atim: int, mtim: int, fst_flags: int) -> None:
    """Times in nanoseconds; what the flags do not name stays.

    Errors, in order: BADF, NOTCAPABLE or ROFS (FD_FILESTAT_SET_TIMES), INVAL (unknown bits; a time given and "now"),
    NOTSUP, IO. Spec: preview1 fd_filestat_set_times.
    """
    path_stat.set_times(process, fd, atim, mtim, fst_flags)


def _preopen_name(process: Process, fd: int) -> bytes:
    descriptor = process.fds.get(fd, 0)
    if not isinstance(descriptor, OpenDirectory) or descriptor.preopen is None:
        raise FsError(Errno.BADF)
    return descriptor.preopen


def fd_prestat_get(process: Process, memory: GuestMemory, fd: int, prestat_ptr: int) -> None:
    """prestat_ptr: {u8 0 (directory), u32 length of its name in bytes at 4}, 8 bytes.

    Errors, in order: FAULT, BADF (not a preopen). Spec: preview1 fd_prestat_get.
    """
    target = memory.slice(prestat_ptr, PRESTAT.size)
    PRESTAT.pack_into(target, 0, 0, len(_preopen_name(process, fd)))


def fd_prestat_dir_name(process: Process, memory: GuestMemory, fd: int, path_ptr: int, path_len: int) -> None:
    """path_ptr: the name, without NUL; a longer buffer is left alone behind it.

    Errors, in order: FAULT, BADF (not a preopen), NAMETOOLONG (the buffer is too short). Spec: preview1
    fd_prestat_dir_name.
    """
    target = memory.slice(path_ptr, path_len)
    name = _preopen_name(process, fd)
    if len(name) > path_len:
        raise FsError(Errno.NAMETOOLONG)
    target[: len(name)] = name


def fd_renumber(process: Process, memory: GuestMemory, fd: int, to: int) -> None:
    """Move `fd` onto the open descriptor `to`.

    Errors, in order: BADF (either), and what closing the old one raises. Spec: preview1 fd_renumber.
    """
    process.fds.renumber(fd, to)
