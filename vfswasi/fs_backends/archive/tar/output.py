"""Writes a whole tar archive: members as they stand in another one, and new ones.

A member that is copied keeps every byte of its headers and its data, unless it has another name or time: then the
fields and records that say so are written anew. Names of one file that stand together in the old archive, as hard
links, stay as they are as long as all of them do; else the first that is left gets the contents, and the others are
links to it. New members have the PAX format.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO

from ....errors import Errno, FsError
from ...base import FileType
from ...layers.overlay.entries import Entry
from ...waiting import check_time
from ..plan import Plan, find, pieces
from ..source import ArchiveSource
from ..tree import Directory
from .backend import TarBackend
from .editing import DIRECTORY, HARD_LINK, REGULAR, SYMBOLIC_LINK, Change, edited, made, parts
from .entries import TarEntries
from .header import BLOCK_BYTES
from .members import Members, Place

_COPY_BYTES = 1 << 20
_RECORD_BYTES = 20 * BLOCK_BYTES  # what tar writes at once
_KEPT = (b"V",)  # a volume's label


def write(file: IO[bytes], archive: TarBackend | None, plan: Plan, moved: Callable[[int], None]) -> None:
    """What `plan` makes of an archive, None if there was none: its members in their order, then what is new. `moved` is
    told of bytes that went. Raises OSError, ValueError, FsError."""
    output = _Output(file, moved)
    if archive is not None and archive.members is not None:
        _Old(output, archive.source, archive.members, archive.entries, plan).write()
    for path in plan.needed:
        output.add(path + "/", DIRECTORY, plan.changed.get(path))
    links = [(path, entry) for path, entry in plan.added if entry.link_to is not None]
    for path, entry in plan.added:
        if entry.link_to is None:
            output.add_new(path, entry)
    for path, entry in links:
        output.add(path, HARD_LINK, entry, plan.link_target(entry))
    output.end()


class _Output:
    def __init__(self, file: IO[bytes], moved: Callable[[int], None]) -> None:
        self._file = file
        self.moved = moved
        self._at = 0
        self.explicit = False  # there are headers that hold for all members
        self.dotted = False  # names begin with `./`

    def put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)

    def copy(self, source: ArchiveSource, start: int, end: int) -> None:
        """Blocks of another archive. What fills the last one may be missing there."""
        for at in range(start, min(end, source.size), _COPY_BYTES):
            check_time("copying a member")
            count = min(_COPY_BYTES, end - at, source.size - at)
            self.put(source.read(at, count))
            self.moved(count)
        self.put(bytes(-self._at % BLOCK_BYTES))

    def name(self, path: str) -> str:
        return f"./{path}" if self.dotted else path

    def add(self, path: str, kind: bytes, entry: Entry | None, link: str | None = None, size: int = 0) -> None:
        """The headers of a new member."""
        given = None if entry is None else entry.mtim_ns
        mtime_ns = time.time_ns() if given is None else given
        target = self.name(link) if kind == HARD_LINK and link is not None else link
        self.put(made(kind, Change(self.name(path), target, None, size, mtime_ns), self.explicit))

    def add_new(self, path: str, entry: Entry) -> None:
        if entry.filetype is FileType.DIRECTORY:
            self.add(path + "/", DIRECTORY, entry)
        elif entry.target is not None:
            self.add(path, SYMBOLIC_LINK, entry, entry.target)
        elif entry.content is None:
            raise FsError(Errno.INVAL, f"{path!r} is nothing that an archive could hold")
        else:
            self.add(path, REGULAR, entry, size=entry.size)
            self.add_contents(entry)

    def add_contents(self, entry: Entry) -> None:
        for piece in pieces(entry, self.moved):
            self.put(piece)
        self.put(bytes(-self._at % BLOCK_BYTES))

    def end(self) -> None:
        self.put(bytes(2 * BLOCK_BYTES))
        self.put(bytes(-self._at % _RECORD_BYTES))


class _Old:
    """The members of the archive that there was."""

    def __init__(
        self, output: _Output, source: ArchiveSource, members: Members, entries: TarEntries, plan: Plan
    ) -> None:
        self._output = output
        self._source = source
        self._members = members
        self._entries = entries
        self._plan = plan
        self._groups = members.groups()
        self._intact = {number: self._is_intact(group) for number, group in self._groups.items()}
        self._leaders: dict[int, str] = {}
        self._contents: dict[tuple[int, int], str] = {}  # object, new contents of it -> the path that has them
        self._written: set[str] = set()  # of names of objects that have several

    def write(self) -> None:
        members = self._members
        shown = (members[index] for index in range(len(members)))
        first = next((place for place in shown if place.path is not None), None)
        self._output.dotted = first is not None and self._source.read(first.header, 2) == b"./"
        for index in range(len(members)):
            if not index & 255:
                check_time("writing the archive")
            self._write(members[index])
        self._write_globals(members.tail, members.end)

    def _write(self, place: Place) -> None:
        path = self._path(place)
        if path is None:
            self._write_globals(place.start, place.header)
            if place.path is None and self._source.read(place.header + 156, 1) in _KEPT:
                self._output.copy(self._source, place.header, place.end)
            return
        change = self._plan.changed.get(path)
        group = self._groups.get(place.number)
        if change is not None and change.content is not None:
            self._write_globals(place.start, place.header)
            self._write_modified(place, path, change)
        elif group is not None and not self._intact[place.number]:
            self._write_globals(place.start, place.header)
            self._write_linked(place, path, group)
        elif path == place.path and (change is None or change.mtim_ns is None):
            self._output.explicit = self._output.explicit or self._has_globals(place)
            self._output.copy(self._source, place.start, place.end)
        else:
            self._write_globals(place.start, place.header)
            mtime_ns = None if change is None else change.mtim_ns
            self._write_edited(place, Change(self._new_name(place, path), mtime_ns=mtime_ns))

    def _path(self, place: Place) -> str | None:
        """The path of a member afterwards; None: it is gone, hidden, or another one of the same name counts."""
        if place.path is None:
            return None
        node = find(self._plan.top, place.path)
        number = node.number if isinstance(node, Directory) else node
        if place.path and number != place.number:
            return None
        path = self._plan.after(place.path)
        if path is not None and place.number in self._groups:
            if path in self._written:
                return None
            self._written.add(path)
        return path

    def _is_intact(self, group: list[int]) -> bool:
        """Whether all names of an object stay as they are."""
        paths = set()
        for index in group:
            place = self._members[index]
            if place.path is None or place.path in paths or find(self._plan.top, place.path) != place.number:
                return False
            if self._plan.after(place.path) != place.path or place.path in self._plan.changed:
                return False
            paths.add(place.path)
        return True

    def _new_name(self, place: Place, path: str) -> str | None:
        if path == place.path:
            return None
        directory = isinstance(find(self._plan.top, place.path or ""), Directory)
        return self._output.name(path) + "/" * directory

    def _write_edited(self, place: Place, change: Change, data: bool = True) -> None:
        self._output.put(edited(self._source, place, change, self._output.explicit))
        if data:
            self._output.copy(self._source, place.data, place.end)

    def _write_modified(self, place: Place, path: str, entry: Entry) -> None:
        output, name = self._output, self._output.name(path)
        mtime_ns = time.time_ns() if entry.mtim_ns is None else entry.mtim_ns
        same = self._contents.setdefault((place.number, id(entry.content)), path)
        if same != path:
            self._write_edited(place, Change(name, output.name(same), HARD_LINK, 0, mtime_ns), data=False)
            return
        self._write_edited(place, Change(name, "", REGULAR, entry.size, mtime_ns), data=False)
        output.add_contents(entry)

    def _write_linked(self, place: Place, path: str, group: list[int]) -> None:
        """One name of an object of which others are gone, or have other names."""
        output, leader = self._output, self._leaders.get(place.number)
        if leader is not None:
            self._write_edited(place, Change(output.name(path), output.name(leader), HARD_LINK, 0), data=False)
            return
        self._leaders[place.number] = path
        start, _ = self._entries.place(place.number)
        body = next((found for found in map(self._members.__getitem__, group) if found.data == start), place)
        linked = self._source.read(body.header + 156, 1) == HARD_LINK
        change = Change(
            output.name(path), "" if linked else None, REGULAR if linked else None, None, self._time_of(group)
        )
        self._write_edited(body, change)

    def _time_of(self, group: list[int]) -> int | None:
        """The new time of an object, if one of its names got one."""
        for index in group:
            path = self._members[index].path
            new = None if path is None else self._plan.after(path)
            change = None if new is None else self._plan.changed.get(new)
            if change is not None and change.content is None and change.mtim_ns is not None:
                return change.mtim_ns
        return None

    def _has_globals(self, place: Place) -> bool:
        return place.start < place.header and any(
            part.kind == b"g" for part in parts(self._source, place.start, place.header)
        )

    def _write_globals(self, start: int, end: int) -> None:
        """Headers that hold for all that follows stay where they are, also if what follows is gone."""
        for part in parts(self._source, start, end):
            if part.kind == b"g":
                self._output.explicit = True
                self._output.copy(self._source, part.start, part.end)
