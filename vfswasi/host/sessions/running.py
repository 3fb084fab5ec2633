"""A session from the inside: who may do something with it now, on which thread, and how it ends."""

from __future__ import annotations

import codecs
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...engine.runner import INTERRUPTED, Ending, end_what_is_over
from ...engine.sessions.instance import Instance
from ...engine.sessions.state import State
from ...engine.threads import workers
from ...errors import (
    FsError,
    GuestError,
    GuestExitError,
    GuestFuelError,
    GuestInterruptedError,
    GuestTimeoutError,
    GuestTrapError,
    HostCallError,
    SessionError,
)
from ...fs_backends.waiting import bounded_by
from ...kernel.clocks import Deadline, DeadlinePassed
from ...kernel.streams.ends import CaptureSink
from ...limits import Usage, check_seconds
from ...printing import counted
from ..closing import finish, traffic_since, uncommitted
from ..results.refused import refusals_of
from ..results.result import add_notes, result_of
from ..runs.observed import observed_by
from .origin import Copied, Origin, Parts

if TYPE_CHECKING:
    from ...observe.changes import Changes

T = TypeVar("T")


class Unset:
    """What a timeout is that was not given."""

    def __repr__(self) -> str:
        return "Limits.wall_seconds"


UNSET: Final = Unset()
Timeout = float | None | Unset


