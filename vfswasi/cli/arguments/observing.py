"""What a program is told of time and chance, and what is noted about its run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ...host.results.result import Result
from ...printing import shown
from .parser import Parser


def add_arguments(parser: Parser) -> None:
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
        self._accesses: str | None = options.accesses
        if self._accesses is not None:
            if options.invoke is not None:
                raise ValueError(
                    "--accesses is of a program that runs, and --invoke calls a function; leave one of them out"
                )
            check_place("--accesses", self._accesses)
            self.asked["accesses"] = "digest"

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return self._accesses is not None

    def tell(self, result: Result[Any]) -> None:
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
        if self._accesses is not None and result.accesses is not None:
            result.accesses.save(self._accesses)


def check_place(option: str, path: str) -> None:
    """Raises ValueError: no file can be written there."""
    if not path or not os.path.isdir(os.path.dirname(os.path.abspath(path))) or os.path.isdir(path):
        raise ValueError(f"{option} {shown(path)}: there is no such directory to write a file in")
