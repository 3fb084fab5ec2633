"""`run` and `Sandbox`: the manners of `subprocess.run`, and every way in which a run ends."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine import host

ROOT = Path(__file__).parents[1]

Run = Callable[..., vfswasi.Result]

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"""
_MEMORY = """(memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 16) "so far")
  (func $say (param i32) (drop (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))"""


def program(body: str, imports: str = "") -> bytes:
    """A module whose `_start` is `body`; `(call $say (i32.const fd))` writes "so fa"."""
    return f'(module {imports} {_IMPORTS} {_MEMORY} (func (export "_start") {body}))'.encode()


SAY = "(call $say (i32.const 1)) (call $say (i32.const 2))"
ENDLESS = "(loop $again (br $again))"
# the subscription at 1024 is zeroed memory, which is a relative timeout on a clock: 2^42 ns of it
SLEEP = """(i64.store (i32.const 1048) (i64.const 0x40000000000)) (i32.store (i32.const 1040) (i32.const 1))
  (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))"""
POLL_STDIN = """(i32.store8 (i32.const 1032) (i32.const 1))
  (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))"""
READ = """(i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 16))
  (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))"""
# creates the file "s" in the first preopen and leaves it open
OPEN = """(drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1) (i64.const 66)
  (i64.const 0) (i32.const 0) (i32.const 64)))"""
# 64 KiB at a time, forever
FLOOD = """(i32.store (i32.const 4) (i32.const 65000))
  (loop $again (call $say (i32.const 1)) (br $again))"""
