"""Hermetic: what a store shows does not depend on the day, the machine or the kind of store."""

from __future__ import annotations

import inspect
import itertools
import os
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from vfswasi.clock import Clock
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Caps, FileType, Handle, Key, Stat
from vfswasi.fs_backends.layers.hermetic import objects as objects_module
from vfswasi.fs_backends.layers.hermetic.backend import MOUNTED_NS, Hermetic, mounted_ns
from vfswasi.fs_backends.layers.hermetic.objects import Objects
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink
from vfswasi.testing import BackendConformance

TREE: dict[str, Any] = {"b": b"two", "a": b"one", "ä": b"", "d": {"g": b"deep", "e": {}}, "l": Symlink("a")}
NOW = 7_000_000_000


def hermetic(inner: Backend, now: Callable[[], int] = lambda: NOW, **options: Any) -> Hermetic:
    made = {"keep_times": False, "readonly": False, "then_ns": MOUNTED_NS, **options}
    return Hermetic(inner, Objects("/m", now), **made)


def write(root: Path, tree: dict[str, Any], backwards: bool = False) -> Path:
    root.mkdir(exist_ok=True)
    for name, value in reversed(tree.items()) if backwards else tree.items():
        if isinstance(value, dict):
            write(root / name, value, backwards)
        elif isinstance(value, Symlink):
            (root / name).symlink_to(value.target)
        else:
            (root / name).write_bytes(value)
    return root


def zipped(tree: dict[str, Any]) -> BytesIO:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        _zip(writer, tree, "")
    return archive


def _zip(writer: zipfile.ZipFile, tree: dict[str, Any], where: str) -> None:
    for name, value in tree.items():
        info = zipfile.ZipInfo(where + name, (2011, 1, 2, 3, 4, 6))
        info.create_system = 3
        if isinstance(value, dict):
            info.filename += "/"
            info.external_attr = 0o040755 << 16
            writer.writestr(info, b"")
            _zip(writer, value, f"{where}{name}/")
        elif isinstance(value, Symlink):
            info.external_attr = 0o120777 << 16
            writer.writestr(info, value.target.encode())
        else:
            info.external_attr = 0o100644 << 16
            writer.writestr(info, value)


def refused(*calls: Callable[[], object]) -> Errno | None:
    """What the first of them that fails fails with."""
    for call in calls:
        try:
            call()
        except FsError as error:
            return error.errno
    return None


