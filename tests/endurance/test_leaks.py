"""Thousands of runs of every ending leave nothing behind: no memory, no descriptor, no thread, no object.

`python -m tests.endurance leaks` makes 2,000 runs in each of the combinations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from . import leaks
from .leaks import ENDINGS, left_behind

ROOT = Path(__file__).parents[2]


def in_a_process_of_its_own(*arguments: str) -> list[str]:
    """What `leaks` found, where no servers and threads of other tests make and free things meanwhile."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.endurance.leaks", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_thousands_of_runs(ending: str, tmp_path: Path) -> None:
    """Without the garbage collector: nothing waits for it."""
    assert in_a_process_of_its_own("thousands", ending, str(tmp_path)) == []


def test_runs_on_other_threads(tmp_path: Path) -> None:
    """As above, on threads that end."""
    assert in_a_process_of_its_own("on_other_threads", str(tmp_path)) == []


def test_each_kind_of_leak_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of these tests, on runs that do leave something."""
    kept: list[Any] = []
    run = vfswasi.Sandbox.run

    def leaking(leak: Any, times: int = 300) -> list[str]:
        def leaky(self: vfswasi.Sandbox, **options: Any) -> vfswasi.Result:
            result = run(self, **options)
            leak(result)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(vfswasi.Sandbox, "run", leaky)
            found = left_behind("return", "memory", True, tmp_path, 10, times)
        kept.clear()
        return found

    def cycle(result: vfswasi.Result) -> None:
        ring: list[Any] = [result]
        ring.append(ring)

    assert leaking(lambda _: None) == []
    assert any("KiB more memory" in text for text in leaking(lambda _: kept.append(b"x" * 20_000 + b"y")))
    opened: list[int] = []
    try:
        assert any("descriptors" in text for text in leaking(lambda _: opened.append(os.dup(0)), 20))
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert any(".Result'" in text for text in leaking(kept.append))
    for times in (60, 1000):
        assert any("after a collection" in text for text in leaking(lambda _: kept.append([]), times))
    found = leaking(cycle)
    assert any(".Result'" in text for text in found)
    assert not any("after a collection" in text for text in found)


def test_every_ending_that_is_told_of_is_there() -> None:
    """The endings of the documents, by what the caller gets."""
    got = {ending.expected for ending in ENDINGS.values()}
    documented = {0, 3, -6, vfswasi.GuestTrapError, vfswasi.GuestTimeoutError, vfswasi.GuestInterruptedError}
    assert documented | {vfswasi.UncommittedError, leaks.Refused, leaks.Ended} <= got


def test_what_others_make_and_free_is_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is not repeated, and what goes away while the runs are made."""
    made: list[Any] = []
    earlier = os.dup(0)
    run = vfswasi.Sandbox.run

    def busy(self: vfswasi.Sandbox, **options: Any) -> vfswasi.Result:
        if not made:
            made.extend([] for _ in range(5000))
            os.close(earlier)
        return run(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(vfswasi.Sandbox, "run", busy)
        assert left_behind("return", "memory", True, tmp_path, 0, 60) == []
    assert len(made) == 5000
