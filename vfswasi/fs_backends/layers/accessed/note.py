"""What is known of one name that a run asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from hashlib import sha256
from heapq import merge
from typing import Any, Final

from ...base import DirEntry, FileType, Stat
from ...turns import give_way

ENDLESS: Final = 1 << 64
_AT_ONCE: Final = 4096
CHANGED: Final = "it was changed by somebody else while the program ran"
LINKED: Final = "the program changed it, and it had other names, under which that shows too"
_FOUND: Final = {
    FileType.REGULAR_FILE: "file",
    FileType.DIRECTORY: "directory",
    FileType.SYMBOLIC_LINK: "link",
}

# Times of modification and of change, number of links, inode number.
Attributes = tuple[int | None, int | None, int, int | None]


def found_as(filetype: FileType) -> str:
    return _FOUND.get(filetype, "other")


class Ranges:
    """Ranges of bytes, in order and apart."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of it is new."""
        gaps = self.gaps(start, end)
        if gaps:
            starts, ends = self._starts, self._ends
            first, last = bisect_left(ends, start), bisect_right(starts, end)
            if first < last:
                start, end = min(start, starts[first]), max(end, ends[last - 1])
            starts[first:last], ends[first:last] = [start], [end]
        return gaps

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of a range is not in these."""
        starts, ends = self._starts, self._ends
        found = []
        at = bisect_right(ends, start)
        while start < end and at < len(starts) and starts[at] < end:
            if start < starts[at]:
                found.append((start, starts[at]))
            start = ends[at]
            at += 1
        if start < end:
            found.append((start, end))
        return found

    def widen(self) -> None:
        """One range that holds them all."""
        self._starts, self._ends = [self._starts[0]], [self._ends[-1]]

    def all(self) -> list[tuple[int, int]]:
        return list(zip(self._starts, self._ends, strict=True))


class Note:
    """What is known of one name. filetype: None, nothing was there.

    was: what it was like when the run first changed it. sized: its size is an input. size: it. attributes: as they were
    shown, None: they were not; strange: they were others at another time, and not because of the run. target, kind: of
    a link, of a device. names: a digest of what a directory lists, and shown: of that with order and numbers, but for
    names (`but`) that the run had changed by then; "" if nobody can tell. read: ranges that were read; changed: the run
    changed the file itself, not only its name; own: those that
    the run wrote, which are none of its inputs. hashed: pieces, as (start, end, digest) in the order of reading, are of
    all that was read, unless some are lost. told: what the store said of it when it was first opened. written: the run
    changed it. cut: all its contents are the run's. version: of its contents, if that can be relied on. unsure: why
    nobody can say what was there.
    """

    __slots__ = (
        "attributes",
        "but",
        "changed",
        "cut",
        "filetype",
        "hashed",
        "kind",
        "lost",
        "names",
        "own",
        "pieces",
        "read",
        "shown",
        "size",
        "sized",
        "strange",
        "target",
        "told",
        "unsure",
        "version",
        "was",
        "written",
    )

    def __init__(self, filetype: FileType | None) -> None:
        self.filetype = filetype
        self.attributes: Attributes | None = None
        self.but: tuple[str, ...] = ()
        self.changed = self.cut = self.hashed = self.lost = self.sized = self.written = False
        self.kind: str | None = None
        self.names: str | None = None
        self.own: Ranges | None = None
        self.pieces: list[list[Any]] = []
        self.read: Ranges | None = None
        self.shown: str | None = None
        self.size: int | None = None
        self.strange = False  # its attributes were others at another time, and not because of the run
        self.target: str | None = None
        self.told: tuple[int, int | None, int | None, str | None] | None = None
        self.unsure: str | None = None
        self.version: str | None = None
        self.was: Stat | None = None

    def change(self, before: Stat) -> None:
        """The run is about to change it."""
        if not self.written:
            self.written, self.was = True, before

    def see_size(self, size: int) -> None:
        if self.cut:
            return
        if self.was is not None:
            size = self.was.size
        elif self.written:
            return
        if self.sized and size != self.size:
            self.doubt(CHANGED)
        self.sized, self.size = True, size

    def see(self, stat: Stat) -> None:
        """The guest may have been shown these."""
        if self.was is not None:
            stat = self.was
        _, size, _, mtim, ctim, nlink, ident = stat
        self.see_size(size)
        if self.attributes is None:
            self.attributes = (None, None, nlink, ident) if self.cut else (mtim, ctim, nlink, ident)
        elif not self.written and self.attributes != (mtim, ctim, nlink, ident):
            self.strange = True

    def doubt(self, why: str) -> None:
        """Nobody can say what was there."""
        if self.unsure is None:
            self.unsure = why

    def write(self, start: int, end: int) -> None:
        if self.own is None:
            self.own = Ranges()
        if start < end:
            self.own.add(start, end)


def names_digest(names: list[tuple[str, FileType]]) -> str:
    """SHA-256 of the names in a directory and what each of them is, in whatever order."""
    parts = []
    for start in range(0, len(names), _AT_ONCE):
        give_way()
        part = names[start : start + _AT_ONCE]
        parts.append(sorted(f"{name}\0{found_as(kind)}\n".encode() for name, kind in part))
    digest = sha256()
    for count, line in enumerate(parts[0] if len(parts) == 1 else merge(*parts)):
        if count % _AT_ONCE == _AT_ONCE - 1:
            give_way()
        digest.update(line)
    return digest.hexdigest()


def shown_digest(entries: list[DirEntry]) -> str:
    """The same of what a guest sees that is not shielded: the order, and the numbers."""
    digest = sha256()
    for count, (name, kind, ident) in enumerate(entries):
        if count % _AT_ONCE == _AT_ONCE - 1:
            give_way()
        digest.update(f"{name}\0{int(kind)}\0{ident}\n".encode())
    return digest.hexdigest()