class Nameless(Backend):
    """A store in memory that has no numbers for its objects."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.caps = inner.caps & ~(Caps.HARDLINKS | Caps.HANDLE_SURVIVES_UNLINK)
        for name in ("create", "mkdir", "rmdir", "remove", "rename", "symlink", "readlink", "set_times"):
            setattr(self, name, getattr(inner, name))

    def stat(self, key: Key) -> Stat:
        return self.inner.stat(key)._replace(ident=None)

    def list(self, key: Key) -> list[Any]:
        return [entry._replace(ident=None) for entry in self.inner.list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        return _NamelessHandle(self.inner.open(key, write))

    def create(self, key: Key) -> Handle:
        return _NamelessHandle(self.inner.create(key))


class _NamelessHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner
        for name in ("read_into", "write_from", "truncate", "set_times", "close"):
            setattr(self, name, getattr(inner, name))

    def stat(self) -> Stat:
        return self._inner.stat()._replace(ident=None)


def nameless(inner: Backend) -> Nameless:
    made = Nameless(inner)
    made.create = lambda key: _NamelessHandle(inner.create(key))  # type: ignore[method-assign]
    return made


def everything(store: Backend, key: Key = ()) -> list[Any]:
    """Every object that can be found, as it is shown, in the order of the listings."""
    found: list[Any] = [(key, store.stat(key))]
    for entry in store.list(key):
        below = (*key, entry.name)
        stat = store.stat(below)
        assert (stat.filetype, stat.ident) == (entry.filetype, entry.ident)
        found += everything(store, below) if entry.filetype is FileType.DIRECTORY else [(below, stat)]
        if entry.filetype is FileType.REGULAR_FILE:
            handle = store.open(below, False)
            assert (handle.stat(), handle.ident()) == (stat, stat.ident)
            handle.close()
    return found


STORES: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: MemoryBackend(TREE),
    "local": lambda path: LocalBackend(str(write(path / "local", TREE))),
    "local, made backwards": lambda path: LocalBackend(str(write(path / "other", TREE, backwards=True))),
    "zip": lambda _: ZipBackend(zipped(TREE)),
    "overlay over memory": lambda _: OverlayBackend(MemoryBackend(TREE)),
    "overlay over zip": lambda _: OverlayBackend(ZipBackend(zipped(TREE))),
    "overlay over local": lambda path: OverlayBackend(LocalBackend(str(write(path / "base", TREE)))),
    "without numbers": lambda _: nameless(MemoryBackend(TREE)),
}
CHANGED = [name for name in STORES if name != "zip"]


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("name", STORES)
def test_every_store_shows_the_same(name: str, readonly: bool, tmp_path: Path) -> None:
    expected = everything(hermetic(MemoryBackend(TREE), readonly=readonly))
    assert everything(hermetic(STORES[name](tmp_path), readonly=readonly)) == expected
    numbers = [stat.ident for _, stat in expected]
    assert len(set(numbers)) == len(numbers)
    assert all(number is not None and 0 < number < 1 << 63 for number in numbers)
    assert [key for key, _ in expected] == sorted(key for key, _ in expected)


@pytest.mark.parametrize("name", STORES)
def test_it_does_not_matter_what_is_looked_at_first(name: str, tmp_path: Path) -> None:
    expected = dict(everything(hermetic(MemoryBackend(TREE))))
    store = hermetic(STORES[name](tmp_path))
    for key in reversed(expected):
        assert store.stat(key) == expected[key]
        assert store.walk((), key) == (len(key), expected[key] if key else None)
        if expected[key].filetype is FileType.REGULAR_FILE:
            handle = store.open(key, True) if Caps.WRITE in store.caps else store.open(key, False)
            assert handle.stat() == expected[key]
            handle.close()
    assert everything(store) == list(expected.items())


def changes(store: Backend, clock: list[int]) -> list[Any]:
    """What is seen while much is changed."""
    seen: list[Any] = []

    def look(*keys: Key) -> None:
        seen.extend(store.stat(key) for key in keys)

    first = store.create(("new",))
    first.write_from(0, b"1234")
    seen.append(first.stat())
    clock[0] += 5
    first.append(b"5")
    look(("new",), ())
    if Caps.HANDLE_SURVIVES_UNLINK not in store.caps:
        first.close()
    clock[0] += 5
    store.rename(("new",), ("renamed",))
    look(("renamed",), ())
    second = store.create(("new",))
    look(("new",))
    second.close()
    store.remove(("renamed",))
    third = store.create(("renamed",))
    seen.append(third.stat())
    third.close()
    store.rename(("renamed",), ("new",))
    look(("new",))
    if Caps.HANDLE_SURVIVES_UNLINK in store.caps:
        seen.append(first.stat()._replace(nlink=0))
        first.close()
    clock[0] += 5
    before = everything(store, ("d",))
    store.rename(("d",), ("moved",))
    after = everything(store, ("moved",))
    assert [stat.ident for _, stat in before] == [stat.ident for _, stat in after]
    store.mkdir(("d",))
    store.mkdir(("d", "e"))
    store.create(("d", "g")).close()
    assert not {stat.ident for _, stat in everything(store, ("d",))} & {stat.ident for _, stat in after}
    store.symlink("a", ("to",))
    store.set_times(("a",), 11, None)
    store.set_times(("d",), None, 12)
    handle = store.open(("b",), True)
    handle.set_times(None, 13)
    handle.truncate(1)
    handle.allocate(0, 1)
    handle.close()
    store.rmdir(("d", "e"))
    store.mkdir(("d", "e"))
    return seen + everything(store)


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_run_changes_is_shown_with_its_own_times_and_numbers(name: str, tmp_path: Path) -> None:
    clock = [NOW]
    expected = changes(hermetic(MemoryBackend(TREE), lambda: clock[0]), clock)
    clock = [NOW]
    found = changes(hermetic(STORES[name](tmp_path), lambda: clock[0]), clock)
    if name == "without numbers":  # the first file was closed there before it lost its name
        first = [stat for stat in expected if isinstance(stat, Stat)]
        assert [stat for stat in found if isinstance(stat, Stat)][:3] == first[:3]
        expected, found = expected[-12:], found[-12:]
    assert found == expected
    shown = dict(item for item in found if isinstance(item, tuple) and not isinstance(item, Stat))
    assert shown["a",][2:5] == (11, MOUNTED_NS, NOW + 15)
    assert shown["d",][2:5] == (NOW + 15, NOW + 15, NOW + 15)
    assert shown["b",][2:5] == (MOUNTED_NS, NOW + 15, NOW + 15)
    assert shown["new",][2:5] == (NOW + 10, NOW + 10, NOW + 10)
    assert shown["moved", "g"][2:5] == (MOUNTED_NS,) * 3
    assert shown["ä",][2:5] == (MOUNTED_NS,) * 3


@pytest.mark.parametrize("name", CHANGED)
def test_no_two_objects_have_one_number_whatever_is_done(name: str, tmp_path: Path) -> None:
    """All orders of a few changes of the same few names."""
    steps: dict[str, Callable[[Backend], object]] = {
        "create": lambda store: store.create(("x",)).close(),
        "remove": lambda store: store.remove(("x",)),
        "to": lambda store: store.rename(("x",), ("y",)),
        "back": lambda store: store.rename(("y",), ("x",)),
        "directory": lambda store: store.rename(("d",), ("y",)),
        "directory back": lambda store: store.rename(("y",), ("d",)),
        "mkdir": lambda store: (store.mkdir(("d",)), store.create(("d", "g")).close()),
        "into": lambda store: store.rename(("x",), ("d", "x")),
    }
    for count, order in enumerate(itertools.permutations(steps, 4)):
        if count % (1 if name == "memory" else 11):
            continue
        (tmp_path / str(count)).mkdir()
        store = hermetic(STORES[name](tmp_path / str(count)))
        for step in order:
            try:
                steps[step](store)
            except FsError:
                continue
            numbers = [stat.ident for _, stat in everything(store)]
            assert len(set(numbers)) == len(numbers), order
        store.close()


def test_a_file_keeps_its_number_while_it_is_open_and_no_other_gets_it() -> None:
    store = hermetic(MemoryBackend({"f": b"old"}))
    handle = store.open(("f",), False)
    number = handle.ident()
    store.remove(("f",))
    store.create(("f",)).close()
    assert store.stat(("f",)).ident != number == handle.ident() == handle.stat().ident
    handle.close()
    assert store.stat(("f",)).ident != number


def test_what_others_put_in_the_place_of_an_open_file_has_another_number(tmp_path: Path) -> None:
    for readonly in (True, False):
        (tmp_path / "f").write_bytes(b"old")
        store = hermetic(LocalBackend(str(tmp_path)), readonly=readonly)
        handle = store.open(("f",), False)
        (tmp_path / "g").write_bytes(b"new")
        os.replace(tmp_path / "g", tmp_path / "f")
        assert store.stat(("f",)).ident != handle.ident()
        other = store.open(("f",), False)
        assert other.ident() == store.stat(("f",)).ident != handle.ident()
        other.close()
        handle.close()
        store.close()


def test_hard_links_that_were_there_lead_to_one_object_where_it_can_be_changed() -> None:
    inner = MemoryBackend({"b": b"x", "other": b""})
    inner.link(("b",), ("a",))
    store = hermetic(inner)
    assert store.stat(("b",)).ident == store.stat(("a",)).ident
    assert store.stat(("a",)).nlink == 2
    store.link(("a",), ("c",))
    assert {store.stat((name,)).ident for name in "abc"} == {store.stat(("b",)).ident}
    store.remove(("b",))
    assert store.stat(("a",)).ident == store.stat(("c",)).ident
    assert store.stat(("a",)).nlink == 2


def test_hard_links_are_not_seen_on_a_mount_that_can_only_be_read(tmp_path: Path) -> None:
    """A package manager, or a store that keeps equal files once, may have made them here and not elsewhere."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_bytes(b"x")
    plain = everything(hermetic(MemoryBackend({"a": b"x", "b": b"x"}), readonly=True))
    os.link(tmp_path / "m" / "a", tmp_path / "m" / "b")
    os.link(tmp_path / "m" / "a", tmp_path / "outside")
    assert everything(hermetic(LocalBackend(str(tmp_path / "m")), readonly=True)) == plain


