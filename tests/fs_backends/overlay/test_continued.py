"""Contents of changes: of an overlay that began with changes they lie on those; later ones are not taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfswasi import Changes, FsError, MemoryBackend
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.layers.overlay.entries import Content

SIZE = 3 << 20  # of which only the pages that are written to are copied


def _write(backend: Backend, name: str, at: int, data: bytes) -> None:
    handle = backend.open((name,), True)
    handle.write_from(at, data)
    handle.close()


def _bytes(content: Content | None) -> bytes:
    assert content is not None
    handle = content.open()
    data = bytearray(content.size + 1)
    count = handle.read_into(0, data)
    handle.close()
    return bytes(data[:count])


def _first(base: Backend) -> OverlayBackend:
    overlay = OverlayBackend(base)
    _write(overlay, "old", 0, b"1" * SIZE)
    _write(overlay, "moved", 0, b"1" * SIZE)
    overlay.rename(("moved",), ("away",))
    overlay.create(("new",)).close()
    _write(overlay, "new", 0, b"1" * SIZE)
    _write(overlay, "patched", 1 << 20, b"1")  # the rest is the base's
    return overlay


NAMES = ("old", "away", "new", "patched")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_large_file_that_is_written_to_again_keeps_what_was_written_before(name: str, depth: int) -> None:
    base = MemoryBackend({"old": b"0" * SIZE, "moved": b"0" * SIZE, "patched": b"0" * SIZE})
    changes = Changes(_first(base).entries())
    expected = bytearray(b"1" * SIZE)
    if name == "patched":
        expected = bytearray(b"0" * SIZE)
        expected[1 << 20] = ord("1")
    for layer in range(depth):
        overlay = OverlayBackend(base, changes)
        place = 100_000 * layer
        _write(overlay, name, place, b"again")
        expected[place : place + 5] = b"again"
        before, changes = changes, Changes(overlay.entries())
        overlay.close()
    found = next(entry for entry in changes.entries if entry.path == name and entry.content is not None)
    assert _bytes(found.content) == expected
    kept = next(entry for entry in before.entries if entry.path == name and entry.content is not None)
    assert _bytes(kept.content) != expected


@pytest.mark.parametrize("name", NAMES)
def test_the_same_of_a_copy_and_after_it_was_made_shorter(name: str) -> None:
    base = MemoryBackend({"old": b"0" * SIZE, "moved": b"0" * SIZE, "patched": b"0" * SIZE})
    overlay = OverlayBackend(base, Changes(_first(base).entries()))
    handle = overlay.open((name,), True)
    handle.write_from(5, b"again")
    handle.truncate(2 << 20)
    handle.write_from(SIZE - 1, b"e")
    whole = bytearray(SIZE)
    assert handle.read_into(0, whole) == SIZE
    handle.close()
    copied = overlay.copy()
    _write(overlay, name, 0, b"later")
    found = next(entry for entry in copied.entries() if entry.path == name and entry.content is not None)
    assert _bytes(found.content) == whole


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("keep", [True, False])
def test_changes_of_an_archive_keep_their_contents_when_it_is_written_or_not(
    kind: str, keep: bool, tmp_path: Path
) -> None:
    archive = WritableArchive(tmp_path / f"a.{kind}")
    archive.create(("old",)).close()
    archive.commit()
    handle = archive.open(("old",), True)
    handle.write_from(0, b"old")
    new = archive.create(("new",))
    new.write_from(0, b"new")
    changes = Changes(archive.entries())
    archive.finish(keep)
    for name in ("old", "new"):
        assert changes.read_bytes(name) == name.encode()
    new.write_from(3, b"er")
    assert new.size() == 5
    if keep:  # else nothing was copied, and the open file has the same bytes
        assert changes.read_bytes("new") == b"new"
    archive.close()


@pytest.mark.parametrize("how", ["longer", "shorter", "gone"])
def test_contents_of_a_file_that_was_written_to_since_are_an_error(how: str) -> None:
    overlay = OverlayBackend(MemoryBackend({"a": b"a"}))
    _write(overlay, "a", 0, b"first")
    changes = Changes(overlay.entries())
    if how == "gone":
        overlay.remove(("a",))
    else:
        handle = overlay.open(("a",), True)
        handle.truncate(9 if how == "longer" else 2)
        handle.close()
    with pytest.raises(FsError) as caught:
        changes.read_bytes("a")
    assert caught.value.errno is Errno.STALE
