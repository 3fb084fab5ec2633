"""Handing on Python's lock: a thread that makes calls for a guest lets the others run now and then.

Whoever waits for the lock asks for it after 5 ms in which nobody let go of it. From a thread that lets go of it more
often, and never for as long as it takes to wake another one up, nobody gets it: so it is with host calls back to back,
with system calls in a loop, and with copies in pieces. It takes a sleep to let go of it for long enough, and one of no
length is none (CPython, Python/ceval_gil.c: `take_gil`, `drop_gil`).

Every host call but the briefest looks whether its thread has had its turn (`engine.host`). Within one call
`give_way` stands between the steps of whatever may take longer than a few milliseconds.
"""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import Final

from .base import ReadableBuffer

# Others are to run every 20 ms, and the step that is being taken when a turn ends may need 5 ms.
TURN_S: Final = 0.01
# What is copied, or filled with zeros, between two looks at the clock: 1 or 2 ms, where the memory is new.
STEP_BYTES: Final = 2 << 20
# Where the processors or the lock are in demand, not everybody who waits gets it in one pause.
_CROWDED_TURN_S: Final = 0.004
# The system adds the slack of its timers, 50 us on Linux: enough to wake another thread up.
_PAUSE_S: Final = 1e-6
_LONG_PAUSE_S: Final = 200e-6


class _Thread(threading.local):
    turn_ends = 0.0


_thread = _Thread()


def hand_on() -> float:
    """Let other threads have the lock. When to do it again, as `time.monotonic` tells it."""
    begun = monotonic()
    sleep(_PAUSE_S)
    now = monotonic()
    return now + (TURN_S if now - begun < _LONG_PAUSE_S else _CROWDED_TURN_S)


def give_way() -> None:
    """Hand the lock on if this thread has had its turn."""
    if monotonic() >= _thread.turn_ends:
        _thread.turn_ends = hand_on()


def copy(target: memoryview, source: ReadableBuffer) -> None:
    """Put the bytes of `source` at the beginning of `target`, which has room for them, in steps."""
    size = len(source)
    if size <= STEP_BYTES:
        target[:size] = source
        return
    with memoryview(source) as view:
        for start in range(0, size, STEP_BYTES):
            if start:
                give_way()
            end = min(start + STEP_BYTES, size)
            target[start:end] = view[start:end]
