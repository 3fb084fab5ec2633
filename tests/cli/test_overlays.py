"""Overlays on the command line: what a program has changed is listed, shown, saved and applied, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from vfswasi import Changes
from vfswasi.cli.arguments.preopens import preopens
from vfswasi.mounts.options import Mount

from ..wat_programs import ENDLESS, OPEN, program
from .running import environment, refused, vfswasi

WRITE = f"{OPEN} (call $say (i32.load (i32.const 64)))"
# Of the first preopen the file "s"; "t" in the second.
BOTH = f"""{WRITE} (i32.store8 (i32.const 16) (i32.const 116))
  {OPEN.replace("(i32.const 3)", "(i32.const 4)", 1)} (call $say (i32.load (i32.const 64)))"""
PROGRAMS = {
    "writes": WRITE,
    "both": BOTH,
    "fails": f"{WRITE} (call $exit (i32.const 7))",
    "traps": f"{WRITE} unreachable",
    "endless": f"{WRITE} {ENDLESS}",
    "nothing": "",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, body in PROGRAMS.items():
        (tmp_path / f"{name}.wat").write_bytes(program(body))
    (tmp_path / "reactor.wat").write_bytes(program(WRITE).replace(b'(func (export "_start")', b'(func (export "f")'))
    for name in ("in", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "s").write_text("so good\n")
    return tmp_path


def contents(place: Path, name: str = "in") -> dict[str, str]:
    return {each.name: each.read_text() for each in (place / name).iterdir()}


SPELLINGS = {
    "--mount": ("--mount", "/d=in,overlay"),
    "--dir": ("--dir", "in::/d,overlay"),
    "-v": ("-v", "in:/d:O"),
    "-v overlay": ("-v", "./in:/d:overlay"),
}


@pytest.mark.parametrize("words", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_source_stays_as_it_is(place: Path, words: tuple[str, str]) -> None:
    done = vfswasi(*words, "--changes", "writes.wat", cwd=place)
    assert (done.stdout, done.stderr) == ("", "M s\n")
    assert contents(place) == {"s": "so good\n"}


def test_apply_stands_behind_a_mount_or_is_an_option() -> None:
    given = {"/d": Mount("in", overlay=True, apply="success")}
    assert preopens([("--mount", "/d=in,overlay,apply=success")], tmp=False, dev=False) == given


def test_nothing_is_said_unless_it_is_asked_for(place: Path) -> None:
    done = vfswasi("--mount", "/d=in,overlay", "writes.wat", cwd=place)
    assert (done.stdout, done.stderr) == ("", "")


def test_that_nothing_has_changed_is_said(place: Path) -> None:
    assert vfswasi("--mount", "/d=in,overlay", "--changes", "nothing.wat", cwd=place).stderr == (
        "vfswasi: nothing has changed\n"
    )


def test_of_several_mounts_each_path_is_the_programs_own(place: Path) -> None:
    mounts = "--mount", "/d=in,overlay", "--mount", "/e/f=second,overlay", "--mount", "/r=in"
    done = vfswasi(*mounts, "--changes", "both.wat", cwd=place)
    assert done.stderr == "M /d/s\nA /e/f/t\n"
    assert contents(place, "second") == {}
    shown = vfswasi(*mounts, "--diff", "both.wat", cwd=place).stderr
    assert shown.startswith("# /d\ndiff --git a/s b/s\n")
    assert "\n# /e/f\ndiff --git a/t b/t\nnew file mode 100644\n" in shown


def test_a_diff_shows_the_old_lines_and_the_new(place: Path) -> None:
    shown = vfswasi("--mount", "/d=in,overlay", "--diff", "writes.wat", cwd=place).stderr
    assert "-so good\n" in shown
    assert "+so faod\n" in shown


@pytest.mark.parametrize(
    ("name", "status", "options"),
    [("writes", 0, ()), ("fails", 7, ()), ("traps", 134, ()), ("endless", 124, ("--timeout", "6"))],
)
@pytest.mark.parametrize("isolation", ["none", "process"])
def test_however_it_ends_changes_are_shown_and_saved(
    place: Path, name: str, status: int, options: tuple[str, ...], isolation: str
) -> None:
    asked = "--changes", "--save-changes", "saved.changes", f"--isolation={isolation}", "--apply"
    done = vfswasi("--mount", "/d=in,overlay", *asked, *options, f"{name}.wat", cwd=place, status=status)
    assert done.stderr.splitlines()[0] == "M s"
    assert Changes.load(place / "saved.changes").read_bytes("s") == b"so faod\n"
    assert contents(place) == {"s": "so faod\n" if status == 0 else "so good\n"}


def test_ctrl_c_shows_and_saves_them_too(place: Path) -> None:
    words = "--mount", "/d=in,overlay", "--changes", "--save-changes", "saved.changes", "endless.wat"
    with subprocess.Popen(
        [sys.executable, "-m", "vfswasi", *words], cwd=place, env=environment(place), stderr=subprocess.PIPE
    ) as process:
        time.sleep(3)  # by then it has written
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"M s\n")
    assert Changes.load(place / "saved.changes").read_bytes("s") == b"so faod\n"


def test_each_of_several_overlays_is_saved_in_its_own_file(place: Path) -> None:
    mounts = "--mount", "/d=in,overlay", "--mount", "/e=second,overlay"
    vfswasi(*mounts, "--save-changes", "/d=d.changes", "--save-changes", "/e/=e=.changes", "both.wat", cwd=place)
    assert str(Changes.load(place / "d.changes")) == "M s"
    assert str(Changes.load(place / "e=.changes")) == "A t"
    told = vfswasi("changes", "d.changes", cwd=place)
    assert told.stdout == "M s\n"


def test_a_call_of_a_function_has_them_too(place: Path) -> None:
    asked = "--changes", "--save-changes", "saved.changes", "--invoke", "f"
    done = vfswasi("--mount", "/d=in,overlay,apply=success", *asked, "reactor.wat", cwd=place)
    assert done.stderr == "M s\n"
    assert contents(place) == {"s": "so faod\n"}
    assert str(Changes.load(place / "saved.changes")) == "M s"


# Applying


def test_apply_makes_them_when_the_program_succeeded(place: Path) -> None:
    mounts = "-v", "in:/d:O", "-v", "second:/e:O"
    vfswasi(*mounts, "--apply", "both.wat", cwd=place)
    assert contents(place) == {"s": "so faod\n"}
    assert contents(place, "second") == {"t": "to fa"}


CONFLICT = """import os, pathlib, sys
import vfswasi.host.publishing as publishing
real = publishing.publish_all
def late(changes):
    pathlib.Path("in/s").write_text("somebody else's")
    pathlib.Path("in/s2").write_text("beside it")
    return real(changes)
