"""A clock goes along to the worker process."""

from __future__ import annotations

import asyncio

import pytest

from vfswasi import Clock, Sandbox

from ..guest_programs import compile_guest
from ..host.test_clocks import NOON, T

CLOCKS = [Clock.fixed(5), Clock.stepped(NOON, 0.25), Clock.virtual(NOON), Clock("virtual", 2**63 - 1)]


@pytest.mark.parametrize("clock", CLOCKS, ids=[clock.kind for clock in CLOCKS[:3]] + ["the end of time"])
def test_a_program_is_told_in_a_worker_what_it_is_told_here(clock: Clock) -> None:
    module, told = compile_guest("clocks"), set()
    for isolation in ("none", "process"):
        with Sandbox(module, preopens={"/d": {}}, isolation=isolation) as sandbox:  # type: ignore[arg-type]
            told.add(sandbox.run(clock=clock, capture_output=True).stdout)
            told.add(asyncio.run(sandbox.run_async(clock=clock, capture_output=True)).stdout)
    assert len(told) == 1


def test_runs_of_one_worker_have_a_clock_of_their_own_each() -> None:
    with Sandbox(compile_guest("clocks"), preopens={"/d": {}}, isolation="process") as sandbox:
        for clock, start in ((Clock.fixed(7), "7"), (Clock.virtual(NOON), str(T)), (Clock.fixed(8), "8")):
            assert sandbox.run(clock=clock, capture_output=True, text=True).stdout.startswith(f"start {start}.")
        told = sandbox.run(capture_output=True, text=True, clock=Clock.fixed(9)).stdout
        assert told.startswith("start 9.")
