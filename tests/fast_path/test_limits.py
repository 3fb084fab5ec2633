"""The fast path under limits and switches: deadlines, small memories, captured output, random bytes, counters."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from tests.rawguest import RawGuest
from vfswasi.abi import constants as c
from vfswasi.cli import main
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno

from . import guests

FOR_EVER = f"(loop $for_ever {guests.REWIND} {guests.READ} (br $for_ever))"
READS = guests.module(guests.opening() + guests.repeated(500, guests.READ + guests.REWIND))
FILES: dict[str, Any] = {"/d": {"f": b"0123456789abcdef" * 100}}

needs_fast_path = pytest.mark.skipif(not fastpath.wanted(None), reason="tests the fast path")


def test_a_loop_of_fast_calls_ends_at_its_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(guests.module(guests.opening() + FOR_EVER), preopens=FILES, timeout=0.3)
    assert time.monotonic() - started < 20


def test_a_loop_of_fast_calls_can_be_interrupted() -> None:
    with vfswasi.Sandbox(guests.module(guests.opening() + FOR_EVER), preopens=FILES) as sandbox:
        threading.Timer(0.3, sandbox.interrupt).start()
        with pytest.raises(vfswasi.HostCallError):
            sandbox.run(timeout=60)


def test_a_loop_of_fast_calls_in_a_store_of_the_users_can_be_interrupted() -> None:
    """There is no epoch there: the loop must come back to Python to learn of it."""
    wasi = vfswasi.WASI(version="preview1", preopens=FILES, vdso=True)
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    linker = wasmtime.Linker(engine)
    for module, functions in wasi.get_import_object(store).items():
        for name, function in functions.items():
            linker.define(store, module, name, function)
    wasm = wasmtime.wat2wasm(guests.module(guests.opening() + FOR_EVER))
    instance = linker.instantiate(store, wasmtime.Module(engine, wasm))
    threading.Timer(0.3, wasi.interrupt).start()
    with pytest.raises(vfswasi.HostCallError):
        wasi.start(instance)
    wasi.close()


@needs_fast_path
def test_counters_are_exact() -> None:
    """What Python answered and what wasm answered add up: each call is in one of them."""
    result = vfswasi.run(READS, preopens=FILES, check=True)
    calls = result.fast_calls
    # Python answers the first read, which publishes the file, and the second, which fills its window.
    assert calls["fd_read"] == 498
    assert calls["fd_seek"] == 500
    assert calls["bytes_read"] == 498 * 16
    assert calls["fd_write"] == calls["bytes_written"] == 0


@pytest.mark.parametrize("how", ["argument", "environment", "window_bytes", "start section"])
def test_it_can_be_switched_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    wasm = READS
    if how == "argument":
        options["vdso"] = False
    elif how == "environment":
        monkeypatch.setenv("VFSWASI_VDSO", "0")
    elif how == "window_bytes":
        options["limits"] = vfswasi.Limits(window_bytes=0)
    elif how == "start section":
        # It may call WASI before anybody knows the guest's memory.
        say = f"(func $first {guests.SAY}) (start $first)"
        wasm = guests.module(guests.opening() + guests.repeated(500, guests.READ + guests.REWIND), say)
        wasm = wasm.replace(b"(start $first)", b"").replace(
            b'(func (export "_start")', b'(start $first) (func (export "_start")'
        )
    result = vfswasi.run(wasm, preopens=FILES, capture_output=True, check=True, **options)
    assert not any(result.fast_calls.values())
    if how == "start section":
        assert result.stdout == b"0123456789abcdef"


@pytest.mark.parametrize("memory_pages", [2, 10, 11, 12, 40])
def test_a_small_memory_limit_holds_for_the_fast_path_too(memory_pages: int) -> None:
    limits = vfswasi.Limits(memory_bytes=memory_pages * 65536)
    result = vfswasi.run(READS, preopens=FILES, limits=limits, check=True)
    assert result.returncode == 0
    if memory_pages == 40 and fastpath.wanted(None):
        assert result.fast_calls["fd_read"] > 400


def test_several_memories_are_left_to_python() -> None:
    """The guest's own limit on instances and memories is not used up."""
    more = "(memory $second 1) (memory $third 1) (memory $fourth 1)"
    wasm = guests.module(guests.opening() + guests.repeated(50, guests.READ + guests.REWIND))
    wasm = wasm.replace(b' (data (i32.const 100) "f")', more.encode() + b' (data (i32.const 100) "f")')
    assert vfswasi.run(wasm, preopens=FILES, limits=vfswasi.Limits(memories=4)).returncode == 0


