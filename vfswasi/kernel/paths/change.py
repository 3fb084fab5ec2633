"""Adding, removing and moving names: mkdir, rmdir, unlink, rename, link, symlink.

All of them resolve with PARENT: the last component is the name to add or remove and is never followed. The
order of checks is Linux's (fs/namei.c, man 2 rename, link, ...), except where docs/semantics.md says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import FileType, Handle, Key, Stat
from ...logs import logger
from ..descriptor import Mount
from ..process import Process
from .resolve import NOFOLLOW, NOT_STRAIGHT, PARENT, lookup, plain_key

_log = logger("vfswasi")


def mkdir_at(process: Process, fd: int, path: str) -> None:
    """Raises BADF, NOTDIR, NOTCAPABLE, ROFS, EXIST (anything is there, `.` too), NOENT (no parent), DQUOT."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_CREATE_DIRECTORY)
    mount = directory.mount
    if mount.keeps_unlinked:
        # The usual outcome first: a new directory, in one call.
        key = plain_key(directory, path)
        if key is not None:
            try:
                _add(mount, mount.backend.mkdir, key)
            except FsError as error:
                if error.errno not in NOT_STRAIGHT and error.errno is not Errno.DQUOT:  # it may be there already
                    raise
            else:
                return
    found = lookup(directory, path, PARENT)
    if found.stat is not None or found.dots:
        raise FsError(Errno.EXIST)
    _add(mount, mount.backend.mkdir, found.key)


def rmdir_at(process: Process, fd: int, path: str) -> None:
    """Raises BADF, NOTDIR, NOTCAPABLE, ROFS, INVAL (`.`), NOTEMPTY (`..` too), NOENT."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_REMOVE_DIRECTORY)
    mount = directory.mount
    if mount.keeps_unlinked:
        # The usual outcome first: a directory that is there and not open, in one call.
        key = plain_key(directory, path)
        if key is not None and key not in mount.volume.directories:
            try:
                mount.backend.rmdir(key)
            except FsError as error:
                if error.errno not in NOT_STRAIGHT:
                    raise
            else:
                mount.volume.forget(key)
                return
    found = lookup(directory, path, PARENT)
    if found.dots:
        raise FsError(Errno.INVAL if found.dots == "." else Errno.NOTEMPTY)
    if found.stat is None:
        raise FsError(Errno.NOENT)
    if found.stat.filetype is not FileType.DIRECTORY:
        raise FsError(Errno.NOTDIR)
    mount.backend.rmdir(found.key)
    _note_removed(mount, found.key, found.stat)


def unlink_at(process: Process, fd: int, path: str) -> None:
    """Raises BADF, NOTDIR (fd; `file/`), NOTCAPABLE, ROFS, ISDIR, NOENT."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_UNLINK_FILE)
    mount = directory.mount
    if mount.keeps_unlinked:
        # The usual outcome first: a file that is there, in one call.
        key = plain_key(directory, path)
        if key is not None:
            try:
                mount.backend.remove(key)
            except FsError as error:
                if error.errno not in NOT_STRAIGHT:
                    raise
            else:
                mount.volume.unlinked(key)
                return
    found = lookup(directory, path, PARENT)
    if found.stat is None:
        raise FsError(Errno.NOENT)
    if found.dots or found.stat.filetype is FileType.DIRECTORY:
        raise FsError(Errno.ISDIR)
    if found.slash:
        raise FsError(Errno.NOTDIR)
    old = _without_name(mount, found.key, found.stat, lambda: mount.backend.remove(found.key))
    mount.volume.unlinked(found.key)
    _discard(old)


def symlink_at(process: Process, target: str, fd: int, path: str) -> None:
    """Raises BADF, NOTDIR (fd; `file/`), NOTCAPABLE, ROFS, NOENT (empty target; `new/`), PERM (absolute target),
    EXIST, NOTSUP, DQUOT."""
    directory = process.fds.directory(fd, c.RIGHT_PATH_SYMLINK)
    if not target:
        raise FsError(Errno.NOENT)
    if target.startswith("/"):
        raise FsError(Errno.PERM)
    key = _new_name(process, fd, path, c.RIGHT_PATH_SYMLINK)
    mount = directory.mount
    quota = mount.volume.quota
    if quota is None:  # the right is there, and the store will not do it
        mount.backend.symlink(target, key)
        return
    size = len(target.encode())
    quota.charge(size)
    try:
        _add(mount, mount.backend.symlink, target, key)
    except BaseException:
        quota.credit(size)
        raise
    quota.charges[key] = size


