"""What an overlay answers when it is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ....errors import Errno, FsError
from ...base import Backend, Device, DirEntry, Key, Stat
from ...waiting import check_time
from .nodes import DirectoryNode, FileNode, LinkNode, Node
from .numbers import ident_of
from .tree import Tree

_VERSION_BITS: Final = 64


class Looking(Backend):
    """The tree of nodes, and the base below it, as one."""

    now_ns: Callable[[], int]
    _lock: threading.RLock
    _tree: Tree

    def stat(self, key: Key) -> Stat:
        with self._lock:
            return self._tree.stat(key)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        with self._lock:
            tree = self._tree
            node: Node | None = tree.root
            place: Key | None = None  # what is looked up in the base from there on
            number = 0
            if key:
                try:
                    node, place = tree.locate(key)
                except FsError as error:
                    if error.errno is Errno.NOENT:
                        return 0, None
                    raise
            if node is not None:
                children = node.children
                if children is None:
                    raise FsError(Errno.NOTDIR)
                place = None
                for name in names:
                    below = children.get(name)
                    if below is None:
                        if node.base is not None and name not in node.gone:  # type: ignore[attr-defined]
                            place = node.base
                        break
                    node = below
                    number += 1
                    children = node.children
                    if children is None:
                        break
            if place is not None:
                told = tree.base.walk(place, names[number:] if number else names)
                found = told[1]
                if found is not None:
                    # Where others change the base, another object may have the number of an open one that has gone.
                    ident = found.ident
                    doubtful = ident is None or ident in tree.files or tree.link_counts
                    if doubtful or (tree.readers and not tree.fixed):
                        count = told[0]
                        return number + count, tree.shown(found, place + names[number : number + count])
                    return (number + told[0], found) if number else told
            return number, tree.stat_of_node(node) if number and node is not None else None

    def stat_of(self, file: FileNode) -> Stat:
        return self._tree.stat_of(file)

    def list(self, key: Key) -> Iterable[DirEntry]:
        with self._lock:
            node, place = self._tree.locate(key)
            if node is None:
                return self._named(self._tree.base.list(place), place)
            if not isinstance(node, DirectoryNode):
                raise FsError(Errno.NOTDIR)
            ours = dict(node.children)
            hidden = ours.keys() | node.gone.keys()
            below: Iterable[DirEntry] = ()
            if node.base is not None:
                below = self._named(self._tree.base.list(node.base), node.base)
        return self._merged(below, hidden, ours)

    @staticmethod
    def _named(entries: Iterable[DirEntry], place: Key) -> Iterator[DirEntry]:
        for entry in entries:
            yield entry if entry.ident is not None else entry._replace(ident=ident_of((*place, entry.name)))

    @staticmethod
    def _merged(below: Iterable[DirEntry], hidden: set[str], ours: dict[str, Node]) -> Iterator[DirEntry]:
        for number, entry in enumerate(below):
            if not number & 1023:
                check_time("listing")
            if entry.name not in hidden:
                yield entry
        for name, node in ours.items():
            yield DirEntry(name, node.filetype, node.ident)

    def listing_version(self, key: Key) -> int | None:
        with self._lock:
            node: Node = self._tree.root
            for depth, name in enumerate(key):
                below = None if node.children is None else node.children.get(name)
                if below is None:
                    assert isinstance(node, DirectoryNode)
                    if node.base is None or name in node.gone:
                        raise FsError(Errno.NOENT)
                    place: Key | None = node.base + key[depth:]
                    break
                node = below
            else:
                place = node.base
            if not isinstance(node, DirectoryNode):
                raise FsError(Errno.NOTDIR)
            # What is not ours has the number of the directory of ours above it: that may have come from elsewhere.
            version = None if place is None else self._tree.base.listing_version(place)
            if place is not None and version is None:
                return None
            return (version or 0) << _VERSION_BITS | node.version

    def readlink(self, key: Key) -> str:
        with self._lock:
            node, place = self._tree.locate(key)
            if node is not None and not isinstance(node, LinkNode):
                raise FsError(Errno.INVAL)
            if isinstance(node, LinkNode):
                if node.target is not None:
                    return node.target
                assert node.base is not None
                place = node.base
            return self._tree.base.readlink(place)

    def device(self, key: Key) -> Device | None:
        with self._lock:
            node, place = self._tree.locate(key)
            return self._tree.base.device(place) if node is None else node.device(self._tree.base)
