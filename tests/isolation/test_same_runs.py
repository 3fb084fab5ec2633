"""A run in a worker process is the run that it would have been here."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import DEVNULL, PIPE, STDOUT, Limits, Mount, Symlink

from ..fast_path import guests
from ..storage.http_server import HttpServer
from ..storage.servers import Moto, Server
from ..wat_programs import ENDLESS, FLOOD, OPEN, READ, SAY, SLEEP, pipe_ends, program

# Writes what it reads from stdin to stdout, 16 bytes at most.
ECHO = program(
    f"{READ} (i32.store (i32.const 36) (i32.load (i32.const 8))) "
    "(drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 8)))"
)
TRAP = program(f"{SAY} unreachable")
EXIT = program(f"{SAY} (call $exit (i32.const 7))")


def both(wasm: bytes | Path, *args: Any, **options: Any) -> tuple[Any, Any]:
    """(the result, or the type and message of the exception) here and in a worker."""
    found = []
    for isolation in ("none", "process"):
        try:
            found.append(vfswasi.run(wasm, *args, isolation=isolation, **options))
        except Exception as error:
            result = getattr(error, "result", None)
            found.append((type(error), str(error), result and (result.stdout, result.files)))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("wasm", "options"),
    [
        (program(SAY), {"capture_output": True}),
        (program(SAY), {"stdout": PIPE, "stderr": STDOUT}),
        (program(SAY), {"stdout": PIPE, "stderr": DEVNULL, "text": True}),
        (program(SAY), {}),
        (EXIT, {"capture_output": True}),
        (EXIT, {"capture_output": True, "check": True}),
        (TRAP, {"capture_output": True, "text": True}),
        (TRAP, {"check": True}),
        (program("(drop (call $raise (i32.const 15)))"), {"check": True}),
        (program(SAY + ENDLESS), {"capture_output": True, "timeout": 0.3}),
        (program(SAY + SLEEP), {"capture_output": True, "limits": Limits(wall_seconds=0.3)}),
        (program(SAY + ENDLESS), {"capture_output": True, "limits": Limits(fuel=10_000)}),
        (program(FLOOD), {"stdout": PIPE, "timeout": 0.3, "limits": Limits(output_bytes=100_000)}),
        (ECHO, {"stdout": PIPE, "input": b"hello"}),
        (ECHO, {"stdout": PIPE, "stdin": "text", "text": True}),
        (ECHO, {"stdout": PIPE, "stdin": bytearray(b"bytes")}),
        (guests.writer(3), {"preopens": {"/d": {"f": b"old", "s": {"l": Symlink("../f"), "t": "text"}}}}),
        (guests.writer(3), {"preopens": {"/d": Mount({"f": b"old"}, rw=False)}}),
        (b"(module", {}),
        (b'(module (import "env" "f" (func)) (memory (export "memory") 1) (func (export "_start")))', {}),
        (b'(module (memory (export "memory") 1))', {}),
        (program(""), {"preopens": {"/d": "/no/such/place"}}),
        (program(""), {"preopens": {"/d": "nosuch://x"}}),
        (program(""), {"preopens": {"/d": {"a/b": b""}}}),
        (program(""), {"cwd": "/nowhere", "preopens": {"/d": {}}}),
        (program(""), {"cwd": "relative"}),
        (program(""), {"env": {"A": "1\0"}}),
        (program(""), {"features": ["no-such"]}),
    ],
)
def test_what_comes_out_is_the_same(wasm: bytes, options: dict[str, Any]) -> None:
    here, there = both(wasm, **options)
    assert there == here
    if isinstance(here, vfswasi.Result):
        assert there.files == here.files
        assert there.truncated == here.truncated
        assert there.usage.output_bytes == here.usage.output_bytes
        assert there.usage.inodes == here.usage.inodes
        assert there.usage.memory_bytes == here.usage.memory_bytes
        assert there.interruption == here.interruption


def test_arguments_and_environment_and_cwd_go_there(program: Callable[[str], Path]) -> None:
    hello = program("hello")
    here, there = both(hello, ["a", "ü"], env={"NAME": "v"}, cwd="/d", preopens={"/d": {}}, capture_output=True)
    assert there == here
    assert there.args[1:] == ["a", "ü"]
    assert there.args[0].endswith(".wasm")


def test_a_seed_gives_the_same_bytes() -> None:
    wasm = program(
        "(drop (call $random (i32.const 16) (i32.const 8)))" + SAY,
        imports='(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))',
    )
    here, there = both(wasm, stdout=PIPE, seed=7)
    assert there.stdout == here.stdout


def test_relative_paths_begin_where_the_caller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("d", Path("d"), Mount("./d", rw=True), Mount(str(tmp_path / "d"), rw=True)):
        result = vfswasi.run(guests.writer(1), preopens={"/d": source}, isolation="process")
        wrote = isinstance(source, Mount)
        assert (result.returncode == 0) == wrote
        assert (tmp_path / "d" / "f").exists() == wrote
        (tmp_path / "d" / "f").unlink(missing_ok=True)


def test_a_module_is_the_file_that_it_was_when_the_sandbox_was_made(tmp_path: Path) -> None:
    path = tmp_path / "p.wasm"
    path.write_bytes(program("(call $say (i32.const 1))"))
    with vfswasi.Sandbox(path, isolation="process") as sandbox:
        path.write_bytes(EXIT)
        assert sandbox.run(stdout=PIPE).returncode == 0


def test_files_and_descriptors_are_passed_and_the_position_is_shared(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"0123456789abcdefREST")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as out:
        out.write(b">")
        vfswasi.run(ECHO, stdin=source, stdout=out, isolation="process")
        assert source.read() == b"REST"
    assert (tmp_path / "out").read_bytes() == b">0123456789abcdef"
    with pipe_ends() as (reading, writing):
        vfswasi.run(ECHO, input=b"abc", stdout=writing, isolation="process")
        os.close(writing)
        assert os.read(reading, 100) == b"abc"
        assert os.read(reading, 100) == b""  # nobody else has it open


def test_inherited_output_reaches_a_stdout_that_is_no_file_of_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    vfswasi.run(program(SAY), isolation="process")
    assert (out.getvalue(), err.getvalue()) == ("so fa", "so fa")


def test_a_stdout_of_the_callers_that_raises_ends_the_run_with_what_it_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("no more")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(RuntimeError, match="no more"):
        vfswasi.run(program(FLOOD), isolation="process", timeout=30)


def test_a_run_can_be_held_and_talked_to() -> None:
    with vfswasi.Sandbox(ECHO, isolation="process") as sandbox:
        for _ in range(2):
            with sandbox.start(stdin=PIPE, stdout=PIPE, text=True) as run:
                assert run.poll() is None
                assert run.stdin is not None
                assert run.stdout is not None
                run.stdin.write("ping")
                assert run.stdout.read() == "ping"
                assert run.wait(20) == 0
            assert run.returncode == 0
        assert sandbox.start(stdin=PIPE, stdout=PIPE).communicate(b"abc", timeout=20) == (b"abc", None)
        run = sandbox.start(stdin=PIPE)
        with pytest.raises(TimeoutError, match="still running"):
            run.wait(0.05)
        assert run.usage.wall_seconds > 0.04
        assert run.result(20).returncode == 0  # which closes its stdin


@pytest.mark.alone
@pytest.mark.parametrize("body", [ENDLESS, SLEEP])
def test_kill_ends_one_run_soon_and_keeps_what_it_wrote(body: str) -> None:
    with vfswasi.Sandbox(program(SAY + body), isolation="process") as sandbox:
        other = sandbox.start(stdout=PIPE)
        run = sandbox.start(stdout=PIPE, stderr=DEVNULL)
        assert run.stdout is not None
        assert run.stdout.read(5) == b"so fa"
        started = time.monotonic()
        run.kill()
        assert run.wait(20) == -9
        assert time.monotonic() - started < 1
        with pytest.raises(vfswasi.GuestInterruptedError) as caught:
            run.result()
        assert caught.value.result.usage.memory_bytes == 65536  # the worker said how it ended
        assert other.poll() is None
        other.kill()
        other.wait(20)


def test_interrupt_ends_all_runs_and_the_sandbox_goes_on() -> None:
    with vfswasi.Sandbox(program(SAY + ENDLESS), isolation="process") as sandbox:
        runs = [sandbox.start(stdout=PIPE, stderr=DEVNULL) for _ in range(3)]
        for run in runs:
            assert run.stdout is not None
            run.stdout.read(5)
        sandbox.interrupt()
        assert [run.wait(20) for run in runs] == [-9] * 3
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=0.1, capture_output=True)


def test_a_run_that_waits_for_a_worker_can_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_WORKERS", "1")
    with vfswasi.Sandbox(ECHO, isolation="process") as sandbox:
        first = sandbox.start(stdin=PIPE)
        time.sleep(0.1)
        second = sandbox.start(stdin=PIPE)
        time.sleep(0.1)
        second.kill()
        assert second.wait(20) == -9
        second.close_pipes()
        assert first.poll() is None
        assert first.result(20).returncode == 0


def test_one_run_has_its_own_environment_mounts_and_limits() -> None:
    with vfswasi.Sandbox(guests.writer(1), preopens={"/d": {}}, isolation="process") as sandbox:
        assert set(sandbox.run().files["/d"]) == {"f"}
        result = sandbox.run(preopens={"/d": {"g": b"1"}, "/e": {"h": b"2"}}, env={"A": "1"})
        assert set(result.files) == {"/d", "/e"}
        assert set(result.files["/d"]) == {"f", "g"}
        assert sandbox.run(limits=Limits(inodes=0)).returncode != 0
        assert sandbox.run().returncode == 0


@pytest.mark.alone
def test_runs_are_awaited_and_a_task_that_is_cancelled_ends_its_guest() -> None:
    async def main() -> None:
        result = await vfswasi.run_async(ECHO, input=b"x", stdout=PIPE, isolation="process")
        assert result.stdout == b"x"
        with vfswasi.Sandbox(ECHO, isolation="process") as sandbox:
            assert (await sandbox.run_async(input=b"y", stdout=PIPE)).stdout == b"y"
            async with sandbox.start_async(stdin=PIPE, stdout=PIPE) as run:
                assert run.stdin is not None
                assert run.stdout is not None
                await run.stdin.write(b"z")
                assert await run.stdout.read() == b"z"
            task = asyncio.create_task(sandbox.run_async(stdin=threading_pipe()))
            await asyncio.sleep(0.3)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 1

    reading, writing = os.pipe()

    def threading_pipe() -> int:
        return reading

    try:
        asyncio.run(main())
    finally:
        os.close(reading)
        os.close(writing)


def test_what_stores_far_away_cost_is_told() -> None:
    with HttpServer({"/f": b"0123456789abcdef" * 1000}) as server:
        preopens = {"/d": Mount(server.endpoint, cache=0)}
        with vfswasi.Sandbox(
            guests.module(guests.opening() + guests.READ), preopens=preopens, isolation="process"
        ) as sandbox:
            result = sandbox.run(check=True)
            assert result.traffic["/d"].requests > 0
            assert sandbox.traffic()["/d"].requests >= result.traffic["/d"].requests


def test_an_archive_that_somebody_else_made_meanwhile_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    wasm = program(f"{OPEN} (call $say (i32.const 4)) (call $say (i32.const 1)) {READ}")
    with vfswasi.Sandbox(wasm, preopens={"/d": Mount(str(path), rw=True)}, isolation="process") as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE)
        assert run.stdout is not None
        run.stdout.read(5)
        path.write_bytes(b"somebody else's")
        with pytest.raises(vfswasi.UncommittedError, match="was made by somebody else") as caught:
            run.result(20)
    assert [(file.path, file.error.errno) for file in caught.value.files] == [("/d", vfswasi.Errno.STALE)]
    assert caught.value.result.returncode == 0
    assert path.read_bytes() == b"somebody else's"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    """An S3 server and a bucket of it; credentials are in the environment, which workers have too."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", Server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", Server.secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = Moto()
    yield server, server.new_bucket()
    server.stop()


