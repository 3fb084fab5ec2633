"""Changes applied to archives: one new archive, in one step."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vfswasi.errors import ConflictError
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import Mount

from . import model

BASE: model.Tree = {"a": b"a", "b": b"b", "dir": {"x": b"x", "y": b"y"}, "gone": {"z": b"z"}}
ENTRIES = [
    model.renamed(BASE, "a", "b"),
    model.renamed(BASE, "b", "a"),
    model.modified(BASE, "dir/x", b"new"),
    model.added("dir/new", {}),
    model.added("dir/new/in", b"in"),
    model.removed(BASE, "gone"),
]
AFTER: model.Tree = {"a": b"b", "b": b"a", "dir": {"x": b"new", "y": b"y", "new": {"in": b"in"}}}


@pytest.fixture(params=["zip", "tar", "gztar"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return shutil.make_archive(str(tmp_path / "made"), request.param, model.fill(tmp_path / "tree", BASE))


def read(source: Any) -> model.Tree:
    backend = open_source(source)
    try:
        return model.tree_in(backend)
    finally:
        backend.close()


@pytest.mark.parametrize("spelled", [str, Path, lambda path: Mount(path)])
def test_the_changes_are_made(archive: str, spelled: Any) -> None:
    told: list[tuple[int, int]] = []
    model.changes(*ENTRIES).apply(spelled(archive), progress=lambda done, total: told.append((done, total)))
    assert read(archive) == AFTER
    assert told
    model.changes(*ENTRIES).apply(spelled(archive))  # everything is there already
    assert read(archive) == AFTER
    assert {path.name for path in Path(archive).parent.iterdir()} == {Path(archive).name, "tree"}


def test_a_conflict_leaves_the_archive_as_it_is(archive: str) -> None:
    before = Path(archive).read_bytes()
    with pytest.raises(ConflictError) as raised:
        model.changes(*ENTRIES, model.added("dir/y", b"is there")).apply(archive)
    assert list(raised.value.conflicts) == ["dir/y"]
    assert Path(archive).read_bytes() == before


def test_a_directory_in_an_archive_may_be_meant(archive: str) -> None:
    entry = model.modified(BASE["dir"], "x", b"1")
    kind = "zip" if zipfile.is_zipfile(archive) else "tar"
    for target in (Mount(archive, root="dir"), f"{kind}://dir::{archive}"):
        model.changes(entry).apply(target)
        assert read(archive)["dir"] == {"x": b"1", "y": b"y"}
        model.changes(model.modified({"x": b"1"}, "x", b"x")).apply(target)
    with pytest.raises(ConflictError) as raised:
        model.changes(model.modified(BASE["dir"], "y", b"1"), model.added("x", b"")).apply(Mount(archive, root="dir"))
    assert list(raised.value.conflicts) == ["x"]
