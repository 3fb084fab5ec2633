"""The clocks of runs that have a clock of their own, call by call."""

from __future__ import annotations

import os
import pickle
import threading
import time
from typing import Any

import pytest

from vfswasi import Clock, Mount
from vfswasi.abi import constants as c
from vfswasi.clock import LAST_NS
from vfswasi.errors import Errno
from vfswasi.kernel.own_clocks import OwnClocks

from ..rawguest import FREE, RawGuest
from ..semantics.test_poll import poll

S = 10**9
T = 1_769_860_800 * S
REALTIME, MONOTONIC, PROCESS, THREAD = range(4)
NEVER = 2**64 - 1
CLOCKS = [Clock.fixed(T // S), Clock.stepped(T // S, 1), Clock.virtual(T // S)]
KINDS = [clock.kind for clock in CLOCKS]


def look(guest: RawGuest, clock: int) -> int:
    guest.must("clock_time_get", clock, 1, FREE)
    return guest.u64(FREE)


def timer(clock: int, timeout_ns: int, absolute: bool = False, userdata: int = 7) -> tuple[Any, ...]:
    return userdata, "clock", clock, timeout_ns, int(absolute)


def told(events: list[Any]) -> list[int]:
    assert all(event.errno == Errno.SUCCESS for event in events)
    return [event.userdata for event in events]


@pytest.fixture(params=["preview1", "unstable"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# What the four clocks say.


def test_a_fixed_clock_says_the_same_for_ever(version: str) -> None:
    with RawGuest(clock=Clock.fixed(T // S), version=version) as guest:
        for _ in range(3):
            assert [look(guest, clock) for clock in range(4)] == [T, T, 0, 0]
            poll(guest, timer(MONOTONIC, S))


def test_each_look_moves_a_stepped_clock_whichever_clock_is_looked_at(version: str) -> None:
    with RawGuest(clock=Clock.stepped(T // S, 1), version=version) as guest:
        assert [look(guest, clock) for clock in range(4)] == [T, T + S, 2 * S, 3 * S]
        guest.must("clock_res_get", REALTIME, FREE)
        poll(guest, timer(MONOTONIC, 3600 * S))
        assert look(guest, REALTIME) == T + 4 * S


def test_waiting_moves_a_virtual_clock_and_takes_no_time(version: str) -> None:
    with RawGuest(clock=Clock.virtual(T // S), version=version) as guest:
        began = time.monotonic()
        assert [look(guest, clock) for clock in range(4)] == [T, T, 0, 0]
        poll(guest, timer(MONOTONIC, 86400 * S))
        poll(guest, timer(REALTIME, 5))
        assert [look(guest, clock) for clock in range(4)] == [T + 86400 * S + 5] * 2 + [86400 * S + 5] * 2
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("clock", CLOCKS, ids=KINDS)
def test_the_resolution_is_a_nanosecond_and_other_clocks_are_unknown(clock: Clock) -> None:
    with RawGuest(clock=clock) as guest:
        for number in range(4):
            guest.must("clock_res_get", number, FREE)
            assert guest.u64(FREE) == 1
        for number in (4, 2**31, 2**32 - 1):
            assert guest.call("clock_res_get", number, FREE) is Errno.INVAL
            assert guest.call("clock_time_get", number, 0, FREE) is Errno.INVAL


def test_a_look_that_fails_moves_nothing() -> None:
    with RawGuest(clock=Clock.stepped(0, 1)) as guest:
        assert guest.call("clock_time_get", REALTIME, 0, 2**32 - 4) is Errno.FAULT
        assert guest.call("clock_time_get", 9, 0, FREE) is Errno.INVAL
        assert look(guest, REALTIME) == 0


def test_monotonic_time_is_never_0_which_programs_take_for_not_read_yet() -> None:
    with RawGuest(clock=Clock.fixed(0)) as guest:
        assert [look(guest, clock) for clock in range(4)] == [0, 1, 0, 0]


def test_a_clock_stops_at_the_end_of_time() -> None:
    with RawGuest(clock=Clock("stepped", LAST_NS - 1, LAST_NS)) as guest:
        assert [look(guest, REALTIME) for _ in range(3)] == [LAST_NS - 1, LAST_NS, LAST_NS]
        assert look(guest, PROCESS) == 1
    with RawGuest(clock=Clock("virtual", 5)) as guest:
        poll(guest, timer(MONOTONIC, NEVER))
        assert [look(guest, clock) for clock in range(4)] == [LAST_NS, LAST_NS, LAST_NS - 5, LAST_NS - 5]
        poll(guest, timer(MONOTONIC, NEVER), timer(REALTIME, NEVER, True))
        assert look(guest, REALTIME) == LAST_NS


# Waiting.


def test_of_several_times_the_earliest_fires_and_all_that_are_due_are_told() -> None:
    with RawGuest(clock=Clock.virtual(T // S)) as guest:
        events = poll(
            guest,
            timer(MONOTONIC, 3 * S, userdata=1),
            timer(REALTIME, 2 * S, userdata=2),
            timer(REALTIME, T + 2 * S, True, userdata=3),
            timer(MONOTONIC, NEVER, userdata=4),
            timer(MONOTONIC, 2 * S, userdata=5),
        )
        assert told(events) == [2, 3, 5]
        assert look(guest, REALTIME) == T + 2 * S
        assert told(poll(guest, timer(MONOTONIC, S, userdata=1), timer(MONOTONIC, 0, userdata=2))) == [2]
        assert look(guest, REALTIME) == T + 2 * S


@pytest.mark.parametrize("clock", CLOCKS[:2], ids=KINDS[:2])
def test_waits_of_clocks_that_they_do_not_move_are_over_at_once_as_if_the_earliest_time_had_come(clock: Clock) -> None:
    with RawGuest(clock=clock) as guest:
        events = poll(
            guest, timer(MONOTONIC, NEVER, userdata=1), timer(REALTIME, S, userdata=2), timer(MONOTONIC, S, userdata=3)
        )
        assert told(events) == [2, 3]
        assert look(guest, REALTIME) == T


@pytest.mark.parametrize("clock", CLOCKS, ids=KINDS)
@pytest.mark.parametrize("at", [0, 1, T - 1, T], ids=["1970", "then", "before", "now"])
def test_a_time_that_has_passed_moves_nothing(clock: Clock, at: int) -> None:
    with RawGuest(clock=clock) as guest:
        for which in (REALTIME, MONOTONIC):
            assert told(poll(guest, timer(which, at, True))) == [7]
        assert look(guest, REALTIME) == T


def test_an_absolute_time_of_either_clock_is_reached() -> None:
    with RawGuest(clock=Clock.virtual(T // S)) as guest:
        poll(guest, timer(MONOTONIC, T + S, True))
        assert look(guest, MONOTONIC) == T + S
        poll(guest, timer(REALTIME, T + 5 * S, True))
        assert look(guest, MONOTONIC) == T + 5 * S


@pytest.mark.parametrize("clock", CLOCKS, ids=KINDS)
def test_clocks_of_the_processor_cannot_be_waited_for(clock: Clock) -> None:
    with RawGuest(clock=clock) as guest:
        (event,) = poll(guest, timer(PROCESS, 5))
        assert event.errno == Errno.NOTSUP


@pytest.mark.parametrize("clock", CLOCKS, ids=KINDS)
def test_who_waits_for_a_time_and_a_pipe_that_is_empty_finds_the_time_over(clock: Clock) -> None:
    read_end, write_end = os.pipe()
    try:
        with RawGuest(clock=clock, stdin=read_end) as guest:
            assert told(poll(guest, timer(MONOTONIC, 10 * S, userdata=1), (2, "read", 0))) == [1]
            moved = 10 * S if clock.kind == "virtual" else 0
            assert look(guest, REALTIME) == T + moved
            os.write(write_end, b"now")
            assert told(poll(guest, timer(MONOTONIC, 10 * S, userdata=1), (2, "read", 0))) == [2]
            assert told(poll(guest, timer(MONOTONIC, 0, userdata=1), (2, "read", 0))) == [1, 2]
            assert look(guest, REALTIME) == T + moved + clock.step_ns
    finally:
        os.close(read_end)
        os.close(write_end)


def test_who_waits_for_a_pipe_alone_waits_until_somebody_writes() -> None:
    read_end, write_end = os.pipe()
    try:
        with RawGuest(clock=Clock.virtual(T // S), stdin=read_end) as guest:
            later = threading.Timer(0.05, os.write, (write_end, b"now"))
            later.start()
            assert told(poll(guest, (2, "read", 0))) == [2]
            later.join()
            assert look(guest, REALTIME) == T
    finally:
        os.close(read_end)
        os.close(write_end)


# Files.


@pytest.mark.parametrize("mount", [{}, Mount({}, overlay=True), "mem:"], ids=["tree", "overlay", "mem"])
def test_files_are_dated_by_the_clock(mount: Any) -> None:
    mount = mount if isinstance(mount, Mount) or mount == {} else Mount(mount, rw=True)
    with RawGuest({"/d": mount}, clock=Clock.virtual(T // S)) as guest:

        def after(what: str) -> int:
            """Moves the clock on; what time it was."""
            poll(guest, timer(MONOTONIC, S))
            return look(guest, REALTIME) - S

        def times(path: str) -> tuple[int, int, int]:
            found = guest.stat(path, follow=False)
            return found.atim, found.mtim, found.ctim

        fd = guest.create("f", b"abc")
        made = after("creating")
        assert times("f") == (made, made, made)
        assert times(".")[1:] == (made, made)
        guest.write(fd, b"more")
        written = after("writing")
        assert times("f") == (made, written, written)
        guest.must("fd_filestat_set_size", fd, 2)
        cut = after("cutting")
        assert times("f") == (made, cut, cut)
        assert guest.rename("f", "g") is Errno.SUCCESS
        renamed = after("renaming")
        assert times("g") == (made, cut, renamed)
        assert guest.link("g", "h") is Errno.SUCCESS
        linked = after("linking")
        assert times("h") == (made, cut, linked)
        assert guest.unlink("g") is Errno.SUCCESS
        unlinked = after("unlinking")
        assert times("h") == (made, cut, unlinked)
        assert times(".")[1:] == (unlinked, unlinked)
        assert guest.mkdir("dir") is Errno.SUCCESS
        assert guest.symlink("h", "dir/link") is Errno.SUCCESS
        now = after("making")
        assert times("dir") == times("dir/link") == (now, now, now)
        guest.must("fd_filestat_set_times", fd, 5, 6, c.FSTFLAG_ATIM | c.FSTFLAG_MTIM_NOW)
        touched = after("touching")
        assert times("h") == (5, touched, touched)
        guest.must("path_filestat_set_times", 3, 0, *guest.text("h"), 0, 7, c.FSTFLAG_ATIM_NOW | c.FSTFLAG_MTIM)
        touched = after("touching")
        assert times("h") == (touched, 7, touched)


def test_what_was_there_from_the_beginning_has_the_time_at_which_the_run_began() -> None:
    for mount in ({"f": b"old", "dir": {}}, Mount({"f": b"old", "dir": {}}, overlay=True)):
        with RawGuest({"/d": mount}, clock=Clock.virtual(T // S)) as guest:
            poll(guest, timer(MONOTONIC, S))
            for path in (".", "f", "dir"):
                found = guest.stat(path)
                assert (found.atim, found.mtim, found.ctim) == (T, T, T)


def test_to_date_a_file_is_no_look() -> None:
    with RawGuest({"/d": {}}, clock=Clock.stepped(T // S, 1)) as guest:
        fd = guest.create("f", b"abc")
        guest.must("fd_filestat_set_times", fd, 0, 0, c.FSTFLAG_ATIM_NOW | c.FSTFLAG_MTIM_NOW)
        assert guest.stat("f").mtim == T
        assert look(guest, REALTIME) == T
        guest.write(fd, b"d")
        assert guest.stat("f").mtim == T + S


@pytest.mark.parametrize("mount", [{}, Mount({}, overlay=True)], ids=["tree", "overlay"])
@pytest.mark.parametrize("t", [0, 1e-9, T // S], ids=["1970", "just then", "2026"])
def test_what_changes_within_one_instant_is_seen_all_the_same(mount: Any, t: float) -> None:
    """Stores know by their times that something has changed; here they are the same for ever."""
    with RawGuest({"/d": mount}, clock=Clock.fixed(t)) as guest:
        fd = guest.create("f")
        sizes = []
        for _ in range(3):
            sizes.append((guest.stat("f").size, guest.fstat(fd).size))
            guest.write(fd, b"x")
        assert sizes == [(0, 0), (1, 1), (2, 2)]
        guest.must("fd_filestat_set_times", fd, 5, 6, c.FSTFLAG_ATIM | c.FSTFLAG_MTIM)
        assert (guest.stat("f").mtim, guest.fstat(fd).atim) == (6, 5)
        assert guest.link("f", "g") is Errno.SUCCESS
        assert (guest.stat("f").nlink, guest.fstat(fd).nlink) == (2, 2)


def test_a_file_without_a_name_that_a_store_cannot_keep_is_dated_by_the_clock() -> None:
    from vfswasi.fs_backends.base import Caps
    from vfswasi.fs_backends.memory.backend import MemoryBackend

    class Forgetful(MemoryBackend):
        caps = MemoryBackend.caps & ~Caps.HANDLE_SURVIVES_UNLINK

    with RawGuest({"/d": Mount(Forgetful(), rw=True)}, clock=Clock.virtual(T // S)) as guest:
        fd = guest.create("f", b"abc")
        assert guest.unlink("f") is Errno.SUCCESS
        guest.write(fd, b"more")
        assert guest.fstat(fd).mtim == T


def test_the_times_of_stores_that_are_somebody_elses_are_those_of_this_machine() -> None:
    from vfswasi.fs_backends.memory.backend import MemoryBackend

    before = time.time_ns()
    with RawGuest({"/d": Mount(MemoryBackend(), rw=True)}, clock=Clock.fixed(0)) as guest:
        guest.create("f", b"abc")
        assert guest.stat("f").mtim >= before


# The value itself.


def test_a_copy_goes_on_by_itself() -> None:
    clocks = OwnClocks(Clock.stepped(0, 1))
    clocks.now(REALTIME)
    copy = clocks.copy()
    assert [copy.now(REALTIME) for _ in range(2)] == [S, 2 * S]
    assert clocks.now(REALTIME) == S
    assert copy.used_ns() == 3 * S


def test_what_others_move_is_what_it_says() -> None:
    clocks = OwnClocks(Clock.stepped(1, 1))
    words = [99, 99, 99]
    clocks.move_to(words, 1)
    assert words == [99, S, 99]
    words[1] = 5 * S
    assert (clocks.now(REALTIME), clocks.now(MONOTONIC), words[1]) == (5 * S, 6 * S, 7 * S)
    clocks.come_back()
    words[1] = 0
    assert clocks.now(REALTIME) == 7 * S


@pytest.mark.parametrize("t", [0, 5, 255, 256, 257, 2**40, LAST_NS])
def test_no_two_times_are_the_same_object(t: int) -> None:
    clocks = OwnClocks(Clock("fixed", t))
    one, other = clocks.now_ns(), clocks.now_ns()
    assert one == other == t
    assert one is not other
    assert type(pickle.loads(pickle.dumps(one))) is int
