"""`path_*`: everything that starts with a directory descriptor and a path."""

from __future__ import annotations

from ...abi import constants as c
from ...abi.layouts import FILESTAT_MAX_BYTES, Abi
from ...errors import Errno, FsError
from ...kernel.paths import change as path_change
from ...kernel.paths import stat as path_stat
from ...kernel.paths.open import open_at
from ...kernel.process import Process
from ..memory import GuestMemory
from .fd_state import pack_filestat


def _follow(process: Process, fd: int, lookupflags: int) -> bool:
    """SYMLINK_FOLLOW or not. Raises INVAL for other bits, after BADF for the descriptor."""
    if lookupflags & ~c.LOOKUPFLAGS_ALL:
        process.fds.get(fd, 0)
        raise FsError(Errno.INVAL)
    return bool(lookupflags & c.LOOKUP_SYMLINK_FOLLOW)


def path_open(
    process: Process,
    memory: GuestMemory,
    fd: int,
    dirflags: int,
    path_ptr: int,
    path_len: int,
    oflags: int,
    base: int,
    inheriting: int,
    fdflags: int,
    opened_ptr: int,
) -> None:
    """Open or create. opened_ptr: u32, the new descriptor, the lowest free number above 2.

    Errors, in order: FAULT, NAMETOOLONG, ILSEQ, INVAL (NUL), BADF, INVAL (unknown flags), and those of
    `kernel.path_open.open_at`. Spec: preview1 path_open.
    """
    path = memory.path(path_ptr, path_len)
    if opened_ptr + 4 > memory.size:
        memory.check(opened_ptr, 4)
    if dirflags > c.LOOKUPFLAGS_ALL or oflags > c.OFLAGS_ALL or fdflags > c.FDFLAGS_ALL:  # all are 2**n - 1
        process.fds.get(fd, 0)
        raise FsError(Errno.INVAL)
    opened = open_at(process, fd, dirflags == c.LOOKUP_SYMLINK_FOLLOW, path, oflags, base, inheriting, fdflags)
    memory.write_u32(opened_ptr, opened)


def path_filestat_get(
    process: Process,
    memory: GuestMemory,
    fd: int,
    flags: int,
    path_ptr: int,
    path_len: int,
    stat_ptr: int,
    *,
    abi: Abi,
) -> None:
    """stat_ptr: `abi.filestat`, 64 bytes (unstable: 56).

    Errors, in order: FAULT, NAMETOOLONG, ILSEQ, INVAL (NUL), BADF, INVAL (flags), NOTDIR, NOTCAPABLE, NOENT, LOOP, IO.
    Spec: preview1 path_filestat_get.
    """
    path = memory.path(path_ptr, path_len)
    if stat_ptr + FILESTAT_MAX_BYTES > memory.size:
        memory.check(stat_ptr, abi.filestat.size)
    follow = flags == 1 if flags < 2 else _follow(process, fd, flags)
    dev, serial, stat = path_stat.stat_at(process, fd, follow, path)
    pack_filestat(abi, memory.view, stat_ptr, dev, serial, stat)


def path_filestat_set_times(
    process: Process,
    memory: GuestMemory,
    fd: int,
    flags: int,
    path_ptr: int,
    path_len: int,
    atim: int,
    mtim: int,
    fst_flags: int,
) -> None:
    """Times in nanoseconds; what the flags do not name stays.

    Errors, in order: FAULT, NAMETOOLONG, ILSEQ, INVAL (NUL), BADF, INVAL (flags), NOTDIR, NOTCAPABLE, ROFS, INVAL (time
    flags), NOENT, LOOP, NOTSUP, IO. Spec: preview1 path_filestat_set_times.
    """
    path = memory.path(path_ptr, path_len)
    follow = _follow(process, fd, flags)
    path_stat.set_times_at(process, fd, follow, path, atim, mtim, fst_flags)


def path_create_directory(process: Process, memory: GuestMemory, fd: int, path_ptr: int, path_len: int) -> None:
    """Errors: those of the path, then of `kernel.path_change.mkdir_at`. Spec: preview1 path_create_directory."""
    path_change.mkdir_at(process, fd, memory.path(path_ptr, path_len))


def path_remove_directory(process: Process, memory: GuestMemory, fd: int, path_ptr: int, path_len: int) -> None:
    """Errors: those of the path, then of `kernel.path_change.rmdir_at`. Spec: preview1 path_remove_directory."""
    path_change.rmdir_at(process, fd, memory.path(path_ptr, path_len))


def path_unlink_file(process: Process, memory: GuestMemory, fd: int, path_ptr: int, path_len: int) -> None:
    """Errors: those of the path, then of `kernel.path_change.unlink_at`. Spec: preview1 path_unlink_file."""
    path_change.unlink_at(process, fd, memory.path(path_ptr, path_len))


def path_rename(
    process: Process,
    memory: GuestMemory,
    fd: int,
    old_ptr: int,
    old_len: int,
    new_fd: int,
    new_ptr: int,
    new_len: int,
) -> None:
    """Errors: those of both paths, then of `kernel.path_change.rename_at`. Spec: preview1 path_rename."""
    old_path = memory.path(old_ptr, old_len)
    path_change.rename_at(process, fd, old_path, new_fd, memory.path(new_ptr, new_len))


def path_link(
    process: Process,
    memory: GuestMemory,
    old_fd: int,
    old_flags: int,
    old_ptr: int,
    old_len: int,
    new_fd: int,
    new_ptr: int,
    new_len: int,
) -> None:
    """A second name. A link to a symbolic link links the link; SYMLINK_FOLLOW is INVAL.

    Errors: those of both paths, BADF, INVAL (flags), then those of `kernel.path_change.link_at`. Spec: preview1
    path_link.
    """
    old_path = memory.path(old_ptr, old_len)
    new_path = memory.path(new_ptr, new_len)
    if old_flags:
        process.fds.get(old_fd, 0)
        process.fds.get(new_fd, 0)
        raise FsError(Errno.INVAL)
    path_change.link_at(process, old_fd, old_path, new_fd, new_path)


def path_symlink(
    process: Process,
    memory: GuestMemory,
    target_ptr: int,
    target_len: int,
    fd: int,
    path_ptr: int,
    path_len: int,
) -> None:
    """Errors: those of both texts, then of `kernel.path_change.symlink_at`. Spec: preview1 path_symlink."""
    target = memory.path(target_ptr, target_len)
    path_change.symlink_at(process, target, fd, memory.path(path_ptr, path_len))


def path_readlink(
    process: Process,
    memory: GuestMemory,
    fd: int,
    path_ptr: int,
    path_len: int,
    buf_ptr: int,
    buf_len: int,
    used_ptr: int,
) -> None:
    """buf_ptr: the target without NUL, cut to `buf_len`; the rest of the buffer is left alone. used_ptr: u32, bytes.

    Errors: those of the path, then of `kernel.path_stat.readlink_at`. Spec: preview1 path_readlink.
    """
    path = memory.path(path_ptr, path_len)
    memory.check(buf_ptr, buf_len)
    memory.check(used_ptr, 4)
    link = path_stat.readlink_at(process, fd, path)[:buf_len]
    memory.write(buf_ptr, link)
    memory.write_u32(used_ptr, len(link))
