"""Many small buffers of a guest as few large ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..fs_backends.base import ReadableBuffer
from ..fs_backends.turns import give_way
from .clocks import Deadline

# Writes of several small buffers are joined, so that the store sees one write as the guest meant it.
JOIN_BYTES: Final = 1 << 16
# After so many buffers, and before a large one, the run's time is looked at.
BUFFERS: Final = 256


def in_turns(buffers: Iterable[memoryview], deadline: Deadline, large: int) -> Iterator[memoryview]:
    """Those that are not empty. Now and then, and before one of more than `large` bytes, the run's time is looked at
    and Python's lock given away. Raises DeadlinePassed, Interrupted."""
    for index, buffer in enumerate(buffers):
        if len(buffer) > large or index % BUFFERS == BUFFERS - 1:
            deadline.check()
            give_way()
        if len(buffer):
            yield buffer


def joined(buffers: Sequence[memoryview]) -> Iterable[ReadableBuffer]:
    """The same bytes in fewer pieces: one, if they are small together; empty pieces are left out."""
    if len(buffers) > BUFFERS:
        return _gathered(buffers)
    pieces = [buffer for buffer in buffers if len(buffer)]
    if len(pieces) > 1 and sum(map(len, pieces)) <= JOIN_BYTES:
        return (b"".join(pieces),)
    return pieces


def _gathered(buffers: Iterable[memoryview]) -> Iterator[ReadableBuffer]:
    gathered = bytearray()
    for buffer in buffers:
        if gathered and len(gathered) + len(buffer) > JOIN_BYTES:
            yield gathered
            gathered = bytearray()
        if len(buffer) > JOIN_BYTES:
            yield buffer
        else:
            gathered += buffer
    if gathered:
        yield gathered
