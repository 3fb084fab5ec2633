"""Looking at objects and setting their times, by path and by descriptor."""

from __future__ import annotations

from typing import Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import FileType, Stat
from ..descriptor import OpenDirectory, OpenFile
from ..process import Process
from .resolve import FOLLOW, NOFOLLOW, NOT_STRAIGHT, find, lookup, plain_key

_NOENT: Final = Errno.NOENT  # found in 0.01 us instead of 0.14 (Python 3.11)


def stat_at(process: Process, fd: int, follow: bool, path: str) -> tuple[int, int, Stat]:
    """(device, inode number, attributes) of what `path` names. Raises BADF, NOTDIR, NOTCAPABLE, NOENT and what
    `resolve.lookup` raises."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_FILESTAT_GET)
    key, stat, _, _ = find(directory, path, FOLLOW if follow else NOFOLLOW)
    if stat is None:
        raise FsError(_NOENT)
    volume = directory.mount.volume
    ident = stat.ident
    if volume.windowed and volume.settle(key, ident):
        stat = directory.mount.backend.stat(key)
    return volume.dev, ident if ident is not None else volume.serial(key, None), stat


def readlink_at(process: Process, fd: int, path: str) -> bytes:
    """The target of a link. Raises BADF, NOTDIR, NOTCAPABLE, NOENT, INVAL (not a link)."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_READLINK)
    if directory.mount.tells_links:
        # The usual outcome first: what is there is a link, or says that it is none, in one call.
        key = plain_key(directory, path)
        if key is not None:
            try:
                return directory.mount.backend.readlink(key).encode("utf-8", "surrogateescape")
            except FsError as error:
                if error.errno not in NOT_STRAIGHT or error.errno is _NOENT:
                    raise
    found = lookup(directory, path, NOFOLLOW)
    if found.stat is None:
        raise FsError(Errno.NOENT)
    if found.stat.filetype is not FileType.SYMBOLIC_LINK:
        raise FsError(Errno.INVAL)
    return directory.mount.backend.readlink(found.key).encode("utf-8", "surrogateescape")


def set_times_at(process: Process, fd: int, follow: bool, path: str, atim_ns: int, mtim_ns: int, flags: int) -> None:
    """`path_filestat_set_times`. Raises BADF, NOTDIR, NOTCAPABLE, ROFS, INVAL, NOENT, NOTSUP."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_FILESTAT_SET_TIMES)
    atim, mtim = _wanted_times(process, atim_ns, mtim_ns, flags)
    found = lookup(directory, path, FOLLOW if follow else NOFOLLOW)
    if found.stat is None:
        raise FsError(Errno.NOENT)
    if atim is not None or mtim is not None:
        volume = directory.mount.volume
        volume.settle(found.key, found.stat.ident)  # a later write-back would set the times again
        directory.mount.backend.set_times(found.key, atim, mtim)
        volume.attributes_changed(found.key, found.stat.ident)


def set_times(process: Process, fd: int, atim_ns: int, mtim_ns: int, flags: int) -> None:
    """`fd_filestat_set_times`. Raises BADF, NOTCAPABLE, ROFS, INVAL, NOENT (removed directory), NOTSUP."""
    descriptor = process.fds.get(fd, c.RIGHT_FD_FILESTAT_SET_TIMES)
    atim, mtim = _wanted_times(process, atim_ns, mtim_ns, flags)
    if atim is None and mtim is None:
        return
    if isinstance(descriptor, OpenFile):
        inode = descriptor.inode
        if inode.key is not None:
            descriptor.mount.backend.note_times(inode.key)
        inode.handle.set_times(atim, mtim)
    elif isinstance(descriptor, OpenDirectory):
        descriptor.mount.backend.set_times(descriptor.inode.live_key(), atim, mtim)


def _wanted_times(process: Process, atim_ns: int, mtim_ns: int, flags: int) -> tuple[int | None, int | None]:
    """What to set, None for what stays. Raises INVAL for a time both given and "now"."""
    if flags & ~c.FSTFLAGS_ALL:
        raise FsError(Errno.INVAL)
    both_atim = c.FSTFLAG_ATIM | c.FSTFLAG_ATIM_NOW
    both_mtim = c.FSTFLAG_MTIM | c.FSTFLAG_MTIM_NOW
    if flags & both_atim == both_atim or flags & both_mtim == both_mtim:
        raise FsError(Errno.INVAL)
    now = process.clocks.now_ns() if flags & (c.FSTFLAG_ATIM_NOW | c.FSTFLAG_MTIM_NOW) else 0
    atim = atim_ns if flags & c.FSTFLAG_ATIM else now if flags & c.FSTFLAG_ATIM_NOW else None
    mtim = mtim_ns if flags & c.FSTFLAG_MTIM else now if flags & c.FSTFLAG_MTIM_NOW else None
    return atim, mtim
