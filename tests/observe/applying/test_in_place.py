"""Changes applied to stores that change a file where it is, and that are what the changes were made on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfswasi import MemoryBackend
from vfswasi.errors import ApplyError, ConflictError, Errno, FsError
from vfswasi.fs_backends.base import Handle, Key
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import Mount, for_reading
from vfswasi.observe.changes import Changes

from . import model
from .test_elsewhere import STORES, _fsspec_memory, read, write_to

BIG = bytes(range(256)) * (12 << 10)  # 3 MiB
BASE: model.Tree = {"big": BIG, "dir": {"x": BIG}, "a": b"a", "b": b"b"}


def written_in_part(backend: Any, *paths: str) -> None:
    for path in paths:
        handle = backend.open(tuple(path.split("/")), True)
        handle.write_from(5, b"new")
        handle.close()


@contextlib.contextmanager
def overlaid(store: Any) -> Iterator[tuple[Any, Any]]:
    """(an overlay over it, what it lies on)"""
    from vfswasi.mounts.layered import Layered

    mount = Mount(store, overlay=True)
    base = open_source(for_reading(mount))
    layered = Layered(mount, base, "the store", owned=base is not store, made_anew=False)
    overlay = layered.overlay()
    try:
        yield overlay, layered
    finally:
        overlay.close()
        layered.close()


NEW = BIG[:5] + b"new" + BIG[8:]


@pytest.mark.parametrize("name", STORES)
def test_a_file_of_which_a_part_was_written_keeps_the_rest(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path)
    write_to(store, BASE)
    with overlaid(store) as (overlay, layered):
        written_in_part(overlay, "big")
        Changes(overlay.changes(), layered).apply()
        assert read(store) == BASE | {"big": NEW}


@pytest.mark.parametrize("name", STORES)
def test_a_file_that_is_renamed_and_written_in_part_keeps_the_rest(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path)
    write_to(store, BASE)
    with overlaid(store) as (overlay, layered):
        overlay.rename(("big",), ("moved",))
        written_in_part(overlay, "moved", "dir/x")
        overlay.rename(("a",), ("t",))
        overlay.rename(("b",), ("a",))
        overlay.rename(("t",), ("b",))
        Changes(overlay.changes(), layered).apply()
        assert read(store) == {"moved": NEW, "dir": {"x": NEW}, "a": b"b", "b": b"a"}


def test_two_names_of_a_file_of_which_a_part_was_written_keep_the_rest() -> None:
    store = model.memory(BASE)
    store.link(("big",), ("another",))
    with overlaid(store) as (overlay, layered):
        written_in_part(overlay, "big")
        Changes(overlay.changes(), layered).apply()
    assert read(store)["big"] == NEW


class _Small(MemoryBackend):
    """Of somebody: cannot take what is written once."""

    fails_at = -1

    def open(self, key: Key, write: bool) -> Handle:
        handle = super().open(key, write)
        if write:
            writes = handle.write_from

            def write_from(offset: int, buf: Any) -> None:
                self.fails_at -= 1
                if self.fails_at == 0:
                    raise FsError(Errno.NOSPC)
                writes(offset, buf)

            handle.write_from = write_from  # type: ignore[method-assign]
        return handle


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_what_cannot_be_written_in_place_leaves_the_old_contents(nth: int) -> None:
    store = _Small(BASE)
    store.link(("big",), ("another",))
    base = BASE | {"another": BIG}
    store.fails_at = nth
    with pytest.raises(ApplyError, match="nothing was changed: NOSPC"):
        model.changes(model.modified(base, "big", NEW)).apply(store)
    assert model.tree_in(store) == base


# Others at the same time


def test_two_at_once_on_one_store_wait_for_each_other() -> None:
    many = {f"f{number:03}": b"old" for number in range(200)}
    for store in (model.memory(many), _fsspec_memory()):
        if not isinstance(store, MemoryBackend):
            write_to(store, many)
        begin = threading.Barrier(2)
        told: list[str] = []

        def job(new: bytes, store: Any = store, begin: Any = begin, told: Any = told) -> None:
            made = model.changes(*(model.modified(many, name, new) for name in many))
            begin.wait(30)
            try:
                made.apply(store)
            except ConflictError:
                told.append("conflict")
            else:
                told.append("made")

        jobs = [threading.Thread(target=job, args=(new,)) for new in (b"one", b"two")]
        for each in jobs:
            each.start()
        for each in jobs:
            each.join(60)
        assert sorted(told) == ["conflict", "made"]
        assert len(set(read(store).values())) == 1


@pytest.mark.parametrize(
    "entry", [model.modified(BASE, "b", b"x"), model.removed(BASE, "b"), model.renamed(BASE, "b", "c")]
)
def test_what_somebody_changes_meanwhile_is_not_lost(entry: Any) -> None:
    store = model.memory(BASE)

    def progress(done: int, total: int) -> None:
        store.write_bytes("b", b"somebody's")

    with pytest.raises(ApplyError, match="changed by somebody else"):
        model.changes(model.added("a0", {}), entry).apply(store, progress=progress)
    assert store.read_bytes("b") == b"somebody's"


# Whoever is told how far it is


@pytest.mark.parametrize("error", [ValueError("no"), OSError("pipe"), KeyboardInterrupt()])
def test_an_error_of_whoever_is_told_leaves_every_name_somewhere(error: BaseException) -> None:
    store = model.memory(BASE)
    swapped = [model.renamed(BASE, "a", "b"), model.renamed(BASE, "b", "a"), model.added("0", {})]

    def progress(done: int, total: int) -> None:
        raise error

    expected = ApplyError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        model.changes(*swapped).apply(store, progress=progress)
    if isinstance(raised.value, ApplyError):
        assert type(error).__name__ in str(raised.value)
        assert len(raised.value.done) == 1
        assert len(raised.value.left) == 2
    found = model.tree_in(store)
    assert sorted(name for name in found if name in ("a", "b")) == ["a", "b"] or "moved aside" in str(raised.value)
    assert {b"a", b"b"} <= {node for _, node in model.paths_of(found) if isinstance(node, bytes)}


def test_what_waits_aside_gets_its_name_back_after_an_error() -> None:
    store = model.memory(BASE)
    swapped = [model.renamed(BASE, "a", "b"), model.renamed(BASE, "b", "a")]
    failing = Faulty(store, {("rename", 3): Errno.IO})
    with pytest.raises(ApplyError, match="IO"):
        model.changes(*swapped).apply(failing)
    assert model.tree_in(store) == BASE
