"""Compiling ends: at its own time, with its memory, after Ctrl-C, whatever the compiler does; nothing is left of it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.engine.compiling import cache as module_cache
from vfswasi.engine.compiling import modules, outline
from vfswasi.engine.compiling.apart import costs, parent
from vfswasi.limits import Limits
from vfswasi.mounts.options import parse_limits

from .. import slow_modules
from ..guest_programs import compile_guest, guest_names
from ..slow_modules import SHAPES, children, first_child, is_gone
from ..wat_programs import program
from .test_hostile_modules import of_imports

ROOT = Path(__file__).parents[2]
SLOW = slow_modules.of_indirect_calls(200_000)
# Not small, and quick.
MEDIUM = slow_modules.of_functions(100_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and nothing remembered."""
    directory = tmp_path / "cache"
    for path in (directory, tmp_path / "key"):
        path.mkdir(mode=0o700)
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(directory))
    monkeypatch.setenv("VFSWASI_KEY_DIR", str(tmp_path / "key"))
    monkeypatch.setattr(modules, "_remembered", type(modules._remembered)())
    monkeypatch.setattr(module_cache, "_told", set())
    modules._warn_once.cache_clear()
    return directory


@contextlib.contextmanager
def nothing_left(cache: Path) -> Iterator[None]:
    """No process, no open file, no name in the cache or among temporary files."""
    modules.engine(), modules.engine(way="page")
    before = len(os.listdir("/proc/self/fd")), set(children()), sorted(os.listdir(cache))
    yield
    gc.collect()  # an exception that came between two steps is kept with its frames
    assert (len(os.listdir("/proc/self/fd")), set(children()), sorted(os.listdir(cache))) == before
    assert not modules._compiling


def timed_out(wasm: bytes, seconds: float) -> None:
    with pytest.raises(vfswasi.CompileTimeoutError):
        loaded(wasm, compile_seconds=seconds)


def loaded(wasm: bytes, **limits: Any) -> modules.CompiledModule:
    return modules.load(wasm, "m.wasm", way="page", limits=Limits(**limits))


HOSTILE = {
    "indirect calls": lambda: SLOW,
    "50 MB of functions": lambda: slow_modules.of_functions(50_000_000),
    "900,000 functions": lambda: slow_modules.of_empty_functions(2_700_000),
    "200,000 imports": lambda: of_imports(200_000, calls=1_000_000),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_a_hostile_module_ends_at_compile_seconds(shape: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "too_many", lambda _: None)  # which refuses some of them before they are compiled
    wasm = HOSTILE[shape]()
    with nothing_left(cache):
        started = time.monotonic()
        with pytest.raises(vfswasi.CompileTimeoutError) as caught:
            loaded(wasm, compile_seconds=0.6)
        assert 0.6 <= time.monotonic() - started < 10
    assert str(caught.value) == (
        "compiling m.wasm took longer than compile_seconds (0.6 s); if you trust it, raise Limits.compile_seconds "
        "(--limit compile_seconds=...)"
    )
    assert caught.value.limit == "compile_seconds"
    assert isinstance(caught.value, vfswasi.ModuleError | TimeoutError)


@pytest.mark.parametrize("megabytes", [0, 1, 40, 100, 300])
def test_a_hostile_module_ends_with_compile_memory_bytes(megabytes: int, cache: Path) -> None:
    with nothing_left(cache), pytest.raises(vfswasi.CompileLimitError, match="needs more memory than") as caught:
        loaded(slow_modules.of_values_through_loops(16_384), compile_memory_bytes=megabytes << 20)
    assert caught.value.limit == "compile_memory_bytes"
    assert f"({megabytes << 20:,} bytes); if you trust it, raise Limits.compile_memory_bytes" in str(caught.value)


def test_limits_hold_for_small_modules_too(cache: Path) -> None:
    small = program("(drop (i32.const 4711))")
    for limits in ({"compile_seconds": 0.0}, {"compile_memory_bytes": 0}):
        with nothing_left(cache), pytest.raises(vfswasi.CompileLimitError):
            loaded(small, **limits)
    assert loaded(small).interruption


def test_limits_hold_for_the_text_format_too(cache: Path) -> None:
    text = b"(module " + b"(func)" * 100_000 + b")"
    with nothing_left(cache), pytest.raises(vfswasi.CompileTimeoutError):
        loaded(text, compile_seconds=0.01)
    with nothing_left(cache), pytest.raises(vfswasi.CompileLimitError, match="memory"):
        loaded(text, compile_memory_bytes=50 << 20)
    with nothing_left(cache), pytest.raises(vfswasi.InvalidModuleError, match=r"m\.wasm: not valid WebAssembly text"):
        loaded(text[:-1] + b"(")
    assert loaded(b"(module " + b"(func)" * 100_000 + b")", compile_seconds=None).exports == {}


def test_a_run_takes_them_from_its_limits(cache: Path) -> None:
    with nothing_left(cache), pytest.raises(vfswasi.CompileTimeoutError):
        vfswasi.run(SLOW, limits=Limits(compile_seconds=0.5), timeout=1000)
    with nothing_left(cache), pytest.raises(vfswasi.CompileTimeoutError):
        vfswasi.Sandbox(SLOW, limits=Limits(compile_seconds=0.5))


def test_timeout_of_a_run_is_no_limit_of_compiling() -> None:
    assert vfswasi.run(MEDIUM, timeout=0.5).returncode == 0


# What is compiled where.


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"functions"}))
def test_what_could_take_long_is_not_small(shape: str) -> None:
    assert not costs.is_small(SHAPES[shape](60_000))


