"""The instructions of WebAssembly as patterns over their bytes: how long each is, and which of them matter here.

All instructions of the features that may be switched on, but for those of garbage collection and of typed references:
at an instruction that no pattern knows, reading ends. Nothing here tells whether a body is valid: wasmtime has said so
before.

Two rules keep a pattern as right as a parser, and quick: at each place one alternative at most fits, which the first
byte or two decide, and every quantifier is possessive, so nothing is ever tried a second time.

Sources: WebAssembly core specification 3.0, 5.3 and 5.4; the threads proposal for what begins with 0xFE.
"""

from __future__ import annotations

import re
from typing import Final

LOOP: Final = 0x03
BRANCH_TABLE: Final = 0x0E
TRY_TABLE: Final = 0x1F
BULK: Final = 0xFC  # and some others that begin so

LONGEST_BYTES: Final = 40
"""No instruction that a pattern passes over is longer."""

# LEB128 of 32 and of 64 bits. Which bits of the last byte may be set is not looked at: it changes no length.
_LEB32: Final = rb"[\x80-\xFF]{0,4}+[\x00-\x7F]"
_LEB64: Final = rb"[\x80-\xFF]{0,9}+[\x00-\x7F]"

_VALUE_TYPES: Final = rb"\x7B-\x7F\x70\x6F\x69"  # v128 f64 f32 i64 i32, funcref, externref, exnref
# Nothing, one value, or the index of a type: a signed number of 33 bits that is not negative.
_BLOCK_TYPE: Final = rb"(?:[\x40" + _VALUE_TYPES + rb"]|[\x80-\xFF]{0,4}+[\x00-\x3F])"
# Alignment, with bit 6 set if the index of a memory follows; offset.
_ADDRESS: Final = rb"(?:[\x00-\x3F]|[\x40-\x7F]" + _LEB32 + rb")" + _LEB64

_CALLS: Final = (
    rb"[\x10\x12]" + _LEB32,  # call, return_call
    rb"[\x11\x13]" + _LEB32 + _LEB32,  # call_indirect, return_call_indirect
)

# In the order of how often compilers use them.
_OTHERS: Final = (
    # throw, br, br_if; locals, globals, table.get and table.set; memory.size and memory.grow, i32.const; ref.func
    rb"[\x08\x0C\x0D\x20-\x26\x3F-\x41\xD2]" + _LEB32,
    # unreachable, nop; else; throw_ref, end; return; drop, select; numbers; ref.is_null
    rb"[\x00\x01\x05\x0A\x0B\x0F\x1A\x1B\x45-\xC4\xD1]",
    rb"[\x28-\x3E]" + _ADDRESS,
    rb"\x42" + _LEB64,  # i64.const
    rb"[\x02\x04]" + _BLOCK_TYPE,
    rb"\x44[\x00-\xFF]{8}",  # f64.const
    rb"\x43[\x00-\xFF]{4}",  # f32.const
    rb"\x1C\x01[" + _VALUE_TYPES + rb"]",  # select with a type
    rb"\xD0[\x70\x6F\x69]",  # ref.null
    rb"\xFC(?:"
    rb"[\x00-\x07]"  # conversions that saturate
    rb"|[\x09\x0D\x10]" + _LEB32 + rb")",  # data.drop, elem.drop, table.size
    rb"\xFD(?:"
    rb"[\x00-\x0B\x5C\x5D]" + _ADDRESS + rb"|[\x0C\x0D][\x00-\xFF]{16}"  # v128.const, i8x16.shuffle
    rb"|[\x15-\x22][\x00-\xFF]"  # one lane
    rb"|[\x54-\x5B]" + _ADDRESS + rb"[\x00-\xFF]"  # one lane, from or to memory
    rb"|[\x0E-\x14\x23-\x53\x5E-\x7F]"
    # From 0x80 on. The gaps had a meaning in drafts alone.
    rb"|[\x80-\x99\x9B-\xA1\xA3\xA4\xA7-\xAE\xB1\xB5-\xBA\xBC-\xC1\xC3\xC4\xC7-\xCE\xD1\xD5-\xE1\xE3-\xED\xEF-\xFF]\x01"
    rb"|[\x80-\x93]\x02)",  # relaxed
    rb"\xFE(?:[\x00-\x02\x10-\x4E]" + _ADDRESS + rb"|\x03\x00)",
)


def _any_number_of(*alternatives: bytes) -> re.Pattern[bytes]:
    """No group is captured inside: CPython has been wrong about captures within possessive repetitions."""
    return re.compile(b"(?:" + b"|".join(alternatives) + b")*+")


up_to_a_call: Final = _any_number_of(*_OTHERS)
"""Stops at calls, at loops, at what works on whole stretches, at branch tables and try tables, which have a count of
what follows, and at what is not known."""

over_calls: Final = _any_number_of(_OTHERS[0], *_CALLS, *_OTHERS[1:])
"""The same, but passes over calls."""

call: Final = re.compile(b"|".join(_CALLS))
over_the_inert: Final = _any_number_of(
    _OTHERS[0].replace(rb"\x20-\x26", rb"\x20-\x25"),
    *_CALLS,
    *(other.replace(rb"[\x09\x0D\x10]", rb"\x10") for other in _OTHERS[1:]),
)
"""The same as `over_calls`, but stops also at `changing`."""

# table.set; data.drop, elem.drop
changing: Final = re.compile(rb"\x26" + _LEB32 + rb"|\xFC[\x09\x0D]" + _LEB32)
"""What changes a table, or drops a segment, beside `bulk`."""

# memory.fill, table.grow, table.fill; memory.init, memory.copy, table.init, table.copy
bulk: Final = re.compile(rb"\xFC(?:[\x0B\x0F\x11]" + _LEB32 + rb"|[\x08\x0A\x0C\x0E]" + _LEB32 + _LEB32 + rb")")
"""What works on a whole stretch of a memory or a table."""

loop: Final = re.compile(rb"\x03" + _BLOCK_TYPE)
try_table: Final = re.compile(rb"\x1F" + _BLOCK_TYPE)
"""Its head; a vector of `catch` follows."""

# catch, catch_ref: a tag and a label; catch_all, catch_all_ref: a label
catch: Final = re.compile(rb"[\x00\x01]" + _LEB32 + _LEB32 + rb"|[\x02\x03]" + _LEB32)
label: Final = re.compile(_LEB32)
local: Final = re.compile(_LEB32 + rb"[" + _VALUE_TYPES + rb"]")
"""So many locals of one type."""
