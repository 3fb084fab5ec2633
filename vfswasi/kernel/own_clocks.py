"""The clocks of a run that has a clock of its own: fixed, stepped or virtual.

One count of nanoseconds is behind all four, and behind the times of files in stores that were made for the run, so that
a guest can compare them. It never goes back, and stops at the end of what 64 bits with a sign can count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from ..abi import constants as c
from ..clock import LAST_NS, Clock
from ..errors import Errno, FsError
from .clocks import Clocks


class _Moment(int):
    """A number of which there may be several: of small ones Python has one each."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


_SMALL_MAX: Final = 256

MONOTONIC_LEAST: Final = 1
"""What monotonic time is at least: programs, and the runtime of Go, take 0 for "not read yet"."""


class OwnClocks(Clocks):
    """Realtime and monotonic time are the same number; the CPU clocks say how far it has moved since the run began, so
    that nothing real shows. Only looks of the guest step a stepped clock: to date a file, or to wait, is none.
    """

    __slots__ = ("_at", "_lock", "_start_ns", "_virtual", "_words", "clock", "step_ns")

    clock: Clock

    def __init__(self, clock: Clock) -> None:
        """`clock`: one that is not the system's."""
        self.clock = clock
        self._start_ns = clock.start_ns
        self.step_ns = clock.step_ns
        self._virtual = clock.kind == "virtual"
        # Where the count is: memory of the fast path while the guest is told the time there. Other threads date files
        # too, and must not look there when that memory is gone; a signal handler may interrupt who holds the lock.
        self._words: Any = [clock.start_ns]
        self._at = 0
        self._lock = threading.RLock()
        self.told_elsewhere_ns = None

    def copy(self) -> OwnClocks:
        made = OwnClocks(self.clock)
        with self._lock:
            made._words = [int(self._words[self._at])]
        return made

    def start(self) -> None:
        """Nothing begins that was not there before."""

    def used_ns(self) -> int:
        with self._lock:
            return int(self._words[self._at]) - self._start_ns

    def go_on(self, used_ns: int) -> None:
        """It does not depend on threads."""

    def now_ns(self) -> int:
        """Another object each time: that is how files in memory know that they were changed in the same nanosecond."""
        with self._lock:
            now = int(self._words[self._at])
        return now + 1 - 1 if now > _SMALL_MAX else _Moment(now)

    def for_stores(self) -> Callable[[], int]:
        return self.now_ns

    def now(self, clock: int) -> int:
        if clock > c.CLOCK_THREAD_CPUTIME:
            raise FsError(Errno.INVAL)
        with self._lock:
            now = int(self._words[self._at])
            if self.step_ns:
                self._words[self._at] = min(now + self.step_ns, LAST_NS)
        if clock == c.CLOCK_REALTIME:
            return now
        return max(now, MONOTONIC_LEAST) if clock == c.CLOCK_MONOTONIC else now - self._start_ns

    def resolution(self, clock: int) -> int:
        if clock > c.CLOCK_THREAD_CPUTIME:
            raise FsError(Errno.INVAL)
        return 1

    # Waiting.

    def wake_ns(self, clock: int, timeout_ns: int, absolute: bool) -> int:
        with self._lock:
            now = int(self._words[self._at])
        return min(timeout_ns if absolute else now + timeout_ns, LAST_NS)

    def waits_until_ns(self, wake_ns: int | None) -> int | None:
        """Whoever waits for a time waits for nothing."""
        return None if wake_ns is None else 0

    def waited_ns(self, wake_ns: int | None) -> int:
        with self._lock:
            now = int(self._words[self._at])
            if wake_ns is None or wake_ns <= now:
                return now
            if self._virtual:
                self._words[self._at] = wake_ns
        return wake_ns

    # The fast path.

    def move_to(self, words: Any, at: int) -> None:
        """The count is in `words` from now on, at the index `at`, where others move it too."""
        with self._lock:
            words[at] = self._words[self._at]
            self._words, self._at = words, at

    def come_back(self) -> None:
        with self._lock:
            self._words, self._at = [int(self._words[self._at])], 0
