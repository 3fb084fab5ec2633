"""What an overlay holds goes with the last that refers to it, at once."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

from vfswasi import LocalBackend, MemoryBackend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend


def test_the_temporary_file_goes_with_the_last_reference(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3 << 20))
    (tmp_path / "b").write_bytes(b"b")
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        base = LocalBackend(tmp_path)
        overlay = OverlayBackend(base, memory_bytes=0, close_base=True)
        for name in "ab":
            handle = overlay.open((name,), True)
            handle.read_into(0, bytearray(1))
            handle.write_from(0, b"x")
            handle.close()
        made = overlay.create(("c",))
        made.write_from(0, b"c")
        made.close()
        overlay.rename(("b",), ("d",))
        overlay.remove(("c",))
        space = weakref.ref(overlay.space)
        (changed, *_rest) = (entry.content for entry in overlay.entries() if entry.path == "a")
        overlay.close()
        del overlay, handle, made, base
        assert space() is not None  # the contents need it
        assert getattr(changed, "size", 0) == 3 << 20
        del changed, _rest
        assert space() is None
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_a_closed_handle_keeps_nothing() -> None:
    overlay = OverlayBackend(MemoryBackend({"a": b"a"}))
    handle = overlay.open(("a",), True)
    handle.write_from(0, b"b")
    gone = weakref.ref(handle)
    handle.close()
    gc.disable()
    try:
        del handle
        assert gone() is None
    finally:
        gc.enable()


def test_what_was_only_reserved_is_not_read() -> None:
    overlay = OverlayBackend(MemoryBackend({"a": b"a"}))
    handle = overlay.open(("a",), True)
    handle.write_from(1, b"b")
    for end in (100, 0):
        handle.reserve(0, end)
        data = bytearray(5)
        assert handle.read_into(0, data) == 2
        assert handle.read_into(2, data) == 0
    handle.write_from(2, b"c")
    assert handle.read_into(0, data) == 3
    handle.close()
