"""args, environ, random, clocks."""

from __future__ import annotations

import struct
import time

import pytest

from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.kernel.process import Process
from vfswasi.limits import Limits
from vfswasi.syscalls.memory import GuestMemory
from vfswasi.syscalls.preview1 import environment

from ..rawguest import FREE, SIZE, RawGuest

CLOCKS = [c.CLOCK_REALTIME, c.CLOCK_MONOTONIC, c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME]
CPU_CLOCKS = [c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME]

STRINGS = [
    [],
    ["program"],
    [""],
    ["", "", ""],
    ["program", "", "last"],
    ["-x", "--", "a b", "\t\n\r", "'\"$HOME`*?\\"],
    ["é", "日本語", "\U0001f600", "\ufeff"],
    ["x" * 40_000],
    [str(number) for number in range(1000)],
]


def strings(guest: RawGuest, what: str) -> list[bytes]:
    """What the program finds, read as wasi-libc reads it; checks that the sizes are exact."""
    table, text = FREE, 0x10000
    guest.must(f"{what}_sizes_get", FREE, FREE + 4)
    count, size = struct.unpack("<II", guest.peek(FREE, 8))
    guest.poke(table + 4 * count, b"\xaa\xaa")
    guest.poke(text + size, b"\xaa\xaa")
    guest.must(f"{what}_get", table, text)
    assert guest.peek(table + 4 * count, 2) == b"\xaa\xaa", "more pointers than counted"
    assert guest.peek(text + size, 2) == b"\xaa\xaa", "more bytes than counted"
    pointers = struct.unpack(f"<{count}I", guest.peek(table, 4 * count))
    found = []
    end = text
    for pointer in pointers:
        assert pointer == end, "the strings follow one another"
        raw = guest.peek(pointer, text + size - pointer)
        found.append(raw[: raw.index(b"\0")])
        end = pointer + len(found[-1]) + 1
    assert end == text + size, "the sizes count the NULs"
    return found


@pytest.mark.parametrize("args", STRINGS, ids=lambda args: f"{len(args)}-{''.join(args)[:8]!a}")
def test_args_arrive_as_given_and_the_sizes_count_the_nuls(args: list[str]) -> None:
    with RawGuest(args=args) as guest:
        assert strings(guest, "args") == [arg.encode() for arg in args]


def test_bytes_that_are_not_utf_8_survive_as_python_carries_them() -> None:
    with RawGuest(args=["a\udcffb"], env={"A": "\udc80"}) as guest:
        assert strings(guest, "args") == [b"a\xffb"]
        assert strings(guest, "environ") == [b"A=\x80"]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"A": "1"},
        {"EMPTY": ""},
        {"B": "2", "A": "1", "C": "3"},
        {"A": "b=c=d", "with space": "two words", "LINES": "a\nb"},
        {"Ü": "ß", "日本": "\U0001f600"},
        {"LONG": "x" * 40_000},
    ],
    ids=lambda env: f"{len(env)}-{' '.join(env)!a}",
)
def test_environ_arrives_as_given_in_its_order(env: dict[str, str]) -> None:
    with RawGuest(env=env) as guest:
        assert strings(guest, "environ") == [f"{name}={value}".encode() for name, value in env.items()]


def test_the_strings_are_added_up_once_however_often_a_guest_asks() -> None:
    class Counted(bytes):
        lengths = 0

        def __len__(self) -> int:
            Counted.lengths += 1
            return super().__len__()

    process = Process(argv=[Counted(b"one"), Counted(b"two")], environ=[Counted(b"A=1")])
    memory = GuestMemory(memoryview(bytearray(64)), Limits())
    for _ in range(3):
        environment.args_sizes_get(process, memory, 0, 4)
        environment.environ_sizes_get(process, memory, 8, 12)
    assert struct.unpack("<4I", memory.read(0, 16)) == (2, 8, 1, 4)
    assert Counted.lengths == 3


def test_zero_strings_need_no_room() -> None:
    with RawGuest() as guest:
        for what in ("args", "environ"):
            guest.poke(FREE, b"\xaa" * 16)
            assert guest.call(f"{what}_sizes_get", FREE, FREE + 4) is Errno.SUCCESS
            assert guest.peek(FREE, 16) == bytes(8) + b"\xaa" * 8
            assert guest.call(f"{what}_get", SIZE, SIZE) is Errno.SUCCESS


def test_the_environment_is_not_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFSWASI_TEST_SECRET", "secret")
    with RawGuest() as guest:
        assert strings(guest, "environ") == []


def test_random_get_of_0_bytes_succeeds() -> None:
    with RawGuest() as guest:
        guest.poke(FREE, b"\xaa")
        assert guest.call("random_get", FREE, 0) is Errno.SUCCESS
        assert guest.peek(FREE, 1) == b"\xaa"


@pytest.mark.parametrize("size", [16, 257, 0x10000])
def test_random_get_fills_exactly_its_buffer_and_never_twice_alike(size: int) -> None:
    with RawGuest() as guest:
        seen = set()
        for _ in range(3):
            guest.poke(FREE - 1, b"\xaa" + bytes(size) + b"\xaa")
            guest.must("random_get", FREE, size)
            assert (guest.peek(FREE - 1, 1), guest.peek(FREE + size, 1)) == (b"\xaa", b"\xaa")
            filled = guest.peek(FREE, size)
            assert filled[-16:] != bytes(16), "the end of the buffer is filled too"
            seen.add(filled)
        assert len(seen) == 3


def now(guest: RawGuest, clock: int) -> int:
    guest.must("clock_time_get", clock, 1, FREE)
    return guest.u64(FREE)


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_resolution_of_each_clock_is_above_0_and_at_most_a_second(clock: int) -> None:
    with RawGuest() as guest:
        guest.must("clock_res_get", clock, FREE)
        assert 0 < guest.u64(FREE) <= 1_000_000_000


def test_realtime_is_the_hosts_time_in_nanoseconds_since_1970() -> None:
    with RawGuest() as guest:
        before = time.time_ns()
        told = now(guest, c.CLOCK_REALTIME)
        assert before <= told <= time.time_ns()


def test_monotonic_never_goes_back_and_moves_within_a_few_thousand_calls() -> None:
    with RawGuest() as guest:
        told = [now(guest, c.CLOCK_MONOTONIC) for _ in range(3000)]
        assert told == sorted(told)
        assert told[0] < told[-1]


@pytest.mark.parametrize("clock", CPU_CLOCKS)
def test_the_cpu_clocks_move_while_the_guest_works_and_never_back(clock: int) -> None:
    with RawGuest() as guest:
        told = [now(guest, clock) for _ in range(3000)]
        assert told == sorted(told)
        assert told[0] < told[-1]


@pytest.mark.parametrize("clock", CPU_CLOCKS)
def test_the_cpu_clocks_do_not_count_what_the_host_did_before(clock: int) -> None:
    hosts = time.thread_time_ns()
    while time.thread_time_ns() < hosts + 20_000_000:
        pass
    with RawGuest() as guest:
        assert now(guest, clock) < time.thread_time_ns() - hosts


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("precision", [0, 1, 2**63, 2**64 - 1])
def test_any_precision_is_accepted(clock: int, precision: int) -> None:
    with RawGuest() as guest:
        assert guest.call("clock_time_get", clock, precision, FREE) is Errno.SUCCESS
