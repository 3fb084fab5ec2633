"""A clock of the run's own, read without Python: one sequence, whoever answers."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

import vfswasi
from vfswasi import Clock
from vfswasi.abi import constants as c
from vfswasi.clock import LAST_NS
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend

from . import guests
from .test_clocks import OTHER, POLL, READ, RESOLUTION, SIZE, TOLD, VERSIONS, WARM, Driver, Steps, drive, warm_up

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="compares the fast path with Python")

S = 10**9
T = 1_769_860_800 * S
CLOCKS = {
    "fixed": Clock("fixed", T),
    "fixed at 0": Clock("fixed", 0),
    "stepped": Clock("stepped", T, 7),
    "stepped from 0": Clock("stepped", 0, 1),
    "stepped by nothing": Clock("stepped", T, 0),
    "stepped to the end": Clock("stepped", LAST_NS - 50 * 2**55, 2**55),
    "stepped by all there is": Clock("stepped", 0, LAST_NS),
    "virtual": Clock("virtual", T),
    "virtual at 0": Clock("virtual", 0),
}
EDGE = (SIZE - 8, SIZE - 7, SIZE - 1, SIZE, 2**31, 2**32 - 8, 2**32 - 7, 2**32 - 1)
EMPTY = b'(module (memory (export "memory") 1) (func (export "_start")))'


def told(clock: Clock, seed: int, vdso: bool, version: str = "preview1") -> tuple[list[Any], int]:
    """What a guest sees that does this and that with its clocks, and how often Python was not asked."""
    pick, seen = random.Random(seed), list[Any]()
    store = MemoryBackend({"f": b"x"})

    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for _ in range(400):
            what = pick.choices((READ, RESOLUTION, POLL, 0), (12, 1, 2, 0.3))[0]
            pointer = TOLD if pick.random() < 0.9 else pick.choice(EDGE)
            number = pick.choice((0, 0, 1, 1, 2, 3, 4, 2**32 - 1))
            driver.memory.write(TOLD, b"\xaa" * 8)
            if what == POLL:
                timeout = pick.choice((0, 1, 5 * S, 2**62, 2**63, 2**64 - 1, T + S))
                absolute, of = pick.random() < 0.4, pick.choice((0, 1))
                if version == "preview1":
                    body = struct.pack("<QB7xI4xQQH6x", 7, 0, of, timeout, 0, absolute)
                else:
                    body = struct.pack("<QB7xQI4xQQH6x", 7, 0, 0, of, timeout, 0, absolute)
                driver.memory.write(0x400, body)
            if what == 0:  # from now on Python is asked, once; later looks are answered here again or not
                vfswasi.run(EMPTY, preopens={"/d": store})
                continue
            yield what, number, pointer
            seen.append((what, number, pointer, driver.errno, driver.u64(TOLD)))

    result = drive(steps, version, vdso=vdso, clock=clock, preopens={"/d": store})
    return seen, result.fast_calls.get("clock_time_get", 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", CLOCKS)
@pytest.mark.parametrize("seed", range(3))
def test_the_sequence_is_the_same_with_and_without_the_fast_path(kind: str, version: str, seed: int) -> None:
    with_it, answered = told(CLOCKS[kind], seed, True, version)
    without, none = told(CLOCKS[kind], seed, False, version)
    assert with_it == without
    assert answered > 50
    assert none == 0
    assert {errno for *_, errno, _ in with_it} == {Errno.SUCCESS, Errno.FAULT, Errno.INVAL}


@pytest.mark.parametrize("kind", CLOCKS)
def test_a_clock_of_the_runs_own_is_read_without_python_after_a_few_calls(kind: str) -> None:
    def steps(_: Driver) -> Steps:
        yield from warm_up()
        for clock in (c.CLOCK_REALTIME, c.CLOCK_MONOTONIC):
            for _ in range(100):
                yield READ, clock, TOLD
                yield RESOLUTION, clock, TOLD

    calls = drive(steps, clock=CLOCKS[kind]).fast_calls
    assert calls["clock_time_get"] >= 200
    assert calls["clock_res_get"] == 200


def test_looks_at_the_clocks_of_the_processor_step_it_too_and_python_answers_them() -> None:
    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for number in range(50):
            yield READ, c.CLOCK_REALTIME, TOLD
            assert driver.u64(TOLD) == (WARM + 2 * number) * S
            yield READ, c.CLOCK_PROCESS_CPUTIME, OTHER
            assert driver.u64(OTHER) == (WARM + 2 * number + 1) * S

    assert 40 <= drive(steps, clock=Clock.stepped(0, 1)).fast_calls["clock_time_get"] <= 50 + WARM


@pytest.mark.parametrize("kind", ["stepped", "virtual", "fixed"])
def test_a_bad_pointer_moves_nothing_and_writes_nothing(kind: str) -> None:
    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for pointer in EDGE[1:]:
            yield READ, c.CLOCK_REALTIME, TOLD
            before = driver.u64(TOLD)
            driver.memory.write(8, bytes(SIZE - 8))
            yield READ, c.CLOCK_REALTIME, pointer
            assert driver.errno is Errno.FAULT
            assert not any(driver.memory.read(8, SIZE - 8))
            yield READ, c.CLOCK_REALTIME, TOLD
            assert driver.u64(TOLD) - before == CLOCKS[kind].step_ns

    assert drive(steps, clock=CLOCKS[kind]).fast_calls["clock_time_get"] > 0


def test_the_result_may_lie_at_the_very_end_of_memory_and_nowhere_is_more_written_than_8_bytes() -> None:
    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for pointer in (SIZE - 8, 0x800, 0x801, 0x807):
            driver.memory.write(8, b"\xaa" * (SIZE - 8))
            yield READ, c.CLOCK_REALTIME, pointer
            assert driver.errno is Errno.SUCCESS
            assert driver.u64(pointer) == T
            assert driver.memory.read(8, SIZE - 8).count(b"\xaa") == SIZE - 16

    drive(steps, clock=Clock("fixed", T))


@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("clock", [Clock.stepped(0, 1), Clock.virtual(5)], ids=["stepped", "virtual"])
def test_a_file_has_the_time_at_which_it_was_written_however_the_clock_was_moved(vdso: bool, clock: Clock) -> None:
    """What is written is not kept until after the guest has looked at a clock that moves by it."""
    more = """
     (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
     (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fstat (param i32 i32) (result i32)))"""
    look = "(call $must (call $clock (i32.const 0) (i64.const 0) (i32.const 2048)))"
    modified = "(call $must (call $fstat (i32.const 4) (i32.const 4096))) (i64.load (i32.const 4144))"
    statements = guests.repeated(
        200,
        f"{look} {guests.WRITE} {look} "
        f"(if (i64.ne (block (result i64) {modified}) (i64.load (i32.const 2048)))"
        " (then (call $proc_exit (i32.const 9))))",
    )
    module = guests.module(guests.opening(c.OFLAG_CREAT, guests._FILE) + statements, more)
    result = vfswasi.run(module, preopens={"/d": {}}, clock=clock, vdso=vdso, check=True)
    assert (result.fast_calls.get("clock_time_get", 0) > 100) is vdso


def test_a_store_that_the_run_made_does_not_look_for_the_time_in_memory_that_has_gone() -> None:
    """The last files are closed when the fast path has ended."""
    module = guests.writer(200)
    for _ in range(20):
        result = vfswasi.run(module, preopens={"/d": {}}, clock=Clock.virtual(5), check=True)
        (tree,) = result._trees.values()
        assert tree.stat(("f",)).mtim_ns == 5 * S
        tree.write_bytes("later", b"x")
        assert tree.stat(("later",)).mtim_ns == 5 * S
