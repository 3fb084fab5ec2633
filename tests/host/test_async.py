"""Runs that are awaited, under asyncio and trio."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import vfswasi
from vfswasi import PIPE

from .test_run import CAT, ENDLESS, FLOOD, SOON_S, TWO_LINES

pytestmark = pytest.mark.alone

Main = Callable[[], Awaitable[Any]]


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Runs an asynchronous function to its end."""
    return lambda main: anyio.run(main, backend=request.param)


def test_a_run_is_awaited(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        result = await vfswasi.run_async(CAT, input="abc", capture_output=True, text=True, preopens={"/d": {"f": b""}})
        assert (result.stdout, result.files) == ("abc", {"/d": {"f": b""}})
        with vfswasi.Sandbox(TWO_LINES) as sandbox:
            assert (await sandbox.run_async(capture_output=True)).stderr == b"first\nlast\x1b\n"
            with pytest.raises(vfswasi.GuestExitError):
                await sandbox.run_async(capture_output=True, check=True)
            with pytest.raises(vfswasi.GuestTimeoutError):
                await vfswasi.run_async(ENDLESS, timeout=0.1)
        with pytest.raises(vfswasi.MountError):
            await vfswasi.run_async(CAT, preopens={"/d": "/no/such/directory"})
        with pytest.raises(TypeError, match="no_such"):
            await vfswasi.run_async(CAT, no_such=1)

    loop(main)


def test_a_conversation(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        with vfswasi.Sandbox(CAT) as sandbox:
            async with sandbox.start_async(stdin=PIPE, stdout=PIPE, text=True) as run:
                await run.stdin.write("h\u00e9llo\n")
                assert await run.stdout.readline() == "h\u00e9llo\n"
                assert run.poll() is None
                await run.stdin.write("one\ntwo\nthree")
                assert await run.stdout.read(5) == "one\nt"
                run.stdin.close()
                assert [line async for line in run.stdout] == ["wo\n", "three"]
                assert await run.wait() == 0
            assert run.returncode == 0
            async with sandbox.start_async(stdin=b"x" * 300_000, stdout=PIPE) as run:
                assert await run.stdout.receive(5) == b"xxxxx"
                assert len((await run.result()).stdout) == 300_000 - 5
            with pytest.raises(TypeError, match="str"):
                async with sandbox.start_async(stdin=PIPE, text=True) as run:
                    await run.stdin.write(b"x")
            assert run.returncode == -9

    loop(main)


def test_what_nobody_reads_does_not_hold_the_end_up(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with vfswasi.Sandbox(FLOOD).start_async(stdout=PIPE, timeout=30) as run:
            pass
        assert run.returncode == 0

    loop(main)


def test_cancelling_ends_the_guest_and_waits_for_it(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        sandbox = vfswasi.Sandbox(ENDLESS)
        neighbour = sandbox.start(timeout=60)
        for how in ("run", "start", "in a pipe"):
            begun = time.monotonic()
            with anyio.move_on_after(0.2) as scope:
                if how == "run":
                    await sandbox.run_async()
                else:
                    async with sandbox.start_async(stdout=PIPE) as run:
                        await (anyio.sleep_forever() if how == "start" else run.stdout.read())
            assert scope.cancelled_caught
            assert time.monotonic() - begun < 0.2 + SOON_S
            assert how == "run" or run.returncode == -9
            while len(sandbox._running) > 1:  # where the machine is busy it is left behind, and ends a little later
                assert time.monotonic() - begun < 5
                await anyio.sleep(0.01)
        assert neighbour.poll() is None
        neighbour.kill()
        neighbour.wait()

    loop(main)


def test_waiting_that_is_cancelled_leaves_the_run_alone(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with vfswasi.Sandbox(CAT).start_async(stdin=PIPE, stdout=PIPE) as run:
            with anyio.move_on_after(0.05) as scope:
                await run.wait()
            assert scope.cancelled_caught
            await run.stdin.write(b"x")
            assert await run.stdout.receive() == b"x"

    loop(main)


def test_a_guest_that_hangs_in_a_function_of_the_hosts_does_not_hold_its_task_up(loop: Callable[[Main], Any]) -> None:
    released = threading.Event()
    module = b"""(module (import "env" "hang" (func $hang)) (memory (export "memory") 1)
      (func (export "_start") (call $hang)))"""

    async def main() -> None:
        sandbox = vfswasi.Sandbox(module, imports={"env": {"hang": lambda _memory: released.wait(60) and None}})
        begun = time.monotonic()
        with pytest.raises(vfswasi.GuestTimeoutError):
            await sandbox.run_async(timeout=0.2)
        with anyio.move_on_after(0.1):
            await sandbox.run_async()
        assert time.monotonic() - begun < 0.3 + 2 * SOON_S

    loop(main)
    released.set()


def test_as_many_go_on_at_once_as_there_are_places(loop: Callable[[Main], Any]) -> None:
    going, most = 0, 0
    lock = threading.Lock()
    module = b"""(module (import "env" "work" (func $work)) (memory (export "memory") 1)
      (func (export "_start") (call $work)))"""

    def work(_memory: object) -> None:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        time.sleep(0.01)
        with lock:
            going -= 1

    async def main() -> None:
        sandbox = vfswasi.Sandbox(module, imports={"env": {"work": work}})
        limiter = anyio.CapacityLimiter(3)

        async def one() -> None:
            await sandbox.run_async(limiter=limiter)

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(one)

    loop(main)
    assert most == 3


def test_a_thousand_runs_at_once_leave_nothing_behind(loop: Callable[[Main], Any]) -> None:
    """Each is finished or cancelled at random, while a neighbour goes on."""
    cat, endless = vfswasi.Sandbox(CAT), vfswasi.Sandbox(ENDLESS)
    late: list[float] = []
    outputs: list[int] = []

    async def one(number: int) -> None:
        until = anyio.current_time() + random.random()
        with anyio.CancelScope(deadline=until) as scope:
            if number % 4:
                result = await cat.run_async(input=b"x" * number, capture_output=True)
                assert result.stdout == b"x" * number
                outputs.append(number)
            else:
                await endless.run_async(timeout=60)
        if scope.cancelled_caught:
            late.append(anyio.current_time() - until)

    async def thousand() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(one, number)

    async def main() -> None:
        neighbour = endless.start(timeout=120)
        talk = cat.start(stdin=PIPE, stdout=PIPE, timeout=120)
        await thousand()
        gc.collect()
        before = _left()
        await thousand()
        gc.collect()
        threads, descriptors = _left()
        assert threads <= before[0] + 2  # idle ones
        assert descriptors <= before[1]
        assert neighbour.poll() is None
        neighbour.kill()
        neighbour.wait()
        assert talk.communicate(b"still") == (b"still", None)

    loop(main)
    assert len(outputs) + len(late) == 2000
    assert outputs
    assert len(cat._running) == len(endless._running) == 0
    # The event loop itself is late when a thousand tasks end; each by itself took a few milliseconds.
    assert sorted(late)[len(late) // 2] < 0.1
    assert max(late) < SOON_S


def _left() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_two_tasks_wait_for_one_run(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        codes: list[int] = []
        async with vfswasi.Sandbox(CAT).start_async(stdin=PIPE) as run, anyio.create_task_group() as tasks:

            async def wait() -> None:
                codes.append(await run.wait())

            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await anyio.sleep(0.05)
            run.stdin.close()
        assert codes == [0, 0]

    loop(main)


def test_a_task_that_reads_gets_all_of_it_though_the_block_ends(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        lines: list[bytes] = []
        held = vfswasi.Sandbox(CAT).start_async(stdin=b"line\n" * 50_000, stdout=PIPE)
        async with anyio.create_task_group() as tasks, held as run:
            reader = run.stdout

            async def pump() -> None:
                lines.extend([line async for line in reader])

            tasks.start_soon(pump)
        assert lines == [b"line\n"] * 50_000

    loop(main)


def test_a_read_that_is_cancelled_loses_nothing(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with vfswasi.Sandbox(CAT).start_async(stdin=PIPE, stdout=PIPE, timeout=30) as run:
            await run.stdin.write(b"hello ")
            with anyio.move_on_after(0.2) as scope:
                await run.stdout.read(100)
            assert scope.cancelled_caught
            await run.stdin.write(b"world")
            with anyio.move_on_after(0.2) as scope:
                await run.stdout.readline()
            assert scope.cancelled_caught
            run.stdin.close()
            assert (await run.result()).stdout == b"hello world"

    loop(main)


def test_a_result_keeps_as_much_as_the_limit_allows(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        sandbox = vfswasi.Sandbox(FLOOD, limits=vfswasi.Limits(output_bytes=1 << 20))
        async with sandbox.start_async(stdout=PIPE) as run:
            result = await run.result()
        assert result.truncated
        assert 1 << 20 <= len(result.stdout) <= (1 << 20) + (1 << 16)

    loop(main)


def test_a_stream_that_was_closed_is_read_no_more(loop: Callable[[Main], Any], tmp_path: Path) -> None:
    """Its number may be somebody else's by then."""
    (tmp_path / "own").write_bytes(b"mine")

    async def main() -> None:
        async with vfswasi.Sandbox(CAT).start_async(stdin=PIPE, stdout=PIPE) as run:
            await run.stdout.aclose()
            with (tmp_path / "own").open("rb") as own:
                assert await run.stdout.read() == b""
                run.stdin.close()
                await run.wait()
                assert own.read() == b"mine"

    loop(main)


def test_closing_wakes_who_waits(loop: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with vfswasi.Sandbox(ENDLESS).start_async(stdin=PIPE, stdout=PIPE, timeout=60) as run:
            seen: list[str] = []

            async def write() -> None:
                try:
                    await run.stdin.write(b"x" * (1 << 20))
                except BrokenPipeError:
                    seen.append("write")

            async def read() -> None:
                assert await run.stdout.read() == b""
                seen.append("read")

            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(write)
                    tasks.start_soon(read)
                    await anyio.sleep(0.1)
                    run.stdin.close()
                    await run.stdout.aclose()
            assert sorted(seen) == ["read", "write"]
            run.kill()

    loop(main)


def test_what_a_callable_raised_is_raised_again_by_the_block(loop: Callable[[Main], Any]) -> None:
    def fail(_memory: object) -> None:
        raise LookupError("mine")

    module = (
        b"""(module (import "env" "f" (func $f)) (memory (export "memory") 1) (func (export "_start") (call $f)))"""
    )

    async def main() -> None:
        seen = []
        try:
            async with vfswasi.Sandbox(module, imports={"env": {"f": fail}}).start_async(stdout=PIPE) as run:
                try:
                    await run.result()
                except LookupError as error:
                    seen.append(str(error))
        except LookupError as error:
            seen.append(str(error))
        assert seen == ["mine", "mine"]

    loop(main)


def test_runs_that_are_cancelled_while_they_are_prepared_leave_nothing(
    loop: Callable[[Main], Any], tmp_path: Path
) -> None:
    async def main() -> None:
        sandbox = vfswasi.Sandbox(CAT)

        async def one() -> None:
            with anyio.move_on_after(random.random() * 0.02):
                await sandbox.run_async(preopens={"/d": str(tmp_path)}, input=b"x", capture_output=True)

        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(one)
        until = time.monotonic() + 10
        while sandbox._running and time.monotonic() < until:
            await anyio.sleep(0.01)
        assert not sandbox._running

    loop(main)


WITHOUT_TRIO = """
import asyncio, sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trio", "sniffio"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Gone())
import vfswasi

async def main(wasm, endless):
    result = await vfswasi.run_async(wasm, input="abc", capture_output=True, text=True)
    print(result.stdout)
    with vfswasi.Sandbox(wasm) as sandbox:
        async with sandbox.start_async(stdin=vfswasi.PIPE, stdout=vfswasi.PIPE, text=True) as run:
            await run.stdin.write("one")
            run.stdin.close()
            print(await run.stdout.read(), await run.wait())
    task = asyncio.create_task(vfswasi.run_async(endless, timeout=60))
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main(*(text.encode() for text in sys.argv[1:])))
assert not {"trio", "sniffio"} & set(sys.modules)
for name in ("trio", "sniffio"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        print("no", name)
"""


def test_a_run_is_awaited_where_there_is_neither_trio_nor_sniffio() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRIO, CAT.decode(), ENDLESS.decode()],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["abc", "one 0", "cancelled", "no trio", "no sniffio"]
