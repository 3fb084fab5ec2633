"""E3: a run ends within 100 ms of its deadline, whatever the guest is in the middle of; and when it is interrupted.

Times are measured on a machine that does other things too, so the best of a few tries has to keep the promise, and
every try a much longer time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import vfswasi
from vfswasi.engine import guests, runner
from vfswasi.engine.threads import deadlines, workers
from vfswasi.fs_backends.layers.faulty import CALL_NAMES, Call, Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..guest_programs import compile_guest
from ..wat_programs import ENDLESS, POLL_STDIN, SLEEP, pipe_ends, program

pytestmark = pytest.mark.alone

TIMEOUT_S = 0.2
LATE_S = 0.1
VERY_LATE_S = 2.0
TRIES = 4

# Calls that `errands.c` makes of a store in memory, all but what the store is not asked for.
HANGING = sorted(
    CALL_NAMES
    - {"close", "device", "listing_version", "handle.append", "handle.discard", "handle.reserve", "handle.advise"}
)


class Hang:
    """A store in which one kind of call never returns, until it is released."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.released = threading.Event()
        self.entered = threading.Event()
        self.store = Faulty(MemoryBackend({"given": b"given"}), self._hang)

    def _hang(self, call: Call) -> None:
        if call.name == self.name and not self.released.is_set():
            self.entered.set()
            self.released.wait(30)


def best_delay(attempt: Callable[[], float]) -> float:
    """The shortest of a few times beyond the deadline; none may be very long."""
    delays = []
    for _ in range(TRIES):
        delays.append(attempt())
        assert delays[-1] < VERY_LATE_S
        if delays[-1] < LATE_S:
            break
    return min(delays)


