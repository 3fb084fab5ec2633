"""Reading and writing files: iovecs, the end of a file, holes, APPEND, several descriptors."""

from __future__ import annotations

import struct

import pytest

import vfswasi
from tests.rawguest import FREE, READ, RawGuest
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

RESULT = 0x3000


def test_all_iovecs_are_filled_in_one_call_and_empty_ones_skipped(guest: RawGuest) -> None:
    fd = guest.create("f", b"abcdefghij")
    guest.seek(fd, 0)
    vector = guest.iovs((FREE, 3), (FREE + 100, 0), (FREE + 200, 4), (FREE + 300, 9))
    guest.must("fd_read", fd, *vector, RESULT)
    assert guest.u32() == 10
    assert [guest.peek(FREE + 100 * n, size) for n, size in ((0, 3), (2, 4), (3, 3))] == [
        b"abc",
        b"defg",
        b"hij",
    ]
    assert guest.tell(fd) == 10


def test_all_iovecs_are_written_in_one_call(guest: RawGuest) -> None:
    fd = guest.create("f")
    guest.poke(FREE, b"onetwothree")
    guest.must("fd_write", fd, *guest.iovs((FREE, 3), (FREE, 0), (FREE + 3, 3), (FREE + 6, 5)), RESULT)
    assert guest.u32() == 11
    assert guest.contents("f") == b"onetwothree"


@pytest.mark.parametrize("name", ["fd_read", "fd_write"])
def test_no_iovecs_at_all_is_zero_bytes(guest: RawGuest, name: str) -> None:
    fd = guest.create("f", b"abc")
    guest.must(name, fd, FREE, 0, RESULT)
    assert guest.u32() == 0
    assert guest.tell(fd) == 3


