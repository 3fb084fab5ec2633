"""The guests that run now, and how each of them ended.

A raw callback knows its guest by number only, so nothing is kept alive by one.
"""

from __future__ import annotations

import itertools
import os
import threading
from time import monotonic
from typing import Final

from wasmtime import _ffi as ffi
from wasmtime import _func as wasmtime_func

from ..errors import GuestExitError, GuestTrapError, HostCallError
from ..fs_backends.turns import TURN_S, hand_on
from ..kernel.clocks import GuestEnd, ProcessExit, ProcessSignal
from ..kernel.process import Process
from ..logs import logger
from . import capi
from .fast_path.publishing import FastPath
from .interruption.page import Page
from .memory import WasmMemory, memory_size
from .reentrance import Turn

_log = logger("vfswasi")

_ENDED: Final = b"the guest ended in a host call"

_numbers = itertools.count(1)
live: dict[int, Guest] = {}
"""Their numbers."""
_lock = threading.RLock()  # a signal handler may end guests


def _renew() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew)


def find(number: int) -> Guest | None:
    """The running guest of that number, if it still runs."""
    return live.get(number)


def end_what_is_over() -> None:
    """The next host call of a guest whose time is over ends it: wasm code looks at that in loops and at the start of
    functions, and there may be a million host calls between two of those. Any thread may call this."""
    with _lock:
        for found in live.values():
            found.turn_ends = 0.0


class Guest:
    """One instance from the engine's side. `outcome`: what ended it inside a host call, or None. `fast`: its fast path,
    or None."""

    __slots__ = (
        "calling",
        "fast",
        "instance",
        "memory",
        "number",
        "outcome",
        "page",
        "process",
        "ready",
        "turn",
        "turn_ends",
        "user_memory_moves",
    )

    def __init__(self, process: Process, *, user_memory_moves: bool = False) -> None:
        """`user_memory_moves`: the store is the user's, so its memory may move."""
        self.process = process
        self.memory: WasmMemory | None = None  # None: `_memory_of` must be asked at each call
        self.turn = Turn()
        self.instance: ffi.wasmtime_instance_t | None = None  # where the memory is, if nobody has asked for it yet
        self.outcome: BaseException | None = None
        self.fast: FastPath | None = None
        self.page: Page | None = None  # what ends it while it computes, unless epochs do
        self.user_memory_moves = user_memory_moves
        self.turn_ends = monotonic() + TURN_S  # a call that begins later begins with `look`; 0: every one does
        self.ready = not user_memory_moves  # a WASI object's calls are refused before start()
        self.calling = not user_memory_moves  # whether we made the call that runs the guest, or the user did
        self.number = next(_numbers)
        with _lock:
            live[self.number] = self

    def look(self) -> None:
        """The guest has had its turn: other threads of the host run, and if its time is over it ends. Raises
        DeadlinePassed, Interrupted."""
        deadline = self.process.deadline
        deadline.check()
        turn_ends = hand_on()
        at_ns = deadline.at_ns
        self.turn_ends = turn_ends if at_ns is None else min(turn_ends, at_ns / 1e9)
        deadline.check()  # once more: `end_what_is_over` may have set what was just set

    def memory_bytes(self, context: int) -> int:
        """How large its memory is; 0 if it was not even instantiated."""
        if self.memory is not None:
            self.memory.refresh()
            return self.memory.size
        return 0 if self.instance is None else memory_size(context, self.instance)

    def forget(self) -> None:
        """No host call of this guest will come any more."""
        with _lock:
            live.pop(self.number, None)
        if self.fast is not None:
            self.fast.finish()
            self.fast = None
        self.outcome = None  # its traceback refers to the frame of the host call, and that to this guest
        for memory in (self.memory, self.turn.memory):
            if memory is not None:
                memory.drop()

    def abandon(self) -> None:
        """`close`, when the store is going and its memories must not be touched."""
        if self.fast is not None:
            self.fast.abandon()
            self.fast = None
        self.close(keep=False)

    def close(self, keep: bool = True) -> None:
        """`forget`, and close every descriptor of the process."""
        self.forget()
        for error in self.process.close(keep):
            _log.warning("closing a file after the run failed: %s", error)

    def latch(self, end: BaseException) -> int:
        """Keep the first reason for ending; a new trap that unwinds the guest."""
        if not self.calling:
            # The user called an export through wasmtime's package, whose only way for an exception is its global.
            wasmtime_func.LAST_EXCEPTION = _for_the_user(end)  # type: ignore[assignment]
        elif self.outcome is None:
            self.outcome = end
        return int(capi.trap_new(_ENDED, len(_ENDED)))


def _for_the_user(end: BaseException) -> BaseException:
    if isinstance(end, ProcessExit):
        return GuestExitError(f"the guest ended with exit status {end.code}", returncode=end.code)
    if isinstance(end, ProcessSignal):
        return GuestTrapError(f"the guest was ended by signal {end.number}", returncode=-end.number)
    if isinstance(end, GuestEnd):
        return HostCallError("the guest was interrupted")
    return end


def why_over(env: int) -> BaseException | None:
    ending = find(env)
    return None if ending is None else ending.process.deadline.over()


def latch(env: int, end: BaseException) -> int:
    ending = find(env)
    if ending is None:  # a function that outlived its guest: trap, and there is nobody to tell why
        return int(capi.trap_new(_ENDED, len(_ENDED)))
    return ending.latch(end)
