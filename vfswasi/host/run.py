"""One run of a sandbox: what a caller asks for, checked before there is a guest; what happens on the guest's thread."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..engine.runner import Ending, Meter, Program, end_what_is_over, left_behind
from ..engine.threads import workers
from ..errors import Uncommitted
from ..fs_backends.base import Traffic
from ..fs_backends.waiting import bounded_by
from ..kernel.process import Preopen, Process
from ..kernel.streams.stream import Stream
from .closing import finish, traffic_since, uncommitted
from .mounting import Bounds
from .result import Result, result_of, usage_of
from .stdio import PIPE, capture_of


class Asked(NamedTuple):
    """What a caller wants of a run beside its arguments. codec: (encoding, errors) of captured output; None: bytes."""

    stdin: Any
    stdout: Any
    stderr: Any
    codec: tuple[str, str] | None
    check: bool
    entropy: Callable[[int], bytes]

    @classmethod
    def of(
        cls,
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        capture_output: bool = False,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        check: bool = False,
        seed: int | None = None,
    ) -> Asked:
        """The options of `Sandbox.run`. Raises ValueError, TypeError, LookupError (of encodings)."""
        if capture_output:
            if stdout is not None or stderr is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            stdout = stderr = PIPE
        if text:
            codecs.lookup(encoding)  # a mistake here must not cost the output of a finished run
            codecs.lookup_error(errors)
        entropy = os.urandom if seed is None else _seeded(seed)
        return cls(stdin, stdout, stderr, (encoding, errors) if text else None, check, entropy)


def _seeded(seed: int) -> Callable[[int], bytes]:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, not {type(seed).__name__}")
    from ..kernel.entropy import SeededEntropy  # few runs have a seed

    return SeededEntropy(seed)


class Run:
    """A process that is run once. `streams`: its standard input, output and error. `over`: called when nothing of it is
    left, also if that is long after `to_its_end` has returned or raised."""

    def __init__(
        self,
        program: Program,
        process: Process,
        preopens: Sequence[Preopen],
        streams: tuple[Stream, Stream, Stream],
        fast: bool,
        over: Callable[[], None],
    ) -> None:
        self._program, self._process, self._preopens = program, process, preopens
        self._streams = streams
        self._fast = fast
        self._over = over
        self._meter = Meter()
        self._started_ns = time.monotonic_ns()

    def to_its_end(self, bounds: Bounds, name: str) -> tuple[Ending, list[Uncommitted]]:
        """How the guest ended, and what the stores could not store. `name`: of the program. Raises what ended the
        caller, such as KeyboardInterrupt, and what a store raised that is no FsError."""
        try:
            return workers.call(
                self._whole, bounds.deadline, end_what_is_over, _nothing, bounds.stack_bytes, self._unbegun
            )
        except workers.LeftBehindError as left:
            self._process.let_go_of_streams()
            return left_behind(self._process, left.end, name), []

    def _whole(self) -> tuple[Ending, list[Uncommitted]]:
        """All that may take the guest's time: its own, and that of stores that get what it wrote."""
        closed = False
        endings = []  # taken out again: an ending in this frame would refer to itself, through those of its error
        try:
            endings.append(self._program.run(self._process, self._fast, self._meter))
            keep = endings[0].returncode is not None and endings[0].trap is None
            closed = True
            with bounded_by(self._process.deadline, self._process.allowance):
                lost = finish(self._process, self._preopens, keep, keep and endings[0].returncode == 0)
            return endings.pop(), lost
        finally:
            if closed:
                self._over()
            else:  # an exception
                self._unbegun()

    def _unbegun(self) -> None:
        """What is open is given up."""
        try:
            finish(self._process, self._preopens, False, False)
        finally:
            self._over()

    def result(
        self,
        argv: list[str],
        asked: Asked,
        ending: Ending,
        lost: list[Uncommitted],
        before: Mapping[str, Traffic],
    ) -> Result[Any]:
        """`before`: what the mounts had cost when it began. Raises the GuestError of a run that did not end by itself,
        UncommittedError, and what was asked for with `check`."""
        _, out, err = self._streams
        traffic = traffic_since(self._preopens, before)
        captured: list[Any] = [capture_of(out), None if err.sink is out.sink else capture_of(err)]
        usage = usage_of(self._process, self._meter, self._started_ns, captured)
        if asked.codec is not None:
            captured = [None if raw is None else raw.decode(*asked.codec) for raw in captured]
        if ending.error is not None:
            try:
                raise ending.error
            finally:
                del ending  # the error's traceback refers to this frame: together they would wait for a collection
        way = self._program.compiled.interruption
        result = result_of(argv, ending, captured, self._preopens, self._process.deadline, traffic, usage, way)
        if lost:
            raise uncommitted(lost, result)
        if asked.check:
            result.check_returncode()
        return result


def _nothing() -> None:
    """A run says itself that it is over."""
