"""Thousands of runs of every ending leave nothing behind: no memory, no descriptor, no thread, no object.

`python -m tests.endurance leaks` makes 2,000 runs in each of the combinations.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from . import leaks
from .leaks import ENDINGS, Held, compared, left_behind

# The tests' own places for 2,000 runs of each ending; those that wait take 2 ms and are fewer.
PLACES = [(kind, vdso) for kind in ("memory", "local", "zip") for vdso in (True, False)]
RUNS, RUNS_ELSEWHERE, WARM = 1000, 200, 50
WAITING, WAITING_ELSEWHERE = 400, 60


@pytest.mark.parametrize("ending", ENDINGS)
def test_thousands_of_runs(ending: str, tmp_path: Path) -> None:
    """Without the garbage collector: nothing waits for it."""
    wrong = []
    for kind, vdso in PLACES:
        first = (kind, vdso) == PLACES[0]
        if ENDINGS[ending].waits:
            times = WAITING if first else WAITING_ELSEWHERE
        else:
            times = RUNS if first else RUNS_ELSEWHERE
        for text in left_behind(ending, kind, vdso, tmp_path, WARM, times):
            wrong.append(f"{kind}, {'fast' if vdso else 'plain'}: {text}")
    assert not wrong


def test_runs_on_other_threads(tmp_path: Path) -> None:
    """As above, on threads that end."""
    found: list[list[str]] = []

    def work() -> None:
        found.append(left_behind("trap", "memory", True, tmp_path, WARM, RUNS_ELSEWHERE))

    def one_after_the_other(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    one_after_the_other(2)
    before = Held.now(collect=True)
    one_after_the_other(3)
    assert found == [[]] * 5
    after = Held.now(collect=True)
    assert compared(before, after, after, 3 * RUNS_ELSEWHERE, 4 << 20) == []  # the C library's heaps, one for a thread


def test_each_kind_of_leak_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of these tests, on runs that do leave something."""
    kept: list[Any] = []
    run = vfswasi.Sandbox.run

    def leaking(leak: Any, times: int = 1000) -> list[str]:
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
    assert any("after a collection" in text for text in leaking(lambda _: kept.append([[]])))
    found = leaking(cycle)
    assert any(".Result'" in text for text in found)
    assert not any("after a collection" in text for text in found)


def test_every_ending_that_is_told_of_is_there() -> None:
    """The endings of the documents, by what the caller gets."""
    got = {ending.expected for ending in ENDINGS.values()}
    documented = {0, 3, -6, vfswasi.GuestTrapError, vfswasi.GuestTimeoutError, vfswasi.HostCallError}
    assert documented | {vfswasi.UncommittedError, leaks.Refused, leaks.Ended} <= got
