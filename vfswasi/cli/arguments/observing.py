"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ...host.results.result import Result
from . import reporting, tracing
from .parser import Parser

if TYPE_CHECKING:
    from ...host.sessions.session import Session


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bytes on any day: a clock, random bytes, listings, numbers and times of files that depend on "
        "nothing else",
    )
    tracing.add_arguments(parser)
    reporting.add_arguments(parser)


class Observing:
    """What the options ask for.

    asked: what `Sandbox.run` takes for that. of_sandbox: what `Sandbox` takes.
    """

    def __init__(self, options: Namespace, mounts: Mapping[str, Any]) -> None:
        """Raises ValueError."""
        self.asked: dict[str, Any] = {}
        self.of_sandbox: dict[str, Any] = {}
        if options.deterministic:
            self.of_sandbox["deterministic"] = True
        self.tracing = tracing.Tracing(options)
        if self.tracing.given:
            self.asked["trace"] = self.tracing.asked
        self.reporting = reporting.Reporting(options)
        self.reporting.ask(self.asked)

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return self.tracing.wanted or self.reporting.wanted

    def begin(self, opened: ExitStack) -> None:
        """The program can be run: files that something goes to are emptied now. Raises OSError."""
        self.tracing.begin(opened)

    def tell(self, result: Result[Any] | Session) -> None:
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
        try:
            self.reporting.tell(result)
        finally:
            self.tracing.tell(result.trace, result.traffic, result.usage)
