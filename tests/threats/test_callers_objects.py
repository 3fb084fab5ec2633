"""W7: objects of the caller's are kept as objects or duplicates, never as numbers that may come to mean another."""

# ruff: noqa: SIM115
from __future__ import annotations

import contextlib
import gc
import os
import select
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.kernel.streams.host_descriptor import HostDescriptor

from ..open_files import open_files, opened_since
from ..rawguest import RawGuest


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before = open_files()
    yield
    assert opened_since(before) == []


def take_numbers(path: Path, data: bytes = b"") -> list[Any]:
    """Open `path` so often that every number that was free is taken by it."""
    path.write_bytes(data)
    return [open(path, "r+b", buffering=0) for _ in range(20)]


def echo(guest: RawGuest) -> None:
    """What is at hand of standard input, to standard output and standard error."""
    data = guest.read(0, 100)
    guest.write(1, b"out " + data)
    guest.write(2, b"err " + data)


def test_what_is_left_open_is_seen_though_as_much_was_closed_meanwhile(tmp_path: Path) -> None:
    """The check of these tests: a duplicate is another descriptor of the same file."""
    (tmp_path / "f").touch()
    earlier, file = (os.open(tmp_path / "f", os.O_RDONLY) for _ in range(2))
    before = open_files()
    duplicate = os.dup(file)
    try:
        os.close(earlier)
        assert opened_since(before) == [(str(duplicate), str(tmp_path / "f"))]
    finally:
        os.close(duplicate)
        assert opened_since(before) == []
        os.close(file)
    assert opened_since(before) == []


# A file stays the one that was given.


@pytest.mark.parametrize("how", ["collected", "closed", "numbers"])
def test_w7_the_guest_keeps_the_files_it_was_given_when_their_numbers_mean_others(
    tmp_path: Path, how: str, nothing_left: None
) -> None:
    names = [tmp_path / name for name in ("in", "out", "err")]
    names[0].write_bytes(b"given")
    given: list[Any] = [open(name, mode) for name, mode in zip(names, ("rb", "wb", "wb"), strict=True)]
    passed = [file.fileno() for file in given] if how == "numbers" else given
    with RawGuest(**dict(zip(("stdin", "stdout", "stderr"), passed, strict=True))) as guest:
        if how != "collected":
            for file in given:
                file.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # nobody has closed them, that is the point
            file = None
            del given, passed
            gc.collect()
        others = take_numbers(tmp_path / "other", b"secret of the host")
        echo(guest)
        for other in others:
            other.close()
    assert (tmp_path / "other").read_bytes() == b"secret of the host"
    assert [name.read_bytes() for name in names] == [b"given", b"out given", b"err given"]


@pytest.mark.parametrize("as_number", [False, True])
def test_w7_a_file_that_a_callback_closes_is_still_the_runs(
    tmp_path: Path, as_number: bool, nothing_left: None
) -> None:
    """The program prints to standard error, whose callable closes the file that is standard output."""
    file = open(tmp_path / "out", "wb")
    others: list[Any] = []

    def swap(_data: bytes) -> None:
        file.close()
        others.extend(take_numbers(tmp_path / "other"))

    say = "(i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 5))"
    body = "".join(f"(drop (call $w (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 16)))" for fd in (1, 2, 1))
    module = f"""(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 32) "hello") (func (export "_start") {say} {body}))"""
    vfswasi.run(module.encode(), stdout=file.fileno() if as_number else file, stderr=swap)
    for other in others:
        other.close()
    assert (tmp_path / "other").read_bytes() == b""
    assert (tmp_path / "out").read_bytes() == b"hellohello"


def test_w7_inherited_output_is_what_sys_stdout_is_when_the_run_begins(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as first, open(tmp_path / "b", "w") as second:
        with contextlib.redirect_stdout(first):
            guest = RawGuest(stdout=None)
        with contextlib.redirect_stdout(second), guest:
            guest.write(1, b"text")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"text", b"")