ENDINGS_BY_WAITING = {"computing": ENDLESS, "sleeping": SLEEP, "polling": POLL_STDIN, "reading": READ}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(read end, write end) of a pipe; what the test left open is closed."""
    ends = os.pipe()
    identities = [os.fstat(end).st_ino for end in ends]
    yield ends
    for end, identity in zip(ends, identities, strict=True):
        try:
            if os.fstat(end).st_ino == identity:
                os.close(end)
        except OSError:
            pass


# Arguments and environment.


def test_arguments_environment_input_output_and_status(run_program: Run) -> None:
    env = {"A": "1", "EMPTY": "", "ODD": "a=b \n ü"}
    result = run_program("hello", ["", "two words", "ü\n"], env=env, stdin="in\n", argv0="me")
    assert result.args == ["me", "", "two words", "ü\n"]
    assert result.returncode == 4
    assert result.stdout == (
        "arg 0: [me]\narg 1: []\narg 2: [two words]\narg 3: [ü\n]\n"
        "env: [A=1]\nenv: [EMPTY=]\nenv: [ODD=a=b \n ü]\nin\n"
    )
    assert result.stderr == "done\n"
    assert result.trap is None


def test_by_default_there_is_no_environment_and_no_input(
    run_program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr("sys.stdin", io.StringIO("not for the guest"))
    result = run_program("hello", argv0="x")
    assert (result.returncode, result.stdout) == (1, "arg 0: [x]\n")


def test_the_programs_name_is_the_files(
    tmp_path: Path, run_program: Run, program: Callable[[str], Path]
) -> None:
    named = tmp_path / "named.wasm"
    named.write_bytes(program("hello").read_bytes())
    for module in (named, str(named)):
        result = vfswasi.run(module, capture_output=True, text=True)
        assert result.args == ["named.wasm"]
        assert result.stdout == "arg 0: [named.wasm]\n"


def test_arguments_may_be_any_iterable(run_program: Run) -> None:
    for args in (("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}):
        assert run_program("hello", args).returncode == 3


# Standard input.

LONG = b"0123456789abcdef" * 20_000


def _inputs(tmp_path: Path) -> dict[str, tuple[Any, bytes]]:
    (tmp_path / "in").write_bytes(LONG)
    return {
        "bytes": (LONG, LONG),
        "bytearray": (bytearray(LONG), LONG),
        "memoryview": (memoryview(LONG), LONG),
        "str": ("zwölf\n", "zwölf\n".encode()),
        "BytesIO": (io.BytesIO(LONG), LONG),
        "StringIO": (io.StringIO("zwölf\n" * 5000), ("zwölf\n" * 5000).encode()),
        "binary file": ((tmp_path / "in").open("rb"), LONG),
        "text file": ((tmp_path / "in").open(), LONG),
        "descriptor": (os.open(tmp_path / "in", os.O_RDONLY), LONG),
        "DEVNULL": (vfswasi.DEVNULL, b""),
        "None": (None, b""),
        "empty bytes": (b"", b""),
    }


@pytest.mark.parametrize(
    "kind",
    "bytes bytearray memoryview str BytesIO StringIO,binary file,text file,descriptor,DEVNULL,None,empty bytes".replace(
        " BytesIO StringIO", ",BytesIO,StringIO"
    )
    .replace("bytes bytearray memoryview str", "bytes,bytearray,memoryview,str")
    .split(","),
)
def test_standard_input(kind: str, tmp_path: Path, run_program: Run) -> None:
    inputs = _inputs(tmp_path)
    given, expected = inputs[kind]
    result = run_program("hello", stdin=given, argv0="x", text=False)
    assert result.stdout == b"arg 0: [x]\n" + expected
    for other, _ in inputs.values():
        if hasattr(other, "close"):
            other.close()
    os.close(inputs["descriptor"][0])


def test_standard_input_from_a_pipe_that_fills_slowly(run_program: Run, pipe: tuple[int, int]) -> None:
    def feed() -> None:
        for start in range(0, len(LONG), 50_000):
            os.write(pipe[1], LONG[start : start + 50_000])
        os.close(pipe[1])

    thread = threading.Thread(target=feed)
    thread.start()
    result = run_program("hello", stdin=pipe[0], argv0="x", text=False)
    thread.join()
    assert result.stdout == b"arg 0: [x]\n" + LONG


def test_a_descriptor_given_stays_the_callers(tmp_path: Path, run_program: Run) -> None:
    with (tmp_path / "f").open("w+b") as file:
        file.write(b"line\n")
        file.seek(0)
        run_program("hello", stdin=file, capture_output=False, stdout=file, stderr=file.fileno(), text=False)
        os.fstat(file.fileno())


# Standard output and error.


def test_without_capturing_output_is_inherited(tmp_path: Path) -> None:
    code = f"import vfswasi; r = vfswasi.run({program(SAY)!r}); assert r.stdout is None is r.stderr"
    done = _python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "so fa", "so fa")


@pytest.mark.parametrize(
    ("options", "stdout", "stderr"),
    [
        ({"capture_output": True}, b"so fa", b"so fa"),
        ({"stdout": vfswasi.PIPE, "stderr": vfswasi.PIPE}, b"so fa", b"so fa"),
        ({"stdout": vfswasi.PIPE, "stderr": vfswasi.STDOUT}, b"so faso fa", None),
        ({"stdout": vfswasi.PIPE, "stderr": vfswasi.DEVNULL}, b"so fa", None),
        ({"stdout": vfswasi.DEVNULL, "stderr": vfswasi.PIPE}, None, b"so fa"),
        ({"stdout": vfswasi.DEVNULL, "stderr": vfswasi.STDOUT}, None, None),
        ({"capture_output": True, "text": True}, "so fa", "so fa"),
        (
            {"capture_output": True, "text": True, "encoding": "utf-16-le", "errors": "ignore"},
            "\u6f73\u6620",
            None,
        ),
    ],
)
def test_what_is_captured(options: dict[str, Any], stdout: Any, stderr: Any) -> None:
    result = vfswasi.run(program(SAY), **options)
    if options.get("encoding"):
        assert result.stdout == b"so fa".decode("utf-16-le", "ignore")
    else:
        assert (result.stdout, result.stderr) == (stdout, stderr)


def test_output_into_files_descriptors_and_callables(tmp_path: Path, pipe: tuple[int, int]) -> None:
    module = program(SAY)
    binary, text, pieces = io.BytesIO(), io.StringIO(), list[bytes]()
    for target in (binary, text, pieces.append, pipe[1]):
        result = vfswasi.run(module, stdout=target, stderr=vfswasi.DEVNULL)
        assert result.stdout is None
    assert (binary.getvalue(), text.getvalue(), pieces) == (b"so fa", "so fa", [b"so fa"])
    assert os.read(pipe[0], 100) == b"so fa"
    with (tmp_path / "out").open("w") as file:
        file.write("before ")  # still in Python's buffer, and yet it comes first
        vfswasi.run(module, stdout=file, stderr=file)
    assert (tmp_path / "out").read_text() == "before so faso fa"


def test_stdout_and_stderr_joined_keep_their_order() -> None:
    pieces: list[bytes] = []
    vfswasi.run(program(SAY + SAY), stdout=pieces.append, stderr=vfswasi.STDOUT)
    assert pieces == [b"so fa"] * 4


def test_undecodable_output_is_replaced_unless_errors_says_otherwise() -> None:
    module = program("(i32.store (i32.const 16) (i32.const 0xff)) (call $say (i32.const 1))")
    result = vfswasi.run(module, capture_output=True, text=True)
    assert result.stdout.startswith("\ufffd\0\0\0")
    with pytest.raises(UnicodeDecodeError):
        vfswasi.run(module, capture_output=True, text=True, errors="strict")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("value", [vfswasi.PIPE, vfswasi.DEVNULL, b""])
def test_capture_output_excludes_stdout_and_stderr(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="capture_output"):
        vfswasi.run(program(""), capture_output=True, **{name: value})


def test_what_a_callable_of_the_caller_raises_arrives_unchanged() -> None:
    error = ZeroDivisionError("mine")

    def fail(_data: bytes) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        vfswasi.run(program(SAY), stdout=fail)
    assert caught.value is error


def test_captured_output_is_limited() -> None:
    limits = vfswasi.Limits(output_bytes=100_000)
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(program(FLOOD), stdout=vfswasi.PIPE, limits=limits, timeout=0.3)
    assert len(caught.value.stdout) == 100_000


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
    module = program(SAY + body)
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
    result = vfswasi.run(program("unreachable"))
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
                program(SAY + ENDINGS_BY_WAITING[name]),
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
        vfswasi.run(program(FLOOD), stdout=pipe[1], timeout=0.3)
    assert time.monotonic() - started < 3


def test_a_run_that_ends_in_time_has_no_timeout() -> None:
    assert vfswasi.run(program(""), timeout=60).returncode == 0
    assert vfswasi.run(program(""), timeout=float("inf")).returncode == 0


def test_a_timeout_of_nothing_starts_nothing() -> None:
    for timeout in (0, -1, -0.5):
        with pytest.raises(vfswasi.GuestTimeoutError) as caught:
            vfswasi.run(program(SAY), capture_output=True, timeout=timeout)
        assert caught.value.stdout == b""


def test_a_host_function_that_raises_ends_the_run_even_with_a_timeout() -> None:
    def fail(_memory: Any) -> None:
        raise KeyError("mine")

    module = program("(call $host)", '(import "env" "host" (func $host))')
    with pytest.raises(KeyError, match="mine"):
        vfswasi.run(module, imports={"env": {"host": fail}}, timeout=60, check=True)


# Ctrl-C.


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


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
    status, stderr, seconds = _interrupted(["-c", f"import vfswasi; vfswasi.run({program(body)!r}, stdin=0)"])
    assert "KeyboardInterrupt" in stderr
    assert status in (-signal.SIGINT, 130)
    assert seconds < 2


def test_after_ctrl_c_python_goes_on(tmp_path: Path) -> None:
    body = "(call $say (i32.const 1))" + OPEN + ENDLESS
    code = f"""
