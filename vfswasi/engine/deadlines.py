"""Ending wasm code from outside: the epoch, and the thread that moves it when a deadline is due.

All guests share one engine and so one epoch. Every store asks, at the first tick after it starts, whether *its*
run is over, and goes on otherwise; so the epoch moves only when some run must end, not at a fixed rate.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `tick` when a watched deadline has passed. One daemon thread, started at the first use."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._due: list[int] = []
        self._thread: threading.Thread | None = None

    def watch(self, at_ns: int) -> None:
        """Tick at the monotonic time `at_ns`. There is no need to take it back: a tick too many is harmless."""
        with self._condition:
            heapq.heappush(self._due, at_ns)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vfswasi-deadlines", daemon=True)
                self._thread.start()
            elif self._due[0] == at_ns:
                self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while True:
                now = time.monotonic_ns()
                due = False
                while self._due and self._due[0] <= now:
                    heapq.heappop(self._due)
                    due = True
                if due:
                    self._tick()
                self._condition.wait((self._due[0] - now) / 1e9 if self._due else None)
