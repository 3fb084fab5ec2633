"""`vfswasi run --isolation=process`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..wat_programs import ENDLESS, READ, SAY, program

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vfswasi", "run", "--isolation=process", *arguments]


def workers_of(pid: int) -> list[int]:
    """Of whichever thread of that process started them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (thread / "children").read_text().split()]
        except OSError:  # it has ended
            pass
    return found


@pytest.mark.parametrize(
    ("body", "options", "status", "says"),
    [
        (SAY, [], 0, b""),
        (SAY + "(call $exit (i32.const 7))", [], 7, b""),
        (SAY + "unreachable", [], 134, b"GuestTrapError"),
        (SAY + ENDLESS, ["--timeout", "0.5"], 124, b"still running after 0.5 seconds"),
        (SAY, ["--mount", "/d=/no/such/place"], 125, b"does not exist"),
    ],
)
def test_it_is_as_without(tmp_path: Path, body: str, options: list[str], status: int, says: bytes) -> None:
    path = tmp_path / "p.wat"
    path.write_bytes(program(body))
    done = subprocess.run(command(*options, str(path)), cwd=ROOT, capture_output=True, input=b"", timeout=60)
    assert done.returncode == status
    assert says in done.stderr
    assert b"Traceback" not in done.stderr
    if status != 125:
        assert done.stdout == b"so fa"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGSEGV, 125), (signal.SIGINT, 130)])
def test_a_crash_is_one_line_and_ctrl_c_is_ctrl_c(tmp_path: Path, number: int, status: int) -> None:
    path = tmp_path / "p.wat"
    path.write_bytes(program(SAY + READ))
    child = subprocess.Popen(
        command(str(path)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.read(5) == b"so fa"
    (worker,) = workers_of(child.pid)
    if number == signal.SIGINT:
        child.send_signal(number)
    end = time.monotonic() + 20
    while child.poll() is None and time.monotonic() < end:
        if number != signal.SIGINT and worker in workers_of(child.pid):
            os.kill(worker, number)
        time.sleep(0.05)
    _, err = child.communicate(timeout=30)
    assert child.returncode == status
    assert b"Traceback" not in err
    if number == signal.SIGSEGV:
        assert b"SIGSEGV" in err
