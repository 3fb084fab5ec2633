"""Modules that cannot be run here: one line says what they are and what to do; `inspect` says the rest."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.cli import inspect as inspection
from vfswasi.engine.compiling import outline, refusals

MEMORY = '(memory (export "memory") 1)'
START = '(func (export "_start"))'
_WASI = '(import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))'


def _importing(*names: str) -> bytes:
    imports = " ".join(f'(import "{module}" "{name}" (func))' for module, _, name in (n.partition(" ") for n in names))
    return f"(module {imports} {MEMORY} {START})".encode()


# What it was built for -> (what it imports, words of the message).
FOREIGN = {
    "wasm-bindgen": (["wbg __wbg_log_1d3ae0273d8f4f8a"], "wasm-bindgen", "wasm32-wasip1"),
    "wasm-bindgen, not linked": (["__wbindgen_placeholder__ __wbindgen_describe"], "wasm-bindgen", "wasm32-wasip1"),
    "wasm-bindgen for bundlers": (["./game_of_life_bg.js __wbg_x"], "wasm-bindgen", "wasm32-wasip1"),
    "Go": (["gojs runtime.wasmExit", "gojs syscall/js.valueGet"], "Go for JavaScript", "GOOS=wasip1"),
    "Go before 1.21": (["go runtime.wasmExit"], "Go for JavaScript", "GOOS=wasip1"),
    "Emscripten": (["env emscripten_resize_heap", "env __syscall_openat"], "Emscripten", "STANDALONE_WASM"),
    "Emscripten, exceptions": (["env invoke_vii", "env __cxa_throw"], "Emscripten", "STANDALONE_WASM"),
    "Emscripten, minified": (["a a", "a b", "a zc"], "Emscripten", "STANDALONE_WASM"),
    "napi": (["env napi_create_object"], "napi", "JavaScript"),
    "napi-rs": (["napi napi_create_function"], "napi", "JavaScript"),
    "emnapi": (["emnapi _emnapi_node_emit_async_init"], "napi", "JavaScript"),
    "AssemblyScript": (["env abort"], "AssemblyScript", "wasi-shim"),
    "Kotlin": (["js_code kotlin.captureStackTrace"], "JavaScript", "WASI preview1"),
    "wasi-threads": (["wasi thread-spawn"], "threads", "without threads"),
    "WASIX": (["wasix_32v1 fd_dup"], "WASIX", "wasm32-wasip1"),
    "a component's core": (["wasi:cli/environment@0.2.3 get-environment"], "inside of a component", "preview1"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("more", [[], ["wasi_snapshot_preview1 fd_dance"]], ids=["alone", "beside WASI"])
def test_a_module_for_something_else_is_told_as_what_it_is(name: str, more: list[str]) -> None:
    imports, what, advice = FOREIGN[name]
    with pytest.raises(vfswasi.MissingImportError) as caught:
        vfswasi.run(_importing(*imports, *more))
    told = str(caught.value)
    assert what in told
    assert advice in told
    assert imports[0].replace(" ", ".", 1) in told, "an import is named"
    assert "pass host functions" not in told
    assert told.isprintable()


def test_it_is_told_before_anything_about_its_memory() -> None:
    """A program for JavaScript names its memory as it likes."""
    wat = f'(module {_WASI} (import "a" "b" (func)) (memory (export "c") 1) {START})'
    with pytest.raises(vfswasi.MissingImportError, match="Emscripten"):
        vfswasi.run(wat.encode())


@pytest.mark.parametrize(
    "names", [["env frobnicate"], ["host log", "host read"], ["go2 x"], ["abc d"], ["env abortion"]]
)
def test_other_imports_are_host_functions(names: list[str]) -> None:
    with pytest.raises(vfswasi.MissingImportError, match="pass host functions with imports="):
        vfswasi.run(_importing(*names))
    module = names[0].partition(" ")[0]
    functions = {name.partition(" ")[2]: (lambda memory: None) for name in names}
    assert vfswasi.run(_importing(*names), imports={module: functions}).returncode == 0


def test_what_is_given_is_not_missing() -> None:
    """Whoever provides the functions of such a module knows what it is."""
    imports = {"env": {"abort": lambda memory: None}}
    assert vfswasi.run(_importing("env abort"), imports=imports).returncode == 0


def test_a_thousand_imports_are_a_short_line() -> None:
    names = [f"env f{number}{'x' * 500}" for number in range(1000)]
    with pytest.raises(vfswasi.MissingImportError) as caught:
        vfswasi.run(_importing(*names))
    told = str(caught.value)
    assert "and 992 more" in told
    assert len(told) < 1200


def test_an_imported_memory_cannot_be_given() -> None:
    wat = f'(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) {START})'
    with pytest.raises(vfswasi.MissingImportError, match=r"env\.memory \(memory\); only functions can be given"):
        vfswasi.run(wat.encode())


LEGACY = f'(module {MEMORY} (tag $t) (func (export "_start") try (throw $t) catch_all end))'.encode()


def test_exceptions_in_their_old_form_are_named_with_what_translates_them() -> None:
    with pytest.raises(vfswasi.InvalidModuleError) as caught:
        vfswasi.run(LEGACY)
    told = str(caught.value)
    for word in ("old form", "wasm-opt", "--translate-to-exnref", "legacy_exceptions feature required for try"):
        assert word in told
    assert told.isprintable()


def test_all_causes_of_an_error_are_told() -> None:
    error = wasmtime.WasmtimeError(
        "failed to compile: wasm[0]::function[3]\n\nCaused by:\n    0: WebAssembly translation error\n"
        "    1: Invalid input: the reason\n"
    )
    told = refusals.causes(error)
    assert told == "failed to compile: wasm[0]::function[3]; WebAssembly translation error; Invalid input: the reason"


def test_an_error_is_told_up_to_a_length() -> None:
    error = wasmtime.WasmtimeError("head\n\nCaused by:\n    " + "\x1b[31m long" * 10**6)
    told = refusals.causes(error)
    assert told.isprintable()
    assert len(told) < 700


def test_a_mistake_in_the_text_format_is_told_with_its_place() -> None:
    with pytest.raises(vfswasi.InvalidModuleError, match=r"not valid WebAssembly text: .*; at 2:10$"):
        vfswasi.run(b"(module\n  (func (frob)))")


@pytest.mark.parametrize(
    ("wat", "version"),
    [
        ('(component (import "wasi:cli/environment@0.2.3" (instance)))', " for WASI 0.2;"),
        ('(component (import "wasi:io/streams@0.3.0" (instance)))', " for WASI 0.3;"),
        ("(component)", "component;"),
    ],
)
@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_component_is_told_as_one(wat: str, version: str, form: str) -> None:
    wasm = wat.encode() if form == "text" else bytes(wasmtime.wat2wasm(wat))
    with pytest.raises(vfswasi.InvalidModuleError, match="this is a WebAssembly component") as caught:
        vfswasi.run(wasm)
    assert version in str(caught.value)
    assert "wasm32-wasip1" in str(caught.value)


# inspect


def _inspected(wasm: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    (tmp_path / "m.wasm").write_bytes(wasm)
    assert cli.main(["inspect", "--json", str(tmp_path / "m.wasm")]) == 0
    description = json.loads(capfd.readouterr().out)
    assert cli.main(["inspect", str(tmp_path / "m.wasm")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return description, out


def test_inspect_tells_of_a_component(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wat = """(component
      (import "wasi:cli/environment@0.2.3" (instance)) (import "wasi:io/error@0.2.3" (instance))
      (import "helper" (func)) (core module)
      (component $inner (import "not-at-the-top" (func)))
      (instance $run) (export "wasi:cli/run@0.2.3" (instance $run)))"""
    description, text = _inspected(wat.encode(), tmp_path, capfd)
    assert description["kind"] == "component"
    assert description["wasi"] == ["0.2"]
    assert list(description["imports"]) == ["wasi:cli/environment@0.2.3", "wasi:io/error@0.2.3", "helper"]
    assert description["exports"] == ["wasi:cli/run@0.2.3"]
    assert "wasm32-wasip1" in description["problems"][0]
    assert "imports wasi:cli/environment@0.2.3 (instance)" in text


USES = {
    "nothing": (f"(module {MEMORY} {START})", []),
    "simd": (f"(module {MEMORY} {START} (func (drop (v128.const i64x2 0 0))))", ["simd"]),
    "tail calls": (f"(module {MEMORY} {START} (func $f (return_call $f)))", ["tail-call"]),
    "atomics": (f"(module {MEMORY} {START} (func (atomic.fence)))", ["threads"]),
    "shared memory": (f'(module (memory (export "memory") 1 2 shared) {START})', ["threads", "shared-memory"]),
    "exceptions": (f"(module {MEMORY} {START} (tag $t) (func (throw $t)))", ["exceptions"]),
    "old exceptions": (LEGACY.decode(), ["legacy-exceptions"]),
    "64-bit memory": (f'(module (memory (export "memory") i64 1) {START})', ["memory64"]),
    "gc": (f"(module {MEMORY} {START} (type $s (struct)) (func (drop (struct.new $s))))", ["gc"]),
    "wide arithmetic": (
        f"(module {MEMORY} {START} (func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 1))))",
        ["wide-arithmetic"],
    ),
    "several memories": (f"(module {MEMORY} (memory 1) {START})", ["multi-memory"]),
}


@pytest.mark.parametrize("name", USES)
def test_inspect_tells_what_a_module_uses(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wat, used = USES[name]
    description, text = _inspected(bytes(wasmtime.wat2wasm(wat)), tmp_path, capfd)
    assert description["features"] == used
    assert all(feature in text for feature in used)


PROBLEMS = {
    "nothing": (f"(module {MEMORY} {START})", None),
    "exceptions": (f"(module {MEMORY} {START} (tag $t) (func (throw $t)))", None),
    "old exceptions": (LEGACY.decode(), "wasm-opt"),
    "gc": (f"(module {MEMORY} {START} (type $s (struct)) (func (drop (struct.new $s))))", "--feature gc"),
    "shared memory": (f'(module (memory (export "memory") 1 2 shared) {START})', "shared between threads"),
    "64-bit memory": (f'(module (memory (export "memory") i64 1) {START})', "32-bit pointers"),
    "threads": (_importing("wasi thread-spawn").decode(), "wasi-threads"),
    "JavaScript": (_importing("wbg x").decode(), "wasm-bindgen"),
    "host functions": (_importing("env f").decode(), "pass host functions"),
    "reactor": (f'(module {MEMORY} (func (export "_initialize")))', "this is a reactor"),
    "no memory": (f"(module {_WASI} (func $f (drop (call 0 (i32.const 1)))) {START})", None),
    "no memory, pointers": (
        f'(module (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32))) {START})',
        "exports no memory",
    ),
    "invalid": (f'(module {MEMORY} (func (export "_start") (i32.const 1)))', "not a valid WebAssembly module"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_inspect_tells_whether_it_runs_here(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wat, problem = PROBLEMS[name]
    wasm = bytes(wasmtime.wat2wasm(wat))
    description, text = _inspected(wasm, tmp_path, capfd)
    if problem is None:
        assert description["problems"] == []
        assert "runs here" in text
        assert vfswasi.run(wasm).returncode == 0
    else:
        assert problem in " ".join(description["problems"])
        assert problem in text
        with pytest.raises(vfswasi.ModuleError):
            vfswasi.run(wasm)


def test_inspect_reads_what_is_there_of_a_file_that_is_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wasm = bytes(wasmtime.wat2wasm(f"(module {_WASI} {MEMORY} {START})"))
    description, text = _inspected(wasm[:-3], tmp_path, capfd)
    assert description["imports"] == {"wasi_snapshot_preview1": ["fd_close"]}
    assert "not a valid WebAssembly module" in description["problems"][0]
    assert "could not be read to its end" in text


def test_no_bytes_make_reading_fail_or_take_long() -> None:
    """Whatever the numbers say: sizes, counts, lengths of names."""
    core = bytes(wasmtime.wat2wasm(f"(module {_WASI} (table 2 funcref) {MEMORY} {START})"))
    component = bytes(
        wasmtime.wat2wasm('(component (import "wasi:a/b@0.2.0" (instance)) (instance $i) (export "c" (instance $i)))')
    )
    chance = random.Random(7)
    for good in (core, component):
        for at in range(8, len(good)):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                outline.read(good[:at] + bytes([value]) + good[at + 1 :])
        for _ in range(2000):
            outline.read(good[:8] + chance.randbytes(chance.randrange(60)))
            outline.read(good[: chance.randrange(len(good))] + chance.randbytes(20))
    many = core[:8] + b"\x02\x85\x80\x80\x00" + b"\xff\xff\xff\xff\x0f"  # an import section of four billion
    assert not outline.read(many).whole
    lists = core[:8] + b"\x05" + b"\x86\x8d\x06" + b"\xff\xff\xff\x7f" + b"\x00\x01" * 50_001
    assert len(outline.read(lists).memories) <= 10_000


def test_what_is_described_is_what_is_there() -> None:
    wat = f"""(module {_WASI} (import "env" "g" (global i32)) (import "env" "t" (table 1 funcref))
      (memory (export "memory") 2 5) {START} (func (export "other")))"""
    description = inspection.describe(wat.encode(), "m", frozenset())
    assert description["imports"] == {"wasi_snapshot_preview1": ["fd_close"], "env": ["g (global)", "t (table)"]}
    assert description["exports"] == ["_start", "memory", "other"]
    assert description["memory"] == "128 KiB at start, 320 KiB at most"
    assert description["wasi"] == ["preview1"]
    assert description["kind"] == "command"
