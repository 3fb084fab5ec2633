"""Arguments from the edge on published descriptors: the same errno and memory with the fast path and without."""

from __future__ import annotations

import ctypes
import itertools
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

import vfswasi
from tests.rawguest import ALL_FILE_RIGHTS, READ, SIZE, RawGuest
from vfswasi.abi import constants as c
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="compares the fast path with Python")

IOVS, RESULT, BUFFER = 0x400, 0x100, 0x8000
POINTERS = (
    *(0, 1, RESULT, IOVS, IOVS + 4, IOVS + 8, BUFFER),
    *(SIZE - back for back in (64, 24, 16, 8, 7, 4, 3, 1, 0, -1)),
    *(2**31, 2**32 - 64, 2**32 - 8, 2**32 - 4, 2**32 - 1),
)
LENGTHS = (0, 1, 7, 8, 15, 16, 17, 64, 4096, SIZE, 2**31, 2**32 - 1)
COUNTS = (0, 1, 2, 3, 65536, 65537, 2**29, 2**31, 2**32 - 1)
OFFSETS = (0, 1, 4095, 4096, 4999, 5000, 5001, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DATA = bytes(range(250)) * 20


class Pair:
    """Two guests that differ in the fast path alone, with "f" open three times: all rights, reading, nothing."""

    def __init__(self, **options: Any) -> None:
        self.guests = []
        for vdso in (True, False):
            mount = vfswasi.Mount(MemoryBackend({"f": DATA}), rw=True)
            guest = RawGuest({"/d": mount}, vdso=vdso, **options)
            self.guests.append(guest)
            self.fds = (
                guest.open("f", base=ALL_FILE_RIGHTS),
                guest.open("f", base=READ),
                guest.open("f", base=c.RIGHT_POLL_FD_READWRITE),
            )
            for fd in self.fds[:2]:
                for _ in range(3):
                    guest.pread(fd, 10, 0)
            for _ in range(3):
                guest.write(1, b"x")

    def fill(self) -> None:
        """The same in both memories; addresses that are small enough to be pointers stand everywhere."""
        pattern = struct.pack("<4I", 0x500, 16, BUFFER, 40) * 64
        for guest in self.guests:
            guest.poke(0, pattern)
            guest.poke(SIZE - 1024, pattern)

    def same(self, name: str, *arguments: int) -> Errno:
        errnos = [guest.call(name, *arguments) for guest in self.guests]
        assert errnos[0] is errnos[1], (name, arguments)
        memories = [ctypes.string_at(guest.memory.data_ptr(guest.store), SIZE) for guest in self.guests]
        assert memories[0] == memories[1], (name, arguments)
        cursors = [[guest.tell(fd) for fd in self.fds[:2]] for guest in self.guests]
        assert cursors[0] == cursors[1], (name, arguments)
        return errnos[0]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for guest in pair.guests:
        guest.close()


@pytest.mark.parametrize("name", ["fd_read", "fd_write"])
def test_iovecs_and_results(pair: Pair, name: str) -> None:
    seen = set()
    for pointer, count, result in itertools.product(POINTERS, COUNTS, (RESULT, IOVS, IOVS + 2, BUFFER, SIZE - 3, SIZE)):
        pair.fill()
        for guest in pair.guests:
            guest.seek(pair.fds[0], 100)
        seen.add(pair.same(name, pair.fds[0], pointer, count, result))
    assert seen >= {Errno.SUCCESS, Errno.FAULT}


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite"])
def test_one_buffer_anywhere(pair: Pair, name: str) -> None:
    seen = set()
    for fd, pointer, length in itertools.product((*pair.fds, 1), POINTERS, LENGTHS):
        pair.fill()
        for guest in pair.guests:
            guest.poke(IOVS, struct.pack("<II", pointer, length))
            guest.seek(pair.fds[0], 4990)
        offset = (4990,) if name.startswith("fd_p") else ()
        seen.add(pair.same(name, fd, IOVS, 1, *offset, RESULT))
    assert seen >= {Errno.SUCCESS, Errno.FAULT, Errno.NOTCAPABLE}


@pytest.mark.parametrize("name", ["fd_pread", "fd_pwrite"])
def test_offsets(pair: Pair, name: str) -> None:
    for offset, length in itertools.product(OFFSETS, LENGTHS[:9]):
        if name == "fd_pwrite" and 5001 < offset < 2**63 - 1:
            continue  # would need as much memory
        pair.fill()
        for guest in pair.guests:
            guest.poke(IOVS, struct.pack("<II", BUFFER, length))
        pair.same(name, pair.fds[0], IOVS, 1, offset, RESULT)


def test_seeking(pair: Pair) -> None:
    seen = set()
    for offset, whence, result, start in itertools.product(
        (*OFFSETS, 2**64 - 5000, 2**64 - 5001, 2**63 + 5),
        (0, 1, 2, 3, 2**32 - 1),
        (RESULT, SIZE - 8, SIZE - 7),
        (0, 77),
    ):
        for guest in pair.guests:
            guest.seek(pair.fds[0], start)
        seen.add(pair.same("fd_seek", pair.fds[0], offset, whence, result))
    assert seen >= {Errno.SUCCESS, Errno.FAULT, Errno.INVAL}


@pytest.mark.parametrize("name", ["fd_tell", "fd_fdstat_get"])
def test_results_anywhere(pair: Pair, name: str) -> None:
    seen = {pair.same(name, fd, pointer) for fd in (*pair.fds, 1, 3, 77, 2**32 - 1) for pointer in POINTERS}
    assert seen >= {Errno.SUCCESS, Errno.FAULT, Errno.BADF}


def test_attributes_anywhere(pair: Pair) -> None:
    """Times differ, so only errnos are compared, and that nothing beside the result was touched."""
    for fd, pointer in itertools.product((*pair.fds, 1, 3, 77), POINTERS):
        errnos = []
        for guest in pair.guests:
            before = ctypes.string_at(guest.memory.data_ptr(guest.store), SIZE)
            errnos.append(guest.call("fd_filestat_get", fd, pointer))
            after = ctypes.string_at(guest.memory.data_ptr(guest.store), SIZE)
            assert before[:pointer] == after[:pointer]
            assert before[pointer + 64 :] == after[pointer + 64 :]
            guest.poke(0, before)
        assert errnos[0] is errnos[1], (fd, pointer)


def test_random_bytes_stay_where_they_belong(pair: Pair) -> None:
    for pointer, length in itertools.product(POINTERS, LENGTHS):
        errnos = []
        for guest in pair.guests:
            before = ctypes.string_at(guest.memory.data_ptr(guest.store), SIZE)
            errnos.append(guest.call("random_get", pointer, length))
            after = ctypes.string_at(guest.memory.data_ptr(guest.store), SIZE)
            assert before[:pointer] == after[:pointer]
            assert before[pointer + length :] == after[pointer + length :]
            guest.poke(0, before)
        assert errnos[0] is errnos[1], (pointer, length)


def test_many_iovecs_that_overlap_everything(pair: Pair) -> None:
    """Buffers over the array, over each other, over the result; up to as many as a call may have."""
    pick = random.Random(5)
    for _ in range(300):
        count = pick.choice((2, 3, 10, 100, 5000))
        array = pick.choice((IOVS, 0x10000))
        buffers = b"".join(
            struct.pack(
                "<II",
                pick.choice((array + pick.randrange(0, 8 * count), BUFFER, RESULT - 2)),
                pick.choice((0, 1, 3, 8, 30)),
            )
            for _ in range(count)
        )
        name = pick.choice(("fd_read", "fd_write", "fd_pread"))
        offset = (pick.randrange(0, 3000),) if name == "fd_pread" else ()
        for guest in pair.guests:
            guest.poke(array, buffers)
            guest.seek(pair.fds[0], 0)
        pair.same(name, pair.fds[0], array, count, *offset, RESULT)
    calls = pair.guests[0].wasi._embedding.guest.fast.counters()  # type: ignore[union-attr]
    assert min(calls[name] for name in ("fd_read", "fd_write", "fd_pread")) > 100


STRINGS = ("args_get", "args_sizes_get", "environ_get", "environ_sizes_get")
LISTS: dict[str, dict[str, Any]] = {
    "some": {"args": ["program", "", "a" * 300, "\u00e9"], "env": {"A": "1", "EMPTY": "", "B": "x" * 1000}},
    "none": {"args": [], "env": {}},
    "one that is empty": {"args": [""], "env": {"A": ""}},
    "many": {"args": ["x"] * 900, "env": {f"V{number}": str(number) for number in range(500)}},
}


@pytest.mark.parametrize("version", ["preview1", "unstable"])
@pytest.mark.parametrize("which", LISTS)
def test_arguments_and_environment_anywhere(which: str, version: str) -> None:
    """The addresses and the strings over each other, and at every edge of the memory."""
    pair = Pair(version=version, **LISTS[which])
    fast, slow = pair.guests
    sizes = {}
    for name in ("args", "environ"):
        pair.same(f"{name}_sizes_get", RESULT, RESULT + 4)
        sizes[name] = slow.u32(RESULT), slow.u32(RESULT + 4)
    for name, _ in itertools.product(STRINGS, range(20)):
        pair.same(name, BUFFER, BUFFER + 0x10000)
    for name in STRINGS:
        count, size = (4, 4) if "sizes" in name else (4 * sizes[name[:-4]][0], sizes[name[:-4]][1])
        ends = {SIZE - count + by for by in (-1, 0, 1)} | {SIZE - size + by for by in (-1, 0, 1)}
        pointers = sorted({*POINTERS, *(end for end in ends if end >= 0), BUFFER + count - 4, BUFFER + 2})
        seen = set()
        for first, second in itertools.product(pointers, pointers):
            pair.fill()
            seen.add(pair.same(name, first, second))
        assert seen <= {Errno.SUCCESS, Errno.FAULT}
        assert Errno.SUCCESS in seen
    calls = fast.wasi._embedding.guest.fast.counters()  # type: ignore[union-attr]
    assert all(calls[name] > 20 for name in STRINGS), calls
    for guest in pair.guests:
        guest.close()


@pytest.mark.parametrize("which", ["args", "env"])
def test_a_list_that_takes_too_much_of_the_memory_stays_with_python(which: str) -> None:
    limits = vfswasi.Limits(window_bytes=256 << 10)
    strings: dict[str, Any] = {"args": ["x" * 150_000]} if which == "args" else {"env": {"A": "x" * 150_000}}
    with RawGuest({"/d": {}}, limits=limits, **strings) as guest:
        for name, _ in itertools.product(STRINGS, range(60)):
            guest.must(name, 0, 0x8000)
        calls = guest.wasi._embedding.guest.fast.counters()  # type: ignore[union-attr]
        assert {name for name in STRINGS if calls[name]} == {name for name in STRINGS if which not in name}


def test_after_an_interruption_strings_are_asked_of_python() -> None:
    """Which ends the guest."""
    for name in STRINGS:
        with RawGuest({"/d": {}}, args=["a"], env={"A": "b"}) as guest:
            for _ in range(60):
                guest.must(name, 0, 0x8000)
            guest.wasi.interrupt()
            with pytest.raises(vfswasi.HostCallError, match="interrupted"):
                guest.must(name, 0, 0x8000)


def test_memory_that_grows(pair: Pair) -> None:
    for guest in pair.guests:
        guest.grow()
    for pointer in (SIZE, SIZE + 65536 - 16, SIZE + 65536 - 15):
        for guest in pair.guests:
            guest.poke(IOVS, struct.pack("<II", pointer, 16))
        assert pair.same("fd_pread", pair.fds[0], IOVS, 1, 0, RESULT) is (
            Errno.FAULT if pointer % 16 else Errno.SUCCESS
        )
