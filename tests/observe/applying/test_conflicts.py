"""The target is not what the changes were made on: all of it is found, by path, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vfswasi import MemoryBackend
from vfswasi.errors import ConflictError
from vfswasi.fs_backends.base import FileType
from vfswasi.fs_backends.layers.overlay.entries import Entry, Was
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.observe.changes import Changes

from . import model

BASE: model.Tree = {
    "edited": b"old contents",
    "kept": b"as it is",
    "gone": b"is removed",
    "tree": {"x": b"1", "sub": {"y": b"2", "link": "../x"}},
    "old": b"is renamed",
    "way": {"edited": b"old contents below"},
    "link": "edited",
    "dir": {"in": b"it"},
}


FILE = Was(FileType.REGULAR_FILE)


def entries() -> list[Entry]:
    return [
        model.modified(BASE, "edited", b"new contents"),
        model.removed(BASE, "gone"),
        model.removed(BASE, "tree"),
        model.renamed(BASE, "old", "new"),
        model.modified(BASE, "way/edited", b"new contents below"),
        model.removed(BASE, "link"),
        model.added("added", b"new"),
        model.added("way/added", b"new"),
        model.renamed(BASE, "dir", "moved"),
        Entry("attributes", "kept", FileType.REGULAR_FILE, was=model.was(BASE["kept"]), mtim_ns=10**18),
    ]


def rewritten(path: Path, data: bytes) -> None:
    """In place, of whatever size, and its times are what they were."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_changed(path: Path) -> None:
    path.unlink()
    path.symlink_to("edjted")


