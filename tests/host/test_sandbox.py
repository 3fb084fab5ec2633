"""`run` and `Sandbox`: the manners of `subprocess.run`, and every way in which a run ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from ..wat_programs import FLOOD, OPEN, SAY, pipe_ends
from ..wat_programs import program as wat

ROOT = Path(__file__).parents[2]

Run = Callable[..., vfswasi.Result]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with pipe_ends() as ends:
        yield ends


# Arguments and environment.


def test_arguments_environment_input_output_and_status(run_program: Run) -> None:
    env = {"A": "1", "EMPTY": "", "ODD": "a=b \n ü"}
    result = run_program("hello", ["", "two words", "ü\n"], env=env, stdin="in\n", argv0="me")
    assert result.args == ["me", "", "two words", "ü\n"]
    assert result.returncode == 4
    assert result.stdout == (
        "arg 0: [me]\narg 1: []\narg 2: [two words]\narg 3: [ü\n]\nenv: [A=1]\nenv: [EMPTY=]\nenv: [ODD=a=b \n ü]\nin\n"
    )
    assert result.stderr == "done\n"
    assert result.trap is None


def test_by_default_there_is_no_environment_and_no_input(run_program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr("sys.stdin", io.StringIO("not for the guest"))
    result = run_program("hello", argv0="x")
    assert (result.returncode, result.stdout) == (1, "arg 0: [x]\n")


def test_the_programs_name_is_the_files(tmp_path: Path, run_program: Run, program: Callable[[str], Path]) -> None:
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


INPUT_KINDS = (
    "bytes, bytearray, memoryview, str, BytesIO, StringIO, binary file, text file, descriptor, DEVNULL, None"
    ", empty bytes"
)


@pytest.mark.parametrize("kind", INPUT_KINDS.split(", "))
def test_standard_input(kind: str, tmp_path: Path, run_program: Run) -> None:
    inputs = _inputs(tmp_path)
    assert list(inputs) == INPUT_KINDS.split(", ")
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


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_capturing_output_is_inherited(tmp_path: Path) -> None:
    code = f"import vfswasi; r = vfswasi.run({wat(SAY)!r}); assert r.stdout is None is r.stderr"
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
            "\u6f73\u6620",
        ),
    ],
)
def test_what_is_captured(options: dict[str, Any], stdout: Any, stderr: Any) -> None:
    result = vfswasi.run(wat(SAY), **options)
    assert (result.stdout, result.stderr) == (stdout, stderr)


def test_output_into_files_descriptors_and_callables(tmp_path: Path, pipe: tuple[int, int]) -> None:
    module = wat(SAY)
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
    vfswasi.run(wat(SAY + SAY), stdout=pieces.append, stderr=vfswasi.STDOUT)
    assert pieces == [b"so fa"] * 4


def test_undecodable_output_is_replaced_unless_errors_says_otherwise() -> None:
    module = wat("(i32.store (i32.const 16) (i32.const 0xff)) (call $say (i32.const 1))")
    result = vfswasi.run(module, capture_output=True, text=True)
    assert result.stdout.startswith("\ufffd\0\0\0")
    with pytest.raises(UnicodeDecodeError):
        vfswasi.run(module, capture_output=True, text=True, errors="strict")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("value", [vfswasi.PIPE, vfswasi.DEVNULL, b""])
def test_capture_output_excludes_stdout_and_stderr(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="capture_output"):
        vfswasi.run(wat(""), capture_output=True, **{name: value})


def test_what_a_callable_of_the_caller_raises_arrives_unchanged() -> None:
    error = ZeroDivisionError("mine")

    def fail(_data: bytes) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        vfswasi.run(wat(SAY), stdout=fail)
    assert caught.value is error


def test_captured_output_is_limited() -> None:
    limits = vfswasi.Limits(output_bytes=100_000)
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(wat(FLOOD), stdout=vfswasi.PIPE, limits=limits, timeout=0.3)
    assert len(caught.value.stdout) == 100_000


# Files.


def test_result_files_show_memory_mounts_after_the_run() -> None:
    store = vfswasi.MemoryBackend({"kept": b"1"})
    with tempfile.TemporaryDirectory() as directory:
        result = vfswasi.run(
            wat(OPEN + "(drop (call $write (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 8)))"),
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
    with vfswasi.Sandbox(wat(OPEN), preopens={"/d": tree, "/e": "mem:"}) as sandbox:
        first, second = sandbox.run(), sandbox.run()
    assert first.files == second.files == {"/d": {"old": b"1", "s": b""}, "/e": {}}
    assert first.files["/d"] is not second.files["/d"]
    assert tree == {"old": b"1"}


def test_a_memory_backend_is_shared_between_runs() -> None:
    store = vfswasi.MemoryBackend()
    exclusive = OPEN.replace("(i32.const 1) (i64.const 66)", "(i32.const 5) (i64.const 66)").removeprefix("(drop ")[:-1]
    module = wat(f"(call $exit {exclusive})")
    with vfswasi.Sandbox(module, preopens={"/d": store}) as sandbox:
        assert sandbox.run().returncode == 0
        assert sandbox.run().returncode == vfswasi.Errno.EXIST
    assert vfswasi.run(module, preopens={"/d": store}).returncode == vfswasi.Errno.EXIST
    assert store.export() == {"s": b""}


def test_a_closed_sandbox_does_not_run(tmp_path: Path) -> None:
    with vfswasi.Sandbox(wat(""), preopens={"/d": tmp_path}) as sandbox:
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
    imports: dict[str, dict[str, Callable[..., Any]]] = {"env": {"f": f, "pair": lambda _memory, n: (n, n - 5)}}
    result = vfswasi.run(wat(body, _ALL_TYPES), imports=imports)
    assert (result.returncode, result.trap) == (0, None)
    assert seen == [(-1, -2, 0.5, -0.25)]


def test_host_functions_read_and_write_guest_memory() -> None:
    def f(memory: Any, ptr: int, length: int) -> None:
        assert memory.read(ptr, length) == b"so far"
        assert len(memory) == 65536
        memory.write(ptr, b"by the host"[:length])

    module = wat(
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
    module = wat(SAY + "(call $f) (call $exit (i32.const 3))", '(import "env" "f" (func $f))')
    result = vfswasi.run(module, capture_output=True, imports={"env": {"f": lambda memory: (access(memory), None)[1]}})
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

    module = wat("(call $f)", '(import "env" "f" (func $f))')
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
    module = wat("(drop (call $f))", '(import "env" "f" (func $f (result i32)))')
    with pytest.raises(TypeError, match=r"env\.f"):
        vfswasi.run(module, imports={"env": {"f": lambda _memory: returned}})


def test_a_host_function_may_run_another_guest() -> None:
    inner = wat("(call $exit (i32.const 5))")
    module = wat("(call $exit (call $f))", '(import "env" "f" (func $f (result i32)))')
    imports = {"env": {"f": lambda _memory: vfswasi.run(inner).returncode + 1}}
    assert vfswasi.run(module, imports=imports).returncode == 6


def test_a_wasi_function_of_the_callers_replaces_ours() -> None:
    imports: dict[str, dict[str, Callable[..., int]]] = {
        "wasi_snapshot_preview1": {"fd_write": lambda _memory, *_numbers: 0}
    }
    assert vfswasi.run(wat(SAY), capture_output=True, imports=imports).stdout == b""