def test_a_mount_keeps_its_times_and_shows_the_runs_own_changes() -> None:
    inner = MemoryBackend({"f": b"x", "g": b""})
    inner.set_times(("f",), 21, 22)
    inner.set_times(("g",), 23, 24)
    store = hermetic(inner, keep_times=True)
    assert store.stat(("f",))[2:4] == (21, 22)
    handle = store.open(("g",), True)
    handle.write_from(0, b"x")
    handle.close()
    assert store.stat(("g",))[2:5] == (23, NOW, NOW)


def test_what_keeps_a_part_of_a_file_can_see_whether_others_changed_it(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    handle = hermetic(LocalBackend(str(tmp_path)), readonly=True).open(("f",), False)
    os.utime(tmp_path / "f", ns=(5, 6))
    assert handle.true_stat().mtim_ns == 6
    assert handle.stat().mtim_ns == MOUNTED_NS
    handle.close()


def test_two_mounts_of_one_store_agree() -> None:
    inner = MemoryBackend({"f": b"x"})
    objects = Objects("/first", lambda: NOW)
    options: dict[str, Any] = {"keep_times": False, "then_ns": MOUNTED_NS}
    one, two = Hermetic(inner, objects, readonly=True, **options), Hermetic(inner, objects, readonly=False, **options)
    two.rename(("f",), ("g",))
    two.create(("f",)).close()
    assert [entry.ident for entry in one.list(())] == [entry.ident for entry in two.list(())]
    assert one.stat(("g",)).ident == two.stat(("g",)).ident != two.stat(("f",)).ident


def test_a_copy_goes_on_with_the_same_numbers_and_times() -> None:
    inner = MemoryBackend(TREE)
    store = hermetic(inner)
    store.rename(("d",), ("moved",))
    store.create(("d",)).close()
    store.remove(("a",))
    opened = store.open(("b",), True)
    before = everything(store)
    copy = hermetic(inner.copy())
    copy.become(store)
    assert everything(copy) == before
    for each in (store, copy):
        each.create(("a",)).close()
        each.rename(("a",), ("moved", "a"))
        each.mkdir(("a",))
    assert everything(copy) == everything(store)
    opened.close()


def test_what_is_remembered_is_bounded_and_a_walk_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "_MOVED_MAX", 2)
    store = hermetic(MemoryBackend({f"f{number}": b"" for number in range(3000)} | {"d": {}}))
    allowance = waiting.Allowance(1, 1, 10_000, buffer_bytes=600_000)
    with waiting.bounded_by(None, allowance):
        assert len(everything(store)) == 3002
        assert allowance.buffers.used < 1 << 17
        assert refused(*(partial(store.set_times, (f"f{n}",), 1, 1) for n in range(3000))) is Errno.NOMEM
        last = next(number for number in range(3000) if store.stat((f"f{number}",)).atim_ns != 1)
        assert 1000 < last < 2000
        assert store.inner.stat((f"f{last}",)).atim_ns != 1  # nothing was done
        for number in range(last):
            store.remove((f"f{number}",))
        store.set_times((f"f{last}",), 1, 1)
        moves = itertools.pairwise("dabcdefg")
        assert refused(*(partial(store.rename, (a,), (b,)) for a, b in moves)) is Errno.NOMEM
    store = hermetic(MemoryBackend())
    assert allowance.buffers.used == 0


