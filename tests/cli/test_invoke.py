"""`vfswasi run --invoke FUNC MODULE NUMBERS`: one call of a function, printed as wasmtime prints it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vfswasi.cli.arguments.invoke import _number, shown
from vfswasi.engine.compiling.exported import signature_of
from vfswasi.engine.compiling.modules import binary
from vfswasi.engine.compiling.outline import Signature

from .running import refused, vfswasi

MODULE = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $ready (mut i32) (i32.const 0))
  (type $unused (func (param f64 f64 f64)))
  {entry}
  (func (export "ready") (result i32) (global.get $ready))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "half") (param f32) (result f32) (f32.div (local.get 0) (f32.const 2)))
  (func (export "third") (param f64) (result f64) (f64.div (local.get 0) (f64.const 3)))
  (func (export "two") (result i32 f64) (i32.const -1) (f64.const 2.5))
  (func (export "nothing"))
  (func (export "quits") (call $exit (i32.const 7)))
  (func (export "traps") unreachable)
  (func (export "loops") (loop br 0))
  (func (export "vector") (param v128))
  (func (export "reference") (result funcref) (ref.null func)))
"""
REACTOR = MODULE.format(entry='(func (export "_initialize") (global.set $ready (i32.const 1)))')
LIBRARY = MODULE.format(entry="")
COMMAND = MODULE.format(entry='(func (export "_start") (global.set $ready (i32.const 2)))')


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in (("reactor", REACTOR), ("library", LIBRARY), ("command", COMMAND)):
        (tmp_path / f"{name}.wat").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["add", "1", "2"], "3\n"),
        (["add", "0x7fffffff", "1"], "-2147483648\n"),
        (["add", "4294967295", "-1"], "-2\n"),
        (["wide", "-9223372036854775808"], "-9223372036854775808\n"),
        (["wide", "0xffffffffffffffff"], "-1\n"),
        (["half", "0.2"], "0.1\n"),
        (["third", "1"], "0.3333333333333333\n"),
        (["third", "inf"], "inf\n"),
        (["two"], "-1\n2.5\n"),
        (["nothing"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("kind", ["reactor", "library", "command"])
def test_results_are_printed(kind: str, words: list[str], printed: str, place: Path) -> None:
    name, *numbers = words
    assert vfswasi("--invoke", name, f"{kind}.wat", *numbers, cwd=place).stdout == printed


def test_a_reactor_is_initialised_first_and_start_is_not_called(place: Path) -> None:
    assert vfswasi("--invoke", "ready", "reactor.wat", cwd=place).stdout == "1\n"
    assert vfswasi("--invoke", "ready", "library.wat", cwd=place).stdout == "0\n"
    assert vfswasi("--invoke", "ready", "command.wat", cwd=place).stdout == "0\n"


def test_a_module_from_standard_input_can_be_called(place: Path) -> None:
    done = vfswasi("--invoke=add", "-", "1", "2", cwd=place, stdin=REACTOR.encode())
    assert done.stdout == "3\n"


def test_the_exit_status_is_that_of_a_run(place: Path) -> None:
    assert vfswasi("--invoke", "quits", "reactor.wat", cwd=place, status=7).stderr == ""
    assert "GuestTrapError" in vfswasi("--invoke", "traps", "reactor.wat", cwd=place, status=134).stderr


def test_a_call_ends_in_time(place: Path) -> None:
    vfswasi("--timeout", "300ms", "--invoke", "loops", "reactor.wat", cwd=place, status=124)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["ad", "1"], "exports no such function; did you mean add?"),
        (["zzz"], "vfswasi inspect reactor.wat shows what there is"),
        (["memory"], "exports no such function"),
        (["add", "1"], "it takes 2 numbers (i32, i32), and 1 is given"),
        (["nothing", "1"], "it takes 0 numbers, and 1 is given"),
        (["half"], "it takes 1 number (f32), and 0 are given"),
        (["add", "1", "x"], "'x' is not a number of type i32"),
        (["add", "1", "1.5"], "'1.5' is not a number of type i32"),
        (["add", "1", "4294967296"], "is not a number of type i32"),
        (["add", "1", "1_0"], "is not a number of type i32"),
        (["half", "1e39"], "is not a number of type f32"),
        (["vector", "1"], "other values than numbers"),
        (["reference"], "other values than numbers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told(words: list[str], answer: str, place: Path) -> None:
    name, *numbers = words
    assert answer in refused("--invoke", name, "reactor.wat", *numbers, cwd=place)


def test_a_module_that_is_none_is_told(place: Path) -> None:
    (place / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\x07\x05\x01\x01a\x00\x00")
    assert "bad.wasm" in refused("--invoke", "a", "bad.wasm", cwd=place)
    assert "missing.wasm: No such file" in refused("--invoke", "a", "missing.wasm", cwd=place)


@pytest.mark.parametrize("kind", ["reactor", "library"])
def test_run_says_what_to_do_with_what_is_no_program(kind: str, place: Path) -> None:
    line = refused("run", f"{kind}.wat", cwd=place)
    assert "vfswasi run --invoke FUNC" in line
    assert "Sandbox.session()" in line
    assert "vfswasi run --invoke FUNC" in vfswasi("inspect", f"{kind}.wat", cwd=place).stdout


# What is read and printed


def test_the_types_of_functions_are_read_from_the_file() -> None:
    wasm = binary(REACTOR.encode(), "m")
    assert signature_of(wasm, "add") == Signature(("i32", "i32"), ("i32",))
    assert signature_of(wasm, "two") == Signature((), ("i32", "f64"))
    assert signature_of(wasm, "_initialize") == Signature((), ())
    assert signature_of(wasm, "vector") is None
    assert signature_of(wasm, "memory") is None
    assert signature_of(wasm, "none") is None


def test_an_imported_function_may_be_exported() -> None:
    text = b'(module (import "a" "g" (global i32)) (import "a" "f" (func (param i64))) (export "f" (func 0)))'
    assert signature_of(binary(text, "m"), "f") == Signature(("i64",), ())


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (3.0, "f64", "3"),
        (0.1, "f64", "0.1"),
        (1e21, "f64", "1000000000000000000000"),
        (1e-7, "f64", "0.0000001"),
        (-0.0, "f64", "-0"),
        (math.inf, "f64", "inf"),
        (-math.inf, "f32", "-inf"),
        (math.nan, "f32", "NaN"),
        (0.10000000149011612, "f32", "0.1"),
        (3.4028234663852886e38, "f32", "340282350000000000000000000000000000000"),
        (100.0, "f32", "100"),
        (4294967295, "i32", "-1"),
        (-1, "i64", "-1"),
        (1 << 63, "i64", str(-(1 << 63))),
    ],
)
def test_numbers_are_printed_as_wasmtime_does(value: float, kind: str, text: str) -> None:
    assert shown(value, kind) == text


def test_numbers_are_read() -> None:
    assert [_number(text, "i32") for text in ("-0x10", "+5", "0X1f", "2147483648")] == [-16, 5, 31, -(1 << 31)]
    assert math.isnan(_number("nan", "f64"))
    assert _number("-1e300", "f64") == -1e300
    assert _number("0.1", "f32") == 0.10000000149011612
