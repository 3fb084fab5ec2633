"""`Told`: what is known of one test, for the report if it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ...records import field, record

if TYPE_CHECKING:
    from .failure import Failure


@record()
class Ran:
    """One run of a program. result: None where it did not come to one."""

    title: str
    result: Any
    check: bool
    shown: bool = False


@record()
class Told:
    """runs: in order. differences: (title, text) of snapshots, that are too long for the line of an assertion.
    failed: whether a phase of the test has failed."""

    runs: list[Ran] = field(default_factory=list)
    differences: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failed: bool = False

    def check_failures(self) -> None:
        """Each injected failure must have struck. Raises pytest's Failed."""
        idle = [failure for failure in self.failures if failure.strict and not failure.struck]
        if idle:
            pytest.fail("\n".join(failure.idle() for failure in idle), pytrace=False)
