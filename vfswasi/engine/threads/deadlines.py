"""The thread that ends guests when their deadlines are due.

It wakes only when some run must end, not at a fixed rate. Which guests are over then is found out elsewhere. Those that
are interrupted by page are ended each for itself (`interruption.page`). Those that are interrupted by epoch share one
with all of their engine: each asks, at the first tick after it starts, whether *its* run is over, and else goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ...kernel.clocks import Deadline

_NEVER = 1 << 100


class Watchdog:
    """Calls `tick` when a watched deadline has passed. One daemon thread, started at the first use."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._watched: dict[Deadline, int] = {}
        self._wakes_ns = _NEVER  # when the thread looks next; there may be nothing to see then
        self._thread: threading.Thread | None = None

    def watch(self, deadline: Deadline) -> None:
        """Tick when it has passed, until `forget`. Raises OSError: there can be no more threads."""
        at_ns = deadline.at_ns
        if at_ns is None:
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="vfswasi-deadlines", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise OSError("no thread could be started that looks at deadlines") from error
                self._thread = thread
            self._watched[deadline] = at_ns
            if at_ns < self._wakes_ns:
                self._wakes_ns = at_ns
                self._condition.notify()

    def forget(self, deadline: Deadline) -> None:
        """The run is over."""
        with self._lock:
            self._watched.pop(deadline, None)

    def _run(self) -> None:
        with self._condition:
            while True:
                now = time.monotonic_ns()
                due = [deadline for deadline, at_ns in self._watched.items() if at_ns <= now]
                for deadline in due:
                    del self._watched[deadline]
                if due:
                    self._tick()
                self._wakes_ns = min(self._watched.values(), default=_NEVER)
                self._condition.wait(None if self._wakes_ns == _NEVER else (self._wakes_ns - now) / 1e9)
