"""`path_open`: find or create an object and make a descriptor of it."""

from __future__ import annotations

from typing import Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import Caps, FileType, Key, Stat
from .. import rights
from ..descriptor import OpenDirectory, OpenFile
from ..files.inode import DirectoryInode, FileInode
from ..process import Process
from .device import open_device
from .resolve import FOLLOW, NOFOLLOW, NOT_STRAIGHT, find, plain_key

# A member of an enumeration takes as long to look up as a call (0.14 us, Python 3.11).
_REGULAR_FILE: Final = FileType.REGULAR_FILE
_DIRECTORY: Final = FileType.DIRECTORY
_SYMBOLIC_LINK: Final = FileType.SYMBOLIC_LINK
_NOENT: Final = Errno.NOENT

# Between "not there" and "create" another process may act on a shared store; how often we look again.
_RACES_MAX = 8


def open_at(
    process: Process,
    fd: int,
    follow: bool,
    path: str,
    oflags: int,
    base: int,
    inheriting: int,
    fdflags: int,
) -> int:
    """Open `path` below the directory `fd`; the new descriptor's number.

    Errors in checked order: BADF, NOTDIR (fd), NOTCAPABLE (fd lacks PATH_OPEN), INVAL (flags), NOTCAPABLE or
    ROFS (rights asked for, CREAT, TRUNC), NOTSUP (SYNC flags), MFILE, what `resolve.lookup` raises, then: NOENT,
    EXIST (EXCL), LOOP (a link, not followed), NOTDIR (DIRECTORY on a file), ISDIR (a directory for writing,
    `new/` with CREAT), ACCES (neither file nor directory nor a device that can be opened), and what `open_device` and
    the backend raise. A failed call has created nothing. Where there are devices, ROFS comes after NOENT and ISDIR:
    they can be opened for writing and truncated on a read-only mount too.
    """
    directory = process.fds.directory(fd, c.RIGHT_PATH_OPEN)
    mount = directory.mount
    if oflags & c.OFLAG_CREAT and oflags & c.OFLAG_DIRECTORY:
        raise FsError(Errno.INVAL)
    asked = base
    if mount.readonly:
        if ((base & c.RIGHT_FD_WRITE) or oflags & c.OFLAG_TRUNC) and not mount.devices:
            raise FsError(Errno.ROFS)
        # Nothing on this mount can change, so rights to change it do not apply (see docs/semantics.md).
        base &= ~mount.withheld
        inheriting &= ~mount.withheld
    if (base | inheriting) & ~directory.inheriting:
        raise FsError(Errno.NOTCAPABLE)
    if (oflags or fdflags) and not mount.readonly:
        if oflags & c.OFLAG_CREAT and not directory.rights & c.RIGHT_PATH_CREATE_FILE:
            raise FsError(Errno.NOTCAPABLE)
        if oflags & c.OFLAG_TRUNC and not rights.may_truncate(directory.rights, directory.inheriting):
            raise FsError(Errno.NOTCAPABLE)
        if fdflags & c.FDFLAGS_SYNC and Caps.DURABLE_WRITES not in mount.backend.caps:
            raise FsError(Errno.NOTSUP)
    process.fds.check_room()
    of_file = rights.of_a_file(asked, directory.inheriting)
    exclusive = oflags & c.OFLAG_EXCL
    if exclusive and oflags & c.OFLAG_CREAT and not mount.readonly:
        # The usual outcome first: a new file, in one call.
        key = plain_key(directory, path)
        if key is not None:
            try:
                inode = FileInode.create(mount.volume, mount.backend, key)
            except FsError as error:
                if error.errno not in NOT_STRAIGHT:
                    raise
            else:
                return process.fds.add(OpenFile(mount, inode, of_file, fdflags))
    mode = FOLLOW if follow and not exclusive else NOFOLLOW
    for _ in range(_RACES_MAX):
        key, stat, slash, _ = find(directory, path, mode)
        if stat is not None:
            if exclusive:
                raise FsError(Errno.EXIST)
            return _open_existing(process, directory, key, stat, oflags, base, inheriting, of_file, fdflags)
        if not oflags & c.OFLAG_CREAT:
            raise FsError(_NOENT)
        if slash:
            raise FsError(Errno.ISDIR)
        if mount.readonly:
            raise FsError(Errno.ROFS)
        try:
            inode = FileInode.create(mount.volume, mount.backend, key)
        except FsError as error:
            if error.errno is Errno.EXIST and not exclusive:
                continue
            raise
        return process.fds.add(OpenFile(mount, inode, of_file, fdflags))
    raise FsError(Errno.IO, "the file keeps appearing and disappearing")


def _open_existing(
    process: Process,
    directory: OpenDirectory,
    key: Key,
    stat: Stat,
    oflags: int,
    base: int,
    inheriting: int,
    of_file: int,
    fdflags: int,
) -> int:
    """`of_file`: its rights if it is no directory."""
    mount = directory.mount
    filetype = stat.filetype
    truncate = oflags & c.OFLAG_TRUNC
    if filetype is _SYMBOLIC_LINK:
        raise FsError(Errno.LOOP)
    if filetype is _DIRECTORY:
        if base & c.RIGHT_FD_WRITE or oflags & (c.OFLAG_CREAT | c.OFLAG_TRUNC):
            raise FsError(Errno.ISDIR)
        if not base and not inheriting:
            base, inheriting = directory.rights, directory.inheriting
        return process.fds.add(
            OpenDirectory(mount, DirectoryInode.open(mount.volume, key), base & rights.DIRECTORY, inheriting)
        )
    if oflags & c.OFLAG_DIRECTORY:
        raise FsError(Errno.NOTDIR)
    if filetype is not _REGULAR_FILE:
        is_device = mount.devices and filetype is FileType.CHARACTER_DEVICE
        device = mount.backend.device(key) if is_device else None
        if device is None:
            raise FsError(Errno.ACCES, "neither a file nor a directory")
        attributes = mount.volume.dev, mount.volume.serial(key, stat.ident), stat
        return process.fds.add(open_device(process, device, attributes, of_file, bool(truncate), fdflags))
    if mount.readonly and (base & c.RIGHT_FD_WRITE or truncate):
        raise FsError(Errno.ROFS)
    write = bool(truncate or of_file & rights.NEED_WRITABLE_HANDLE)
    inode = FileInode.open(mount.volume, mount.backend, key, stat, write, mount.shared)
    if truncate:
        try:
            inode.handle.truncate(0)
        except BaseException:
            inode.release()
            raise
    return process.fds.add(OpenFile(mount, inode, of_file, fdflags))
