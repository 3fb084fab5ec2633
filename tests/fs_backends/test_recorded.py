"""A store that keeps account of what one run changes in it: it works as it did before, and what the account says makes
the same tree once more of what was there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import fs.memoryfs
import pytest

from vfswasi import File
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Caps, DirEntry, Handle, Key, Stat
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.fs_backends.layers.picked import _PickedHandle
from vfswasi.fs_backends.layers.recorded import Recorded
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.fs_backends.waiting import bounded_by
from vfswasi.kernel.clocks import Deadline
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import errno_of

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


def test_a_file_that_was_only_opened_for_writing_was_not_changed() -> None:
    recorded = Recorded(MemoryBackend({"a": b"a", "b": b"b"}))
    for key in ("a",), ("b",):
        recorded.open(key, True).close()
    write(recorded, ("b",), b"B")
    assert summary(recorded) == ["modified b"]


def test_new_files_that_went_again_are_nothing() -> None:
    recorded = Recorded(MemoryBackend({"d": {}}))
    make(recorded, ("d", "x"))
    recorded.remove(("d", "x"))
    assert not recorded.book.touched
    make(recorded, ("d", "y"))
    recorded.rename(("d",), ("e",))
    recorded.remove(("e", "y"))
    assert summary(recorded) == ["renamed e from d"]


def test_what_fails_is_no_change() -> None:
    recorded = Recorded(MemoryBackend({"d": {"f": b"f"}, "g": b"g"}))
    make(recorded, ("new",))
    failing: list[tuple[Any, ...]] = [
        (recorded.create, ("g",)),
        (recorded.mkdir, ("d",)),
        (recorded.rmdir, ("d",)),
        (recorded.remove, ("missing",)),
        (recorded.remove, ("d",)),
        (recorded.rename, ("missing",), ("x",)),
        (recorded.rename, ("g",), ("d",)),
        (recorded.link, ("d",), ("x",)),
        (recorded.symlink, "x", ("g",)),
        (recorded.set_times, ("missing",), 1, 1),
        (recorded.open, ("missing",), True),
        (recorded.open, ("d",), True),
    ]
    for call, *arguments in failing:
        assert errno_of(call, *arguments) is not Errno.SUCCESS
    assert summary(recorded) == ["added new"]


def test_a_new_file_that_could_not_be_removed_is_still_new() -> None:
    class Stubborn(MemoryBackend):
        def remove(self, key: Key) -> None:
            raise FsError(Errno.IO)

    recorded = Recorded(Stubborn())
    make(recorded, ("new",))
    assert errno_of(recorded.remove, ("new",)) is Errno.IO
    assert summary(recorded) == ["added new"]


def test_a_file_that_takes_the_place_of_another_is_a_new_version_of_it() -> None:
    recorded = Recorded(MemoryBackend({"f": b"old"}))
    make(recorded, ("f.new",), b"newer")
    recorded.rename(("f.new",), ("f",))
    (entry,) = finished(recorded)
    assert (entry.kind, entry.path, entry.size, entry.was and entry.was.size) == ("modified", "f", 5, 3)


def test_times_that_are_set_through_a_handle_that_reads_are_told_by_the_kernel() -> None:
    recorded = Recorded(MemoryBackend({"f": b"f", "g": b"g"}))
    for name, time in (("f", 5), ("g", None)):
        handle = recorded.open((name,), False)
        recorded.note_times((name,))
        handle.set_times(time, time)
        handle.close()
    assert summary(recorded) == ["attributes f"]


def test_a_store_with_whole_seconds_tells_of_what_may_have_changed() -> None:
    class Coarse(Numberless):
        age_s = 0

        def stat(self, key: Key) -> Stat:
            found = super().stat(key)
            return found._replace(ctim_ns=None, mtim_ns=(found.mtim_ns or 0) // 10**9 * 10**9 - self.age_s * 10**9)

        def open(self, key: Key, write: bool) -> Handle:
            handle = super().open(key, write)
            handle.stat = lambda: self.stat(key)  # type: ignore[method-assign]
            return handle

    young, old = Coarse({"f": b"f", "g": b"g"}), Coarse({"f": b"f"})
    old.age_s = 3
    recorded = Recorded(young)
    write(recorded, ("f",), b"F")
    recorded.open(("g",), True).close()
    assert summary(recorded) == ["modified f", "modified g"]
    recorded = Recorded(old)
    recorded.open(("f",), True).close()
    assert summary(recorded) == []


def test_who_sets_times_back_hides_nothing() -> None:
    class Timeless(Numberless):
        def stat(self, key: Key) -> Stat:
            return super().stat(key)._replace(ctim_ns=None)

        def open(self, key: Key, write: bool) -> Handle:
            handle = super().open(key, write)
            handle.stat = lambda: self.stat(key)  # type: ignore[method-assign]
            return handle

    for kind in MemoryBackend, Timeless:
        recorded = Recorded(kind({"f": File(b"f", 5), "g": File(b"g", 5)}))
        write(recorded, ("f",), b"F")
        recorded.set_times(("f",), 5 * 10**9, 5 * 10**9)
        handle = recorded.open(("g",), True)
        handle.write_from(0, b"G")
        recorded.note_times(("g",))
        handle.set_times(5 * 10**9, 5 * 10**9)
        handle.close()
        assert summary(recorded) == ["modified f", "modified g"]


def test_each_run_has_its_own_changes_of_a_store_that_two_have() -> None:
    store = MemoryBackend({"d": {"f": b"f"}, "e": {"g": b"g"}})
    one, other = Recorded(store), Recorded(store)
    make(one, ("d", "one"), b"1")
    make(other, ("d", "other"), b"2")
    other.rename(("e",), ("d", "e"))
    one.mkdir(("d", "made"))
    write(one, ("d", "f"), b"F")
    other.remove(("d", "e", "g"))
    assert summary(one) == ["modified d/f", "added d/made", "added d/one"]
    assert summary(other) == ["renamed d/e from e", "added d/other", "removed e/g"]


def test_what_somebody_else_took_away_again_is_not_told() -> None:
    store = MemoryBackend({"d": {}, "f": b"f", "g": b"g"})
    recorded = Recorded(store)
    make(recorded, ("d", "new"))
    recorded.mkdir(("made",))
    recorded.symlink("x", ("link",))
    write(recorded, ("f",), b"F")
    for key in ("d", "new"), ("link",), ("f",):
        store.remove(key)
    store.rmdir(("made",))
    assert summary(recorded) == []


def test_in_a_directory_that_somebody_else_made_it_goes_on() -> None:
    store = MemoryBackend({"d": {"x": b"x"}})
    recorded = Recorded(store)
    recorded.remove(("d", "x"))
    recorded.rmdir(("d",))
    store.mkdir(("d",))
    store["d/theirs"] = b"theirs"
    make(recorded, ("d", "ours"))
    recorded.rename(("d", "theirs"), ("moved",))
    write(recorded, ("moved",), b"M")
    assert "added d/ours" in summary(recorded)
    assert "added moved" in summary(recorded)


def test_of_what_the_store_gives_up_nothing_is_told() -> None:
    class Whole(MemoryBackend):
        def finish(self, keep: bool) -> None:
            if keep:
                raise FsError(Errno.NOSPC)

    for keep in True, False:
        recorded = Recorded(Whole({"f": b"f"}))
        write(recorded, ("f",), b"F")
        if keep:
            assert errno_of(recorded.finish, True) is Errno.NOSPC
        else:
            recorded.finish(False)
        assert recorded.book.entries() == ()


def test_what_could_not_be_found_out_in_time_is_unknown() -> None:
    recorded = Recorded(MemoryBackend())
    for number in range(200):
        make(recorded, (str(number),))
    with bounded_by(Deadline(0)):
        recorded.finish(True)
    assert recorded.book.unknown


def test_contents_are_those_of_the_end_of_the_run_or_stale() -> None:
    store = MemoryBackend({"f": b"f", "g": b"g"})
    recorded = Recorded(store)
    write(recorded, ("f",), b"F")
    write(recorded, ("g",), b"G")
    first, second = (entry.content for entry in finished(recorded))
    assert first is not None
    assert second is not None
    handle, data = second.open(), bytearray(1)
    assert handle.read_into(0, data) == 1
    assert data == b"G"
    store["f"] = b"another"
    write(store, ("g",), b"H")
    assert errno_of(first.open) is Errno.STALE
    assert errno_of(handle.read_into, 0, data) is Errno.STALE  # also while it is read
    handle.close()
    store.remove(("f",))
    assert errno_of(first.open) is Errno.STALE


def test_a_layer_hands_on_what_it_does_not_know() -> None:
    class Own(MemoryBackend):
        def sync_directory(self, key: Key, data_only: bool) -> None:
            raise FsError(Errno.IO, "/".join(key))

    store = Own({"a": b"a"})
    recorded = Recorded(store)
    assert (recorded.identity, recorded.place, recorded.caps) == (store, None, store.caps)
    assert recorded.stat.__self__ is store  # type: ignore[attr-defined]
    assert recorded.listing_version(()) == store.listing_version(())
    assert errno_of(recorded.sync_directory, ("d",), True) is Errno.IO
