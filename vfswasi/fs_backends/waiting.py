"""What a run may ask of storage that is far away: waiting for it within the run's time, requests and bytes.

The thread that runs a guest says with `bounded_by` when its run must end; whatever waits on that thread through
`result` gives up then. Work that was given up is cancelled where it can be; a thread that hangs in a foreign library
is left behind, as a daemon, so that it keeps neither the run nor the end of the interpreter.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import Errno, FsError
from .budget import BUFFER_BYTES, INDEX_BYTES, Budget, buffer_budget, index_budget
from .turns import give_way

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

# How long an interruption from another thread may go unnoticed.
_SLICE_S = 0.02


class Bound(Protocol):
    """What says that the time is over: the kernel's `Deadline`."""

    def over(self) -> BaseException | None: ...


class Allowance:
    """What a run, or the mounting of a sandbox, may ask of stores, and has asked so far.

    entries: names that any listing may have. indexes: for what is known of archives, kept while they are mounted.
    buffers: for decoders, read-ahead and answers of servers, kept while something is open.
    """

    __slots__ = ("_lock", "buffers", "bytes", "entries", "indexes", "max_bytes", "max_requests", "requests")

    def __init__(
        self,
        max_requests: int,
        max_bytes: int,
        entries: int,
        *,
        index_bytes: int = INDEX_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.entries = entries
        self.indexes = index_budget(index_bytes)
        self.buffers = buffer_budget(buffer_bytes)
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = self.bytes = 0
        self._lock = threading.Lock()

    def spend(self, requests: int, count: int) -> None:
        """From any thread. Raises DQUOT."""
        with self._lock:
            if self.requests + requests > self.max_requests:
                raise FsError(Errno.DQUOT, "Limits.remote_requests")
            if self.bytes + count > self.max_bytes:
                raise FsError(Errno.DQUOT, "Limits.remote_bytes")
            self.requests += requests
            self.bytes += count


class _Thread(threading.local):
    bound: Bound | None = None
    allowance: Allowance | None = None


_thread = _Thread()


class bounded_by:
    """Everything that this thread waits for ends when `bound` is over, and what it asks for is within `allowance`."""

    __slots__ = ("_before", "_now")

    def __init__(self, bound: Bound | None, allowance: Allowance | None = None) -> None:
        self._now = bound, allowance

    def __enter__(self) -> None:
        self._before = _thread.bound, _thread.allowance
        _thread.bound, _thread.allowance = self._now

    def __exit__(self, *_: object) -> None:
        _thread.bound, _thread.allowance = self._before


def unbounded() -> bounded_by:
    """Within a run whose time is over: what still has to be done for it."""
    return bounded_by(None)


def spend(requests: int = 0, count: int = 0) -> None:
    """Before requests are made, or bytes asked for or sent, on behalf of the run of this thread. Raises DQUOT."""
    allowance = _thread.allowance
    if allowance is not None:
        allowance.spend(requests, count)


def charger() -> Callable[[int, int], None]:
    """`spend` for whoever works for the run of this thread on another thread: called with requests and bytes."""
    allowance = _thread.allowance
    return _free if allowance is None else allowance.spend


def _free(requests: int, count: int) -> None:
    pass


def indexes() -> Budget:
    """The budget of what is being mounted on this thread, for what is known of archives."""
    allowance = _thread.allowance
    return index_budget(INDEX_BYTES) if allowance is None else allowance.indexes


def buffers() -> Budget:
    """The budget of the run of this thread, for decoders, read-ahead and answers of servers. Whoever takes from it
    keeps it, to give back to the same."""
    allowance = _thread.allowance
    return buffer_budget(BUFFER_BYTES) if allowance is None else allowance.buffers


def most_entries() -> int | None:
    """Names that a listing for the run of this thread may have; None: any number."""
    allowance = _thread.allowance
    return None if allowance is None else allowance.entries


def check_entries(count: int) -> None:
    """Of a listing that has so many names by now. Raises NOMEM."""
    most = most_entries()
    if most is not None and count > most:
        raise FsError(Errno.NOMEM, "Limits.directory_entries")


def check_time(what: str) -> None:
    """Between the steps of something that takes long: other threads get Python's lock when it is time to. Raises
    CANCELED when the run's time is over."""
    give_way()
    bound = _thread.bound
    if bound is not None and bound.over() is not None:
        raise FsError(Errno.CANCELED, f"{what}: the run's time is over")


def result(future: Future[T], timeout_s: float | None, what: str) -> T:
    """The future's result; raises what it raises.

    Raises FsError: IO after `timeout_s` seconds (`what` says in the log what was waited for), CANCELED when the
    run's time is over. The work is cancelled in both cases.
    """
    import concurrent.futures  # who has a future has imported it

    bound = _thread.bound
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while True:
            left = _SLICE_S if give_up is None else min(_SLICE_S, max(give_up - time.monotonic(), 0))
            try:
                return future.result(left)
            except concurrent.futures.CancelledError:
                raise FsError(Errno.CANCELED, what) from None
            except concurrent.futures.TimeoutError:
                if future.done() and not future.cancelled():
                    return future.result()  # it came at this very moment, or the error is the work's own
            if give_up is not None and time.monotonic() >= give_up:
                raise FsError(Errno.IO, f"{what}: no answer within {timeout_s:g} s")
            if bound is not None and bound.over() is not None:
                raise FsError(Errno.CANCELED, f"{what}: the run's time is over")
    except BaseException:
        future.cancel()
        raise


class Threads:
    """Runs calls of a library that blocks on a few daemon threads, made as they are needed."""

    def __init__(self, most: int, name: str) -> None:
        """`most`: threads at once."""
        self._most = most
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` on one of the threads."""
        from concurrent.futures import Future  # not before there is such a library: it takes as long as an empty run

        future: Future[T] = Future()
        with self._lock:
            self._jobs.put((future, call))
            if self._idle:
                self._idle -= 1
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    value = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(value)
                    del value
            del job, future, call
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """Let the threads end when they are done with what they do."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)
            self._threads = 0
