"""The stores that are struck: fresh ones with a tree in them, and what they hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vfswasi
from tests.kernel.test_weak_stores import WeakStore
from vfswasi.fs_backends.base import Backend, FileType, Handle


@dataclass(frozen=True)
class Kind:
    """make: (tree, a directory of this machine) -> backend, what the store holds. at_end: it changes as a whole when a
    run has ended with 0. when_closed: files are stored when they are closed or synced."""

    make: Callable[[dict[str, Any], Path], tuple[Backend, Callable[[], dict[str, Any]]]]
    at_end: bool = False
    when_closed: bool = False


def _memory(tree: dict[str, Any], _place: Path) -> tuple[Backend, Callable[[], dict[str, Any]]]:
    store = vfswasi.MemoryBackend(tree)
    return store, store.export


def _weak(tree: dict[str, Any], _place: Path) -> tuple[Backend, Callable[[], dict[str, Any]]]:
    store = WeakStore(tree)
    return store, store.export


def _zip(tree: dict[str, Any], place: Path) -> tuple[Backend, Callable[[], dict[str, Any]]]:
    from vfswasi.fs_backends.archive.writable import WritableZipBackend
    from vfswasi.fs_backends.archive.zip.backend import ZipBackend

    path = place / "store.zip"
    path.unlink(missing_ok=True)
    store = WritableZipBackend(path)
    fill(store, (), tree)
    store.commit()
    return store, lambda: export(ZipBackend(path))


def _fsspec(tree: dict[str, Any], _place: Path) -> tuple[Backend, Callable[[], dict[str, Any]]]:
    from fsspec.implementations.memory import MemoryFileSystem

    from vfswasi.mounts.finding.sources import open_mount

    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.store, fs.pseudo_dirs = {}, [""]  # not those of the class
    fs.mkdir("/root")
    fresh = lambda: open_mount(vfswasi.Mount(fs, root="/root", rw=True))  # noqa: E731
    store = fresh()
    fill(store, (), tree)
    return store, lambda: export(fresh())


STORES = {
    "memory": Kind(_memory),
    "weak": Kind(_weak),
    "zip": Kind(_zip, at_end=True),
    "fsspec": Kind(_fsspec, when_closed=True),
}


def fill(store: Backend, key: tuple[str, ...], tree: dict[str, Any]) -> None:
    """Put a tree into an empty store."""
    for name, value in tree.items():
        if isinstance(value, dict):
            store.mkdir((*key, name))
            fill(store, (*key, name), value)
        else:
            handle = store.create((*key, name))
            handle.write_from(0, value)
            handle.close()


def export(store: Backend) -> dict[str, Any]:
    """What a store holds; it is closed."""

    def read(handle: Handle) -> bytes:
        data = bytearray(handle.size())
        assert handle.read_into(0, data) == len(data)
        handle.close()
        return bytes(data)

    def tree(key: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in store.list(key):
            at = (*key, entry.name)
            if entry.filetype is FileType.DIRECTORY:
                found[entry.name] = tree(at)
            elif entry.filetype is FileType.SYMBOLIC_LINK:
                found[entry.name] = vfswasi.Symlink(store.readlink(at))
            else:
                found[entry.name] = read(store.open(at, False))
        return found

    try:
        return tree(())
    finally:
        store.close()
