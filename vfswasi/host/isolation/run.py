"""`IsolatedRun`: a run whose guest is in a worker process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, AnyStr, Final, NamedTuple

from ...engine.threads import workers
from ...errors import Uncommitted
from ...kernel.clocks import Deadline
from ...limits import Limits, Usage
from ..results.result import Result
from ..runs.asked import Asked
from ..runs.pipes import Pipes
from ..runs.run import Run
from .answers import MemoryOverError, Spill, accesses_of, error_of, lost_of, result_of
from .process import Answer, Stop, StoppedError, TimeOverError, Worker, WorkerGoneError
from .sandbox import STACK_BYTES, Isolated, Trees, crash_error, here, overlays_in
from .streams import Streams
from .travel import refuse_imports, refuse_record, refuse_trace, sent_environ, sent_preopens, text
from .wire import NoAnswerError

# What a worker may take to say what has changed, at least: also when the guest's own time is over.
_CHANGES_S: Final = 20.0


class Order(NamedTuple):
    """What a worker is to run. own: the fields of `sandbox.Own`. opening: within what is left of the time for mounting,
    else `timeout_s` is its own."""

    argv: list[str]
    own: tuple[Any, ...]
    limits: Limits
    timeout_s: float | None
    opening: bool


class _Outcome(NamedTuple):
    result: Result[Any]
    lost: list[Uncommitted]
    gone: WorkerGoneError | None = None


class IsolatedRun(Run[AnyStr]):
    """As `Run`. A run whose worker has crashed has ended by that signal; `result` raises GuestCrashError."""

    def __init__(self, isolated: Isolated, order: Order, asked: Asked, pipes: Pipes) -> None:
        """Raises TypeError (something cannot be sent), ValueError, OSError."""
        env, preopens, limits, imports, cwd = order.own
        refuse_imports(imports)
        refuse_trace(asked.trace)
        refuse_record(asked.record)
        sent = sent_preopens(preopens)
        self._own = sent_environ(env), sent, limits, None, None if cwd is None else text(cwd)
        self._trees = isolated.trees.with_those_of(Trees.in_preopens(sent))
        kept = {name: base for name, base in isolated.overlays.items() if name not in Trees.in_preopens(sent).names}
        self._overlays = {**kept, **overlays_in(preopens, _nothing)}
        self._isolated, self._order = isolated, order
        self._gone: WorkerGoneError | None = None
        self._begun_s = time.monotonic()
        try:
            stdio = asked.stdin, asked.stdout, asked.stderr
            if pipes.wanted:
                stdio = pipes.open(*stdio, asked.codec, order.limits.output_bytes)
            self._streams = Streams(*stdio, order.limits.output_bytes)
            pipes.opened()
        except BaseException:
            pipes.close()
            raise
        self._hold(order.argv, asked, pipes, STACK_BYTES)
        try:
            self._stop: Stop = isolated.begun()
        except BaseException:
            self._streams.close()
            pipes.close()
            raise
        deadline = Deadline()
        deadline.on_interrupt = self._stop_at_once
        self._call = workers.Call(self._inside, deadline, _nothing, _nothing, self._unbegun)

    def _stop_at_once(self) -> None:
        self._stop.ask(at_once=True)

    def _unbegun(self) -> None:
        self._streams.close()
        self._isolated.over(self._stop)

    # What happens on a thread that waits for the worker.

    def _inside(self) -> _Outcome:
        try:
            return self._outcome()
        except StoppedError:
            return _Outcome(self._ended(interrupted=True), [])
        except WorkerGoneError as gone:
            return _Outcome(self._ended(-gone.signal or -9), [], gone)
        finally:
            self._unbegun()

    def _outcome(self) -> _Outcome:
        order, streams, clock = self._order, self._streams, self._asked.clock
        with self._isolated.worker(order.limits, self._stop, order.opening) as lent:
            seconds = self._isolated.left_s() if order.opening else order.timeout_s
            self._begun_s = time.monotonic()
            fds = streams.fds
            spilled = Spill() if self._trees.spills else None
            if spilled is not None:
                fds.append(spilled.fd)
            request = {
                "do": "run",
                "here": here(),
                "args": [text(arg) for arg in order.argv[1:]],
                "stdio": streams.told,
                "seed": self._asked.seed,
                "clock": None if clock is None else (clock.kind, clock.start_ns, clock.step_ns),
                "deterministic": self._asked.deterministic,
                "own": self._own,
                "timeout": seconds,
                "opening": order.opening,
                "spill": None if spilled is None else len(fds) - 1,
                "overlays": list(self._overlays),
                "accesses": self._asked.accesses,
            }
            expected, blobs_max = self._isolated.expected(
                order.argv, self._trees, order.limits, streams.captured, self.codec, order.timeout_s
            )
            try:
                answer = lent.worker.ask(
                    request,
                    fds,
                    stop=self._stop,
                    seconds=seconds,
                    blobs_max=blobs_max,
                    pump=streams,
                    sent=streams.sent,
                )
                result = result_of(answer, expected)
                error = error_of(answer, result)
                lost = lost_of(answer, spilled)
            except TimeOverError:
                return _Outcome(self._ended(limit="wall_seconds"), [])
            except NoAnswerError as wrong:
                raise WorkerGoneError(f"its worker process was ended, because {wrong}") from None
            if isinstance(error, MemoryOverError):
                raise self._isolated.memory_over(lent.worker)
            if result is None or (error is not None and not lost and not result.ended_from_outside):
                raise (
                    WorkerGoneError("its worker process was ended, because it sent no result")
                    if error is None
                    else error
                )
            self._isolated.add_traffic(dict(result.traffic))
            if self._asked.accesses:
                result = self._with_accesses(lent.worker, result, expected.mounts)
            if self._overlays:
                result, lost = self._with_changes(lent.worker, answer, result, lost)
            lent.keep = not result.ended_from_outside
            return _Outcome(result, lost)

    def _with_accesses(self, worker: Worker, result: Result[Any], mounts: tuple[str, ...]) -> Result[Any]:
        from dataclasses import replace

        try:
            return replace(result, accesses=accesses_of(worker, mounts, _CHANGES_S))
        except NoAnswerError as wrong:
            raise WorkerGoneError(f"its worker process was ended, because {wrong}") from None

    def _with_changes(
        self, worker: Worker, answer: Answer, result: Result[Any], lost: list[Uncommitted]
    ) -> tuple[Result[Any], list[Uncommitted]]:
        """The result with what has changed in its overlays, which is applied where it is to be."""
        from dataclasses import replace

        from .overlays import changed_in, fetched, published

        order, seconds = self._order, float(_CHANGES_S)
        if not result.ended_from_outside and order.timeout_s is None:
            left_s = None
        elif not result.ended_from_outside:
            left_s = max(seconds, self._begun_s + (order.timeout_s or 0) - time.monotonic())
        else:
            left_s = seconds
        try:
            changes = fetched(worker, changed_in(answer, self._overlays), self._overlays, order.limits, left_s)
        except NoAnswerError as wrong:
            raise WorkerGoneError(f"its worker process was ended, because {wrong}") from None
        result = replace(result, changes=changes)
        if result.returncode == 0:
            lost = lost + published(changes, order.limits, left_s)
        return result, lost

    def _ended(self, code: int = -9, limit: str | None = None, interrupted: bool = False) -> Result[Any]:
        """The result of a run of which nothing more is known."""
        order = self._order
        return Result(
            order.argv,
            code,
            limit=limit,
            usage=self.usage,
            _timeout_s=order.timeout_s,
            _interrupted=interrupted,
        )

    # What the caller does.

    def kill(self) -> None:
        """End this run and no other, whatever it is in the middle of; see `Run.kill`."""
        self._stop.ask()

    terminate = kill

    @property
    def usage(self) -> Usage:
        """What it has used; while it runs, only the time is known."""
        result = self._result
        return result.usage if result is not None else Usage(time.monotonic() - self._begun_s)

    def _settle(self) -> None:
        with self._lock:
            if self._result is not None or self._raised is not None:
                return
            try:
                outcome = self._call.outcome()
            except workers.LeftBehindError:
                outcome = _Outcome(self._ended(interrupted=True), [])
            except BaseException as error:
                self._raised = error
                return
            self._gone, self._lost = outcome.gone, outcome.lost
            self._result = outcome.result

    def _answer(self, check: bool, rest: Mapping[str, AnyStr] | None = None, truncated: bool = False) -> Result[AnyStr]:
        if self._gone is not None:
            raise crash_error(self.args[0], self._gone, self._take_rest(rest, truncated))
        return Run._answer(self, check, rest, truncated)


def _nothing() -> None:
    """A worker is told by its `Stop`."""
