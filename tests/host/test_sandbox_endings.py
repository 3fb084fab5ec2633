"""How a run ends: status, trap, timeout, Ctrl-C, interruption; and that it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine import guests

from ..wat_programs import ENDINGS_BY_WAITING, ENDLESS, FLOOD, OPEN, SAY, SLEEP, pipe_ends
from ..wat_programs import program as wat

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with pipe_ends() as ends:
        yield ends


# How a run ends.


@pytest.mark.parametrize(
    ("body", "returncode"),
    [
        ("", 0),
        ("(call $exit (i32.const 3))", 3),
        ("(call $exit (i32.const -1))", 2**32 - 1),
        ("unreachable", -signal.SIGABRT),
        ("(drop (call $raise (i32.const 15))) unreachable", -signal.SIGTERM),
        ("(drop (i32.load (i32.const -1)))", -signal.SIGABRT),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", -signal.SIGABRT),
    ],
)
def test_the_return_code_and_check(body: str, returncode: int) -> None:
    module = wat(SAY + body)
    result = vfswasi.run(module, ["a"], capture_output=True)
    assert (result.returncode, result.stdout) == (returncode, b"so fa")
    if not returncode:
        assert vfswasi.run(module, capture_output=True, check=True).returncode == 0
        return
    kind = vfswasi.GuestExitError if returncode > 0 else vfswasi.GuestTrapError
    for failing in (
        lambda: vfswasi.run(module, ["a"], capture_output=True, text=True, check=True, argv0="x"),
        lambda: vfswasi.run(module, ["a"], capture_output=True, text=True, argv0="x").check_returncode(),
    ):
        with pytest.raises(kind) as caught:
            failing()
        error = caught.value
        assert (error.argv, error.returncode, error.stdout, error.stderr) == (
            ["x", "a"],
            returncode,
            "so fa",
            "so fa",
        )


def test_a_trap_says_where() -> None:
    result = vfswasi.run(wat("unreachable"))
    assert "unreachable" in (result.trap or "")
    assert "backtrace" in (result.trap or "")


def test_a_stack_that_overflows_is_a_trap() -> None:
    result = vfswasi.run(b'(module (memory (export "memory") 1) (func $f (export "_start") (call $f)))')
    assert result.returncode == -6
    assert "stack" in (result.trap or "")


@pytest.mark.parametrize("name", ENDINGS_BY_WAITING)
@pytest.mark.parametrize("thread", ["main", "other"])
def test_a_timeout_ends_a_run_and_keeps_its_output(name: str, thread: str, pipe: tuple[int, int]) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            vfswasi.run(
                wat(SAY + ENDINGS_BY_WAITING[name]),
                stdin=pipe[0],
                capture_output=True,
                text=True,
                timeout=0.3,
                argv0="x",
            )
        except BaseException as error:
            caught.append(error)

    started = time.monotonic()
    if thread == "main":
        run()
    else:
        other = threading.Thread(target=run)
        other.start()
        other.join()
    assert 0.3 <= time.monotonic() - started < 3
    (error,) = caught
    assert isinstance(error, vfswasi.GuestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.argv, error.returncode) == (["x"], None)
    assert (error.stdout, error.stderr) == ("so fa", "so fa")


def test_a_timeout_ends_a_run_that_writes_to_a_full_pipe(pipe: tuple[int, int]) -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(wat(FLOOD), stdout=pipe[1], timeout=0.3)
    assert time.monotonic() - started < 3


def test_a_run_that_ends_in_time_has_no_timeout() -> None:
    assert vfswasi.run(wat(""), timeout=60).returncode == 0
    assert vfswasi.run(wat(""), timeout=float("inf")).returncode == 0


def test_a_timeout_of_nothing_starts_nothing() -> None:
    for timeout in (0, -1, -0.5):
        with pytest.raises(vfswasi.GuestTimeoutError) as caught:
            vfswasi.run(wat(SAY), capture_output=True, timeout=timeout)
        assert caught.value.stdout == b""


def test_a_host_function_that_raises_ends_the_run_even_with_a_timeout() -> None:
    def fail(_memory: Any) -> None:
        raise KeyError("mine")

    module = wat("(call $host)", '(import "env" "host" (func $host))')
    with pytest.raises(KeyError, match="mine"):
        vfswasi.run(module, imports={"env": {"host": fail}}, timeout=60, check=True)


# Ctrl-C.


def _interrupted(command: list[str]) -> tuple[int, str, float]:
    """Start, wait for "so fa" from the guest, send SIGINT: (status, stderr, seconds until the end)."""
    # an ignored SIGINT would be inherited, and Python then installs no handler
    restore = "import signal, os, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [sys.executable, "-c", restore + "os.execv(sys.argv[1], sys.argv[1:])", sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"so fa"
        time.sleep(0.1)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(10)  # its standard input stays open meanwhile
        seconds = time.monotonic() - started
        _, stderr = process.communicate()
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr.decode(), seconds


@pytest.mark.parametrize("name", ENDINGS_BY_WAITING)
def test_ctrl_c_ends_a_run_on_the_main_thread(name: str) -> None:
    body = "(call $say (i32.const 1))" + ENDINGS_BY_WAITING[name]
    status, stderr, seconds = _interrupted(["-c", f"import vfswasi; vfswasi.run({wat(body)!r}, stdin=0)"])
    assert "KeyboardInterrupt" in stderr
    assert status in (-signal.SIGINT, 130)
    assert seconds < 2


def test_after_ctrl_c_python_goes_on(tmp_path: Path) -> None:
    body = "(call $say (i32.const 1))" + OPEN + ENDLESS
    code = f"""