def test_w7_the_position_is_shared_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one two three")
    with open(tmp_path / "f", "rb", buffering=0) as file:
        file.read(4)
        with RawGuest(stdin=file) as guest:
            assert guest.read(0, 4) == b"two "
        assert file.read() == b"three"


@pytest.mark.parametrize("mode", ["rb", "r", "r+b", "r+"])
def test_w7_what_a_file_has_read_ahead_is_not_lost(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"first line\nsecond line\nthird")
    with open(path, mode) as file:
        file.readline()
        with RawGuest(stdin=file) as guest:
            assert guest.read(0, 12) == b"second line\n"
        assert file.read() in ("third", b"third")


def test_w7_output_goes_to_where_a_file_is_that_has_read_ahead(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"first line\nsecond line\n")
    with open(path, "r+") as file:
        file.readline()
        with RawGuest(stdout=file) as guest:
            guest.write(1, b"SECOND")
    assert path.read_bytes() == b"first line\nSECOND line\n"


def test_w7_output_comes_behind_what_the_file_was_given_before(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w") as file:
        file.write("before ")
        with RawGuest(stdout=file) as guest:
            guest.write(1, b"inside ")
        file.write("after")
    assert (tmp_path / "f").read_bytes() == b"before inside after"


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_w7_a_closed_file_is_an_error_that_names_the_option(tmp_path: Path, option: str, nothing_left: None) -> None:
    with open(tmp_path / "f", "w+b") as file:
        pass
    for closed, message in ((file, "closed file"), (1 << 20, "not an open file descriptor")):
        with pytest.raises(ValueError, match=f"{option}.*{message}"):
            RawGuest(**{option: closed})


# Duplicates are given back.


@pytest.mark.parametrize("ending", ["return", "trap", "exit", "timeout", "error in a callback", "bad argument"])
def test_w7_no_descriptor_is_left_after_a_run(ending: str, nothing_left: None) -> None:
    bodies = {
        "return": "",
        "trap": "unreachable",
        "exit": "(call $x (i32.const 3))",
        "timeout": "(loop (br 0))",
        "error in a callback": "(call $f)",
        "bad argument": "",
    }
    module = f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $x (param i32)))
      (import "env" "f" (func $f)) (memory (export "memory") 1) (func (export "_start") {bodies[ending]}))"""

    def fail(_memory: Any) -> None:
        raise LookupError

    with open(os.devnull, "r+b") as null, contextlib.suppress(vfswasi.GuestError, LookupError, TypeError):
        vfswasi.run(
            module.encode(),
            stdin=object() if ending == "bad argument" else null,
            stdout=null,
            stderr=vfswasi.STDOUT,
            timeout=0.05,
            imports={"env": {"f": fail}},
        )


@pytest.mark.parametrize("how", ["closed", "never bound", "never closed"])
def test_w7_no_descriptor_is_left_after_a_wasi_object(how: str, nothing_left: None) -> None:
    if how == "never bound":
        vfswasi.WASI(version="preview1", stdin=0, stdout=1, stderr=2)
        return
    guest = RawGuest(stdin=0, stdout=1, stderr=2)
    if how == "closed":
        guest.close()
    del guest


def test_w7_whoever_reads_a_runs_pipe_does_not_wait_for_a_run_that_hangs() -> None:
    """It hangs in a function of the host's after its time; the pipe has no other writer any more."""
    go_on = threading.Event()
    module = b"""(module (import "env" "f" (func $f)) (memory (export "memory") 1)
      (func (export "_start") (call $f)))"""

    def hang(_memory: Any) -> None:
        go_on.wait(30)

    reading, writing = os.pipe()
    try:
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(module, stdout=writing, timeout=0.1, imports={"env": {"f": hang}})
        os.close(writing)
        assert select.select([reading], [], [], 10)[0], "nobody can write there any more"
        assert os.read(reading, 1) == b""
    finally:
        go_on.set()
        os.close(reading)


