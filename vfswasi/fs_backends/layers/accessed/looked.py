"""What a run looked at in one store, as it was before the run changed anything.

Every name that the run asks for is led back to where its object was when the run began (`Looked.origin`); what the run
made itself leads nowhere and is no input. Contents are hashed as they are read, so that a digest is of the bytes that
the guest got, whatever becomes of the file.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Final

from ...base import Caps, DirEntry, FileType, Key, Stat
from ...turns import give_way
from .note import CHANGED, Note, Ranges, names_digest, shown_digest

# What is kept of one run: about 100,000 names. Beyond it nothing more is noted, and nobody is told that all is known.
NOTES_MAX_BYTES: Final = 64 << 20
_NOTE_BYTES: Final = 500
_NAME_BYTES: Final = 60
_PIECE_BYTES: Final = 300
_MOVED_BYTES: Final = 300
_AT_ONCE: Final = 4096
# Ranges of one file that is not hashed; beyond it they become one, which holds them all.
_RANGES_MAX: Final = 1024
# A file that was changed so short a time before can be changed once more without another time to show for it.
_RACY_NS: Final = 2_000_000_000
_SECOND_NS: Final = 1_000_000_000
_DIRECTORY: Final = FileType.DIRECTORY


class Looked:
    """One store in one run. Mounts that show the same store share it.

    digests: everything that is read is hashed, else what has no version that would last. lasting: whether versions of
    the store's files mean the same when it is opened once more. local: they are times, and may be too coarse.
    """

    def __init__(self, caps: Caps, digests: bool, lasting: bool, local: bool, made_ns: int | None) -> None:
        self.notes: dict[Key, Note] = {}
        self.caps = caps
        self.digests = digests
        self.lasting = lasting
        self.local = local
        self.made_ns = made_ns
        self.over = False  # nothing more is noted
        self.full = False  # there was more than can be kept
        self.unsure: str | None = None
        self.moved: dict[Key, Key | None] = {}
        self._below: dict[Key, set[str]] = {}  # the names in each directory that are in `moved`
        self.waiting: tuple[Note, Stat | int, Key | None] | None = None
        self._left = NOTES_MAX_BYTES

    def origin(self, key: Key) -> Key | None:
        """Where what is at `key` now was when the run began; None: nowhere, or something of the run's is in the way."""
        moved = self.moved
        if moved:
            for depth in range(len(key), 0, -1):
                prefix = key[:depth]
                if prefix in moved:
                    base = moved[prefix]
                    return None if base is None else base + key[depth:]
        return key

    def note(self, place: Key, filetype: FileType | None) -> Note:
        """At `place`, an origin, there was this."""
        note = self.notes.get(place)
        if note is None:
            note = Note(filetype)
            if self.charge(_NOTE_BYTES + sum(_NAME_BYTES + len(name) for name in place)):
                self.notes[place] = note
        elif note.filetype is not filetype and not note.written:
            note.doubt(CHANGED)
        return note

    def charge(self, count: int) -> bool:
        if self.over:
            return False
        if self._left < count:
            self.full = self.over = True
            self.moved.clear()
            self._below.clear()
            return False
        self._left -= count
        return True

    def put(self, key: Key, place: Key | None) -> None:
        """What is at `key` from now on is what was at `place`; None: nothing, or something of the run's."""
        if key not in self.moved:
            if not self.charge(_MOVED_BYTES + sum(_NAME_BYTES + len(name) for name in key)):
                return
            self._below.setdefault(key[:-1], set()).add(key[-1])
        self.moved[key] = place

    def _taken(self, top: Key) -> dict[Key, Key | None]:
        """What `put` said of names at and below `top`, which it says no longer."""
        found, todo = {}, [top]
        while todo:
            key = todo.pop()
            todo += [(*key, name) for name in self._below.pop(key, ())]
            if key in self.moved:
                found[key] = self.moved.pop(key)
        self._below.get(top[:-1], set()).discard(top[-1])
        return found

    # Names

    def walked(self, base: int, full: Key, count: int, stat: Stat | None) -> None:
        """A walk from the directory full[:base] found `count` names more, the last of which is `stat`."""
        end = base + count
        whole = end == len(full)
        if self.moved:
            places = [self.origin(full[:depth]) for depth in range(base, len(full) + 1)]
        else:
            if whole and stat is not None:
                note = self.notes.get(full)
                if note is not None and note.filetype is stat.filetype:
                    self.waiting = note, stat, full
                    return
            places = [full[:depth] for depth in range(base, len(full) + 1)]
        for place in places[:count]:
            if place is not None:
                self.note(place, _DIRECTORY)
        place = places[count]
        if stat is None or not count:
            if place is not None:
                self.note(place, _DIRECTORY)
        elif place is not None:
            note = self.note(place, stat.filetype)
            if whole:
                self.waiting = note, stat, full
        if not whole and (stat is None or stat.filetype is _DIRECTORY) and places[count + 1] is not None:
            self.note(places[count + 1], None)  # type: ignore[arg-type]

    def settle(self) -> None:
        """What was looked up last was looked at for its attributes, or its size was asked for, or may have been."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            note, seen, _ = waiting
            if isinstance(seen, int):
                note.see_size(seen)
            else:
                note.see(seen)

    def on_the_way(self, place: Key) -> None:
        """There are directories above it."""
        for depth in range(len(place)):
            if place[:depth] not in self.notes:
                self.note(place[:depth], _DIRECTORY)

    def missing(self, key: Key) -> None:
        """The run has put something of its own to `key`, where nothing was."""
        place = self.origin(key)
        if place is not None:
            self.on_the_way(place)
            self.note(place, None).written = True
        self.put(key, None)

    def move(self, old: Key, new: Key) -> None:
        """What was at `old` is at `new`."""
        place, depth = self.origin(old), len(old)
        below = self._taken(old)
        self._taken(new)
        for key, at in below.items():
            self.put(new + key[depth:], at)
        self.put(new, place)
        self.put(old, None)

    # Directories

    def listing(self, key: Key, place: Key, entries: list[DirEntry], shown: bool) -> None:
        """All that is at `key` now was listed; `place`: where the directory was. shown: to the guest, in this order."""
        note = self.note(place, _DIRECTORY)
        changed = [(*key, name) for name in self._below.get(key, ())]
        if changed:
            # What is there now, but for what the run has done, and what is known to have been there before.
            kept = []
            for count, entry in enumerate(entries):
                if count % _AT_ONCE == _AT_ONCE - 1:
                    give_way()
                if self.origin((*key, entry.name)) == (*place, entry.name):
                    kept.append(entry)
            entries = kept
        names = [(entry.name, entry.filetype) for entry in entries]
        for at in changed:
            was = self.notes.get((*place, at[-1]))
            if was is not None and was.filetype is not None and self.moved[at] != (*place, at[-1]):
                names.append((at[-1], was.filetype))
        digest = names_digest(names)
        if note.names is None:
            note.names = digest
        elif note.names != digest:
            note.doubt(CHANGED)
        if shown and note.shown is None:
            note.shown = shown_digest(entries)
            note.but = tuple(sorted(at[-1] for at in changed))
            if not self.charge(sum(_NAME_BYTES + len(name) for name in note.but)):
                note.shown, note.but = "", ()
        elif shown and not changed and not note.but and note.shown not in ("", shown_digest(entries)):
            note.doubt(CHANGED)

    # Contents

    def opened(self, note: Note, stat: Stat, version: str | None) -> None:
        """A file that is there was opened, and is like that. version: as the store tells it."""
        told = (stat.size, stat.mtim_ns, stat.ctim_ns, version)
        if note.told is None:
            note.told = told
            note.version = version if not note.written and self._relies_on(version, stat) else None
            note.hashed = self.digests or note.version is None
        elif note.written or Caps.IMMUTABLE in self.caps:
            pass
        elif note.told != told:
            note.doubt(CHANGED)
        elif version is None and stat.mtim_ns is None:
            note.doubt("it was opened twice, and the store cannot tell whether it was the same both times")

    def _relies_on(self, version: str | None, stat: Stat) -> bool:
        """Whether contents that are not the same would have another version."""
        if version is None or not self.lasting:
            return False
        return not (self.local and _is_racy(stat))

    def got(self, note: Note, offset: int, data: memoryview) -> None:
        """These bytes were read."""
        if note.cut or note.unsure is not None:
            return
        end = offset + len(data)
        read = note.read
        if read is None:
            read = note.read = Ranges()
        parts = [(offset, end)] if note.own is None else note.own.gaps(offset, end)
        for first, last in parts:
            for start, stop in read.add(first, last):
                if note.hashed and not note.lost:
                    self._hash(note, start, data[start - offset : stop - offset])
        if len(read) > _RANGES_MAX and (not note.hashed or note.lost):
            read.widen()

    def _hash(self, note: Note, start: int, data: memoryview) -> None:
        pieces, end = note.pieces, start + len(data)
        if pieces and pieces[-1][1] == start:
            pieces[-1][2].update(data)
            pieces[-1][1] = end
        elif self.charge(_PIECE_BYTES):
            pieces.append([start, end, sha256(data)])
        else:
            note.lost = True
            pieces.clear()


def _is_racy(stat: Stat) -> bool:
    """Whether its times may be the same when it has other contents: it was changed just now, or will be; or they are no
    times of the kernel's, which counts more finely than whole seconds."""
    mtim, ctim = stat.mtim_ns, stat.ctim_ns
    if mtim is None or ctim is None or ctim % _SECOND_NS == 0:
        return True
    return max(mtim, ctim) > time.time_ns() - _RACY_NS
