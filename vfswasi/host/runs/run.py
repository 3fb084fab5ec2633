"""`Run`: one run of a sandbox, which its caller can hold, with the manners of `subprocess.Popen`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, AnyStr, Generic, NamedTuple

from ...engine.runner import Ending, Meter, Program, end_what_is_over, left_behind
from ...engine.threads import workers
from ...errors import FsError, MountError, Uncommitted
from ...fs_backends.base import Traffic
from ...fs_backends.waiting import bounded_by
from ...kernel.process import Preopen, Process
from ...kernel.streams.stream import Stream
from ...limits import Usage, check_seconds
from ...observe.report.given import Given, Spent
from ...printing import counted
from ..closing import NOTHING, Finished, finish, traffic_since, uncommitted
from ..preparing.mounting import Bounds
from ..results.refused import refusals_of
from ..results.result import Result, result_of, usage_of
from ..stdio import capture_of, was_cut
from .asked import Asked
from .observed import UNOBSERVED, Observed
from .pipes import Pipes


class Setting(NamedTuple):
    """A guest that is ready to run, and what it runs in. before: what the mounts had cost when this began. over: to be
    called when nothing of the run is left, also if that is long after its caller has an answer. mounts: as
    `MountTable.told` has them, if the run is observed."""

    argv: list[str]
    program: Program
    process: Process
    preopens: Sequence[Preopen]
    streams: tuple[Stream, Stream, Stream]
    pipes: Pipes
    fast: bool
    cwd: str | None
    bounds: Bounds
    before: Mapping[str, Traffic]
    over: Callable[[], None]
    observed: Observed = UNOBSERVED
    mounts: tuple[tuple[str, str, str], ...] | None = None


class Run(Generic[AnyStr]):
    """A run that is going on or has ended; `Sandbox.start` gives one. Its methods may be called by any thread.

    args: the guest's argv. stdin, stdout, stderr: files at the other ends of the guest's standard streams, for each
    that was started as PIPE, else None; binary, or with `text=True` text whose lines end in "\\n". As with
    `subprocess.Popen`, a guest waits while such a pipe is full; `wait`, `result` and `communicate` take out what nobody
    reads, up to `Limits.output_bytes`.

    As a context manager it closes stdin and waits for the end; if the block raises, it kills the guest. A run that
    nobody waits for goes on until it ends, at the latest at its deadline.
    """

    def __init__(self, setting: Setting, asked: Asked) -> None:
        self._hold(setting.argv, asked, setting.pipes, setting.bounds.stack_bytes)
        self._setting: Setting = setting
        self._meter: Meter = Meter()
        self._call: workers.Call[Any] = workers.Call(
            self._whole, setting.bounds.deadline, end_what_is_over, _nothing, self._give_up
        )
        setting.observed.began(self._started_ns)

    def _hold(self, argv: list[str], asked: Asked, pipes: Pipes, stack_bytes: int) -> None:
        """What its caller holds, wherever the guest runs."""
        self.args = argv
        self.stdin: IO[AnyStr] | None = pipes.stdin
        self.stdout: IO[AnyStr] | None = pipes.stdout
        self.stderr: IO[AnyStr] | None = pipes.stderr
        self._asked, self._pipes, self._stack_bytes = asked, pipes, stack_bytes
        self._started_ns = time.monotonic_ns()
        self._lock = threading.RLock()  # a signal handler may ask
        self._result: Result[AnyStr] | None = None
        self._lost: list[Uncommitted] = []
        self._raised: BaseException | None = None

    # What happens on the guest's thread.

    def _whole(self) -> tuple[Ending, Finished]:
        """All that may take the guest's time: its own, and that of stores that get what it wrote."""
        program, process, preopens = self._setting.program, self._setting.process, self._setting.preopens
        closed = False
        endings = []  # taken out again: an ending in this frame would refer to itself, through those of its error
        try:
            if self._setting.cwd is not None:
                _enter(process, self._setting.cwd)
            endings.append(program.run(process, self._setting.fast, self._meter))
            self._setting.observed.ended()
            keep = endings[0].returncode is not None and endings[0].trap is None
            closed = True
            with bounded_by(process.deadline, process.allowance):
                finished = finish(process, preopens, keep, keep and endings[0].returncode == 0)
            return endings.pop(), finished
        finally:
            if closed:
                self._setting.over()
            else:  # an exception
                self._give_up()

    def _give_up(self) -> None:
        """What is open is closed, and nothing is published."""
        try:
            finish(self._setting.process, self._setting.preopens, False, False)
        finally:
            self._setting.over()

    # What the caller does.

    def begin(self) -> None:
        """Raises OSError: there is no room for a thread."""
        try:
            self._call.start(self._stack_bytes)
        except BaseException:
            self._call.give_up()
            raise

    def to_its_end(self) -> Result[AnyStr]:
        """`begin` and `result` in one, which a signal handler may leave by raising; the run is ended then."""
        try:
            self._call.start(self._stack_bytes)
            self._call.wait()
        except BaseException:
            self._call.give_up()
            raise
        self._settle()
        # Only the caller has it then: the frames in its traceback lead here.
        raised, self._raised = self._raised, None
        if raised is not None:
            try:
                raise raised
            finally:
                del raised
        return self._answer(self._asked.check)

    def answer(
        self, check: bool | None = None, rest: Mapping[str, AnyStr] | None = None, truncated: bool = False
    ) -> Result[AnyStr]:
        """What `Sandbox.run` returns or raises, of a run that has settled. check: as the run was asked to if
        None. rest: what was read of pipes by somebody else, by "stdout" and "stderr"; truncated: not all
        of it was kept."""
        self._settle()
        self._raise()
        return self._answer(self._asked.check if check is None else check, rest, truncated)

    def give_up(self) -> None:
        """It will not begin."""
        self._call.give_up()
        self.close_pipes()

    def close_pipes(self) -> None:
        """Close the caller's ends."""
        self._pipes.close()

    @property
    def codec(self) -> tuple[str, str] | None:
        """(encoding, errors) of its streams; None: they are binary."""
        return self._asked.codec

    @property
    def output_bytes(self) -> int:
        """How much of each stream is kept for whoever reads at last."""
        return self._pipes.limit

    def pipe(self, name: str) -> Any:
        """The binary file below "stdin", "stdout" or "stderr"."""
        return self._pipes.raw(name)

    def poll(self) -> int | None:
        """The return code if it has ended, else None. This does not wait."""
        if self._result is None and self._raised is None and self._call.settled():
            self._settle()
        return self.returncode

    @property
    def returncode(self) -> int | None:
        """The guest's exit status, -N if signal N ended it (a trap is -6, a guest that was killed or whose time was
        over -9); None while nobody has seen it end."""
        if self._raised is not None:
            return -9
        return None if self._result is None else self._result.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the return code. Raises TimeoutError when it is still running after `timeout` seconds, and
        then it goes on; and what a callable of the caller's has raised to end it."""
        self._wait(timeout)
        self._raise()
        assert self._result is not None
        return self._result.returncode

    def result(self, timeout: float | None = None, *, check: bool = False) -> Result[AnyStr]:
        """Wait for the end; what `Sandbox.run` would return. Of a stream that is a PIPE it has what was not read. The
        guest's stdin is closed first.

        Raises TimeoutError (still running after `timeout` seconds; it goes on), and what `Sandbox.run` raises:
        GuestError of a run that did not end by itself, among them GuestInterruptedError after `kill`.
        """
        self._close_stdin()
        self._wait(timeout)
        self._raise()
        return self._answer(check)

    def communicate(self, input: AnyStr | None = None, timeout: float | None = None) -> tuple[AnyStr | None, ...]:
        """Write `input` to stdin, close it, wait for the end; (stdout, stderr) as far as they are PIPE. Raises
        TimeoutError when it is still running after `timeout` seconds; asking again loses nothing. See `wait`."""
        until = None if timeout is None else time.monotonic() + check_seconds("timeout", timeout)
        self._pipes.feed(input, self._asked.codec, until, self._call.settled)
        self._wait(timeout, until)
        self._raise()
        result = self._take_rest()
        return result.stdout, result.stderr

    def kill(self) -> None:
        """End this run and no other, whatever it is in the middle of; nothing happens if it has ended. It has when
        `wait` returns, which takes a tenth of a second at most."""
        self._setting.bounds.deadline.interrupt()
        end_what_is_over()
        self._call.has_changed()

    terminate = kill

    @property
    def usage(self) -> Usage:
        """What it has used so far. While it runs, `memory_bytes` is as of its last call, and fuel is not known."""
        result = self._result
        if result is not None:
            return result.usage
        return usage_of(self._setting.process, self._meter, self._started_ns, [])

    @property
    def settled(self) -> bool:
        """Whether `result` has an answer without waiting."""
        return self._call.settled()

    def tell(self, changed: Callable[[], None]) -> None:
        """`changed` is to be called, by some thread, when `settled` may have become true."""
        self._call.tell(changed)

    def tell_no_more(self, changed: Callable[[], None]) -> None:
        """Undo `tell`."""
        self._call.tell_no_more(changed)

    def seconds_to_look(self) -> float | None:
        """When `settled` may become true by itself; None: never."""
        return self._call.seconds_to_look()

    def __enter__(self) -> Run[AnyStr]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        try:
            self._close_stdin()
            self._wait(None)
            if error is None:
                self._raise()
        except BaseException:
            self.kill()
            raise
        finally:
            self.close_pipes()

    def __repr__(self) -> str:
        state = "running" if self.poll() is None else f"returncode={self.returncode}"
        return f"<Run {self.args!r}, {state}>"

    # Waiting.

    def _close_stdin(self) -> None:
        self._pipes.close_stdin()

    def _wait(self, timeout: float | None, until: float | None = None) -> None:
        """Until it is settled. Raises TimeoutError at `until`, as `time.monotonic` tells it, `timeout` seconds from
        now if that is None."""
        if until is None and timeout is not None:
            until = time.monotonic() + check_seconds("timeout", timeout)
        self._pipes.drain(until, self._call.settled)
        if not self._call.wait(None if until is None else max(until - time.monotonic(), 0)):
            raise TimeoutError(f"{self.args[0]} is still running after {counted(timeout or 0, 'second')}")
        self._settle()

    def _raise(self) -> None:
        """What a callable of the caller's has raised to end it, if one has, each time that somebody asks."""
        if self._raised is not None:
            raise self._raised

    def _settle(self) -> None:
        """Note how it ended, once. Whatever interrupts this, such as a signal handler, the next one who asks knows."""
        with self._lock:
            if self._result is not None or self._raised is not None:
                return
            outcome: Any = self._call.look()
            if isinstance(outcome, workers.LeftBehindError):
                self._setting.process.let_go_of_streams()
                outcome = left_behind(self._setting.process, outcome.end), NOTHING
            if isinstance(outcome, BaseException):
                self._raised = outcome
                self._witnessed(None)
            else:
                ending, finished = outcome
                if ending.error is not None:
                    self._raised = ending.error
                else:
                    result = self._result_of(ending, finished)
                    self._lost, self._result = finished.lost, result
                self._witnessed(ending)
                del ending  # the traceback of an error may refer to this frame
            del outcome
            self._call.drop()

    def _witnessed(self, ending: Ending | None) -> None:
        witness = self._setting.observed.witness
        if witness is not None:
            try:
                witness.ended(ending)
            except OSError as error:  # a recording could not be written; what the guest wrote comes first
                self._raised = self._raised or (None if self._lost else error)

    def _result_of(self, ending: Ending, finished: Finished) -> Result[AnyStr]:
        setting = self._setting
        _, out, err = setting.streams
        captured: list[bytes | None] = [capture_of(out), None if err.sink is out.sink else capture_of(err)]
        outputs: list[Any] = [*captured]
        if self._asked.codec is not None:
            outputs = [None if raw is None else raw.decode(*self._asked.codec) for raw in captured]
        return result_of(
            self.args,
            ending,
            outputs,
            was_cut(out) or was_cut(err),
            setting.preopens,
            setting.bounds.deadline.timeout_s,
            traffic_since(setting.preopens, setting.before),
            usage_of(setting.process, self._meter, self._started_ns, captured),
            setting.program.compiled.interruption,
            finished.changes,
            setting.observed,
            refusals_of(setting.process, ending.returncode != 0),
            self._given(),
        )

    def _given(self) -> Given:
        setting, asked = self._setting, self._asked
        storage = setting.observed.storage
        spent = None if storage is None else {name: Spent(each.calls, each.ns) for name, each in storage.items()}
        return Given(setting.process.limits, asked.clock, asked.deterministic, asked.seed, setting.mounts, spent)

    def _take_rest(self, rest: Mapping[str, AnyStr] | None = None, truncated: bool = False) -> Result[AnyStr]:
        """The result, with what nobody has read of pipes; `rest` if somebody has."""
        with self._lock:
            result = self._result
            assert result is not None
            pipes = self._pipes
            if pipes.stdout is None and pipes.stderr is None:
                return result
            from dataclasses import replace  # few runs have pipes

            outputs: dict[str, Any] = {}
            for name in ("stdout", "stderr"):
                more: Any = pipes.rest(name) if rest is None else rest.get(name)
                if more is not None:
                    before = getattr(result, name)
                    outputs[name] = more if before is None else before + more
            self._result = result = replace(
                result, truncated=result.truncated or truncated or pipes.truncated, **outputs
            )
            return result

    def _answer(self, check: bool, rest: Mapping[str, AnyStr] | None = None, truncated: bool = False) -> Result[AnyStr]:
        result = self._take_rest(rest, truncated)
        if self._lost:
            raise uncommitted(self._lost, result)
        if check or result.ended_from_outside:
            result.check_returncode()
        return result


def _enter(process: Process, cwd: str) -> None:
    from ...kernel.paths.cwd import enter  # few runs have one

    try:
        with bounded_by(process.deadline, process.allowance):
            enter(process, cwd)
    except FsError as error:
        if process.deadline.over() is None:  # else the guest ends before it begins
            raise MountError(f"cwd {cwd!r}: {error}") from error


def _nothing() -> None:
    """A run says itself that it is over."""
