"""Where what a guest sees in a store that it changes in place was before it changed anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ....fs_backends.base import DirEntry, Key


class _Place:
    """Something that stands at a name now. base: its key before; None: it was not there. hid: what the store had at
    that name before, if that is not shown any more."""

    __slots__ = ("base", "children", "hid")

    def __init__(self, base: Key | None) -> None:
        self.base = base
        self.children: dict[str, _Place] = {}
        self.hid: DirEntry | None = None


class Places:
    """Keys are those of now, and bases those before the first change."""

    def __init__(self) -> None:
        self._root = _Place(())

    def base_of(self, key: Key) -> Key | None:
        """What `key` was; None: nothing that the store had before, or not there."""
        place: _Place | None = self._root
        base: Key | None = ()
        for name in key:
            place = None if place is None else place.children.get(name)
            base = place.base if place is not None else None if base is None else (*base, name)
        return base

    def _at(self, key: Key) -> _Place:
        place = self._root
        for name in key:
            below = place.children.get(name)
            if below is None:
                below = place.children[name] = _Place(None if place.base is None else (*place.base, name))
            place = below
        return place

    def put(self, key: Key, was: DirEntry | None = None, base: Key | None = None) -> None:
        """Something new is at `key`, or nothing any more. was: what the store has there of its own, if it has. base:
        what the new is another name of."""
        self._put(key, _Place(base), was)

    def move(self, old: Key, new: Key, was_old: DirEntry | None, was_new: DirEntry | None) -> None:
        moved = self._at(old)
        hidden = moved.hid
        moved.hid = None
        gone = _Place(None)
        gone.hid = hidden or was_old
        self._at(old[:-1]).children[old[-1]] = gone
        self._put(new, moved, was_new)

    def _put(self, key: Key, place: _Place, was: DirEntry | None) -> None:
        above = self._at(key[:-1])
        before = above.children.get(key[-1])
        place.hid = was if before is None else before.hid or (was if _is_own(above, key[-1], before) else None)
        if _is_own(above, key[-1], place):
            place.hid = None  # it is where it was
        above.children[key[-1]] = place

    def before(self, key: Key, entries: Iterable[DirEntry]) -> Iterator[DirEntry]:
        """What `base_of(key)` listed, of what is listed at `key` now."""
        place: _Place | None = self._root
        for name in key:
            place = None if place is None else place.children.get(name)
        if place is None:
            yield from entries
            return
        for entry in entries:
            below = place.children.get(entry.name)
            if below is None or _is_own(place, entry.name, below):
                yield entry
        for below in place.children.values():
            if below.hid is not None:
                yield below.hid


def _is_own(above: _Place, name: str, below: _Place) -> bool:
    return above.base is not None and below.base == (*above.base, name)
