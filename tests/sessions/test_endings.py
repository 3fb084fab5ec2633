"""How a session ends, and what is left of it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine import guests, runner
from vfswasi.engine.interruption import page

from .conftest import CREAT, GUEST, open_file, write


@pytest.mark.parametrize(
    ("function", "args", "error", "message", "ended"),
    [
        ("trap", (), vfswasi.GuestTrapError, "trap trapped: ", "trapped in trap: wasm trap: wasm `unreachable`"),
        ("deep", (), vfswasi.GuestTrapError, "deep trapped: ", "trapped in deep: "),
        ("exit", (3,), vfswasi.GuestExitError, "exit ended with exit status 3", "ended with exit status 3 in exit"),
        ("exit", (0,), vfswasi.GuestExitError, "exit ended with exit status 0", "ended with exit status 0 in exit"),
        ("spin", (), vfswasi.GuestTimeoutError, "spin was still running after 0.3 seconds", "used up its time in spin"),
    ],
)
def test_what_ends_the_guest_ends_the_session_and_later_calls_say_how(
    session: vfswasi.Session, function: str, args: Any, error: type[vfswasi.GuestError], message: str, ended: str
) -> None:
    fd = open_file(session, "f", CREAT)
    write(session, fd, b"kept")
    write(session, 1, b"said")
    assert session.ended is None
    with pytest.raises(error) as caught:
        session.call(function, *args, timeout=0.3 if function == "spin" else None)
    assert str(caught.value).startswith(message)
    assert caught.value.stdout == b"said"
    assert caught.value.usage.stored_bytes == 4
    for _ in range(2):
        with pytest.raises(vfswasi.SessionError) as later:
            session.call("next")
        assert str(later.value).startswith(f"this session is over: it {ended}")
        assert "\n" not in str(later.value)
    for use in (session.fork, session.snapshot, lambda: session.memory.read(0, 1)):
        with pytest.raises(vfswasi.SessionError, match="this session is over"):
            use()
    assert session.ended is not None
    assert session.files["/d"] == {"given": b"0123456789", "f": b"kept"}
    assert session.read_stdout() == b"said"
    assert session.usage.stored_bytes == 4
    session.close()
    session.kill()


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        ("unreachable", vfswasi.GuestTrapError, "opening the session trapped"),
        ("(call $exit (i32.const 4))", vfswasi.GuestExitError, "exit status 4"),
        ("(call $exit (i32.const 0))", vfswasi.GuestExitError, "exit status 0"),
        ("(loop (br 0))", vfswasi.GuestTimeoutError, "still running after 0.3 seconds"),
    ],
)
def test_a_reactor_that_ends_while_it_is_initialized_has_no_session(
    way: str, body: str, error: type[Exception], told: str
) -> None:
    text = f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_initialize") {body}))"""
    with vfswasi.Sandbox(text.encode()) as sandbox:
        with pytest.raises(error, match=told):
            sandbox.session(timeout=0.3)
        assert not sandbox._running


def test_what_a_host_function_raises_ends_the_session_and_arrives_unchanged(way: str) -> None:
    text = b"""(module (import "env" "fail" (func $fail)) (memory (export "memory") 1)
      (func (export "go") (call $fail)))"""
    error = KeyError("mine")

    def fail(memory: Any) -> None:
        raise error

    with vfswasi.Sandbox(text, imports={"env": {"fail": fail}}) as sandbox, sandbox.session() as session:
        with pytest.raises(KeyError) as caught:
            session.call("go")
        assert caught.value is error
        assert session.ended == "ended in go with KeyError, which the host raised"


def test_a_loop_is_killed_from_another_thread_and_the_files_are_still_there(session: vfswasi.Session) -> None:
    fd = open_file(session, "f", CREAT)
    write(session, fd, b"kept")
    started = time.monotonic()
    timer = threading.Timer(0.2, session.kill)
    timer.start()
    with pytest.raises(vfswasi.HostCallError, match="interrupted"):
        session.call("spin")
    timer.join()
    assert time.monotonic() - started < 5
    assert session.ended == "was killed"
    assert session.files["/d"]["f"] == b"kept"
    with pytest.raises(vfswasi.SessionError, match="it was killed"):
        session.call("next")


