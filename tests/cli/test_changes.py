"""`vfswasi changes`: a saved file as a list, as a diff, as JSON; what is wrong with it is one line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from vfswasi import Changes, File

from ..observe.made import MadeBase, added, modified, removed, some
from ..observe.test_saved_changes import NEW, forged
from .running import environment, refused, vfswasi


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    some()[0].save(tmp_path / "c.zip")
    return tmp_path / "c.zip"


def test_the_list(saved: Path) -> None:
    done = vfswasi("changes", saved, cwd=saved.parent)
    assert done.stdout == "R a -> b\nD d/\nD gone\nA new\nM old.txt\nT t\n"
    assert done.stderr == ""


def test_no_changes_are_no_lines(tmp_path: Path) -> None:
    Changes([]).save(tmp_path / "c.zip")
    assert vfswasi("changes", "c.zip", cwd=tmp_path).stdout == ""


def test_json(saved: Path) -> None:
    told = json.loads(vfswasi("changes", "--json", saved, cwd=saved.parent).stdout)
    assert told == Changes.load(saved).as_dict()
    assert told["changes"][3]["path"] == "new"


def test_a_diff_has_old_lines_where_the_base_is_named(tmp_path: Path) -> None:
    base = MadeBase({"x": File(b"1\n", mtime=5)})
    Changes([modified(base, "x", b"2\n"), added("y", b"\xc3\xa9\n")], base).save(tmp_path / "c.zip")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "x").write_bytes(b"1\n")
    without = vfswasi("changes", "c.zip", "--diff", cwd=tmp_path).stdout
    assert "Files a/x and b/x differ: the old contents are not at hand" in without
    assert "+é\n" in without
    assert "-1\n+2\n" in vfswasi("changes", "c.zip", "--diff", "--base", "copy", cwd=tmp_path).stdout
    assert "-1\n+2\n" in vfswasi("changes", "--diff", "--base=./copy,ro", "c.zip", cwd=tmp_path).stdout
    (tmp_path / "copy" / "x").write_bytes(b"3\n")
    assert "-3" not in vfswasi("changes", "c.zip", "--diff", "--base", "copy", cwd=tmp_path).stdout
    assert "none" in refused("changes", "c.zip", "--diff", "--base", "./none", cwd=tmp_path)


def test_a_diff_is_as_it_is_for_programs_and_harmless_on_a_terminal(tmp_path: Path) -> None:
    evil = b"\x1b]0;title\x07\x1b[31m\r\xe2\x80\xae\ttab\n"
    Changes([added("e\x1b[2J", evil)]).save(tmp_path / "c.zip")
    argv = [sys.executable, "-m", "vfswasi", "changes", "--diff", "c.zip"]
    raw = subprocess.run(argv, cwd=tmp_path, env=environment(tmp_path), capture_output=True, check=True, timeout=60)
    assert b"+" + evil in raw.stdout
    leader, follower = pty.openpty()
    process = subprocess.Popen(argv, cwd=tmp_path, env=environment(tmp_path), stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(timeout=60) == 0
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert rb"+\x1b]0;title\x07\x1b[31m\r\u202e" in shown
    assert shown.count(b"\n") == 6


def test_names_do_no_harm_on_a_terminal(tmp_path: Path) -> None:
    base = MadeBase({"a\x1b[31m\nM b": b"1"})
    Changes([removed(base, "a\x1b[31m\nM b")], base).save(tmp_path / "c.zip")
    assert vfswasi("changes", "c.zip", cwd=tmp_path).stdout == "D a\\x1b[31m\\nM b\n"


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    assert refused("changes", "none.zip", cwd=tmp_path) == "vfswasi: none.zip: No such file or directory"
    (tmp_path / "bad\x1b[31m.zip").write_bytes(b"hello")
    line = refused("changes", "bad\x1b[31m.zip", cwd=tmp_path)
    assert line.startswith("vfswasi: cannot read the saved changes 'bad")
    assert "\x1b" not in line
    (tmp_path / "evil.zip").write_bytes(forged({**NEW, "path": "../../etc/cron.d/x"}).getvalue())
    assert "the path '../../etc/cron.d/x' has a part '..'" in refused("changes", "evil.zip", cwd=tmp_path)
    assert "is a directory" in refused("changes", ".", cwd=tmp_path).lower()
    assert "--base is for --diff" in refused("changes", "--base", "x", "evil.zip", cwd=tmp_path)
    assert "not allowed with" in refused("changes", "--json", "--diff", "evil.zip", cwd=tmp_path)
    assert "did you mean --diff" in refused("changes", "--dif", "evil.zip", cwd=tmp_path)
    assert "FILE" in refused("changes", cwd=tmp_path)
