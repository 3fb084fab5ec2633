"""W8: threads that run guests have a stack of known size; where they are the user's, we look how much is left."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine.threads import stacks
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..wat_programs import program

ROOT = Path(__file__).parents[2]
KIB, MIB = 1 << 10, 1 << 20

ENDLESS = b"""(module (memory (export "memory") 1)
  (func $f (export "_start") (call $f) (i32.store (i32.const 0) (i32.const 1))))"""

HEAD = f"""
import sys, threading, vfswasi
endless = {ENDLESS!r}
def run(**options):
    result = vfswasi.run(endless, **options)
    print(result.returncode, result.limit)
unlimited = vfswasi.Limits(wall_seconds=None)
def on_a_thread(function, *arguments, **options):
    thread = threading.Thread(target=function, args=arguments, kwargs=options)
    thread.start()
    thread.join()
"""
# How a run may be reached by a thread whose stack is too small for a guest.
RUNS = {
    "a thread of 256 KiB": "threading.stack_size(262144); on_a_thread(run, timeout=20)",
    "a thread of 256 KiB, without a deadline": "threading.stack_size(262144); on_a_thread(run, limits=unlimited)",
    "the main thread, small threads": "threading.stack_size(262144); run(timeout=20)",
    "a host function of a run without a deadline": """
wat = b'(module (import "env" "f" (func $f)) (memory (export "memory") 1) (func (export "_start") (call $f)))'
vfswasi.run(wat, imports={"env": {"f": lambda memory: run(limits=unlimited)}}, limits=unlimited)
""",
}


def python(code: str, stack: int | None = None) -> str:
    """What a process prints whose own stacks are limited; that it ends with status 0 is checked."""

    def confine() -> None:
        if stack is not None:
            resource.setrlimit(resource.RLIMIT_STACK, (stack, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=confine,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.mark.parametrize("how", RUNS)
def test_w8_endless_recursion_is_a_trap_on_any_thread(how: str) -> None:
    assert python(RUNS[how]) == "-6 stack"


@pytest.mark.parametrize("how", ["run(timeout=20)", "on_a_thread(run, limits=unlimited)"])
def test_w8_endless_recursion_is_a_trap_where_stacks_are_limited(how: str) -> None:
    assert python(how, stack=512 * KIB) == "-6 stack"


def test_w8_the_size_of_the_users_own_threads_stays_what_it_was() -> None:
    code = "threading.stack_size(300 * 4096); run(timeout=20); print(threading.stack_size())"
    assert python(code).split() == ["-6", "stack", str(300 * 4096)]


# A host call at the bottom of the stack

# Calls itself so many times, and makes its host calls then: a function of the user's, an open and a read.
DEEP = """(module
  (import "env" "f" (func $f))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "s")
  (data (i32.const 32) "\\00\\04\\00\\00\\10\\00\\00\\00")
  (func $deep (param $left i32)
    (if (local.get $left)
      (then (call $deep (i32.sub (local.get $left) (i32.const 1))))
      (else
        (call $f)
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 0) (i64.const 2)
              (i64.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
        (if (call $read (i32.const 4) (i32.const 32) (i32.const 1) (i32.const 8)) (then unreachable))))
    (i32.store (i32.const 0) (i32.const 1)))
  (func (export "_start") (call $deep (i32.const DEPTH))))"""


def deepest(runs: Callable[[int], bool], most: int) -> int:
    """The largest number below `most` for which it is true."""
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if runs(middle) else (least, middle)
    return least


def stores(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "s").write_bytes(b"0123456789abcdef")
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "local" / "s", "s")
    with tarfile.open(tmp_path / "t.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "local" / "s", "s")
    found: dict[str, Any] = {
        "memory": MemoryBackend({"s": b"0123456789abcdef"}),
        "local": tmp_path / "local",
        "zip": tmp_path / "z.zip",
        "tar": tmp_path / "t.tar.xz",
    }
    try:
        import fs.osfs
        import fsspec

        found["pyfilesystem"] = fs.osfs.OSFS(str(tmp_path / "local"))
        files = fsspec.filesystem("memory", skip_instance_cache=True)
        files.pipe_file("/deep/s", b"0123456789abcdef")
        found["fsspec"] = vfswasi.Mount(files, root="/deep")
    except ImportError:
        pass
    return found


def test_w8_host_calls_at_the_bottom_of_the_stack_have_room(tmp_path: Path) -> None:
    """For each kind of store, and for a function of the user's that needs much stack itself."""
    called = []

    def function(memory: object) -> None:
        nested: Any = None
        for _ in range(900):
            nested = [nested]
        called.append(json.dumps(nested, check_circular=False))

    def runs(depth: int, **options: Any) -> bool:
        wasm = DEEP.replace("DEPTH", str(depth)).encode()
        imports = {"env": {"f": options.pop("function", lambda memory: None)}}
        result = vfswasi.run(wasm, imports=imports, limits=vfswasi.Limits(stack_bytes=256 * KIB), **options)
        assert (result.returncode, result.limit) in ((0, None), (-6, "stack"))
        return result.returncode == 0

    bottom = deepest(lambda depth: runs(depth, preopens={"/d": {"s": b"0123456789abcdef"}}), 100_000)
    assert bottom > 1000
    for name, store in stores(tmp_path).items():
        assert runs(bottom, preopens={"/d": store}, function=function), name
        assert not runs(bottom + 1000, preopens={"/d": store}, function=function), name
    assert called


