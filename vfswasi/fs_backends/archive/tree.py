"""The names of an archive as a tree of nodes: which entries are visible, and where they stand.

The rules are those of the table in `zip`; every archive format shares them.
"""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from ..base import DirEntry, FileType, Stat

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
_NO_NAMES = frozenset({"", ".", ".."})


class TooManyEntries(Exception):
    """The tree would have more nodes than allowed."""


class TreeNode:
    """One object of the tree. `children` is None except for directories."""

    __slots__ = ("children", "entries", "stat")

    children: dict[str, Self] | None

    def __init__(self, status: Stat) -> None:
        self.stat = status
        self.children = None
        self.entries: tuple[DirEntry, ...] | None = None

    def list(self) -> tuple[DirEntry, ...]:
        """The entries of a directory, made at the first call."""
        if self.entries is None:
            assert self.children is not None
            self.entries = tuple(
                DirEntry(name, child.stat.filetype, child.stat.ident) for name, child in self.children.items()
            )
        return self.entries


N = TypeVar("N", bound=TreeNode)


class TreeBuilder(Generic[N]):
    """Puts entries in their places, in the archive's order.

    kind: the class of the nodes. first_ident: of the directories that have no entry of their own; entries have
    smaller ones. max_nodes: beyond it TooManyEntries.
    """

    def __init__(self, kind: type[N], first_ident: int, max_nodes: int) -> None:
        self._kind = kind
        self._next_ident = first_ident
        self._nodes_left = max_nodes
        self.root = self._implied_directory()
        self._directories = {"": self.root}

    def _implied_directory(self) -> N:
        node = self._kind(Stat(FileType.DIRECTORY, 0, ident=self._next_ident))
        node.children = {}
        self._next_ident += 1
        return node

    def add(self, name: str, status: Stat) -> N | None:
        """Make an entry's node. None: it is invisible."""
        place = self._place(name)
        if place is None:
            return None
        parent, path, leaf = place
        if status[0] is FileType.DIRECTORY:
            node = self._make_directory(parent, path, leaf)
            node.stat = status
            return node
        return self._put(parent, leaf, self._kind(status))

    def link(self, name: str, node: N) -> N | None:
        """Give `node`, which is no directory, one more name. None: the name is invisible."""
        place = self._place(name)
        return None if place is None else self._put(place[0], place[2], node)

    def find(self, name: str) -> N | None:
        """What stands under a name up to now."""
        node: N = self.root
        for part in name.split("/"):
            if node.children is None or part not in node.children:
                return None
            node = node.children[part]
        return node

    def _place(self, name: str) -> tuple[N, str, str] | None:
        """(directory, path, last name) of an entry; None if it is invisible."""
        path = name[:-1] if name[-1:] == "/" else name
        head, slash, leaf = path.rpartition("/")
        if leaf in _NO_NAMES or (slash and not head):
            return None
        # Most names are too short to need more than one look.
        if (len(name) > MAX_NAME_BYTES // 4 or "\0" in name) and not is_path(path):
            return None
        parent = self._directories.get(head) or self._make_directories(head)
        return None if parent is None else (parent, path, leaf)

    def _put(self, parent: N, leaf: str, node: N) -> N | None:
        assert parent.children is not None
        old = parent.children.get(leaf)
        if old is None:
            self._count()
        elif old.children is not None:
            return None
        parent.children[leaf] = node
        return node

    def _make_directories(self, path: str) -> N | None:
        names = path.split("/")
        if not all(map(is_name, names)):
            return None
        node = self.root
        for index, name in enumerate(names, 1):
            node = self._make_directory(node, "/".join(names[:index]), name)
        return node

    def _make_directory(self, parent: N, path: str, name: str) -> N:
        assert parent.children is not None
        node = parent.children.get(name)
        if node is None or node.children is None:
            if node is None:
                self._count()
            node = parent.children[name] = self._implied_directory()
            self._directories[path] = node
        return node

    def _count(self) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise TooManyEntries


def is_name(name: str) -> bool:
    """Whether a key can hold this component."""
    if name in _NO_NAMES or "\0" in name:
        return False
    return len(name) <= MAX_NAME_BYTES // 4 or len(name.encode()) <= MAX_NAME_BYTES


def is_path(path: str) -> bool:
    """Whether a key can hold all components, and a program can spell the path."""
    return len(path.encode()) <= MAX_PATH_BYTES and all(map(is_name, path.split("/")))
