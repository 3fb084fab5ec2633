"""Somebody else changes the directory below an overlay: what was made here stays, and nothing is ever a mixture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vfswasi import LocalBackend
from vfswasi.errors import Errno
from vfswasi.fs_backends.layers.checked import Checked
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.testing.ground import contents, errno_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "d" / "e").mkdir(parents=True)
    (made / "d" / "e" / "f").write_bytes(b"first")
    (made / "g").write_bytes(b"gg")
    return made


@pytest.fixture(params=["plain", "checked"])
def overlay(request: pytest.FixtureRequest, root: Path) -> OverlayBackend:
    base = LocalBackend(root)
    return OverlayBackend(Checked(base) if request.param == "checked" else base, close_base=True)


def _write(overlay: OverlayBackend, *key: str) -> None:
    handle = overlay.open(key, True)
    handle.write_from(0, b"OURS")
    handle.close()


def _replace(path: Path) -> None:
    """As editors do."""
    (path.parent / "new").write_bytes(b"theirs, and longer")
    os.replace(path.parent / "new", path)


def _remove_all(path: Path) -> None:
    shutil.rmtree(path.parent.parent)


def _make_directory(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


def _make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


CHANGES = [_replace, _remove_all, _make_directory, _make_link, Path.unlink, lambda path: path.write_bytes(b"in place")]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_written_stays_whatever_is_put_in_its_place(
    overlay: OverlayBackend, root: Path, change: Callable[[Path], None]
) -> None:
    _write(overlay, "d", "e", "f")
    before = overlay.stat(("d", "e", "f"))
    change(root / "d" / "e" / "f")
    assert contents(overlay, ("d", "e", "f")) == b"OURSt"
    assert overlay.stat(("d", "e", "f")) == before == overlay.walk((), ("d", "e", "f"))[1]
    if change is not _remove_all:
        assert [entry.name for entry in overlay.list(("d", "e"))].count("f") == 1
    (entry,) = overlay.entries()
    assert (entry.kind, entry.path) == ("modified", "d/e/f")
    overlay.rename(("d", "e", "f"), ("h",))
    assert contents(overlay, ("h",)) == b"OURSt"
    overlay.close()


@pytest.mark.parametrize("change", CHANGES)
def test_a_renamed_file_that_was_not_written_is_the_one_of_the_base_or_stale(
    overlay: OverlayBackend, root: Path, change: Callable[[Path], None]
) -> None:
    overlay.rename(("d", "e", "f"), ("h",))
    change(root / "d" / "e" / "f")
    if change in (_replace, CHANGES[-1]):
        assert contents(overlay, ("h",)) == (root / "d" / "e" / "f").read_bytes()
    else:
        assert errno_of(overlay.open, ("h",), False) is Errno.STALE
        assert errno_of(overlay.stat, ("h",)) is Errno.STALE
    overlay.close()


def test_a_file_that_gets_the_number_of_another_is_not_that_one(overlay: OverlayBackend, root: Path) -> None:
    _write(overlay, "g")
    number = overlay.stat(("g",)).ident
    os.rename(root / "g", root / "old")
    for _ in range(200):  # until the number comes again
        (root / "old").unlink(missing_ok=True)
        (root / "fresh").write_bytes(b"another")
        if overlay.base.stat(("fresh",)).ident == number:
            break
        os.rename(root / "fresh", root / "old")
    else:
        pytest.skip("this file system does not give a number twice so soon")
    assert contents(overlay, ("fresh",)) == b"another"
    assert contents(overlay, ("g",)) == b"OURS"
    assert overlay.stat(("fresh",)).ident != overlay.stat(("g",)).ident
    _write(overlay, "fresh")
    assert contents(overlay, ("fresh",)) == b"OURSher"
    assert contents(overlay, ("g",)) == b"OURS"
    overlay.close()


def test_a_file_that_is_open_goes_on_and_keeps_its_name(overlay: OverlayBackend, root: Path) -> None:
    handle = overlay.open(("d", "e", "f"), True)
    _replace(root / "d" / "e" / "f")
    data = bytearray(9)
    assert handle.read_into(0, data) == 5
    handle.write_from(5, b"!")
    assert handle.read_into(0, data) == 6
    assert data[:6] == b"first!"
    handle.close()
    assert contents(overlay, ("d", "e", "f")) == b"first!"
    overlay.close()
