"""The worker processes of this process: a bounded number, each for one owner, those without work ended after a while.

A worker that has run a guest of one owner never sees another's: its guests may have broken it, and the next would hand
it what it may read and write.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from typing import Final

from .process import Stop, StoppedError, Worker

_IDLE_S: Final = 30.0
_SLICE_S: Final = 0.02


def _max_workers() -> int:
    """Raises ValueError."""
    text = os.environ.get("VFSWASI_WORKERS")
    if text is None:
        return max(8, 2 * (os.cpu_count() or 1))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise ValueError(f"VFSWASI_WORKERS must be a number of processes from 1 to 10000, not {text!r}")
    return int(text)


class Owner:
    """Whose guests a worker runs."""

    def __init__(self) -> None:
        self.closed = False


class Pool:
    """See above."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._idle: deque[tuple[Owner, Worker, float]] = deque()  # with since when; the oldest first
        self._workers: set[Worker] = set()
        self._starting = 0
        self._reaping = False

    def take(self, owner: Owner, data_bytes: int, stop: Stop) -> Worker:
        """A worker of `owner`'s that may have `data_bytes` of memory, or a new one; waits while there are too many.

        Raises StoppedError, OSError, ValueError.
        """
        most = _max_workers()
        while True:
            evicted = None
            with self._changed:
                found = self._own(owner, data_bytes)
                if found is not None:
                    if found.alive():
                        return found
                    evicted = found
                elif len(self._workers) + self._starting < most:
                    self._starting += 1
                    break
                elif self._idle:
                    _, evicted, _ = self._idle.popleft()
                else:
                    self._changed.wait(_SLICE_S)
            if evicted is not None:
                self.discard(evicted)
            if stop.asked_ns is not None:
                raise StoppedError
        try:
            worker = Worker()
            with self._changed:
                self._workers.add(worker)
            return worker
        finally:
            with self._changed:
                self._starting -= 1

    def _own(self, owner: Owner, data_bytes: int) -> Worker | None:
        """The one that worked last."""
        for entry in reversed(self._idle):
            if entry[0] is owner and entry[1].data_bytes >= data_bytes:
                self._idle.remove(entry)
                return entry[1]
        return None

    def give_back(self, owner: Owner, worker: Worker) -> None:
        """It can be asked again."""
        with self._changed:
            if not owner.closed:
                self._idle.append((owner, worker, time.monotonic()))
                if not self._reaping:
                    self._reaping = True
                    threading.Thread(target=self._reap, name="vfswasi-pool", daemon=True).start()
                self._changed.notify_all()
                return
        self.discard(worker)

    def discard(self, worker: Worker) -> None:
        """End it; there is room for another one."""
        worker.end()
        with self._changed:
            self._workers.discard(worker)
            self._changed.notify_all()

    def forget(self, owner: Owner) -> None:
        """End the workers of an owner that has no more guests; those that work end when they have done it."""
        with self._changed:
            owner.closed = True
            mine = [entry for entry in self._idle if entry[0] is owner]
            for entry in mine:
                self._idle.remove(entry)
        for _, worker, _ in mine:
            self.discard(worker)

    def _reap(self) -> None:
        """End workers that have had nothing to do for long."""
        while True:
            with self._changed:
                if not self._idle:
                    self._reaping = False
                    return
                left_s = self._idle[0][2] + _IDLE_S - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                _, worker, _ = self._idle.popleft()
            self.discard(worker)

    def end(self) -> None:
        """End all of them."""
        with self._changed:
            workers = list(self._workers)
            self._idle.clear()
        for worker in workers:
            self.discard(worker)

    def renew(self) -> None:
        """In a process that was forked: the workers are not its own."""
        workers = list(self._workers)
        self.__init__()  # type: ignore[misc]
        for worker in workers:
            worker.forget()

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are now."""
        with self._changed:
            return sorted(worker.pid for worker in self._workers)


POOL: Final = Pool()
atexit.register(POOL.end)
os.register_at_fork(after_in_child=POOL.renew)
