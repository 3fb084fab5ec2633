"""What tests of worker processes share: none is left from one to the next."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vfswasi.host.isolation.pool import POOL


@pytest.fixture(autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    POOL.end()


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] not in "ZX"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for it; an AssertionError if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def shoot(pid: int, number: int) -> None:
    """End a process with a signal. wasmtime takes the first of some, as if a guest had made a mistake, and gives the
    signal back to the system."""
    end = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < end, "it does not end"
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        time.sleep(0.002)


@pytest.fixture
def pids() -> Callable[[], list[int]]:
    """The worker processes that there are."""
    return lambda: POOL.pids