import vfswasi
try:
    vfswasi.run({wat(body)!r}, preopens={{"/d": vfswasi.Mount({str(tmp_path)!r}, rw=True)}})
except KeyboardInterrupt:
    import sys
    from vfswasi.engine import guests
    again = vfswasi.run({wat(SAY)!r}, capture_output=True)
    sys.stderr.write(f"{{again.stdout!r}} {{len(guests.live)}}")
"""
    status, stderr, _ = _interrupted(["-c", code])
    assert (status, stderr) == (0, "b'so fa' 0")


def test_ctrl_c_ends_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "endless.wat").write_bytes(wat("(call $say (i32.const 1))" + ENDLESS))
    status, stderr, seconds = _interrupted(["-m", "vfswasi", "run", str(tmp_path / "endless.wat")])
    assert (status, stderr) == (130, "")
    assert seconds < 2


def test_ctrl_c_does_not_wait_for_a_host_function_and_the_guest_does_not_run_on() -> None:
    """The guest is inside a call of the host's when the signal comes. What it has open is closed when it comes back."""
    done: list[str] = []
    closed = threading.Event()

    class Store(vfswasi.MemoryBackend):
        def finish(self, keep: bool) -> None:
            done.append(f"finished, {keep=}")
            closed.set()

    def slow(_memory: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.5)
        done.append("returned")

    imports = {"env": {"slow": slow, "next": lambda _memory: done.append("ran on")}}
    module = wat(
        "(call $slow) (call $next) (call $exit (i32.const 3))",
        '(import "env" "slow" (func $slow)) (import "env" "next" (func $next))',
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            vfswasi.run(module, imports=imports, preopens={"/d": Store()})
        assert time.monotonic() - started < 0.4
        assert done == []
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed.wait(5)
    assert done == ["returned", "finished, keep=False"]
    assert vfswasi.run(wat(SAY), capture_output=True).stdout == b"so fa"


def test_a_signal_handler_may_run_a_guest_while_another_is_waited_for() -> None:
    ended: list[tuple[int, float]] = []

    def handler(*_: object) -> None:
        started = time.monotonic()
        ended.append((vfswasi.run(wat("(call $exit (i32.const 5))")).returncode, time.monotonic() - started))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(wat(SLEEP), timeout=2.5)
    finally:
        signal.signal(signal.SIGALRM, before)
    ((returncode, seconds),) = ended
    assert returncode == 5
    assert seconds < 1


# Interruption from another thread.


@pytest.mark.parametrize("name", ENDINGS_BY_WAITING)
def test_interrupt_ends_the_runs_that_are_going_on(name: str, pipe: tuple[int, int]) -> None:
    started, ended = threading.Barrier(4), list[BaseException]()
    body = "(call $ready)" + ENDINGS_BY_WAITING[name]
    imports = {"env": {"ready": lambda _memory: (started.wait(30), None)[1]}}
    with vfswasi.Sandbox(wat(body, '(import "env" "ready" (func $ready))'), imports=imports) as sandbox:

        def run() -> None:
            try:
                sandbox.run(stdin=pipe[0])
            except BaseException as error:
                ended.append(error)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait(30)
        at = time.monotonic()
        sandbox.interrupt()
        for thread in threads:
            thread.join(10)
        assert time.monotonic() - at < 2
        assert [type(error) for error in ended] == [vfswasi.GuestInterruptedError] * 3
        assert all("interrupted" in str(error) for error in ended)


def test_interrupt_concerns_neither_later_runs_nor_other_sandboxes() -> None:
    with vfswasi.Sandbox(wat("")) as one, vfswasi.Sandbox(wat(SLEEP)) as other:
        ended: list[BaseException] = []

        def run() -> None:
            try:
                other.run(timeout=1.5)
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.2)
        one.interrupt()
        assert one.run().returncode == 0
        thread.join()
    assert [type(error) for error in ended] == [vfswasi.GuestTimeoutError]


