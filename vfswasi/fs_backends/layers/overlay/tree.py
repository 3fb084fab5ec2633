"""The tree of an overlay: where names lead, and nodes for what becomes ours.

Everything here happens under the lock of the overlay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from ....errors import Errno, FsError
from ...base import Backend, FileType, Handle, Key, Stat, version_of
from ...waiting import check_time
from .entries import Was
from .handle import Reader
from .nodes import (
    DirectoryNode,
    FileNode,
    LinkNode,
    Lower,
    Node,
    ObjectNode,
    now_at,
)
from .numbers import depth_over, first_of, ident_of, is_made_of_name

# Members of an enumeration take as long to look up as a call (0.14 us, Python 3.11).
_DIRECTORY: Final = FileType.DIRECTORY
_REGULAR_FILE: Final = FileType.REGULAR_FILE
_SYMBOLIC_LINK: Final = FileType.SYMBOLIC_LINK


class Tree:
    """Over `base`, which is never changed. fixed: nor does anybody else change it. made_anew: it was made for this
    overlay, so that its times say nothing. now_ns: the time for what is new."""

    def __init__(
        self, base: Backend, fixed: bool, made_anew: bool = False, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.now_ns = now_ns
        self.base = base
        self.fixed = fixed
        self.made_anew = made_anew
        self.versions = count(1)
        self.depth = depth_over(base)
        self._idents = count(first_of(self.depth))
        # Files of the base that are open, or of which something is ours, by number.
        self.files: dict[int, FileNode] = {}
        # Files of the base that are open for reading once, and have no node, by number.
        self.readers: dict[int, Reader] = {}
        # Directories of ours by what they show of the base.
        self.shows: dict[Key, DirectoryNode] = {}
        # Of links and objects of the base that got or lost a name, how many they have now, by number.
        self.link_counts: dict[int, int] = {}
        # What was hidden in directories of the base when they were removed, by their places.
        self.removed: dict[Key, dict[str, Was]] = {}
        self.root = self._directory_node((), self.base.stat(()))

    def over(self, base: Backend) -> Tree:
        """A tree over what has all that differs here: only what is open is remembered, each file at its name now."""
        made = Tree(base, self.fixed, self.made_anew, self.now_ns)
        made.versions, made._idents = self.versions, self._idents
        made.root.version = next(made.versions)
        for key, file in self.open_files():
            directory = made.directory(key[:-1])
            found = base.stat(key)
            file.become(key, found)
            file.lower = made.lower_of(file)
            file.in_tree = 1
            directory.children[key[-1]] = file  # or it would have the number that the new base gives
            for handle in file.handles:
                handle.moved()
            made.files[file.ident] = file
        return made

    def open_files(self) -> list[tuple[Key, FileNode]]:
        """Files with handles, each with one of its names now."""
        self.adopt_all()
        found: dict[int, tuple[Key, FileNode]] = {}
        todo: list[tuple[Key, DirectoryNode]] = [((), self.root)]
        shown: dict[Key, tuple[Key, DirectoryNode]] = {}
        while todo:
            where, directory = todo.pop()
            if directory.base is not None:
                shown[directory.base] = where, directory
            for name, node in directory.children.items():
                if isinstance(node, DirectoryNode):
                    todo.append(((*where, name), node))
                elif isinstance(node, FileNode) and node.handles:
                    found[node.ident] = (*where, name), node
        for ident, file in self.files.items():
            for place in file.places if file.handles and file.nlink > 0 and ident not in found else ():
                now = now_at(shown, place)
                if now is not None:
                    found[ident] = now, file
        return list(found.values())

    def continues(self, other: Tree) -> None:
        """Give what is new the numbers that `other` would."""
        self._idents = count(next(other._idents))
        self.versions = count(next(other.versions))

    def new_ident(self) -> int:
        return next(self._idents)

    # Looking up.

    def locate(self, key: Key) -> tuple[Node | None, Key]:
        """(node, ()), or (None, the place in the base) of what no node in a directory speaks of, if it is there.
        Raises NOENT, NOTDIR."""
        node: Node = self.root
        for depth, name in enumerate(key):
            children = node.children
            if children is None:
                raise FsError(Errno.NOTDIR)
            below = children.get(name)
            if below is None:
                base = node.base
                if base is None or name in node.gone:  # type: ignore[attr-defined]  # it has children
                    raise FsError(Errno.NOENT)
                return None, base + key[depth:] if base or depth else key
            node = below
        return node, ()

    def shown(self, found: Stat, place: Key) -> Stat:
        """What the base says, with what is ours of it."""
        ident = found.ident
        if ident is None:
            ident = ident_of(place)
            found = found._replace(ident=ident)
        if self.files or self.readers:
            file = self.files.get(ident) or self.file_of(ident)
            if file is not None and found.filetype is _REGULAR_FILE:
                if place not in file.places and not self._is_it(file, place, found):
                    return found._replace(ident=ident_of(place))
                if file.touched:
                    return self.stat_of(file, found)
        return self._counted(found) if self.link_counts else found

    def _is_it(self, file: FileNode, place: Key, found: Stat) -> bool:
        """Whether `file` has a name at `place`, where the base has something of the same number: when a file has gone
        there, another one may get its number."""
        if place not in file.places:
            if not self.fixed and file.base is not None:
                if found.nlink < 2:
                    return False
                count, first = self.base.walk((), file.base)
                if first is None or count < len(file.base) or first.ident != found.ident:
                    return False
            file.places[place] = None
        return True

    def touch(self, file: FileNode) -> None:
        """Something of a file of the base is ours from now on. Where others may change that, its names are kept: they
        would lead to whatever is put there."""
        self.files[file.ident] = file
        for place in () if self.fixed else tuple(file.places):
            self._pin(place, file)

    def _pin(self, place: Key, file: FileNode) -> None:
        depth = next(depth for depth in range(len(place) - 1, -1, -1) if place[:depth] in self.shows)
        directory = self.shows[place[:depth]]
        for name in place[depth:-1]:
            below = directory.place_of(name)
            if below is None or name in directory.children or name in directory.gone:
                return  # it is not shown there
            count, found = self.base.walk((), below)
            if found is None or count < len(below) or found.filetype is not _DIRECTORY:
                return
            made = self._directory_node(below, found)
            directory.children[name] = made
            directory = made
        name = place[-1]
        if name not in directory.children and name not in directory.gone:
            directory.children[name] = file
            file.in_tree += 1

    def _counted(self, found: Stat) -> Stat:
        assert found.ident is not None
        if found.filetype is _REGULAR_FILE:
            return found
        count = self.link_counts.get(found.ident)
        return found if count is None else found._replace(nlink=count)

    def relink(self, ident: int, before: int, count: int) -> None:
        """A link or object of the base, which has `before` names there, got so many names more."""
        if before > 1 or count > 0 or ident in self.link_counts:
            self.link_counts[ident] = self.link_counts.get(ident, before) + count

    def stat_of_node(self, node: Node) -> Stat:
        if type(node) is FileNode:
            if node.base is None:
                return node.stat()
            return self.stat_of(node)
        return self._counted(node.stat()) if self.link_counts else node.stat()

    def stat_of(self, file: FileNode, found: Stat | None = None) -> Stat:
        """`found`: what the base says, where that is known."""
        if file.base is None or file.staged is not None or file.content is not None:
            return file.stat()
        if found is None:
            handle = file.lower.opened if file.lower is not None else None
            found = self._still_there(file.base) if handle is None else handle.stat()
        if file.dated:
            found = found._replace(atim_ns=file.atim, mtim_ns=file.mtim, ctim_ns=file.ctim)
        elif file.relinked or file.in_tree:
            found = found._replace(ctim_ns=file.ctim)
        elif found.ident == file.ident:
            return found
        return found._replace(nlink=file.nlink if file.relinked else found.nlink, ident=file.ident)

    def _still_there(self, place: Key) -> Stat:
        count, found = self.base.walk((), place)
        if found is None or count < len(place) or found.filetype is not _REGULAR_FILE:
            raise FsError(Errno.STALE, f"{'/'.join(place)} is no file in the base any more")
        return found

    def stat(self, key: Key) -> Stat:
        node, place = self.locate(key)
        if node is None:
            return self.shown(self.base.stat(place), place)
        return self.stat_of_node(node)

    # What becomes ours.

    def _directory_node(self, place: Key | None, found: Stat | None) -> DirectoryNode:
        if found is None or place is None:
            return DirectoryNode(self.new_ident(), None, None, next(self.versions), self.now_ns())
        ident = ident_of(place) if found.ident is None else found.ident
        made = self.shows[place] = DirectoryNode(ident, place, found, next(self.versions))
        return made

    def new_directory(self) -> DirectoryNode:
        return self._directory_node(None, None)

    def directory(self, key: Key) -> DirectoryNode:
        """The node of the directory at `key`, made if there is none. Raises NOENT, NOTDIR."""
        node: Node = self.root
        for name in key:
            below = None if node.children is None else node.children.get(name)
            if below is None:
                if not isinstance(node, DirectoryNode):
                    raise FsError(Errno.NOTDIR)
                place = node.place_of(name)
                if place is None or name in node.gone:
                    raise FsError(Errno.NOENT)
                found = self.base.stat(place)
                if found.filetype is not _DIRECTORY:
                    raise FsError(Errno.NOTDIR)
                below = node.children[name] = self._directory_node(place, found)
            node = below
        if not isinstance(node, DirectoryNode):
            raise FsError(Errno.NOTDIR)
        return node

    def file_at(self, place: Key, found: Stat) -> FileNode:
        """The node of a regular file of the base."""
        ident = ident_of(place) if found.ident is None else found.ident
        file = self.file_of(ident)
        if file is not None and not self._is_it(file, place, found):
            ident = ident_of(place)
            file = self.files.get(ident)
        if file is None:
            origin = found if found.ident == ident else found._replace(ident=ident)
            file = self.files[ident] = FileNode(ident, place, origin)
            file.lower = Lower(partial(self.base.open, place, False), None, True)
        else:
            file.places[place] = None
        return file

    def file_of(self, ident: int) -> FileNode | None:
        """The node of a file that is open, or of which something is ours."""
        file = self.files.get(ident)
        if file is None and self.readers:
            reader = self.readers.pop(ident, None)
            if reader is not None:
                file = self.files[ident] = FileNode(ident, reader.place, reader.found)
                file.lower = self.lower_of(file)
                file.lower.opened = reader.below
                file.handles.append(reader)
                reader.adopted(file)
        return file

    def adopt_all(self) -> None:
        """Give all open files nodes."""
        for ident in tuple(self.readers):
            self.file_of(ident)

    def was_at(self, place: Key, found: Stat) -> Was:
        """What the base says of the object at `place`, with what tells other contents from these."""
        if found.filetype is not _REGULAR_FILE:
            return was(found)
        base = self.base
        if type(base).version is Backend.version:
            return was(found, version_of(found))
        try:
            return was(found, base.version(place))
        except FsError:  # it has just gone, or cannot be asked
            return was(found)

    def note(self, file: FileNode) -> None:
        """Something of it becomes ours: what the base has there now is what the change is made on."""
        if file.before is None and file.base is not None and file.origin is not None:
            file.before = self.was_at(file.base, file.origin)

    def lower_of(self, file: FileNode) -> Lower:
        """Its bytes in the base."""
        return Lower(self.opener(file), None, True)

    def opener(self, file: FileNode) -> Callable[[], Handle]:
        """What opens its bytes in the base."""
        base, place = self.base, file.base  # and not what refers to the file: it goes without the garbage collector
        assert place is not None
        return partial(base.open, place, False)

    def node_at(self, place: Key, found: Stat) -> Node:
        """A node for an object of the base, which is to be put into a directory. Its links' targets stay there."""
        if found.filetype is _REGULAR_FILE:
            return self.file_at(place, found)
        if found.filetype is _DIRECTORY:
            return self._directory_node(place, found)
        ident = ident_of(place) if found.ident is None else found.ident
        if found.filetype is _SYMBOLIC_LINK:
            return LinkNode(ident, place, found)
        return ObjectNode(ident, place, found)

    def is_taken(self, directory: DirectoryNode, name: str) -> bool:
        """Whether there is such a name."""
        if name in directory.children:
            return True
        base = directory.base
        return base is not None and name not in directory.gone and self.base.walk(base, (name,))[0] > 0

    def existing(self, directory: DirectoryNode, name: str) -> tuple[Node | None, Stat | None]:
        """(node, None), (None, what the base says), or (None, None): there is no such name."""
        node = directory.children.get(name)
        if node is not None:
            return node, None
        if directory.base is None or name in directory.gone:
            return None, None
        found = self.base.walk(directory.base, (name,))[1]
        return None, found

    def take_out(self, directory: DirectoryNode, name: str, node: Node) -> None:
        """A node of ours leaves a directory."""
        del directory.children[name]
        if isinstance(node, FileNode):
            node.in_tree -= 1
        if node.base is None:
            return
        place = directory.place_of(name)
        own = place in node.places if isinstance(node, FileNode) else node.base == place
        if place is not None and own:
            # It stood in its own place, where the base would show through.
            assert node.origin is not None
            directory.gone[name] = was(node.origin)

    def put_in(self, directory: DirectoryNode, name: str, node: Node) -> None:
        """Under a name that is free, or whose object was hidden or taken out."""
        place = None if node.base is None else directory.place_of(name)
        if isinstance(node, FileNode):
            if place is not None and place in node.places:
                directory.gone.pop(name, None)  # back to where it came from: the base shows it
                if self.fixed:
                    return
            node.in_tree += 1
        elif place is not None and node.base == place:
            directory.gone.pop(name, None)
        directory.children[name] = node

    def is_empty(self, directory: DirectoryNode) -> bool:
        if directory.children:
            return False
        if directory.base is None:
            return True
        for number, entry in enumerate(self.base.list(directory.base)):
            if entry.name not in directory.gone:
                return False
            if not number & 255:
                check_time("looking whether a directory is empty")
        return True


def was(found: Stat, version: str | None = None) -> Was:
    """What the base said of an object, as the entries of changes keep it."""
    size = 0 if found.filetype is _DIRECTORY else found.size
    ident = None if found.ident is None or is_made_of_name(found.ident) else found.ident
    return Was(found.filetype, size, found.mtim_ns, ident, version=version)