class Running:
    """One guest that is called again and again. It does one thing at a time, and the instance is touched only by
    whoever has its turn."""

    def __init__(
        self, origin: Origin, parts: Parts, deadline: Deadline, timeout: float | None, state: State | None = None
    ) -> None:
        """`Sandbox.session` makes one. `state`: of the instance that it is a copy of. Raises as `call` does."""
        self._origin, self._parts, self._deadline = origin, parts, deadline
        self._process = parts.process
        self._observed = observed_by(parts.process.tracer)
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._doing: str | None = None
        self._thread: int | None = None  # that the guest runs on, while it does
        self._killed = False
        self._why: str | None = None  # it is over
        self._copied: Copied | None = None  # as it is now, if it has not changed since
        self._changes: dict[str, Changes] = {}  # when it is over
        self._seconds = 0.0
        self._taken = 0  # captured bytes that were read
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        try:
            self._instance = Instance(origin.program, self._process, origin.fast)
        except BaseException:
            finish(self._process, parts.preopens, False, False)
            origin.over(deadline)
            raise
        try:
            with self._turn("to be opened"):
                self._run(lambda: self._instance.open(timeout, state), timeout, "opening the session")
        except BaseException:
            self._give_up("could not be opened")
            raise

    @property
    def usage(self) -> Usage:
        """What all calls have used so far. wall_seconds: of the calls together."""
        process, instance = self._process, self._instance
        quota, allowance = process.quota, process.allowance
        waiting = sum(len(sink.getvalue()) for sink in self._sinks())
        return Usage(
            self._seconds,
            instance.fuel,
            instance.memory_bytes,
            process.fds.peak,
            quota.peak_inodes,
            quota.peak_bytes,
            self._taken + waiting,
            allowance.requests,
            allowance.bytes,
        )

    def _seconds_of(self, timeout: Timeout) -> float | None:
        if isinstance(timeout, Unset):
            return self._origin.limits.wall_seconds
        return None if timeout is None else check_seconds("timeout", timeout)

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        with self._lock:
            if self._why is not None:
                raise SessionError(f"this session is over: it {self._why}")
            if self._doing is not None:
                raise SessionError(f"this session is busy with {self._doing}; it does one thing at a time")
            self._doing = what
        try:
            yield
        finally:
            with self._lock:
                self._doing = None
                self._idle.notify_all()

    def _on_thread(self, work: Callable[[], T], seconds: float | None) -> T:
        """Call `work` where guests run. Raises LeftBehindError."""
        running = False

        def wrapped() -> T:
            nonlocal running
            running = True
            self._thread = threading.get_ident()
            try:
                return work()
            finally:
                self._thread = None
                running = False

        self._deadline.begin(seconds)
        started = time.monotonic()
        try:
            return workers.call(wrapped, self._deadline, end_what_is_over, _nothing, self._origin.stack_bytes)
        except BaseException:
            if running:  # it goes on without anybody who waits for it
                self._why = "was interrupted"
            raise
        finally:
            self._seconds += time.monotonic() - started

    def _run(self, step: Callable[[], Ending | None], seconds: float | None, name: str) -> None:
        """Let the guest do something; raises how that ended it."""
        errors: list[BaseException] = []  # taken out again: an error in this frame would refer to itself

        def work() -> None:
            try:
                ending = step()
            except BaseException:
                if not self._instance.is_open:
                    self._why = self._why or "could not be opened"
                    self._release(False, False)
                raise
            if ending is None:
                return
            try:
                self._why = "was killed" if self._killed else _told(ending, name)
                errors.append(ending.error or self._error(ending, name, seconds))
                keep = ending.returncode is not None and ending.trap is None
            finally:
                del ending
            self._release(keep, keep and self._succeeded(errors[0]))

        try:
            self._on_thread(work, seconds)
        except workers.LeftBehindError as left:
            over, self._why = left.end, "was killed" if self._killed else f"was interrupted in {name}"
            self._process.let_go_of_streams()
            if isinstance(over, DeadlinePassed):
                self._why = f"used up its time in {name}"
                raise self._error(Ending(None, limit="wall_seconds"), name, seconds) from None
            raise self._error(Ending(None, limit=INTERRUPTED), name, seconds) from None
        if errors:
            raise errors.pop()

    @staticmethod
    def _succeeded(error: BaseException) -> bool:
        return isinstance(error, GuestExitError) and error.returncode == 0

    def _error(self, ending: Ending, name: str, seconds: float | None) -> GuestError:
        sinks, traffic = self._sinks(), traffic_since(self._parts.preopens, self._parts.before)
        result = result_of(
            self._parts.argv,
            ending,
            [self._peek(fd) for fd in (1, 2)],
            any(sink.refused for sink in sinks),
            self._parts.preopens,
            seconds,
            traffic,
            self.usage,
            self._origin.program.compiled.interruption,
            self._changes,
            self._observed,
            refusals_of(self._process, ending.returncode != 0),
        )
        error = self._told_error(ending, name, seconds, result)
        if not isinstance(error, GuestInterruptedError):
            add_notes(error, result.refusals)
        return error

    def _told_error(self, ending: Ending, name: str, seconds: float | None, result: Any) -> GuestError:
        given: dict[str, Any] = {"result": result}
        if ending.limit == INTERRUPTED:
            return GuestInterruptedError(f"{name}: the session was interrupted", **given)
        if ending.returncode is None:
            if ending.limit == "fuel":
                return GuestFuelError(f"{name} had used up its fuel of {self._origin.limits.fuel:,}", **given)
            return GuestTimeoutError(f"{name} was still running after {counted(seconds or 0, 'second')}", **given)
        if ending.trap is not None:
            return GuestTrapError(f"{name} trapped: {ending.trap}", **given)
        if ending.returncode < 0:
            return GuestTrapError(f"{name} was ended by signal {-ending.returncode}", **given)
        return GuestExitError(f"{name} ended with exit status {ending.returncode}", **given)

    def _release(self, keep: bool, publish: bool) -> None:
        """Let go of everything; on the thread that guests run on. Raises what `finish` raises."""
        try:
            self._instance.close()
        finally:
            try:
                with bounded_by(self._deadline, self._process.allowance):
                    finished = finish(self._process, self._parts.preopens, keep, publish)
                self._changes.update(finished.changes)  # an error may have it already
            finally:
                self._origin.over(self._deadline)
        if finished.lost and keep:
            raise uncommitted(finished.lost)

    def _end(self, why: str, keep: bool) -> None:
        with self._turn("being closed"):
            self._why = why
            try:
                self._on_thread(lambda: self._release(keep, keep), self._origin.limits.wall_seconds)
            except workers.LeftBehindError:
                raise HostCallError("closing the session was not done in time, or was interrupted") from None

    def _give_up(self, why: str) -> None:
        """End it as a run that fails, if it has not ended; nothing is raised."""
        try:
            if self._why is None:
                self._end(why, False)
        except (SessionError, HostCallError, FsError):
            pass

    def _sinks(self) -> set[CaptureSink]:
        return {stream.sink for stream in self._parts.streams if isinstance(stream.sink, CaptureSink)}

    def _sink(self, fd: int) -> CaptureSink | None:
        sink = self._parts.streams[fd].sink
        if fd == 2 and sink is self._parts.streams[1].sink:
            return None
        return sink if isinstance(sink, CaptureSink) else None

    def _peek(self, fd: int) -> Any:
        sink = self._sink(fd)
        if sink is None:
            return None
        return sink.getvalue() if self._parts.codec is None else sink.getvalue().decode(*self._parts.codec)

    def _captured(self, fd: int) -> Any:
        sink = self._sink(fd)
        if sink is None:
            return None
        with self._lock:
            if self._doing is not None:
                raise SessionError(f"this session is busy with {self._doing}; it does one thing at a time")
            data = sink.take_out()
            self._taken += len(data)
        if self._parts.codec is None:
            return data
        encoding, errors = self._parts.codec
        decoder = self._decoders.setdefault(fd, codecs.getincrementaldecoder(encoding)(errors))
        return decoder.decode(data, final=self._why is not None)


def _told(ending: Ending, name: str) -> str:
    """As in "this session is over: it ..."; one line."""
    if ending.limit == INTERRUPTED:
        return f"was interrupted in {name}"
    if ending.error is not None:
        return f"ended in {name} with {type(ending.error).__name__}, which the host raised"
    if ending.returncode is None:
        return f"used up its {'fuel' if ending.limit == 'fuel' else 'time'} in {name}"
    if ending.trap is not None:
        return f"trapped in {name}: {ending.trap.strip().splitlines()[-1].strip()}"
    if ending.returncode < 0:
        return f"was ended by signal {-ending.returncode} in {name}"
    return f"ended with exit status {ending.returncode} in {name}"


def _nothing() -> None:
    """A session sees itself to what is left of it."""
