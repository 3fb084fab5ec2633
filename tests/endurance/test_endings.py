"""Runs that are ended at random moments: none crashes, none ends otherwise than it may, and nothing is left.

`python -m tests.endurance endings` makes 10,000 of them in each way of interruption.
"""

from __future__ import annotations

from collections import Counter

import pytest

from vfswasi.engine.interruption.ways import Way

from .endings import GUESTS, ended_at_random

pytestmark = pytest.mark.alone


def test_runs_that_are_ended_at_random_moments(interruption: Way) -> None:
    tally = ended_at_random(600)
    assert tally.wrong == []
    ways: Counter[str] = Counter()
    for (name, how), count in tally.ended.items():
        assert how != "by itself" or GUESTS[name][1] is not None
        ways[how] += count
    assert set(ways) == {"by its deadline", "by an interruption", "by itself"}, "otherwise little was tried"
    assert {name for name, _ in tally.ended} == set(GUESTS)
