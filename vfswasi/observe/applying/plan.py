"""What has to be done so that changes are in a tree, in which order; made of the entries alone, without a look at it.

Names stand before the changes ("base") or after them. First everything that is gone from its name in the base goes,
deepest names first; then what is new at its name comes, parents first. So names may be swapped, and go in circles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator
from typing import Final

from ...errors import ConflictError
from ...fs_backends.base import FileType, Key
from ...fs_backends.layers.checked import fits_a_key
from ...fs_backends.layers.overlay.entries import Content, Entry
from ...printing import shown
from ...records import record

# Of what lies in a target while changes are applied to it. Changes cannot have such names.
STAGING: Final = ".vfswasi-apply-"

_DEPTH_MAX: Final = 2048  # more do not fit into a path that a system takes

_DIRECTORY, _FILE, _LINK = FileType.DIRECTORY, FileType.REGULAR_FILE, FileType.SYMBOLIC_LINK


@record(frozen=True)
class Item:
    """An entry. number: its place. key: its name afterwards, of what is removed that in the base. base: its name in the
    base, None: it is new."""

    number: int
    entry: Entry
    key: Key
    base: Key | None

    @property
    def path(self) -> str:
        """What messages call it: the name in the base, where there is one."""
        return "/".join(self.key if self.base is None else self.base)

    @property
    def is_directory(self) -> bool:
        return self.entry.filetype is _DIRECTORY

    @property
    def is_name(self) -> bool:
        """It is another name of something."""
        return self.entry.link_to is not None and self.entry.target is None


class Plan:
    """items: the entries. gone: what leaves its name in the base, by that name. arriving: what comes to its name, by
    that name; all of them other objects than what is there before. replaced: names of regular files that are gone, at
    which another regular file arrives, in the same directory. rewritten: names afterwards of what is modified. written:
    what is not there before, by its name afterwards.

    Raises ConflictError: the entries contradict each other or themselves, which those of a run never do.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.items = tuple(_item(number, entry) for number, entry in enumerate(entries))
        self.gone: dict[Key, Item] = {}
        self.arriving: dict[Key, Item] = {}
        for item in self.items:
            kind = item.entry.kind
            if kind in ("removed", "renamed"):
                assert item.base is not None
                _put(self.gone, item.base, item)
            if kind in ("added", "renamed"):
                _put(self.arriving, item.key, item)
        for item in self.items:
            self._check(item)
        self.rewritten = frozenset(item.key for item in self.items if item.entry.kind == "modified")
        self.written = {item.key: item for item in self.items if item.entry.kind in ("added", "modified")}
        self.replaced = frozenset(
            key
            for key, item in self.gone.items()
            if item.entry.kind == "removed" and item.entry.filetype is _FILE and self._is_replaced(key)
        )

    def _check(self, item: Item) -> None:
        kind = item.entry.kind
        if kind in ("modified", "attributes") and item.key:
            if self.before(item.key) != item.base:
                raise _nonsense(item, "it is said to have been somewhere else than where the other changes say")
            if item.base in self.gone and item.key not in self.arriving:
                raise _nonsense(item, "it is gone")
        if (
            kind in ("added", "renamed")
            and self.before(item.key, itself=False) is None
            and not self._is_in_new(item.key)
        ):
            raise _nonsense(item, "there is no directory then that it would be in")
        if item.is_name:
            self._check_link(item)

    def _check_link(self, item: Item) -> None:
        """Raises ConflictError: another name of what is nothing, or of itself."""
        seen: set[Key] = set()
        at: Item | None = item
        while at is not None and at.is_name:
            assert at.entry.link_to is not None
            if at.key in seen:
                raise _nonsense(item, "it is another name of itself")
            seen.add(at.key)
            key = key_of(at.entry.link_to)
            at = self.arriving.get(key)
            if at is None and (self.before(key) is None or self.before(key) in self.gone):
                raise _nonsense(item, "it is another name of what is not there")

    def _is_in_new(self, key: Key) -> bool:
        """Whether the directory that it is in is new."""
        parent = self.arriving.get(key[:-1])
        return parent is not None and parent.is_directory and parent.entry.kind == "added"

    def before(self, key: Key, itself: bool = True) -> Key | None:
        """Where in the base that is which has the name `key` afterwards; without `itself` the place that becomes `key`,
        whatever is there. None: it is new, or nothing can be there."""
        item = self.arriving.get(key) if itself else None
        if item is not None:
            return item.base
        depth = max(len(key) - 1, 0)
        while depth > 0 and key[:depth] not in self.arriving:
            depth -= 1
        start: Key = ()
        if depth > 0:
            base = self.arriving[key[:depth]].base
            if base is None or not self.arriving[key[:depth]].is_directory:
                return None
            start = base
        rest = key[depth:]
        if any((*start, *rest[:length]) in self.gone for length in range(1, len(rest))):
            return None
        return (*start, *rest)

    def _is_replaced(self, key: Key) -> bool:
        item = self.arriving.get(key)
        if item is None or item.entry.filetype is not _FILE:
            return False
        return not any(key[:depth] in self.gone or key[:depth] in self.arriving for depth in range(1, len(key)))

    def has_contents(self, item: Item) -> Key:
        """Of another name of something: its name afterwards that has the contents, or is the old name of them."""
        while item.is_name:
            assert item.entry.link_to is not None
            key = key_of(item.entry.link_to)
            if key not in self.arriving:
                return key
            item = self.arriving[key]
        return item.key

    def leaving(self) -> list[Item]:
        """What is gone, deepest names first, without what is replaced."""
        found = [item for key, item in self.gone.items() if key not in self.replaced]
        return sorted(found, key=lambda item: len(item.base or ()), reverse=True)

    def coming(self) -> list[Item]:
        """What arrives, parents first; a file's new contents after its new name."""
        found = [item for item in self.items if item.entry.kind in ("added", "renamed", "modified")]
        return sorted(found, key=lambda item: (len(item.key), item.entry.kind == "modified"))

    def contents(self) -> list[Item]:
        """Files that get contents from the changes."""
        return [item for item in self.items if item.entry.content is not None and not item.is_name]

    def each_content(self) -> Iterator[tuple[Item, Content]]:
        for item in self.contents():
            assert item.entry.content is not None
            yield item, item.entry.content

    def timed(self) -> list[Item]:
        """What has times afterwards that are known, deepest first: to touch a name is to touch its directory."""
        found = [
            item
            for item in self.items
            if item.entry.kind != "removed" and (item.entry.atim_ns, item.entry.mtim_ns) != (None, None)
        ]
        return sorted(found, key=lambda item: len(item.key), reverse=True)

    def ident(self) -> str:
        """The same for the same changes, in whatever process; contents count by their sizes only."""
        told = [
            (
                *(entry.kind, entry.path, int(entry.filetype), entry.old_path, entry.size, entry.atim_ns),
                *(entry.mtim_ns, entry.target, entry.link_to, entry.was and (int(entry.was.filetype), entry.was.size)),
            )
            for entry in sorted((item.entry for item in self.items), key=lambda entry: (entry.path, entry.kind))
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def any_above(key: Key, keys: Container[Key]) -> bool:
    return any(key[:depth] in keys for depth in range(1, len(key)))


def key_of(path: str) -> Key:
    return tuple(path.split("/"))


def _item(number: int, entry: Entry) -> Item:
    for path in (entry.path, entry.old_path, entry.link_to):
        if path is not None:
            _check_path(path, empty=entry.kind == "attributes")
    if entry.was is not None and entry.kind == "removed":
        for path in entry.was.below:
            _check_path(path)
    key = () if entry.path == "" else key_of(entry.path)
    base = None if entry.kind == "added" else key if entry.old_path is None else key_of(entry.old_path)
    item = Item(number, entry, key, base)
    if (entry.was is None) != (entry.kind == "added"):
        raise _nonsense(item, "what was there before is not known" if entry.was is None else "it was there before")
    if entry.was is not None and entry.was.filetype is not entry.filetype:
        raise _nonsense(item, "it was something else before")
    if entry.kind == "renamed" and entry.old_path is None:
        raise _nonsense(item, "its old name is not known")
    if entry.kind in ("added", "modified"):
        _check_contents(item)
    return item


def _check_path(path: str, empty: bool = False) -> None:
    """Raises ConflictError for what is no name below a directory."""
    if not (path == "" and empty) and not all(map(fits_a_key, path.split("/"))):
        raise ConflictError(f"the changes have a path that no target can have: {shown(path)}", {path: "no path"})
    if path.count("/") >= _DEPTH_MAX:
        raise ConflictError(
            f"the changes have a path of more than {_DEPTH_MAX:,} names: {shown(path)}", {path: "too many names"}
        )
    if path.startswith(STAGING):
        raise ConflictError(
            f"the changes have the name {shown(path)}, which is kept for applying changes",
            {path: "a name that is kept"},
        )


def _check_contents(item: Item) -> None:
    entry = item.entry
    if entry.kind == "modified" and entry.filetype is not _FILE:
        raise _nonsense(item, "only files have contents")
    if entry.link_to is not None and entry.filetype is not _DIRECTORY:
        return
    if entry.filetype is _FILE:
        if entry.content is None:
            raise _nonsense(item, "its contents are not known")
        if entry.content.size != entry.size:
            raise _nonsense(item, "its contents have another size than it should have")
    elif entry.filetype is _LINK:
        if not entry.target or "\0" in entry.target:
            raise _nonsense(item, "it is a link to nothing")
    elif entry.filetype is not _DIRECTORY:
        raise _nonsense(item, "it is neither a file, nor a directory, nor a link")


def _put(table: dict[Key, Item], key: Key, item: Item) -> None:
    if key in table:
        raise _nonsense(item, "it is there twice")
    table[key] = item


def _nonsense(item: Item, why: str) -> ConflictError:
    return ConflictError(f"the changes cannot be applied to anything: {shown(item.path)}: {why}", {item.path: why})
