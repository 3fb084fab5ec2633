"""Every instruction of WebAssembly that a guest may use, in the text format, each so that it is valid where any
operands may be on the stack: in a function like that of CONTEXT.

GROUPS: what they have in common -> the instructions. Source: WebAssembly core specification 3.0, 7.10 (index of
instructions), and the threads proposal.
"""

from __future__ import annotations

from collections.abc import Iterable

# Three memories of the guest's own, so that an index of one is written out; 200 types, so that some indices take two
# bytes. `{body}` stands where any operands may be on the stack.
TYPES = "(type (func (param f32)))" * 200
CONTEXT = (
    """(module
  (type $nothing (func)) (type $swap (func (param i32 i64) (result i64 i32)))
  (type $same (func (param i32) (result i32)))
  """
    + TYPES
    + """
  (memory 1) (memory 1 2) (memory 0)
  (table 10 funcref) (table 10 externref) (table 5 funcref)
  (tag (type $nothing)) (tag (param i32))
  (global (mut i32) (i32.const 3)) (global i64 (i64.const -1)) (global (mut externref) (ref.null extern))
  (elem (table 0) (i32.const 0) func $nothing) (elem funcref (ref.func $nothing)) (elem declare func $nothing)
  (data (i32.const 0) "abc") (data "\\03\\40\\0b")
  (func $nothing)
  (func (param i32 i64) (result i32)
    (local f32 f64 v128 funcref externref exnref) (local i32 i32 i32) (local """
    + "i64 " * 150
    + """)
    {entry} unreachable {body} unreachable {after}))"""
)

_INTS = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_FLOATS = "eq ne lt gt le ge"
_INT_MATH = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
_FLOAT_MATH = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign"
_TRUNCATIONS = "f32_s f32_u f64_s f64_u"


def _each(prefixes: str, names: str) -> list[str]:
    return [prefix + name for prefix in prefixes.split() for name in names.split()]


def _with(instructions: Iterable[str], *operands: str) -> list[str]:
    return [f"{instruction} {operand}" for instruction in instructions for operand in operands]


_NUMBERS = [
    *_each("i32. i64.", f"eqz {_INTS} {_INT_MATH}"),
    *_each("f32. f64.", f"{_FLOATS} {_FLOAT_MATH}"),
    *_each("i32.trunc_ i64.trunc_ i32.trunc_sat_ i64.trunc_sat_", _TRUNCATIONS),
    *_each("f32.convert_ f64.convert_", "i32_s i32_u i64_s i64_u"),
    *"i32.wrap_i64 i64.extend_i32_s i64.extend_i32_u f32.demote_f64 f64.promote_f32".split(),
    *"i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64".split(),
    *_each("i32.extend i64.extend", "8_s 16_s"),
    "i64.extend32_s",
]
_ADDRESSES = ("", "align=1", "offset=64", "offset=200", "offset=0xffffffff", "1 offset=16400 align=1", "2")
_MEMORY = [
    *_each("i32. i64. f32. f64.", "load store"),
    *_each("i32. i64.", "load8_s load8_u load16_s load16_u store8 store16"),
    *"i64.load32_s i64.load32_u i64.store32".split(),
]
_VECTOR_MEMORY = _each(
    "v128.",
    "load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u store "
    "load8_splat load16_splat load32_splat load64_splat load32_zero load64_zero",
)
_LANES = [
    *_each("i8x16. i16x8.", "extract_lane_s extract_lane_u replace_lane"),
    *_each("i32x4. i64x2. f32x4. f64x2.", "extract_lane replace_lane"),
]
_SIGNED = "add_sat_s add_sat_u sub_sat_s sub_sat_u avgr_u"
_ORDERED = "min_s min_u max_s max_u"
_LANE_MATH = "abs neg all_true bitmask shl shr_s shr_u add sub"
_VECTOR_FLOATS = f"{_FLOATS} abs neg ceil floor trunc nearest sqrt add sub mul div min max pmin pmax"


def _halves(wide: str, narrow: str, names: str) -> list[str]:
    return [f"{wide}.{name}_{half}_{narrow}_{s}" for name in names.split() for half in ("low", "high") for s in "su"]


