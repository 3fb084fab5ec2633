"""Numbers between Python and an exported function: checked on the way in, signed on the way out."""

from __future__ import annotations

import operator
import struct
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex

from ...errors import MissingExportError
from ...printing import counted
from ..capi import VAL_RAW_BYTES
from ..compiling.outline import Signature

_LAYOUTS: Final = {
    kind: struct.Struct(code) for kind, code in zip(("i32", "i64", "f32", "f64"), ("<i", "<q", "<f", "<d"), strict=True)
}
_BITS: Final = {"i32": 32, "i64": 64}


def signature_of(functions: dict[str, Signature | None], name: str, module: str) -> Signature:
    """Raises MissingExportError, with the names that there are; TypeError for a name that is no str."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a function must be str, not {type(name).__name__}")
    if name not in functions:
        known = ", ".join(sorted(functions)[:20]) or "none"
        more = f" and {len(functions) - 20} more" if len(functions) > 20 else ""
        raise MissingExportError(f"{module}: it exports no function {name!r}; its functions: {known}{more}")
    signature = functions[name]
    if signature is None:
        raise MissingExportError(f"{module}: {name} takes or gives values other than i32, i64, f32 and f64")
    return signature


def packed(signature: Signature, arguments: Sequence[Any], name: str) -> bytearray:
    """The arguments as wasmtime wants them, with room for the results.

    Raises TypeError (another number of them, not numbers), OverflowError (a number that does not fit).
    """
    params = signature.params
    if len(arguments) != len(params):
        raise TypeError(f"{name} takes {_counted(params)}, not {len(arguments)}")
    raw = bytearray(VAL_RAW_BYTES * max(len(params), len(signature.results), 1))
    for index, (kind, value) in enumerate(zip(params, arguments, strict=True)):
        try:
            number = _integer(value, _BITS[kind]) if kind in _BITS else _real(value)
            _LAYOUTS[kind].pack_into(raw, index * VAL_RAW_BYTES, number)
        except TypeError:
            raise TypeError(f"argument {index + 1} of {name} must be {_told(kind)}, not {value!r}") from None
        except OverflowError:
            raise OverflowError(f"argument {index + 1} of {name} does not fit {kind}: {value!r}") from None
    return raw


def unpacked(signature: Signature, raw: bytearray) -> Any:
    """None, one number, or a tuple of them; integers are signed."""
    values = [_LAYOUTS[kind].unpack_from(raw, index * VAL_RAW_BYTES)[0] for index, kind in enumerate(signature.results)]
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def _counted(params: Sequence[str]) -> str:
    if not params:
        return "no arguments"
    return f"{counted(len(params), 'argument')} ({', '.join(params)})"


def _told(kind: str) -> str:
    return f"an integer, for {kind}" if kind in _BITS else f"a number, for {kind}"


def _integer(value: SupportsIndex, bits: int) -> int:
    """Signed or unsigned, as the signed number of the same bits."""
    number = operator.index(value)
    if not -(1 << (bits - 1)) <= number < 1 << bits:
        raise OverflowError
    return number - (1 << bits) if number >= 1 << (bits - 1) else number


def _real(value: Any) -> float:
    if isinstance(value, str | bytes | bytearray):
        raise TypeError
    return float(value)
