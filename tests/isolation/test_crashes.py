"""Whatever becomes of a worker process is one error of one run."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import vfswasi
from vfswasi import PIPE, Limits
from vfswasi.host.isolation import sandbox as isolated

from ..wat_programs import ENDLESS, READ, SAY, SLEEP, program
from .conftest import alive, shoot, until

pytestmark = pytest.mark.alone

Pids = Callable[[], list[int]]
# Says something, then reads what does not come, if there is a pipe.
TALKER = program(SAY + READ)
GROW = """(drop (memory.grow (i32.const 8192))) (local.set $at (i32.const 65536))
  (loop $again (i32.store8 (local.get $at) (i32.const 1)) (local.set $at (i32.add (local.get $at) (i32.const 4096)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 530000000))))"""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_by_a_signal_is_an_error_of_its_run_alone(number: signal.Signals, pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert run.stdout is not None
        assert run.stderr is not None
        assert (run.stdout.read(1), run.stderr.read(5)) == (b"s", b"so fa")
        (first,) = pids()
        other = sandbox.start(stdin=PIPE)
        until(lambda: len(pids()) == 2)
        shoot(first, number)
        assert run.wait(20) == -number
        with pytest.raises(vfswasi.GuestCrashError, match=signal.Signals(number).name) as caught:
            run.result()
        assert caught.value.returncode == -number
        assert caught.value.result.stdout == b"o fa"  # the rest of what had come is not lost
        assert caught.value.result.usage.wall_seconds > 0
        assert caught.value.result.args == ["module.wasm"]
        assert other.poll() is None
        assert other.result(20).returncode == 0
        assert sandbox.run(capture_output=True).stdout == b"so fa"
    assert not alive(first)


def test_a_worker_that_dies_between_two_runs_is_replaced(pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        (first,) = pids()
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first))
        time.sleep(0.2)  # its other threads
        assert sandbox.run(capture_output=True).returncode == 0
        assert pids() != [first]


def test_a_guest_that_needs_more_memory_than_its_worker_may_have_is_told_so_and_the_next_run_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolated.Isolated, "_data_bytes", lambda self, limits: 200 << 20)
    wasm = program("(local $at i32)" + GROW + SAY)
    with vfswasi.Sandbox(wasm, limits=Limits(memory_bytes=1 << 30), isolation="process") as sandbox:
        result = sandbox.run(capture_output=True)
        assert result.trap is not None  # `memory.grow` gave -1: the guest has touched what is not there
        assert "out of bounds" in result.trap
        assert sandbox.run(capture_output=True).trap == result.trap
    with vfswasi.Sandbox(wasm, limits=Limits(memory_bytes=1 << 30)) as sandbox:
        assert sandbox.run(capture_output=True).returncode == 0


def test_a_mount_that_needs_more_memory_than_the_worker_may_have_is_a_crash_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolated.Isolated, "_data_bytes", lambda self, limits: 200 << 20)
    tree = {f"f{number}": bytes(1 << 20) for number in range(150)}
    with pytest.raises(vfswasi.GuestCrashError, match="needed more than the 200 MiB that it may have"):
        vfswasi.run(TALKER, preopens={"/d": tree}, isolation="process")
    assert vfswasi.run(TALKER, isolation="process", capture_output=True).returncode == 0


def test_the_limit_of_the_system_is_what_the_limits_add_up_to(pids: Pids) -> None:
    small, large = Limits(memory_bytes=1 << 20), Limits(memory_bytes=1 << 30)
    with vfswasi.Sandbox(TALKER, limits=small, isolation="process") as sandbox:
        (first,) = pids()
        before = resource.prlimit(first, resource.RLIMIT_DATA)
        assert before[0] == before[1] < 2 << 30
        assert resource.prlimit(first, resource.RLIMIT_CORE) == (0, 0)
        sandbox.run(capture_output=True)
        assert pids() == [first]
        sandbox.run(capture_output=True, limits=large)  # which that worker could not keep to
        (second,) = set(pids()) - {first}
        assert resource.prlimit(second, resource.RLIMIT_DATA)[0] == before[0] + (1 << 30) - (1 << 20)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers: its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.parametrize("source", ["{}", "zip://*::{}x.zip"])
def test_a_mount_that_hangs_is_over_with_its_time(silent: str, source: str, pids: Pids) -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"mounting was not done after 0\.3 seconds"):
        vfswasi.run(TALKER, preopens={"/d": source.format(silent)}, timeout=0.3, isolation="process")
    assert time.monotonic() - started < 10
    assert pids() == []


def test_a_mount_that_hangs_can_be_interrupted(silent: str) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        threading.Timer(0.4, sandbox.interrupt).start()
        with pytest.raises(vfswasi.GuestInterruptedError):
            sandbox.run(preopens={"/d": silent})
        assert sandbox.run(capture_output=True).returncode == 0


def test_a_worker_that_hangs_while_it_mounts_is_killed_at_the_deadline(
    silent: str, pids: Pids, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        until(pids)
        time.sleep(0.6)
        os.kill(pids()[0], signal.SIGSTOP)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(vfswasi.GuestTimeoutError, match="was not done after 3 seconds; its worker process was ended"):
        vfswasi.run(TALKER, preopens={"/d": silent}, timeout=3, isolation="process")
    thread.join()
    assert pids() == []


def test_compiling_that_takes_too_long_is_ended(pids: Pids) -> None:
    body = "(local.set $n (i32.mul (local.get $n) (i32.add (local.get $n) (i32.const 3))))" * 300
    functions = "".join(f"(func (param $n i32) (result i32) {body} (local.get $n))" for _ in range(1500))
    wasm = f'(module (memory (export "memory") 1) {functions} (func (export "_start")))'.encode()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"compiling .*0\.2") as caught:
        vfswasi.Sandbox(wasm, limits=Limits(compile_seconds=0.2), isolation="process")
    # Both the worker and who waits for it keep to that time: whoever was first is told of.
    assert isinstance(caught.value, vfswasi.CompileTimeoutError | vfswasi.GuestTimeoutError)
    assert time.monotonic() - started < 20
    assert pids() == []
    assert vfswasi.run(TALKER, isolation="process", capture_output=True).returncode == 0


def test_a_worker_that_hangs_is_killed_at_the_deadline_of_its_run(pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE, stderr=PIPE, timeout=1.0)
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.read(1)
        run.stderr.read(5)
        (pid,) = pids()
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError, match="still running after 1 second") as caught:
            run.result(20)
        assert time.monotonic() - started < 3
        assert caught.value.result.stdout == b"o fa"
        assert not alive(pid)
        assert sandbox.run(capture_output=True).returncode == 0


def test_a_worker_that_hangs_can_be_killed(pids: Pids) -> None:
    with vfswasi.Sandbox(TALKER, isolation="process") as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE)
        assert run.stdout is not None
        run.stdout.read(5)
        (pid,) = pids()
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        run.kill()
        with pytest.raises(vfswasi.GuestInterruptedError):
            run.result(20)
        assert time.monotonic() - started < 2
        assert not alive(pid)
        assert sandbox.run(capture_output=True).returncode == 0


def test_a_worker_whose_guest_was_ended_from_outside_is_not_used_again(pids: Pids) -> None:
    with vfswasi.Sandbox(program(SLEEP), isolation="process") as sandbox:
        (first,) = pids()
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=0.1)
        assert pids() == []
        assert not alive(first)


def test_among_fifty_runs_at_once_only_those_fail_whose_worker_dies(pids: Pids) -> None:
    outcomes: list[str] = []

    def hunt() -> None:
        for count in range(5):
            until(lambda count=count: len(outcomes) >= 20 * count and pids(), 120)  # type: ignore[misc]
            shoot(pids()[0], signal.SIGSEGV)

    with vfswasi.Sandbox(program(SAY + SAY), isolation="process") as sandbox:

        def work() -> None:
            for _ in range(4):
                try:
                    outcomes.append("right" if sandbox.run(capture_output=True).stdout == b"so fa" * 2 else "wrong")
                except vfswasi.GuestCrashError:
                    outcomes.append("crash")

        shooter = threading.Thread(target=hunt)
        threads = [threading.Thread(target=work) for _ in range(50)]
        shooter.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shooter.join()
        assert len(outcomes) == 200
        assert "wrong" not in outcomes
        assert 1 <= outcomes.count("crash") <= 5
        assert sandbox.run(capture_output=True).returncode == 0


def test_a_crash_is_raised_where_a_run_is_awaited(pids: Pids) -> None:
    import asyncio

    async def main() -> None:
        with vfswasi.Sandbox(program(SAY + ENDLESS), isolation="process") as sandbox:
            async with sandbox.start_async(stdout=PIPE, stderr=PIPE) as run:
                assert run.stdout is not None
                await run.stdout.receive()
                shoot(pids()[0], signal.SIGSEGV)
                with pytest.raises(vfswasi.GuestCrashError, match="SIGSEGV"):
                    await run.result()

    asyncio.run(main())