publishing.publish_all = late
from vfswasi.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("saved", [True, False])
def test_a_conflict_is_told_by_path_and_loses_nothing(place: Path, saved: bool) -> None:
    options = ["--save-changes", "my.changes"] if saved else []
    done = subprocess.run(
        [sys.executable, "-c", CONFLICT, "--mount", "/d=in,overlay", "--apply", "--changes", *options, "writes.wat"],
        cwd=place,
        env=environment(place, TMPDIR=str(place)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 125
    listed, conflict, last = done.stderr.splitlines()
    assert listed == "M s"
    assert conflict.startswith("vfswasi: /d/s: it ")
    assert last.startswith("vfswasi: the changes in /d were not applied: they do not fit what lies below")
    where = place / "my.changes" if saved else next(place.glob("vfswasi-not-stored-*")) / "1.changes"
    assert (f"vfswasi apply {'my.changes' if saved else where} TARGET") in last
    assert Changes.load(where).read_bytes("s") == b"so faod\n"
    assert contents(place)["s"] == "somebody else's"


# What is refused, before anything runs


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--changes"], "--changes: no mount has an overlay, or can be written to; write overlay behind the one"),
        (["--diff", "-v", "in:/d"], "--diff: no mount has an overlay, or can be written to"),
        (["--apply", "--mount", "/d=in"], "--apply: no mount has an overlay"),
        (["--save-changes", "f", "-v", "in:/d"], "--save-changes: no mount has an overlay, or can be written to"),
        (["--apply", "-v", "in:/d:rw"], "--apply: no mount has an overlay"),
        (
            ["--save-changes", "f", "-v", "in:/d:O", "-v", "in:/e:O"],
            "there are 2 overlays; say which: --save-changes /d=FILE --save-changes /e=FILE",
        ),
        (["--save-changes", "/x=f", "-v", "in:/d:O"], "there is no overlay at /x; there are /d"),
        (["--save-changes", "f", "--save-changes", "g", "-v", "in:/d:O"], "a mount is given twice"),
        (["--save-changes", "none/f", "-v", "in:/d:O"], "there is no such directory to write a file in"),
        (["--save-changes", "in", "-v", "in:/d:O"], "there is no such directory to write a file in"),
        (["--save-changes", "", "-v", "in:/d:O"], "--save-changes needs the name of a file"),
        (["--mount", "/d=in,rw,overlay,apply"], "there is no option 'apply'"),
        (["--mount", "/d=in,ro,overlay"], "with an overlay the guest can write"),
        (["--mount", "/d=in,apply=success"], "needs overlay=True"),
        (["--mount", "/d=in,overlay,apply=always"], 'must be "success" or None'),
        (["--mount", "/d=in,overlaid"], "there is no option 'overlaid'; did you mean"),
        (["--dir", "in::/d:O"], "write overlay behind a comma: --dir in::/d,overlay"),
        (["-v", "in:/d:o"], "there is no mode 'o'; it is rw, O for an overlay, or ro"),
        (["--overlay"], "write overlay behind the mount that it is for: --mount /data=DIR,overlay"),
        (["--mount", "type=overlay,source=in,target=/d"], "write --mount /d=in,overlay"),
        (["--mount", "type=bind,src=in,dst=/d"], "write --mount /d=in,rw"),
        (["--mount", "type=bind,src=in,dst=/d,readonly"], "write --mount /d=in"),
        (["--mount", "type=tmpfs,destination=/d"], "write --mount /d=mem:"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(place: Path, words: list[str], told: str) -> None:
    assert told in refused(*words, "writes.wat", cwd=place)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no file that is always full")
def test_changes_that_cannot_be_saved_where_they_should_be_are_kept_elsewhere(place: Path) -> None:
    (place / "full").symlink_to("/dev/full")
    done = vfswasi("-v", "in:/d:O", "--save-changes", "full", "writes.wat", cwd=place, status=125, TMPDIR=str(place))
    assert "changes could not be saved in full: " in done.stderr
    assert Changes.load(next(place.glob("vfswasi-not-stored-*")) / "1.changes").read_bytes("s") == b"so faod\n"


def test_an_archive_is_listed_as_it_is_with_the_option_too(place: Path) -> None:
    with zipfile.ZipFile(place / "a.zip", "w") as file:
        file.writestr("s", "so good\n")
    assert vfswasi("mounts", "a.zip,overlay", cwd=place).stdout == "a.zip,overlay\n  s  8\n"
    assert vfswasi("--mount", "/d=a.zip,overlay", "--changes", "writes.wat", cwd=place).stderr == "M s\n"
    assert zipfile.ZipFile(place / "a.zip").read("s") == b"so good\n"


def test_what_is_changed_in_place_is_listed_and_saved_too(place: Path) -> None:
    done = vfswasi("--changes", "--save-changes", "f.zip", "-v", "in:/d:rw", "writes.wat", cwd=place)
    assert done.stderr.splitlines()[0].startswith(("A ", "M "))
    assert (place / "f.zip").exists()
    done = vfswasi("--changes", "--tmp", "-v", "in:/d:rw", "writes.wat", cwd=place)
    assert all(line.split(" ", 1)[1].startswith(("/d/", "/tmp/")) for line in done.stderr.splitlines())
