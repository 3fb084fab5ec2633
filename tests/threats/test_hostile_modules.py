"""E9: a module of endless lists is told of, or refused, at once and in little memory: what a file says of itself is
read before anybody has agreed to run it."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path

import pytest
import wasmtime

import vfswasi
from vfswasi import cli
from vfswasi.cli import inspect as inspection
from vfswasi.engine.compiling import exposing, modules, outline
from vfswasi.engine.compiling.features import checked

from ..slow_modules import leb, section
from ..wat_programs import OPEN, program

CORE, COMPONENT = b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"
THOUSANDS, LONG = 10_000, 1000


LONG_NAME = leb(LONG) + b"\x1b" * LONG
HUGE: dict[str, bytes] = {
    "sections of imports": CORE + section(2, *[b"\0\0\0\0"] * THOUSANDS) * 50,
    "sections of exports": CORE + section(7, *[b"\0\0\0"] * THOUSANDS) * 50,
    "sections of memories": CORE + section(5, *[b"\0\0"] * THOUSANDS) * 50,
    "a component's imports": COMPONENT + section(10, *[b"\0\0\x01\0"] * THOUSANDS) * 50,
    "a component's exports": COMPONENT + section(11, *[b"\0\0\x01\0\0"] * THOUSANDS) * 50,
    "names of escapes": CORE + section(2, *[LONG_NAME + LONG_NAME + b"\0\0"] * THOUSANDS),
    "names of escapes in a component": COMPONENT + section(11, *[b"\0" + LONG_NAME + b"\x01\0\0"] * THOUSANDS),
}


@pytest.mark.parametrize("name", HUGE)
def test_e9_what_is_told_of_endless_lists_is_bounded(name: str) -> None:
    tracemalloc.start()
    try:
        found = outline.read(HUGE[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.whole
    assert 0 < len(found.imports) + len(found.exports) + len(found.memories) <= 2 * THOUSANDS
    assert peak < 16 << 20
    told = inspection.describe(HUGE[name], "huge.wasm", checked(()))
    text = "\n".join(inspection.shown(told, "huge.wasm"))
    assert len(text) < 32 << 20
    assert "could not be read to its end" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("beginning", [CORE, COMPONENT], ids=["core", "component"])
def test_e9_a_module_of_endless_sections_is_refused(
    beginning: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wasm = beginning + b"\0\x01\0" * (outline.SECTIONS_MAX + 1)
    with pytest.raises(vfswasi.InvalidModuleError, match="more than 100,000 sections"):
        vfswasi.run(wasm)
    path = tmp_path / "many.wasm"
    path.write_bytes(wasm)
    for command in ("inspect", "run"):
        assert cli.main([command, str(path)]) == 125
        said = capfd.readouterr()
        assert said.out == ""
        assert said.err == "vfswasi: many.wasm: it has more than 100,000 sections, which no compiler makes\n"


def test_e9_as_many_sections_as_are_allowed_are_read() -> None:
    plain = bytes(wasmtime.wat2wasm(program("")))
    wasm = plain + b"\0\x01\0" * (outline.SECTIONS_MAX - 20)
    assert not outline.has_too_many_sections(wasm)
    assert vfswasi.run(wasm).returncode == 0
    assert outline.read(wasm).exports == outline.read(plain).exports


NOTHING = b"\x60\0\0"  # the type of a function that takes and gives nothing
EMPTY_BODY = section(3, b"\0"), section(10, b"\x02\0\x0b")


def numbered(number: int) -> bytes:
    return leb(len(str(number))) + str(number).encode()


def of_imports(count: int, calls: int = 0) -> bytes:
    """A program with so many imports, that calls the first of them so often."""
    exit_ = b"\x16wasi_snapshot_preview1\x0bsched_yield\0\0"
    start = section(7, b"\x06_start\0" + leb(count), b"\x06memory\x02\0")
    types = section(1, b"\x60\0\1\x7f", NOTHING)
    return (
        CORE
        + types
        + section(2, *[exit_] * count)
        + section(3, b"\1")
        + section(5, b"\0\1")
        + start
        + section(10, leb(3 * calls + 2) + b"\0" + b"\x10\0\x1a" * calls + b"\x0b")
    )


def of_exports(count: int) -> bytes:
    names = [b"\x06_start", *map(numbered, range(count - 1))]
    return CORE + section(1, NOTHING) + EMPTY_BODY[0] + section(7, *[n + b"\0\0" for n in names]) + EMPTY_BODY[1]


def of_types(count: int) -> bytes:
    types = section(1, *[NOTHING] * count)
    return CORE + types + EMPTY_BODY[0] + section(7, b"\x06_start\0\0") + EMPTY_BODY[1]


MANY = {
    "imports": (outline.IMPORTS_MAX, of_imports),
    "exports": (outline.EXPORTS_MAX, of_exports),
    "types": (outline.TYPES_MAX, of_types),
}


@pytest.mark.parametrize("what", MANY)
def test_e9_a_module_of_endless_lists_is_refused_before_it_is_compiled(
    what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most, module = MANY[what]
    wasm = module(most + 1)
    monkeypatch.setattr(modules, "_module", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(vfswasi.InvalidModuleError, match=f"more than {most:,} {what}"):
        vfswasi.run(wasm)
    path = tmp_path / "many.wasm"
    path.write_bytes(wasm)
    assert cli.main(["run", str(path)]) == 125
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        f"vfswasi: many.wasm: it has more than {most:,} {what}, which is more than a program needs"
    )
    assert said.err.count("\n") == 1
    assert cli.main(["inspect", str(path)]) == 0
    assert f"not as it is: it has more than {most:,} {what}" in capfd.readouterr().out


@pytest.mark.parametrize("what", MANY)
def test_e9_as_many_as_are_allowed_run(what: str) -> None:
    most, module = MANY[what]
    assert vfswasi.run(module(most)).returncode == 0


def test_e9_lists_that_are_cut_into_sections_are_counted_together() -> None:
    half = section(2, *[b"\1a\1b\0\0"] * (outline.IMPORTS_MAX // 2 + 1))
    assert outline.too_many(CORE + half) is None
    assert outline.too_many(CORE + half + half) == "more than 10,000 imports"


def compact_imports(count: int, marker: int) -> bytes:
    """A program with so many imports, all of them in one element of their list."""
    one_type = b"\0\0" if marker == 0x7E else b""
    each = b"\x0bsched_yield" + (b"" if one_type else b"\0\0")
    group = b"\x16wasi_snapshot_preview1\0" + bytes([marker]) + one_type + leb(count) + each * count
    return (
        CORE
        + section(1, b"\x60\0\1\x7f", NOTHING)
        + section(2, group)
        + section(3, b"\1")
        + section(5, b"\0\1")
        + section(7, b"\x06_start\0" + leb(count), b"\x06memory\x02\0")
        + section(10, b"\x02\0\x0b")
    )


@pytest.mark.parametrize("count", [0, 1, 200_000])
@pytest.mark.parametrize("marker", [0x7E, 0x7F])
def test_e9_imports_in_their_compact_form_are_refused_before_they_are_compiled(
    marker: int, count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wasm = compact_imports(count, marker)
    wasmtime.Module.validate(modules.engine(), wasm)  # if not, this test is of no use any more
    monkeypatch.setattr(modules, "_module", lambda *_: pytest.fail("it was compiled"))
    whys = "its imports are in the compact form, which is not known here"
    for call in (vfswasi.run, vfswasi.Sandbox, lambda wasm: vfswasi.Sandbox(wasm, preopens={}).session(command=True)):
        with pytest.raises(vfswasi.InvalidModuleError, match=whys):
            call(wasm)
    path = tmp_path / "compact.wasm"
    path.write_bytes(wasm)
    assert cli.main(["compile", str(path)]) == 125
    assert capfd.readouterr().err.startswith(f"vfswasi: compact.wasm: {whys}")
    assert cli.main(["inspect", str(path)]) == 0
    assert f"not as it is: {whys}" in capfd.readouterr().out


def test_e9_imports_that_cannot_be_read_are_an_error_after_compiling_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for marker in (0x7E, 0x7F):
        with pytest.raises(outline.Unreadable):
            outline.imported_functions(compact_imports(3, marker))
    monkeypatch.setattr(outline, "imported_functions", lambda _: [])
    with pytest.raises(vfswasi.InvalidModuleError, match="imports are written in a way that is not known here"):
        vfswasi.run(of_imports(3))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (section(6, *[b"\x7f\1\x41\0\x0b"] * 10_001), "it has more than 10,000 globals that can change"),
        (section(6, *[b"\x7f\0\x41\0\x0b"] * 100_001), "it has more than 100,000 globals"),
    ],
    ids=["that can change", "all"],
)
def test_e9_a_library_of_endless_globals_is_called_and_not_copied(content: bytes, why: str) -> None:
    wasm = CORE + section(1, NOTHING) + section(3, b"\0") + content + section(7, b"\1f\0\0") + section(10, b"\2\0\x0b")
    with vfswasi.Sandbox(wasm).session() as session:
        assert session.call("f") is None
        with pytest.raises(vfswasi.SandboxError, match=why):
            session.snapshot()


def test_e9_looking_into_a_library_ends_at_compile_seconds() -> None:
    body = b"\0" + b"\x41\1\x1a" * 330 + b"\x0b"
    count = 20_000
    code = section(10, *[leb(len(body)) + body] * count)
    elements = section(4, b"\x70\0\1") + section(9, b"\1\0" + leb(2_000_000) + bytes(2_000_000))
    for wasm in (
        CORE + section(1, NOTHING) + section(3, *[b"\0"] * count) + code,
        CORE + section(1, NOTHING) + section(3, b"\0") + elements + section(10, b"\x08\0\x41\0\xd2\0\x26\0\x0b"),
    ):
        looked: list[float] = []

        def check_time(looked: list[float] = looked) -> None:
            looked.append(time.monotonic())
            if len(looked) == 1500:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            exposing.expose(wasm, check_time)
        with pytest.raises(vfswasi.CompileTimeoutError, match=r"compile_seconds \(0.001 s\)"):
            modules.load(wasm, "m", kept=True, limits=vfswasi.Limits(compile_seconds=0.001))


def test_e9_types_of_imports_are_read_whatever_stands_between_them() -> None:
    vector, references = b"\x7b", b"\x70\x6f"
    long = b"\x60" + leb(1000) + b"\x7f" * 1000 + b"\0"
    types = section(
        1,
        b"\x60\2\x7f\x7e\1\x7d",
        b"\x60\1" + vector + b"\0",
        b"\x60\2" + references + b"\0",
        b"\x60\2\x64\0\x63\x70\0",
        long,
        b"\x60\0\1\x7c",
    )
    wasm = CORE + types + section(2, *[b"\1a\1b\0" + leb(index) for index in range(6)])
    found = outline.imported_functions(wasm)
    assert found[0] == (("i32", "i64"), ("f32",))
    assert found[1:4] == [None, None, None]
    assert found[4] == (("i32",) * 1000, ())
    assert found[5] == ((), ("f64",))


def test_e9_what_needs_javascript_is_found_among_many_imports() -> None:
    imports = '(import "env" "emscripten_resize_heap" (func (param i32) (result i32)))'
    imports += '(import "a" "b" (func))' * 5000
    with pytest.raises(vfswasi.MissingImportError, match="Emscripten"):
        vfswasi.run(program("", imports))


SEEDS = [
    bytes(wasmtime.wat2wasm(program(OPEN))),
    bytes(
        wasmtime.wat2wasm(b'(module (import "a" "b" (func)) (memory (export "memory") 1 2) (data (i32.const 0) "abc"))')
    ),
    bytes(wasmtime.wat2wasm(b'(component (import "wasi:cli/environment@0.2.0" (instance)) (core module))')),
]
NUMBERS = [leb(number) for number in (0, 1, 127, 128, 1 << 20, (1 << 32) - 1, 1 << 35, (1 << 63) - 1)]


def changed(chance: random.Random, wasm: bytes) -> bytes:
    data = bytearray(wasm)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(4, len(data)) if len(data) > 4 else 4
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at:at] = chance.choice(NUMBERS)
            case 2:
                del data[at : at + chance.randint(1, 20)]
            case 3:
                start = chance.randrange(len(data))
                data[at:at] = data[start : start + chance.randint(1, 200)]
            case 4:
                data[at:at] = bytes([chance.randrange(15)]) + chance.choice(NUMBERS)
            case 5:
                data[4:8] = chance.choice([CORE[4:], COMPONENT[4:], b"\x0a\0\x01\0", b"\x02\0\0\0"])
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_e9_whatever_a_file_says_it_is_told_of_in_plain_words(
    seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.wasm"
    chance = random.Random(seed)
    for _ in range(60):
        path.write_bytes(changed(chance, chance.choice(SEEDS)))
        status = cli.main(["inspect", str(path)])
        said = capfd.readouterr()
        assert (status, bool(said.out), said.err.count("\n")) in ((0, True, 0), (125, False, 1))
