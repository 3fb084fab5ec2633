"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ....host.results.result import Result
from ....printing import shown
from ..parser import Parser
from . import recording, reporting, tracing
from .clocks import clock

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

    asked: what `Sandbox.run` takes for that. of_sandbox: what `Sandbox` takes.
    """

    def __init__(self, options: Namespace, mounts: Mapping[str, Any]) -> None:
        """Raises ValueError."""
        self.asked: dict[str, Any] = {}
        self.of_sandbox: dict[str, Any] = {}
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
        if self.tracing.given:
            self.asked["trace"] = self.tracing.asked
        self._reporting = reporting.Reporting(options)
        self._reporting.ask(self.asked)
        self._record = recording.record_of(options)
        if self._record is not None:
            self.asked["record"] = self._record
        check_apart(
            {
                "--accesses": options.accesses,
                "--trace": None if self.tracing.printer is None else self.tracing.printer.path,
                "--report": options.report,
                "--record": options.record,
            }
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
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
        self.tracing.tell(result.trace, result.traffic, result.usage)
        if isinstance(result, Result):
            if self._accesses is not None and result.accesses is not None:
                result.accesses.save(self._accesses)
            self._reporting.tell(result)
        if self._record is not None:
            recording.say(self._record)


def check_apart(files: Mapping[str, str | None]) -> None:
    """Option -> where it writes. Raises ValueError: two of them would write one file."""
    seen: dict[str, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):
            raise ValueError(f"{seen[real]} and {option} are one file, {shown(path)}; give each its own")
        seen[real] = option


def check_place(option: str, path: str) -> None:
    """Raises ValueError: no file can be written there."""
    if not path or not os.path.isdir(os.path.dirname(os.path.abspath(path))) or os.path.isdir(path):
        raise ValueError(f"{option} {shown(path)}: there is no such directory to write a file in")
