"""Threads that run guests, and what happens when one does not come back in time.

Python delivers signals to the main thread only between bytecodes: a guest that computed there would make Ctrl-C wait
for it, and one that makes host calls could be interrupted inside a callback, where no exception may arise. So the main
thread never runs a guest. Neither does any other thread of the caller's: a guest may get stuck in code that knows
nothing of deadlines, such as a store, a stream or a function that the user passed, or a `memory.fill` of a gigabyte;
and its stack may be too small for what the guest may use (see `stacks`).

Nothing can end a thread that hangs in foreign code. It is left behind, as a daemon: the caller has its answer in time,
and whatever the guest held is released when the thread comes back, which ends it.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from ...kernel.clocks import Deadline
from . import stacks

T = TypeVar("T")

# A signal that the system gives to another thread, or just before a wait begins, does not end the wait; nor does an
# interruption by another thread.
_SLICE_S: Final = 0.04
# How long after its time a guest may take to end by itself.
GRACE_S: Final = 0.05


class LeftBehindError(Exception):
    """The guest is still inside a host call after its time. `end`: why it had to end."""

    def __init__(self, end: BaseException) -> None:
        super().__init__(end)
        self.end = end


class _Job(Generic[T]):
    """One call. `outcome`: its result or what it raised."""

    def __init__(self, function: Callable[[], T], orphaned: Callable[[], None]) -> None:
        self._context = contextvars.copy_context()
        self._function: Callable[[], T] | None = function
        self._orphaned = orphaned
        self._lock = threading.Lock()
        self._left = False
        self._done = False
        self._waiting = threading.Lock()  # held until it is done: an Event costs several times as much
        self._waiting.acquire()
        self.outcome: list[T | BaseException] = []

    def take_back(self) -> bool:
        """Whether it has not begun; it never will, then."""
        with self._lock:
            function, self._function = self._function, None
        return function is not None

    def run(self) -> None:
        with self._lock:
            function, self._function = self._function, None
        if function is None:
            return
        try:
            outcome: T | BaseException = self._context.run(function)
        except BaseException as error:
            outcome = error
        del function
        with self._lock:
            left = self._left
            if not left:
                self.outcome.append(outcome)
            del outcome
            self._done = True
            self._waiting.release()
        if left:
            self._orphaned()

    def leave(self) -> bool:
        """Do not wait for it any more; False: it is done."""
        with self._lock:
            if self._done:
                return False
            self._left = True
            return True

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether it is done."""
        return self._done or self._waiting.acquire(timeout=max(seconds, 0))


class _Worker:
    """A thread that stays, because starting one costs more than a short run."""

    def __init__(self, stack_bytes: int) -> None:
        """`stack_bytes`: what its guests may use of its stack. Raises OSError."""
        self.stack_bytes = stack_bytes
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        stacks.start_thread(self._serve, "vfswasi-guest", stack_bytes)

    def _serve(self) -> None:
        deep = stacks.Deep()
        while (job := self._jobs.get()) is not None:
            job.run()
            del job
            deep.give_back()

    def submit(self, job: _Job[Any] | None) -> None:
        """Run it; None: the thread ends when it has nothing more to do."""
        self._jobs.put(job)


_IDLE_MAX: Final = 8
_idle: dict[int, list[_Worker]] = {}  # by the size of their stack


def _forget() -> None:
    _idle.clear()  # threads do not survive a fork


os.register_at_fork(after_in_child=_forget)


def call(
    function: Callable[[], T],
    deadline: Deadline,
    tick: Callable[[], None],
    orphaned: Callable[[], None],
    stack_bytes: int,
    unbegun: Callable[[], None] = lambda: None,
) -> T:
    """Call `function` on another thread, in a copy of the caller's context; signal handlers of the caller may raise.

    deadline: what the function keeps to as far as it can. tick: makes a guest that computes look at it. orphaned:
    called on the thread when a function that was left behind is over; what it returns or raises then is lost.
    stack_bytes: what a guest may use of that thread's stack, as `stacks.rounded` gives it. unbegun: called here if
    something is raised before the function was called; it will not be.

    Raises LeftBehindError, OSError (no room for a thread), and what `function` or a signal handler raises.
    """
    job = _Job(function, orphaned)
    del function
    idle = _idle.setdefault(stack_bytes, [])
    worker: _Worker | None = None
    end: BaseException | None = None
    try:
        try:
            worker = idle.pop()
        except IndexError:
            worker = _Worker(stack_bytes)
        worker.submit(job)
        end = _wait(job, deadline)
    except BaseException:
        if job.take_back():
            if worker is not None:
                worker.submit(None)
            unbegun()
            raise
        assert worker is not None
        deadline.interrupt()
        tick()
        # What is raised does not wait for a guest that hangs. A second signal does not wait for one at all.
        try:
            job.wait(GRACE_S)
        finally:
            if job.leave():
                worker.submit(None)
        raise
    if end is not None:
        worker.submit(None)
        raise LeftBehindError(end)
    if len(idle) < _IDLE_MAX:
        idle.append(worker)
    else:
        worker.submit(None)
    # Taken out and let go: the frames in the traceback of an exception lead back to this list and this frame.
    outcome = job.outcome.pop()
    if isinstance(outcome, BaseException):
        try:
            raise outcome
        finally:
            del outcome
    return outcome


def _wait(job: _Job[Any], deadline: Deadline) -> BaseException | None:
    """Wait for it; why it was left behind, or None."""
    over_ns: int | None = None  # when it was seen to be over
    while True:
        left_s = _SLICE_S
        now = time.monotonic_ns()
        if over_ns is None:
            if deadline.at_ns is not None:
                left_s = min(left_s, max(deadline.at_ns - now, 0) / 1e9)
        else:
            left_s = over_ns / 1e9 + GRACE_S - now / 1e9
        if job.wait(left_s):
            return None
        end = deadline.over()
        if end is None:
            continue
        now = time.monotonic_ns()
        if over_ns is None:
            over_ns = now
        elif now - over_ns >= GRACE_S * 1e9 and job.leave():
            return end