def test_the_time_of_mounts_is_never_later_than_the_run_begins() -> None:
    assert mounted_ns(None) == mounted_ns(Clock.system()) == MOUNTED_NS
    assert mounted_ns(Clock.virtual("2026-01-01T00:00:00Z")) == MOUNTED_NS
    assert mounted_ns(Clock.fixed(5)) == 5 * 10**9


def test_every_method_of_the_protocol_is_handed_on() -> None:
    for name, method in inspect.getmembers(Backend, inspect.isfunction):
        assert name.startswith("_") or getattr(Hermetic, name) is not method, name
    handle = hermetic(MemoryBackend({"f": b""})).open(("f",), True)
    for name, method in inspect.getmembers(Handle, inspect.isfunction):
        assert name.startswith("_") or getattr(getattr(handle, name), "__func__", None) is not method, name
    handle.close()


class TestHermeticMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return hermetic(MemoryBackend(tree), now=waiting.time.time_ns)


class TestHermeticOverlay(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return hermetic(OverlayBackend(MemoryBackend(tree)), now=waiting.time.time_ns)


class TestHermeticZip(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return hermetic(ZipBackend(zipped(tree)), readonly=True)


class TestHermeticLocal(BackendConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self._path = tmp_path
        self._made = 0

    def make(self, tree: dict[str, Any]) -> Backend:
        self._made += 1
        path = write(self._path / f"tree{self._made}", tree)
        return hermetic(LocalBackend(str(path)), now=waiting.time.time_ns)
