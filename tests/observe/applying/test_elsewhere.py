"""Changes applied to stores in memory and of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vfswasi import Backend, MemoryBackend
from vfswasi.errors import ApplyError, ConflictError, Errno, FsError
from vfswasi.fs_backends.base import Caps
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import Mount

from . import model

BASE: model.Tree = {
    "a": b"a",
    "b": b"b",
    "dir": {"x": b"x", "sub": {"y": b"y"}},
    "gone": {"z": b"z", "zz": {"z": b"z"}},
    "edited": b"old",
}
ENTRIES = [
    model.renamed(BASE, "a", "b"),
    model.renamed(BASE, "b", "a"),
    model.renamed(BASE, "dir", "new"),
    model.modified(BASE, "new/x", b"xx", old_path="dir/x"),
    model.added("new/other", b"other"),
    model.added("made", {}),
    model.added("made/in", b"in"),
    model.removed(BASE, "gone"),
    model.modified(BASE, "edited", b"new contents"),
]
AFTER: model.Tree = {
    "a": b"b",
    "b": b"a",
    "new": {"x": b"xx", "sub": {"y": b"y"}, "other": b"other"},
    "made": {"in": b"in"},
    "edited": b"new contents",
}


def write_to(store: Any, tree: model.Tree) -> None:
    """Through the package's own backend of it."""
    backend = store if isinstance(store, Backend) else open_source(Mount(store, rw=True))
    for path, node in model.paths_of(tree):
        key = tuple(path.split("/"))
        if isinstance(node, dict):
            backend.mkdir(key)
        elif isinstance(node, str):
            backend.symlink(node, key)
        else:
            handle = backend.create(key)
            handle.write_from(0, node)
            handle.close()


def read(store: Any) -> model.Tree:
    return model.tree_in(store if isinstance(store, Backend) else open_source(store))


def _fsspec_memory() -> Any:
    import fsspec

    made = fsspec.filesystem("memory", skip_instance_cache=True)
    made.store = {}
    made.pseudo_dirs = [""]
    return made


def _pyfilesystem_memory() -> Any:
    return pytest.importorskip("fs.memoryfs").MemoryFS()


def _pyfilesystem_directory(place: Path) -> Any:
    return pytest.importorskip("fs.osfs").OSFS(str(place))


STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda place: MemoryBackend(),
    "fsspec memory": lambda place: _fsspec_memory(),
    "PyFilesystem memory": lambda place: _pyfilesystem_memory(),
    "PyFilesystem directory": _pyfilesystem_directory,
    "a path": lambda place: str(place),
    "a URL": lambda place: place.as_uri(),
    "a store of somebody else": lambda place: Faulty(MemoryBackend()),
}


@pytest.mark.parametrize("name", STORES)
def test_the_changes_are_made(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path)
    write_to(store, BASE)
    model.changes(*ENTRIES).apply(store)
    assert read(store) == AFTER
    model.changes(*ENTRIES).apply(store)  # everything is there already
    assert read(store) == AFTER


@pytest.mark.parametrize("name", STORES)
def test_a_conflict_writes_nothing(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path)
    tampered = BASE | {"edited": b"OLD", "made": b"is there"}
    write_to(store, tampered)
    with pytest.raises(ConflictError) as raised:
        model.changes(*ENTRIES).apply(store)
    assert set(raised.value.conflicts) == {"edited", "made"}
    assert read(store) == tampered


def test_links_come_where_there_can_be_links() -> None:
    link = model.added("link", "dir/x")
    store = model.memory(BASE)
    model.changes(link).apply(store)
    assert store.readlink(("link",)) == "dir/x"
    without = _fsspec_memory()
    write_to(without, BASE)
    with pytest.raises(ConflictError, match="can have no symbolic links") as raised:
        model.changes(link, model.modified(BASE, "edited", b"new")).apply(without)
    assert list(raised.value.conflicts) == ["link"]
    assert read(without) == BASE


def test_another_name_of_a_file_is_one_or_a_copy() -> None:
    entries = [
        model.modified(BASE, "edited", b"new"),
        model.added("another", b"new", link_to="edited"),
        model.added("third", b"new", link_to="another"),
        model.removed(BASE, "b"),
        model.added("b", b"a", link_to="a"),
    ]
    store, without = model.memory(BASE), _fsspec_memory()
    write_to(without, BASE)
    for each in (store, without):
        model.changes(*entries).apply(each)
        assert read(each) == BASE | {"edited": b"new", "another": b"new", "third": b"new", "b": b"a"}
    assert store.stat(("edited",)).ident == store.stat(("another",)).ident == store.stat(("third",)).ident
    assert store.stat(("a",)).nlink == 2


