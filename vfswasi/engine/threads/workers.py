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

from ...kernel.clocks import Deadline, Interrupted
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


def _nothing() -> None:
    pass


class Call(Generic[T]):
    """One call of a function on another thread, in a copy of the caller's context."""

    def __init__(
        self,
        function: Callable[[], T],
        deadline: Deadline,
        tick: Callable[[], None],
        orphaned: Callable[[], None],
        unbegun: Callable[[], None] = _nothing,
    ) -> None:
        """deadline: what the function keeps to as far as it can. tick: makes a guest that computes look at it.
        orphaned: called on the thread when a function that was left behind is over; what it returns or raises then is
        lost. unbegun: called if it turns out that the function will not be.
        """
        self._context = contextvars.copy_context()
        self._function: Callable[[], T] | None = function
        self._deadline = deadline
        self._tick = tick
        self._orphaned = orphaned
        self._unbegun = unbegun
        self._on_change: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self._left: BaseException | None = None
        self._over_ns: int | None = None  # when it was seen to be over
        self._done = False
        self._waiting = threading.Lock()  # held until it is done: an Event costs several times as much
        self._waiting.acquire()
        self._outcome: list[T | BaseException] = []

    def start(self, stack_bytes: int) -> None:
        """stack_bytes: what a guest may use of the thread's stack, as `stacks.rounded` gives it. Raises OSError: there
        is no room for a thread. Whatever is raised here, `give_up` belongs to it."""
        idle = _idle.setdefault(stack_bytes, [])
        try:
            worker = idle.pop()
        except IndexError:
            worker = _Worker(stack_bytes)
        worker.submit(self)

    def result(self, stack_bytes: int) -> T:
        """`start`, `wait` and `outcome` in one; signal handlers may raise, which ends it."""
        try:
            self.start(stack_bytes)
            self.wait()
        except BaseException:
            self.give_up()
            raise
        return self.outcome()

    def give_up(self) -> None:
        """End it. This does not wait for a guest that hangs; if something is raised meanwhile, for none at all."""
        with self._lock:
            function, self._function = self._function, None
        if function is not None:
            del function
            try:
                self._unbegun()
            finally:
                self._forget()
            return
        self._deadline.interrupt()
        self._tick()
        try:
            self.pause(GRACE_S)
        finally:
            self._leave(Interrupted())

    def run(self, worker: _Worker) -> bool:
        """Make the call; whether the thread of `worker` can take another one. Called on that thread."""
        with self._lock:
            function, self._function = self._function, None
        if function is None:
            return False
        try:
            outcome: T | BaseException = self._context.run(function)
        except BaseException as error:
            outcome = error
        del function
        stays = False
        with self._lock:
            left = self._left is not None
            if not left:
                self._outcome.append(outcome)
                stays = worker.rest()  # before anybody is told, who may make the next call at once
            del outcome
            orphaned, changed = self._orphaned, self._on_change
            self._forget()
            self._done = True
            self._waiting.release()
        if left:
            orphaned()
        else:
            for told in changed:
                told()
        return stays

    def _forget(self) -> None:
        """Nobody is called any more: who holds this may be who is called."""
        self._orphaned = self._unbegun = _nothing
        self._on_change = ()

    def _leave(self, end: BaseException) -> None:
        """Do not wait for it any more, because of `end`, unless it is done."""
        with self._lock:
            if not self._done and self._left is None:
                self._left = end
        self.has_changed()

    def tell(self, changed: Callable[[], None]) -> None:
        """`changed` is to be called, on some thread and perhaps more than once, when `settled` may have become true. It
        may be so already."""
        with self._lock:
            if not self._done:
                self._on_change = (*self._on_change, changed)

    def tell_no_more(self, changed: Callable[[], None]) -> None:
        """Undo `tell`."""
        with self._lock:
            self._on_change = tuple(other for other in self._on_change if other is not changed)

    def has_changed(self) -> None:
        """Tell who waits to look again."""
        for changed in self._on_change:
            changed()

    def pause(self, seconds: float) -> bool:
        """Wait so long at most; whether it is done."""
        if self._done:
            return True
        if not self._waiting.acquire(timeout=max(seconds, 0)):
            return False
        self._waiting.release()  # others may wait too
        return True

    def settled(self) -> bool:
        """Whether it is done, or its time has been over for so long that it was left behind."""
        if self._done or self._left is not None:
            return True
        end = self._deadline.over()
        if end is None:
            return False
        now = time.monotonic_ns()
        if self._over_ns is None:
            self._over_ns = now
        elif now - self._over_ns >= GRACE_S * 1e9:
            self._leave(end)
            return True
        return False

    def settles_in(self) -> float:
        """How many seconds to wait before the next look at `settled`."""
        now = time.monotonic_ns()
        if self._over_ns is not None:
            return max(self._over_ns / 1e9 + GRACE_S - now / 1e9, 0)
        at_ns = self._deadline.at_ns
        return _SLICE_S if at_ns is None else min(_SLICE_S, max(at_ns - now, 0) / 1e9)

    def seconds_to_look(self) -> float | None:
        """When `settled` may become true without the function's end; None: never."""
        if self._over_ns is not None or self._deadline.over() is not None:
            return self.settles_in()
        at_ns = self._deadline.at_ns
        return None if at_ns is None else max(at_ns - time.monotonic_ns(), 0) / 1e9

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is settled, for so long at most; whether it is."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.settled():
            left_s = self.settles_in()
            if until is not None:
                left_s = min(left_s, until - time.monotonic())
                if left_s < 0:
                    return False
            self.pause(left_s)
        return True

    def look(self) -> T | BaseException:
        """What it returned or raised, LeftBehindError; it has settled. It stays, until `drop`."""
        return LeftBehindError(self._left) if self._left is not None else self._outcome[0]

    def drop(self) -> None:
        """Let go of the outcome: the frames in the traceback of an exception lead back here."""
        self._outcome.clear()

    def outcome(self) -> T:
        """What it returned; once only. Raises what it raised, LeftBehindError."""
        if self._left is not None:
            raise LeftBehindError(self._left)
        # Taken out and let go: the frames in the traceback of an exception lead back to this list and this frame.
        outcome = self._outcome.pop()
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome
        return outcome


class _Worker:
    """A thread that stays, because starting one costs more than a short run."""

    def __init__(self, stack_bytes: int) -> None:
        """`stack_bytes`: what its guests may use of its stack. Raises OSError."""
        self.stack_bytes = stack_bytes
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        stacks.start_thread(self._serve, "vfswasi-guest", stack_bytes)

    def _serve(self) -> None:
        deep = stacks.Deep()
        while (call := self._calls.get()) is not None:
            if not call.run(self):
                return
            del call
            deep.give_back()

    def rest(self) -> bool:
        """Whether it will get something more to do."""
        idle = _idle.setdefault(self.stack_bytes, [])
        if len(idle) >= _IDLE_MAX:
            return False
        idle.append(self)
        return True

    def submit(self, call: Call[Any] | None) -> None:
        """Make it; None: the thread ends when it has nothing more to do."""
        self._calls.put(call)


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
) -> T:
    """Make a `Call` and wait for it. Raises LeftBehindError, OSError (no room for a thread), and what `function` or a
    signal handler raises."""
    return Call(function, deadline, tick, orphaned).result(stack_bytes)