import vfswasi
try:
    vfswasi.run({program(body)!r}, preopens={{"/d": vfswasi.Mount({str(tmp_path)!r}, rw=True)}})
except KeyboardInterrupt:
    import sys
    from vfswasi.engine import host
    again = vfswasi.run({program(SAY)!r}, capture_output=True)
    sys.stderr.write(f"{{again.stdout!r}} {{len(host._live)}}")
"""
    status, stderr, _ = _interrupted(["-c", code])
    assert (status, stderr) == (0, "b'so fa' 0")


def test_ctrl_c_ends_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "endless.wat").write_bytes(program("(call $say (i32.const 1))" + ENDLESS))
    status, stderr, seconds = _interrupted(["-m", "vfswasi", "run", str(tmp_path / "endless.wat")])
    assert (status, stderr) == (130, "")
    assert seconds < 2


# Files.


def test_result_files_show_memory_mounts_after_the_run() -> None:
    store = vfswasi.MemoryBackend({"kept": b"1"})
    with tempfile.TemporaryDirectory() as directory:
        result = vfswasi.run(
            program(
                OPEN
                + "(drop (call $write (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 8)))"
            ),
            preopens={
                "/d": {"old": "text", "sub": {"l": vfswasi.Symlink("../old")}},
                "/store": store,
                "/ro": vfswasi.Mount({"r": b""}, rw=False),
                "/disk": directory,
            },
        )
    assert result.files == {
        "/d": {"old": b"text", "sub": {"l": vfswasi.Symlink("../old")}, "s": b"so fa"},
        "/store": {"kept": b"1"},
        "/ro": {"r": b""},
    }


def test_a_dict_is_fresh_for_each_run_and_stays_as_it_was() -> None:
    tree = {"old": b"1"}
    with vfswasi.Sandbox(program(OPEN), preopens={"/d": tree, "/e": "mem:"}) as sandbox:
        first, second = sandbox.run(), sandbox.run()
    assert first.files == second.files == {"/d": {"old": b"1", "s": b""}, "/e": {}}
    assert first.files["/d"] is not second.files["/d"]
    assert tree == {"old": b"1"}


def test_a_memory_backend_is_shared_between_runs() -> None:
    store = vfswasi.MemoryBackend()
    exclusive = OPEN.replace("(i32.const 1) (i64.const 66)", "(i32.const 5) (i64.const 66)").removeprefix(
        "(drop "
    )[:-1]
    module = program(f"(call $exit {exclusive})")
    with vfswasi.Sandbox(module, preopens={"/d": store}) as sandbox:
        assert sandbox.run().returncode == 0
        assert sandbox.run().returncode == vfswasi.Errno.EXIST
    assert vfswasi.run(module, preopens={"/d": store}).returncode == vfswasi.Errno.EXIST
    assert store.export() == {"s": b""}


def test_a_closed_sandbox_does_not_run(tmp_path: Path) -> None:
    with vfswasi.Sandbox(program(""), preopens={"/d": tmp_path}) as sandbox:
        assert sandbox.run().returncode == 0
    with pytest.raises(ValueError, match="closed"):
        sandbox.run()
    sandbox.close()


# Host functions.

_ALL_TYPES = """(import "env" "f" (func $f (param i32 i64 f32 f64) (result i64)))
  (import "env" "pair" (func $pair (param i32) (result i32 i32)))"""


def test_host_functions_get_and_give_numbers() -> None:
    seen: list[tuple[Any, ...]] = []

    def f(_memory: Any, *numbers: Any) -> int:
        seen.append(numbers)
        return -(2**63)

    body = """(if (i64.ne (call $f (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25))
        (i64.const 0x8000000000000000)) (then unreachable))
      (if (i32.ne (i32.sub (call $pair (i32.const 7))) (i32.const 5)) (then unreachable))"""
    imports = {"env": {"f": f, "pair": lambda _memory, n: (n, n - 5)}}
    result = vfswasi.run(program(body, _ALL_TYPES), imports=imports)
    assert (result.returncode, result.trap) == (0, None)
    assert seen == [(-1, -2, 0.5, -0.25)]


def test_host_functions_read_and_write_guest_memory() -> None:
    def f(memory: Any, ptr: int, length: int) -> None:
        assert memory.read(ptr, length) == b"so far"
        assert len(memory) == 65536
        memory.write(ptr, b"by the host"[:length])

    module = program(
        "(call $f (i32.const 16) (i32.const 6)) (call $say (i32.const 1))",
        '(import "env" "f" (func $f (param i32 i32)))',
    )
    assert vfswasi.run(module, stdout=vfswasi.PIPE, imports={"env": {"f": f}}).stdout == b"by th"


@pytest.mark.parametrize(
    "access",
    [
        lambda memory: memory.read(65535, 2),
        lambda memory: memory.read(-1, 2),
        lambda memory: memory.read(0, -1),
        lambda memory: memory.write(65530, b"1234567"),
        lambda memory: memory.write(-4, b"12345678"),
    ],
)
def test_a_host_function_given_a_bad_pointer_is_a_trap(access: Callable[[Any], Any]) -> None:
    module = program(SAY + "(call $f) (call $exit (i32.const 3))", '(import "env" "f" (func $f))')
    result = vfswasi.run(
        module, capture_output=True, imports={"env": {"f": lambda memory: (access(memory), None)[1]}}
    )
    assert (result.returncode, result.stdout) == (-6, b"so fa")
    assert "env.f" in (result.trap or "")


class Unusual(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("v"),
        Unusual("b"),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        StopIteration(1),
        MemoryError(),
        vfswasi.GuestExitError("not really"),
        vfswasi.HostCallError("h"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("thread", ["main", "other"])
def test_what_a_host_function_raises_arrives_unchanged(error: BaseException, thread: str) -> None:
    def fail(_memory: Any) -> None:
        raise error

    module = program("(call $f)", '(import "env" "f" (func $f))')
    caught: list[BaseException] = []

    def run() -> None:
        try:
            vfswasi.run(module, imports={"env": {"f": fail}}, capture_output=True)
        except BaseException as arrived:
            caught.append(arrived)

    if thread == "main":
        run()
    else:
        other = threading.Thread(target=run)
        other.start()
        other.join()
    assert len(caught) == 1
    assert caught[0] is error


@pytest.mark.parametrize("returned", [None, "7", (1, 2), object()])
def test_a_host_function_that_returns_the_wrong_thing_is_a_type_error(returned: Any) -> None:
    module = program("(drop (call $f))", '(import "env" "f" (func $f (result i32)))')
    with pytest.raises(TypeError, match=r"env\.f"):
        vfswasi.run(module, imports={"env": {"f": lambda _memory: returned}})


def test_a_host_function_may_run_another_guest() -> None:
    inner = program("(call $exit (i32.const 5))")
    module = program("(call $exit (call $f))", '(import "env" "f" (func $f (result i32)))')
    imports = {"env": {"f": lambda _memory: vfswasi.run(inner).returncode + 1}}
    assert vfswasi.run(module, imports=imports).returncode == 6


def test_a_wasi_function_of_the_callers_replaces_ours() -> None:
    imports = {"wasi_snapshot_preview1": {"fd_write": lambda _memory, *_numbers: 0}}
    assert vfswasi.run(program(SAY), capture_output=True, imports=imports).stdout == b""


# Interruption from another thread.


@pytest.mark.parametrize("name", ENDINGS_BY_WAITING)
def test_interrupt_ends_the_runs_that_are_going_on(name: str, pipe: tuple[int, int]) -> None:
    started, ended = threading.Barrier(4), list[BaseException]()
    body = "(call $ready)" + ENDINGS_BY_WAITING[name]
    imports = {"env": {"ready": lambda _memory: (started.wait(30), None)[1]}}
    with vfswasi.Sandbox(program(body, '(import "env" "ready" (func $ready))'), imports=imports) as sandbox:

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
        assert [type(error) for error in ended] == [vfswasi.HostCallError] * 3
        assert all("interrupted" in str(error) for error in ended)


def test_interrupt_concerns_neither_later_runs_nor_other_sandboxes() -> None:
    with vfswasi.Sandbox(program("")) as one, vfswasi.Sandbox(program(SLEEP)) as other:
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


_RAISING = program(OPEN + "(call $f)", '(import "env" "f" (func $f))')
LEAK_ENDINGS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "return": (program(OPEN), {}),
    "exit": (program(OPEN + "(call $exit (i32.const 1))"), {}),
    "trap": (program(OPEN + "unreachable"), {}),
    "signal": (program(OPEN + "(drop (call $raise (i32.const 9)))"), {}),
    "check": (program(OPEN + "(call $exit (i32.const 1))"), {"check": True}),
    "host exception": (_RAISING, {"imports": {"env": {"f": _fail}}}),
    "timeout before the start": (program(OPEN + ENDLESS), {"timeout": 0}),
    "timeout": (program(OPEN + ENDLESS), {"timeout": 0.002}),
    "timeout in a wait": (program(OPEN + SLEEP), {"timeout": 0.002}),
    "missing import": (_RAISING, {}),
    "missing preopen": (program(OPEN), {"preopens": {"/d": {}, "/e": "/no/such/place"}}),
    "bad stdin": (program(OPEN), {"stdin": 3.5}),
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
            len(host._live),
        )

    repeat(20)
    objects, descriptors, threads, live = held()
    repeat(200)
    objects_after, *others = held()
    assert others == [descriptors, threads, live]
    assert objects_after - objects < 100


def test_nothing_waits_for_the_garbage_collector() -> None:
    """A sandbox in a reference cycle would keep its store, and the guest's memory, until a collection."""
    module, live = program(OPEN), len(host._live)
    vfswasi.run(module, preopens={"/d": {}})
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            vfswasi.run(module, preopens={"/d": {}})
        assert len(gc.get_objects()) - before < 50
        assert len(host._live) == live
    finally:
        gc.enable()
