"""`vfswasi run --record` and `vfswasi replay`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..guest_programs import compile_guest
from ..observe.recording.tampered import changed
from .running import environment, refused, vfswasi

ENDLESS = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("contents")
    return tmp_path


def record(cwd: Path, *options: str, stdin: bytes, status: int = 0) -> subprocess.CompletedProcess[str]:
    return vfswasi(
        "run", "--record", "r", *options, compile_guest("explore"), "an argument", cwd=cwd, stdin=stdin, status=status
    )


def test_a_run_is_recorded_and_replayed_without_what_it_read(cwd: Path) -> None:
    done = record(
        cwd, "--mount", "/d=data,rw", stdin=b"cat /d/a\nrandom\nclock 2\nwrite /d/a new\nls /d\nexit 3\n", status=3
    )
    assert done.stderr.startswith("vfswasi: recorded in r (")
    assert "the environment and all that the program read" in done.stderr
    assert (cwd / "data" / "a").read_text() == "new"
    (cwd / "data" / "a").unlink()
    again = vfswasi("replay", "r", cwd=cwd, status=3)
    assert again.stdout == done.stdout
    assert again.stderr == ""
    told = vfswasi("replay", "-v", "r", cwd=cwd, status=3)
    assert told.stderr.startswith("vfswasi: the replay is the same: ")
    assert not (cwd / "data" / "a").exists()


def test_the_calls_of_a_replay_are_printed(cwd: Path) -> None:
    record(cwd, "--mount", "/d=data", stdin=b"cat /d/a\n")
    assert "path_open(3</d>, " in vfswasi("replay", "--trace", "r", cwd=cwd).stderr
    told = vfswasi("replay", "--trace=calls", "--stats", "r", cwd=cwd).stderr
    assert "path_open(3</d>, " in (cwd / "calls").read_text()
    assert " total\n" in told


def test_what_is_in_the_file_is_shown_without_running_it(cwd: Path) -> None:
    record(cwd, "--mount", "/d=data", "--env", "SECRET=hunter2", stdin=b"cat /d/a\n")
    told = vfswasi("replay", "--info", "r", cwd=cwd).stdout
    assert "mount      /d (ro) of data: 1 file read" in told
    assert "variables  SECRET\n" in told
    assert "hunter2" not in told
    assert "'an argument'" in told
    assert "exit status 0" in told


def test_another_run_ends_with_a_status_of_its_own(cwd: Path) -> None:
    record(cwd, "--mount", "/d=data", stdin=b"cat /d/a\n")
    changed(cwd / "r", stdout=b"cat /d/a: X bytes\n")
    done = vfswasi("replay", "r", cwd=cwd, status=123)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("vfswasi: the replay differs: ")
    assert "stdout at byte 10: b'8 bytes, " in done.stderr
    assert "recorded: b'X bytes\\n'" in done.stderr


def test_another_version_of_the_engine_is_named_where_it_differs(cwd: Path) -> None:
    record(cwd, "--mount", "/d=data", stdin=b"cat /d/a\n")
    changed(cwd / "r", lambda lines: lines[1].update(wasmtime="1.2.3"))
    assert vfswasi("replay", "r", cwd=cwd).stderr == ""
    changed(cwd / "r", stdout=b"x")
    assert "(recorded with wasmtime 1.2.3, here " in vfswasi("replay", "r", cwd=cwd, status=123).stderr


def test_traps_and_timeouts_are_recorded_as_such(cwd: Path) -> None:
    done = record(cwd, stdin=b"env A\ntrap\n", status=134)
    again = vfswasi("replay", "r", cwd=cwd, status=134)
    assert again.stdout == done.stdout
    assert "GuestTrapError" in again.stderr
    done = record(cwd, "--timeout", "0.5", stdin=b"env A\nspin\n", status=124)
    again = vfswasi("replay", "r", cwd=cwd, status=124)
    assert again.stdout == done.stdout
    assert "ended here, and so was this one" in again.stderr


def test_a_run_that_had_used_up_its_fuel_is_told_as_it_was(cwd: Path) -> None:
    (cwd / "endless.wat").write_text(ENDLESS)
    vfswasi("run", "--record", "r", "--limit", "fuel=1000", "endless.wat", cwd=cwd, status=124)
    again = vfswasi("replay", "r", cwd=cwd, status=124)
    assert again.stderr == "vfswasi: the recorded run was ended here, and so was this one\n"


def test_a_run_that_was_interrupted_is_recorded(cwd: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "vfswasi", "run", "--record", "r", str(compile_guest("explore"))],
        cwd=cwd,
        env=environment(cwd),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"env A\n")
    running.stdin.flush()
    first = running.stdout.readline()
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode in (130, -signal.SIGINT)
    assert b"recorded in r" in told
    again = vfswasi("replay", "r", cwd=cwd, status=124)
    assert again.stdout.encode() == first


def test_the_module_can_be_left_out(cwd: Path) -> None:
    record(cwd, "--record-without-module", stdin=b"env A\n")
    assert "without its module" in refused("replay", "r", cwd=cwd)
    assert vfswasi("replay", "r", compile_guest("explore"), cwd=cwd).stdout == "A=(none)\n"
    assert "is not the module of the recorded run" in refused("replay", "r", compile_guest("hello"), cwd=cwd)


def test_more_than_may_be_kept_is_said(cwd: Path) -> None:
    (cwd / "data" / "a").write_bytes(os.urandom(200_000))
    done = record(cwd, "--record-max", "100k", "--mount", "/d=data", stdin=b"cat /d/a\n")
    assert "warning: the recording is not whole: more than" in done.stderr
    assert "not all of it, more than" in vfswasi("replay", "r", cwd=cwd, status=123).stderr
    assert "not whole" in vfswasi("replay", "--info", "r", cwd=cwd).stdout


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--record-max", "1M"), "--record-max is for --record FILE"),
        (("--record-without-module",), "--record-without-module is for --record FILE"),
        (("--record", "r", "--record-max", "much"), "--record-max=much"),
        (("--record", "r", "--isolation=process"), "--record cannot be with --isolation=process"),
        (("--record", "r", "--invoke", "f"), "--record cannot be with --invoke"),
        (("--record", "no/such/r"), "no such directory"),
        (("--record", "data"), "directory"),
        (("--record=",), "--record needs the name of a file"),
        (("--record", "r", "--report", "./r"), "--report and --record are both "),
        (("--accesses", "r", "--trace=r"), "--trace and --accesses are both "),
    ],
    ids=["max", "module", "no size", "isolation", "invoke", "nowhere", "a directory", "no name", "twice", "twice too"],
)
def test_what_cannot_be_is_refused_in_one_line(options: tuple[str, ...], error: str, cwd: Path) -> None:
    assert error in refused("run", *options, compile_guest("explore"), cwd=cwd)
    assert not (cwd / "r").exists()


def test_what_is_no_recording_is_refused_in_one_line(cwd: Path) -> None:
    (cwd / "x").write_bytes(b"x")
    assert "cannot read the recording 'x'" in refused("replay", "x", cwd=cwd)
    assert "No such file" in refused("replay", "none", cwd=cwd)


def test_a_limit_beyond_the_usual_is_named_with_the_option_that_allows_it(cwd: Path) -> None:
    record(cwd, "--limit", "output_bytes=64M", stdin=b"env A\n")
    assert "allow it with limits, or --limit output_bytes=67108864" in refused("replay", "r", cwd=cwd)
    assert vfswasi("replay", "--limit", "output_bytes=64M", "r", cwd=cwd).stdout == "A=(none)\n"