_VECTORS = [
    "i8x16.swizzle",
    *_each("i8x16. i16x8. i32x4. i64x2. f32x4. f64x2.", "splat"),
    *_each("i8x16. i16x8. i32x4.", f"{_INTS} {_ORDERED}"),
    *_each("i64x2.", "eq ne lt_s gt_s le_s ge_s mul"),
    *_each("i8x16. i16x8. i32x4. i64x2.", _LANE_MATH),
    *_each("i8x16. i16x8.", _SIGNED),
    *_each("f32x4. f64x2.", _VECTOR_FLOATS),
    *_each("v128.", "not and andnot or xor bitselect any_true"),
    *_each("i8x16.", "popcnt narrow_i16x8_s narrow_i16x8_u"),
    *_each("i16x8.", "narrow_i32x4_s narrow_i32x4_u mul q15mulr_sat_s"),
    *_each("i16x8.extadd_pairwise_", "i8x16_s i8x16_u"),
    *_each("i32x4.extadd_pairwise_", "i16x8_s i16x8_u"),
    *_each("i32x4.", "mul dot_i16x8_s"),
    *_halves("i16x8", "i8x16", "extend extmul"),
    *_halves("i32x4", "i16x8", "extend extmul"),
    *_halves("i64x2", "i32x4", "extend extmul"),
    *_each("i32x4.trunc_sat_", "f32x4_s f32x4_u f64x2_s_zero f64x2_u_zero"),
    *_each("f32x4.convert_", "i32x4_s i32x4_u"),
    *_each("f64x2.convert_low_", "i32x4_s i32x4_u"),
    "f32x4.demote_f64x2_zero",
    "f64x2.promote_low_f32x4",
]
_RELAXED = [
    *_each("i32x4.relaxed_trunc_", "f32x4_s f32x4_u f64x2_s_zero f64x2_u_zero"),
    *_each("f32x4.relaxed_ f64x2.relaxed_", "madd nmadd min max"),
    *_each("i8x16. i16x8. i32x4. i64x2.", "relaxed_laneselect"),
    *"i8x16.relaxed_swizzle i16x8.relaxed_q15mulr_s".split(),
    *"i16x8.relaxed_dot_i8x16_i7x16_s i32x4.relaxed_dot_i8x16_i7x16_add_s".split(),
]
_CHANGES = "add sub and or xor xchg cmpxchg"
_ATOMIC = [
    *_each("memory.atomic.", "notify wait32 wait64"),
    *_each("i32.atomic. i64.atomic.", "load load8_u load16_u store store8 store16"),
    *_each("i64.atomic.", "load32_u store32"),
    *_each("i32.atomic.rmw. i64.atomic.rmw.", _CHANGES),
    *[
        f"{width}.{change}_u"
        for width in (*_each("i32.atomic.rmw i64.atomic.rmw", "8 16"), "i64.atomic.rmw32")
        for change in _CHANGES.split()
    ],
]
_INTEGERS = ("0", "3", "-1", "63", "64", "-64", "-65", "0x7fffffff", "-0x80000000")
# Bytes that would be a loop, the end of a body, or a call, if they were read as instructions.
_FALSE_LOOP = "0x40034003 0x40034003 0x0b0b0b0b 0x10031003"
_VALUE_TYPES = "i32 i64 f32 f64 v128 funcref externref exnref".split()
_MANY_BLOCKS = 140

