"""How the command line ends: quietly, and with the exit status that docs/command-line.md says."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .running import ROOT, environment, vfswasi

# Both say "x" first: whoever sees it knows that the program runs.
_SAYS_X = """(module (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00") (data (i32.const 16) "x")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) """
LOOP = _SAYS_X + "(loop br 0)))"
READS = _SAYS_X + "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"
WAITS = {"a program that computes": ["loop.wat"], "a program that reads": ["reads.wat"], "a module on a pipe": ["-"],
         "an inspected module on a pipe": ["inspect", "-"]}  # fmt: skip
PIPE_BYTES = 64 << 10


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_with_130_and_says_nothing(what: str, tmp_path: Path) -> None:
    (tmp_path / "loop.wat").write_text(LOOP)
    (tmp_path / "reads.wat").write_text(READS)
    with subprocess.Popen(
        [sys.executable, "-m", "vfswasi", *WAITS[what]],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if WAITS[what][-1] == "-":
                process.stdin.write(b" " * (PIPE_BYTES + 1))  # more than there is room for: somebody reads
                process.stdin.flush()
            else:
                assert process.stdout.read(1) == b"x"
            time.sleep(0.3)  # by then it waits
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_on_a_terminal_too(tmp_path: Path) -> None:
    (tmp_path / "loop.wat").write_text(LOOP)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(
            sys.executable, [sys.executable, "-m", "vfswasi", "--timeout", "60", "loop.wat"], environment(tmp_path)
        )
    assert os.read(terminal, 1) == b"x"
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_into_a_closed_pipe_is_quiet(shell: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", "completion", shell],
            env=environment(tmp_path),
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_results_into_a_closed_pipe_are_quiet(tmp_path: Path) -> None:
    """The guest is told that nobody reads; what it makes of it is its own."""
    (tmp_path / "empty.wat").write_text('(module (memory (export "memory") 1) (func (export "_start")))')
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfswasi", "empty.wat"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


STATUSES = {
    "(call $exit (i32.const 0))": 0,
    "(call $exit (i32.const 42))": 42,
    "(call $exit (i32.const 255))": 255,
    "(call $exit (i32.const 256))": 255,
    "(call $exit (i32.const -1))": 255,
    "(unreachable)": 134,
    "(drop (call $raise (i32.const 15)))": 143,
}


@pytest.mark.parametrize("code", STATUSES)
def test_exit_statuses(code: str, tmp_path: Path) -> None:
    (tmp_path / "m.wat").write_text(
        f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
        (memory (export "memory") 1) (func (export "_start") {code}))"""
    )
    vfswasi("m.wat", cwd=tmp_path, status=STATUSES[code])


def test_every_exit_status_is_on_its_page() -> None:
    from vfswasi.cli import messages

    page = (ROOT / "docs" / "command-line.md").read_text().split("Exit status:")[1]
    known = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert known == {value for name, value in vars(messages).items() if name.startswith("EXIT_")}
