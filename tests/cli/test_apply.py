"""`vfswasi apply`: saved changes, made in a directory or an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfswasi.cli import progress

from ..observe.applying import model
from .running import refused, vfswasi

BASE: model.Tree = {"edited": b"old", "gone": {"x": b"x"}, "a,b": b""}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model.fill(tmp_path / "place", BASE)
    made = model.changes(
        model.modified(BASE, "edited", b"new"), model.removed(BASE, "gone"), model.added("new\x1b[31m", b"1")
    )
    made.save(tmp_path / "changes.zip")
    return tmp_path


def test_one_line_says_what_was_done(saved: Path) -> None:
    done = vfswasi("apply", "changes.zip", "place", cwd=saved)
    assert done.stdout == "place: 1 added, 1 modified, 1 removed\n"
    assert done.stderr == ""
    assert model.tree_at(saved / "place") == {"edited": b"new", "a,b": b"", "new\x1b[31m": b"1"}
    assert vfswasi("apply", "changes.zip", "place", cwd=saved).stdout == "place: everything is there already\n"


def test_conflicts_are_lines_and_a_status(saved: Path) -> None:
    (saved / "place/edited").write_bytes(b"OLD")
    (saved / "place/new\x1b[31m").write_bytes(b"2")
    before = model.tree_at(saved / "place")
    done = vfswasi("apply", "changes.zip", "place", cwd=saved, status=1)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "edited: its contents are others",
        r"new\x1b[31m: a file is there, which was not there before",
        "vfswasi: place: 2 conflicts; nothing was written",
    ]
    assert model.tree_at(saved / "place") == before


def test_options_of_the_target_hold(saved: Path) -> None:
    model.fill(saved / "with,comma", BASE)
    vfswasi("apply", "changes.zip", "with,,comma,rw", cwd=saved)
    assert (saved / "with,comma/edited").read_bytes() == b"new"
    assert "read only" in refused("apply", "changes.zip", "place,ro", cwd=saved)
    assert "no option" in refused("apply", "changes.zip", "place,rx", cwd=saved)


def test_what_is_wrong_is_one_line(saved: Path) -> None:
    assert "nowhere" in refused("apply", "changes.zip", "nowhere", cwd=saved)
    assert "nothing.zip" in refused("apply", "nothing.zip", "place", cwd=saved)
    (saved / "broken.zip").write_bytes(b"PK")
    assert "broken.zip" in refused("apply", "broken.zip", "place", cwd=saved)
    assert model.tree_at(saved / "place") == BASE


def test_on_a_terminal_what_takes_long_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for terminal in (False, True):
        monkeypatch.setattr(progress, "_is_terminal", lambda terminal=terminal: terminal)
        monkeypatch.setattr(progress, "BEFORE_S", 0)
        with progress.of("applying to x") as tell:
            for done in (0, 1, 1, 2, 4):
                tell(done, 4)
        line = "".join(f"\r\x1b[Kapplying to x ... {percent} %" for percent in (0, 25, 50, 100))
        assert capsys.readouterr().err == (f"{line}\r\x1b[K" if terminal else "")
    monkeypatch.setattr(progress, "BEFORE_S", 60)
    with progress.of("applying to x") as tell:
        tell(1, 4)
    assert capsys.readouterr().err == ""
