"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ....host.results.result import Result
from ...messages import fail, words_of
from ..parser import Parser
from . import recording, reporting, tracing
from .clocks import clock
from .places import check_apart, check_place

if TYPE_CHECKING:
    from ....host.sessions.session import Session


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--clock",
        type=clock,
        metavar="CLOCK",
        help="what time it is for the program: system (default), fixed:TIME, stepped:TIME,STEP (each look moves it) or "
        "virtual:TIME (sleeping moves it, and takes no time); TIME is 2026-01-31T12:00:00Z, or seconds since 1970",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bytes on any day: a clock, random bytes, listings, numbers and times of files that depend on "
        "nothing else",
    )
    parser.add_argument(
        "--accesses",
        metavar="FILE",
        help="write what the program looked at in its mounts, with digests, to FILE as JSON (docs/accesses.md)",
    )
    tracing.add_arguments(parser)
    reporting.add_arguments(parser)
    recording.add_arguments(parser)


class Observing:
    """What the options ask for.

    asked: what `Sandbox.run` takes for that. of_sandbox: what `Sandbox` takes. failed: something could not be written.
    """

    def __init__(self, options: Namespace, mounts: Mapping[str, Any]) -> None:
        """Raises ValueError."""
        self.asked: dict[str, Any] = {}
        self.of_sandbox: dict[str, Any] = {}
        self.failed = self._unrecorded = False
        if options.clock is not None:
            self.asked["clock"] = options.clock
        if options.deterministic:
            self.of_sandbox["deterministic"] = True
        self._accesses: str | None = options.accesses
        if self._accesses is not None:
            if options.invoke is not None:
                raise ValueError(
                    "--accesses is of a program that runs, and --invoke calls a function; leave one of them out"
                )
            check_place("--accesses", self._accesses)
            self.asked["accesses"] = "digest"
        self.tracing = tracing.Tracing(options)
        self.tracing.check_run(options)
        if self.tracing.given:
            self.asked["trace"] = self.tracing.asked
        self._reporting = reporting.Reporting(options)
        self._reporting.ask(self.asked)
        self._record = recording.record_of(options)
        if self._record is not None:
            self.asked["record"] = self._record
        printer = self.tracing.printer
        out, err = options.stdout, options.stderr
        joined = out is not None and err is not None and os.path.realpath(out) == os.path.realpath(err)
        check_apart(
            [
                ("--stdout", out),
                ("--stderr", None if joined else err),
                ("--trace", None if printer is None else printer.path),
                ("--accesses", self._accesses),
                ("--report", options.report),
                ("--record", options.record),
            ]
        )

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        files = self._accesses, self._record
        return any(each is not None for each in files) or self._reporting.wanted or self.tracing.wanted

    def begin(self, opened: ExitStack) -> None:
        """The program can be run: files that something goes to are emptied now. Raises OSError."""
        self.tracing.begin(opened)

    def tell(self, result: Result[Any] | Session) -> None:
        """The run is over, however it ended. What cannot be written where it should be is told, and keeps nothing else
        from being written. Raises BrokenPipeError: nobody reads us any more."""
        self._each(lambda: self.tracing.tell(result.trace, result.traffic, result.usage))
        if isinstance(result, Result):
            accesses, path = result.accesses, self._accesses
            if path is not None and accesses is not None:
                self._each(lambda: accesses.save(path))
            self._each(lambda: self._reporting.tell(result))
        if self._record is not None and not self._unrecorded:
            recording.say(self._record)

    def not_recorded(self, error: OSError) -> None:
        """The recording could not be written."""
        self._unrecorded = True
        self._fails(error)

    def _each(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._fails(error)

    def _fails(self, error: OSError) -> None:
        self.failed = True
        fail(words_of(error))
