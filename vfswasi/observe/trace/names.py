"""Flags and enumerations by their names in the specification, in capitals as in C.

What has no name keeps its number: a bit of flags as hexadecimal digits.
"""

from __future__ import annotations

from typing import Final

from ...abi import constants
from ...fs_backends.base import FileType


def _bits(prefix: str) -> dict[int, str]:
    """Of the constants that begin so and are one bit."""
    return {
        value: name.removeprefix(prefix)
        for name, value in vars(constants).items()
        if name.startswith(prefix) and value and not value & (value - 1) and not name.endswith("_ALL")
    }


_FLAGS: Final[dict[str, dict[int, str]]] = {
    "oflags": _bits("OFLAG_"),
    "fdflags": _bits("FDFLAG_"),
    "fstflags": _bits("FSTFLAG_"),
    "rights": _bits("RIGHT_"),
    "lookupflags": {constants.LOOKUP_SYMLINK_FOLLOW: "SYMLINK_FOLLOW"},
    "riflags": {1: "RECV_PEEK", 2: "RECV_WAITALL"},
    "sdflags": {1: "RD", 2: "WR"},
}
_ENUMERATIONS: Final[dict[str, tuple[str, ...]]] = {
    "clockid": ("REALTIME", "MONOTONIC", "PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID"),
    "advice": ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE"),
    "whence": ("SET", "CUR", "END"),
    "eventtype": ("CLOCK", "FD_READ", "FD_WRITE"),
    "signal": constants.SIGNAL_NAMES,
    "filetype": tuple(each.name for each in FileType),
}


def flags(kind: str, number: int) -> tuple[str, ...]:
    """The names of the bits of `number` that are set, from the lowest on."""
    names = _FLAGS[kind]
    found = []
    while number:
        bit = number & -number
        number ^= bit
        found.append(names.get(bit) or hex(bit))
    return tuple(found)


def one(kind: str, number: int) -> str | int:
    """The name of `number`, or itself."""
    names = _ENUMERATIONS[kind]
    return names[number] if number < len(names) else number


def is_flags(kind: str) -> bool:
    return kind in _FLAGS
