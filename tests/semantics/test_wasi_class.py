"""The class: Node's rules, each breach its own error; stores and instances of the user's own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.kernel.clocks import ProcessExit

ROOT = Path(__file__).parents[2]

# The program of Node's page: it writes 12 bytes at 8 to descriptor 1.
DEMO = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory 1) (export "memory" (memory 0))
  (data (i32.const 8) "hello world\\n")
  (func $main (export "_start")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 12))
    (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20))
    drop))"""


def exiting(code: int, *, module: str = "wasi_snapshot_preview1", export: str = "_start") -> str:
    return f"""(module (import "{module}" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "{export}") (call $exit (i32.const {code}))))"""


class Embedded:
    """What a user does: a store, a linker, an instance."""

    def __init__(self, wat: str, wasi: vfswasi.WASI, **functions: Callable[..., Any]) -> None:
        self.engine = wasmtime.Engine()
        self.store = wasmtime.Store(self.engine)
        self.wasi = wasi
        linker = wasmtime.Linker(self.engine)
        for module, names in wasi.get_import_object(self.store).items():
            for name, function in names.items():
                linker.define(self.store, module, name, function)
        for name, function in functions.items():
            linker.define(self.store, "env", name, wasmtime.Func(self.store, wasmtime.FuncType([], []), function))
        self.instance = linker.instantiate(self.store, wasmtime.Module(self.engine, wat))

    def start(self) -> int:
        return self.wasi.start(self.instance)


def _wasi(**options: Any) -> vfswasi.WASI:
    return vfswasi.WASI(**{"version": "preview1", "stdout": vfswasi.DEVNULL, **options})


def test_the_demo_of_nodes_page() -> None:
    lines: list[bytes] = []
    assert Embedded(DEMO, _wasi(args=["demo"], env={"A": "b"}, stdout=lines.append)).start() == 0
    assert lines == [b"hello world\n"]


def test_the_demo_on_a_real_descriptor(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        assert Embedded(DEMO, _wasi(stdout=file.fileno())).start() == 0
    assert (tmp_path / "out").read_bytes() == b"hello world\n"


def test_the_demo_with_an_instance_made_of_a_list_of_imports() -> None:
    wasi = _wasi()
    store = wasmtime.Store()
    functions = wasi.get_import_object(store)["wasi_snapshot_preview1"]
    module = wasmtime.Module(store.engine, DEMO)
    instance = wasmtime.Instance(store, module, [functions[str(wanted.name)] for wanted in module.imports])
    assert wasi.start(instance) == 0


def test_the_import_object_is_named_after_the_version() -> None:
    store = wasmtime.Store()
    for version, module, count in (("preview1", "wasi_snapshot_preview1", 46), ("unstable", "wasi_unstable", 45)):
        wasi = _wasi(version=version)
        imports = wasi.get_import_object(store)
        assert list(imports) == [module]
        assert len(imports[module]) == count
        assert wasi.wasi_import == imports[module]
        assert wasi.get_import_object(store) == imports


@pytest.mark.parametrize("code", [0, 1, 42, 255, 256, 2**31, 2**32 - 1])
def test_start_returns_the_exit_status(code: int) -> None:
    assert Embedded(exiting(code), _wasi()).start() == code


def test_unstable_starts_too() -> None:
    assert Embedded(exiting(7, module="wasi_unstable"), _wasi(version="unstable")).start() == 7


def test_without_return_on_exit_the_host_exits() -> None:
    with pytest.raises(SystemExit) as caught:
        Embedded(exiting(9), _wasi(return_on_exit=False)).start()
    assert caught.value.code == 9


def test_started_twice() -> None:
    embedded = Embedded(DEMO, _wasi())
    embedded.start()
    with pytest.raises(vfswasi.WasiStateError, match="started already"):
        embedded.start()
    with pytest.raises(vfswasi.WasiStateError, match="started already"):
        embedded.wasi.initialize(embedded.instance)


def test_no_start_export() -> None:
    with pytest.raises(vfswasi.MissingExportError, match="_start"):
        Embedded('(module (memory (export "memory") 1))', _wasi()).start()


def test_start_and_initialize_mixed_up() -> None:
    both = '(module (memory (export "memory") 1) (func (export "_start")) (func (export "_initialize")))'
    with pytest.raises(vfswasi.WasiStateError, match="reactor"):
        Embedded(both, _wasi()).start()
    command = Embedded(DEMO, _wasi())
    with pytest.raises(vfswasi.WasiStateError, match="command"):
        command.wasi.initialize(command.instance)


@pytest.mark.parametrize("method", ["start", "initialize", "finalize_bindings"])
def test_no_memory(method: str) -> None:
    export = "_start" if method == "start" else "f"
    embedded = Embedded(f'(module (func (export "{export}")))', _wasi())
    with pytest.raises(vfswasi.MissingExportError, match="memory"):
        getattr(embedded.wasi, method)(embedded.instance)


def test_initialize_runs_initialize_once_and_its_absence_is_fine() -> None:
    calls: list[int] = []
    wat = """(module (import "env" "note" (func $note)) (memory (export "memory") 1)
      (func (export "_initialize") (call $note)))"""
    embedded = Embedded(wat, _wasi(), note=lambda: calls.append(1))
    embedded.wasi.initialize(embedded.instance)
    assert calls == [1]
    with pytest.raises(vfswasi.WasiStateError, match="initialized already"):
        embedded.wasi.initialize(embedded.instance)
    library = Embedded('(module (memory (export "memory") 1))', _wasi())
    library.wasi.initialize(library.instance)


def test_a_call_before_start_is_its_own_error() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1) (func (export "f") (drop (call $yield))) (func (export "_start")))"""
    embedded = Embedded(wat, _wasi())
    with pytest.raises(vfswasi.WasiStateError, match="before start"):
        embedded.instance.exports(embedded.store)["f"](embedded.store)
    assert embedded.start() == 0


def test_an_exit_in_a_call_that_the_host_makes() -> None:
    embedded = Embedded(exiting(5, export="f"), _wasi())
    embedded.wasi.finalize_bindings(embedded.instance)
    with pytest.raises(vfswasi.GuestExitError) as caught:
        embedded.instance.exports(embedded.store)["f"](embedded.store)
    assert caught.value.returncode == 5


def test_finalize_bindings_answers_calls_that_the_host_makes() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "count") (result i32) (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))"""
    embedded = Embedded(wat, _wasi(args=["a", "b", "c"]))
    embedded.wasi.finalize_bindings(embedded.instance)
    assert embedded.instance.exports(embedded.store)["count"](embedded.store) == 3


