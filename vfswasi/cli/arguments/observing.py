"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ...host.results.result import Result
from . import recording
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bytes on any day: a clock, random bytes, listings, numbers and times of files that depend on "
        "nothing else",
    )
    recording.add_arguments(parser)


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
        self._record = recording.record_of(options)
        if self._record is not None:
            self.asked["record"] = self._record

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return self._record is not None

    def tell(self, result: Result[Any]) -> None:
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
        if self._record is not None:
            recording.say(self._record)
