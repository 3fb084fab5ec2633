"""What differs between an overlay and its base, read off its tree; the base is asked for targets of links alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Protocol

from ....errors import Errno, FsError
from ...base import Backend, Buffer, FileType, Handle, Key, Stat
from ...staging.space import Staged
from .entries import Content, Entry, Kind, Was
from .nodes import DirectoryNode, FileNode, LinkNode, Lower, Node, now_at
from .tree import Tree, was

_ORDER = {"removed": 0, "renamed": 1, "added": 2, "modified": 3, "attributes": 4}


class Again(Protocol):
    """How to come to the base once more when the overlay is closed."""

    def open(self) -> AbstractContextManager[Backend]: ...


def difference(tree: Tree, again: Again | None = None) -> list[Entry]:
    """In the order of the paths; of one path in the order in which they happen. `again`: for contents of which a part
    was written."""
    found = list(_Difference(tree, again).entries())
    return sorted(found, key=lambda entry: (entry.path.split("/"), _ORDER[entry.kind]))


class _Difference:
    def __init__(self, tree: Tree, again: Again | None) -> None:
        self._tree = tree
        self._again = again
        # Directories by the place of the base that they show, with where they are now.
        self._shown: dict[Key, tuple[Key, DirectoryNode]] = {}
        # Everything that stands in a directory of ours: (where, node).
        self._placed: list[tuple[Key, DirectoryNode, Node]] = []
        self._names: dict[int, list[Key]] = {}  # of files in directories of ours, by number
        self._in_place: dict[int, list[tuple[Key, Key]]] = {}
        self._files: dict[int, FileNode] = {}
        self._gone: dict[Key, Was] = {}
        self._look()
        removed = (each for below in self._tree.removed.values() for each in below.values())
        # How many names were taken from each object of the base, by number.
        self._hidden_names = Counter(each.ident for each in chain(self._gone.values(), removed))
        self._moved = {
            node.base
            for where, directory, node in self._placed
            if node.base is not None and not isinstance(node, FileNode) and directory.place_of(where[-1]) != node.base
        }
        self._links: dict[int, Key] = {}  # where those that have more than one name were met first
        self._links_in_place = {
            id(node)
            for where, directory, node in self._placed
            if isinstance(node, LinkNode) and node.base is not None and directory.place_of(where[-1]) == node.base
        }
        self._places_of_moved = {place for ident in self._names for place in self._files[ident].places}
        self._consumed: set[Key] = set()  # what was removed only to make room for a new version of it

    def _look(self) -> None:
        todo: list[tuple[Key, DirectoryNode]] = [((), self._tree.root)]
        while todo:
            where, directory = todo.pop()
            if directory.base is not None:
                self._shown[directory.base] = where, directory
                for name, hidden in directory.gone.items():
                    self._gone[(*directory.base, name)] = hidden
            for name, node in directory.children.items():
                path = (*where, name)
                self._placed.append((path, directory, node))
                if isinstance(node, DirectoryNode):
                    todo.append((path, node))
                elif isinstance(node, FileNode):
                    self._files[node.ident] = node
                    place = directory.place_of(name)
                    if place is not None and place in node.places:
                        self._in_place.setdefault(node.ident, []).append((place, path))
                    else:
                        self._names.setdefault(node.ident, []).append(path)
        for ident, file in self._tree.files.items():
            if file.touched and file.nlink > 0:
                self._files.setdefault(ident, file)

    def entries(self) -> Iterator[Entry]:
        for where, directory, node in self._placed:
            if not isinstance(node, FileNode):
                yield from self._object(where, directory, node)
        covers = {where: directory for where, directory, node in self._placed if isinstance(node, FileNode)}
        for file in self._files.values():
            yield from self._file(file, covers)
        for place, hidden in self._gone.items():
            if place not in self._moved and place not in self._consumed:
                yield Entry("removed", "/".join(place), hidden.filetype, was=self._with_below(place, hidden))

    def _with_below(self, place: Key, hidden: Was) -> Was:
        below: dict[str, Was] = {}
        todo = [(place, "")]
        while todo:
            at, prefix = todo.pop()
            for name, each in self._tree.removed.get(at, {}).items():
                inner = (*at, name)
                if inner not in self._moved:
                    below[prefix + name] = each
                    todo.append((inner, f"{prefix}{name}/"))
        return Was(hidden.filetype, hidden.size, hidden.mtim_ns, hidden.ident, hidden.digest, below, hidden.version)

    def _object(self, where: Key, directory: DirectoryNode, node: Node) -> Iterator[Entry]:
        path = "/".join(where)
        if node.base is None or (isinstance(node, LinkNode) and self._stays(node, where, directory)):
            target = self._target(node) if isinstance(node, LinkNode) else None
            yield _entry("added", path, node, target=target)
            return
        before = None if node.origin is None else was(node.origin)
        old_path = None
        if directory.place_of(where[-1]) != node.base:
            old_path = "/".join(node.base)
            yield _entry("renamed", path, node, old_path=old_path, was=before)
        elif path != "/".join(node.base):
            old_path = "/".join(node.base)
        if node.dated:
            yield _entry("attributes", path, node, old_path=old_path, was=before)

    def _stays(self, node: LinkNode, where: Key, directory: DirectoryNode) -> bool:
        """Whether it is one more name of a link that has its own in the base still, or another one that came first."""
        if directory.place_of(where[-1]) == node.base:
            return False
        first = self._links.setdefault(id(node), where)
        return first != where or id(node) in self._links_in_place

    def _target(self, node: LinkNode) -> str:
        if node.target is not None:
            return node.target
        assert node.base is not None
        return self._tree.base.readlink(node.base)

    def _file(self, file: FileNode, covers: dict[Key, DirectoryNode]) -> Iterator[Entry]:
        stat = self._tree.stat_of(file) if not file.written else file.stat()
        content = _content(file, self._tree, self._again) if file.written else None
        names = self._names.get(file.ident, [])
        before = file.before or (None if file.origin is None else was(file.origin))
        shown = [(place, now) for place in file.places if (now := now_at(self._shown, place)) is not None]
        shown += self._in_place.get(file.ident, [])
        kind: Kind = "modified" if file.written else "attributes"
        for place, now in shown:
            if file.written or file.dated:
                old = "/".join(place) if place != now else None
                yield Entry(kind, "/".join(now), file.filetype, old, before, *_times(stat), content)
        first = shown[0][1] if shown else None
        if first is None and names:
            first, names = names[0], names[1:]
            path = "/".join(first)
            if file.base is not None:
                place = next((place for place in file.places if place in self._gone), file.base)
                self._moved.add(place)
                before = file.before or self._gone.get(place, before)
                old = "/".join(place)
                yield Entry("renamed", path, file.filetype, old, before, *_times(stat))
                if file.written or file.dated:
                    yield Entry(kind, path, file.filetype, old, before, *_times(stat), content)
            else:
                yield self._new_file(first, covers[first], stat, content)
        for name in names:
            assert first is not None
            yield Entry("added", "/".join(name), file.filetype, None, None, *_times(stat), link_to="/".join(first))

    def _new_file(self, where: Key, directory: DirectoryNode, stat: Stat, content: Content | None) -> Entry:
        place = directory.place_of(where[-1])
        hidden = None if place is None else directory.gone.get(where[-1])
        one = hidden is not None and hidden.filetype is FileType.REGULAR_FILE and not self._has_other_names(hidden)
        if place is None or hidden is None or not one or self._is_moved(place):
            return Entry("added", "/".join(where), stat.filetype, None, None, *_times(stat), content)
        self._consumed.add(place)
        old = "/".join(place) if place != where else None
        return Entry("modified", "/".join(where), stat.filetype, old, hidden, *_times(stat), content)

    def _has_other_names(self, hidden: Was) -> bool:
        """Whether a file that lost a name of the base has another one, or lost that too: what is new at one of them is
        not at the others."""
        if hidden.ident is None:
            return False
        file = self._tree.files.get(hidden.ident)
        return (file is not None and file.nlink > 0) or self._hidden_names[hidden.ident] > 1

    def _is_moved(self, place: Key) -> bool:
        return place in self._moved or place in self._places_of_moved


def _entry(
    kind: Kind, path: str, node: Node, old_path: str | None = None, was: Was | None = None, target: str | None = None
) -> Entry:
    size = 0 if node.filetype is FileType.DIRECTORY else node.size
    return Entry(kind, path, node.filetype, old_path, was, size, node.atim, node.mtim, target=target)


def _times(stat: Stat) -> tuple[int, int | None, int | None]:
    return stat.size, stat.atim_ns, stat.mtim_ns


class _Contents:
    """What a file of an overlay had in the end. It keeps what was staged, and nothing of the base open."""

    def __init__(self, staged: Staged, tree: Tree, file: FileNode, again: Again | None) -> None:
        self.size = staged.size
        self._staged = staged
        self._again = again
        self._whole = staged.whole
        self._base, self._origin = file.base, file.origin
        self._begun = None if file.lower is None or file.lower.of_base else file.lower
        self._tree = tree

    def keep_whole(self) -> None:
        """Take what shows of the base, which is about to be changed. Raises NOSPC, IO, STALE."""
        if self._whole:
            return
        reader = self.open()
        try:
            assert isinstance(reader, _StagedReader)
            reader.keep_whole()
            self._whole = True
        finally:
            reader.close()

    def open(self) -> Handle:
        if self._begun is not None and not self._whole:  # with contents of other changes
            return _StagedReader(self._staged, self.size, self._begun.copy(None))
        place = self._base
        if self._whole or place is None:
            return _StagedReader(self._staged, self.size)
        if self._again is None:
            lower = Lower(lambda: self._tree.base.open(place, False), self._origin)
            return _StagedReader(self._staged, self.size, lower)
        context = self._again.open()
        base = context.__enter__()
        try:
            lower = Lower(lambda: base.open(place, False), self._origin)
            lower.handle()
        except BaseException:
            context.__exit__(None, None, None)
            raise
        return _StagedReader(self._staged, self.size, lower, context)


class _StagedReader(Handle):
    def __init__(
        self,
        staged: Staged,
        size: int,
        lower: Lower | None = None,
        context: AbstractContextManager[Backend] | None = None,
    ) -> None:
        self._staged = staged
        self._size = size
        self._lower = lower
        self._context = context

    def read_into(self, offset: int, buf: Buffer) -> int:
        if self._staged.size != self._size:
            raise FsError(Errno.STALE, "the file was changed in the overlay after its changes were looked at")
        return self._staged.read_into(offset, buf, None if self._lower is None else self._lower.fill)

    def keep_whole(self) -> None:
        if self._lower is not None:
            self._staged.cover(self._lower.fill)

    def size(self) -> int:
        return self._size

    def stat(self) -> Stat:
        return Stat(FileType.REGULAR_FILE, self._size)

    def close(self) -> None:
        try:
            if self._lower is not None:
                self._lower.close()
        finally:
            if self._context is not None:
                self._context.__exit__(None, None, None)


def _content(file: FileNode, tree: Tree, again: Again | None) -> Content | None:
    if file.staged is None:
        return file.content
    return _Contents(file.staged, tree, file, again)
