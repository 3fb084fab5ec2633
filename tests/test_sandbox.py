"""`run`, `Sandbox` and `Result` have the manners of `subprocess.run`."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from .guest_programs import compile_guest

ROOT = Path(__file__).parents[1]
Run = Callable[..., vfswasi.Result]

EXIT = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const %d))))"""
TRAP = b'(module (memory (export "memory") 1) (func (export "_start") unreachable))'
ENDLESS = b'(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
# A relative clock subscription of an hour at 0, polled once.
SLEEP = b"""(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"""
READ = b"""(module (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 64))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
# Says "before" and then computes for ever.
SAY_AND_LOOP = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 64) "before")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop (br 0))))"""


def exits(code: int) -> bytes:
    return (EXIT % code).encode()


# Standard streams


@pytest.mark.parametrize(
    "make",
    [
        lambda tmp_path: b"some input",
        lambda tmp_path: "some input",
        lambda tmp_path: bytearray(b"some input"),
        lambda tmp_path: io.BytesIO(b"some input"),
        lambda tmp_path: io.StringIO("some input"),
    ],
    ids=["bytes", "str", "bytearray", "BytesIO", "StringIO"],
)
def test_stdin_takes_data_and_files(run_program: Run, tmp_path: Path, make: Callable[[Path], Any]) -> None:
    assert run_program("hello", stdin=make(tmp_path)).stdout.endswith("some input")


