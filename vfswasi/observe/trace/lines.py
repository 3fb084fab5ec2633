"""A `Call` on one line, for people and for machines; the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...printing import printable
from . import names
from .parameters import KINDS

_RIGHTS_FIRST: Final = ("FD_READ", "FD_WRITE", "PATH_OPEN")
_ESCAPES: Final = {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}
_BYTES: Final = tuple(
    _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in range(256)
)
# Of results that are a whole record: what a line has of them.
_TELLING: Final = {"filetype", "size", "flags", "fs_rights_base"}
_RECORDS: Final = frozenset({"fd_filestat_get", "path_filestat_get", "fd_fdstat_get"})


def line(call: Any, duration: bool) -> str:
    """See `Call.line`."""
    kinds = KINDS.get(call.name, {})
    given = []
    for name, value in call.arguments.items():
        told = _value(value, kinds.get(name, ""))
        if name == "data" and isinstance(value, bytes) and _more(call.arguments.get("nbytes"), value):
            told += "..."
        place = call.descriptors.get(name)
        given.append(told if place is None else f"{told}<{printable(place)}>")
    text = f"{printable(call.name)}({', '.join(given)})"
    if call.errno is None:
        if not call.ended:
            return text
        text += " = ?"
    elif call.errno:
        text += f" = {call.errno.name}"
    else:
        text += " = 0"
    if call.results:
        text += f" {{{_results(call)}}}"
    if call.injected:
        text += " (injected)"
    return f"{text} <{call.duration_ns / 1e9:.6f}>" if duration else text


def _results(call: Any) -> str:
    told = []
    for name, value in call.results.items():
        if call.name in _RECORDS and name not in _TELLING:
            continue
        kind = "rights" if "rights" in name else name
        shown = _value(value, kind)
        if name == "data" and isinstance(value, bytes) and _more(call.results.get("nread"), value):
            shown += "..."
        told.append(f"{name}: {shown}")
    return printable(", ".join(told))


def _more(count: object, data: bytes) -> bool:
    return isinstance(count, int) and count > len(data)


def _value(value: Any, kind: str) -> str:
    if isinstance(value, bytes):
        return _quoted_bytes(value)
    if isinstance(value, str):
        return printable(value) if _is_word(kind) else quoted(value)
    if isinstance(value, tuple):
        words = [printable(str(each)) for each in value]
        if kind == "rights":
            return _rights(words)
        if names.is_flags(kind) or kind == "flags":
            return "|".join(words) or "0"
        return f"[{', '.join(words if kind in ('subscriptions', 'events') else map(quoted, map(str, value)))}]"
    if kind == "fd" and isinstance(value, int) and value >> 31 == 1:  # as C has it
        return str(value - (1 << 32))
    if isinstance(value, int) and kind in ("path", "text", "reads", "writes", "subscriptions", "iovs", "data"):
        return hex(value) if value > 1024 or kind in ("path", "text", "subscriptions") else str(value)
    return printable(str(value))


def _is_word(kind: str) -> bool:
    return kind in ("clockid", "advice", "whence", "signal", "filetype")


def _rights(words: list[str]) -> str:
    """Those that tell reading from writing, and how many others."""
    if len(words) <= 3:
        return "|".join(words) or "0"
    first = [word for word in _RIGHTS_FIRST if word in words][:2] or words[:1]
    return "|".join([*first, f"+{len(words) - len(first)}"])


def quoted(text: str) -> str:
    """In double quotes, without what a terminal would act upon."""
    return f'"{printable(text.translate(_ESCAPES))}"'


def _quoted_bytes(data: bytes) -> str:
    """As `quoted`; what is not ASCII as `\\xNN`."""
    return '"' + "".join(_BYTES[byte] for byte in data) + '"'


def as_json(call: Any) -> str:
    """One object on one line, in ASCII: all that a call has. Bytes are text, with what is no UTF-8 as `\\xNN`."""
    import json

    told = {
        "number": call.number,
        "name": call.name,
        "arguments": _plain(call.arguments),
        "path": call.path,
        "target": call.target,
        "mount": call.mount,
        "errno": None if call.errno is None else call.errno.name,
        "results": _plain(call.results),
        "descriptors": dict(call.descriptors),
        "started_ns": call.started_ns,
        "duration_ns": call.duration_ns,
        "injected": call.injected,
        "ended": call.ended,
    }
    return json.dumps(told).replace("\x7f", "\\u007f")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def summary(stats: Mapping[str, tuple[int, int, int, int]]) -> str:
    """A table as strace -c has it, those that took the longest first. stats: name -> the fields of `Counted`."""
    rows = sorted(stats.items(), key=lambda item: (-item[1][3], item[0]))
    sums = [sum(counted[index] for _, counted in rows) for index in range(4)]
    total_ns = sums[3]
    lines = [f"{'% time':>6} {'seconds':>11} {'us/call':>9} {'calls':>9} {'errors':>7} {'bytes':>15} call"]
    for name, counted in rows:
        lines.append(_row(100 * counted[3] / total_ns if total_ns else 0.0, *counted, printable(name)))
    lines.append(_row(100.0 if total_ns else 0.0, sums[0], sums[1], sums[2], sums[3], "total"))
    return "\n".join(lines)


def _row(share: float, calls: int, errors: int, nbytes: int, ns: int, name: str) -> str:
    each = ns / 1e3 / calls if calls else 0.0
    return f"{share:>6.2f} {ns / 1e9:>11.6f} {each:>9.1f} {calls:>9,} {errors or '':>7} {nbytes:>15,} {name}"