@pytest.mark.parametrize(
    "wasm",
    [
        slow_modules.of_values_through_loops(2000),
        slow_modules.of_code(b"", types=(slow_modules.function_type(33, 0),)),
        slow_modules.of_code(b"", types=(b"\x60\x01\x63\x70\0",)),
        slow_modules.of_code(b"", types=(b"\x5f\0",)),
        slow_modules.of_code(b"", types=(slow_modules.function_type(0, 0),) * 300),
        slow_modules.of_code(b"", count=1001),
        b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f",
        b"\0asm\x01\0\0\0\x0a",
    ],
    ids=["results", "parameters", "references", "structs", "types", "functions", "cut off", "shorter"],
)
def test_what_is_unusual_is_not_small(wasm: bytes) -> None:
    assert not costs.is_small(wasm)


@pytest.mark.parametrize("name", guest_names())
def test_programs_of_a_hundred_functions_are_small(name: str) -> None:
    assert costs.is_small(compile_guest(name).read_bytes())


def test_small_modules_are_compiled_here_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = parent.compiled
    monkeypatch.setattr(parent, "compiled", lambda wasm, name, *more: asked.append(name) or original(wasm, name, *more))
    assert vfswasi.run(program("(drop (i32.const 4712))")).returncode == 0
    assert asked == []
    assert vfswasi.run(MEDIUM, argv0="medium").returncode == 0
    assert asked == ["module.wasm"]
    modules._remembered.clear()
    assert vfswasi.run(MEDIUM).returncode == 0
    assert asked == ["module.wasm"], "it is in the cache"


@pytest.mark.usefixtures("interruption")
@pytest.mark.parametrize("options", [{}, {"fuel": True}, {"features": frozenset({"tail-call"})}])
def test_what_comes_from_the_process_is_what_would_be_made_here(options: dict[str, Any]) -> None:
    for wasm in (MEDIUM, program("(drop (i32.const 1))"), of_imports(300)):
        for way in ("page", "epoch"):
            modules._remembered.clear()
            settings = (options.get("fuel", False), options.get("features", frozenset()), modules.STACK_BYTES, way)
            wasm = modules.binary(wasm, "m")
            here, how = modules.compiled_here(wasm, "m", settings)  # type: ignore[arg-type]
            asked = parent.Asked("0" * 64, settings[0], settings[1], way)  # type: ignore[arg-type]

            def load(got: Any, file: int, secret: bytes, settings: Any = settings) -> wasmtime.Module:
                return module_cache.checked(modules.engine(*settings[:3], got), file, "0" * 64, secret)

            module, got, seconds = parent.compiled(wasm, "m", asked, Limits(), load)
            assert got == how
            assert seconds > 0
            assert bytes(module.serialize()) == bytes(here.serialize())


def test_a_module_that_cannot_be_rewritten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wasm = b'(module (memory (export "memory") 1) (func $f (export "_start")) (start $f)' + b"(func nop)" * 2000 + b")"
    assert loaded(wasm).interruption == "epoch"
    modules._remembered.clear()
    monkeypatch.setattr(modules, "_made", lambda *_: pytest.fail("it was compiled again"))
    assert loaded(wasm).interruption == "epoch"


