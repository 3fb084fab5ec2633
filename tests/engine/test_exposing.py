"""Modules whose inside is exported: valid, the same from outside, and never believed."""

from __future__ import annotations

import random
from importlib.metadata import distributions
from pathlib import Path

import pytest
import wasmtime

from vfswasi.engine.compiling import modules
from vfswasi.engine.compiling.exposing import expose
from vfswasi.errors import InvalidModuleError

from ..sessions.conftest import GUEST
from ..sessions.test_copies import TABLES


def _programs() -> list[Path]:
    """What other people's packages have of modules; the two largest compilers are left to other tests."""
    found = [
        Path(str(file.locate()))
        for package in distributions()
        for file in package.files or []
        if str(file).endswith(".wasm") and package.name != "playwright"  # its modules are of browsers
    ]
    return sorted(path for path in found if path.exists() and path.stat().st_size < 20_000_000)


@pytest.mark.parametrize("path", _programs(), ids=lambda path: path.name)
def test_a_program_stays_valid_and_has_what_it_had(path: Path) -> None:
    wasm = path.read_bytes()
    exposed, inside = expose(wasm)
    assert inside.cannot is None
    wasmtime.Module.validate(modules.engine(), exposed)
    assert "_start" in inside.functions or "_initialize" in inside.functions
    assert inside.memories
    assert inside.globals
    assert not inside.added & set(inside.functions)


def test_what_is_no_module_or_half_of_one_comes_back_as_it_is() -> None:
    wasm = bytes(wasmtime.wat2wasm(GUEST))
    for cut in range(8, len(wasm), 7):
        exposed, inside = expose(wasm[:cut])
        assert inside.cannot is not None or exposed != wasm[:cut]


@pytest.mark.parametrize("text", [GUEST, TABLES], ids=["guest", "tables"])
def test_whatever_the_bytes_are_nothing_is_raised_and_what_is_valid_stays_valid(text: bytes) -> None:
    wasm = bytes(wasmtime.wat2wasm(text))
    chance = random.Random(5)
    valid = 0
    for _ in range(1500):
        changed = bytearray(wasm)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(8, len(wasm))] = chance.randrange(256)
        exposed, inside = expose(bytes(changed))
        try:
            wasmtime.Module.validate(modules.engine(), bytes(changed))
        except wasmtime.WasmtimeError:
            continue
        valid += 1
        wasmtime.Module.validate(modules.engine(), exposed)
        assert inside.cannot is not None or inside.functions is not None
    assert valid > 50


def test_a_module_that_names_a_function_which_it_does_not_have_is_invalid() -> None:
    # Its segment may be dropped, so two functions are added, and the first of them would be number 1.
    text = """(module (memory 1) (data "x") (func (export "f") (data.drop 0) (call 0)))"""
    wasm = bytearray(wasmtime.wat2wasm(text))
    at = wasm.rindex(b"\x10\x00\x0b")
    modules.load(bytes(wasm), "m", kept=True)
    wasm[at + 1] = 1
    with pytest.raises(InvalidModuleError):
        modules.load(bytes(wasm), "m", kept=True)


def test_a_run_of_a_command_is_compiled_as_if_there_were_no_sessions() -> None:
    text = b'(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)) (func (export "_start")))'
    assert modules.load(text, "m").inside is None
    assert modules.load(text, "m", kept=None).inside is None
    kept = modules.load(text, "m", kept=True)
    assert kept.inside is not None
    assert set(kept.exports) == {"memory", "_start"}
