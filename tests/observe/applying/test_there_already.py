"""What is as the changes leave it is not applied again; what only looks so is a conflict."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vfswasi.errors import ConflictError
from vfswasi.fs_backends.base import FileType
from vfswasi.fs_backends.layers.overlay.entries import Entry

from . import model
from .test_conflicts import recorded

BASE: model.Tree = {"a": b"old", "dir": {"x": b"x"}, "link": "old"}

MADE: dict[str, Entry] = {
    "renamed": model.renamed(BASE, "a", "b"),
    "a renamed link": model.renamed(BASE, "link", "b"),
    "a renamed directory": model.renamed(BASE, "dir", "b"),
    "another name": model.added("b", b"old", link_to="a"),
    "attributes": Entry("attributes", "a", FileType.REGULAR_FILE, was=model.was(b"old"), size=3, mtim_ns=10**18),
    "new": model.added("b", b"new"),
    "a new link": model.added("b", "old"),
}


def changes_of(what: str, how: str, place: Path, tmp_path: Path) -> Any:
    entry = MADE[what]
    if how == "by digests":
        return model.changes(entry), place
    if how == "on the base itself":
        return model.changes(recorded(place, entry), base=place), None
    base = model.fill(tmp_path / "base", BASE)
    return model.changes(recorded(base, entry), base=base), place


HOW = ["by digests", "on the base itself", "beside the base"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("what", MADE)
def test_what_was_applied_may_be_applied_again(what: str, how: str, tmp_path: Path) -> None:
    place = model.fill(tmp_path / "place", BASE)
    changes, target = changes_of(what, how, place, tmp_path)
    changes.apply(target)
    after = model.tree_at(place)
    assert after != BASE or what == "attributes"
    changes.apply(target)
    assert model.tree_at(place) == after


def gone_and(path: Path, gone: str, node: Any) -> None:
    """Somebody else has moved `gone` away, and put something at b."""
    (path / gone).rename(path.parent / "elsewhere")
    _put(path / "b", node)


def _put(path: Path, node: Any) -> None:
    if isinstance(node, dict):
        path.mkdir()
    elif isinstance(node, str):
        path.symlink_to(node)
    else:
        path.write_bytes(node)


def edited(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(2 * 10**18, 2 * 10**18))


LOOKS_SO: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("renamed", "of the same size", lambda place: gone_and(place, "a", b"xyz")),
    ("renamed", "of another size", lambda place: gone_and(place, "a", b"xyzz")),
    ("a renamed link", "of the same size", lambda place: gone_and(place, "link", "xyz")),
    ("another name", "of the same size", lambda place: _put(place / "b", b"xyz")),
    ("another name", "of another size", lambda place: _put(place / "b", b"something else")),
    ("attributes", "longer", lambda place: edited(place / "a", b"EDITED by user")),
    ("attributes", "of the same size", lambda place: edited(place / "a", b"xyz")),
    ("new", "of the same size", lambda place: _put(place / "b", b"xyz")),
    ("a new link", "of the same size", lambda place: _put(place / "b", "xyz")),
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("what", "which", "tamper"), LOOKS_SO)
def test_what_only_looks_so_is_a_conflict(
    what: str, which: str, tamper: Callable[[Path], Any], how: str, tmp_path: Path
) -> None:
    place = model.fill(tmp_path / "place", BASE)
    changes, target = changes_of(what, how, place, tmp_path)
    tamper(place)
    before, times = model.tree_at(place), {path: path.lstat().st_mtime_ns for path in place.iterdir()}
    with pytest.raises(ConflictError):
        changes.apply(target)
    assert model.tree_at(place) == before
    assert {path: path.lstat().st_mtime_ns for path in place.iterdir()} == times


def test_another_directory_at_the_new_name_of_one_is_a_conflict_on_the_base_itself(tmp_path: Path) -> None:
    place = model.fill(tmp_path / "place", BASE)
    changes, target = changes_of("a renamed directory", "on the base itself", place, tmp_path)
    gone_and(place, "dir", {})
    with pytest.raises(ConflictError):
        changes.apply(target)


def test_no_times_are_set_where_there_is_nothing_to_do(tmp_path: Path) -> None:
    place = model.fill(tmp_path / "place", BASE)
    changes = model.changes(replace(MADE["new"], mtim_ns=10**18))
    changes.apply(place)
    os.utime(place / "b", ns=(7, 7))
    changes.apply(place)
    assert (place / "b").stat().st_mtime_ns == 7