GROUPS: dict[str, list[str]] = {
    "numbers": _NUMBERS,
    "constants": [
        *_with(["i32.const"], *_INTEGERS),
        *_with(["i64.const"], *_INTEGERS, "0x7fffffffffffffff", "-0x8000000000000000", "0x4003400340034003"),
        *_with(["f32.const"], "0", "nan:0x034003", "-inf", "0x1.068006p+1"),
        *_with(["f64.const"], "0", "nan:0x3400340034003", "-inf", "0x1.0034003400340p+1"),
    ],
    "variables": [
        *_with(["local.get", "local.set", "local.tee"], "0", "1", "2", "9", "127", "128", "150"),
        *_with(["global.get"], "0", "1", "2"),
        *_with(["global.set"], "0", "2"),
    ],
    "memory": [
        *_with(_MEMORY, *_ADDRESSES),
        *_with(["memory.size", "memory.grow"], "", "1", "2"),
        *_with(["data.drop"], "0", "1"),
    ],
    "tables": [
        *_with(["table.get", "table.set", "table.size"], "0", "1", "2"),
        *_with(["elem.drop"], "0", "1"),
    ],
    "references": ["ref.null func", "ref.null extern", "ref.null exn", "ref.is_null", "ref.func $nothing"],
    "control": [
        *"unreachable nop return drop select".split(),
        *(f"select (result {kind})" for kind in _VALUE_TYPES),
        *(f"block (result {kind}) unreachable end" for kind in _VALUE_TYPES),
        *(f"if (result {kind}) unreachable else unreachable end" for kind in _VALUE_TYPES),
        *(f"block (type {index}) unreachable end" for index in (0, 5, 63, 64, 130, 190)),
        *(f"if (type {index}) unreachable else unreachable end" for index in (0, 5, 63, 64, 130, 190)),
        *"br 0 | br_if 0 | br_table 0 | br_table 0 0".split(" | "),
        "block (type $swap) unreachable end",
        "block block block unreachable br_table 0 1 2 end br 1 end unreachable br_if 0 end",
        f"block unreachable br_table {'0 ' * 300} end",
        f"{'block ' * _MANY_BLOCKS} unreachable br_table 3 {_MANY_BLOCKS - 1} 0 130 {'end ' * _MANY_BLOCKS}",
        f"{'block ' * _MANY_BLOCKS} br {_MANY_BLOCKS - 1} {'end ' * _MANY_BLOCKS}",
    ],
    "exceptions": [
        *"throw 0 | throw 1 | throw_ref".split(" | "),
        "try_table nop end",
        *(f"block {catch} nop end end" for catch in ("try_table (catch 0 0)", "try_table (catch_all 0)")),
        "block (result i32) try_table (result i32) (catch 1 0) (catch 1 0) (catch 1 0) unreachable end end",
        "block (result i32 exnref) try_table (catch_ref 1 0) unreachable end unreachable end",
        "block (result exnref) try_table (catch_all_ref 0) (catch_ref 0 0) unreachable end unreachable end",
        f"{'block ' * _MANY_BLOCKS} unreachable try_table (type 150) (catch_all {_MANY_BLOCKS - 1}) unreachable end "
        + "end " * _MANY_BLOCKS,
    ],
    "vectors": [
        *_VECTORS,
        *_with(["v128.const"], f"i32x4 {_FALSE_LOOP}", "i64x2 0 -1"),
        "i8x16.shuffle 3 16 3 16 11 11 11 11 31 0 1 2 3 4 5 6",
        *_with(_LANES, "0", "1"),
    ],
    "vectors in memory": [
        *_with(_VECTOR_MEMORY, *_ADDRESSES),
        *_with(_each("v128.load v128.store", "8_lane 16_lane 32_lane 64_lane"), "0", "offset=300 1", "1 align=1 1"),
    ],
    "relaxed vectors": _RELAXED,
    "atomics": [*_with(_ATOMIC, "", "offset=4096", "1", "2 offset=0xffffffff"), "atomic.fence"],
}

CALLS = [
    "call $nothing",
    "call 1",
    "call_indirect 0 (type $nothing)",
    "call_indirect 2 (type 150)",
    "return_call 1",
    "return_call_indirect 0 (type 2)",
    "return_call_indirect 2 (type 2)",
]


# What works on a whole stretch of a memory or a table.
BULK = [
    *_with(["memory.fill"], "", "1", "2"),
    *_with(["memory.copy"], "", "0 2", "2 1"),
    *_with(["memory.init"], "0", "1 0", "2 1"),
    *_with(["table.grow", "table.fill"], "0", "1", "2"),
    *_with(["table.copy"], "0 0", "0 2", "2 0"),
    *_with(["table.init"], "0 0", "2 1"),
]


def function(body: str, entry: str = "", after: str = "") -> str:
    """A module with a function that does this. `entry`: at its beginning; `after`: behind it."""
    return CONTEXT.replace("{body}", body).replace("{entry}", entry).replace("{after}", after)
