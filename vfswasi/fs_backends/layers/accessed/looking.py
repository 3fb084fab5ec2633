"""How a store is looked at, by names and through open files: noted, and passed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

from ....errors import Errno, FsError
from ...base import (
    Backend,
    Device,
    DirEntry,
    FileType,
    Handle,
    Key,
    Stat,
)
from ..passing import Passing
from .handle import AccessedHandle
from .looked import Looked
from .note import CHANGED, Note
from .versions import file_version

# What follows from names and types, which are noted, or from what the run is and asks for.
_EXPLAINED: Final = frozenset(
    {
        Errno.NOENT,
        Errno.NOTDIR,
        Errno.ISDIR,
        Errno.LOOP,
        Errno.EXIST,
        Errno.NOTEMPTY,
        Errno.INVAL,
        Errno.ROFS,
        Errno.NOTSUP,
        Errno.BUSY,
        Errno.PERM,
        Errno.NAMETOOLONG,
        Errno.CANCELED,
    }
)
_DIRECTORY: Final = FileType.DIRECTORY


class Looking(Passing):
    """`inner`, with `looked`: what was asked of it. only_watches: what is behind it is what there is."""

    only_watches = True

    def __init__(self, inner: Backend, looked: Looked) -> None:
        super().__init__(inner)
        self.looked = looked

    def _failed(self, key: Key, error: FsError) -> NoReturn:
        """The store would not do it: what that depends on is not noted, unless the errno says it all."""
        if error.errno not in _EXPLAINED and not self.looked.over:
            what = "/".join(key) or "."
            self.looked.unsure = self.looked.unsure or f"{what}: the store answered {error.errno.name}"
        raise error

    # Names

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        looked = self.looked
        waiting = looked.waiting
        if waiting is not None and waiting[2] != key + names:  # else the kernel finds a link there, and starts again
            looked.settle()
        try:
            found = self.inner.walk(key, names)
        except FsError as error:
            self._walk_failed(key, names, error)
        if not looked.over and names:
            looked.walked(len(key), key + names, *found)
        return found

    def _walk_failed(self, key: Key, names: Key, error: FsError) -> NoReturn:
        if error.errno in (Errno.NOENT, Errno.NOTDIR):  # where it starts is no directory any more
            self._look(key)
        self._failed(key + names, error)

    def _look(self, key: Key) -> tuple[Note, Stat] | None:
        """Note how far the way to `key` exists; what is there, None: nothing. For what a store does at once. Raises
        nothing of a store's."""
        looked = self.looked
        if looked.over:
            return None
        place = looked.origin(key)
        try:
            if not key:
                stat = self.inner.stat(key)
                return looked.note((), stat.filetype), stat
            count, found = self.inner.walk((), key)
        except FsError as error:
            if error.errno not in _EXPLAINED:
                looked.unsure = looked.unsure or f"{'/'.join(key)}: the store answered {error.errno.name}"
            return None
        looked.walked(0, key, count, found)
        looked.waiting = None
        if count < len(key) or found is None or place is None:
            return None
        return looked.note(place, found.filetype), found

    def stat(self, key: Key) -> Stat:
        looked = self.looked
        if looked.waiting is not None:
            looked.settle()
        try:
            stat = self.inner.stat(key)
        except FsError as error:
            self._look(key)
            self._failed(key, error)
        if not looked.over:
            place = looked.origin(key)
            if place is not None:
                if place not in looked.notes:
                    looked.on_the_way(place)
                note = looked.note(place, stat.filetype)
                note.see(stat)
        return stat

    def list(self, key: Key) -> Iterable[DirEntry]:
        looked = self.looked
        if looked.waiting is not None:
            looked.settle()
        try:
            entries = self.inner.list(key)
        except FsError as error:
            self._look(key)
            self._failed(key, error)
        place = None if looked.over else looked.origin(key)
        if place is None:
            return entries
        looked.on_the_way(place)
        note = looked.note(place, _DIRECTORY)
        return self._listed(key, place, note, entries)

    def _listed(self, key: Key, place: Key, note: Note, entries: Iterable[DirEntry]) -> Iterator[DirEntry]:
        every: list[DirEntry] = []
        left = iter(entries)
        try:
            for entry in left:
                every.append(entry)
                yield entry
        except FsError as error:
            note.doubt("the program was shown a part of what is in it")
            self._failed(key, error)
        except GeneratorExit:  # the rest is not wanted, and what there is decides whether there is a rest
            try:
                every += left
            except FsError:
                note.doubt("the program was shown a part of what is in it")
            raise
        finally:
            self.looked.listing(key, place, every, True)

    def listing_version(self, key: Key) -> int | None:
        return self.inner.listing_version(key)  # a listing that is kept was listed before

    def version(self, key: Key) -> str | None:
        return self.inner.version(key)

    def readlink(self, key: Key) -> str:
        looked = self.looked
        if looked.waiting is not None:
            if looked.waiting[2] != key:
                looked.settle()
            looked.waiting = None
        try:
            target = self.inner.readlink(key)
        except FsError as error:
            self._look(key)
            self._failed(key, error)
        if not looked.over:
            place = looked.origin(key)
            if place is not None:
                looked.on_the_way(place)
                note = looked.note(place, FileType.SYMBOLIC_LINK)
                if note.target is not None and note.target != target:
                    note.doubt(CHANGED)
                note.target = target
        return target

    def device(self, key: Key) -> Device | None:
        device = self.inner.device(key)
        place = self.looked.origin(key)
        if place is not None and not self.looked.over:
            note = self.looked.note(place, FileType.CHARACTER_DEVICE)
            note.kind = "none" if device is None else device.name.lower()
        return device

    # Files

    def open(self, key: Key, write: bool) -> Handle:
        looked = self.looked
        if looked.waiting is not None:
            if looked.waiting[2] != key:
                looked.settle()
            looked.waiting = None
        place = None if looked.over else looked.origin(key)
        known = None if place is None else looked.notes.get(place)
        far = looked.lasting and not looked.local
        version = file_version(self.inner, looked, key, None) if far and place is not None else None
        try:
            handle = self.inner.open(key, write)
        except FsError as error:
            self._look(key)
            self._failed(key, error)
        if place is None:
            return handle
        try:
            if known is None:
                looked.on_the_way(place)
                known = looked.note(place, FileType.REGULAR_FILE)
            elif known.filetype is not FileType.REGULAR_FILE and not known.written:
                known.doubt(CHANGED)
            stat = handle.stat()
            if not far:
                version = file_version(self.inner, looked, key, stat)
            looked.opened(known, stat, version)
        except BaseException:
            handle.discard()
            raise
        return AccessedHandle(handle, looked, known, stat)
