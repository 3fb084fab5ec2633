"""The conformance kit over overlays: whatever lies below, they are as good as memory."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import fs.memoryfs
import pytest

from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Caps, FileType
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import contents, errno_of

from ..test_conformance import _archive, _Local
from ..test_pyfilesystem import _fill


class OverMemory(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(MemoryBackend(tree))


class TestOverMemory(OverMemory):
    pass


class TestOverMemoryOfOnesOwn(OverMemory):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(MemoryBackend(tree), private=True)


class TestOnDisk(OverMemory):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(MemoryBackend(tree), memory_bytes=0)


class TestOverLocal(_Local):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(super().make(tree), close_base=True)


class TestOverZip(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(ZipBackend(_archive(tree, zipfile.ZIP_DEFLATED)), close_base=True)


class TestOverTar(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as writer:
            _tar(writer, tree, "")
        return OverlayBackend(TarBackend(archive), close_base=True)


def _tar(writer: tarfile.TarFile, tree: dict[str, Any], where: str) -> None:
    for name, value in tree.items():
        info = tarfile.TarInfo(where + name)
        if isinstance(value, dict):
            info.type = tarfile.DIRTYPE
            writer.addfile(info)
            _tar(writer, value, f"{where}{name}/")
        elif isinstance(value, Symlink):
            info.type, info.linkname = tarfile.SYMTYPE, value.target
            writer.addfile(info)
        else:
            info.size = len(value)
            writer.addfile(info, io.BytesIO(value))


class TestOverPyFilesystem(BackendConformance):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        store = fs.memoryfs.MemoryFS()
        _fill(store, tree)
        return OverlayBackend(PyFilesystemBackend(store, close=True), close_base=True)


class TestOverAnOverlay(OverMemory):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(OverlayBackend(MemoryBackend(tree)))


class TestWrittenBelow(OverMemory):
    """Everything comes from the overlay below, and nothing from the base."""

    def make(self, tree: dict[str, Any]) -> Backend:
        below = OverlayBackend(MemoryBackend())
        _write(below, (), tree)
        return OverlayBackend(below)


class TestBegunWithChanges(OverMemory):
    """All of the tree is changes that the overlay begins with."""

    def make(self, tree: dict[str, Any]) -> Backend:
        first = OverlayBackend(MemoryBackend({"gone": {"x": b"x"}, "old": {"file": b"f"}}))
        first.remove(("gone", "x"))
        first.rmdir(("gone",))
        first.remove(("old", "file"))
        first.rmdir(("old",))
        _write(first, (), tree)

        class Layer:
            entries = first.entries()

        return OverlayBackend(MemoryBackend({"gone": {"x": b"x"}, "old": {"file": b"f"}}), Layer(), private=True)


def _write(backend: Backend, where: tuple[str, ...], tree: dict[str, Any]) -> None:
    for name, value in tree.items():
        key = (*where, name)
        if isinstance(value, dict):
            backend.mkdir(key)
            _write(backend, key, value)
        elif isinstance(value, Symlink):
            backend.symlink(value.target, key)
        else:
            handle = backend.create(key)
            handle.write_from(0, value)
            handle.close()


def test_what_an_overlay_can_do_does_not_depend_on_the_base() -> None:
    made = OverlayBackend(ZipBackend(_archive({"a": b"a"}, zipfile.ZIP_STORED)), close_base=True)
    for cap in Caps.WRITE, Caps.HARDLINKS, Caps.SYMLINKS, Caps.SET_TIMES, Caps.ATOMIC_RENAME:
        assert cap in made.caps
    assert Caps.IMMUTABLE not in made.caps
    made.close()


@pytest.mark.parametrize("private", [False, True])
def test_others_may_change_the_base_unless_it_is_ones_own(private: bool) -> None:
    assert (Caps.SHARED in OverlayBackend(MemoryBackend(), private=private).caps) is not private


def test_a_directory_that_is_made_again_is_empty() -> None:
    backend = OverlayBackend(MemoryBackend({"d": {"a": b"a", "e": {"b": b"b"}}}))
    for name in ("d", "a"), ("d", "e", "b"):
        backend.remove(name)
    backend.rmdir(("d", "e"))
    backend.rmdir(("d",))
    assert errno_of(backend.stat, ("d",)) is Errno.NOENT
    backend.mkdir(("d",))
    assert list(backend.list(("d",))) == []
    assert backend.walk((), ("d", "e"))[0] == 1


def test_numbers_survive_copying_and_renaming() -> None:
    backend = OverlayBackend(MemoryBackend({"d": {"a": b"a"}, "f": b"f"}))
    numbers = [backend.stat(key).ident for key in (("d",), ("d", "a"), ("f",))]
    handle = backend.open(("f",), True)
    assert handle.ident() == numbers[2]
    handle.write_from(0, b"new")
    assert (handle.ident(), backend.stat(("f",)).ident) == (numbers[2], numbers[2])
    handle.close()
    backend.rename(("d",), ("e",))
    backend.rename(("f",), ("e", "g"))
    assert [backend.stat(key).ident for key in (("e",), ("e", "a"), ("e", "g"))] == numbers
    assert {entry.name: entry.ident for entry in backend.list(("e",))} == {"a": numbers[1], "g": numbers[2]}


def test_all_names_of_a_file_of_the_base_see_what_is_written_through_one() -> None:
    base = MemoryBackend({"a": b"old", "d": {}})
    base.link(("a",), ("d", "b"))
    base.link(("a",), ("c",))
    backend = OverlayBackend(base)
    assert backend.stat(("a",)).nlink == 3
    handle = backend.open(("d", "b"), True)
    handle.write_from(0, b"new!")
    handle.close()
    assert [contents(backend, key) for key in (("a",), ("d", "b"), ("c",))] == [b"new!"] * 3
    backend.remove(("a",))
    assert backend.stat(("c",)).nlink == 2
    backend.link(("c",), ("e",))
    assert backend.stat(("d", "b")) == backend.stat(("e",)) == backend.stat(("c",))
    assert backend.stat(("e",)).nlink == 3
    backend.rename(("d",), ("x",))
    assert contents(backend, ("x", "b")) == b"new!"
    assert contents(base, ("a",)) == contents(base, ("c",)) == b"old"


def test_an_unlinked_open_file_of_the_base_goes_on() -> None:
    base = MemoryBackend({"a": b"old"})
    backend = OverlayBackend(base)
    handle = backend.open(("a",), True)
    backend.remove(("a",))
    made = backend.create(("a",))
    made.write_from(0, b"another")
    assert handle.stat().nlink == 0
    handle.write_from(3, b"er")
    data = bytearray(5)
    assert handle.read_into(0, data) == 5
    assert data == b"older"
    assert contents(backend, ("a",)) == b"another"
    handle.close()
    made.close()
    assert contents(base, ("a",)) == b"old"


def test_to_open_for_writing_copies_nothing() -> None:
    backend = OverlayBackend(MemoryBackend({"a": bytes(100_000)}))
    handle = backend.open(("a",), True)
    assert backend.space.used_memory_bytes == 0
    handle.close()
    assert not backend.changed
    assert backend.entries() == ()


def test_of_a_large_file_only_the_pages_that_change_are_copied() -> None:
    backend = OverlayBackend(MemoryBackend({"a": bytes(range(256)) * (1 << 17)}))  # 32 MiB
    handle = backend.open(("a",), True)
    handle.write_from(5, b"x")
    handle.write_from(20 << 20, b"yy")
    assert backend.space.used_memory_bytes < 100_000
    data = bytearray(10)
    handle.read_into((20 << 20) - 4, data)
    assert data == bytes(range(252, 256)) + b"yy" + bytes(range(2, 6))
    handle.truncate(16 << 20)
    handle.truncate(17 << 20)
    handle.read_into((16 << 20) - 5, data)
    assert data == bytes(range(251, 256)) + bytes(5)
    handle.close()
    assert len(contents(backend, ("a",))) == 17 << 20


def test_a_large_file_of_which_a_part_was_copied_is_never_a_mixture() -> None:
    base = MemoryBackend({"a": bytes(2 << 20)})
    backend = OverlayBackend(base)
    handle = backend.open(("a",), True)
    handle.write_from(0, b"ours")
    other = base.open(("a",), True)
    other.write_from(1 << 20, b"theirs")
    other.close()
    assert errno_of(handle.read_into, 1 << 20, bytearray(10)) is Errno.STALE
    data = bytearray(4)
    handle.read_into(0, data)
    assert data == b"ours"
    assert errno_of(handle.write_from, 1 << 20, b"x") is Errno.STALE
    handle.close()
    assert errno_of(contents, backend, ("a",)) is Errno.STALE


def test_what_others_change_shows_where_nothing_was_changed_here() -> None:
    base = MemoryBackend({"d": {"a": b"old"}})
    backend = OverlayBackend(base)
    assert contents(backend, ("d", "a")) == b"old"
    base["d/a"] = b"newer"
    base["d/b"] = b"more"
    assert contents(backend, ("d", "a")) == b"newer"
    assert {entry.name for entry in backend.list(("d",))} == {"a", "b"}


def test_a_directory_of_a_hundred_thousand_names_is_renamed_without_looking_at_them() -> None:
    class Counting(MemoryBackend):
        asked = 0

        def list(self, key: tuple[str, ...]) -> Any:
            Counting.asked += 1
            return super().list(key)

    backend = OverlayBackend(Counting({"d": {f"f{number}": b"" for number in range(100_000)}}))
    backend.rename(("d",), ("e",))
    assert Counting.asked == 0
    assert backend.stat(("e", "f99999")).filetype is FileType.REGULAR_FILE
    (entry,) = backend.entries()
    assert (entry.kind, entry.path, entry.old_path) == ("renamed", "e", "d")


def test_numbers_of_new_objects_are_the_same_every_time_and_others_in_every_layer() -> None:
    def made() -> tuple[int | None, int | None]:
        below = OverlayBackend(MemoryBackend())
        below.mkdir(("a",))
        above = OverlayBackend(below)
        above.mkdir(("b",))
        return above.stat(("a",)).ident, above.stat(("b",)).ident

    assert made() == made()
    assert len(set(made())) == 2


def test_a_store_of_others_may_hide_an_overlay() -> None:
    class Theirs(Backend):
        def __init__(self, hidden: Backend) -> None:
            self._hidden = hidden
            self.caps = hidden.caps
            self.stat, self.walk, self.list = hidden.stat, hidden.walk, hidden.list  # type: ignore[method-assign]

    below = OverlayBackend(MemoryBackend())
    below.mkdir(("a",))
    above = OverlayBackend(Theirs(below))
    above.mkdir(("b",))
    assert above.stat(("a",)).ident != above.stat(("b",)).ident
