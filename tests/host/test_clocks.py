"""`clock=` on every way to run, with a C program that says what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import PIPE, Clock, Mount, Sandbox
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..guest_programs import compile_guest

NOON = "2026-01-31T12:00:00Z"
T = 1_769_860_800
S = 10**9

VIRTUAL = f"""\
start {T}.000000000 {T}.000000000
/d/made {T}.000000000 {T}.000000000 {T}.000000000
/d {T}.000000000 {T}.000000000 {T}.000000000
slept {T + 3600}.000000005 {T + 3600}.000000005
ready 0
polled {T + 3601}.500000005 {T + 3601}.500000005
/d/made {T}.000000000 {T + 3601}.500000005 {T + 3601}.500000005
/d/made 7.000000000 {T + 3601}.500000005 {T + 3601}.500000005
/d/dir/moved 7.000000000 {T + 3601}.500000005 {T + 3601}.500000005
/d/dir {T + 3601}.500000005 {T + 3601}.500000005 {T + 3601}.500000005
/d/dir/hard 7.000000000 {T + 3601}.500000005 {T + 3601}.500000005
resolution 0.000000001
"""
WAYS: dict[str, Callable[..., Any]] = {
    "run": lambda module, **options: vfswasi.run(module, **options),
    "run_async": lambda module, **options: asyncio.run(vfswasi.run_async(module, **options)),
    "Sandbox.run": lambda module, preopens, **options: Sandbox(module, preopens=preopens).run(**options),
    "Sandbox.start": lambda module, preopens, **options: _started(Sandbox(module, preopens=preopens), options),
    "Sandbox.run_async": lambda module, preopens, **options: asyncio.run(
        Sandbox(module, preopens=preopens).run_async(**options)
    ),
    "Sandbox.start_async": lambda module, preopens, **options: asyncio.run(
        _begun(Sandbox(module, preopens=preopens), options)
    ),
    "own preopens": lambda module, preopens, **options: Sandbox(module).run(preopens=preopens, **options),
    "process": lambda module, **options: vfswasi.run(module, isolation="process", **options),
}


def _started(sandbox: Sandbox, options: dict[str, Any]) -> vfswasi.Result[Any]:
    options.pop("capture_output")
    run = sandbox.start(stdout=PIPE, stderr=PIPE, **options)
    return run.result()


async def _begun(sandbox: Sandbox, options: dict[str, Any]) -> vfswasi.Result[Any]:
    options.pop("capture_output")
    async with sandbox.start_async(stdout=PIPE, stderr=PIPE, **options) as run:
        return await run.result()


def said(way: str = "run", *, mount: Any = None, clock: Clock | None, **options: Any) -> vfswasi.Result[str]:
    preopens = {"/d": {} if mount is None else mount}
    with _nobody_writes() as stdin:
        return WAYS[way](  # type: ignore[no-any-return]
            compile_guest("clocks"),
            preopens=preopens,
            clock=clock,
            stdin=stdin,
            capture_output=True,
            text=True,
            **options,
        )


@contextlib.contextmanager
def _nobody_writes() -> Iterator[int]:
    """A pipe that stays empty and open."""
    ends = os.pipe()
    try:
        yield ends[0]
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_run_takes_a_clock(way: str) -> None:
    began = time.monotonic()
    assert said(way, clock=Clock.virtual(NOON)).stdout == VIRTUAL
    assert time.monotonic() - began < 600, "the guest slept for an hour of its own"


@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("mount", [{}, Mount({}, overlay=True), "mem:"], ids=["tree", "overlay", "mem"])
def test_stores_that_the_run_made_have_its_times(vdso: bool, mount: Any) -> None:
    mount = Mount(mount, rw=True) if mount == "mem:" else mount
    assert said(mount=mount, clock=Clock.virtual(NOON), vdso=vdso).stdout == VIRTUAL


def test_what_is_written_over_somebody_elses_store_has_the_times_of_the_run() -> None:
    mount = Mount(MemoryBackend({"old": b"x"}), overlay=True, rw=None)
    lines = said(mount=mount, clock=Clock.virtual(NOON)).stdout.splitlines()
    expected = VIRTUAL.splitlines()
    assert [line for line in lines if not line.startswith("/d ")] == [e for e in expected if not e.startswith("/d ")]


@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
def test_a_fixed_clock_stands_still(vdso: bool) -> None:
    told = said(clock=Clock.fixed(5), vdso=vdso).stdout
    assert told == (
        "start 5.000000000 5.000000000\n"
        "/d/made 5.000000000 5.000000000 5.000000000\n"
        "/d 5.000000000 5.000000000 5.000000000\n"
        "slept 5.000000000 5.000000000\n"
        "ready 0\n"
        "polled 5.000000000 5.000000000\n"
        "/d/made 5.000000000 5.000000000 5.000000000\n"
        "/d/made 7.000000000 5.000000000 5.000000000\n"
        "/d/dir/moved 7.000000000 5.000000000 5.000000000\n"
        "/d/dir 5.000000000 5.000000000 5.000000000\n"
        "/d/dir/hard 7.000000000 5.000000000 5.000000000\n"
        "resolution 0.000000001\n"
    )


@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
def test_looks_move_a_stepped_clock(vdso: bool) -> None:
    told = said(clock=Clock.stepped(100, 1), vdso=vdso).stdout.splitlines()
    assert told[0] == "start 100.000000000 101.000000000"
    assert told[1] == "/d/made 102.000000000 102.000000000 102.000000000"
    assert told[3] == "slept 102.000000000 103.000000000"
    assert told[5] == "polled 104.000000000 105.000000000"


def test_a_busy_program_gets_on_with_a_stepped_clock() -> None:
    result = vfswasi.run(compile_guest("clocks"), ["until"], clock=Clock.stepped(0, 0.01), capture_output=True)
    assert result.stdout == b"a minute later\n"


@pytest.mark.parametrize("clock", [Clock.fixed(0), Clock.virtual(0)], ids=["fixed", "virtual"])
@pytest.mark.parametrize("word", ["until", "sleep"])
@pytest.mark.parametrize("vdso", [True, False], ids=["fast", "plain"])
def test_the_deadline_of_the_run_counts_real_time(clock: Clock, word: str, vdso: bool) -> None:
    """Whether it looks for ever at a clock that stands still, or sleeps for ever in no time."""
    began = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(compile_guest("clocks"), [word], clock=clock, timeout=0.3, vdso=vdso)
    assert time.monotonic() - began >= 0.3


def test_a_guest_that_sleeps_in_no_time_is_killed_like_any_other() -> None:
    with Sandbox(compile_guest("clocks")) as sandbox:
        run = sandbox.start(["sleep"], clock=Clock.virtual(0))
        time.sleep(0.05)
        run.kill()
        assert run.wait() == -9


def test_other_threads_go_on_while_a_guest_sleeps_in_no_time() -> None:
    with Sandbox(compile_guest("clocks")) as sandbox:
        runs = [sandbox.start(["sleep"], clock=Clock.virtual(0)) for _ in range(2)]
        try:
            for _ in range(3):
                assert said(clock=Clock.virtual(NOON), mount={}).stdout == VIRTUAL
        finally:
            for run in runs:
                run.kill()


def test_a_pipe_that_nobody_writes_to_holds_nobody_up_who_waits_for_a_time_too() -> None:
    with Sandbox(compile_guest("clocks"), preopens={"/d": {}}) as sandbox:
        run = sandbox.start(stdin=PIPE, stdout=PIPE, text=True, clock=Clock.virtual(NOON), timeout=300)
        assert run.stdout is not None
        assert run.stdout.read() == VIRTUAL
        assert run.result().returncode == 0


def test_runs_begin_with_the_clock_as_it_is_written_whatever_others_do() -> None:
    clock = Clock.stepped(100, 1)
    with Sandbox(compile_guest("clocks"), preopens={"/d": {}}) as sandbox:
        told: list[str] = []

        def run() -> None:
            told.append(sandbox.run(clock=clock, capture_output=True, text=True).stdout)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(told)) == 1


def test_the_systems_clock_is_the_default() -> None:
    for options in ({}, {"clock": None}, {"clock": Clock.system()}):
        before = time.time()
        options = {"env": None, **options}
        result = vfswasi.run(
            b"""(module (import "wasi_snapshot_preview1" "clock_time_get"
                 (func $t (param i32 i64 i32) (result i32)))
               (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
               (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\08\\00\\00\\00")
               (func (export "_start") (drop (call $t (i32.const 0) (i64.const 0) (i32.const 16)))
                (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))""",
            capture_output=True,
            **options,  # type: ignore[arg-type]
        )
        assert before <= int.from_bytes(result.stdout, "little") / S <= time.time()


# What is found out by times, though they stand still.


def test_changes_are_found_where_every_time_is_the_same() -> None:
    from ..fast_path import guests

    module = guests.module(guests.opening(0, guests._FILE) + guests.WRITE + guests.WRITE)
    looks = guests.module(guests.opening(0, guests._FILE))
    before = b"0123456789ABCDEF" * 2
    for clock in (Clock.fixed(0), Clock.fixed(NOON), Clock.virtual(0)):
        result = vfswasi.run(module, preopens={"/d": {"f": before}}, clock=clock, check=True)
        assert [(change.kind, change.path) for change in result.changes["/d"]] == [("modified", "f")]
        assert list(vfswasi.run(looks, preopens={"/d": {"f": before}}, clock=clock, check=True).changes["/d"]) == []


def test_what_a_run_left_is_saved_with_its_times(tmp_path: Path) -> None:
    written = (T + 3601) * S + 500_000_005
    changes = said(mount=Mount({}, overlay=True), clock=Clock.virtual(NOON)).changes["/d"]
    assert {entry.mtim_ns for entry in changes.entries} == {written}
    said(clock=Clock.virtual(NOON)).save(tmp_path / "out")
    assert next((tmp_path / "out").rglob("moved")).stat().st_mtime_ns == written


# Sessions.

REACTOR = b"""(module
 (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
 (memory (export "memory") 1)
 (data (i32.const 100) "abcdefgh")
 (func (export "_initialize"))
 (func (export "now") (param i32) (result i64)
  (drop (call $time (local.get 0) (i64.const 0) (i32.const 0))) (i64.load (i32.const 0)))
 (func (export "looks") (param i32) (loop (drop (call $time (i32.const 0) (i64.const 0) (i32.const 0)))
  (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
 (func (export "sleep") (param i64) (result i32)
  (i32.store (i32.const 216) (i32.const 1)) (i64.store (i32.const 224) (local.get 0))
  (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400)))
 (func (export "mkdir") (param i32) (result i32)
  (call $mkdir (i32.const 3) (i32.add (i32.const 100) (local.get 0)) (i32.const 1))))"""


def made(session: vfswasi.Session, number: int) -> int:
    assert session.call("mkdir", number) == 0
    found = session._parts.preopens[0].backend.stat(("abcdefgh"[number],))
    assert found.mtim_ns is not None
    return found.mtim_ns


@pytest.mark.parametrize("looks", [1, 200], ids=["python", "published"])
def test_a_fork_and_a_snapshot_have_the_clock_as_it_is_and_go_on_by_themselves(looks: int) -> None:
    with Sandbox(REACTOR, preopens={"/d": {}}) as sandbox, sandbox.session(clock=Clock.stepped(0, 1)) as session:
        session.call("looks", looks)
        assert made(session, 0) == looks * S
        with session.fork() as fork, session.snapshot() as snapshot:
            assert [fork.call("now", 0) for _ in range(2)] == [looks * S, (looks + 1) * S]
            assert made(fork, 1) == (looks + 2) * S
            assert session.call("now", 0) == looks * S
            session.call("looks", 1000)
            with snapshot.session() as copy, snapshot.session() as other:
                assert copy.call("now", 0) == looks * S
                assert made(copy, 2) == (looks + 1) * S
                copy.call("looks", 500)
                assert other.call("now", 0) == looks * S
                assert made(other, 3) == (looks + 1) * S
            assert made(session, 4) == (looks + 1001) * S


def test_a_session_sleeps_in_no_time_and_its_time_between_calls_stands_still() -> None:
    with Sandbox(REACTOR) as sandbox, sandbox.session(clock=Clock.virtual(NOON)) as session:
        assert session.call("sleep", 3600 * S) == 0
        time.sleep(0.02)
        assert session.call("now", 0) == session.call("now", 1) == (T + 3600) * S
        assert session.call("now", 2) == 3600 * S


def test_a_snapshot_of_a_sandbox_keeps_what_was_slept_before_it_was_taken() -> None:
    with Sandbox(REACTOR) as sandbox, sandbox.snapshot(after=("sleep", 5 * S), clock=Clock.virtual(0)) as snapshot:
        for _ in range(2):
            with snapshot.session() as session:
                assert session.call("now", 0) == 5 * S
                session.call("sleep", S)


def test_a_session_without_a_clock_has_the_systems_and_so_have_its_copies() -> None:
    with Sandbox(REACTOR, preopens={"/d": {}}) as sandbox, sandbox.session() as session, session.fork() as fork:
        for each in (session, fork):
            before = time.time_ns()
            assert before <= each.call("now", 0) <= made(each, 0) <= time.time_ns()
