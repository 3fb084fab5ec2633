"""A file that is open for reading only, and then something becomes of it: the handle is that of the file, as on any
store, whether the overlay thought of it as one before or not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

from vfswasi import FsError, MemoryBackend
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Handle
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend

BEFORE = b"before"


def tree() -> MemoryBackend:
    return MemoryBackend({"d": {"f": BEFORE, "g": b"other"}, "e": {}})


def read(handle: Handle) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: handle.read_into(0, buffer)])


@pytest.fixture(params=[False, True], ids=["base-of-others", "base-of-its-own"])
def overlay(request: pytest.FixtureRequest) -> OverlayBackend:
    return OverlayBackend(tree(), private=request.param)


F, G = ("d", "f"), ("d", "g")


def written(overlay: OverlayBackend) -> None:
    handle = overlay.open(F, True)
    handle.write_from(0, b"AFTER!")
    handle.close()


def shorter(overlay: OverlayBackend) -> None:
    handle = overlay.open(F, True)
    handle.truncate(2)
    handle.close()


def replaced(overlay: OverlayBackend) -> None:
    overlay.rename(G, F)


def moved_and_written(overlay: OverlayBackend) -> None:
    overlay.rename(("d",), ("moved",))
    handle = overlay.open(("moved", "f"), True)
    handle.write_from(0, b"AFTER!")
    handle.close()


@pytest.mark.parametrize(
    ("happens", "contents", "links"),
    [
        (written, b"AFTER!", 1),
        (shorter, b"be", 1),
        (moved_and_written, b"AFTER!", 1),
        (replaced, BEFORE, 0),
        (lambda overlay: overlay.remove(F), BEFORE, 0),
        (lambda overlay: overlay.rename(F, ("e", "x")), BEFORE, 1),
        (lambda overlay: overlay.link(F, ("e", "x")), BEFORE, 2),
        (lambda overlay: overlay.set_times(F, 1, 2), BEFORE, 1),
    ],
    ids=["written", "cut", "moved, written", "replaced", "removed", "renamed", "linked", "dated"],
)
@pytest.mark.parametrize("handles", [1, 2])
def test_an_open_file_is_seen_as_it_becomes(
    overlay: OverlayBackend, happens: Callable[[OverlayBackend], None], contents: bytes, links: int, handles: int
) -> None:
    opened = [overlay.open(F, False) for _ in range(handles)]
    ident = opened[0].ident()
    happens(overlay)
    for handle in opened:
        assert read(handle) == contents
        assert handle.size() == len(contents)
        assert (handle.stat().size, handle.stat().nlink) == (len(contents), links)
        assert handle.ident() == handle.stat().ident == ident
        handle.close()


def test_times_that_are_set_through_it_are_the_files(overlay: OverlayBackend) -> None:
    handle = overlay.open(F, False)
    handle.set_times(5, 7)
    handle.close()
    assert (overlay.stat(F).atim_ns, overlay.stat(F).mtim_ns) == (5, 7)
    assert [(entry.kind, entry.path) for entry in overlay.entries()] == [("attributes", "d/f")]


def test_it_cannot_be_written_through(overlay: OverlayBackend) -> None:
    handle = overlay.open(F, False)
    writes: list[Callable[[], object]] = [
        lambda: handle.write_from(0, b"x"),
        lambda: handle.append(b"x"),
        lambda: handle.truncate(0),
        lambda: handle.allocate(0, 100),
    ]
    for write in writes:
        with pytest.raises(FsError) as caught:
            write()
        assert caught.value.errno is Errno.ROFS
    assert not handle.reserve(0, 100)
    assert not overlay.changed
    handle.close()


def test_nothing_is_kept_of_it_when_it_is_closed(overlay: OverlayBackend) -> None:
    gc.disable()
    try:
        for meet in (lambda: None, lambda: overlay.open(F, False).close()):
            handle = overlay.open(F, False)
            gone = weakref.ref(handle)
            meet()
            handle.close()
            del handle
            assert gone() is None
            assert not overlay._tree.files
            assert not overlay._tree.readers
    finally:
        gc.enable()


def test_the_bases_handle_is_closed_once(overlay: OverlayBackend) -> None:
    for ends in (lambda handle: handle.close(), lambda handle: (overlay.close(), handle.close())):
        base = overlay.base
        assert isinstance(base, MemoryBackend)
        node = base._find(F)
        handle = overlay.open(F, False)
        assert node.handles == 1  # type: ignore[attr-defined]
        ends(handle)
        assert node.handles == 0  # type: ignore[attr-defined]


def test_another_file_of_the_same_number_is_another_file() -> None:
    """Somebody removes the open file from the base, and the number goes to a new one."""
    base = tree()
    overlay = OverlayBackend(base)
    handle = overlay.open(F, False)
    ident = handle.ident()
    base.remove(F)
    base._next = ident or 0
    base.create(("d", "new")).close()
    assert base.stat(("d", "new")).ident == ident
    assert overlay.walk((), ("d", "new"))[1].ident != ident  # type: ignore[union-attr]
    assert handle.ident() == ident
    assert read(handle) == BEFORE
    handle.close()