def timed_out(module: Any, on_thread: bool = False, **options: Any) -> float:
    """Seconds beyond the deadline at which a run that cannot end by itself has ended."""
    delays: list[float] = []
    errors: list[BaseException] = []
    sandbox = vfswasi.Sandbox(module, preopens=options.pop("preopens", None), imports=options.pop("imports", None))

    def run() -> None:
        started = time.monotonic()
        try:
            with pytest.raises(vfswasi.GuestTimeoutError):
                sandbox.run(timeout=TIMEOUT_S, **options)
        except BaseException as error:
            errors.append(error)
        delays.append(time.monotonic() - started - TIMEOUT_S)

    if on_thread:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    sandbox.close()
    if errors:
        raise errors[0]
    return delays[0]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Guests that were left behind are gone when what they hung in has returned."""
    threads, live = threading.active_count(), len(guests.live)
    yield
    until = time.monotonic() + 10
    while time.monotonic() < until and (len(guests.live) > live or threading.active_count() > threads + 1):
        time.sleep(0.01)
    assert len(guests.live) <= live
    assert threading.active_count() <= threads + 1  # a worker may stay for the next run


@pytest.mark.parametrize("on_thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("name", HANGING)
def test_a_store_that_hangs(name: str, on_thread: bool) -> None:
    module = compile_guest("errands")
    with nothing_left():
        hangs: list[Hang] = []

        def attempt() -> float:
            hangs.append(Hang(name))
            options = {"preopens": {"/": vfswasi.Mount(hangs[-1].store, rw=True)}, "stdout": vfswasi.DEVNULL}
            return timed_out(module, on_thread, **options)

        try:
            assert best_delay(attempt) < LATE_S
            assert all(hang.entered.is_set() for hang in hangs)
        finally:
            for hang in hangs:
                hang.released.set()
    assert [hang.store.open_handles for hang in hangs] == [0] * len(hangs)


def test_the_errands_make_every_call() -> None:
    """Otherwise the test above would wait for a call that never comes."""
    store = Faulty(MemoryBackend({"given": b"given"}))
    result = vfswasi.run(
        compile_guest("errands"), preopens={"/": vfswasi.Mount(store, rw=True)}, capture_output=True, vdso=False
    )
    assert result.stdout == b"done\n"
    assert set(HANGING) <= set(store.counts)


def test_a_slow_store_is_given_up_between_its_calls() -> None:
    store = Faulty(MemoryBackend({"given": b"given"}), delay_s=0.03)
    with nothing_left():
        late = best_delay(lambda: timed_out(compile_guest("errands"), preopens={"/": vfswasi.Mount(store, rw=True)}))
        assert late < LATE_S


@pytest.mark.usefixtures("interruption")
@pytest.mark.parametrize("on_thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("name", ["computing", "sleeping", "polling", "reading a pipe", "filling memory", "many calls"])
def test_a_guest_that_does_not_stop(name: str, on_thread: bool) -> None:
    more = ""
    options: dict[str, Any] = {}
    if name == "computing":
        body = ENDLESS
    elif name == "sleeping":
        body = SLEEP
    elif name in ("polling", "reading a pipe"):
        body = POLL_STDIN
    elif name == "filling memory":  # neither a loop nor a function: no place where wasm code looks at the deadline
        body = "(drop (memory.grow (i32.const 8000)))"
        body += "(memory.fill (i32.const 0) (i32.const 1) (i32.const 500000000))" * 40
    else:
        # Straight-line code that looks up a name which is not there, again and again.
        more = '(import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))'
        body = "(drop (call $unlink (i32.const 3) (i32.const 16) (i32.const 6)))" * 5_000
        options["preopens"] = {"/d": vfswasi.Mount(Faulty(MemoryBackend(), delay_s=0.0005), rw=True)}
    module = program(body, more)
    with pipe_ends() as (read, _write), nothing_left():
        assert best_delay(lambda: timed_out(module, on_thread, stdin=read, **options)) < LATE_S


@pytest.mark.parametrize("where", ["stdin", "stdout", "import"])
def test_code_of_the_hosts_that_hangs(where: str) -> None:
    released = threading.Event()

    class Hanging:
        def read(self, _size: int) -> bytes:
            released.wait(30)
            return b""

    def hang(*_: Any) -> None:
        released.wait(30)

    more = '(import "env" "f" (func $f))'
    body = {"stdin": POLL_STDIN, "stdout": "(call $say (i32.const 1))", "import": "(call $f)"}[where]
    if where == "stdin":
        body = """(i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 16))
          (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))"""
    options: dict[str, Any] = {"stdin": Hanging(), "stdout": hang, "imports": {"env": {"f": hang}}}
    with nothing_left():
        try:
            assert best_delay(lambda: timed_out(program(body, more), **options)) < LATE_S
        finally:
            released.set()


def test_output_before_the_hang_is_not_lost() -> None:
    hang = Hang("open")
    body = "(call $say (i32.const 1))" * 5
    module = program(body + OPEN_GIVEN)
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(module, preopens={"/d": hang.store}, stdout=vfswasi.PIPE, timeout=TIMEOUT_S)
    assert caught.value.stdout == b"so fa" * 5
    hang.released.set()


OPEN_GIVEN = """(i32.store (i32.const 2000) (i32.const 0x65766967)) (i32.store8 (i32.const 2004) (i32.const 0x6e))
  (drop (call $open (i32.const 3) (i32.const 0) (i32.const 2000) (i32.const 5) (i32.const 0) (i64.const 2)
  (i64.const 0) (i32.const 0) (i32.const 64)))"""


def test_the_sandbox_works_while_a_run_hangs_and_closes_its_stores_after_it() -> None:
    closed = threading.Event()
    hang = Hang("open")
    module = program(OPEN_GIVEN)
    sandbox = vfswasi.Sandbox(module, preopens={"/d": hang.store})
    sandbox._mounts._mounts[0] = sandbox._mounts._mounts[0].__class__(  # as if it had been opened by the sandbox
        *(("/d", True, hang.store, None, True, False, "a store"))
    )
    hang.store.inner.close = closed.set  # type: ignore[method-assign]
    with pytest.raises(vfswasi.GuestTimeoutError):
        sandbox.run(timeout=0.05)
    hang.name = "nothing"
    assert sandbox.run(timeout=10).returncode == 0
    sandbox.close()
    assert not closed.is_set(), "a run is still inside"
    hang.released.set()
    assert closed.wait(5)


@pytest.mark.usefixtures("interruption")
def test_the_guest_that_was_left_behind_makes_no_more_calls() -> None:
    """What it hung in returns after the run: from then on nothing may happen on its behalf."""
    hang = Hang("open")
    made: list[int] = []
    more = '(import "env" "f" (func $f))'
    module = program(OPEN_GIVEN + "(call $f) (call $f)", more)
    with pytest.raises(vfswasi.GuestTimeoutError), nothing_left():
        vfswasi.run(module, preopens={"/d": hang.store}, imports={"env": {"f": lambda _: made.append(1)}}, timeout=0.05)
    hang.released.set()
    time.sleep(0.1)
    assert made == []


@pytest.mark.usefixtures("interruption")
@pytest.mark.parametrize("what", ["computing", "sleeping", "a store that hangs"])
def test_ctrl_c_ends_a_run(what: str) -> None:
    hang = Hang("open")
    body = {"computing": ENDLESS, "sleeping": SLEEP, "a store that hangs": OPEN_GIVEN}[what]
    module = program(body)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def attempt() -> float:
        sent: list[float] = []

        def send() -> None:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(0.2, send)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            vfswasi.run(module, preopens={"/d": hang.store})
        timer.join()
        return time.monotonic() - sent[0]

    try:
        with nothing_left():
            try:
                assert best_delay(attempt) < LATE_S
            finally:
                hang.released.set()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruption")
def test_interrupt_ends_a_run_whose_store_hangs() -> None:
    hang = Hang("open")
    with vfswasi.Sandbox(program(OPEN_GIVEN), preopens={"/d": hang.store}) as sandbox:

        def attempt() -> float:
            ended: list[float] = []

            def run() -> None:
                with pytest.raises(vfswasi.HostCallError, match="interrupted"):
                    sandbox.run()
                ended.append(time.monotonic())

            hang.entered.clear()
            thread = threading.Thread(target=run)
            thread.start()
            assert hang.entered.wait(10)
            sent = time.monotonic()
            sandbox.interrupt()
            thread.join()
            return ended[0] - sent

        try:
            assert best_delay(attempt) < LATE_S + 0.05
        finally:
            hang.released.set()


def test_ten_thousand_runs_with_a_deadline_are_forgotten() -> None:
    """A default deadline of an hour must not be remembered for an hour."""
    from vfswasi.engine.runner import _watchdog

    with vfswasi.Sandbox(program("")) as sandbox:
        for _ in range(300):
            sandbox.run()
    assert len(_watchdog._watched) < 20


NOTHING_TO_DO = program("")


def refuse_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("interruption")
def test_deadlines_are_kept_after_the_thread_that_looks_at_them_could_not_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watchdog = deadlines.Watchdog(runner.end_what_is_over)
    monkeypatch.setattr(runner, "_watchdog", watchdog)
    with monkeypatch.context() as patch:
        refuse_threads(patch, "vfswasi-deadlines")
        with pytest.raises(OSError, match="no thread could be started"):
            vfswasi.run(NOTHING_TO_DO, timeout=5)
    with vfswasi.Sandbox(program(ENDLESS)) as sandbox:
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=TIMEOUT_S)
        begun = time.monotonic()
        while sandbox._running and time.monotonic() < begun + VERY_LATE_S:
            time.sleep(0.01)
        assert not sandbox._running, "the guest has ended, and was not left behind"


def test_a_run_for_which_there_is_no_thread_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_idle", {})
    closed = []
    with pipe_ends() as (reads, writes), vfswasi.Sandbox(NOTHING_TO_DO, preopens={"/d": {}}) as sandbox:
        monkeypatch.setattr(sandbox._mounts, "close", lambda: closed.append(True))
        refuse_threads(monkeypatch, "vfswasi-guest")
        with pytest.raises(OSError, match="stack"):
            sandbox.run(stdout=writes)
        os.close(writes)
        assert os.read(reads, 1) == b"", "nobody holds the other end"
    assert closed, "no run is going on"


def test_a_signal_handler_may_interrupt_a_sandbox_at_any_moment() -> None:
    sandbox = vfswasi.Sandbox(NOTHING_TO_DO)
    before = signal.signal(signal.SIGUSR1, lambda *_: sandbox.interrupt())
    try:
        with sandbox._lock:  # as it is for a moment at the beginning of each run
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
        sandbox.close()
