"""What the command line shows of transfers: on a terminal, after a second, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from vfswasi.cli.progress import size

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, time
from vfswasi import Traffic
from vfswasi.cli import progress
start = time.monotonic()
def traffic():
    passed = time.monotonic() - start
    return {"/[data]": Traffic(int(passed * 100), int(passed * (1 << 20)), 0), "/idle": Traffic()}
with progress.shown(traffic):
    time.sleep(float(sys.argv[1]))
"""


def on_a_terminal(seconds: float, *, without_rich: bool = False, **environment: str) -> str:
    """What the program writes to standard error, a terminal."""
    ours, theirs = pty.openpty()
    program = "import sys; sys.modules['rich.console'] = None\n" + PROGRAM if without_rich else PROGRAM
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(seconds)],
        cwd=ROOT,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_shows_what_moves_after_a_second() -> None:
    shown = on_a_terminal(2.0)
    assert "/[data]" in shown
    assert "MiB read" in shown
    assert "requests" in shown
    assert "/idle" not in shown
    assert "written" not in shown


def test_a_short_run_shows_nothing() -> None:
    assert on_a_terminal(0.3) == ""


def test_without_rich_nothing_is_shown() -> None:
    assert on_a_terminal(1.5, without_rich=True) == ""


def test_the_cell_of_a_notebook_gets_nothing() -> None:
    assert on_a_terminal(1.5, JPY_PARENT_PID="1") == ""


def test_a_pipe_gets_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "1.5"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (20 << 20, "20.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes_for_people(count: int, shown: str) -> None:
    assert size(count) == shown
