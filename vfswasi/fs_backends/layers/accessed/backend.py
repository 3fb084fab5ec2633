"""What a run looks at in a store: a layer directly before the store that notes it and changes nothing.

It says more than the guest has seen where nobody can tell, and never less: what the fast path reads ahead, what an
overlay looks at to copy a file, and the attributes of what was looked up, unless it was opened at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from ....errors import Errno, FsError
from ...base import DirEntry, FileType, Handle, Key, Stat
from ...waiting import check_time
from .handle import AccessedHandle
from .looking import Looking
from .note import Note

_DIRECTORY: Final = FileType.DIRECTORY
T = TypeVar("T")


class Accessed(Looking):
    """What is looked at, and what becomes of it by the run's own changes."""

    def _before(self, *keys: Key) -> None:
        """The parents of `keys` are about to change: their attributes so far may have been seen, or will be."""
        looked = self.looked
        if looked.waiting is not None:
            looked.settle()
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
            self.looked.put(new, place)
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
        self.looked.put(key, None)

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
        seen = self._look(key)
        try:
            self.inner.set_times(key, atim_ns, mtim_ns)
        except FsError as error:
            self._failed(key, error)
        if seen is not None:
            seen[0].change(seen[1])

    def note_times(self, key: Key) -> None:
        self.inner.note_times(key)