def test_files_that_cannot_be_stored_come_back_with_their_contents(bucket: tuple[Server, str], tmp_path: Path) -> None:
    server, name = bucket
    preopens = {"/d": Mount(f"s3://{name}", endpoint=f"http://127.0.0.1:{server.port}", rw=True, timeout=2)}
    wasm = program(f"{OPEN} (call $say (i32.const 4)) (call $say (i32.const 1)) {READ}")
    with vfswasi.Sandbox(wasm, preopens=preopens, isolation="process") as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE)
        assert run.stdout is not None
        run.stdout.read(5)
        server.stop()
        with pytest.raises(vfswasi.UncommittedError) as caught:
            run.result(60)
    (file,) = caught.value.files
    assert (file.path, file.size) == ("/d/s", 5)
    assert file.read() == b"so fa"
    assert file.read(1, 2) == b"o "
    file.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == b"so fa"
    assert caught.value.result.returncode == 0


def test_many_threads_share_one_sandbox() -> None:
    answers: list[bytes] = []
    with vfswasi.Sandbox(ECHO, isolation="process") as sandbox:

        def work(number: int) -> None:
            answers.append(sandbox.run(input=b"%d" % number, stdout=PIPE, timeout=60).stdout)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == sorted(b"%d" % number for number in range(50))
