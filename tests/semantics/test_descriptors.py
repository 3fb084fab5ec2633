"""Descriptor numbers, preopens, fd_renumber, and closing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..rawguest import ALL_FILE_RIGHTS, FREE, GuestErrno, RawGuest

STANDARD = [0, 1, 2]


def preopen_name(guest: RawGuest, fd: int) -> bytes:
    guest.must("fd_prestat_get", fd, FREE)
    tag, length = struct.unpack("<B3xI", guest.peek(FREE, 8))
    assert tag == 0, "a directory"
    guest.must("fd_prestat_dir_name", fd, FREE, length)
    return guest.peek(FREE, length)


def is_preopen(guest: RawGuest, fd: int) -> bool:
    errno = guest.call("fd_prestat_get", fd, FREE)
    assert errno in (Errno.SUCCESS, Errno.BADF)
    return errno is Errno.SUCCESS


def is_open(guest: RawGuest, fd: int) -> bool:
    errno = guest.call("fd_fdstat_get", fd, FREE)
    assert errno in (Errno.SUCCESS, Errno.BADF)
    return errno is Errno.SUCCESS


# Numbers.


def test_descriptors_get_the_lowest_free_number_above_2(guest: RawGuest) -> None:
    guest.create("f")
    assert [guest.open("f") for _ in range(4)] == [5, 6, 7, 8]
    for fd in (7, 4, 5):
        guest.close_fd(fd)
    assert [guest.open("f") for _ in range(4)] == [4, 5, 7, 9]


def test_directories_and_files_share_the_numbers(guest: RawGuest) -> None:
    guest.mkdir("sub")
    assert [guest.create("f"), guest.opendir("sub"), guest.open("f")] == [4, 5, 6]
    guest.close_fd(5)
    assert guest.open("f") == 5


def test_the_numbers_0_to_2_are_not_given_again(guest: RawGuest) -> None:
    for fd in STANDARD:
        guest.close_fd(fd)
    assert guest.create("f") == 4
    guest.close_fd(3)
    assert not any(is_open(guest, fd) for fd in STANDARD)


def test_a_failed_open_takes_no_number(guest: RawGuest) -> None:
    guest.create("f")
    for path in ("missing", "f/", "../f"):
        assert guest.try_open(path)[0] is not Errno.SUCCESS
    assert guest.open("f") == 5


@pytest.mark.parametrize("fd", [0, 1, 2, 3, 4])
def test_a_closed_descriptor_is_badf(guest: RawGuest, fd: int) -> None:
    guest.create("f")
    assert guest.call("fd_close", fd) is Errno.SUCCESS
    assert guest.call("fd_close", fd) is Errno.BADF
    assert not is_open(guest, fd)


# Preopens.


def test_preopens_start_at_3_in_the_order_given(mount: vfswasi.Mount) -> None:
    with RawGuest({"/z": mount, "/a": {}, "relative/x": {}, ".": {}}) as guest:
        assert [preopen_name(guest, fd) for fd in (3, 4, 5, 6)] == [b"/z", b"/a", b"relative/x", b"."]
        assert not is_open(guest, 7)


def test_without_preopens_3_is_closed() -> None:
    with RawGuest() as guest:
        assert guest.call("fd_prestat_get", 3, FREE) is Errno.BADF
        assert not is_open(guest, 3)


def test_a_preopens_name_is_counted_in_bytes(mount: vfswasi.Mount) -> None:
    with RawGuest({"/日本": mount}) as guest:
        assert preopen_name(guest, 3) == "/日本".encode()


def test_prestat_elsewhere_is_badf(guest: RawGuest) -> None:
    guest.mkdir("sub")
    for fd in (0, 1, 2, guest.create("f"), guest.opendir("sub"), guest.opendir("."), 99):
        assert guest.call("fd_prestat_get", fd, FREE) is Errno.BADF
        assert guest.call("fd_prestat_dir_name", fd, FREE, 64) is Errno.BADF


@pytest.mark.parametrize("length", [0, 1])
def test_a_buffer_too_short_for_the_name_is_nametoolong(guest: RawGuest, length: int) -> None:
    guest.poke(FREE, b"\xaa" * 4)
    assert guest.call("fd_prestat_dir_name", 3, FREE, length) is Errno.NAMETOOLONG
    assert guest.peek(FREE, 4) == b"\xaa" * 4


@pytest.mark.parametrize("length", [2, 3, 64])
def test_a_longer_buffer_is_fine_and_no_nul_is_written(guest: RawGuest, length: int) -> None:
    guest.poke(FREE, b"\xaa" * 64)
    assert guest.call("fd_prestat_dir_name", 3, FREE, length) is Errno.SUCCESS
    assert guest.peek(FREE, 64) == b"/d" + b"\xaa" * 62


def test_a_preopen_can_be_closed_and_its_number_is_then_nothing_special(mount: vfswasi.Mount) -> None:
    with RawGuest({"/d": mount, "/e": {"sub": {}}}) as guest:
        guest.close_fd(3)
        assert not is_preopen(guest, 3)
        assert preopen_name(guest, 4) == b"/e"
        assert guest.opendir("sub", fd=4) == 3
        assert not is_preopen(guest, 3)


def test_a_preopen_that_is_renumbered_over_is_no_longer_one(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.must("fd_renumber", file, 3)
    assert not is_preopen(guest, 3)
    assert guest.pread(3, 100, 0) == b"content"


def test_a_directory_renumbered_over_a_preopen_does_not_become_one(guest: RawGuest) -> None:
    guest.mkdir("sub")
    guest.create("sub/f")
    guest.must("fd_renumber", guest.opendir("sub"), 3)
    assert not is_preopen(guest, 3)
    assert guest.names() == [b"f"]


def test_a_preopens_name_moves_with_it(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.must("fd_renumber", 3, file)
    assert preopen_name(guest, file) == b"/d"
    assert not is_preopen(guest, 3)
    assert guest.names(fd=file) == [b"f"]


# fd_renumber.


def test_renumber_moves_the_cursor_rights_and_flags(guest: RawGuest) -> None:
    guest.create("a", b"aaaa")
    guest.create("b", b"bbbb")
    source = guest.open("a", base=ALL_FILE_RIGHTS & ~c.RIGHT_FD_ALLOCATE, fdflags=c.FDFLAG_APPEND)
    target = guest.open("b")
    guest.seek(source, 2)
    stat, inode = guest.fdstat(source), guest.fstat(source).ino
    guest.must("fd_renumber", source, target)
    assert guest.fdstat(target) == stat
    assert guest.fstat(target).ino == inode
    assert guest.tell(target) == 2
    assert not is_open(guest, source)


def test_renumber_moves_the_inheriting_rights_of_a_directory(guest: RawGuest) -> None:
    guest.mkdir("sub")
    directory = guest.open("sub", base=c.RIGHT_PATH_OPEN, inheriting=c.RIGHT_FD_READ)
    file = guest.create("f")
    guest.must("fd_renumber", directory, file)
    stat = guest.fdstat(file)
    assert (stat.base, stat.inheriting) == (c.RIGHT_PATH_OPEN, c.RIGHT_FD_READ)


@pytest.mark.parametrize("target", [6, 99, 0xFFFFFFFF])
def test_the_target_of_renumber_must_be_open(guest: RawGuest, target: int) -> None:
    file = guest.create("f", b"content")
    assert guest.call("fd_renumber", file, target) is Errno.BADF
    assert guest.pread(file, 100, 0) == b"content"
    assert not is_open(guest, target)


def test_the_source_of_renumber_must_be_open(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    assert guest.call("fd_renumber", 99, file) is Errno.BADF
    assert guest.pread(file, 100, 0) == b"content"


def test_the_number_that_was_moved_away_from_is_free(guest: RawGuest) -> None:
    first, second = guest.create("a"), guest.create("b")
    guest.must("fd_renumber", first, second)
    assert guest.call("fd_close", first) is Errno.BADF
    assert guest.open("a") == first


def test_renumber_releases_the_old_bytes_of_an_unlinked_file() -> None:
    backend = vfswasi.MemoryBackend(max_bytes=100)
    with RawGuest({"/d": vfswasi.Mount(backend, rw=True)}) as guest:
        other, old = guest.create("other"), guest.create("old", bytes(100))
        assert guest.unlink("old") is Errno.SUCCESS
        with pytest.raises(GuestErrno, match="NOSPC"):
            guest.write(other, b"x")
        guest.must("fd_renumber", other, old)
        assert guest.write(old, bytes(100)) == 100


def test_renumber_closes_the_hosts_descriptor_of_the_old_file(tmp_path: Path) -> None:
    with RawGuest({"/d": vfswasi.Mount(tmp_path, rw=True)}) as guest:
        first, second = guest.create("first"), guest.create("second")

        def open_on_the_host(name: str) -> bool:
            links = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
            return any(os.path.realpath(link) == str(tmp_path / name) for link in links)

        assert open_on_the_host("first")
        assert open_on_the_host("second")
        guest.must("fd_renumber", first, second)
        assert open_on_the_host("first")
        assert not open_on_the_host("second")


@pytest.mark.parametrize("fd", [0, 1, 2, 3, 4])
def test_renumber_onto_itself_succeeds_and_changes_nothing(guest: RawGuest, fd: int) -> None:
    file = guest.create("f", b"content")
    before = guest.fdstat(fd)
    assert guest.call("fd_renumber", fd, fd) is Errno.SUCCESS
    assert guest.fdstat(fd) == before
    assert guest.pread(file, 100, 0) == b"content"
    assert is_preopen(guest, fd) is (fd == 3)


def test_renumber_of_a_closed_descriptor_onto_itself_is_badf(guest: RawGuest) -> None:
    assert guest.call("fd_renumber", 99, 99) is Errno.BADF


def test_a_file_can_become_standard_input(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.seek(file, 0)
    guest.must("fd_renumber", file, 0)
    assert guest.read(0, 100) == b"content"
    assert not is_open(guest, file)


@pytest.mark.parametrize("fd", [1, 2])
def test_a_file_can_become_standard_output_and_error(guest: RawGuest, fd: int) -> None:
    guest.must("fd_renumber", guest.create("f"), fd)
    guest.write(fd, b"printed")
    assert guest.contents("f") == b"printed"


def test_standard_input_can_move_to_a_files_number(mount: vfswasi.Mount) -> None:
    with RawGuest({"/d": mount}, stdin=b"typed") as guest:
        file = guest.create("f", b"content")
        guest.must("fd_renumber", 0, file)
        assert guest.read(file, 100) == b"typed"
        assert not is_open(guest, 0)


def test_standard_error_can_become_standard_output() -> None:
    out: list[bytes] = []
    err: list[bytes] = []
    with RawGuest(stdout=out.append, stderr=err.append) as guest:
        guest.must("fd_renumber", 2, 1)
        guest.write(1, b"printed")
        assert (out, err) == ([], [b"printed"])
        assert not is_open(guest, 2)


@pytest.mark.parametrize("fd", STANDARD)
def test_0_to_2_can_be_closed(guest: RawGuest, fd: int) -> None:
    assert guest.call("fd_close", fd) is Errno.SUCCESS
    for name in ("fd_read", "fd_write"):
        assert guest.call(name, fd, *guest.iovs((FREE, 1)), FREE + 8) is Errno.BADF
    assert [is_open(guest, other) for other in STANDARD if other != fd] == [True, True]
