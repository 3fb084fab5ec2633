"""The names of an archive as a tree: which entries are visible, and where they stand.

The rules are those of the table in `zip`; every archive format shares them.

What makes this large is the number of entries, so only directories are objects. Anything else is its entry's number,
counted from 1, and what the entry says is looked up by it (`Entries`). All of it is charged before it is taken.
"""

from __future__ import annotations

import logging
from sys import getsizeof
from typing import Final, Protocol, TypeAlias

from ...errors import Errno, FsError
from ..base import DirEntry, FileType, Stat
from ..charge import Charge

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
_NO_NAMES = frozenset({"", ".", ".."})

# Measured with CPython 3.11 (tracemalloc) on trees of 1,000 to 1,000,000 entries, rounded up.
ENTRY_COST_BYTES: Final = 104  # a number, its place in a dict that has just grown
DIRECTORY_COST_BYTES: Final = 448  # the object, its attributes, a dict of a few names
LISTED_COST_BYTES: Final = 96  # one `DirEntry` of a listing that is kept

# Directories that names were lately put into are found by their path at once.
_HEADS_MAX = 1024
_HEAD_MAX_BYTES = 512
# All other names are walked from the root, and so many steps are enough for any archive that somebody made for use.
_STEPS = 4 << 20
_STEPS_OF_ENTRY = 32

_log = logging.getLogger("vfswasi")


class TooManyEntries(Exception):
    """The tree would have more nodes than allowed."""


class Directory:
    """A directory: its names, each with a directory or the number of an entry. `number`: of its own entry, 0 if it has
    none."""

    __slots__ = ("children", "entries", "number", "stat")

    def __init__(self, status: Stat, number: int = 0) -> None:
        self.stat = status
        self.number = number
        self.children: dict[str, Node] = {}
        self.entries: tuple[DirEntry, ...] | None = None


Node: TypeAlias = "Directory | int"


class Entries(Protocol):
    """What the entries of an archive say, by their numbers; of those that are no directories."""

    def stat(self, number: int) -> Stat: ...

    def kind(self, number: int) -> FileType: ...


class TreeBuilder:
    """Puts entries in their places, in the archive's order.

    first_ident: of the directories that have no entry of their own; entries have smaller ones. max_nodes: beyond it
    TooManyEntries. charge: what all of it is taken from; its NOMEM goes through, and NAMETOOLONG is raised where names
    are deep and many.
    """

    def __init__(self, first_ident: int, max_nodes: int, charge: Charge) -> None:
        self._next_ident = first_ident
        self._nodes_left = max_nodes
        self._charge = charge
        self._steps_left = _STEPS
        self.root = self._implied_directory()
        self._heads = {"": self.root}
        self.hidden = 0
        self._hidden_name: object = None

    def _implied_directory(self) -> Directory:
        self._charge.take(DIRECTORY_COST_BYTES)
        node = Directory(Stat(FileType.DIRECTORY, 0, ident=self._next_ident))
        self._next_ident += 1
        return node

    def add(self, name: str, number: int) -> bool:
        """Show an entry that is no directory, or one more name of it; whether it is visible."""
        place = self._place(name)
        if place is None:
            self.hide(name)
            return False
        parent, leaf = place
        children = parent.children
        old = children.get(leaf)
        if old is None:
            self._count(leaf)
        elif isinstance(old, Directory):
            return False
        children[leaf] = number
        return True

    def add_directory(self, name: str, status: Stat, number: int) -> bool:
        """Show the entry of a directory; whether it is visible."""
        place = self._place(name)
        if place is None:
            self.hide(name)
            return False
        node = self._make_directory(*place)
        node.stat = status
        node.number = number
        return True

    def hide(self, name: object) -> None:
        """Count an entry that no program can see. `name`: as text or as it stands."""
        self.hidden += 1
        if self._hidden_name is None:
            self._hidden_name = name

    def tell_hidden(self, archive: str, entries: int) -> None:
        """Say once, in the log, what is missing in the tree. `entries`: how many were looked at."""
        if not self.hidden:
            return
        all_of_them = entries and not self.root.children
        _log.warning(
            "%s: %s of %d entries not shown, because their names cannot be those of files below the mount: %.200s%s",
            archive,
            "all" if all_of_them else self.hidden,
            entries,
            ascii(self._hidden_name),
            " ..." if self.hidden > 1 else "",
        )

    def find(self, name: str) -> Node | None:
        """What stands under a name up to now."""
        node: Node = self.root
        for part in name.split("/"):
            if not isinstance(node, Directory) or part not in node.children:
                return None
            node = node.children[part]
        return node

    def _place(self, name: str) -> tuple[Directory, str] | None:
        """(directory, last name) of an entry; None if it is invisible."""
        path = name[:-1] if name[-1:] == "/" else name
        head, slash, leaf = path.rpartition("/")
        if leaf in _NO_NAMES or (slash and not head):
            return None
        # Most names are too short to need more than one look.
        if (len(name) > MAX_NAME_BYTES // 4 or "\0" in name) and not is_path(path):
            return None
        parent = self._heads.get(head) or self._make_directories(head)
        return None if parent is None else (parent, leaf)

    def _make_directories(self, path: str) -> Directory | None:
        names = path.split("/")
        if not all(map(is_name, names)):
            return None
        self._steps_left += _STEPS_OF_ENTRY - len(names)
        if self._steps_left < 0:
            raise FsError(Errno.NAMETOOLONG, "its names are very deep, and many")
        node = self.root
        for name in names:
            node = self._make_directory(node, name)
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        if len(path) <= _HEAD_MAX_BYTES:
            self._heads[path] = node
        return node

    def _make_directory(self, parent: Directory, name: str) -> Directory:
        node = parent.children.get(name)
        if not isinstance(node, Directory):
            if node is None:
                self._count(name)
            node = parent.children[name] = self._implied_directory()
        return node

    def _count(self, name: str) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise TooManyEntries
        self._charge.take(ENTRY_COST_BYTES + getsizeof(name))


def is_name(name: str) -> bool:
    """Whether a key can hold this component."""
    if name in _NO_NAMES or "\0" in name:
        return False
    return len(name) <= MAX_NAME_BYTES // 4 or len(name.encode()) <= MAX_NAME_BYTES


def is_path(path: str) -> bool:
    """Whether a key can hold all components, and a program can spell the path."""
    return len(path) <= MAX_PATH_BYTES and len(path.encode()) <= MAX_PATH_BYTES and all(map(is_name, path.split("/")))
