"""`Sandbox.start`: a run that one can hold, with the manners of `subprocess.Popen`."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi
from vfswasi import PIPE

IMPORTS = """
(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(memory (export "memory") 4)
"""
CAT = f"""(module {IMPORTS} (func (export "_start") (loop $more
  (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
  (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
  (if (i32.load (i32.const 8)) (then
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 7))))
    (br $more))))))""".encode()
ENDLESS = b"""(module (memory (export "memory") 1) (func (export "_start") (loop $more (br $more))))"""
TWO_LINES = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\0c\\00\\00\\00")
  (data (i32.const 16) "first\\nlast\\1b\\n")
  (func (export "_start") (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 3))))"""
FLOOD = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $left i32) (local.set $left (i32.const 64))
    (i32.store (i32.const 4) (i32.const 65536))
    (loop $more
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 9))))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"""
SOON_S = 1.0  # what takes a tenth of a second may take this on a busy machine


@pytest.fixture(scope="module")
def cat() -> vfswasi.Sandbox:
    return vfswasi.Sandbox(CAT)


@pytest.fixture(scope="module")
def endless() -> vfswasi.Sandbox:
    return vfswasi.Sandbox(ENDLESS)


def test_a_conversation_line_by_line(cat: vfswasi.Sandbox) -> None:
    with cat.start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for line in (b"one\n", b"two\n"):
            run.stdin.write(line)
            assert run.stdout.readline() == line
            assert run.poll() is None
            assert run.returncode is None
        assert run.usage.wall_seconds > 0
        run.stdin.close()
        assert run.stdout.read() == b""
        assert (run.wait(), run.poll(), run.returncode) == (0, 0, 0)
    assert run.stdout.closed


def test_text_is_not_translated(cat: vfswasi.Sandbox) -> None:
    with cat.start(stdin=PIPE, stdout=PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write("h\u00e9llo\r\nworld\n")
        run.stdin.close()
        assert list(run.stdout) == ["h\u00e9llo\r\n", "world\n"]


def test_who_waits_needs_not_read(cat: vfswasi.Sandbox) -> None:
    """A pipe has room for 64 KiB."""
    run = cat.start(stdin=b"x" * (1 << 20), stdout=PIPE)
    assert run.wait() == 0
    assert run.stdout is not None
    assert run.stdout.read(3) == b"xxx"
    assert len(run.result().stdout) == (1 << 20) - 3
    assert run.result().stdout == run.result().stdout


def test_communicate_writes_and_reads_at_once(cat: vfswasi.Sandbox) -> None:
    data = os.urandom(3 << 20)
    assert cat.start(stdin=PIPE, stdout=PIPE).communicate(data) == (data, None)
    assert cat.start(stdin=PIPE, stdout=PIPE, text=True).communicate("x" * 100_000) == ("x" * 100_000, None)
    assert cat.start(stdin=PIPE, stdout=PIPE).communicate() == (b"", None)
    with pytest.raises(TypeError, match="str"):
        cat.start(stdin=PIPE, stdout=PIPE, text=True).communicate(b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stdin=PIPE"):
        cat.start(stdout=PIPE).communicate(b"x")


def test_a_guest_that_does_not_read_is_no_error_of_communicate() -> None:
    run = vfswasi.Sandbox(b'(module (func (export "_start")))').start(stdin=PIPE, stdout=PIPE)
    assert run.communicate(b"x" * (1 << 20)) == (b"", None)


def test_communicate_again_loses_nothing() -> None:
    waits = vfswasi.Sandbox(CAT).start(stdin=PIPE, stdout=PIPE)
    assert waits.stdin is not None
    waits.stdin.write(b"first ")
    with pytest.raises(TimeoutError):
        waits.wait(0.05)
    assert waits.communicate(b"second") == (b"first second", None)


def test_joined_streams_are_one_pipe() -> None:
    run = vfswasi.Sandbox(TWO_LINES).start(stdout=PIPE, stderr=vfswasi.STDOUT)
    assert run.communicate() == (b"first\nlast\x1b\n", None)
    assert run.returncode == 3


def test_output_beyond_the_limit_is_cut_and_said() -> None:
    few = vfswasi.Limits(output_bytes=1 << 20)
    run = vfswasi.Sandbox(FLOOD, limits=few).start(stdout=PIPE)
    result = run.result()
    assert result.truncated
    assert len(result.stdout) == 1 << 20
    captured = vfswasi.run(FLOOD, capture_output=True, limits=few)
    assert (captured.truncated, captured.returncode, len(captured.stdout)) == (True, 9, 1 << 20)
    whole = vfswasi.run(FLOOD, capture_output=True)
    assert (whole.truncated, whole.returncode, len(whole.stdout)) == (False, 0, 4 << 20)


def test_killing_one_run_leaves_its_neighbours_alone(endless: vfswasi.Sandbox, cat: vfswasi.Sandbox) -> None:
    mine, neighbour = endless.start(timeout=60), endless.start(timeout=60)
    other = cat.start(stdin=PIPE, stdout=PIPE, timeout=60)
    begun = time.monotonic()
    mine.kill()
    assert mine.wait() == -9
    assert time.monotonic() - begun < SOON_S
    mine.kill()  # nothing more happens
    with pytest.raises(vfswasi.GuestInterruptedError) as raised:
        mine.result()
    assert raised.value.result.returncode == -9
    assert (neighbour.poll(), other.poll()) == (None, None)
    assert other.communicate(b"still here") == (b"still here", None)
    with pytest.raises(KeyError), neighbour:
        raise KeyError
    assert neighbour.returncode == -9


def test_a_block_that_raises_kills_the_guest(endless: vfswasi.Sandbox) -> None:
    begun = time.monotonic()
    with pytest.raises(RuntimeError), endless.start(timeout=60) as run:
        raise RuntimeError
    assert time.monotonic() - begun < SOON_S
    assert run.returncode == -9


def test_waiting_may_end_before_the_run_does(endless: vfswasi.Sandbox) -> None:
    run = endless.start(timeout=60)
    for wait in (run.wait, run.result, lambda timeout: run.communicate(timeout=timeout)):
        with pytest.raises(TimeoutError, match=r"still running after 0\.05 seconds"):
            wait(timeout=0.05)
    assert run.poll() is None
    run.kill()
    assert run.wait(SOON_S) == -9


def test_a_deadline_ends_a_run_that_nobody_waits_for(endless: vfswasi.Sandbox) -> None:
    run = endless.start(timeout=0.2)
    until = time.monotonic() + 10
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert run.returncode == -9
    with pytest.raises(vfswasi.GuestTimeoutError) as raised:
        run.result()
    assert raised.value.result.limit == "wall_seconds"


def test_a_guest_that_hangs_in_a_function_of_the_hosts_is_left_behind() -> None:
    released = threading.Event()
    module = b"""(module (import "env" "hang" (func $hang)) (memory (export "memory") 1)
      (func (export "_start") (call $hang)))"""
    sandbox = vfswasi.Sandbox(module, imports={"env": {"hang": lambda _memory: released.wait(60) and None}})
    run = sandbox.start(stdout=PIPE, timeout=60)
    time.sleep(0.05)
    begun = time.monotonic()
    run.kill()
    assert run.wait() == -9
    assert time.monotonic() - begun < SOON_S
    assert run.stdout is not None
    assert run.stdout.read() == b""
    released.set()


def test_what_a_callable_raises_is_raised_to_whoever_waits() -> None:
    def fail(_memory: object) -> None:
        raise LookupError("mine")

    module = (
        b"""(module (import "env" "f" (func $f)) (memory (export "memory") 1) (func (export "_start") (call $f)))"""
    )
    sandbox = vfswasi.Sandbox(module, imports={"env": {"f": fail}})
    run = sandbox.start()
    for wait in (run.wait, run.result):
        with pytest.raises(LookupError, match="mine"):
            wait()
    with pytest.raises(LookupError), sandbox.start():
        pass


def test_the_manners_of_popen_for_wrong_arguments(cat: vfswasi.Sandbox) -> None:
    with pytest.raises(ValueError, match="stdin and input"):
        cat.run(stdin=b"x", input=b"x")
    with pytest.raises(TypeError, match="input must be"):
        cat.run(input=5)
    with pytest.raises(TypeError, match="timeout"):
        cat.start().wait("1")  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        cat.start(text=True, encoding="no-such-encoding")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(ValueError, match="descriptor"):
        cat.start(stdin=PIPE, stdout=PIPE, stderr=-77)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before


def test_input_is_what_the_guest_reads(cat: vfswasi.Sandbox) -> None:
    assert cat.run(input="h\u00e9", capture_output=True).stdout == "h\u00e9".encode()
    assert vfswasi.run(CAT, input=b"abc", capture_output=True, text=True).stdout == "abc"


def test_what_was_read_makes_no_room_beyond_the_limit() -> None:
    run = vfswasi.Sandbox(FLOOD, limits=vfswasi.Limits(output_bytes=1 << 20)).start(stdout=PIPE)
    assert run.stdout is not None
    assert len(run.stdout.read(2 << 20)) == 2 << 20
    result = run.result()
    assert result.truncated
    assert len(result.stdout) <= (1 << 20) + (1 << 17)  # and what was read ahead


def test_two_threads_communicate_in_turns(cat: vfswasi.Sandbox) -> None:
    run, seen = cat.start(stdin=PIPE, stdout=PIPE), []
    threads = [threading.Thread(target=lambda: seen.append(run.communicate(b"x" * 70_000))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [(b"x" * 70_000, None)] * 2


def test_a_stream_may_be_closed_while_somebody_waits(cat: vfswasi.Sandbox) -> None:
    run, codes = cat.start(stdin=PIPE, stdout=PIPE, timeout=30), []
    assert run.stdin is not None
    assert run.stdout is not None
    waiting = threading.Thread(target=lambda: codes.append(run.wait()))
    waiting.start()
    time.sleep(0.1)
    run.stdout.close()
    run.stdin.close()
    waiting.join(60)
    assert codes == [0]


def test_a_sandbox_that_is_closed_while_a_run_is_prepared_runs_nothing() -> None:
    sandbox = vfswasi.Sandbox(CAT)

    class Closes(vfswasi.MemoryBackend):
        @property
        def identity(self) -> object:
            sandbox.close()
            return super().identity

    with pytest.raises(ValueError, match="closed"):
        sandbox.run(preopens={"/d": Closes()})
    assert not sandbox._running


def test_two_threads_wait_for_one_run(endless: vfswasi.Sandbox) -> None:
    run, seen = endless.start(timeout=60), []
    threads = [threading.Thread(target=lambda: seen.append(run.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    run.kill()
    for thread in threads:
        thread.join(30)
    assert seen == [-9] * 4


def test_ctrl_c_ends_a_wait_and_with_the_block_the_guest() -> None:
    code = f"""
