"""Several names of one file, or of one link, in the base: what an overlay says of them, and what it makes of that."""

from __future__ import annotations

from vfswasi.errors import Errno
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.testing.ground import contents, errno_of

from .test_model import Layer, tree_of


def _base() -> MemoryBackend:
    base = MemoryBackend({"a": b"old", "d": {}})
    base.link(("a",), ("b",))
    base.link(("a",), ("d", "c"))
    return base


def _again(backend: OverlayBackend) -> OverlayBackend:
    return OverlayBackend(backend.base, Layer(backend.entries()), private=True)


def _write(backend: OverlayBackend, name: str, data: bytes) -> None:
    handle = backend.create((name,))
    handle.write_from(0, data)
    handle.close()


def test_a_new_file_at_the_place_of_one_of_several_names_is_another_file() -> None:
    backend = OverlayBackend(_base())
    backend.remove(("a",))
    _write(backend, "a", b"new")
    assert [(entry.kind, entry.path) for entry in backend.entries()] == [("removed", "a"), ("added", "a")]
    again = _again(backend)
    assert tree_of(again) == tree_of(backend)
    assert contents(again, ("b",)) == b"old"


def test_several_names_that_were_removed_count() -> None:
    backend = OverlayBackend(_base())
    backend.remove(("a",))
    backend.remove(("d", "c"))
    assert backend.stat(("b",)).nlink == _again(backend).stat(("b",)).nlink == 1


def test_names_that_went_with_their_directory_count() -> None:
    backend = OverlayBackend(_base())
    backend.remove(("d", "c"))
    backend.rmdir(("d",))
    assert [(entry.kind, entry.path) for entry in backend.entries()] == [("removed", "d")]
    assert backend.stat(("b",)).nlink == _again(backend).stat(("b",)).nlink == 2


def test_all_names_of_a_link_know_how_many_there_are() -> None:
    base = MemoryBackend()
    base.symlink("target", ("a",))
    base.link(("a",), ("b",))
    backend = OverlayBackend(base)
    backend.link(("a",), ("c",))
    assert [backend.stat((name,)).nlink for name in "abc"] == [3, 3, 3]
    backend.remove(("b",))
    assert [backend.walk((), (name,))[1].nlink for name in "ac"] == [2, 2]  # type: ignore[union-attr]
    backend.rename(("c",), ("d",))
    backend.remove(("a",))
    assert backend.stat(("d",)).nlink == 1
    assert base.stat(("a",)).nlink == 2


def test_the_change_time_follows_renames_and_links_of_what_the_base_has() -> None:
    backend = OverlayBackend(_base())
    before = backend.stat(("a",)).ctim_ns
    backend.rename(("a",), ("z",))
    moved = backend.stat(("z",)).ctim_ns
    backend.link(("z",), ("y",))
    linked = backend.stat(("b",)).ctim_ns
    assert before < moved < linked  # type: ignore[operator]
    assert backend.stat(("z",)).mtim_ns == backend.base.stat(("a",)).mtim_ns


def test_new_files_at_the_places_of_all_names_are_several_files() -> None:
    backend = OverlayBackend(_base())
    for name in "ab":
        backend.remove((name,))
    backend.remove(("d", "c"))
    _write(backend, "a", b"new a")
    _write(backend, "b", b"new b")
    assert tree_of(_again(backend)) == tree_of(backend)


def test_a_rename_that_fails_or_changes_nothing_leaves_nothing_behind() -> None:
    backend = OverlayBackend(MemoryBackend({"a": b"a", "b": b"b", "d": {"x": b"x"}}), private=True)
    for old, new in (("a", "d"), ("d", "b"), ("a", "a")):
        if old != new:
            assert errno_of(backend.rename, (old,), (new,)) in (Errno.ISDIR, Errno.NOTDIR)
        else:
            backend.rename((old,), (new,))
    backend.rename(("a",), ("c",))
    backend.rename(("c",), ("a",))
    assert backend._tree.files == {}
    assert not backend.changed
