"""`vfswasi run --report FILE.html`: a page about the run."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..parser import Parser
from .places import check_place


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help="write a page about the run, to be opened in a browser: its calls over time, files, requests, changes, "
        "and what was refused",
    )


class Reporting:
    """What the option asks for. wanted: whether it was given."""

    def __init__(self, options: Namespace) -> None:
        """Raises ValueError, SandboxError: no report can be written there."""
        self._path: str = options.report or ""
        self.wanted = options.report is not None
        self._apart = options.isolation == "process"
        if self.wanted:
            _check(self._path, options)

    def ask(self, asked: dict[str, Any]) -> None:
        """Add what a run has to be asked for, where nothing else has."""
        if self.wanted:
            asked.setdefault("accesses", True)
            if not self._apart:  # the calls are made in another process
                asked.setdefault("trace", True)

    def tell(self, result: Any) -> None:
        """The run is over. Raises OSError: it could not be written."""
        if self.wanted:
            result.report().save(self._path)


def _check(path: str, options: Namespace) -> None:
    from ....observe.report.page import check_installed

    if options.invoke is not None:
        raise ValueError("--report is about a program that runs, and --invoke calls a function; leave one of them out")
    check_place("--report", path)
    check_installed()