def test_a_host_exception_in_another_import_arrives_unchanged() -> None:
    wat = """(module (import "env" "complain" (func $complain)) (memory (export "memory") 1)
      (func (export "_start") (call $complain)))"""
    error = KeyError("mine")

    def complain() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        Embedded(wat, _wasi(), complain=complain).start()
    assert caught.value is error


def test_an_exception_of_a_stream_arrives_unchanged() -> None:
    def complain(data: bytes) -> None:
        raise LookupError("no room for output")

    with pytest.raises(LookupError, match="no room for output"):
        Embedded(DEMO, _wasi(stdout=complain)).start()


def test_a_trap_is_wasmtimes_trap() -> None:
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        Embedded('(module (memory (export "memory") 1) (func (export "_start") unreachable))', _wasi()).start()


def test_memory_that_grows_and_moves_is_followed() -> None:
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $say (param $at i32)
        (i32.store (local.get $at) (i32.add (local.get $at) (i32.const 8)))
        (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 1))
        (i32.store8 (i32.add (local.get $at) (i32.const 8)) (i32.const 120))
        (drop (call $fd_write (i32.const 1) (local.get $at) (i32.const 1) (i32.const 40))))
      (func (export "_start")
        (call $say (i32.const 0))
        (drop (memory.grow (i32.const 200)))
        (call $say (i32.const 65536)) (call $say (i32.const 13000000))))"""
    config = wasmtime.Config()
    config.memory_reservation = 0
    config.memory_guard_size = 0
    config.memory_reservation_for_growth = 0
    lines: list[bytes] = []
    wasi = _wasi(stdout=lines.append)
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    functions = wasi.get_import_object(store)["wasi_snapshot_preview1"]
    instance = wasmtime.Instance(store, wasmtime.Module(engine, wat), [functions["fd_write"]])
    assert wasi.start(instance) == 0
    assert lines == [b"x", b"x", b"x"]


def test_a_missing_preopen_fails_at_construction(tmp_path: Path) -> None:
    with pytest.raises(vfswasi.MountError, match="missing"):
        _wasi(preopens={"/d": tmp_path / "missing"})


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"version": 1}, TypeError, "version"),
        ({"version": "preview2"}, ValueError, "version"),
        ({"args": "a b"}, TypeError, "args"),
        ({"args": [1]}, TypeError, "args"),
        ({"args": 7}, TypeError, "args"),
        ({"env": ["A=b"]}, TypeError, "env"),
        ({"env": {"A": 1}}, TypeError, "env"),
        ({"preopens": ["/d"]}, TypeError, "preopens"),
        ({"return_on_exit": 1}, TypeError, "return_on_exit"),
        ({"stdin": 3.5}, TypeError, "stdin"),
        ({"stdin": 12345}, ValueError, "stdin"),
        ({"stdout": NotImplemented}, TypeError, "stdout"),
        ({"stderr": -9}, ValueError, "stderr"),
        ({"limits": 5}, TypeError, "limits"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        _wasi(**options)


def test_the_version_is_mandatory() -> None:
    with pytest.raises(TypeError, match="version"):
        vfswasi.WASI()  # type: ignore[call-arg]


def test_start_before_get_import_object_and_with_another_store() -> None:
    wasi = _wasi()
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, '(module (memory (export "memory") 1))'), [])
    with pytest.raises(vfswasi.WasiStateError, match="get_import_object"):
        wasi.start(instance)
    with pytest.raises(vfswasi.WasiStateError, match="get_import_object"):
        wasi.wasi_import  # noqa: B018
    wasi.get_import_object(wasmtime.Store())
    with pytest.raises(vfswasi.WasiStateError, match="another store"):
        wasi.get_import_object(store)


def test_an_instance_of_another_store_is_refused() -> None:
    other = Embedded(DEMO, _wasi())
    wasi = _wasi()
    wasi.get_import_object(wasmtime.Store())
    with pytest.raises(ValueError, match="another store"):
        wasi.finalize_bindings(other.instance)


def test_an_endless_guest_can_be_stopped_from_outside() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1) (func (export "_start") (loop (drop (call $yield)) (br 0))))"""
    embedded = Embedded(wat, _wasi())
    threading.Timer(0.2, embedded.wasi.interrupt).start()
    with pytest.raises(vfswasi.HostCallError, match="interrupted"):
        embedded.start()


