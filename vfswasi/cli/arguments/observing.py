"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ...host.results.result import Result
from .clocks import clock
from .parser import Parser


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

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return False

    def tell(self, result: Result[Any]) -> None:
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
