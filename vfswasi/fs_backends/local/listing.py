"""Listing a host directory with the inode numbers that `stat` would tell, without a stat per entry."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from itertools import islice
from typing import Final

from ...errors import Errno, FsError
from ..base import DirEntry, FileType
from ..waiting import check_time, most_entries
from .file import Idents

_NAME_MAX_BYTES: Final = 255
_HIGH_IDENTS: Final = 1 << 63
_LISTED_AT_ONCE: Final = 256
_FREED_AT_ONCE: Final = 4096  # takes less than a millisecond

# A member of an enumeration costs as much as the rest of an entry to look up (Python 3.11).
_REGULAR_FILE: Final = FileType.REGULAR_FILE
_DIRECTORY: Final = FileType.DIRECTORY
_SYMBOLIC_LINK: Final = FileType.SYMBOLIC_LINK

_new_tuple: Final = tuple.__new__


class Lister:
    """Lists directories below the one that `root_fd` stands for (borrowed: it stays the caller's).

    The inode numbers that a listing carries are not always the ones that stat tells: not for mount points,
    nor on some network and layered file systems. They are believed if nothing is mounted below
    the root and one of each kind is right; else every entry is looked at by itself.
    """

    def __init__(self, root_fd: int, idents: Idents) -> None:
        self._idents = idents
        self._mounts = _MountsBelow(root_fd)

    def entries(self, fd: int) -> Iterator[DirEntry]:
        """The entries of the directory `fd` (open for reading). Raises OSError, NOMEM."""
        entries: dict[str, DirEntry] = {}  # a listing that races with a rename may repeat a name
        directory = other = None  # the last ones seen, as samples
        idents = self._idents
        dev = os.fstat(fd).st_dev
        highest = _HIGH_IDENTS if dev == idents.dev else 0
        with os.scandir(fd) as iterator:
            some = islice(iterator, most_entries())
            while batch := tuple(islice(some, _LISTED_AT_ONCE)):
                for item in batch:
                    name = item.name
                    if not name.isascii():
                        try:
                            raw = os.fsencode(name)
                            name = raw.decode()
                        except UnicodeDecodeError:
                            continue
                        if len(raw) > _NAME_MAX_BYTES:
                            continue
                    elif len(name) > _NAME_MAX_BYTES:
                        continue
                    ino = item.inode()
                    ident = ino if 0 < ino < highest else idents.ident(dev, ino)
                    if item.is_file(follow_symlinks=False):
                        entries[name] = other = _new_tuple(DirEntry, (name, _REGULAR_FILE, ident))
                    elif item.is_dir(follow_symlinks=False):
                        entries[name] = directory = _new_tuple(DirEntry, (name, _DIRECTORY, ident))
                    elif item.is_symlink():
                        entries[name] = other = _new_tuple(DirEntry, (name, _SYMBOLIC_LINK, ident))
                    else:
                        special = self._look_at(fd, name)
                        if special is not None:
                            entries[name] = special
                check_time("a listing")
            if next(iterator, None) is not None:
                raise FsError(Errno.NOMEM, "Limits.directory_entries")
        if (
            not self._mounts.any()
            and (directory is None or self._look_at(fd, directory.name) in (directory, None))
            and (other is None or self._look_at(fd, other.name) in (other, None))
        ):
            return _emptied(entries)
        for number, name in enumerate(list(entries)):
            if number % _LISTED_AT_ONCE == _LISTED_AT_ONCE - 1:
                check_time("a listing")
            found = self._look_at(fd, name)
            if found is None:
                del entries[name]
            else:
                entries[name] = found
        return _emptied(entries)

    def _look_at(self, fd: int, name: str) -> DirEntry | None:
        """The entry as stat sees it, None if it is gone."""
        try:
            found = self._idents.stat(os.stat(name.encode(), dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return None
        return DirEntry(name, found.filetype, found.ident)

    def close(self) -> None:
        self._mounts.close()


def _emptied(entries: dict[str, DirEntry]) -> Iterator[DirEntry]:
    """In order. Of many, each one is let go of by itself: a million at once would hold Python's lock for long."""
    return iter(entries.values()) if len(entries) <= _FREED_AT_ONCE else _each(entries)


def _each(entries: dict[str, DirEntry]) -> Iterator[DirEntry]:
    names = list(entries)
    names.reverse()
    while names:
        yield entries.pop(names.pop())


class _MountsBelow:
    """Whether anything is mounted below the directory `fd`; remembered until the system reports a change."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._answer: bool | None = None
        try:
            self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._table = -1
            return
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI | select.POLLERR)

    def any(self) -> bool:
        """True also where the system does not say. Source: proc(5), mountinfo."""
        if self._table < 0:
            return True
        if self._changes.poll(0) or self._answer is None:
            self._answer = self._look()
        return self._answer

    def _look(self) -> bool:
        try:
            top = os.readlink(f"/proc/self/fd/{self._fd}".encode()).rstrip(b"/") + b"/"
            with open("/proc/self/mountinfo", "rb") as table:
                points = [line.split(b" ", 5)[4] for line in table]
        except OSError:
            return True
        return any(_unescape(point).startswith(top) for point in points)

    def close(self) -> None:
        if self._table >= 0:
            os.close(self._table)
            self._table = -1


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match[1], 8),)), field)
