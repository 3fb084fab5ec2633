"""Whether compiling a module is so cheap, whatever is in it, that it may happen in the process of the caller.

The size says little: a function of 16 KiB whose loops hand on thirty values takes wasmtime half a minute and 9 GiB.
What makes compilers slow is looked at, each with a bound that programs of a hundred functions stay within: what one
piece of code can be multiplied with (other code of the same function, its locals, values that a block hands on), and
lists of things that get code of their own. `benchmarks/compiling.py` measures the worst that is known within them.
"""

from __future__ import annotations

from typing import Final

from .. import outline
from ..outline import Reader

BYTES_MAX: Final = 64 << 10
TYPES_MAX: Final = 256
PARAMS_MAX: Final = 32
IMPORTS_MAX: Final = 256
FUNCTIONS_MAX: Final = 1000
EXPORTS_MAX: Final = 256
# Of all functions together, in units of bytes of code.
CODE_BY_CODE_MAX: Final = 200_000_000
CODE_BY_LOCALS_MAX: Final = 1_200_000
# A function has values beside its locals.
_OTHER_VALUES: Final = 8

SECONDS: Final = 1.0
"""What compiling a small module takes at most, on an ordinary machine."""
MEMORY_BYTES: Final = 256 << 20
"""What it takes of memory."""

_TYPES: Final = 1
_CODE: Final = 10
_COUNTED: Final = {2: IMPORTS_MAX, 3: FUNCTIONS_MAX, 7: EXPORTS_MAX}

_FUNCTION_TYPE: Final = 0x60
_ONE_BYTE_TYPES: Final = b"\x7f\x7e\x7d\x7c\x7b\x70\x6f"  # numbers, vectors, functions, foreign references


def is_small(wasm: bytes) -> bool:
    """Whether compiling it takes less than SECONDS and MEMORY_BYTES. What cannot be read is not small."""
    if len(wasm) > BYTES_MAX:
        return False
    try:
        for section, content in outline.sections(wasm):
            if section == _TYPES:
                if not _are_plain(content):
                    return False
            elif section == _CODE:
                if not _is_short(content):
                    return False
            elif section in _COUNTED and content.number() > _COUNTED[section]:
                return False
    except outline.Unreadable:
        return False
    return True


def _are_plain(content: Reader) -> bool:
    """Few types, of functions that give one value at most: blocks have these types too, and hand their results on."""
    count = content.number()
    if count > TYPES_MAX:
        return False
    for _ in range(count):
        if content.byte() != _FUNCTION_TYPE:
            return False
        for most in (PARAMS_MAX, 1):
            values = content.part(content.number())
            if values.end - values.at > most or values.data[values.at : values.end].strip(_ONE_BYTE_TYPES):
                return False
    return True


def _is_short(content: Reader) -> bool:
    count = content.number()
    if count > FUNCTIONS_MAX:
        return False
    by_code = by_locals = 0
    for _ in range(count):
        body = content.part(content.number())
        size = body.end - body.at
        values = _OTHER_VALUES
        for _ in range(body.number()):
            values += body.number()
            if body.byte() not in _ONE_BYTE_TYPES:
                return False
        by_code += size * size
        by_locals += size * values
        if by_code > CODE_BY_CODE_MAX or by_locals > CODE_BY_LOCALS_MAX:
            return False
    return True