def link_at(process: Process, old_fd: int, old_path: str, new_fd: int, new_path: str) -> None:
    """Raises BADF, NOTDIR, NOTCAPABLE, ROFS, NOENT (source; `new/`), EXIST, XDEV, PERM (directory), NOTSUP,
    DQUOT."""
    source = process.fds.directory(old_fd, c.RIGHT_PATH_LINK_SOURCE)
    target = process.fds.directory(new_fd, c.RIGHT_PATH_LINK_TARGET)
    old = lookup(source, old_path, NOFOLLOW)
    if old.stat is None:
        raise FsError(Errno.NOENT)
    key = _new_name(process, new_fd, new_path, c.RIGHT_PATH_LINK_TARGET)
    if source.mount is not target.mount:
        raise FsError(Errno.XDEV)
    if old.stat.filetype is FileType.DIRECTORY:
        raise FsError(Errno.PERM)
    _add(target.mount, target.mount.backend.link, old.key, key)
    target.mount.volume.linked(old.key, old.stat.ident)
    target.mount.volume.attributes_changed(old.key, old.stat.ident)


def _add(mount: Mount, make: Callable[..., None], *names: Key | str) -> None:
    """Let the store make a name, and charge it."""
    quota = mount.volume.quota
    if quota is None:
        make(*names)  # which refuses
        return
    quota.run.check_room_for_a_name()
    make(*names)
    quota.run.inodes += 1


def _new_name(process: Process, fd: int, path: str, right: int) -> Key:
    """The key for a new non-directory. Raises EXIST, NOENT (`new/`), NOTDIR (`file/`)."""
    found = lookup(process.fds.directory(fd, right), path, PARENT)
    if found.stat is None:
        if found.slash:
            raise FsError(Errno.NOENT)
        return found.key
    if found.slash and found.stat.filetype is FileType.REGULAR_FILE:
        raise FsError(Errno.NOTDIR)
    raise FsError(Errno.EXIST)


def rename_at(process: Process, old_fd: int, old_path: str, new_fd: int, new_path: str) -> None:
    """Raises BADF, NOTDIR, NOTCAPABLE, ROFS, BUSY (`.`, `..`), XDEV, NOENT, INVAL (into itself), NOTEMPTY, ISDIR.

    What is open under either name follows: the moved object keeps its descriptors, the replaced one becomes nameless.
    """
    source = process.fds.directory(old_fd, c.RIGHT_PATH_RENAME_SOURCE)
    target = process.fds.directory(new_fd, c.RIGHT_PATH_RENAME_TARGET)
    old = lookup(source, old_path, PARENT)
    new = lookup(target, new_path, PARENT)
    if source.mount is not target.mount:
        raise FsError(Errno.XDEV)
    if old.dots or new.dots:
        raise FsError(Errno.BUSY)
    if old.stat is None:
        raise FsError(Errno.NOENT)
    is_directory = old.stat.filetype is FileType.DIRECTORY
    if not is_directory and (old.slash or new.slash):
        raise FsError(Errno.NOTDIR)
    if old.key != new.key:
        if new.key[: len(old.key)] == old.key:
            raise FsError(Errno.INVAL)
        if old.key[: len(new.key)] == new.key:
            raise FsError(Errno.NOTEMPTY)
    mount = target.mount
    if new.stat is not None:
        if old.key == new.key or (old.stat.ident is not None and old.stat.ident == new.stat.ident):
            return
        if is_directory != (new.stat.filetype is FileType.DIRECTORY):
            raise FsError(Errno.NOTDIR if is_directory else Errno.ISDIR)
    replaced = None
    if new.stat is None or is_directory:
        mount.backend.rename(old.key, new.key)
    else:
        replaced = _without_name(mount, new.key, new.stat, lambda: mount.backend.rename(old.key, new.key))
    if new.stat is not None:
        _note_removed(mount, new.key, new.stat)
    mount.volume.renamed(old.key, new.key, is_directory)
    if not is_directory:
        mount.volume.attributes_changed(new.key, old.stat.ident)
    _discard(replaced)


def _without_name(mount: Mount, key: Key, stat: Stat, change: Callable[[], None]) -> Handle | None:
    """Make a change after which the file at `key` has no name there; if it is open, its contents stay. The handle that
    is not needed any more, or None."""
    copy = mount.volume.copy_if_open(mount.backend, key, stat.ident)
    try:
        change()
    except BaseException:
        if copy is not None:
            copy.drop()
        raise
    return None if copy is None else copy.use()


def _discard(handle: Handle | None) -> None:
    """Of a file without a name: its store has nothing to put it, so nothing is lost if that fails."""
    if handle is None:
        return
    try:
        handle.discard()
    except (FsError, MemoryError) as error:
        _log.debug("a file without a name could not be closed: %s", error)


def _note_removed(mount: Mount, key: Key, stat: Stat) -> None:
    """The object that was at `key` is gone from there."""
    directory = mount.volume.directories.get(key)
    if directory is not None:
        directory.last_stat = stat
    mount.volume.forget(key)