def test_killing_one_session_leaves_its_neighbours_alone(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.session() as one, sandbox.session() as other, other.fork() as fork:
        timer = threading.Timer(0.2, one.kill)
        timer.start()
        with pytest.raises(vfswasi.HostCallError):
            one.call("spin")
        assert (other.call("next"), fork.call("next")) == (101, 101)


def test_an_idle_session_can_be_killed(session: vfswasi.Session) -> None:
    session.kill()
    assert session.ended == "was killed"


def test_interrupting_the_sandbox_ends_its_sessions(sandbox: vfswasi.Sandbox) -> None:
    with sandbox.session() as session:
        timer = threading.Timer(0.2, sandbox.interrupt)
        timer.start()
        with pytest.raises(vfswasi.HostCallError, match="interrupted"):
            session.call("spin")
        assert session.ended == "was interrupted in spin"


def test_a_deadline_that_comes_when_the_call_is_over_does_not_hurt_the_next(session: vfswasi.Session) -> None:
    for _ in range(300):
        try:
            session.call("work", 20_000, timeout=0.0004)
        except vfswasi.GuestTimeoutError:
            break
        time.sleep(0.0003)
        assert session.call("work", 1) is None


def test_nothing_ends_between_calls_however_long_they_are_apart(way: str) -> None:
    limits = vfswasi.Limits(wall_seconds=0.3)
    with vfswasi.Sandbox(GUEST, limits=limits) as sandbox, sandbox.session() as session:
        session.call("next")
        time.sleep(0.5)
        assert session.call("next") == 102
        with pytest.raises(vfswasi.GuestTimeoutError):
            session.call("spin")


def _meanwhile(session: vfswasi.Session, seen: list[BaseException]) -> threading.Thread:
    """A thread on which a call goes on until the session is killed."""

    def call() -> None:
        try:
            session.call("spin", timeout=60)
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while session._thread is None:
        time.sleep(0.001)
    return thread


def test_a_session_does_one_thing_at_a_time(session: vfswasi.Session) -> None:
    seen: list[BaseException] = []
    thread = _meanwhile(session, seen)
    for use in (
        lambda: session.call("next"),
        session.fork,
        session.snapshot,
        session.read_stdout,
        lambda: session.memory.read(0, 1),
        lambda: session.memory.write(0, b"x"),
    ):
        with pytest.raises(vfswasi.SessionError, match="this session is busy with a call of spin"):
            use()
    assert session.files["/d"]["given"] == b"0123456789"
    session.kill()
    thread.join(10)
    assert [isinstance(error, vfswasi.HostCallError) for error in seen] == [True]


def test_closing_during_a_call_ends_it(session: vfswasi.Session) -> None:
    seen: list[BaseException] = []
    thread = _meanwhile(session, seen)
    session.close()
    thread.join(10)
    assert [isinstance(error, vfswasi.HostCallError) for error in seen] == [True]
    assert session.ended == "was killed"


def test_a_host_function_that_calls_its_own_session_is_told(way: str) -> None:
    text = b"""(module (import "env" "back" (func $back)) (memory (export "memory") 1)
      (func (export "go") (call $back)) (func (export "fine") (result i32) (i32.const 1)))"""
    told: list[str] = []
    sessions: list[vfswasi.Session] = []

    def back(memory: Any) -> None:
        for use in (lambda: sessions[0].call("fine"), sessions[0].close, sessions[0].fork):
            try:
                use()
            except vfswasi.SessionError as error:
                told.append(str(error))

    with vfswasi.Sandbox(text, imports={"env": {"back": back}}) as sandbox, sandbox.session() as session:
        sessions.append(session)
        session.call("go")
        assert len(told) == 3
        assert "busy with a call of go" in told[0]
        assert "a host function cannot close the session" in told[1]
        assert session.call("fine") == 1
    sessions.clear()


def test_a_call_that_hangs_in_the_host_is_left_behind_in_time(way: str) -> None:
    text = b"""(module (import "env" "hang" (func $hang)) (memory (export "memory") 1)
      (func (export "go") (call $hang)))"""
    free = threading.Event()
    with vfswasi.Sandbox(
        text, imports={"env": {"hang": lambda memory: free.wait(20)}}, preopens={"/d": {"a": "b"}}
    ) as sandbox:
        session = sandbox.session()
        started = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            session.call("go", timeout=0.3)
        assert time.monotonic() - started < 5
        assert session.ended == "used up its time in go"
        assert session.files == {"/d": {"a": b"b"}}
        session.close()
        free.set()
        end = time.monotonic() + 10
        while sandbox._running and time.monotonic() < end:
            time.sleep(0.01)
        assert not sandbox._running


def test_a_closed_session_has_stored_its_files_and_one_that_failed_has_not(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    zipfile.ZipFile(archive, "w").close()
    for fail in (True, False):
        with vfswasi.Sandbox(GUEST, preopens={"/d": vfswasi.Mount(archive, rw=True)}) as sandbox:
            try:
                with sandbox.session() as session:
                    write(session, open_file(session, "f", CREAT), b"stored")
                    if fail:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        with zipfile.ZipFile(archive) as stored:
            assert stored.namelist() == ([] if fail else ["f"])
    with zipfile.ZipFile(archive) as stored:
        assert stored.read("f") == b"stored"


def test_a_sandbox_that_is_closed_opens_no_session_and_waits_for_those_that_there_are(way: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("here")
    sandbox = vfswasi.Sandbox(GUEST, preopens={"/d": vfswasi.Mount(tmp_path, rw=True)})
    session = sandbox.session()
    snapshot = session.snapshot()
    sandbox.close()
    assert open_file(session, "f") == 4
    for use in (sandbox.session, snapshot.session, session.fork):
        with pytest.raises(ValueError, match="this Sandbox is closed"):
            use()
    session.close()
    snapshot.close()


def _counts() -> tuple[int, int, int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(guests.live), len(page._registered), len(runner._watchdog._watched)


def test_sessions_leave_no_descriptor_guest_or_page_however_they_end(sandbox: vfswasi.Sandbox) -> None:
    def all_ways() -> None:
        for function, args in (("trap", ()), ("exit", (1,)), ("next", ()), ("spin", ())):
            with sandbox.session(stdout=vfswasi.DEVNULL) as session:
                open_file(session, "given")
                fork = session.fork()
                ends: AbstractContextManager[Any] = (
                    pytest.raises(vfswasi.SandboxError) if function != "next" else nullcontext()
                )
                with ends:
                    session.call(function, *args, timeout=0.05)
                fork.close()
        sandbox.session()  # nobody closes it
        sandbox.snapshot().session()

    all_ways()
    before = _counts()
    for _ in range(5):
        all_ways()
    assert _counts() == before
    assert not sandbox._running


def test_a_session_that_is_open_when_the_interpreter_ends_says_nothing() -> None:
    code = f"import vfswasi; s = vfswasi.Sandbox({GUEST!r}).session(); t = s.fork(); p = s.snapshot(); s.call('next')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_module_that_cannot_be_instantiated_has_no_session_and_leaves_nothing(way: str) -> None:
    text = b"""(module (memory (export "memory") 1) (data (i32.const 65536) "x") (func (export "f")))"""
    with vfswasi.Sandbox(text, preopens={"/d": {}}) as sandbox:
        before = _counts()
        for _ in range(3):
            with pytest.raises((vfswasi.InvalidModuleError, vfswasi.GuestTrapError)):
                sandbox.session()
        assert not sandbox._running
        assert _counts() == before


def test_a_copy_that_is_killed_while_it_is_made_is_no_copy(session: vfswasi.Session) -> None:
    session._deadline.interrupt()
    with pytest.raises(vfswasi.SessionError, match="cannot be copied"):
        session.fork()
