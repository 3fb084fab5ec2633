"""`Told`: what is known of one test, for the report if it fails."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import pytest

from ...records import field, record

if TYPE_CHECKING:
    from .failure import Failure

RUNS_MAX: Final = 3  # a test may make thousands, and each has its files and its calls


@record()
class Ran:
    """One run of a program. result: None where it did not come to one."""

    title: str
    result: Any = None


@record()
class Told:
    """runs: the last ones, in order. differences: (title, text) of snapshots, that are too long for the line of an
    assertion. failed: whether a phase of the test has failed."""

    runs: deque[Ran] = field(default_factory=lambda: deque(maxlen=RUNS_MAX))
    differences: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failed: bool = False

    def check_failures(self) -> None:
        """Each injected failure must have struck. Raises pytest's Failed."""
        idle = [failure for failure in self.failures if failure.strict and not failure.struck]
        if idle:
            pytest.fail("\n".join(failure.idle() for failure in idle), pytrace=False)
