"""Standard input, output and error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import FileType

from ..rawguest import FREE, RawGuest

STANDARD = [0, 1, 2]


@pytest.fixture
def plain() -> Iterator[RawGuest]:
    with RawGuest(stdin=b"typed") as guest:
        yield guest


@pytest.fixture
def host_files(tmp_path: Path) -> Iterator[Callable[[str], tuple[int, int]]]:
    """`host_files("pipe")`: a host descriptor to read and one to write, of that kind."""
    opened: list[int] = []

    def make(kind: str) -> tuple[int, int]:
        if kind == "pipe":
            pair = os.pipe()
        elif kind == "file":
            path = tmp_path / "file"
            path.write_bytes(b"")
            pair = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
        elif kind == "null device":
            pair = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)
        else:
            assert kind == "terminal"
            pair = os.openpty()
            opened.append(pair[0])
            pair = pair[1], os.dup(pair[1])
        opened.extend(pair)
        return pair

    yield make
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize(
    ("kind", "filetype"),
    [
        ("terminal", FileType.CHARACTER_DEVICE),
        ("pipe", FileType.UNKNOWN),
        ("file", FileType.UNKNOWN),
        ("null device", FileType.UNKNOWN),
    ],
)
def test_streams_are_character_devices_only_when_they_are_terminals(
    host_files: Callable[[str], tuple[int, int]], kind: str, filetype: FileType
) -> None:
    reads, writes = host_files(kind)
    with RawGuest(stdin=reads, stdout=writes, stderr=writes) as guest:
        for fd in STANDARD:
            assert guest.fdstat(fd).filetype == filetype
            assert guest.fstat(fd).filetype == filetype


@pytest.mark.parametrize("stdin", [b"", b"typed", "text", None, vfswasi.DEVNULL])
@pytest.mark.parametrize("output", [vfswasi.PIPE, vfswasi.DEVNULL, [].append])
def test_streams_of_python_objects_are_not_character_devices(stdin: Any, output: Any) -> None:
    with RawGuest(stdin=stdin, stdout=output, stderr=output) as guest:
        assert [guest.fdstat(fd).filetype for fd in STANDARD] == [FileType.UNKNOWN] * 3


def test_one_terminal_among_the_streams_does_not_make_the_others_terminals(
    host_files: Callable[[str], tuple[int, int]],
) -> None:
    _, terminal = host_files("terminal")
    with RawGuest(stderr=terminal) as guest:
        types = [guest.fdstat(fd).filetype for fd in STANDARD]
        assert types == [FileType.UNKNOWN, FileType.UNKNOWN, FileType.CHARACTER_DEVICE]


@pytest.mark.parametrize("fd", STANDARD)
@pytest.mark.parametrize("whence", [0, 1, 2])
@pytest.mark.parametrize("offset", [0, 1, 2**64 - 1])
def test_seek_is_spipe(plain: RawGuest, fd: int, whence: int, offset: int) -> None:
    assert plain.call("fd_seek", fd, offset, whence, FREE) is Errno.SPIPE


@pytest.mark.parametrize("fd", STANDARD)
def test_tell_pread_and_pwrite_are_spipe(plain: RawGuest, fd: int) -> None:
    assert plain.call("fd_tell", fd, FREE) is Errno.SPIPE
    for name in ("fd_pread", "fd_pwrite"):
        for length in (0, 1):
            assert plain.call(name, fd, *plain.iovs((FREE, length)), 0, FREE + 8) is Errno.SPIPE
    assert plain.read(0, 100) == b"typed", "nothing was consumed"


def test_a_terminal_cannot_seek_either(host_files: Callable[[str], tuple[int, int]]) -> None:
    reads, writes = host_files("terminal")
    with RawGuest(stdin=reads, stdout=writes) as guest:
        for fd in (0, 1):
            assert guest.call("fd_seek", fd, 0, 1, FREE) is Errno.SPIPE


@pytest.mark.parametrize("length", [0, 1])
def test_reading_output_and_writing_input_is_badf(plain: RawGuest, length: int) -> None:
    for fd in (1, 2):
        assert plain.call("fd_read", fd, *plain.iovs((FREE, length)), FREE + 8) is Errno.BADF
    assert plain.call("fd_write", 0, *plain.iovs((FREE, length)), FREE + 8) is Errno.BADF


@pytest.mark.parametrize(
    ("fd", "has", "lacks"),
    [
        (0, c.RIGHT_FD_READ, c.RIGHT_FD_WRITE),
        (1, c.RIGHT_FD_WRITE, c.RIGHT_FD_READ),
        (2, c.RIGHT_FD_WRITE, c.RIGHT_FD_READ),
    ],
)
def test_their_rights_hold_read_or_write_and_poll(plain: RawGuest, fd: int, has: int, lacks: int) -> None:
    base = plain.fdstat(fd).base
    assert base & has
    assert base & c.RIGHT_POLL_FD_READWRITE
    assert not base & lacks
    assert not base & (c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL), "programs take the right to seek for a file"


@pytest.mark.parametrize("kind", ["pipe", "file", "terminal"])
def test_size_and_times_are_0(host_files: Callable[[str], tuple[int, int]], kind: str, tmp_path: Path) -> None:
    reads, writes = host_files(kind)
    if kind == "file":
        os.write(writes, b"content of the host's file")
    with RawGuest(stdin=reads, stdout=writes, stderr=writes) as guest:
        for fd in STANDARD:
            stat = guest.fstat(fd)
            assert (stat.size, stat.atim, stat.mtim, stat.ctim) == (0, 0, 0, 0)


def test_they_are_three_different_objects(plain: RawGuest) -> None:
    assert len({(plain.fstat(fd).dev, plain.fstat(fd).ino) for fd in STANDARD}) == 3


def test_input_is_read_in_the_pieces_asked_for_until_its_end(plain: RawGuest) -> None:
    assert [plain.read(0, size) for size in (0, 2, 100, 100)] == [b"", b"ty", b"ped", b""]


def test_output_arrives_in_order_and_apart() -> None:
    out: list[bytes] = []
    err: list[bytes] = []
    with RawGuest(stdout=out.append, stderr=err.append) as guest:
        for fd, data in ((1, b"a"), (2, b"b"), (1, b"c")):
            assert guest.write(fd, data) == 1
    assert (out, err) == ([b"a", b"c"], [b"b"])


@pytest.mark.parametrize("vdso", [True, False])
@pytest.mark.parametrize("stdout", [vfswasi.DEVNULL, vfswasi.PIPE, len])
def test_iovecs_of_more_bytes_than_a_count_can_tell(vdso: bool, stdout: Any) -> None:
    """The same bytes over and over: 2**32 of them, which no result has room for."""
    with RawGuest({"/d": {}}, stdout=stdout, vdso=vdso) as guest:
        while (size := guest.memory.data_len(guest.store)) < 4 << 16:
            guest.grow()
        count = 2**32 // size
        assert FREE + 8 * count <= size
        guest.poke(FREE, ((0).to_bytes(4, "little") + size.to_bytes(4, "little")) * count)
        file = guest.create("file", b"some bytes")
        for fd in (1, file):
            assert guest.call("fd_write", fd, FREE, count, 0) == Errno.INVAL
            assert guest.call("fd_write", fd, FREE, 1, 0) == Errno.SUCCESS
        assert guest.call("fd_read", file, FREE, count, 0) == Errno.INVAL
