"""Trees of a model, and bases that hold the same."""

from __future__ import annotations

import io
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfswasi import LocalBackend, MemoryBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, FileType, Key
from vfswasi.testing.ground import contents


@dataclass(eq=False)
class Node:
    """An inode of a model. parent, name: of a directory, None: the root, or it was removed. atim, mtim: None where the
    model does not know. links: it is a symbolic link that got a second name, ever."""

    filetype: FileType
    data: bytearray = field(default_factory=bytearray)
    entries: dict[str, Node] = field(default_factory=dict)
    target: str = ""
    nlink: int = 1
    ino: int | None = None
    parent: Node | None = None
    name: str = ""
    removed: bool = False
    links: bool = False
    atim: int | None = None
    mtim: int | None = None

    @property
    def size(self) -> int:
        return len(self.target.encode()) if self.filetype is FileType.SYMBOLIC_LINK else len(self.data)

    def tree(self) -> dict[str, Any]:
        """As `tree_of`."""
        found: dict[str, Any] = {}
        for name, node in self.entries.items():
            if node.filetype is FileType.DIRECTORY:
                found[name] = node.tree()
            elif node.filetype is FileType.SYMBOLIC_LINK:
                found[name] = ("link", node.target)
            else:
                found[name] = (bytes(node.data), node.nlink)
        return found


def tree_of(backend: Backend, key: Key = ()) -> dict[str, Any]:
    """Names with the contents and numbers of links of files, targets of links, trees of directories."""
    found: dict[str, Any] = {}
    for entry in backend.list(key):
        path = (*key, entry.name)
        if entry.filetype is FileType.DIRECTORY:
            found[entry.name] = tree_of(backend, path)
        elif entry.filetype is FileType.SYMBOLIC_LINK:
            found[entry.name] = ("link", backend.readlink(path))
        else:
            found[entry.name] = (contents(backend, path), backend.stat(path).nlink)
    return found


def _random_tree(chance: random.Random, depth: int = 0) -> Node:
    made = Node(FileType.DIRECTORY)
    for name in "abcde":
        draw = chance.random()
        if draw < 0.3 and depth < 3:
            below = _random_tree(chance, depth + 1)
            below.parent, below.name = made, name
        elif draw < 0.65:
            size = chance.choice((0, 5, 5, 4096, 40_000, 100_000, 1_200_000 if depth == 1 else 7))
            below = Node(FileType.REGULAR_FILE, bytearray(chance.randbytes(size)))
        elif draw < 0.75:
            below = Node(FileType.SYMBOLIC_LINK, target=chance.choice(("a", "b", "c/a", "d/e", "nothing")))
        else:
            continue
        made.entries[name] = below
    return made


def _link_some(chance: random.Random, root: Node) -> list[tuple[Key, Key]]:
    """Give some files more names; (old, new)."""
    directories: list[tuple[Key, Node]] = [((), root)]
    files: list[tuple[Key, Node]] = []
    for key, node in directories:
        for name, below in node.entries.items():
            if below.filetype is FileType.DIRECTORY:
                directories.append(((*key, name), below))
            elif below.filetype is FileType.REGULAR_FILE:
                files.append(((*key, name), below))
    made = []
    for _ in range(6 if files else 0):
        (old, node), (key, directory) = chance.choice(files), chance.choice(directories)
        name = chance.choice("abcdefg")
        if name not in directory.entries:
            directory.entries[name] = node
            node.nlink += 1
            made.append((old, (*key, name)))
    return made


def _put(backend: Backend, node: Node, key: Key = ()) -> None:
    for name, below in node.entries.items():
        path = (*key, name)
        if below.filetype is FileType.DIRECTORY:
            backend.mkdir(path)
            _put(backend, below, path)
        elif below.filetype is FileType.SYMBOLIC_LINK:
            backend.symlink(below.target, path)
        else:
            handle = backend.create(path)
            handle.write_from(0, below.data)
            handle.close()


def _memory(chance: random.Random, _place: Path) -> tuple[Backend, Node]:
    root, made = _random_tree(chance), MemoryBackend()
    _put(made, root)
    for old, new in _link_some(chance, root):
        made.link(old, new)
    return made, root


def _local(chance: random.Random, place: Path) -> tuple[Backend, Node]:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    root, made = _random_tree(chance), LocalBackend(place)
    _put(made, root)
    for old, new in _link_some(chance, root):
        os.link(place.joinpath(*old), place.joinpath(*new))
    return made, root


def _zip(chance: random.Random, _place: Path) -> tuple[Backend, Node]:
    root, file = _random_tree(chance), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:

        def put(node: Node, where: str) -> None:
            for name, below in node.entries.items():
                info = zipfile.ZipInfo(where + name)
                if below.filetype is FileType.DIRECTORY:
                    if chance.random() < 0.5 or not below.entries:
                        archive.writestr(where + name + "/", b"")
                    put(below, where + name + "/")
                elif below.filetype is FileType.SYMBOLIC_LINK:
                    info.external_attr = 0o120777 << 16
                    archive.writestr(info, below.target)
                else:
                    info.compress_type = chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
                    archive.writestr(info, bytes(below.data))

        put(root, "")
    return ZipBackend(file), root


BASES: dict[str, Callable[[random.Random, Path], tuple[Backend, Node]]] = {
    "memory": _memory,
    "local": _local,
    "zip": _zip,
}