@pytest.mark.parametrize("limit", [0, 1, 15, 16, 17, 1000, 65536, 65537, 70_000, 200_000])
def test_captured_output_ends_at_the_same_byte(limit: int) -> None:
    more = "(func $stop (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))"
    wasm = guests.module(guests.repeated(20_000, guests.SAY.replace("$must", "$stop")), more)
    limits = vfswasi.Limits(output_bytes=limit)
    results = [vfswasi.run(wasm, capture_output=True, limits=limits, vdso=vdso) for vdso in (True, False)]
    assert results[0].stdout == results[1].stdout == (b"0123456789abcdef" * 20_000)[:limit]
    assert results[0].returncode == results[1].returncode == Errno.NOSPC


@needs_fast_path
def test_output_is_captured_in_order() -> None:
    """Both streams into one: each call takes its turn, whichever side answers it."""
    err = guests.SAY.replace("(i32.const 1) (i32.const 200)", "(i32.const 2) (i32.const 208)", 1)
    more = '(data (i32.const 208) "\\80\\04\\00\\00\\03\\00\\00\\00") (data (i32.const 1152) "ERR")'
    wasm = guests.module(guests.repeated(300, guests.SAY + err), more)
    wasm = _data_after_memory(wasm, more)
    result = vfswasi.run(wasm, stdout=vfswasi.PIPE, stderr=vfswasi.STDOUT, check=True)
    assert result.stdout == b"0123456789abcdefERR" * 300
    assert result.fast_calls["fd_write"] > 590
    result = vfswasi.run(wasm, capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"0123456789abcdef" * 300, b"ERR" * 300)


def _data_after_memory(wasm: bytes, data: str) -> bytes:
    """Data segments must come behind the memory they are for."""
    return wasm.replace(data.encode(), b"").replace(b"\n (func $must", b"\n" + data.encode() + b"\n (func $must", 1)


def test_output_before_a_timeout_is_in_the_error() -> None:
    wasm = guests.module(guests.repeated(100, guests.SAY) + "(loop $for_ever (br $for_ever))")
    with pytest.raises(vfswasi.GuestTimeoutError) as caught:
        vfswasi.run(wasm, capture_output=True, timeout=0.3)
    assert caught.value.stdout == b"0123456789abcdef" * 100


def test_closing_and_renumbering_captured_output() -> None:
    with RawGuest({"/d": {}}) as guest:
        for _ in range(5):
            guest.write(1, b"a")
        guest.must("fd_fdstat_set_rights", 1, c.RIGHT_FD_WRITE, 0)
        guest.write(1, b"b")
        guest.must("fd_renumber", 1, 2)
        assert guest.call("fd_write", 1, *guest.iovs((0, 1)), 100) is Errno.BADF
        for _ in range(5):
            guest.write(2, b"c")
        guest.must("fd_fdstat_set_rights", 2, 0, 0)
        assert guest.call("fd_write", 2, *guest.iovs((0, 1)), 100) is Errno.NOTCAPABLE


def test_the_command_line_has_both_switches(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    wasm = tmp_path / "random.wat"
    ask = "(call $must (call $random_get (i32.const 1024) (i32.const 16)))"
    wasm.write_bytes(guests.module(guests.repeated(20, ask + guests.SAY)))
    outputs = []
    for switches in (["--seed", "7"], ["--seed", "7", "--no-vdso"]):
        assert main(["run", *switches, str(wasm)]) == 0
        outputs.append(capfdbinary.readouterr().out)
    assert outputs[0] == outputs[1]
    assert len({outputs[0][at : at + 16] for at in range(0, 320, 16)}) == 20


@pytest.mark.parametrize("chunk", [1, 16, 5000])
def test_a_seed_gives_the_same_bytes_with_and_without(chunk: int) -> None:
    ask = f"(call $must (call $random_get (i32.const 1024) (i32.const {chunk})))"
    wasm = guests.module(guests.repeated(300, ask + guests.SAY))

    def output(seed: int | None, vdso: bool) -> bytes:
        result = vfswasi.run(wasm, capture_output=True, seed=seed, vdso=vdso, check=True)
        if vdso and chunk < 5000 and fastpath.wanted(None):
            assert result.fast_calls["random_get"] > 200
        assert isinstance(result.stdout, bytes)
        return result.stdout

    assert output(1, True) == output(1, False) != output(2, True)
    assert output(None, True) != output(None, True)


def test_a_seed_must_be_an_integer() -> None:
    for wrong in ("1", 1.5, True):
        with pytest.raises(TypeError, match="seed must be an int"):
            vfswasi.run(READS, preopens=FILES, seed=wrong)  # type: ignore[arg-type]
