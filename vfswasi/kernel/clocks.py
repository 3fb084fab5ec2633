"""Time: the four clocks, and the deadline that bounds every wait.

Interruption stops wasm code, not host code, so whatever may wait in the host (sleep, poll, a pipe that
is empty or full) waits here, in a form that ends at the deadline or at an interruption from another thread.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..abi import constants as c
from ..errors import Errno, FsError

if TYPE_CHECKING:
    from ..clock import Clock

# A wait on a host descriptor cannot be woken by a lock, so it looks up this often.
_SLICE_NS = 20_000_000
_WAIT_MAX_S = 3600.0


class GuestEnd(BaseException):
    """The guest ends inside a host call. Not an `Exception`: nothing on the way may swallow it."""


class ProcessExit(GuestEnd):
    """`proc_exit(code)`; `code` is the guest's u32."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ProcessSignal(GuestEnd):
    """`proc_raise(number)` of a signal whose action is to terminate."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class DeadlinePassed(GuestEnd):
    """The run's time is over."""


class Interrupted(GuestEnd):
    """The run was stopped from outside."""


class Deadline:
    """When a run must end, and whether it was asked to end now. `at_ns` is monotonic time or None (never)."""

    __slots__ = ("_interrupted", "_waiting", "at_ns", "on_interrupt", "timeout_s")

    def __init__(self, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self.at_ns = None if timeout_s is None else time.monotonic_ns() + int(timeout_s * 1e9)
        self._interrupted = False
        # Held until `interrupt`; who waits tries to take it. An Event would not do: a signal handler that sets one can
        # meet the lock inside it in the hands of the very thread that it runs on.
        self._waiting = threading.Lock()
        self._waiting.acquire()
        # Called by `interrupt`, on its thread: whoever could keep the guest from looking at the deadline.
        self.on_interrupt: Callable[[], None] | None = None

    def begin(self, timeout_s: float | None) -> None:
        """It counts from now, for a process that makes one call after the other."""
        self.timeout_s = timeout_s
        self.at_ns = None if timeout_s is None else time.monotonic_ns() + int(timeout_s * 1e9)

    def rest(self) -> None:
        """It does not count until `begin`."""
        self.at_ns = None

    def interrupt(self) -> None:
        """Ask the run to end; any thread may call this, and a signal handler."""
        self._interrupted = True
        self._wake()
        if self.on_interrupt is not None:
            self.on_interrupt()

    def _wake(self) -> None:
        try:
            self._waiting.release()
        except RuntimeError:  # somebody else did
            pass

    def over(self) -> GuestEnd | None:
        """Why the run must end now, or None."""
        if self._interrupted:
            return Interrupted()
        if self.at_ns is not None and time.monotonic_ns() >= self.at_ns:
            return DeadlinePassed()
        return None

    def check(self) -> None:
        """Raises Interrupted or DeadlinePassed if the run must end now."""
        end = self.over()
        if end is not None:
            try:
                raise end
            finally:
                del end  # its traceback leads to this frame

    def sleep_until(self, wake_ns: int) -> None:
        """Sleep until the monotonic time `wake_ns`. Raises Interrupted, DeadlinePassed as they come."""
        while True:
            self.check()
            now = time.monotonic_ns()
            if now >= wake_ns:
                return
            end = wake_ns if self.at_ns is None else min(wake_ns, self.at_ns)
            self.pause(max(end - now, 0) / 1e9)

    def pause(self, seconds: float) -> None:
        """Wait so long, or until `interrupt`."""
        if self._waiting.acquire(timeout=min(seconds, _WAIT_MAX_S)):
            self._wake()

    def wait_ready(self, interest: dict[int, int], wake_ns: int | None) -> dict[int, int]:
        """Wait until one of some host descriptors is ready, or the monotonic time `wake_ns` (None: no limit).

        `interest`: descriptor -> POLLIN / POLLOUT mask. Returns descriptor -> events (poll(2)); empty on time-out.
        """
        poll = select.poll()
        for fd, events in interest.items():
            poll.register(fd, events)
        while True:
            self.check()
            now = time.monotonic_ns()
            limits = [now + _SLICE_NS]
            if wake_ns is not None:
                limits.append(wake_ns)
            if self.at_ns is not None:
                limits.append(self.at_ns)
            # Rounded up: a poll that ends a fraction early would spin.
            ready = poll.poll(max(0, -(-(min(limits) - now) // 1_000_000)))
            if ready or (wake_ns is not None and time.monotonic_ns() >= wake_ns):
                return dict(ready)


class Clocks:
    """The guest's clocks, in nanoseconds: those of this machine. The CPU clocks count the running thread from the
    guest's start, so a guest learns nothing about the host's other work."""

    __slots__ = ("_cpu_start", "told_elsewhere_ns")

    clock: Clock | None = None  # that the run was given; None: none
    step_ns: int = 0  # what each look of the guest moves it by

    def __init__(self) -> None:
        self._cpu_start = time.thread_time_ns()
        # The last monotonic time that the guest was told without asking here, for it may be a little ahead.
        self.told_elsewhere_ns: Callable[[], int] | None = None

    def copy(self) -> Clocks:
        """Of another run, which goes on from here."""
        return Clocks()

    def start(self) -> None:
        """Called on the thread that will run the guest."""
        self._cpu_start = time.thread_time_ns()

    def used_ns(self) -> int:
        """What the CPU clocks say on the thread that runs the guest."""
        return max(time.thread_time_ns() - self._cpu_start, 0)

    def go_on(self, used_ns: int) -> None:
        """As `start`, for a guest that has used so much on other threads."""
        self._cpu_start = time.thread_time_ns() - used_ns

    def now_ns(self) -> int:
        """Realtime, for the times of files; it is not the guest who looks."""
        return max(time.time_ns(), 0)

    def for_stores(self) -> Callable[[], int] | None:
        """Where stores that are made for the run take their times from; None: `time.time_ns`."""
        return None

    def now(self, clock: int) -> int:
        """A look of the guest's. Raises INVAL for an unknown clock."""
        if clock == c.CLOCK_MONOTONIC:
            now = time.monotonic_ns()
            return now if self.told_elsewhere_ns is None else max(now, self.told_elsewhere_ns())
        if clock == c.CLOCK_REALTIME:
            return max(time.time_ns(), 0)
        if clock in (c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME):
            return self.used_ns()
        raise FsError(Errno.INVAL)

    def resolution(self, clock: int) -> int:
        """Raises INVAL for an unknown clock."""
        if clock == c.CLOCK_REALTIME:
            info = time.get_clock_info("time")
        elif clock == c.CLOCK_MONOTONIC:
            info = time.get_clock_info("monotonic")
        elif clock in (c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME):
            info = time.get_clock_info("thread_time")
        else:
            raise FsError(Errno.INVAL)
        return max(1, round(info.resolution * 1e9))

    # Waiting. A time to wake at is a monotonic one of this machine; other clocks count it as they like.

    def wake_ns(self, clock: int, timeout_ns: int, absolute: bool) -> int:
        """When a wait is over that begins now. `clock`: realtime or monotonic."""
        now = time.monotonic_ns()
        if not absolute:
            return now + timeout_ns
        return timeout_ns if clock == c.CLOCK_MONOTONIC else now + timeout_ns - time.time_ns()

    def waits_until_ns(self, wake_ns: int | None) -> int | None:
        """How long it takes until somebody wakes at `wake_ns`, as a monotonic time of this machine; None: for ever."""
        return wake_ns

    def waited_ns(self, wake_ns: int | None) -> int:
        """The time after a wait until `wake_ns` (None: something else ended it), as times to wake at are counted."""
        return time.monotonic_ns()

    def come_back(self) -> None:
        """The fast path ends."""
        self.told_elsewhere_ns = None