def test_two_names_of_one_file_stay_so_in_memory() -> None:
    store = model.memory(BASE)
    store.link(("edited",), ("another",))
    base = BASE | {"another": b"old"}
    model.changes(model.modified(base, "edited", b"new"), model.modified(base, "another", b"new")).apply(store)
    assert store.stat(("edited",)).nlink == 2
    assert read(store) == base | {"edited": b"new", "another": b"new"}


def test_times_are_set_where_they_can_be() -> None:
    store = model.memory(BASE)
    model.changes(
        replace(model.modified(BASE, "edited", b"new"), mtim_ns=7, atim_ns=8), model.added("d", {}, mtim_ns=9)
    ).apply(store)
    assert store.stat(("edited",))[2:4] == (8, 7)
    assert store.stat(("d",)).mtim_ns == 9


def failing(store: MemoryBackend, **plan: Any) -> Faulty:
    return Faulty(store, {(name.replace("__", "."), nth): Errno.IO for name, nth in plan.items()})


def test_what_fails_half_way_says_what_was_done() -> None:
    store = model.memory(BASE)
    entries = [
        model.added("first", {}),
        model.added("first/in", b"in"),
        model.modified(BASE, "edited", b"new"),
        model.removed(BASE, "gone"),
    ]
    with pytest.raises(ApplyError, match="made in part, 3 of 4: IO") as raised:
        model.changes(*entries).apply(failing(store, remove=1))
    assert (set(raised.value.done), raised.value.left) == ({"first", "first/in", "edited"}, ("gone",))
    assert model.tree_in(store) == BASE | {"first": {"in": b"in"}, "edited": b"new"}


def test_what_fails_at_once_changes_nothing() -> None:
    store = model.memory(BASE)
    with pytest.raises(ApplyError, match="nothing was changed") as raised:
        model.changes(model.added("new", b"")).apply(failing(store, create=1))
    assert (raised.value.done, raised.value.left) == ((), ("new",))
    assert model.tree_in(store) == BASE


@pytest.mark.parametrize("entry", [model.added("new", b"xx"), model.modified(BASE, "edited", b"xx")])
def test_contents_that_cannot_be_read_leave_no_half_of_a_file(entry: Any) -> None:
    for content in (model.Broken(b"xx"), _Breaks(b"xx")):
        store = model.memory(BASE)
        with pytest.raises(ApplyError, match="STALE"):
            model.changes(replace(entry, content=content)).apply(store)
        assert model.tree_in(store) == BASE


class _Breaks(model.Bytes):
    """In the middle."""

    def open(self) -> Any:
        handle = super().open()
        reads = handle.read_into

        def read_into(offset: int, buf: Any) -> int:
            if offset:
                raise FsError(Errno.STALE)
            return reads(offset, memoryview(buf)[:1])

        handle.read_into = read_into  # type: ignore[method-assign]
        return handle


def test_a_directory_with_something_new_in_it_is_not_removed() -> None:
    """It appears after everything was looked at, and before it would be removed."""
    store = model.memory(BASE)

    class Late(MemoryBackend):
        caps = MemoryBackend.caps & ~Caps.SET_TIMES

        def mkdir(self, key: Any) -> None:
            super().mkdir(key)
            self.write_bytes("gone/zz/late", b"somebody's")

    late = Late(store.export())
    with pytest.raises(ApplyError, match="NOTEMPTY"):
        model.changes(model.added("made", {}), model.removed(BASE, "gone")).apply(late)
    assert model.tree_in(late)["gone"]["zz"] == {"late": b"somebody's"}


def test_progress_goes_up_to_all() -> None:
    told: list[tuple[int, int]] = []
    model.changes(*ENTRIES).apply(model.memory(BASE), progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_a_store_that_publishes_as_a_whole_does_so_or_not_at_all() -> None:
    class Whole(MemoryBackend):
        finished: Any = None

        def finish(self, keep: bool) -> None:
            self.finished = keep

    store = Whole(model.memory(BASE).export())
    model.changes(model.added("new", b"")).apply(store)
    assert store.finished is True
    store = Whole(model.memory(BASE).export())
    with pytest.raises(ApplyError):
        model.changes(replace(model.added("new", b"xx"), content=model.Broken(b"xx"))).apply(store)
    assert store.finished is False
