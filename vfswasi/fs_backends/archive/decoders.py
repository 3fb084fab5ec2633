"""The memory of decompressors: what each needs is taken from the run's budget, and who waits gives way to who works.

Between two reads a handle keeps its decoder here, where it may be thrown away for another that does not fit: the
handle then starts again from a checkpoint, or from the beginning of its member.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import Final, Protocol

from ...errors import Errno, FsError
from ...printing import counted
from .. import waiting
from ..budget import Budget
from ..charge import Charge

DEFLATE_BYTES: Final = 64 << 10  # zlib's state, a window of 32 KiB, input not yet used
INPUT_BYTES: Final = 32 << 10
_BZIP2_LEVEL_BYTES = 400_000  # 4 bytes for each of the 100,000 of a block, for each level
_FORGOTTEN_MAX = 4096


class Charged(Protocol):
    """A decoder with what it was charged."""

    charge: Charge | None


class Slot:
    """Where a handle keeps its decoder while it is idle. Threads may race for it: one gets it."""

    __slots__ = ("__weakref__", "_kept")

    def __init__(self) -> None:
        self._kept: list[Charged] = []

    def take(self) -> Charged | None:
        """The decoder, if there still is one."""
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def put(self, decoder: Charged) -> None:
        """Until somebody needs it, or its memory."""
        self._kept.append(decoder)
        _register(self)

    def close(self) -> None:
        """Throw it away."""
        decoder = self.take()
        if decoder is not None and decoder.charge is not None:
            decoder.charge.close()
        with _lock:
            _slots.pop(id(self), None)


_lock = threading.Lock()
_slots: OrderedDict[int, weakref.ref[Slot]] = OrderedDict()  # by identity, the longest idle first


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_lock)


def _register(slot: Slot) -> None:
    with _lock:
        _slots[id(slot)] = weakref.ref(slot)
        _slots.move_to_end(id(slot))
        if len(_slots) > _FORGOTTEN_MAX:
            for number in [number for number, found in _slots.items() if found() is None]:
                del _slots[number]


def reserve(count: int, what: str) -> Charge:
    """Memory for a decoder of `count` bytes, taken from idle ones if need be. Raises NOMEM."""
    budget = waiting.buffers()
    if count > budget.most:
        raise FsError(
            Errno.NOMEM,
            f"{what} needs {counted(count, 'byte')}, more than {budget.name} ({counted(budget.most, 'byte')})",
        )
    while True:
        try:
            return Charge(budget, count)
        except FsError as error:
            if not (_give_way(budget, False) or _give_way(budget, True)):
                raise FsError(Errno.NOMEM, f"{what} needs {counted(count, 'byte')}; {error.detail}") from error


def _give_way(budget: Budget, all_runs: bool) -> bool:
    """Throw the decoder away that was idle for longest, of this run or of all that share the process's budget."""
    with _lock:
        slots = list(_slots.values())
    for reference in slots:
        slot = reference()
        decoder = None if slot is None else slot.take()
        if slot is None or decoder is None:
            continue
        charge = decoder.charge
        if charge is not None and (charge.budget is budget or (all_runs and charge.budget.within is budget.within)):
            charge.close()
            with _lock:
                _slots.pop(id(slot), None)
            return True
        slot._kept.append(decoder)
    return False


def bzip2_bytes(header: bytes) -> int:
    """What a decoder of bzip2 needs for a stream that begins so."""
    level = header[3] - 0x30 if len(header) > 3 and 0x31 <= header[3] <= 0x39 else 9
    return 100_000 + level * _BZIP2_LEVEL_BYTES + INPUT_BYTES


def xz_bytes(header: bytes) -> int:
    """The dictionary that the first block of an xz stream asks for, in bytes; 0 if it cannot be told.

    xz file format 1.2.0, sections 2.1.1, 3.1 and 5.3.1.
    """
    at = 12
    if len(header) <= at + 2 or not header[at]:
        return 0
    end = min(at + 4 * (header[at] + 1), len(header))
    flags = header[at + 1]
    at += 2
    most = 0
    try:
        for _ in range(bool(flags & 0x40) + bool(flags & 0x80)):
            _, at = _integer(header, at, end)
        for _ in range((flags & 3) + 1):
            identity, at = _integer(header, at, end)
            size, at = _integer(header, at, end)
            if identity == 0x21 and size == 1 and at < end:
                bits = header[at] & 0x3F
                most = max(most, 0xFFFFFFFF if bits >= 40 else (2 | bits & 1) << (bits // 2 + 11))
            at += size
    except IndexError:
        return 0
    return most


def _integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end or shift > 56:
            raise IndexError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def zstd_bytes(header: bytes) -> int:
    """The window that a zstd frame asks for, in bytes (RFC 8878, 3.1.1.1)."""
    if len(header) < 6:
        return 0
    descriptor = header[4]
    if not descriptor & 0x20:
        window = 1 << 10 + (header[5] >> 3)
        return window + window // 8 * (header[5] & 7)
    at = 5 + (0, 1, 2, 4)[descriptor & 3]
    size = (1, 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(header[at : at + size], "little") + 256 * (size == 2)