# Leaks.


def _fail(_memory: Any) -> None:
    raise ZeroDivisionError


_RAISING = wat(OPEN + "(call $f)", '(import "env" "f" (func $f))')
LEAK_ENDINGS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "return": (wat(OPEN), {}),
    "exit": (wat(OPEN + "(call $exit (i32.const 1))"), {}),
    "trap": (wat(OPEN + "unreachable"), {}),
    "signal": (wat(OPEN + "(drop (call $raise (i32.const 9)))"), {}),
    "check": (wat(OPEN + "(call $exit (i32.const 1))"), {"check": True}),
    "host exception": (_RAISING, {"imports": {"env": {"f": _fail}}}),
    "timeout before the start": (wat(OPEN + ENDLESS), {"timeout": 0}),
    "timeout": (wat(OPEN + ENDLESS), {"timeout": 0.002}),
    "timeout in a wait": (wat(OPEN + SLEEP), {"timeout": 0.002}),
    "missing import": (_RAISING, {}),
    "missing preopen": (wat(OPEN), {"preopens": {"/d": {}, "/e": "/no/such/place"}}),
    "bad stdin": (wat(OPEN), {"stdin": 3.5}),
}


@pytest.mark.parametrize("ending", LEAK_ENDINGS)
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_two_hundred_runs_leave_nothing_behind(ending: str, kind: str, tmp_path: Path) -> None:
    module, options = LEAK_ENDINGS[ending]
    place: Any = {"f": b"content"} if kind == "memory" else vfswasi.Mount(tmp_path, rw=True)
    options = {"capture_output": True, "preopens": {"/d": place}, **options}

    def repeat(times: int) -> None:
        for _ in range(times):
            try:
                vfswasi.run(module, **options)
            except (vfswasi.SandboxError, ZeroDivisionError, TypeError):
                pass

    def held() -> tuple[int, int, int, int]:
        gc.collect()
        return (
            len(gc.get_objects()),
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(guests.live),
        )

    repeat(20)
    after = held()
    for _ in range(3):  # what others make and free meanwhile is not the same three times
        before = after
        repeat(200)
        after = held()
        more = [now - then for now, then in zip(after, before, strict=True)]
        if more[0] < 100 and max(more[1:]) <= 0:
            break
    assert more[0] < 100
    assert max(more[1:]) <= 0


OURS = (
    "Process",
    "Guest",
    "Stream",
    "OpenFile",
    "OpenDirectory",
    "MemoryBackend",
    "WasmMemory",
    "Store",
    "Instance",
)


@pytest.mark.parametrize("ending", ["return", "exit", "trap", "signal", "check", "host exception", "timeout"])
def test_nothing_waits_for_the_garbage_collector(ending: str) -> None:
    """A sandbox in a reference cycle would keep its store, and the guest's memory, until a collection."""
    module, options = LEAK_ENDINGS[ending]

    def alive() -> int:
        return sum(type(thing).__name__ in OURS for thing in gc.get_objects())

    def run() -> None:
        try:
            vfswasi.run(module, **{"preopens": {"/d": {}}, **options})
        except (vfswasi.SandboxError, ZeroDivisionError):
            pass

    run()
    gc.collect()
    gc.disable()
    try:
        before, live = alive(), len(guests.live)
        for _ in range(20):
            run()
        assert len(guests.live) == live
        assert alive() - before < 20
    finally:
        gc.enable()
