"""Arguments and environment, which do not change, in vdso memory."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Final

from . import vdso

_SHARE: Final = 8  # of the room for windows, one part in so many


def publish(memory: vdso.Vdso, at: int, strings: Sequence[bytes]) -> None:
    """Have the calls about a list of strings answered there. `at`: address of its words, ARGS_AT or ENVIRON_AT. A list
    that takes too much of the memory stays with Python."""
    offsets = []
    offset = 0
    for string in strings:
        offsets.append(offset)
        offset += len(string) + 1
    table = 4 * len(strings)
    if table + offset > memory.size // _SHARE:
        return
    found = memory.regions.take(max(1, table + offset))
    if found is None:
        return
    address = found[0]
    memory.view[address : address + table] = pack(f"<{len(offsets)}I", *offsets)
    memory.view[address + table : address + table + offset] = b"".join(string + b"\0" for string in strings)
    vdso.STRINGS.pack_into(memory.view, at, address, len(strings), offset)