def test_stdin_takes_a_real_file_and_a_descriptor(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("from a file")
    with open(tmp_path / "input") as file:
        assert run_program("hello", stdin=file).stdout.endswith("from a file")
    with open(tmp_path / "input", "rb") as file:
        assert run_program("hello", stdin=file.fileno()).stdout.endswith("from a file")


def test_stdin_is_nothing_by_default(run_program: Run) -> None:
    assert run_program("hello").stdout.count("\n") == 1
    assert run_program("hello", stdin=vfswasi.DEVNULL).stdout.count("\n") == 1


def test_large_input_passes_whole(run_program: Run) -> None:
    data = "0123456789\n" * 100_000
    assert run_program("hello", stdin=data).stdout.endswith(data)


def test_outputs_go_where_they_are_sent(tmp_path: Path) -> None:
    program, lines = compile_guest("hello"), []
    result = vfswasi.run(program, stdout=lines.append, stderr=vfswasi.DEVNULL)
    assert (result.stdout, result.stderr) == (None, None)
    assert b"".join(lines).startswith(b"arg 0: [hello")
    with open(tmp_path / "out", "w") as file:
        file.write("first, ")
        vfswasi.run(program, stdout=file, stderr=vfswasi.STDOUT)
    text = (tmp_path / "out").read_text()
    assert text.startswith("first, arg 0: [hello")
    assert text.endswith("done\n")
    memory, words = io.BytesIO(), io.StringIO()
    vfswasi.run(program, stdout=memory, stderr=words)
    assert memory.getvalue().startswith(b"arg 0")
    assert words.getvalue() == "done\n"


def test_stderr_joins_stdout_when_captured() -> None:
    result = vfswasi.run(compile_guest("hello"), stdout=vfswasi.PIPE, stderr=vfswasi.STDOUT, text=True)
    assert result.stdout.endswith("done\n")
    assert result.stderr is None


def test_inherited_output(capfd: pytest.CaptureFixture[str]) -> None:
    vfswasi.run(compile_guest("hello"), argv0="me")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("arg 0: [me]\n", "done\n")


def test_output_is_bytes_unless_text_is_asked_for() -> None:
    program = compile_guest("hello")
    assert vfswasi.run(program, ["\udcff"], capture_output=True).stdout.endswith(b"[\xff]\n")
    assert vfswasi.run(program, ["\udcff"], capture_output=True, text=True).stdout.endswith(
        "[\N{REPLACEMENT CHARACTER}]\n"
    )
    assert vfswasi.run(program, ["ü"], capture_output=True, text=True, encoding="latin-1").stdout.endswith("[Ã¼]\n")


def test_captured_output_is_limited() -> None:
    limits = vfswasi.Limits(output_bytes=100)
    result = vfswasi.run(compile_guest("hello"), stdin=b"x" * 1000, capture_output=True, limits=limits)
    assert len(result.stdout) == 100


# Results and errors


@pytest.mark.parametrize("code", [0, 1, 124, 125, 126, 127, 128, 255, 256, 2**32 - 1])
def test_exit_statuses_survive(code: int) -> None:
    assert vfswasi.run(exits(code - 2**32 if code >= 2**31 else code)).returncode == code


def test_check_raises_with_the_output() -> None:
    with pytest.raises(vfswasi.GuestExitError, match="exit status 3") as caught:
        vfswasi.run(compile_guest("hello"), ["a", "b"], capture_output=True, text=True, check=True, argv0="me")
    error = caught.value
    assert (error.argv, error.returncode, error.stderr) == (["me", "a", "b"], 3, "done\n")
    assert error.stdout.startswith("arg 0: [me]")
    assert vfswasi.run(exits(0), check=True).returncode == 0


def test_a_trap_is_a_result_and_with_check_an_error() -> None:
    result = vfswasi.run(TRAP)
    assert result.returncode == -signal.SIGABRT
    assert "unreachable" in (result.trap or "")
    with pytest.raises(vfswasi.GuestTrapError, match="unreachable"):
        result.check_returncode()


@pytest.mark.parametrize("module", [ENDLESS, SLEEP], ids=["computing", "sleeping"])
def test_timeout(module: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError, match=r"0\.2 seconds"):
        vfswasi.run(module, timeout=0.2)
    assert time.monotonic() - started < 10


def test_timeout_while_reading_an_empty_pipe_and_while_writing_a_full_one() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(READ, stdin=read, timeout=0.2)
        with pytest.raises(TimeoutError):
            vfswasi.run(compile_guest("hello"), stdin=b"x" * 1_000_000, stdout=write, timeout=0.3)
    finally:
        os.close(read)
        os.close(write)


def test_timeout_carries_the_output_so_far() -> None:
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(SAY_AND_LOOP, timeout=0.2, capture_output=True)
    assert caught.value.stdout == b"before"


def test_timeout_zero_ends_at_once_and_none_never() -> None:
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(exits(0), timeout=0)
    assert vfswasi.run(exits(7), timeout=None).returncode == 7


@pytest.mark.parametrize("module", [ENDLESS, SLEEP], ids=["computing", "sleeping"])
def test_ctrl_c_ends_a_guest_on_the_main_thread(module: bytes) -> None:
    program = f"import vfswasi, sys\nprint('go', flush=True)\nvfswasi.run({module!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr
    assert process.returncode != 0


def test_interrupt_ends_runs_from_another_thread() -> None:
    with vfswasi.Sandbox(ENDLESS) as sandbox:
        threading.Timer(0.2, sandbox.interrupt).start()
        with pytest.raises(vfswasi.HostCallError, match="interrupted"):
            sandbox.run()
        with pytest.raises(vfswasi.GuestTimeoutError):
            sandbox.run(timeout=0.1)  # the interruption was for the runs of that moment


# Preopens and files


def test_a_dict_is_new_for_each_run_and_read_back() -> None:
    with vfswasi.Sandbox(compile_guest("stdio"), preopens={"/d": {"keep": b"k"}}) as sandbox:
        for _ in range(2):
            result = sandbox.run(["/d"], capture_output=True)
            assert result.returncode == 0
            assert result.files == {"/d": {"keep": b"k"}}


def test_files_show_what_the_guest_wrote() -> None:
    tree = {"in": {"a": "one\n", "l": vfswasi.Symlink("a")}, "empty": {}}
    result = vfswasi.run(
        ROOT / "examples" / "wordcount.wasm", ["/d/report", "/d/in"], preopens={"/d": tree}, capture_output=True
    )
    files = result.files["/d"]
    assert sorted(files) == ["empty", "in", "report"]
    assert files["in"] == {"a": b"one\n", "l": vfswasi.Symlink("a")}
    assert files["empty"] == {}
    assert files["report"].endswith(b"total\n")


def test_a_memory_backend_is_shared_by_runs() -> None:
    store = vfswasi.MemoryBackend({"in": {"a": b"x"}})
    for turn in range(3):
        vfswasi.run(
            ROOT / "examples" / "wordcount.wasm",
            [f"/d/r{turn}", "/d/in"],
            preopens={"/d": store},
            stdout=vfswasi.DEVNULL,
        )
    assert sorted(store.export()) == ["in", "r0", "r1", "r2"]


def test_directories_are_read_only_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    arguments = ["/d/report", "/d/in"]
    program = ROOT / "examples" / "wordcount.wasm"
    result = vfswasi.run(program, arguments, preopens={"/d": tmp_path}, capture_output=True, text=True)
    assert (result.returncode, os.listdir(tmp_path)) == (1, ["in"])
    assert "Read-only file system" in result.stderr
    result = vfswasi.run(program, arguments, preopens={"/d": vfswasi.Mount(tmp_path, rw=True)}, capture_output=True)
    assert (result.returncode, sorted(os.listdir(tmp_path))) == (0, ["in", "report"])


def test_a_closed_sandbox_says_so() -> None:
    sandbox = vfswasi.Sandbox(exits(0))
    sandbox.close()
    with pytest.raises(ValueError, match="closed"):
        sandbox.run()


# Host functions

CALLS_HOST = b"""(module
  (import "env" "mix" (func $mix (param i32 i64 f32 f64) (result i64)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 16) "ping")
  (func (export "_start")
    (i64.store (i32.const 32) (call $mix (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const 0.25)))
    (call $exit (i32.load (i32.const 32)))))"""


def test_host_functions_get_memory_and_numbers() -> None:
    seen: list[Any] = []

    def mix(memory: Any, *numbers: Any) -> int:
        seen.append((memory.read(16, 4), numbers, len(memory)))
        memory.write(16, b"pong")
        return 77

    assert vfswasi.run(CALLS_HOST, imports={"env": {"mix": mix}}).returncode == 77
    assert seen == [(b"ping", (-1, -2, 0.5, 0.25), 65536)]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(5)], ids=repr)
