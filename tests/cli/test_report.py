"""`vfswasi run --report FILE.html`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..guest_programs import compile_guest
from .running import environment, refused, vfswasi

ENDLESS = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
TRAPS = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'


def page(at: Path) -> str:
    text = at.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.rstrip().endswith("</html>")
    return text


def test_a_report_of_a_run_has_its_calls_and_what_was_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("hello")
    asked = ("run", "--report", "r.html", "--mount", "/data=data", "--mount", "/new=mem:")
    words = ("write", "/new/c.txt", "hello", "patch", "/new/c.txt", "j", "write", "/data/b.txt", "x")
    done = vfswasi(*asked, compile_guest("edit"), *words, cwd=tmp_path, status=None)
    text = page(tmp_path / "r.html")
    assert "write /data/b.txt" in done.stdout
    for told in ("path_open", "fd_write", "ROFS", "/data is read-only", "/data/b.txt", "/new/c.txt"):
        assert told in text
    assert "+jello" in text


@pytest.mark.parametrize(
    ("wat", "options", "status", "told"),
    [(TRAPS, (), 134, "trapped"), (ENDLESS, ("--timeout", "500ms"), 124, "time over after 0.5 seconds")],
    ids=["trap", "timeout"],
)
def test_a_run_that_failed_has_a_report(
    wat: str, options: tuple[str, ...], status: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "p.wat").write_text(wat)
    vfswasi("run", *options, "--report", "r.html", "p.wat", cwd=tmp_path, status=status)
    assert told in page(tmp_path / "r.html")


def test_a_run_that_was_interrupted_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(ENDLESS)
    command = [sys.executable, "-m", "vfswasi", "run", "--tmp", "--stdout", "started", "--report", "r.html", "p.wat"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE) as running:
        until = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()
        assert running.wait(60) == 130
    assert "interrupted" in page(tmp_path / "r.html")


def test_it_replaces_what_was_there_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(TRAPS)
    (tmp_path / "r.html").write_text("old")
    vfswasi("run", "--report", "r.html", "p.wat", cwd=tmp_path, status=134)
    page(tmp_path / "r.html")
    assert [each for each in os.listdir(tmp_path) if each.startswith(".vfswasi-")] == []


def test_a_run_in_a_process_of_its_own_has_what_is_known_of_it(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(TRAPS)
    vfswasi("run", "--isolation=process", "--report", "r.html", "p.wat", cwd=tmp_path, status=134)
    text = page(tmp_path / "r.html")
    assert "trapped" in text
    assert "There is no trace of the calls" in text


def test_a_place_where_nothing_can_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(TRAPS)
    assert "--report 'none/r.html': there is no such directory" in refused(
        "run", "--report", "none/r.html", "p.wat", cwd=tmp_path
    )
    assert "that is a directory" in refused("run", "--report", ".", "p.wat", cwd=tmp_path)
    assert "--report needs the name of a file" in refused("run", "--report", "", "p.wat", cwd=tmp_path)


def test_a_call_of_a_function_has_no_report(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(TRAPS)
    told = refused("run", "--report", "r.html", "--invoke", "f", "p.wat", cwd=tmp_path)
    assert "--invoke" in told
    assert not (tmp_path / "r.html").exists()


def test_without_its_package_the_run_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "p.wat").write_text(TRAPS)
    (tmp_path / "jinja2.py").write_text("raise ImportError('none')\n")
    path = os.pathsep.join([str(tmp_path), environment(tmp_path)["PYTHONPATH"]])
    told = refused("run", "--report", "r.html", "p.wat", cwd=tmp_path, PYTHONPATH=path)
    assert 'pip install "vfswasi[report]"' in told
    assert not (tmp_path / "r.html").exists()
