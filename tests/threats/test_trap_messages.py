"""E5: what a trap says is short and comes at once, whatever the guest's functions are called.

wasmtime demangles names of C++ in its own messages. One that refers back to its parts doubles with each of them: the
name below with 22 such references is 233 bytes long, and took 14 seconds and 2 GB to write.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
import wasmtime

import vfswasi
from vfswasi.limits import Limits

from ..wat_programs import ENDLESS, program

MIB = 1 << 20
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DOUBLING = "_Z1f4pairIiiE" + "".join(f"S_IS{digit}_S{digit}_E" for digit in _DIGITS[:30])
NAMES = {
    "doubling": DOUBLING,
    "doubling, one underscore more": "_" + DOUBLING,
    "long": "n" * MIB,
    "Rust": "_RNvC6_123foo3bar" + "B_" * 200,
    "Rust's older": "_ZN" + "4core" * 1000 + "17h0123456789abcdefE",
}
# What happens in a function of that name, what else the module has, and what the message says of it.
ENDS = {
    "unreachable": ("unreachable", "", "wasm `unreachable` instruction executed"),
    "division": ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "", "integer divide by zero"),
    "recursion": ("(call $f)", "", "call stack exhausted"),
    "memory": ("(drop (i32.load (i32.const -1)))", "", "out of bounds memory access"),
    "exception": ("(throw $e)", "(tag $e)", ""),
}


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """1 MiB of a name may be there twenty times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 100 * MIB


def wat(name: str, body: str, more: str = "", start: str = '(func (export "_start") (call $f))') -> bytes:
    return f'(module {more} (memory (export "memory") 1) (func $f (@name "{name}") {body}) {start})'.encode()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ENDS)
def test_e5_a_trap_in_a_function_with_a_hostile_name(name: str, end: str) -> None:
    body, more, words = ENDS[end]
    for start in ('(func (export "_start") (call $f))', '(start $f) (func (export "_start"))'):
        result = vfswasi.run(wat(NAMES[name], body, more, start), limits=Limits(memory_bytes=1 << 20))
        assert result.returncode == -6
        assert result.trap is not None
        assert words in result.trap
        assert NAMES[name][:200] in result.trap, "as it is in the module"
        assert len(result.trap) < 20 * 400
        assert result.limit == ("stack" if end == "recursion" else None)


@pytest.mark.parametrize("name", NAMES)
def test_e5_a_module_with_a_hostile_name(name: str) -> None:
    text = wat("f", "unreachable").decode().replace("(module", f'(module (@name "{NAMES[name][:90_000]}")', 1)
    result = vfswasi.run(text.encode())
    assert NAMES[name][:200] in (result.trap or "")
    assert len(result.trap or "") < 1000


@pytest.mark.parametrize("name", NAMES)
def test_e5_other_ends_in_a_function_with_a_hostile_name(name: str) -> None:
    exits = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
    assert vfswasi.run(wat(NAMES[name], "(call $exit (i32.const 7))", exits)).returncode == 7
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(wat(NAMES[name], ENDLESS), timeout=0.05)
    with pytest.raises(vfswasi.GuestFuelError):
        vfswasi.run(wat(NAMES[name], ENDLESS), limits=Limits(fuel=1000))

    def fail(*_: object) -> None:
        raise LookupError("of the host's")

    with pytest.raises(LookupError):
        vfswasi.run(wat(NAMES[name], "(call $i)", '(import "env" "i" (func $i))'), imports={"env": {"i": fail}})


@pytest.mark.parametrize("end", ENDS)
def test_e5_the_class_does_not_write_the_text_of_a_trap(end: str) -> None:
    body, more, _ = ENDS[end]
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, bytes(wasmtime.wat2wasm(wat(DOUBLING, body, more).decode())))
    with vfswasi.WASI(version="preview1") as wasi:
        wasi.get_import_object(store)
        with pytest.raises((wasmtime.Trap, wasmtime.WasmtimeError)):
            wasi.start(wasmtime.Instance(store, module, []))


def test_e5_what_a_function_of_the_callers_raises_is_raised_without_that_text() -> None:
    def fail() -> None:
        raise LookupError("of the host's")

    store = wasmtime.Store()
    text = wat(DOUBLING, "(call $i)", '(import "env" "i" (func $i))').decode()
    module = wasmtime.Module(store.engine, bytes(wasmtime.wat2wasm(text)))
    with vfswasi.WASI(version="preview1") as wasi:
        wasi.get_import_object(store)
        function = wasmtime.Func(store, wasmtime.FuncType([], []), fail)
        with pytest.raises(LookupError):
            wasi.start(wasmtime.Instance(store, module, [function]))


def test_a_trap_is_told_as_wasmtime_tells_it() -> None:
    result = vfswasi.run(
        b"""(module (@name "mod") (memory (export "memory") 1) (func $inner unreachable)
          (func $outer (call $inner)) (func (export "_start") (call $outer)))"""
    )
    assert result.trap is not None
    lines = result.trap.splitlines()
    assert lines[0] == "error while executing at wasm backtrace:"
    assert [line.split(" - ")[1] for line in lines[1:4]] == ["mod!inner", "mod!outer", "mod!<wasm function 2>"]
    assert lines[4:] == ["", "Caused by:", "    wasm trap: wasm `unreachable` instruction executed"]
    assert "Caused by" not in (vfswasi.run(program("", '(data (i32.const -1) "x")')).trap or "")
