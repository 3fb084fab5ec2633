"""What a run looks at in a store: a layer directly before the store that notes it and changes nothing.

It says more than the guest has seen where nobody can tell, and never less: what the fast path reads ahead, what an
overlay looks at to copy a file, and the attributes of what was looked up, unless it was opened at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NoReturn, TypeVar

from ....errors import Errno, FsError, Uncommitted
from ...base import (
    Backend,
    Device,
    DirEntry,
    FileType,
    Handle,
    Key,
    Stat,
    Traffic,
)
from ...waiting import check_time
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
T = TypeVar("T")


class Accessed(Backend):
    """`inner`, with `looked`: what was asked of it. only_watches: what is behind it is what there is."""

    only_watches = True

    def __init__(self, inner: Backend, looked: Looked) -> None:
        self.inner = inner
        self.looked = looked
        self.caps = inner.caps

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

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
            looked.tried = looked.tried or write
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
        looked.tried = looked.tried or write
        return AccessedHandle(handle, looked, known, stat)

    # Changes

    def _before(self, *keys: Key) -> None:
        """The parents of `keys` are about to change: their attributes so far may have been seen, or will be."""
        looked = self.looked
        if looked.waiting is not None:
            looked.settle()
        looked.tried = True
        if looked.over:
            return
        for key in keys:
            above = key[:-1]
            place = looked.origin(above)
            if place is not None and (place not in looked.notes or not looked.notes[place].written):
                found = self._look(above)
                if found is not None and found[1].filetype is _DIRECTORY:
                    found[0].change(found[1])

    def create(self, key: Key) -> Handle:
        return self._make(key, self.inner.create, key)

    def mkdir(self, key: Key) -> None:
        self._make(key, self.inner.mkdir, key)

    def symlink(self, target: str, key: Key) -> None:
        self._make(key, self.inner.symlink, target, key)

    def _make(self, key: Key, make: Callable[..., T], *args: Key | str) -> T:
        self._before(key)
        try:
            made = make(*args)
        except FsError as error:
            self._look(key)
            self._failed(key, error)
        if not self.looked.over:
            self.looked.missing(key)
        return made

    def link(self, old: Key, new: Key) -> None:
        self._before(new)
        seen = self._look(old)
        self._take_in(old)
        try:
            self.inner.link(old, new)
        except FsError as error:
            self._look(new)
            self._failed(new, error)
        if not self.looked.over:
            place = self.looked.origin(old)
            self.looked.missing(new)
            self.looked.moved[new] = place
            if seen is not None:
                seen[0].change(seen[1])

    def remove(self, key: Key) -> None:
        self._before(key)
        seen = self._look(key)
        try:
            self.inner.remove(key)
        except FsError as error:
            self._failed(key, error)
        self._gone(key, seen)

    def _gone(self, key: Key, seen: tuple[Note, Stat] | None) -> None:
        if self.looked.over:
            return
        if seen is not None:
            seen[0].change(seen[1])
        self.looked.moved[key] = None

    def rmdir(self, key: Key) -> None:
        self._before(key)
        seen = self._look(key)
        self._is_empty(key)
        try:
            self.inner.rmdir(key)
        except FsError as error:
            self._failed(key, error)
        self._gone(key, seen)

    def _list_unseen(self, key: Key) -> Sequence[DirEntry]:
        """What is in a directory, on which something depends that the guest is not shown. Raises as `list`."""
        entries, place = list(self.inner.list(key)), self.looked.origin(key)
        if place is not None and not self.looked.over:
            self.looked.listing(key, place, entries, False)
        return entries

    def _is_empty(self, key: Key) -> None:
        """Whether a directory is empty is about to be found out; if it is none, that was noted."""
        with contextlib.suppress(FsError):
            self._list_unseen(key)

    def rename(self, old: Key, new: Key) -> None:
        self._before(old, new)
        looked = self.looked
        seen, over = self._look(old), self._look(new)
        if over is not None and over[1].filetype is _DIRECTORY:
            self._is_empty(new)
        absent = looked.origin(new)
        self._take_in(old)
        try:
            self.inner.rename(old, new)
        except FsError as error:
            self._failed(old, error)
        if looked.over:
            return
        if over is not None:
            self._gone(new, over)
        elif absent is not None and absent in looked.notes:
            looked.notes[absent].written = True
        if seen is not None:
            seen[0].change(seen[1])
        looked.move(old, new)

    def _take_in(self, top: Key) -> None:
        """What is at `top`, with everything below, is about to become a part of what the run has made: it is an input
        whether the guest has read it or not. Raises FsError (CANCELED)."""
        looked, todo = self.looked, [top]
        while todo and not looked.over and not looked.full:
            key = todo.pop()
            check_time("looking at what is moved")
            found = self._look(key)
            try:
                if found is None:  # the run's own; what is older in it was taken in when it came there
                    continue
                if found[1].filetype is _DIRECTORY:
                    todo += [(*key, entry.name) for entry in self._list_unseen(key)]
                elif found[1].filetype is FileType.SYMBOLIC_LINK:
                    self.readlink(key)
                elif found[1].filetype is FileType.REGULAR_FILE:
                    handle = self.open(key, False)
                    try:
                        if isinstance(handle, AccessedHandle):
                            handle.take_in()
                    finally:
                        handle.close()
            except FsError as error:
                if error.errno is Errno.CANCELED:
                    raise
                if found is not None:
                    found[0].doubt(f"it was moved, and the store answered {error.errno.name}")

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self.looked.tried = True
        seen = self._look(key)
        try:
            self.inner.set_times(key, atim_ns, mtim_ns)
        except FsError as error:
            self._failed(key, error)
        if seen is not None:
            seen[0].change(seen[1])

    def note_times(self, key: Key) -> None:
        self.inner.note_times(key)

    def sync_directory(self, key: Key, data_only: bool) -> None:
        self.inner.sync_directory(key, data_only)

    def finish(self, keep: bool) -> None:
        self.inner.finish(keep)

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        return self.inner.take_uncommitted()

    def traffic(self) -> Traffic | None:
        return self.inner.traffic()

    def close(self) -> None:
        self.inner.close()
