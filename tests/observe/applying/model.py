"""Trees as plain dicts, what a run could do to one, and the entries that say so: made without any of the package's own
overlay."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfswasi import Backend, MemoryBackend
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Buffer, FileType, Handle, Key, Stat
from vfswasi.fs_backends.layers.overlay.entries import Entry, Was
from vfswasi.fs_backends.memory.literal import Symlink
from vfswasi.observe.changes import Changes

# A tree: names to bytes, to a text (the target of a link), or to a tree.
Tree = dict[str, Any]


class Bytes:
    """Contents in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def open(self) -> Handle:
        return _Reader(self.data)


class _Reader(Handle):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buf: Buffer) -> int:
        piece = self._data[offset : offset + len(buf)]
        buf[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        return Stat(FileType.REGULAR_FILE, len(self._data))

    def close(self) -> None:
        pass


class Broken(Bytes):
    """Contents that can be read only up to a point."""

    def open(self) -> Handle:
        raise FsError(Errno.STALE, "the store has changed")


def kind_of(node: Any) -> FileType:
    if isinstance(node, dict):
        return FileType.DIRECTORY
    return FileType.REGULAR_FILE if isinstance(node, bytes) else FileType.SYMBOLIC_LINK


def at(tree: Tree, path: str) -> Any:
    node: Any = tree
    for name in path.split("/"):
        node = node[name]
    return node


def paths_of(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in it, parents first."""
    for name, node in tree.items():
        yield prefix + name, node
        if isinstance(node, dict):
            yield from paths_of(node, f"{prefix}{name}/")


def was(node: Any, *, digest: bool = True, **more: Any) -> Was:
    """As an overlay records it, of what is in a tree."""
    data = node if isinstance(node, bytes) else node.encode() if isinstance(node, str) else b""
    told = hashlib.sha256(data).hexdigest() if digest and not isinstance(node, dict) else None
    below = {path: was(other, digest=digest) for path, other in paths_of(node)} if isinstance(node, dict) else {}
    return Was(kind_of(node), len(data), digest=told, below=below, **more)


def added(path: str, node: Any, **more: Any) -> Entry:
    content = Bytes(node) if isinstance(node, bytes) else None
    target = node if isinstance(node, str) else None
    size = len(node) if isinstance(node, bytes | str) else 0
    return Entry("added", path, kind_of(node), size=size, content=content, target=target, **more)


def modified(base: Tree, path: str, data: bytes, *, old_path: str | None = None, **more: Any) -> Entry:
    there = was(at(base, old_path or path))
    return Entry(
        "modified",
        path,
        FileType.REGULAR_FILE,
        old_path,
        **{"was": there, "size": len(data), "content": Bytes(data), **more},
    )


def removed(base: Tree, path: str, **more: Any) -> Entry:
    there = was(at(base, path))
    return Entry("removed", path, there.filetype, **{"was": there, **more})


def renamed(base: Tree, old: str, new: str, **more: Any) -> Entry:
    there = was(at(base, old))
    return Entry("renamed", new, there.filetype, old, **{"was": there, "size": there.size, **more})


class OnBase:
    """A base that can be come to again."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.text = "the base"

    @contextlib.contextmanager
    def open(self) -> Iterator[Backend]:
        from vfswasi.mounts.finding.sources import open_source

        backend = open_source(self.source)
        try:
            yield backend
        finally:
            if backend is not self.source:
                backend.close()


def changes(*entries: Entry, base: Any = None) -> Changes:
    ordered = sorted(entries, key=lambda entry: (entry.path, entry.kind != "removed"))
    return Changes(ordered, None if base is None else OnBase(base))


# Trees in stores


def fill(place: Path, tree: Tree) -> Path:
    place.mkdir(exist_ok=True)
    for path, node in paths_of(tree):
        there = place / path
        if isinstance(node, dict):
            there.mkdir()
        elif isinstance(node, str):
            there.symlink_to(node)
        else:
            there.write_bytes(node)
    return place


def tree_at(place: Path) -> Tree:
    """What is in a directory of this machine, whatever it is."""
    found: Tree = {}
    for name in sorted(os.listdir(place)):
        there = place / name
        if there.is_symlink():
            found[name] = os.readlink(there)
        else:
            found[name] = tree_at(there) if there.is_dir() else there.read_bytes()
    return found


def memory(tree: Tree) -> MemoryBackend:
    def literal(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: literal(other) for name, other in node.items()}
        return Symlink(node) if isinstance(node, str) else node

    return MemoryBackend(literal(tree))


def tree_in(backend: Backend, key: Key = ()) -> Tree:
    found: Tree = {}
    for entry in sorted(backend.list(key)):
        there = (*key, entry.name)
        if entry.filetype is FileType.DIRECTORY:
            found[entry.name] = tree_in(backend, there)
        elif entry.filetype is FileType.SYMBOLIC_LINK:
            found[entry.name] = backend.readlink(there)
        else:
            handle = backend.open(there, False)
            data = bytearray(handle.size())
            handle.read_into(0, data)
            handle.close()
            found[entry.name] = bytes(data)
    return found


# What a run does to a tree


@dataclass
class Node:
    """origin: its path in the base, None: it is new. content: bytes, a text of a link, or None of a directory."""

    origin: str | None
    content: bytes | str | None
    children: dict[str, Node] = field(default_factory=dict)
    written: bool = False


class Worked:
    """A tree that is worked on, and where everything in it came from."""

    def __init__(self, base: Tree) -> None:
        self.base = base
        self.root = self._node(base, "")

    def _node(self, node: Any, path: str) -> Node:
        if not isinstance(node, dict):
            return Node(path, node)
        below = {name: self._node(other, f"{path}/{name}".lstrip("/")) for name, other in node.items()}
        return Node(path, None, below)

    def directories(self) -> list[Node]:
        found = [self.root]
        for node in found:
            found += [other for other in node.children.values() if other.content is None]
        return found

    def tree(self, node: Node | None = None) -> Tree:
        node = node or self.root
        return {
            name: self.tree(other) if other.content is None else other.content for name, other in node.children.items()
        }

    def entries(self) -> list[Entry]:
        alive: set[str] = set()
        found: list[Entry] = []
        todo = [("", self.root)]
        for prefix, parent in todo:
            for name, node in parent.children.items():
                path = prefix + name
                if node.content is None:
                    todo.append((f"{path}/", node))
                if node.origin is None:
                    found.append(added(path, {} if node.content is None else node.content))
                    continue
                alive.add(node.origin)
                old = None if node.origin == path else node.origin
                usual = None if parent.origin is None else f"{parent.origin}/{name}".lstrip("/")
                if node.origin != usual:
                    found.append(renamed(self.base, node.origin, path))
                if node.written:
                    assert isinstance(node.content, bytes)
                    found.append(modified(self.base, path, node.content, old_path=old))
        for path, node in paths_of(self.base):
            above = path.rpartition("/")[0]
            if path not in alive and (not above or above in alive):
                there = was(node)
                below = {
                    name: other
                    for name, other in there.below.items()
                    if not any(f"{path}/{part}" in alive for part in _with_parents(name))
                }
                there = Was(there.filetype, there.size, digest=there.digest, below=below)
                found.append(Entry("removed", path, there.filetype, was=there))
        return found


def _with_parents(path: str) -> list[str]:
    return [path[:cut] for cut in range(len(path)) if path[cut] == "/"] + [path]
