"""E9: the bytes of a component are read in bounded time and memory, whatever they say, and never run what they should
not."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest
import wasmtime

import vfswasi
from vfswasi.cli import inspect as inspection
from vfswasi.engine.compiling.features import NONE
from vfswasi.engine.components import adapted, structure, validating

from ..slow_modules import leb
from .building import EXAMPLES, PARTS, part, small

COMPONENT = b"\0asm\x0d\0\x01\0"
MODULE = b"\0asm\x01\0\0\0"
THOUSANDS = 100_000
HUGE_NUMBER = b"\xff" * 9 + b"\x7f"


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content)) + content


def vector(kind: int, *items: bytes) -> bytes:
    return section(kind, leb(len(items)) + b"".join(items))


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def nested(depth: int, kind: int = structure.COMPONENT) -> bytes:
    """A component in a component in a component; the innermost has nothing in it."""
    headers: list[bytes] = []
    size = len(COMPONENT)
    for _ in range(depth):
        headers.append(COMPONENT + bytes([kind]) + leb(size))
        size += len(headers[-1])
    return b"".join(reversed(headers)) + COMPONENT


EMPTY_MODULE = section(structure.CORE_MODULE, MODULE)
HOSTILE: dict[str, bytes] = {
    "nothing": COMPONENT,
    "10,000 deep": nested(10_000),
    "100,000 deep": nested(100_000),
    "many modules": COMPONENT + EMPTY_MODULE * 50_000,
    "a component for a module": COMPONENT + section(structure.CORE_MODULE, COMPONENT),
    "many components": COMPONENT + section(structure.COMPONENT, COMPONENT) * 50_000,
    **{f"section {kind}, a huge count": COMPONENT + section(kind, HUGE_NUMBER + b"\0" * 100) for kind in range(14)},
    **{f"section {kind}, zeros": COMPONENT + section(kind, leb(THOUSANDS) + b"\0" * 1_000_000) for kind in range(14)},
    "a section longer than the file": COMPONENT + b"\x02" + leb(1 << 31) + b"\0",
    "a number without an end": COMPONENT + b"\x02" + b"\xff" * 1_000_000,
    "many instances": COMPONENT + EMPTY_MODULE + vector(structure.CORE_INSTANCES, *[b"\0\0\0"] * THOUSANDS),
    "an instance with many arguments": COMPONENT
    + EMPTY_MODULE
    + vector(structure.CORE_INSTANCES, b"\0\0" + leb(THOUSANDS) + (name("a") + b"\x12\0") * THOUSANDS),
    "long names": COMPONENT
    + vector(structure.CORE_INSTANCES, b"\1" + leb(1000) + (name("\x1b" * 10_000) + b"\0\0") * 1000),
    "many aliases": COMPONENT + vector(structure.ALIASES, *[b"\0\0\1\0" + name("f")] * THOUSANDS),
    "exports of exports": COMPONENT
    + vector(structure.IMPORTS, b"\0" + name("a") + b"\1\0")
    + vector(structure.EXPORTS, *[b"\0" + name("a") + b"\1" + leb(i) + b"\0" for i in range(50_000)]),
    "an instance that is not there": COMPONENT
    + vector(structure.EXPORTS, b"\0" + name("wasi:cli/run@0.2.0") + b"\5" + leb(1 << 31) + b"\0"),
}


def _refused(component: bytes) -> str:
    with pytest.raises(vfswasi.InvalidModuleError) as caught:
        vfswasi.run(component)
    return str(caught.value)


@pytest.mark.parametrize("which", HOSTILE)
def test_e9_hostile_bytes_are_refused_in_one_short_line_and_little_memory(which: str) -> None:
    component = HOSTILE[which]
    tracemalloc.start()
    try:
        told = _refused(component)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.isprintable()
    assert len(told) < 1500
    assert peak < 32 << 20
    shown = "\n".join(inspection.shown(inspection.describe(component, "c.wasm", NONE), "c.wasm"))
    assert "\x1b" not in shown
    assert "runs here" not in shown


@pytest.mark.parametrize("depth", [50, 10_000])
def test_e9_text_that_is_nested_deeply_is_refused(depth: int) -> None:
    assert "\n" not in _refused(b"(component " * depth + b")" * depth)


def test_e9_what_is_read_of_a_component_grows_with_its_size_alone() -> None:
    """Each definition is looked at once, those of names too: counted, not timed."""
    reads = 0

    class Counting(bytes):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            nonlocal reads
            reads += 1
            return super().__getitem__(key)  # type: ignore[index]

    counted = []
    for many in (1000, 2000, 4000):
        reads = 0
        with pytest.raises(adapted.NotAdapted):
            adapted.find(
                Counting(
                    COMPONENT
                    + EMPTY_MODULE
                    + vector(structure.CORE_INSTANCES, *[b"\0\0\1" + name("a") + b"\x12\0"] * many)
                    + vector(structure.ALIASES, *[b"\0\0\1\0" + name("f")] * many)
                )
            )
        counted.append(reads)
    assert counted[2] < 4.2 * counted[0]
    assert counted[2] > 1000


def test_e9_functions_of_modules_that_are_not_needed_are_few() -> None:
    """They are validated, and wasmtime compiles something for each of them."""
    many = "(func)" * 10_001
    with pytest.raises(vfswasi.InvalidModuleError, match="more than 10,000 functions beside its main module"):
        vfswasi.run(small(part("fixup", ("(elem", f"{many} (elem"))))


def test_e9_functions_that_wasmtime_would_compile_for_long_are_few() -> None:
    """13 KB of them with parameters of 130,000 values took 70 seconds."""
    for levels, many, why in ((16, 2000, "parts that"), (16, 1, "parts that"), (2, 1001, "more than 1000 functions")):
        types = "(type $t0 (tuple u8 u8))" + "".join(f"(type $t{i + 1} (tuple $t{i} $t{i}))" for i in range(levels))
        for where in (types, ""):
            inside = "".join([*([types] if not where else []), f'(export "f" (func (param "x" $t{levels})))'])
            imports = (
                PARTS["imports"]
                + f"""{where}
              (import "wasi:io/a@0.2.0" (instance $large {inside})) (alias export $large "f" (func $f))"""
            )
            at = "(core instance $adapter (instantiate $adapter"
            lowered = "(core func (canon lower (func $f) (memory $memory)))" * many
            component = small({"imports": imports} | part("adapter instance", (at, lowered + at)))
            assert why in _refused(component)
    for type_ in ("record " + '(field "{}" $t)', "tuple $t", "variant " + '(case "{}" $t)'):
        name_, _, one = type_.partition(" ")
        large = f"(type $t ({name_}{''.join(' ' + one.format(f'a{i}').replace('$t', 'u8') for i in range(2000))}))"
        assert "parts that" in _refused(small({"types": large}))


def test_the_functions_of_the_main_module_that_nobody_sees_are_not_compiled_to_validate_the_component() -> None:
    many = '(func (param i32 i64)) (func (export "also") (param f32))' + "(func (param i32))" * 130_000
    found = adapted.find(small(part("main", ("(memory", f"{many} (memory"))))
    assert len(found.main) > 390_000
    assert len(validating.hollow(found)) < 5000
    validating.check(found, NONE)


def test_e9_control_characters_and_long_names_of_imports_are_escaped_and_cut_off() -> None:
    for raw in ("\x1b[31m\n\r\x00red", "\u202egnp.exe", "x" * 10_000, "wasi:cli/\x1b@0.2.0", "a@\x1b" * 100):
        component = COMPONENT + vector(structure.IMPORTS, *[b"\0" + name(f"{raw}{i}") + b"\1\0" for i in range(2000)])
        told = _refused(component)
        assert told.isprintable()
        assert len(told) < 1500


def test_e9_imports_of_the_main_module_are_escaped_too() -> None:
    changed = part("main", ('"wasi_snapshot_preview1" "proc_exit"', '"\\1b[31m" "\\0a\\0d"'))
    told = _refused(small(changed | part("main instance", ('"wasi_snapshot_preview1"', '"\\1b[31m"'))))
    assert "its main module is given something other" in told or "itself" in told
    assert told.isprintable()


REAL = small()


@pytest.mark.parametrize("at", range(8, len(REAL), 7))
def test_e9_a_component_that_is_cut_off_is_refused(at: int) -> None:
    assert _refused(REAL[:at])


def _damaged(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    ready = (EXAMPLES / "wordcount.component.wasm").read_bytes()
    for _ in range(400):
        data = bytearray(chance.choice([REAL, REAL, REAL, ready]))
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(8, len(data))
            change = chance.randrange(4)
            if change == 0:
                data[at] = chance.randrange(256)
            elif change == 1:
                del data[at : at + chance.randrange(1, 20)]
            elif change == 2:
                data[at:at] = data[at : at + chance.randrange(1, 20)]
            else:
                data[at] ^= 1 << chance.randrange(8)
        yield bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_e9_damage_is_refused_or_does_no_harm(seed: int) -> None:
    """Whatever is found in damaged bytes, wasmtime compiles the whole of it too before it runs."""
    config = wasmtime.Config()
    config.wasm_component_model = True
    engine = wasmtime.Engine(config)
    found = refused = 0
    for component in _damaged(seed):
        try:
            each = adapted.find(component)
        except adapted.NotAdapted:
            refused += 1
            continue
        found += 1
        try:
            validating.check(each, NONE)
            wasmtime.Module.validate(engine, each.main)
        except wasmtime.WasmtimeError:
            with pytest.raises(wasmtime.WasmtimeError):
                wasmtime.component.Component(engine, component)
        else:
            wasmtime.component.Component(engine, component)
    assert found > 20
    assert refused > 20
