"""Worker processes: how many there are, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi
from vfswasi import PIPE
from vfswasi.host.isolation import pool
from vfswasi.host.isolation.process import Worker

from ..open_files import open_files
from ..wat_programs import READ, SAY, program
from .conftest import alive, until

ROOT = Path(__file__).parents[2]
Pids = Callable[[], list[int]]
TALKER = program(SAY + READ)
SILENT = {"capture_output": True}


def test_runs_of_one_sandbox_after_each_other_have_one_worker(pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        first = pids()
        assert len(first) == 1
        for _ in range(5):
            sandbox.run(**SILENT)
        assert pids() == first
    assert pids() == []
    assert not alive(first[0])


def test_no_worker_serves_two_sandboxes(pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as one, vfswasi.Sandbox(TALKER, isolation="process") as other:
        assert len(set(pids())) == 2
        one.run(**SILENT)
        other.run(**SILENT)
        assert len(set(pids())) == 2


def test_there_are_no_more_workers_than_may_be(pids: Pids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_WORKERS", "2")
    with vfswasi.Sandbox(TALKER, isolation="process") as one, vfswasi.Sandbox(TALKER, isolation="process") as other:
        threads = [threading.Thread(target=each.run, kwargs=SILENT) for each in (one, other) * 8]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert len(pids()) <= 2
            time.sleep(0.01)
        assert len(pids()) <= 2


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "1e9"])
def test_a_number_of_workers_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_WORKERS", text)
    with pytest.raises(ValueError, match="VFSWASI_WORKERS must be a number of processes"):
        vfswasi.Sandbox(TALKER, isolation="process")


def test_workers_without_work_end_after_a_while(pids: Pids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE_S", 0.2)
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        (first,) = pids()
        until(lambda: not pids())
        assert not alive(first)
        assert sandbox.run(**SILENT).returncode == 0
        assert len(pids()) == 1


def test_a_sandbox_that_nobody_has_any_more_has_no_workers(pids: Pids) -> None:
    vfswasi.Sandbox(TALKER, isolation="process")
    until(lambda: not pids())


def test_closing_waits_for_nobody_and_the_last_run_takes_its_worker_with_it(pids: Pids) -> None:
    sandbox = vfswasi.Sandbox(TALKER, isolation="process")
    run = sandbox.start(stdin=PIPE, stdout=PIPE)
    sandbox.close()
    with pytest.raises(ValueError, match="closed"):
        sandbox.run()
    assert run.result(20).stdout == b"so fa"
    until(lambda: not pids())


def test_nothing_stays_open_in_the_callers_process() -> None:
    def use() -> None:
        with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
            sandbox.run(**SILENT)
            with sandbox.start(stdin=PIPE, stdout=PIPE):
                pass
            with pytest.raises(vfswasi.GuestTimeoutError):
                sandbox.run(timeout=0.0, **SILENT)

    use()
    before = open_files()
    for _ in range(3):
        use()
    assert open_files() == before


def test_a_worker_has_no_descriptors_of_the_callers(pids: Pids, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with vfswasi.Sandbox(TALKER, isolation="process"):
            (pid,) = pids()
            held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not [name for name in held if "secret" in name]


PROGRAM = r"""
import os, signal, sys, threading, time
import vfswasi
from vfswasi.host.isolation.pool import POOL
from tests.wat_programs import ENDLESS, READ, SAY, program
sandbox = vfswasi.Sandbox(program(SAY + {body}), isolation="process")
runs = [sandbox.start(stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, stderr=vfswasi.DEVNULL) for _ in range(2)]
for run in runs:
    run.stdout.read(5)
print(*POOL.pids, flush=True)
{then}
"""


def started(body: str, then: str) -> subprocess.Popen[str]:
    code = PROGRAM.format(body=body, then=textwrap.dedent(then))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def told(child: subprocess.Popen[str]) -> list[int]:
    assert child.stdout is not None
    found = [int(word) for word in child.stdout.readline().split()]
    assert len(found) == 2
    return found


@pytest.mark.parametrize("body", ["READ", "ENDLESS"])
@pytest.mark.parametrize("end", ["return", "raise", "exit", "_exit", "SIGKILL", "SIGTERM", "SIGSTOP"])
def test_no_worker_outlives_its_caller(body: str, end: str) -> None:
    then = {
        "return": "",
        "raise": "raise RuntimeError",
        "exit": "sys.exit(3)",
        "_exit": "os._exit(3)",
        "SIGSTOP": "for pid in POOL.pids: os.kill(pid, signal.SIGSTOP)\nos._exit(3)",
    }.get(end, "time.sleep(100)")
    child = started(body, then)
    workers = told(child)
    if end in ("SIGKILL", "SIGTERM"):
        child.send_signal(getattr(signal, end))
    child.communicate(timeout=60)
    until(lambda: not any(map(alive, workers)))


def test_ctrl_c_ends_the_run_and_not_the_pool() -> None:
    then = """
    begun = time.monotonic()
    threading.Timer(0.5, os.killpg, (0, signal.SIGINT)).start()
    try:
        sandbox.run(stdin=None, capture_output=True)
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - begun < 5, flush=True)
    for run in runs:
        run.kill()
        run.wait()
    quick = vfswasi.Sandbox(program(SAY), isolation="process")
    print(quick.run(capture_output=True).returncode)
    """
    code = PROGRAM.format(body="ENDLESS", then=textwrap.dedent(then))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert done.stdout.splitlines()[1:] == ["interrupted True", "0"], done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_was_forked_has_workers_of_its_own() -> None:
    then = """
    pid = os.fork()
    if not pid:
        try:
            assert POOL.pids == []
            assert sandbox.run(capture_output=True).stdout == b"so fa"
            assert len(POOL.pids) == 1
            POOL.end()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    print([run.result(20).returncode for run in runs], sandbox.run(capture_output=True).returncode)
    """
    child = started("READ", then)
    workers = told(child)
    out, err = child.communicate(timeout=60)
    assert out == "[0, 0] 0\n", err
    until(lambda: not any(map(alive, workers)))


def test_workers_end_with_their_caller_although_a_fork_of_it_lives_on() -> None:
    child = started("READ", "if not os.fork():\n    os.close(1); os.close(2); time.sleep(3)\nos._exit(0)")
    workers = told(child)
    child.communicate(timeout=60)
    until(lambda: not any(map(alive, workers)), 2)


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(entry for entry in sys.path if "python3" in entry)])
    (tmp_path / "vfswasi").mkdir()
    (tmp_path / "vfswasi" / "__init__.py").write_text("raise RuntimeError('a broken installation')")
    with pytest.raises(vfswasi.GuestCrashError, match="a broken installation"):
        vfswasi.Sandbox(TALKER, isolation="process")
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ValueError, match="needs the Python interpreter"):
        vfswasi.Sandbox(TALKER, isolation="process")


def test_the_path_of_a_worker_is_that_of_its_caller_and_not_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "vfswasi.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert vfswasi.run(TALKER, isolation="process", **SILENT).returncode == 0


def test_a_worker_is_not_one_of_its_callers_terminal() -> None:
    worker = Worker()
    try:
        assert os.getsid(worker.pid) == worker.pid
    finally:
        worker.end()
    assert not worker.alive()
    worker.end()


def test_one_that_computes_is_no_hindrance_for_the_exit() -> None:
    child = started("ENDLESS", "")
    workers = told(child)
    begun = time.monotonic()
    child.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert child.returncode == 0
    assert not any(map(alive, workers))
