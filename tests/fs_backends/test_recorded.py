"""A store that keeps account of what one run changes in it: it works as it did before, and what the account says makes
the same tree once more of what was there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import fs.memoryfs
import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Caps, DirEntry, Handle, Key, Stat
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.fs_backends.layers.picked import _PickedHandle
from vfswasi.fs_backends.layers.recorded import Recorded
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.testing import BackendConformance

from .overlay.test_model import TREE, Both, Layer, tree_of
from .test_conformance import _Local
from .test_pyfilesystem import _fill


class TestOfMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return Recorded(MemoryBackend(tree))


class TestOfLocal(_Local):
    def make(self, tree: dict[str, Any]) -> Backend:
        return Recorded(super().make(tree))


class TestOfPyFilesystem(BackendConformance):
    symlinks_in_tree = False
    times_granularity_ns = 1000

    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, tree)
        return Recorded(PyFilesystemBackend(store, close=True))


class TestOfAnOverlay(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return Recorded(OverlayBackend(MemoryBackend(tree)))


class Numberless(MemoryBackend):
    """A store that has no numbers, as those that are far away."""

    caps = MemoryBackend.caps & ~Caps.HARDLINKS

    def stat(self, key: Key) -> Stat:
        return super().stat(key)._replace(ident=None)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, found = super().walk(key, names)
        return count, None if found is None else found._replace(ident=None)

    def list(self, key: Key) -> Iterable[DirEntry]:
        return [entry._replace(ident=None) for entry in super().list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        return _PickedHandle(super().open(key, write))

    def create(self, key: Key) -> Handle:
        return _PickedHandle(super().create(key))

    def link(self, old: Key, new: Key) -> None:
        raise FsError(Errno.NOTSUP)


def finished(recorded: Recorded) -> tuple[Entry, ...]:
    recorded.finish(True)
    return recorded.book.entries()


def summary(recorded: Recorded) -> list[str]:
    shown = []
    for entry in finished(recorded):
        old = f" from {entry.old_path}" if entry.old_path else ""
        shown.append(f"{entry.kind} {entry.path}{old}")
    return shown


def write(backend: Backend, key: Key, data: bytes, offset: int = 0) -> None:
    handle = backend.open(key, True)
    handle.write_from(offset, data)
    handle.close()


def make(backend: Backend, key: Key, data: bytes = b"") -> None:
    handle = backend.create(key)
    handle.write_from(0, data)
    handle.close()


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("kind", [MemoryBackend, Numberless])
def test_what_is_said_of_random_changes_makes_the_same_tree_once_more(kind: type[MemoryBackend], seed: int) -> None:
    chance = random.Random(seed)
    tree = TREE if seed % 3 else {"a": {}, "b": TREE["a"], "c": {"a": TREE, "b": TREE["c"]}}
    store = kind(tree)
    before = MemoryBackend(tree)
    recorded = Recorded(store)
    both = Both([recorded])
    for _ in range(chance.choice((5, 40, 120))):
        both.do(chance)
    for (handle,) in both.open:
        handle.close()
    entries = finished(recorded)
    again = OverlayBackend(before, Layer(entries), private=True)
    numbers = kind is MemoryBackend  # of links to one file
    assert tree_of(again, numbers=numbers) == tree_of(store, numbers=numbers)


def test_nothing_is_said_where_nothing_was_changed() -> None:
    recorded = Recorded(MemoryBackend(TREE))
    tree_of(recorded)
    recorded.open(("b",), False).close()
    assert not recorded.book.touched
    assert finished(recorded) == ()