# What somebody does to the target -> where the conflict is.
TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "edited, longer": (lambda place: rewritten(place / "edited", b"somebody's contents"), "edited"),
    "edited, same size and time": (lambda place: rewritten(place / "edited", b"OLD contents"), "edited"),
    "removed, which was edited": (lambda place: (place / "edited").unlink(), "edited"),
    "a directory now": (lambda place: replaced_by_directory(place / "edited"), "edited"),
    "a link now": (lambda place: replaced_by_link(place / "edited"), "edited"),
    "removed is edited": (lambda place: rewritten(place / "gone", b"IS removed"), "gone"),
    "removed below is edited": (lambda place: rewritten(place / "tree/sub/y", b"3"), "tree/sub/y"),
    "removed below has more": (lambda place: (place / "tree/sub/z").write_bytes(b""), "tree/sub/z"),
    "removed below has less": (lambda place: (place / "tree/x").unlink(), "tree/x"),
    "removed below leads elsewhere": (lambda place: link_changed(place / "tree/sub/link"), "tree/sub/link"),
    "removed is a link now": (lambda place: replaced_by_link(place / "tree"), "tree"),
    "renamed is edited": (lambda place: rewritten(place / "old", b"IS renamed"), "old"),
    "renamed is gone": (lambda place: (place / "old").unlink(), "old"),
    "a removed link leads elsewhere": (lambda place: link_changed(place / "link"), "link"),
    "added is there": (lambda place: (place / "added").write_bytes(b"somebody's"), "added"),
    "added is there, the same": (lambda place: (place / "added").write_bytes(b"new"), "added"),
    "added is a link": (lambda place: (place / "added").symlink_to("nowhere"), "added"),
    "new name is there": (lambda place: (place / "new").mkdir(), "new"),
    "its directory is a link": (lambda place: replaced_by_link(place / "way"), "way/edited"),
    "its directory is gone": (lambda place: (place / "way").rename(place / "off"), "way/added"),
    "its directory is a file": (
        lambda place: ((place / "way").rename(place / "off"), (place / "way").write_bytes(b"")),
        "way/edited",
    ),
    "a renamed directory is a file": (
        lambda place: ((place / "dir").rename(place / "off"), (place / "dir").write_bytes(b"")),
        "dir",
    ),
    "attributes of what is edited": (lambda place: rewritten(place / "kept", b"AS it is"), "kept"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return model.fill(tmp_path / "place", BASE)


def recorded(place: Path, entry: Entry) -> Entry:
    """As an overlay on `place` records it, which reads no contents."""
    backend = LocalBackend(place)
    try:

        def look(path: str, was: Was) -> Was:
            key = tuple(path.split("/"))
            found = backend.stat(key)
            below = {name: look(f"{path}/{name}", other) for name, other in was.below.items()}
            version = backend.version(key) if found.filetype is FileType.REGULAR_FILE else None
            return Was(found.filetype, found.size, found.mtim_ns, found.ident, None, below, version)

        return entry if entry.was is None else replace(entry, was=look(entry.old_path or entry.path, entry.was))
    finally:
        backend.close()


@pytest.mark.parametrize("how", ["by digests", "on the base itself", "beside the base", "in memory"])
@pytest.mark.parametrize("what", TAMPERED)
def test_what_somebody_did_is_found_and_nothing_is_written(what: str, how: str, place: Path, tmp_path: Path) -> None:
    tamper, where = TAMPERED[what]
    target: Any = place
    made = entries()
    changes = model.changes(*made)
    if how == "on the base itself":
        changes, target = model.changes(*(recorded(place, entry) for entry in made), base=place), None
    elif how == "beside the base":
        base = model.fill(tmp_path / "base", BASE)
        changes = model.changes(*(recorded(base, entry) for entry in made), base=base)
    tamper(place)
    before = model.tree_at(place)
    if how == "in memory":
        target = model.memory(before)
    with pytest.raises(ConflictError) as raised:
        changes.apply(target)
    assert where in raised.value.conflicts
    assert where in str(raised.value)
    assert (model.tree_in(target) if how == "in memory" else model.tree_at(place)) == before


def test_all_of_it_is_told_at_once(place: Path) -> None:
    for what in ("edited, longer", "removed below has more", "renamed is gone", "added is there"):
        TAMPERED[what][0](place)
    with pytest.raises(ConflictError) as raised:
        model.changes(*entries()).apply(place)
    assert set(raised.value.conflicts) == {"edited", "tree/sub/z", "old", "added"}


@pytest.mark.parametrize("how", ["by digests", "on the base itself", "beside the base"])
def test_without_conflicts_it_is_done(how: str, place: Path, tmp_path: Path) -> None:
    made = entries()
    changes, target = model.changes(*made), place
    if how == "on the base itself":
        changes = model.changes(*(recorded(place, entry) for entry in made), base=place)
    elif how == "beside the base":
        base = model.fill(tmp_path / "base", BASE)
        changes = model.changes(*(recorded(base, entry) for entry in made), base=base)
    changes.apply(None if how == "on the base itself" else target)
    assert model.tree_at(place) == {
        "edited": b"new contents",
        "kept": b"as it is",
        "new": b"is renamed",
        "way": {"edited": b"new contents below", "added": b"new"},
        "added": b"new",
        "moved": {"in": b"it"},
    }
    assert (place / "kept").stat().st_mtime_ns == 10**18


def test_what_was_not_recorded_and_cannot_be_looked_up_is_a_conflict(place: Path) -> None:
    entry = model.modified(BASE, "edited", b"new")
    entry = replace(entry, was=Was(FileType.REGULAR_FILE, len(BASE["edited"])))
    for base in (None, place / "nowhere"):
        with pytest.raises(ConflictError, match="cannot be known") as raised:
            model.changes(entry, base=base).apply(place)
        assert list(raised.value.conflicts) == ["edited"]


def test_a_base_that_has_changed_proves_nothing(place: Path, tmp_path: Path) -> None:
    """Both were edited in the same way: they are equal, and are not what the changes were made on."""
    base = model.fill(tmp_path / "base", BASE)
    changes = model.changes(recorded(base, model.modified(BASE, "edited", b"new")), base=base)
    for directory in (base, place):
        rewritten(directory / "edited", b"OLD contents")
    with pytest.raises(ConflictError, match="has changed"):
        changes.apply(place)


def test_a_store_whose_times_alone_tell(place: Path) -> None:
    """Without versions, numbers and digests: the base's time and size, and only where the base is the target."""
    store = model.memory(BASE)
    found = store.stat(("edited",))
    was = Was(FileType.REGULAR_FILE, found.size, found.mtim_ns, found.ident)
    changes = model.changes(replace(model.modified(BASE, "edited", b"new"), was=was), base=store)
    with pytest.raises(ConflictError):
        changes.apply(model.memory(BASE | {"edited": b"OLD contents"}))
    changes.apply()
    assert store.read_bytes("edited") == b"new"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([model.added("../out", b"")], "no target can have"),
        ([model.added("a//b", b"")], "no target can have"),
        ([model.added("", b"")], "no target can have"),
        ([model.added("a/./b", b"")], "no target can have"),
        ([model.added("/abs", b"")], "no target can have"),
        ([model.added("/".join("d" * 3000), b"")], "more than 2,048 names"),
        ([model.renamed(BASE, "old", "x/../../y")], "no target can have"),
        ([replace(model.modified(BASE, "edited", b""), old_path="../edited")], "no target can have"),
        ([model.removed(BASE, "dir", was=Was(FileType.DIRECTORY, below={"../x": FILE}))], "no target can have"),
        ([model.added(".vfswasi-apply-x", {})], "is kept"),
        ([model.added("a", b""), model.added("a", b"")], "twice"),
        ([model.removed(BASE, "dir"), model.added("dir/x", b"")], "no directory"),
        ([model.renamed(BASE, "dir", "dir/x")], "no directory"),
        ([model.added("x", b""), model.added("x/y", b"")], "no directory"),
        ([replace(model.modified(BASE, "edited", b"new"), old_path="kept")], "somewhere else"),
        ([model.removed(BASE, "edited"), model.modified(BASE, "edited", b"new")], "it is gone"),
        ([replace(model.added("a", b"x"), content=None)], "not known"),
        ([replace(model.added("a", b"x"), size=2)], "another size"),
        ([replace(model.added("a", "x"), target=None)], "a link to nothing"),
        ([model.added("a", b"", link_to="b"), model.added("b", b"", link_to="a")], "another name of itself"),
        ([model.removed(BASE, "gone"), model.added("a", b"", link_to="gone")], "not there"),
        ([replace(model.removed(BASE, "gone"), was=None)], "not known"),
    ],
)
def test_changes_that_no_run_makes_are_refused(wrong: list[Entry], why: str, place: Path) -> None:
    for target in (place, MemoryBackend()):
        with pytest.raises(ConflictError, match=why):
            Changes(wrong).apply(target)
    assert model.tree_at(place) == BASE


def test_everything_being_there_already_is_no_conflict(place: Path) -> None:
    changes = model.changes(*entries())
    changes.apply(place)
    after = model.tree_at(place)
    changes.apply(place)
    assert model.tree_at(place) == after
    (place / "added").write_bytes(b"NEW")  # but all of it has to be
    with pytest.raises(ConflictError):
        changes.apply(place)