def test_a_second_thread_gets_an_error() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1) (func (export "_start") (loop (drop (call $yield)) (br 0))))"""
    embedded = Embedded(wat, _wasi())

    def work() -> None:
        with pytest.raises(vfswasi.HostCallError):
            embedded.start()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    with pytest.raises(vfswasi.WasiStateError):
        embedded.start()
    embedded.wasi.interrupt()
    thread.join()


def test_files_are_closed_after_start_and_when_the_store_goes(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    (tmp_path / "f").write_bytes(b"x")
    Embedded(DEMO, _wasi(preopens={"/d": tmp_path})).start()
    gc.collect()
    before = descriptors()
    for _ in range(20):
        Embedded(DEMO, _wasi(preopens={"/d": tmp_path}))
        embedded = Embedded(DEMO, _wasi(preopens={"/d": tmp_path}))
        embedded.start()
        embedded.wasi.close()
    del embedded
    gc.collect()
    assert descriptors() <= before + 1


def test_a_closed_object_says_so() -> None:
    embedded = Embedded(DEMO, _wasi())
    embedded.wasi.close()
    with pytest.raises(vfswasi.WasiStateError, match="closed"):
        embedded.start()


def test_ctrl_c_on_the_main_thread() -> None:
    program = """
import faulthandler, os, signal, threading, wasmtime, vfswasi
faulthandler.dump_traceback_later(25, exit=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored
wat = '''(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "host" "ready" (func $ready))
  (memory (export "memory") 1) (func (export "_start") (call $ready) (loop (drop (call $yield)) (br 0))))'''
store = wasmtime.Store()
wasi = vfswasi.WASI(version="preview1")
functions = wasi.get_import_object(store)["wasi_snapshot_preview1"]
timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
ready = wasmtime.Func(store, wasmtime.FuncType([], []), timer.start)
instance = wasmtime.Instance(store, wasmtime.Module(store.engine, wat), [functions["sched_yield"], ready])
try:
    wasi.start(instance)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "interrupted\n", done.stderr


def test_exits_do_not_look_like_errors_of_the_host() -> None:
    assert not issubclass(ProcessExit, Exception)


def test_define_in_a_linker() -> None:
    engine = wasmtime.Engine()
    store, other = wasmtime.Store(engine), wasmtime.Store(engine)
    module = wasmtime.Module(engine, exiting(7))
    with vfswasi.WASI(version="preview1") as wasi:
        linker = wasmtime.Linker(engine)
        with pytest.raises(vfswasi.WasiStateError, match="store"):
            wasi.define_in(linker)
        wasi.define_in(linker, store)
        assert wasi.start(linker.instantiate(store, module)) == 7
        with pytest.raises(wasmtime.WasmtimeError, match="defined twice"):
            wasi.define_in(linker)
        again = wasmtime.Linker(engine)
        wasi.define_in(again)  # it knows its store now
        again.instantiate(store, module)
        with pytest.raises(vfswasi.WasiStateError, match="another store"):
            wasi.define_in(wasmtime.Linker(engine), other)
        with pytest.raises(TypeError, match=r"wasmtime\.Linker"):
            wasi.define_in(store)  # type: ignore[arg-type]
    closed = vfswasi.WASI(version="preview1")
    closed.close()
    with pytest.raises(vfswasi.WasiStateError, match="closed"):
        closed.define_in(wasmtime.Linker(engine), other)
