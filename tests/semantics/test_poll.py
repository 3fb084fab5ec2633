"""poll_oneoff. Times are checked as lower bounds only; a wait that does not end is interrupted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..rawguest import FREE, PollEvent, RawGuest, pack_subscriptions, unpack_events

NAP_NS = 30_000_000
HOUR_NS = 3_600_000_000_000
HANGS_AFTER_S = 20.0
_OUT, _COUNT = FREE + 0x4000, FREE + 0x8000
READ, WRITE, CLOCK = c.EVENTTYPE_FD_READ, c.EVENTTYPE_FD_WRITE, c.EVENTTYPE_CLOCK


def poll_errno(guest: RawGuest, *subscriptions: tuple[Any, ...]) -> Errno:
    guest.poke(FREE, pack_subscriptions(guest.abi, subscriptions))
    guest.poke(_OUT, b"\xaa" * 32 * (len(subscriptions) + 1))
    watchdog = threading.Timer(HANGS_AFTER_S, guest.wasi.interrupt)
    watchdog.start()
    try:
        return guest.call("poll_oneoff", FREE, _OUT, len(subscriptions), _COUNT)
    finally:
        watchdog.cancel()
        watchdog.join()


def poll(guest: RawGuest, *subscriptions: tuple[Any, ...]) -> list[PollEvent]:
    assert poll_errno(guest, *subscriptions) is Errno.SUCCESS
    count = guest.u32(_COUNT)
    assert 1 <= count <= len(subscriptions)
    assert guest.peek(_OUT + 32 * count, 32) == b"\xaa" * 32, "nothing is written behind the last event"
    return unpack_events(guest.peek(_OUT, 32 * count))


class Pipe:
    """A pipe of the operating system. Ends that the test has closed are None."""

    def __init__(self) -> None:
        ends = os.pipe()
        self.read_end: int = ends[0]
        self.write_end: int = ends[1]
        self._open = set(ends)

    def close(self, end: int) -> None:
        if end in self._open:
            self._open.remove(end)
            os.close(end)

    def close_all(self) -> None:
        for end in list(self._open):
            self.close(end)


def fill(pipe: Pipe) -> None:
    """Write until the pipe takes no more."""
    os.set_blocking(pipe.write_end, False)
    try:
        while True:
            os.write(pipe.write_end, bytes(4096))
    except BlockingIOError:
        os.set_blocking(pipe.write_end, True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close_all()


@pytest.fixture
def reader(pipe: Pipe) -> Iterator[RawGuest]:
    """A guest whose standard input is the pipe."""
    with RawGuest(stdin=pipe.read_end) as guest:
        yield guest


@pytest.fixture
def writer(pipe: Pipe) -> Iterator[RawGuest]:
    """A guest whose standard output is the pipe."""
    with RawGuest(stdout=pipe.write_end) as guest:
        yield guest


def test_no_subscription_is_inval(guest: RawGuest) -> None:
    assert poll_errno(guest) is Errno.INVAL


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("fd", [99, 0xFFFFFFFF])
def test_a_bad_descriptor_fails_the_call(guest: RawGuest, kind: str, fd: int) -> None:
    ready = (1, "read", guest.create("f", b"x"))
    clock = (2, "clock", c.CLOCK_MONOTONIC, 0, 0)
    for subscriptions in (
        [(3, kind, fd)],
        [ready, (3, kind, fd)],
        [(3, kind, fd), ready],
        [clock, (3, kind, fd)],
    ):
        guest.poke(_COUNT, b"\xaa\xaa\xaa\xaa")
        assert poll_errno(guest, *subscriptions) is Errno.BADF
        assert guest.peek(_OUT, 32) == b"\xaa" * 32
        assert guest.peek(_COUNT, 4) == b"\xaa\xaa\xaa\xaa"


@pytest.mark.parametrize("clock", [c.CLOCK_REALTIME, c.CLOCK_MONOTONIC])
def test_a_relative_timeout_sleeps_at_least_that_long(guest: RawGuest, clock: int) -> None:
    before = time.monotonic_ns()
    assert poll(guest, (7, "clock", clock, NAP_NS, 0)) == [PollEvent(7, 0, CLOCK, 0, 0)]
    assert time.monotonic_ns() - before >= NAP_NS


@pytest.mark.parametrize("clock", [c.CLOCK_REALTIME, c.CLOCK_MONOTONIC])
def test_an_absolute_timeout_sleeps_until_then(guest: RawGuest, clock: int) -> None:
    guest.must("clock_time_get", clock, 0, FREE)
    wake = guest.u64(FREE) + NAP_NS
    events = poll(guest, (7, "clock", clock, wake, c.SUBCLOCKFLAG_ABSTIME))
    assert events == [PollEvent(7, 0, CLOCK, 0, 0)]
    guest.must("clock_time_get", clock, 0, FREE)
    assert guest.u64(FREE) >= wake


@pytest.mark.parametrize("clock", [c.CLOCK_REALTIME, c.CLOCK_MONOTONIC])
@pytest.mark.parametrize("time_ns", [0, 1])
def test_an_absolute_time_in_the_past_has_come(guest: RawGuest, clock: int, time_ns: int) -> None:
    events = poll(guest, (7, "clock", clock, time_ns, c.SUBCLOCKFLAG_ABSTIME))
    assert events == [PollEvent(7, 0, CLOCK, 0, 0)]


def test_the_earliest_clock_ends_the_wait_and_only_it_is_reported(guest: RawGuest) -> None:
    hour = (1, "clock", c.CLOCK_MONOTONIC, HOUR_NS, 0)
    never = (2, "clock", c.CLOCK_REALTIME, 2**64 - 1, c.SUBCLOCKFLAG_ABSTIME)
    nap = (3, "clock", c.CLOCK_REALTIME, NAP_NS, 0)
    assert poll(guest, hour, never, nap) == [PollEvent(3, 0, CLOCK, 0, 0)]


@pytest.mark.parametrize("clock", [c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME])
def test_a_cpu_clock_cannot_be_waited_for_and_its_event_says_so(guest: RawGuest, clock: int) -> None:
    assert poll(guest, (7, "clock", clock, HOUR_NS, 0)) == [PollEvent(7, Errno.NOTSUP, CLOCK, 0, 0)]


def test_regular_files_are_always_ready(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    hour = (0, "clock", c.CLOCK_MONOTONIC, HOUR_NS, 0)
    assert poll(guest, hour, (8, "write", file)) == [PollEvent(8, 0, WRITE, 0, 0)]
    for position, left in ((0, 7), (3, 4), (7, 0), (100, 0)):
        guest.seek(file, position)
        assert poll(guest, hour, (9, "read", file)) == [PollEvent(9, 0, READ, left, 0)]


def test_a_file_of_the_host_as_standard_input_is_always_ready(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    with open(tmp_path / "f", "rb") as file, RawGuest(stdin=file) as guest:
        for _ in range(2):
            (event,) = poll(guest, (1, "clock", c.CLOCK_MONOTONIC, HOUR_NS, 0), (2, "read", 0))
            assert event._replace(nbytes=0) == PollEvent(2, 0, READ, 0, 0)
            guest.read(0, 100)


@pytest.mark.parametrize("clock_first", [True, False])
def test_a_zero_timeout_with_ready_standard_input_reports_both(reader: RawGuest, pipe: Pipe, clock_first: bool) -> None:
    os.write(pipe.write_end, b"abc")
    clock = (1, "clock", c.CLOCK_MONOTONIC, 0, 0)
    stdin = (2, "read", 0)
    events = [PollEvent(1, 0, CLOCK, 0, 0), PollEvent(2, 0, READ, 3, 0)]
    if clock_first:
        assert poll(reader, clock, stdin) == events
    else:
        assert poll(reader, stdin, clock) == events[::-1]


def test_a_zero_timeout_with_bytes_as_standard_input_reports_both() -> None:
    with RawGuest(stdin=b"abc") as guest:
        events = poll(guest, (1, "clock", c.CLOCK_MONOTONIC, 0, 0), (2, "read", 0))
        assert events == [PollEvent(1, 0, CLOCK, 0, 0), PollEvent(2, 0, READ, 3, 0)]


def test_a_zero_timeout_with_an_empty_pipe_reports_the_clock_alone(reader: RawGuest) -> None:
    events = poll(reader, (2, "read", 0), (1, "clock", c.CLOCK_MONOTONIC, 0, 0))
    assert events == [PollEvent(1, 0, CLOCK, 0, 0)]


def test_a_timeout_on_an_empty_pipe_sleeps_at_least_that_long(reader: RawGuest) -> None:
    before = time.monotonic_ns()
    events = poll(reader, (2, "read", 0), (1, "clock", c.CLOCK_MONOTONIC, NAP_NS, 0))
    assert events == [PollEvent(1, 0, CLOCK, 0, 0)]
    assert time.monotonic_ns() - before >= NAP_NS


def test_a_wait_ends_when_bytes_arrive_and_they_are_still_there_to_read(reader: RawGuest, pipe: Pipe) -> None:
    late = threading.Timer(NAP_NS / 1e9, os.write, (pipe.write_end, b"late"))
    late.start()
    events = poll(reader, (1, "clock", c.CLOCK_MONOTONIC, HOUR_NS, 0), (2, "read", 0))
    late.join()
    assert events == [PollEvent(2, 0, READ, 4, 0)]
    assert reader.read(0, 100) == b"late"


def test_the_end_of_input_on_a_pipe_is_a_read_event_with_the_hang_up_flag(reader: RawGuest, pipe: Pipe) -> None:
    os.write(pipe.write_end, b"rest")
    pipe.close(pipe.write_end)
    assert poll(reader, (5, "read", 0)) == [PollEvent(5, 0, READ, 4, c.EVENTRWFLAG_HANGUP)]
    assert reader.read(0, 100) == b"rest"
    assert poll(reader, (5, "read", 0)) == [PollEvent(5, 0, READ, 0, c.EVENTRWFLAG_HANGUP)]
    assert reader.read(0, 100) == b""


def test_a_pipe_that_takes_bytes_is_a_write_event_and_a_full_one_is_not(writer: RawGuest, pipe: Pipe) -> None:
    clock = (1, "clock", c.CLOCK_MONOTONIC, 0, 0)
    assert PollEvent(2, 0, WRITE, 0, 0) in poll(writer, (2, "write", 1), clock)
    fill(pipe)
    assert poll(writer, (2, "write", 1), clock) == [PollEvent(1, 0, CLOCK, 0, 0)]


def test_a_pipe_that_nobody_reads_is_a_write_event_with_the_hang_up_flag(writer: RawGuest, pipe: Pipe) -> None:
    pipe.close(pipe.read_end)
    assert poll(writer, (2, "write", 1)) == [PollEvent(2, 0, WRITE, 0, c.EVENTRWFLAG_HANGUP)]


@pytest.mark.parametrize("userdata", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_userdata_type_and_error_are_echoed(guest: RawGuest, userdata: int) -> None:
    file = guest.create("f", b"content")
    reads_only = guest.open("f")
    events = poll(
        guest,
        (userdata, "read", file),
        (userdata, "write", reads_only),
        (userdata, "write", 0),
        (userdata, "clock", c.CLOCK_REALTIME, 0, 0),
    )
    assert [event._replace(nbytes=0) for event in events] == [
        PollEvent(userdata, Errno.SUCCESS, READ, 0, 0),
        PollEvent(userdata, Errno.NOTCAPABLE, WRITE, 0, 0),
        PollEvent(userdata, Errno.BADF, WRITE, 0, 0),
        PollEvent(userdata, Errno.SUCCESS, CLOCK, 0, 0),
    ]


def test_one_descriptor_in_several_subscriptions_is_reported_in_each(reader: RawGuest, pipe: Pipe) -> None:
    os.write(pipe.write_end, b"abc")
    events = poll(reader, (1, "read", 0), (2, "read", 0))
    assert events == [PollEvent(1, 0, READ, 3, 0), PollEvent(2, 0, READ, 3, 0)]


def test_polling_neither_reads_nor_moves(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.seek(file, 2)
    poll(guest, (1, "read", file), (2, "write", file))
    assert guest.tell(file) == 2
    assert guest.contents("f") == b"content"


def test_a_wait_ends_when_the_host_interrupts_the_guest(pipe: Pipe) -> None:
    with RawGuest(stdin=pipe.read_end) as guest:
        guest.poke(FREE, pack_subscriptions(guest.abi, [(1, "read", 0)]))
        timer = threading.Timer(NAP_NS / 1e9, guest.wasi.interrupt)
        timer.start()
        with pytest.raises(vfswasi.HostCallError, match="interrupted"):
            guest.call("poll_oneoff", FREE, _OUT, 1, _COUNT)
        timer.join()
