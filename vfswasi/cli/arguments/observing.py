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
        "--report",
        metavar="FILE.html",
        help="write a page about the run, to be opened in a browser: its calls over time, files, requests, changes, "
        "and what was refused",
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
        self._report: str | None = options.report
        if self._report is not None:
            check_report(self._report, options)
            self.asked["accesses"] = True
            if options.isolation != "process":  # where calls are made elsewhere
                self.asked["trace"] = True

    @property
    def wanted(self) -> bool:
        """Whether `tell` has something to do."""
        return self._report is not None

    def tell(self, result: Result[Any]) -> None:
        """The run is over, however it ended. Raises OSError: something could not be written where it should be."""
        if self._report is not None:
            result.report().save(self._report)


def check_report(path: str, options: Namespace) -> None:
    """Raises ValueError, SandboxError: no report can be written there."""
    from ...observe.report.page import check_installed

    if options.invoke is not None:
        raise ValueError("--report is about a program that runs, and --invoke calls a function; leave one of them out")
    directory = os.path.dirname(os.path.realpath(path))
    if not path or os.path.isdir(path) or not os.path.isdir(directory):
        raise ValueError(f"--report {shown(path)}: there is no such directory to write a file in")
    if not os.path.exists(path) and not os.access(directory, os.W_OK | os.X_OK):
        raise ValueError(f"--report {shown(path)}: no file can be written in that directory")
    check_installed()