def test_one_call_moves_all_that_memory_holds(guest: RawGuest) -> None:
    size = 0xC0000
    for _ in range(size // 0x10000):
        guest.grow()
    data = bytes(number % 251 for number in range(size))
    fd = guest.create("f")
    guest.poke(FREE, data)
    guest.must("fd_write", fd, *guest.iovs((FREE, size)), RESULT)
    assert guest.u32() == size
    guest.seek(fd, 0)
    guest.poke(FREE, bytes(size))
    guest.must("fd_read", fd, *guest.iovs((FREE, size)), RESULT)
    assert guest.u32() == size
    assert guest.peek(FREE, size) == data


def test_a_thousand_iovecs(guest: RawGuest) -> None:
    fd = guest.create("f", bytes(range(250)) * 4)
    guest.seek(fd, 0)
    guest.poke(FREE, b"".join(struct.pack("<II", 0x30000 + 2 * n, 1) for n in range(1000)))
    guest.must("fd_read", fd, FREE, 1000, RESULT)
    assert guest.u32() == 1000
    assert guest.peek(0x30000, 2000)[::2] == bytes(range(250)) * 4


def test_reading_past_the_end_is_zero_bytes(guest: RawGuest) -> None:
    fd = guest.create("f", b"abc")
    assert guest.read(fd, 10) == b""
    guest.seek(fd, 1000)
    assert guest.read(fd, 10) == b""
    assert guest.pread(fd, 10, 2**40) == b""
    assert guest.tell(fd) == 1000


def test_writing_past_the_end_leaves_zeros(guest: RawGuest) -> None:
    fd = guest.create("f", b"ab")
    guest.seek(fd, 6)
    guest.write(fd, b"cd")
    guest.pwrite(fd, b"e", 10)
    assert guest.contents("f") == b"ab\0\0\0\0cd\0\0e"


def test_a_zero_length_write_does_not_extend(guest: RawGuest) -> None:
    fd = guest.create("f", b"ab")
    guest.seek(fd, 100)
    assert guest.write(fd, b"") == 0
    assert guest.pwrite(fd, b"", 50) == 0
    assert guest.fstat(fd).size == 2


def test_pread_and_pwrite_leave_the_cursor(guest: RawGuest) -> None:
    fd = guest.create("f", b"abcdef")
    guest.seek(fd, 2)
    assert guest.pread(fd, 3, 1) == b"bcd"
    guest.pwrite(fd, b"XY", 4)
    assert guest.tell(fd) == 2
    assert guest.read(fd, 9) == b"cdXY"


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
@pytest.mark.parametrize("name", ["fd_pread", "fd_pwrite"])
def test_an_offset_from_2_63_is_inval(guest: RawGuest, name: str, offset: int) -> None:
    fd = guest.create("f", b"abc")
    assert guest.call(name, fd, *guest.iovs((FREE, 1)), offset, RESULT) is Errno.INVAL
    assert guest.contents("f") == b"abc"


def test_append_writes_at_the_end_whatever_the_cursor(guest: RawGuest) -> None:
    guest.create("f", b"abc")
    fd = guest.open("f", base=READ | c.RIGHT_FD_WRITE, fdflags=c.FDFLAG_APPEND)
    guest.seek(fd, 1)
    guest.write(fd, b"de")
    assert guest.tell(fd) == 5
    guest.seek(fd, 0)
    guest.pwrite(fd, b"fg", 1)
    assert guest.tell(fd) == 0
    assert guest.contents("f") == b"abcdefg"


def test_append_follows_what_other_descriptors_added(guest: RawGuest) -> None:
    one = guest.create("f", b"", fdflags=c.FDFLAG_APPEND)
    other = guest.create("f", b"", fdflags=c.FDFLAG_APPEND)
    for turn in range(4):
        guest.write((one, other)[turn % 2], b"%d" % turn)
    assert guest.contents("f") == b"0123"


def test_two_descriptors_of_one_file_see_each_other_at_once(guest: RawGuest) -> None:
    one = guest.create("f", b"abcdef")
    other = guest.open("f")
    assert guest.read(other, 3) == b"abc"
    guest.pwrite(one, b"XYZ", 2)
    assert guest.read(other, 9) == b"YZf"
    guest.must("fd_filestat_set_size", one, 1)
    assert guest.fstat(other).size == 1
    assert guest.pread(other, 9, 0) == b"a"


def test_two_mounts_of_one_store_see_each_other_at_once(mount: vfswasi.Mount) -> None:
    source = vfswasi.MemoryBackend() if isinstance(mount.source, dict) else mount.source
    with RawGuest({"/a": vfswasi.Mount(source, rw=True), "/b": vfswasi.Mount(source, rw=True)}) as guest:
        one = guest.create("f", b"abc", fd=3)
        other = guest.open("f", fd=4)
        guest.pwrite(one, b"X", 1)
        assert guest.read(other, 9) == b"aXc"
        assert guest.fstat(one)[:2] == guest.fstat(other)[:2]
        assert guest.rename("f", "g", fd=3, new_fd=4) is Errno.XDEV
        assert guest.unlink("f", fd=3) is Errno.SUCCESS
        assert guest.names(fd=4) == []


def test_set_size_cuts_and_grows_and_keeps_the_cursor(guest: RawGuest) -> None:
    fd = guest.create("f", b"abcdef")
    guest.seek(fd, 5)
    guest.must("fd_filestat_set_size", fd, 3)
    assert (guest.tell(fd), guest.contents("f")) == (5, b"abc")
    guest.must("fd_filestat_set_size", fd, 6)
    assert (guest.tell(fd), guest.contents("f")) == (5, b"abc\0\0\0")
    guest.must("fd_filestat_set_size", fd, 6)


def test_set_size_is_refused_on_a_read_only_descriptor(guest: RawGuest) -> None:
    guest.create("f", b"abc")
    fd = guest.open("f")
    assert guest.call("fd_filestat_set_size", fd, 0) is Errno.NOTCAPABLE
    assert guest.contents("f") == b"abc"


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_a_size_from_2_63_is_fbig(guest: RawGuest, size: int) -> None:
    fd = guest.create("f", b"abc")
    assert guest.call("fd_filestat_set_size", fd, size) is Errno.FBIG
    assert guest.contents("f") == b"abc"


def test_seeks_from_every_base_and_past_the_end(guest: RawGuest) -> None:
    fd = guest.create("f", b"abcdef")
    assert guest.seek(fd, 2, c.WHENCE_SET) == 2
    assert guest.seek(fd, 3, c.WHENCE_CUR) == 5
    assert guest.seek(fd, -1, c.WHENCE_END) == 5
    assert guest.seek(fd, 2**62, c.WHENCE_SET) == 2**62
    for offset, whence in (
        (-1, c.WHENCE_SET),
        (-(2**63), c.WHENCE_CUR),
        (-7, c.WHENCE_END),
        (2**63 - 1, c.WHENCE_CUR),
    ):
        assert guest.call("fd_seek", fd, offset, whence, RESULT) is Errno.INVAL
    assert guest.tell(fd) == 2**62


def test_an_error_after_the_first_bytes_waits_for_the_next_call() -> None:
    store = vfswasi.MemoryBackend(max_bytes=100_000)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        fd = guest.create("f")
        # Two pieces that are too large to be joined: the first fits, the second does not.
        vector = guest.iovs((FREE, 0x10000), (FREE, 0x10000))
        guest.must("fd_write", fd, *vector, RESULT)
        assert guest.u32() == 0x10000
        assert guest.call("fd_write", fd, *guest.iovs((FREE, 0x10000)), RESULT) is Errno.NOSPC
        assert guest.tell(fd) == 0x10000