def test_w8_what_a_guest_has_touched_of_a_stack_is_given_back() -> None:
    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * KIB

    if not Path("/proc/thread-self/syscall").exists():
        pytest.skip("the system does not say where a stack pointer is")
    wasm = b"""(module (memory (export "memory") 1) (func $deep (param i32)
      (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))))
      (i32.store (i32.const 0) (i32.const 1)))
      (func (export "_start") (call $deep (i32.const 1500000))))"""
    with vfswasi.Sandbox(wasm, limits=vfswasi.Limits(stack_bytes=128 * MIB)) as sandbox:
        assert vfswasi.run(program("")).returncode == 0
        before = resident()
        assert sandbox.run(timeout=60).returncode == 0
        assert sandbox.run(timeout=60).returncode == 0  # on the same thread, which is done with the first
        for _ in range(100):
            after = resident()
            if after - before < 20 * MIB:
                break
            threading.Event().wait(0.05)
        assert after - before < 20 * MIB


# In stores of the user's

CLASS = """
import io, wasmtime
from tests.wat_programs import program
def start(body=b'', method="start"):
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    out = []
    wasi = vfswasi.WASI(version="preview1", stdout=lambda data: out.append(data))
    linker = wasmtime.Linker(engine)
    for module, functions in wasi.get_import_object(store).items():
        for name, function in functions.items():
            linker.define(store, module, name, function)
    instance = linker.instantiate(store, wasmtime.Module(engine, wasmtime.wat2wasm(body)))
    try:
        getattr(wasi, method)(instance)
        if method != "start":
            instance.exports(store)["main"](store)
        print("ended", out)
    except (wasmtime.Trap, vfswasi.WasiStateError) as error:
        print(type(error).__name__, getattr(error, "trap_code", None), str(error).splitlines()[0])
"""


@pytest.mark.parametrize("method", ["start", "initialize"])
def test_w8_the_class_refuses_a_thread_whose_stack_is_too_small(method: str) -> None:
    body = ENDLESS.decode().replace("_start", "_start" if method == "start" else "_initialize")
    told = python(f"{CLASS}threading.stack_size(262144); on_a_thread(start, {body!r}, {method!r})")
    assert told.startswith("WasiStateError")
    assert "KiB of stack left" in told
    told = python(f"{CLASS}start({body!r}, {method!r})")
    assert told.startswith("Trap TrapCode.STACK_OVERFLOW")


def test_w8_the_class_refuses_the_main_thread_of_a_process_with_a_small_stack() -> None:
    told = python(f"{CLASS}start({ENDLESS.decode()!r})", stack=512 * KIB)
    assert told.startswith("WasiStateError")


def test_w8_a_system_call_is_not_begun_where_hardly_any_stack_is_left() -> None:
    """A guest that the user's own call runs, and that went down nearly as far as its engine lets it."""
    body = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 16) "so far")
      (func $deep (param i32)
        (if (local.get 0)
          (then (call $deep (i32.sub (local.get 0) (i32.const 1))))
          (else (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
        (i32.store (i32.const 64) (i32.const 1)))
      (func (export "main") (call $deep (i32.const DEPTH))))"""
    shallow, deep = body.replace("DEPTH", "10"), body.replace("DEPTH", "15000")
    size = 620 * KIB
    method = "finalize_bindings"
    code = f"{CLASS}threading.stack_size({size}); on_a_thread(start, BODY, {method!r})"
    assert python(code.replace("BODY", repr(shallow))).startswith("ended")
    told = python(code.replace("BODY", repr(deep)))
    assert told.startswith("WasiStateError")
    assert "stack left" in told


def test_the_room_on_a_stack_is_known() -> None:
    sizes: list[Any] = []

    def look() -> None:
        sizes.append((stacks.room(), stacks.room_below(0), stacks._own.bounds))

    for size in (256 * KIB, 2 * MIB):
        before = threading.stack_size(size)
        try:
            thread = threading.Thread(target=look)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        room, elsewhere, bounds = sizes.pop()
        assert elsewhere is None
        if bounds is None:
            pytest.skip("this system does not say where stacks are")
        assert size - 64 * KIB <= bounds[1] - bounds[0], "more, if the system had the stack of a thread that has ended"
        assert bounds[1] - bounds[0] - 64 * KIB <= room <= bounds[1] - bounds[0]


def test_stacks_are_rounded_to_few_sizes() -> None:
    assert [stacks.rounded(size) for size in (0, 1, 64 * KIB, 64 * KIB + 1, 8 * MIB, 8 * MIB + 1)] == [
        64 * KIB,
        64 * KIB,
        64 * KIB,
        128 * KIB,
        8 * MIB,
        16 * MIB,
    ]


def test_a_thread_that_cannot_be_started_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    before = threading.stack_size()
    with pytest.raises(OSError, match=r"stack of 40 MiB could be started; lower Limits\.stack_bytes"):
        vfswasi.run(program(""), limits=vfswasi.Limits(stack_bytes=32 * MIB))
    assert threading.stack_size() == before
