"""`Recorder`: a tracer that makes a `Trace`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any, Final, Protocol, runtime_checkable

from ...abi.layouts import Abi
from ...errors import Errno
from ...kernel.process import Process
from ...syscalls.memory import GuestMemory
from .call import Call
from .decoding import Decoded, decoded
from .injecting import errno_of_answer
from .results import MOVED, results
from .trace import Counted, Trace

CALLS_MAX: Final = 10_000  # that a trace keeps


@runtime_checkable
class Follower(Protocol):
    """A callable that wants to be told of calls when they are over, too."""

    def __call__(self, call: Call, /) -> Any: ...

    def over(self, call: Call, /) -> None:
        """It is complete."""


class Recorder:
    """Keeps the last calls of a run, and tells a callable of each before it is made. See `kernel.tracing.Tracer`."""

    def __init__(self, function: Callable[[Call], Any] | None = None) -> None:
        """`function`: what it answers is injected (see `injecting`)."""
        self.function = function
        self._over = function.over if isinstance(function, Follower) else None
        self._calls: deque[Call] = deque(maxlen=CALLS_MAX)
        self._stats: dict[str, list[int]] = {}
        self._number = 0
        self.began_ns = monotonic_ns()
        self._now: tuple[Call, Abi, tuple[int, ...], Decoded] | None = None
        self._since_ns = 0

    def before(
        self, process: Process, memory: GuestMemory, abi: Abi, name: str, arguments: tuple[int, ...]
    ) -> Errno | None:
        known = decoded(process, memory, abi, name, arguments)
        call = Call(
            name,
            self._number,
            known.arguments,
            known.path,
            known.target,
            known.mount,
            None,
            {},
            monotonic_ns() - self.began_ns,
            0,
            False,
            False,
            known.descriptors,
        )
        self._number += 1
        self._calls.append(call)
        self._now = call, abi, arguments, known
        self._since_ns = monotonic_ns()
        errno = None
        if self.function is not None:
            try:
                errno = errno_of_answer(self.function(call))
            except BaseException as end:
                self.ended(end)
                raise
            call.injected = errno is not None
        self._since_ns = monotonic_ns()
        return errno

    def after(self, process: Process, memory: GuestMemory, errno: Errno) -> None:
        spent_ns = monotonic_ns() - self._since_ns
        assert self._now is not None
        call, abi, arguments, known = self._now
        if errno is Errno.SUCCESS:
            call.results = results(process, memory, abi, call.name, arguments, known.buffers)
        self._finish(call, spent_ns, errno)

    def ended(self, end: BaseException) -> None:
        assert self._now is not None
        call = self._now[0]
        call.ended = True
        self._finish(call, monotonic_ns() - self._since_ns, None)

    def _finish(self, call: Call, spent_ns: int, errno: Errno | None) -> None:
        call.duration_ns = spent_ns
        call.errno = errno
        self._now = None
        counted = self._stats.get(call.name)
        if counted is None:
            counted = self._stats[call.name] = [0, 0, 0, 0]
        counted[0] += 1
        counted[1] += errno is not None and errno is not Errno.SUCCESS
        counted[2] += sum(call.results.get(name, 0) for name in MOVED)
        counted[3] += spent_ns
        if self._over is not None:
            self._over(call)

    def trace(self) -> Trace:
        """So far. Any thread may ask, while the guest runs on another."""
        while True:
            try:
                calls = tuple(self._calls)
                break
            except RuntimeError:  # a call was added meanwhile
                continue
        stats: Mapping[str, Counted] = {name: Counted(*counted) for name, counted in list(self._stats.items())}
        return Trace(calls, stats, max(self._number - len(calls), 0))

    def again(self) -> Recorder:
        """For a copy of the guest: of the same kind, with no calls."""
        return Recorder(self.function)