def test_w7_a_descriptor_that_is_closed_while_it_is_used_is_closed_afterwards(tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        held = HostDescriptor(file.fileno())
    with held as number:
        held.close()
        others = take_numbers(tmp_path / "other")
        os.write(number, b"mine")
        for other in others:
            other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    with pytest.raises(vfswasi.FsError), held:
        pass
    held.close()
    assert ((tmp_path / "f").read_bytes(), (tmp_path / "other").read_bytes()) == (b"mine", b"")


def test_w7_duplicates_are_no_standard_streams_and_not_inherited() -> None:
    code = """if True:
        import os, sys, vfswasi
        from vfswasi.kernel.streams.host_descriptor import HostDescriptor
        os.close(0)
        held = HostDescriptor(1)
        with held as number:
            assert number > 2 and not os.get_inheritable(number)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# What is closed under a call that uses it.


@pytest.mark.parametrize("how", ["from another thread", "in a callback", "after an interruption"])
def test_w7_a_sandbox_is_closed_when_its_last_run_is_over(tmp_path: Path, how: str, nothing_left: None) -> None:
    """The directory's number must not come to mean another one while a run may still use it."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "other").mkdir()
    backend = vfswasi.LocalBackend(tmp_path / "mounted")
    inside, go_on = threading.Event(), threading.Event()
    others: list[int] = []

    def close() -> None:
        sandbox.close()
        others.extend(os.open(tmp_path / "other", os.O_RDONLY) for _ in range(20))

    def host(_memory: Any) -> None:
        inside.set()
        if how == "in a callback":
            close()
        else:
            go_on.wait(30)

    wat = """(module (import "env" "f" (func $f))
      (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "made") (func (export "_start") (call $f)
      (drop (call $mkdir (i32.const 3) (i32.const 0) (i32.const 4)))))"""
    mounts = {"/d": vfswasi.Mount(backend, rw=True)}
    sandbox = vfswasi.Sandbox(wat.encode(), preopens=mounts, imports={"env": {"f": host}})
    ends: list[type[BaseException]] = []

    def run() -> None:
        try:
            sandbox.run(timeout=0.2 if how == "after an interruption" else 30)
        except BaseException as error:
            ends.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(30)
    if how == "after an interruption":
        thread.join(30)
        assert ends == [vfswasi.GuestTimeoutError]
    if how != "in a callback":
        close()
    go_on.set()
    thread.join(30)
    for other in others:
        os.close(other)
    for _ in range(100):
        if not sandbox._running:
            break
        time.sleep(0.05)
    assert os.listdir(tmp_path / "other") == []
    assert os.listdir(tmp_path / "mounted") == ([] if how == "after an interruption" else ["made"])
    with pytest.raises(ValueError, match="closed"):
        sandbox.run()
    backend.close()


@pytest.mark.parametrize("method", ["start", "initialize"])
def test_w7_closing_from_another_thread_waits_for_the_guest(tmp_path: Path, method: str, nothing_left: None) -> None:
    reading, writing = os.pipe()
    inside = threading.Event()
    entry = "_start" if method == "start" else "_initialize"
    wat = f"""(module (import "env" "f" (func $f))
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "{entry}") (call $f)
      (i32.store (i32.const 4) (i32.const 9))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))))"""
    wasi = vfswasi.WASI(version="preview1", stdin=reading, preopens={"/d": tmp_path})
    store = wasmtime.Store()
    linker = wasmtime.Linker(store.engine)
    for module, functions in wasi.get_import_object(store).items():
        for name, function in functions.items():
            linker.define(store, module, name, function)
    linker.define(store, "env", "f", wasmtime.Func(store, wasmtime.FuncType([], []), inside.set))
    instance = linker.instantiate(store, wasmtime.Module(store.engine, wasmtime.wat2wasm(wat)))
    ends: list[BaseException] = []

    def run(call: Any, instance: Any) -> None:
        try:
            call(instance)
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=run, args=(getattr(wasi, method), instance))
    thread.start()
    try:
        assert inside.wait(30)
        wasi.close()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(ends[0], vfswasi.HostCallError)
        with pytest.raises(vfswasi.WasiStateError):
            wasi.start(instance)
    finally:
        os.close(reading)
        os.close(writing)
    del linker, instance, wasi, functions, function
    ends.clear()
    store.close()
