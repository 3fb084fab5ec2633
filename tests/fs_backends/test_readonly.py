"""ReadOnly: the same files, and no way to change them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Caps, Handle
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.layers.readonly import ReadOnly
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink

TREE = {"f": b"data", "d": {"g": b""}, "e": {}, "l": Symlink("f")}

MUTATORS: dict[str, tuple[object, ...]] = {
    "create": (("new",),),
    "mkdir": (("new",),),
    "rmdir": (("e",),),
    "remove": (("f",),),
    "rename": (("f",), ("new",)),
    "symlink": ("t", ("new",)),
    "link": (("f",), ("new",)),
    "set_times": (("f",), 1, 1),
}
READERS = {
    "stat",
    "walk",
    "list",
    "listing_version",
    "version",
    "device",
    "open",
    "readlink",
    "sync_directory",
    "close",
}
READERS |= {"note_times"}  # tells of what was done to a handle
RUNS = {"finish", "take_uncommitted", "traffic"}  # about a run as a whole

HANDLE_MUTATORS: dict[str, tuple[object, ...]] = {
    "write_from": (0, b"x"),
    "append": (b"x",),
    "truncate": (0,),
    "allocate": (0, 99),
    "set_times": (1, 1),
}
HANDLE_READERS = {"read_into", "size", "stat", "true_stat", "ident", "reserve", "advise", "sync", "close", "discard"}


def methods(of: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(of, inspect.isfunction) if not name.startswith("_")}


def errno_of(call: Callable[..., object], *args: object) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)
    return caught.value.errno


class CarelessHandles(MemoryBackend):
    """Hands out writable handles whatever it was asked for."""

    def open(self, key: tuple[str, ...], write: bool) -> Handle:
        return super().open(key, True)


@pytest.fixture(params=["memory", "local", "careless"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "memory":
        return MemoryBackend(TREE)
    if request.param == "careless":
        return CarelessHandles(TREE)
    (tmp_path / "f").write_bytes(b"data")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "g").touch()
    (tmp_path / "e").mkdir()
    (tmp_path / "l").symlink_to("f")
    return LocalBackend(tmp_path)


def snapshot(backend: Backend) -> list[object]:
    names = sorted(entry.name for entry in backend.list(()))
    return [(name, backend.stat((name,))) for name in names]


def test_the_tables_know_every_method_of_the_protocol() -> None:
    assert MUTATORS.keys() | READERS | RUNS == methods(Backend)
    assert HANDLE_MUTATORS.keys() | HANDLE_READERS == methods(Handle)


@pytest.mark.parametrize("name", MUTATORS)
def test_every_mutator_is_rofs(inner: Backend, name: str) -> None:
    backend = ReadOnly(inner)
    before = snapshot(inner)
    assert errno_of(getattr(backend, name), *MUTATORS[name]) is Errno.ROFS
    assert snapshot(inner) == before


@pytest.mark.parametrize("name", MUTATORS)
@pytest.mark.parametrize("key", [(), ("missing", "x"), ("f", "x"), ("f",), ("d",)], ids=str)
def test_whatever_the_arguments(name: str, key: tuple[str, ...]) -> None:
    store = MemoryBackend(TREE)
    args = [key if isinstance(argument, tuple) else argument for argument in MUTATORS[name]]
    assert errno_of(getattr(ReadOnly(store), name), *args) is Errno.ROFS
    assert store.export() == TREE


@pytest.mark.parametrize("name", HANDLE_MUTATORS)
def test_every_mutator_of_a_handle_is_rofs(inner: Backend, name: str) -> None:
    handle = ReadOnly(inner).open(("f",), False)
    before = snapshot(inner)
    assert errno_of(getattr(handle, name), *HANDLE_MUTATORS[name]) is Errno.ROFS
    handle.sync(False)
    handle.close()
    assert snapshot(inner) == before


def test_calls_of_a_handle_that_would_change_nothing_are_rofs_too(inner: Backend) -> None:
    handle = ReadOnly(inner).open(("f",), False)
    for call, args in (
        (handle.write_from, (0, b"")),
        (handle.append, (b"",)),
        (handle.truncate, (4,)),
        (handle.allocate, (0, 1)),
        (handle.set_times, (None, None)),
    ):
        assert errno_of(call, *args) is Errno.ROFS, call
    handle.close()


@pytest.mark.parametrize("key", [(), ("f",), ("missing",), ("d",), ("l",)], ids=str)
def test_opening_for_writing_is_rofs_whatever_is_there(inner: Backend, key: tuple[str, ...]) -> None:
    assert errno_of(ReadOnly(inner).open, key, True) is Errno.ROFS


def test_the_store_is_the_same(inner: Backend) -> None:
    backend = ReadOnly(inner)
    assert backend.identity is inner.identity
    assert snapshot(backend) == snapshot(inner)
    assert backend.walk((), ("d", "g")) == inner.walk((), ("d", "g"))
    assert backend.readlink(("l",)) == "f"
    handle = backend.open(("f",), False)
    buffer = bytearray(9)
    assert handle.read_into(1, buffer) == 3
    assert bytes(buffer) == b"ata" + b"\0" * 6
    assert (handle.size(), handle.stat()) == (4, inner.stat(("f",)))
    handle.close()


def test_changes_below_are_seen() -> None:
    store = MemoryBackend(TREE)
    backend = ReadOnly(store)
    reader, writer = backend.open(("f",), False), store.open(("f",), True)
    writer.write_from(0, b"longer")
    store.rmdir(("e",))
    assert reader.size() == 6
    assert errno_of(backend.stat, ("e",)) is Errno.NOENT


def test_capabilities_lose_what_changes_things_and_keep_the_rest() -> None:
    class Everything(MemoryBackend):
        caps = ~Caps.NONE

    kept = Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK | Caps.IMMUTABLE | Caps.SHARED | Caps.DEVICES
    assert ReadOnly(Everything()).caps == kept
    assert ReadOnly(MemoryBackend()).caps == Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK


def test_closing_closes_what_is_below() -> None:
    counted = Faulty(MemoryBackend(TREE))
    backend = ReadOnly(counted)
    backend.open(("f",), False).close()
    backend.close()
    assert (counted.counts["handle.close"], counted.counts["close"], counted.open_handles) == (1, 1, 0)


def test_two_walls_are_one() -> None:
    backend = ReadOnly(ReadOnly(MemoryBackend(TREE)))
    assert errno_of(backend.create, ("new",)) is Errno.ROFS
    assert errno_of(backend.open(("f",), False).set_times, 1, 1) is Errno.ROFS
