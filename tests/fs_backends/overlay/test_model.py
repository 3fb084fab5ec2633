"""Random changes, on overlays three deep and on plain memory: both look the same after every one, and what an overlay
says of its changes makes the same tree of its base once more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, FileType, Key
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.testing.ground import contents

NAMES = ("a", "b", "c")
TREE: dict[str, Any] = {
    "a": {"a": b"aa", "b": {"a": b"aba", "c": {"b": b"abcb"}}, "c": b"ac"},
    "b": b"b",
    "c": {"a": {"a": b"caa", "b": b"cab"}},
}


class Layer:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)


def tree_of(backend: Backend, key: Key = (), numbers: bool = True) -> dict[str, Any]:
    """Everything that shows; of files the contents, and which names are one file."""
    tree: dict[str, Any] = {}
    for entry in sorted(backend.list(key)):
        path = (*key, entry.name)
        stat = backend.stat(path)
        assert (stat.filetype, stat.ident) == (entry.filetype, entry.ident)
        if entry.filetype is FileType.DIRECTORY:
            tree[entry.name] = tree_of(backend, path, numbers)
        elif entry.filetype is FileType.SYMBOLIC_LINK:
            tree[entry.name] = ("link", backend.readlink(path))
        else:
            data = contents(backend, path)
            assert len(data) == stat.size
            tree[entry.name] = (data, stat.nlink) if numbers else data
    return tree


def some_key(chance: random.Random) -> Key:
    return tuple(chance.choice(NAMES) for _ in range(chance.randint(1, 4)))


class Both:
    """The same on both; handles stay open over many steps."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = list(backends)
        self.open: list[list[Any]] = []

    def do(self, chance: random.Random) -> None:
        old, new = some_key(chance), some_key(chance)
        data = bytes([chance.randint(65, 90)]) * chance.randint(1, 9)
        offset = chance.randint(0, 12)
        which = chance.randrange(16)
        if which == 0:
            self.each(lambda backend: backend.mkdir(old))
        elif which in (1, 2):
            self.each(lambda backend: self.written(backend.create(old), data))
        elif which == 3:
            self.each(lambda backend: backend.remove(old))
        elif which == 4:
            self.each(lambda backend: backend.rmdir(old))
        elif which in (5, 6, 7, 8):
            self.each(lambda backend: backend.rename(old, new))
        elif which == 9:
            self.each(lambda backend: backend.link(old, new))
        elif which == 10:
            self.each(lambda backend: backend.symlink(data.decode(), old))
        elif which == 11:
            self.each(lambda backend: backend.set_times(old, 7, 9))
        elif which == 12:
            self.each(lambda backend: self.truncated(backend.open(old, True), offset))
        elif which == 13 and len(self.open) < 4:
            handles: list[Any] = []
            if self.each(lambda backend: handles.append(backend.open(old, True))) is Errno.SUCCESS:
                self.open.append(handles)
        elif which == 14 and self.open:
            handles = chance.choice(self.open)
            for handle in handles:
                handle.write_from(offset, data)
            assert len({(handle.size(), handle.stat().nlink) for handle in handles}) == 1
        elif which == 15 and self.open:
            for handle in self.open.pop(chance.randrange(len(self.open))):
                handle.close()
        else:
            self.each(lambda backend: self.written(backend.open(old, True), data, offset))

    @staticmethod
    def written(handle: Any, data: bytes, offset: int = 0) -> None:
        handle.write_from(offset, data)
        handle.close()

    @staticmethod
    def truncated(handle: Any, size: int) -> None:
        handle.truncate(size)
        handle.close()

    def each(self, call: Any) -> Errno:
        found = []
        for backend in self.backends:
            try:
                call(backend)
                found.append(Errno.SUCCESS)
            except FsError as error:
                found.append(error.errno)
        assert len(set(found)) == 1, found
        return found[0]


@pytest.mark.parametrize("seed", range(150))
def test_overlays_three_deep_look_like_memory(seed: int) -> None:
    chance = random.Random(seed)
    tree = TREE if seed % 3 else {"a": {}, "b": TREE["a"], "c": {"a": TREE, "b": TREE["c"]}}
    base, plain = MemoryBackend(tree), MemoryBackend(tree)
    before = tree_of(base)
    layers: list[OverlayBackend] = []
    top: Backend = base
    both = Both([plain, plain])
    for _ in range(3):
        below = top
        seen_below = tree_of(below)
        top = OverlayBackend(below, private=bool(seed % 2))
        layers.append(top)
        both.backends[1] = top
        for _ in range(40):
            both.do(chance)
            if chance.random() < 0.2:
                assert tree_of(top) == tree_of(plain)
        for handles in both.open:
            for handle in handles:
                handle.close()
        both.open.clear()
        assert tree_of(top) == tree_of(plain)
        assert tree_of(below) == seen_below
        again = OverlayBackend(below, Layer(top.entries()), private=True)
        assert tree_of(again) == tree_of(plain)
        assert tree_of(OverlayBackend(below, Layer(again.entries()), private=True)) == tree_of(plain)
    assert tree_of(base) == before