def test_a_module_that_is_refused_is_refused_with_the_same_words() -> None:
    for wasm in (
        slow_modules.of_code(b"\x01" * 70_000 + b"\x6a"),
        slow_modules.CORE + b"\xff" * 70_000,
        slow_modules.of_code(b"\x12\0" * 40_000),
    ):
        assert not costs.is_small(wasm)
        with pytest.raises(vfswasi.InvalidModuleError) as apart:
            loaded(wasm)
        with pytest.raises(vfswasi.InvalidModuleError) as here:
            modules.compiled_here(wasm, "m.wasm", (False, frozenset(), modules.STACK_BYTES, "page"))
        assert str(apart.value) == str(here.value)


# Ctrl-C.

WAITING = """
import sys, threading, vfswasi
print("begun", flush=True)
try:
    vfswasi.run(open(sys.argv[1], "rb").read())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
IN_A_THREAD = """
import sys, threading, time, vfswasi
def work():
    try:
        vfswasi.run(open(sys.argv[1], "rb").read())
    except vfswasi.ModuleError as error:
        print(error, flush=True)
threading.Thread(target=work).start()
print("begun", flush=True)
try:
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@contextlib.contextmanager
def started(tmp_path: Path, *command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of ours that compiles SLOW, in a session of its own, and the process that does it for it."""
    path = tmp_path / "slow.wasm"
    path.write_bytes(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )
    try:
        yield process, first_child(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("code", [WAITING, IN_A_THREAD], ids=["main thread", "another thread"])
def test_ctrl_c_ends_compiling(code: str, tmp_path: Path) -> None:
    with started(tmp_path, "-c", code) as (process, compiler):
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - sent < 5
        assert is_gone(compiler, 0)
    assert out.splitlines()[:2] == ["begun", "interrupted"]
    assert err == ""
    assert process.returncode == 0
    assert code is WAITING or out.splitlines()[2] == "compiling module.wasm: the program ends"


@pytest.mark.parametrize("command", ["run", "compile"])
def test_ctrl_c_at_a_terminal_ends_the_command_line(command: str, tmp_path: Path) -> None:
    with started(tmp_path, "-m", "vfswasi", command) as (process, compiler):
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert is_gone(compiler, 0)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_when_the_process_is_killed_so_is_its_compiler(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "-m", "vfswasi", "run") as (process, compiler):
        time.sleep(0.5)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == -number
        assert is_gone(compiler)


def test_a_compiler_whose_parent_stands_still_ends_by_itself(tmp_path: Path) -> None:
    with started(tmp_path, "-m", "vfswasi", "run", "--limit", "compile_seconds=2") as (process, compiler):
        process.send_signal(signal.SIGSTOP)
        assert is_gone(compiler, 30)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 125
    assert err.startswith("vfswasi: compiling slow.wasm took longer than compile_seconds (2 s)")
    assert err.count("\n") == 1


class _CallersError(Exception):
    pass


def test_what_is_raised_while_waiting_ends_the_compiler(cache: Path) -> None:
    def interrupt(*_: Any) -> None:
        raise _CallersError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seconds in (*(0.002 * step for step in range(1, 20)), 0.1, 0.2, 0.4):
            with nothing_left(cache):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                with pytest.raises(_CallersError):
                    loaded(SLOW)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# What the compiler does.

REAL = "import sys; sys.path += sys.argv[1:]; from vfswasi.engine.compiling.apart import child; "
READY = REAL + "import os, json, signal, time; sys.stdin.readline(); os.write(1, b'{\"ready\": null}\\n'); "
FAULTS = {
    "crashes": (READY + "os.kill(os.getpid(), signal.SIGSEGV)", r"the compiler crashed \(SIGSEGV\)"),
    "aborts": (READY + "os.abort()", r"the compiler crashed \(SIGABRT\)"),
    "crashes before it is ready": (
        REAL + "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        r"the compiler crashed \(SIGSEGV\)",
    ),
    "is killed": (
        READY + "os.kill(os.getpid(), signal.SIGKILL)",
        r"was killed \(SIGKILL\), as a system does that is out",
    ),
    "fails": (READY + "raise SystemExit('no luck')", "the compiler failed: no luck"),
    "ends early": (READY + "sys.exit(0)", "the compiler failed: exit status 0"),
    "runs out of memory": (READY + "raise MemoryError", "needs more memory than compile_memory_bytes"),
    "writes garbage": (READY + "os.write(1, b'\\xff\\0garbage\\n')", "the compiler's answer makes no sense"),
    "writes garbage first": (REAL + "import os; os.write(1, b'[]\\n')", "the compiler's answer makes no sense"),
    "answers twice": (READY + "os.write(1, b'{\"made\": {}}\\n' * 2)", "the compiler's answer makes no sense"),
    "answers something else": (READY + "os.write(1, b'{\"lost\": 1}\\n')", "the compiler's answer makes no sense"),
    "answers with a list": (READY + "os.write(1, b'[1]\\n')", "the compiler's answer makes no sense"),
    "made it in another way": (
        READY + 'os.write(1, b\'{"made": {"way": "x", "seconds": 1}}\\n\')',
        "the compiler's answer makes no sense",
    ),
    "made nothing": (
        READY + 'os.write(1, b\'{"made": {"way": "page", "seconds": 1}}\\n\')',
        "what came from the compiler is not what it signed",
    ),
    "answers without end": (READY + "\nwhile True: os.write(1, b'x' * 65536)", "the compiler's answer makes no sense"),
    "speaks without end": (READY + "\nwhile True: os.write(2, b'x' * 65536)", "took longer than compile_seconds"),
    "says nothing": (READY + "time.sleep(100)", "took longer than compile_seconds"),
    "hangs before it is ready": (REAL + "import time; time.sleep(100)", "took longer than compile_seconds"),
    "closes its output and stays": (
        READY + "os.close(1); time.sleep(100)",
        "the compiler's answer makes no sense",
    ),
    "signs something else": (
        REAL + "from vfswasi.engine.compiling import cache; cache.signatures = lambda *_: bytes(64); child.main()",
        "what came from the compiler is not what it signed",
    ),
    "signs another module": (
        REAL + "from vfswasi.engine.compiling import cache; real = cache.signatures; "
        "cache.signatures = lambda key, name, data: real(key, 'f' * 64, data); child.main()",
        "what came from the compiler is not what it signed",
    ),
    "signs what is no code": (
        REAL + "from vfswasi.engine.compiling import cache; write = child._write; "
        "child._write = lambda file, data, signed: write(file, b'no code', "
        "cache.signatures(bytes.fromhex(REQUEST['secret']), REQUEST['name'], b'no code')); "
        "real = child._compiled; child._compiled = lambda request, wasm: (globals().update(REQUEST=request), "
        "real(request, wasm))[1]; child.main()",
        "what came from the compiler is not what it signed",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_compiler_that_fails_is_one_error_and_leaves_nothing(
    fault: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = FAULTS[fault]
    with monkeypatch.context() as patch:
        patch.setattr(parent, "_BEGIN", code)
        with nothing_left(cache), pytest.raises(vfswasi.CompileError, match=message) as caught:
            loaded(MEDIUM, compile_seconds=4)
        assert "m.wasm" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert loaded(MEDIUM).exports, "and the next one is compiled"


def told_by_child(monkeypatch: pytest.MonkeyPatch, code: str) -> Any:
    wasm = slow_modules.of_functions(120_000 + len(code) * 1000)  # one that is in no cache
    with monkeypatch.context() as patch:
        patch.setattr(parent, "_BEGIN", READY + f"os.write(1, json.dumps({{'invalid': json.dumps({code})}}).encode())")
        with pytest.raises(vfswasi.InvalidModuleError) as caught:
            loaded(wasm)
    return json.loads(str(caught.value))


def test_the_compiler_has_nothing_of_its_parents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "password")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        told = told_by_child(
            monkeypatch,
            "[dict(os.environ), os.getcwd(), sys.argv, len(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid(), "
            "[os.fstat(int(n)).st_mode & 0o777 for n in os.listdir('/proc/self/fd') if 'memfd' in "
            "os.path.realpath('/proc/self/fd/' + n)], [a for a in open('/proc/self/cmdline').read().split(chr(0))]]",
        )
    finally:
        os.close(held)
    environment, cwd, arguments, descriptors, leads, modes, command = told
    assert environment.get("LD_LIBRARY_PATH") == "/nowhere"
    assert set(environment) <= {"LD_LIBRARY_PATH", "LC_CTYPE"}
    assert cwd == "/"
    assert arguments == ["-c", *dict.fromkeys([str(ROOT), str(Path(wasmtime.__file__).parents[1])])]
    assert descriptors == 6, "the three standard ones, two files, and the listing itself"
    assert leads
    assert modes == [0o600, 0o600]
    assert command[1:5] == ["-I", "-S", "-B", "-c"]


def test_nothing_but_the_standard_library_and_ours_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    code = f"open({str(tmp_path / 'caught')!r}, 'a').write(__name__)"
    for name in ("json", "threading", "sitecustomize", "usercustomize", "wasmtime", "vfswasi", "ctypes", "hashlib"):
        (evil / f"{name}.py").write_text(code)
    (evil / "startup.py").write_text(code)
    for variable in ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME"):
        monkeypatch.setenv(variable, str(evil))
    monkeypatch.setenv("PYTHONSTARTUP", str(evil / "startup.py"))
    monkeypatch.chdir(evil)
    assert vfswasi.run(MEDIUM).returncode == 0
    assert not (tmp_path / "caught").exists()
    flags = told_by_child(monkeypatch, "[sys.flags.isolated, sys.flags.no_site, sys.path]")
    assert flags[:2] == [1, 1]
    assert str(evil) not in flags[2]
    assert "" not in flags[2]


def test_no_core_is_dumped_and_memory_is_limited_before_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = told_by_child(
        monkeypatch,
        "(child._limit_memory(1 << 30), __import__('resource').getrlimit(4), __import__('resource').getrlimit(2))[1:]",
    )
    assert limits == [[0, 0], [1 << 30, 1 << 30]]


# Where no process can be had.


NO_INTERPRETER = [
    ("frozen", True, "this program has no interpreter beside it"),
    ("executable", "", "this program has no interpreter beside it"),
    ("executable", None, "this program has no interpreter beside it"),
    ("executable", "/bin/sh", "/bin/sh does not look like a Python interpreter"),
    ("executable", "/nowhere/python3", "/nowhere/python3: No such file or directory"),
]
LARGE_TEXT = b"(module " + b"(func)" * 50_000 + b")"


@pytest.mark.parametrize(("attribute", "value", "reason"), NO_INTERPRETER)
def test_without_an_interpreter_limits_that_cannot_be_kept_to_are_an_error(
    attribute: str, value: Any, reason: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(modules, "compiled_here", lambda *_: pytest.fail("it was compiled here"))
    monkeypatch.setattr(modules, "from_text", lambda *_: pytest.fail("it was translated here"))
    monkeypatch.setattr(sys, attribute, value, raising=False)
    for wasm in (MEDIUM, LARGE_TEXT):
        with pytest.raises(vfswasi.CompileError) as caught:
            loaded(wasm)
        assert str(caught.value) == (
            "compiling m.wasm: no process can be started that keeps to Limits.compile_seconds and compile_memory_bytes "
            f"({reason}); if you trust it, pass Limits(compile_seconds=None, compile_memory_bytes=None) (--limit "
            "compile_seconds=none --limit compile_memory_bytes=none), and it is compiled in this process"
        )
        for one, other in (("compile_seconds", "compile_memory_bytes"), ("compile_memory_bytes", "compile_seconds")):
            with pytest.raises(
                vfswasi.CompileError, match=rf"keeps to Limits\.{other} \(.*pass Limits\({other}=None\)"
            ):
                loaded(wasm, **{one: None})


def test_without_an_interpreter_what_is_small_or_in_the_cache_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    assert vfswasi.run(MEDIUM).returncode == 0
    modules._remembered.clear()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert vfswasi.run(program("(drop (i32.const 4713))")).returncode == 0
    assert vfswasi.run(MEDIUM).returncode == 0


@pytest.mark.parametrize(("attribute", "value", "reason"), NO_INTERPRETER)
def test_without_an_interpreter_and_without_limits_it_is_compiled_here_and_said_once(
    attribute: str,
    value: Any,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, attribute, value, raising=False)
    unlimited: dict[str, Any] = {"compile_seconds": None, "compile_memory_bytes": None}
    assert loaded(MEDIUM, **unlimited).exports
    assert loaded(slow_modules.of_functions(110_000), **unlimited).exports
    assert loaded(LARGE_TEXT, **unlimited).exports == {}
    said = [record.getMessage() for record in caplog.records if "compiled in this process" in record.getMessage()]
    assert said == [
        f"modules are compiled in this process, without limits of time and memory, and Ctrl-C waits: {reason}"
    ]


NOT_BEGUN = {
    "finds nothing of ours": ("import nothing_of_ours", "No module named 'nothing_of_ours'"),
    "has too little memory": ("raise MemoryError", "MemoryError"),
    "says that memory ran out, and stops": (
        "import os; os.write(2, b'memory allocation of 8 bytes failed'); os._exit(0)",
        "memory allocation of 8 bytes failed",
    ),
    "says nothing": ("import os; os._exit(3)", "exit status 3"),
}


@pytest.mark.parametrize("limits", [{}, {"compile_seconds": None, "compile_memory_bytes": None}], ids=["", "without"])
@pytest.mark.parametrize("fault", NOT_BEGUN)
def test_an_interpreter_that_begins_and_is_never_ready_is_no_way_around(
    fault: str, limits: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = NOT_BEGUN[fault]
    monkeypatch.setattr(parent, "_BEGIN", code)
    monkeypatch.setattr(modules, "compiled_here", lambda *_: pytest.fail("it was compiled here"))
    monkeypatch.setattr(modules, "from_text", lambda *_: pytest.fail("it was translated here"))
    for wasm in (MEDIUM, b"(module " + b"(func)" * 50_000 + b")"):
        with nothing_left(cache), pytest.raises(vfswasi.CompileError, match="the compiler did not begin: ") as caught:
            loaded(wasm, **limits)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, vfswasi.CompileLimitError), "no limit of ours is to blame"


def test_compile_memory_bytes_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = told_by_child(
        monkeypatch,
        "(child._limit_memory(None), __import__('resource').getrlimit(4), __import__('resource').getrlimit(2))[1:]",
    )
    assert limits == [[0, 0], list(resource.getrlimit(resource.RLIMIT_DATA))]
    assert vfswasi.run(MEDIUM, limits=Limits(compile_memory_bytes=None)).returncode == 0
    assert parse_limits(["compile_memory_bytes=none"]) == Limits(compile_memory_bytes=None)
    with pytest.raises(ValueError, match="wall_seconds, compile_seconds, fuel and compile_memory_bytes may be none"):
        parse_limits(["memory_bytes=none"])


# Several at once.


def test_threads_that_want_the_same_module_compile_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = parent.compiled
    monkeypatch.setattr(parent, "compiled", lambda wasm, name, *more: asked.append(name) or original(wasm, name, *more))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(loaded(MEDIUM).module)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert len(asked) == 1
    assert not modules._compiling


@pytest.mark.alone
def test_who_waits_for_another_thread_keeps_to_its_own_time_and_to_ctrl_c(cache: Path) -> None:
    with nothing_left(cache):
        other = threading.Thread(target=timed_out, args=(SLOW, 3))
        other.start()
        while not children():
            time.sleep(0.01)
        started_at = time.monotonic()
        with pytest.raises(vfswasi.CompileTimeoutError, match=r"\(0.5 s\)"):
            loaded(SLOW, compile_seconds=0.5)
        assert time.monotonic() - started_at < 2.5
        assert other.is_alive()
        other.join()


def test_when_the_first_thread_fails_the_next_one_tries(cache: Path) -> None:
    wasm = slow_modules.of_indirect_calls(80_000)
    found: list[object] = []
    first = threading.Thread(target=timed_out, args=(wasm, 0.6))
    first.start()
    while not modules._compiling:
        time.sleep(0.01)
    found.append(loaded(wasm, compile_seconds=120))
    first.join()
    assert found


def test_a_process_that_was_forked_while_a_thread_compiles_can_compile(cache: Path) -> None:
    with nothing_left(cache):
        other = threading.Thread(target=timed_out, args=(SLOW, 3))
        other.start()
        while not children():
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            try:
                try:
                    loaded(SLOW, compile_seconds=0.5)
                except vfswasi.CompileTimeoutError:
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        other.join()


def test_errors_can_be_pickled() -> None:
    import pickle

    for error in (
        vfswasi.CompileError("a"),
        vfswasi.CompileLimitError("a", "compile_memory_bytes"),
        vfswasi.CompileTimeoutError("a"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), "a")
        assert getattr(copy, "limit", None) == getattr(error, "limit", None)
