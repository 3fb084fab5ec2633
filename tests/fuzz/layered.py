"""An overlay that plans run on, seen from behind the guest's back, and what lies below it, which never changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from vfswasi import LocalBackend, MemoryBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, FileType, Key
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.overlay.handle import OverlayHandle
from vfswasi.fs_backends.layers.overlay.nodes import FileNode
from vfswasi.fs_backends.staging.pages import PAGE_BYTES

from .trees import TREE, disk_tree, write_tree


class Layered:
    """`overlay`: over memory, a directory, a zip, or another overlay in which a part of the tree was written; the seed
    says which."""

    def __init__(self, seed: int, place: Path, room_bytes: int, archive: BinaryIO) -> None:
        self._disk: Path | None = None
        kind = seed % 4
        if kind == 0:
            self.base: Backend = MemoryBackend(TREE)
        elif kind == 1:
            shutil.rmtree(place, ignore_errors=True)
            write_tree(place, {"base": TREE})
            self._disk = place
            self.base = LocalBackend(place / "base")
        elif kind == 2:
            self.base = ZipBackend(archive)
        else:
            self.base = OverlayBackend(MemoryBackend(TREE))
            self.base.rename(("d",), ("n",))
            self.base.rename(("n",), ("d",))
            self.base.link(("a",), ("m",))
            handle = self.base.open(("b",), True)
            handle.write_from(100, b"below")
            handle.close()
        private = kind in (0, 3) and seed % 3 == 0
        memory_bytes = (1 << 20, 40_000, 0)[seed % 3]
        self.overlay = OverlayBackend(self.base, private=private, memory_bytes=memory_bytes, max_bytes=room_bytes)

    def inside(self, live: Iterable[Any]) -> dict[str, Any]:
        """All that a failed call must not change."""
        found: dict[str, Any] = {}
        for key, stat, what in seen(self.overlay):
            found["/".join(key)] = (stat.ident, stat.nlink, stat.mtim_ns, stat.ctim_ns, what)
        for file in _held(live):
            found[f"held {file.ident}"] = (file.nlink, file.mtim, file.size)
        return found

    def shape(self) -> dict[str, Any]:
        return {"/".join(key): (stat.nlink, what) for key, stat, what in seen(self.overlay)}

    def below(self) -> dict[Any, Any]:
        """All of the base; on the disk with its surroundings."""
        if self._disk is not None:
            return dict(disk_tree(self._disk))
        return {key: (stat, what) for key, stat, what in seen(self.base)}

    def accounts(self, live: Iterable[Any]) -> str:
        """What is wrong with the space that is charged, or with numbers of names; or nothing."""
        handles = list(live)
        files: dict[int, FileNode] = {id(file): file for file in self._files()} | {id(f): f for f in _held(handles)}
        for handle in handles:
            file = _inner(handle)._file
            files[id(file)] = file
        staged = [file.staged for file in files.values() if file.staged is not None]
        space = self.overlay.space
        if space.used_bytes != (used := sum(each._charged for each in staged)):
            return f"{space.used_bytes} bytes are charged, there are {used}"
        pages = [page for each in staged for page in each._pages.values()]
        memory = sum(len(page) + 200 for page in pages if isinstance(page, bytearray))
        if space.used_memory_bytes != memory:
            return f"{space.used_memory_bytes} bytes of memory are charged, there are {memory}"
        slots = sum(isinstance(page, int) for page in pages) * PAGE_BYTES
        if slots != space.slots.used_bytes:
            return f"{space.slots.used_bytes} bytes of slots are used, there are {slots}"
        names: dict[int, int] = {}
        links: dict[int, int] = {}
        for _key, stat, _what in seen(self.overlay):
            if stat.filetype is not FileType.DIRECTORY:
                assert stat.ident is not None
                names[stat.ident] = names.get(stat.ident, 0) + 1
                links[stat.ident] = stat.nlink
        if names != links:
            wrong = next(ident for ident in names if names[ident] != links[ident])
            return f"object {wrong:#x} has {names[wrong]} names and a link count of {links[wrong]}"
        for file in files.values():
            if not file.handles and not file.touched and file.base is not None and file.ident in self._known():
                return f"file {file.ident:#x} is remembered, though nothing of it is ours"
        return ""

    def _known(self) -> dict[int, FileNode]:
        return self.overlay._tree.files

    def _files(self) -> Iterable[FileNode]:
        yield from self._known().values()
        todo: list[Any] = [self.overlay._tree.root]
        while todo:
            for node in todo.pop().children.values():
                if node.children is not None:
                    todo.append(node)
                elif isinstance(node, FileNode):
                    yield node

    def close(self) -> None:
        self.overlay.space.close()  # by itself it goes when nothing refers to the contents any more
        self.base.close()
        if self._disk is not None:
            shutil.rmtree(self._disk, ignore_errors=True)


def _inner(handle: Any) -> OverlayHandle:
    while not isinstance(handle, OverlayHandle):
        handle = handle.inner if hasattr(handle, "inner") else handle._inner
    return handle


def _held(live: Iterable[Any]) -> list[FileNode]:
    files = {id(file): file for file in (_inner(handle)._file for handle in live)}
    return [file for file in files.values() if not file.nlink]


def seen(backend: Backend, key: Key = ()) -> Iterable[tuple[Key, Any, bytes | str | None]]:
    """(key, stat, contents or target) of everything in a store."""
    stat = backend.stat(key)
    if stat.filetype is FileType.DIRECTORY:
        yield key, stat, None
        for entry in sorted(backend.list(key)):
            yield from seen(backend, (*key, entry.name))
    elif stat.filetype is FileType.SYMBOLIC_LINK:
        yield key, stat, backend.readlink(key)
    else:
        handle = backend.open(key, False)
        data = bytearray(stat.size + 1)
        count = handle.read_into(0, data)
        handle.close()
        yield key, stat, bytes(data[:count])