def test_what_a_host_function_raises_leaves_run_unchanged(error: BaseException) -> None:
    def mix(memory: Any, *numbers: Any) -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        vfswasi.run(CALLS_HOST, imports={"env": {"mix": mix}})
    assert caught.value is error


@pytest.mark.parametrize("returned", [None, "7", (1, 2), 2.5])
def test_a_host_function_that_returns_nonsense_is_a_type_error(returned: Any) -> None:
    with pytest.raises(TypeError):
        vfswasi.run(CALLS_HOST, imports={"env": {"mix": lambda memory, *numbers: returned}})


def test_a_bad_pointer_given_to_a_host_function_is_a_trap() -> None:
    result = vfswasi.run(CALLS_HOST, imports={"env": {"mix": lambda memory, *numbers: memory.read(-1, 10)}})
    assert result.returncode == -signal.SIGABRT
    assert "env.mix" in (result.trap or "")


def test_a_guest_may_run_a_guest() -> None:
    def mix(memory: Any, *numbers: Any) -> int:
        return vfswasi.run(exits(21)).returncode

    assert vfswasi.run(CALLS_HOST, imports={"env": {"mix": mix}}).returncode == 21


# Nothing is left behind


def test_nothing_leaks_whatever_ends_a_run(tmp_path: Path) -> None:
    def once() -> None:
        mounts = {"/a": {"f": b"x" * 10_000}, "/b": tmp_path}
        vfswasi.run(exits(3), preopens=mounts)
        vfswasi.run(TRAP, preopens=mounts)
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(ENDLESS, preopens=mounts, timeout=0.001)
        with pytest.raises(ZeroDivisionError):
            vfswasi.run(CALLS_HOST, preopens=mounts, imports={"env": {"mix": lambda *_: 1 // 0}})

    def state() -> tuple[int, int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(gc.get_objects())

    for _ in range(10):
        once()
    before = state()
    for _ in range(60):
        once()
    after = state()
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert after[2] - before[2] < 500


def test_a_guest_that_runs_while_python_code_runs(run_program: Run) -> None:
    """A guest on one thread does not stop the others: wasm runs without the interpreter's lock."""
    ended = threading.Event()

    def work() -> None:
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(ENDLESS, timeout=0.5)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while not ended.is_set():
        turns += 1
    thread.join()
    assert turns > 1000