import vfswasi, os, signal, threading, time
run = None
try:
    with vfswasi.Sandbox({ENDLESS!r}).start() as run:
        print("waiting", flush=True)
        run.wait()
except KeyboardInterrupt:
    print("ended", run.returncode, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == "ended -9\n"
        finally:
            process.kill()


# What is told when a run ends badly.


def test_an_error_carries_the_result_and_tells_the_end_of_stderr() -> None:
    with pytest.raises(vfswasi.GuestExitError) as raised:
        vfswasi.run(TWO_LINES, preopens={"/d": {"f": b"kept"}}, capture_output=True, check=True)
    error = raised.value
    assert error.result.files == {"/d": {"f": b"kept"}}
    assert (error.result.returncode, error.returncode) == (3, 3)
    assert str(error).split("\n") == [
        "module.wasm ended with exit status 3; its stderr ends with:",
        "  first",
        r"  last\x1b",
    ]
    again = pickle.loads(pickle.dumps(vfswasi.GuestTimeoutError("late", argv=["x"], stdout=b"out")))
    assert (type(again), str(again), again.argv, again.stdout) == (vfswasi.GuestTimeoutError, "late", ["x"], b"out")


@pytest.mark.parametrize("how", ["timeout", "kill", "fuel"])
def test_nothing_is_lost_when_a_run_is_ended_from_outside(how: str) -> None:
    module = b"""(module
      (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00") (data (i32.const 16) "made")
      (func (export "_start") (drop (call $mkdir (i32.const 3) (i32.const 16) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (loop $more (br $more))))"""
    limits = vfswasi.Limits(fuel=1_000_000) if how == "fuel" else None
    sandbox = vfswasi.Sandbox(module, preopens={"/d": {}}, limits=limits)
    run = sandbox.start(stdout=PIPE, timeout=0.3 if how == "timeout" else 60)
    if how == "kill":
        assert run.stdout is not None
        assert run.stdout.read(4) == b"made"
        run.kill()
    with pytest.raises(vfswasi.GuestError) as raised:
        run.result()
    result = raised.value.result
    assert result.files == {"/d": {"made": {}}}
    assert result.stdout == (b"" if how == "kill" else b"made")
    assert result.usage.inodes == 1
    assert raised.value.returncode is None


# What one run has for itself.

ENVIRON = b"""(module
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $get (i32.const 4096) (i32.const 8192))) (drop (call $sizes (i32.const 16) (i32.const 4)))
    (i32.store (i32.const 0) (i32.const 8192))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


def environ(result: vfswasi.Result[bytes]) -> dict[str, str]:
    assert result.stdout is not None
    return dict(pair.split("=", 1) for pair in result.stdout.decode().split("\0") if pair)  # type: ignore[misc]


def test_environment_of_one_run() -> None:
    sandbox = vfswasi.Sandbox(ENVIRON, env={"A": "1", "B": "2"})
    assert environ(sandbox.run(capture_output=True, env={"B": "3", "C": "4"})) == {"A": "1", "B": "3", "C": "4"}
    assert environ(sandbox.run(capture_output=True)) == {"A": "1", "B": "2"}
    with pytest.raises(TypeError):
        sandbox.run(env="A=1")  # type: ignore[arg-type]


def test_preopens_of_one_run(program: Callable[[str], Path]) -> None:
    shared = vfswasi.MemoryBackend({"s": b""})
    sandbox = vfswasi.Sandbox(program("tree"), preopens={"/a": {"one": b"1"}, "/b": shared})

    def names(**options: object) -> list[str]:
        return sorted(sandbox.run(["/a", "/b"], capture_output=True, **options).files)  # type: ignore[arg-type]

    assert names() == ["/a", "/b"]
    result = sandbox.run(["/a"], preopens={"/a": {"two": b"22"}, "/c": {"three": b""}}, capture_output=True)
    assert result.files == {"/a": {"two": b"22"}, "/b": {"s": b""}, "/c": {"three": b""}}
    assert list(result.files) == ["/a", "/b", "/c"]
    assert names() == ["/a", "/b"]
    with pytest.raises(vfswasi.MountError, match="does not exist"):
        sandbox.run(preopens={"/c": "/no/such/directory"})
    with pytest.raises(vfswasi.MountError, match="given twice"):
        sandbox.run(preopens={"/c": {}, "/c/": {}})


def test_preopens_of_one_run_are_checked_against_those_of_the_sandbox(tmp_path: Path) -> None:
    sandbox = vfswasi.Sandbox(b'(module (func (export "_start")))', preopens={"/a": vfswasi.Mount(tmp_path)})
    with pytest.raises(vfswasi.MountError, match="other permissions"):
        sandbox.run(preopens={"/b": vfswasi.Mount(tmp_path, rw=True)})
    assert sandbox.run(preopens={"/a": vfswasi.Mount(tmp_path, rw=True)}).returncode == 0
    assert sandbox.run().returncode == 0  # what is the Sandbox's was not closed


def test_limits_of_one_run() -> None:
    grows = b"""(module (memory (export "memory") 1) (func (export "_start")
      (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))"""
    sandbox = vfswasi.Sandbox(grows)
    assert sandbox.run().returncode == 0
    assert sandbox.run(limits=vfswasi.Limits(memory_bytes=1 << 20)).returncode == -6
    assert sandbox.run(limits=vfswasi.Limits(fuel=1_000_000)).usage.fuel is not None
    with pytest.raises(vfswasi.GuestFuelError):
        sandbox.run(limits=vfswasi.Limits(fuel=1))
    assert sandbox.run().usage.fuel is None
    with pytest.raises(TypeError, match="Limits"):
        sandbox.run(limits={"fuel": 1})  # type: ignore[arg-type]


def test_limits_that_need_another_compilation_need_the_same_module(tmp_path: Path) -> None:
    path = tmp_path / "a.wasm"
    path.write_bytes(b'(module (func (export "_start")))')
    sandbox = vfswasi.Sandbox(path)
    assert sandbox.run(limits=vfswasi.Limits(fuel=100)).returncode == 0
    path.write_bytes(b'(module (func (export "_start") unreachable))')
    assert sandbox.run().returncode == 0
    with pytest.raises(vfswasi.InvalidModuleError, match="has changed"):
        sandbox.run(limits=vfswasi.Limits(fuel=101, stack_bytes=1 << 20))


def test_imports_of_one_run() -> None:
    module = b"""(module (import "env" "f" (func $f)) (import "env" "g" (func $g)) (memory (export "memory") 1)
      (func (export "_start") (call $f) (call $g)))"""
    seen: list[str] = []
    first = {"env": {"f": lambda _: seen.append("f"), "g": lambda _: seen.append("g")}}
    sandbox = vfswasi.Sandbox(module, imports=first)
    sandbox.run(imports={"env": {"g": lambda _: seen.append("another g")}})
    sandbox.run()
    assert seen == ["f", "another g", "f", "g"]


def test_a_relative_path_begins_at_cwd(program: Callable[[str], Path], tmp_path: Path) -> None:
    tree = {"sub": {"a": b"xx", "b": b"yyy"}, "outer": b"y"}
    sandbox = vfswasi.Sandbox(program("liststat"), preopens={"/data": tree})
    listed = sandbox.run(["."], capture_output=True, text=True, cwd="/data/sub")
    assert listed.stdout == "2 entries, 5 bytes\n"
    assert sandbox.run(["/data"], capture_output=True, text=True, cwd="/data/sub").stdout == "2 entries, 1 bytes\n"
    assert sandbox.run([".."], capture_output=True, cwd="/data/sub").returncode == 1
    for wrong in ("/elsewhere", "/data/missing", "/data/outer"):
        with pytest.raises(vfswasi.MountError, match="cwd"):
            sandbox.run(cwd=wrong)
    for wrong in ("relative", "", "/a\0b"):
        with pytest.raises(ValueError, match="cwd"):
            sandbox.run(cwd=wrong)
    with pytest.raises(TypeError, match="cwd"):
        sandbox.run(cwd=tmp_path)  # type: ignore[arg-type]


def test_cwd_is_in_the_environment() -> None:
    sandbox = vfswasi.Sandbox(ENVIRON, env={"PWD": "/old"}, preopens={"/": {"x": {}}})
    assert environ(sandbox.run(capture_output=True, cwd="/x")) == {"PWD": "/x"}


def test_a_working_directory_gives_no_rights_and_leads_nowhere_else() -> None:
    """The preopen "." has the rights of the mount, and leads where no link leads out of it."""
    escape = {"sub": {}, "out": vfswasi.Symlink("../../etc"), "up": vfswasi.Symlink(".."), "in": vfswasi.Symlink("sub")}
    makes = b"""(module
      (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (data (i32.const 0) "new../new")
      (func (export "_start") (call $exit (i32.add
        (call $mkdir (i32.const 4) (i32.const 0) (i32.const 3))
        (i32.mul (i32.const 1000) (call $mkdir (i32.const 4) (i32.const 3) (i32.const 6)))))))"""
    sandbox = vfswasi.Sandbox(makes, preopens={"/d": escape})
    notcapable, rofs = vfswasi.Errno.NOTCAPABLE, vfswasi.Errno.ROFS
    for way in ("/d/sub", "/d/in", "/d/./sub/../sub"):
        result = sandbox.run(cwd=way)
        assert result.returncode == 1000 * notcapable, way
        assert result.files["/d"]["sub"] == {"new": {}}
    result = sandbox.run(cwd="/d/sub", preopens={"/d": vfswasi.Mount(escape, rw=False)})
    assert result.returncode in (1000 * rofs + rofs, 1000 * notcapable + rofs)
    for way in ("/d/out", "/d/up", "/d/../etc"):
        with pytest.raises(vfswasi.MountError, match="cwd"):
            sandbox.run(cwd=way)
