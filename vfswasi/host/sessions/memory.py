"""The memory of a session's guest, as its owner sees it between two calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ...engine.memory import WasmMemory
from ...printing import counted

Lend = Callable[[bool], AbstractContextManager[WasmMemory]]


class SessionMemory:
    """Bytes of the memory that the module exports. Its size changes when the guest makes it grow.

    Every access raises SessionError when the session is over, or a call is going on in it: a host function gets the
    memory as its first argument.
    """

    def __init__(self, lend: Lend) -> None:
        """`lend`: gives the memory as it is now, and is told whether it will be changed."""
        self._lend = lend

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes at `offset`. Raises IndexError (not all of them are in the memory), TypeError."""
        with self._lend(False) as memory:
            _check(offset, size, memory.size)
            return bytes(memory.view[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`. Raises IndexError (and has written nothing then), TypeError."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        given = memoryview(data)
        raw = given.cast("B") if given.c_contiguous else memoryview(given.tobytes())
        with self._lend(True) as memory:
            _check(offset, len(raw), memory.size)
            memory.view[offset : offset + len(raw)] = raw

    def __len__(self) -> int:
        with self._lend(False) as memory:
            return memory.size


def _check(offset: int, size: int, there: int) -> None:
    for name, value in (("offset", offset), ("size", size)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if offset < 0 or size < 0 or offset + size > there:
        raise IndexError(
            f"{counted(size, 'byte')} at {offset:,} are not all in the memory, which has {counted(there, 'byte')}"
        )
