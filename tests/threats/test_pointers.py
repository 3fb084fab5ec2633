"""Attacks with pointers: line A1 of the threat model."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

import vfswasi
from vfswasi.errors import Errno

from ..rawguest import FREE, SIZE, RawGuest, pack_subscriptions
from .jail import CREAT, EXCL, TRUNC, WRITE

OUT, IOVS, DATA = FREE, FREE + 0x100, FREE + 0x1000

# A1: pointers.

# function -> arguments that are valid but for one pointer P, whose access takes the given bytes; FD is a file
# open for reading and writing, 3 a directory. Text lies at OUT, one iovec at IOVS.
P, FD = object(), object()
POINTERS: list[tuple[str, tuple[Any, ...], int]] = [
    ("args_sizes_get", (P, OUT), 4),
    ("args_sizes_get", (OUT, P), 4),
    ("environ_sizes_get", (P, OUT), 4),
    ("environ_sizes_get", (OUT, P), 4),
    ("args_get", (P, OUT), 4),
    ("args_get", (OUT, P), 2),
    ("environ_get", (P, OUT), 4),
    ("environ_get", (OUT, P), 4),
    ("clock_res_get", (0, P), 8),
    ("clock_time_get", (0, 0, P), 8),
    ("fd_fdstat_get", (FD, P), 24),
    ("fd_filestat_get", (FD, P), 64),
    ("fd_pread", (FD, P, 1, 0, OUT), 8),
    ("fd_pread", (FD, IOVS, 1, 0, P), 4),
    ("fd_prestat_get", (3, P), 8),
    ("fd_prestat_dir_name", (3, P, 5), 5),
    ("fd_pwrite", (FD, P, 1, 0, OUT), 8),
    ("fd_pwrite", (FD, IOVS, 1, 0, P), 4),
    ("fd_read", (FD, P, 1, OUT), 8),
    ("fd_read", (FD, IOVS, 1, P), 4),
    ("fd_readdir", (3, P, 64, 0, OUT), 64),
    ("fd_readdir", (3, DATA, 64, 0, P), 4),
    ("fd_seek", (FD, 1, 1, P), 8),
    ("fd_tell", (FD, P), 8),
    ("fd_write", (FD, P, 1, OUT), 8),
    ("fd_write", (FD, IOVS, 1, P), 4),
    ("path_create_directory", (3, P, 3), 3),
    ("path_filestat_get", (3, 0, P, 1, DATA), 1),
    ("path_filestat_get", (3, 0, OUT, 1, P), 64),
    ("path_filestat_set_times", (3, 0, P, 1, 1, 1, 5), 1),
    ("path_link", (3, 0, P, 1, 3, OUT, 3), 1),
    ("path_link", (3, 0, OUT, 1, 3, P, 3), 3),
    ("path_open", (3, 0, P, 3, CREAT, WRITE, 0, 0, DATA), 3),
    ("path_open", (3, 0, OUT, 3, CREAT, WRITE, 0, 0, P), 4),
    ("path_open", (3, 0, OUT, 1, TRUNC, WRITE, 0, 0, P), 4),
    ("path_open", (3, 0, OUT, 3, CREAT | EXCL, WRITE, 0, 0, P), 4),
    ("path_readlink", (3, P, 4, DATA, 9, OUT), 4),
    ("path_readlink", (3, OUT, 1, P, 9, DATA), 9),
    ("path_readlink", (3, OUT, 1, DATA, 9, P), 4),
    ("path_remove_directory", (3, P, 5), 5),
    ("path_rename", (3, P, 1, 3, OUT, 3), 1),
    ("path_rename", (3, OUT, 1, 3, P, 3), 3),
    ("path_symlink", (P, 1, 3, OUT, 3), 1),
    ("path_symlink", (OUT, 1, 3, P, 3), 3),
    ("path_unlink_file", (3, P, 1), 1),
    ("poll_oneoff", (P, DATA, 1, OUT), 48),
    ("poll_oneoff", (DATA, P, 1, OUT), 32),
    ("poll_oneoff", (DATA, DATA + 64, 1, P), 4),
    ("random_get", (P, 16), 16),
    ("sock_accept", (FD, 0, P), 4),
    ("sock_recv", (FD, P, 1, 0, OUT, OUT + 8), 8),
    ("sock_recv", (FD, IOVS, 1, 0, P, OUT), 4),
    ("sock_recv", (FD, IOVS, 1, 0, OUT, P), 2),
    ("sock_send", (FD, P, 1, 0, OUT), 8),
    ("sock_send", (FD, IOVS, 1, 0, P), 4),
]


def _argument_guest(mount: vfswasi.Mount) -> tuple[RawGuest, int]:
    guest = RawGuest({"/jail": mount}, args=["a"], env={"A": "1"})
    file = guest.create("f", b"content")
    assert guest.mkdir("empty") is Errno.SUCCESS
    guest.seek(file, 2)
    guest.poke(OUT, b"fgh")
    guest.poke(IOVS, struct.pack("<II", DATA, 4))
    return guest, file


def test_a1_the_table_of_pointers_is_complete() -> None:
    """Every 32-bit argument that is not in the table must be known to be a plain number."""
    numbers = {
        "fd_advise": 2,
        "fd_allocate": 1,
        "fd_close": 1,
        "fd_datasync": 1,
        "fd_fdstat_set_flags": 2,
        "fd_fdstat_set_rights": 1,
        "fd_filestat_set_size": 1,
        "fd_filestat_set_times": 2,
        "fd_renumber": 2,
        "fd_sync": 1,
        "proc_exit": 1,
        "proc_raise": 1,
        "sched_yield": 0,
        "sock_shutdown": 2,
    }
    with RawGuest() as guest:
        assert set(guest.abi.functions) == {name for name, _, _ in POINTERS} | set(numbers)
        for name, count in numbers.items():
            assert guest.abi.functions[name].count("i") == count


@pytest.mark.parametrize(
    ("name", "args", "size"), POINTERS, ids=[f"{name} {args.index(P)}" for name, args, _ in POINTERS]
)
def test_a1_a_pointer_out_of_memory_is_fault_and_nothing_happens(
    mount: vfswasi.Mount, name: str, args: tuple[Any, ...], size: int
) -> None:
    guest, file = _argument_guest(mount)
    with guest:
        memory = guest.peek(0, SIZE)
        for bad in (
            SIZE - size + 1,
            SIZE - 1 if size > 1 else SIZE,
            SIZE,
            2**31 - 1,
            2**31,
            2**32 - size,
            2**32 - 1,
        ):
            filled = [bad if arg is P else file if arg is FD else arg for arg in args]
            assert guest.call(name, *filled) is Errno.FAULT, hex(bad)
        assert guest.peek(0, SIZE) == memory
        assert guest.tell(file) == 2
        assert guest.names() == [b"empty", b"f"]
        assert guest.contents("f") == b"content"
        assert guest.open("f") == file + 1


FILE_IO = ("fd_read", "fd_write", "fd_pread", "fd_pwrite")


def _transfer(guest: RawGuest, name: str, fd: int, iovs: int, count: int, result: int = OUT) -> Errno:
    offset = (0,) if name in ("fd_pread", "fd_pwrite") else ()
    return guest.call(name, fd, iovs, count, *offset, result)


@pytest.mark.parametrize("name", FILE_IO)
@pytest.mark.parametrize("count", [2**29, 2**29 + 1, 2**31, 2**31 - 1, 2**32 - 1])
def test_a1_an_iovec_count_that_wraps_is_fault(mount: vfswasi.Mount, name: str, count: int) -> None:
    guest, file = _argument_guest(mount)
    with guest:
        assert _transfer(guest, name, file, IOVS, count) is Errno.FAULT
        assert guest.tell(file) == 2
        assert guest.contents("f") == b"content"


@pytest.mark.parametrize("name", FILE_IO)
def test_a1_iovecs_whose_lengths_add_up_beyond_u32(mount: vfswasi.Mount, name: str) -> None:
    guest, file = _argument_guest(mount)
    with guest:
        guest.poke(IOVS, struct.pack("<II", DATA, 2**31) * 2 + struct.pack("<II", DATA, 4))
        assert _transfer(guest, name, file, IOVS, 3) is Errno.FAULT
        guest.poke(IOVS, struct.pack("<II", DATA, 4) + struct.pack("<II", 2**32 - 1, 2**32 - 1))
        assert _transfer(guest, name, file, IOVS, 2) is Errno.FAULT
        assert guest.tell(file) == 2
        assert guest.contents("f") == b"content"


@pytest.mark.parametrize("name", FILE_IO)
def test_a1_too_many_iovecs_are_inval(mount: vfswasi.Mount, name: str) -> None:
    with RawGuest({"/d": mount}) as guest:
        file = guest.create("f", b"content")
        for _ in range(10):
            guest.grow()
        assert _transfer(guest, name, file, SIZE, 65537) is Errno.INVAL
        assert _transfer(guest, name, file, SIZE, 65536) is Errno.SUCCESS
        assert guest.contents("f") == b"content"


@pytest.mark.parametrize("name", FILE_IO)
@pytest.mark.parametrize("address", [0, SIZE, 2**31, 2**32 - 1])
def test_a1_length_zero_is_fine_anywhere(mount: vfswasi.Mount, name: str, address: int) -> None:
    guest, file = _argument_guest(mount)
    with guest:
        guest.poke(IOVS, struct.pack("<II", address, 0) * 2)
        for iovs, count in ((address, 0), (IOVS, 1), (IOVS, 2)):
            assert _transfer(guest, name, file, iovs, count) is Errno.SUCCESS
            assert guest.u32(OUT) == 0
        assert guest.call("random_get", address, 0) is Errno.SUCCESS
        assert guest.call("path_unlink_file", 3, address, 0) is Errno.NOENT
        assert guest.contents("f") == b"content"


@pytest.mark.parametrize("name", ["fd_read", "fd_pread"])
def test_a1_iovecs_are_read_once_though_the_data_lands_on_them(mount: vfswasi.Mount, name: str) -> None:
    """The first buffer is the iovec table itself: what lands there must not become the second buffer."""
    with RawGuest({"/d": mount}) as guest:
        evil = struct.pack("<IIII", 2**32 - 1, 2**32 - 1, 0, SIZE)
        file = guest.create("f", evil + b"tail")
        guest.seek(file, 0)
        guest.poke(IOVS, struct.pack("<IIII", IOVS, 16, DATA, 4))
        assert _transfer(guest, name, file, IOVS, 2) is Errno.SUCCESS
        assert (guest.u32(OUT), guest.peek(IOVS, 16), guest.peek(DATA, 4)) == (20, evil, b"tail")


@pytest.mark.parametrize("name", FILE_IO)
def test_a1_the_count_is_written_last_wherever_it_lies(mount: vfswasi.Mount, name: str) -> None:
    with RawGuest({"/d": mount}) as guest:
        file = guest.create("f", b"0123456789abcdef")
        for result in (IOVS, IOVS + 4, DATA, DATA + 6, DATA + 8):
            guest.seek(file, 0)
            guest.poke(DATA, b"0123456789abcdef")
            guest.poke(IOVS, struct.pack("<II", DATA, 10))
            assert _transfer(guest, name, file, IOVS, 1, result) is Errno.SUCCESS
            assert guest.u32(result) == 10
        assert guest.contents("f") == b"0123456789abcdef"


@pytest.mark.parametrize("name", FILE_IO)
def test_a1_buffers_may_overlap_each_other(mount: vfswasi.Mount, name: str) -> None:
    with RawGuest({"/d": mount}) as guest:
        file = guest.create("f", b"abcdefgh")
        guest.seek(file, 0)
        guest.poke(DATA, b"wxyzwxyz")
        guest.poke(IOVS, struct.pack("<IIII", DATA, 4, DATA + 2, 4))
        assert _transfer(guest, name, file, IOVS, 2) is Errno.SUCCESS
        assert guest.u32(OUT) == 8
        if name in ("fd_read", "fd_pread"):
            assert guest.peek(DATA, 6) == b"abefgh"
        else:
            assert guest.contents("f") == b"wxyzyzwx"


def test_a1_results_may_overlap_each_other_and_the_arguments(mount: vfswasi.Mount) -> None:
    guest, file = _argument_guest(mount)
    with guest:
        for name in ("args_sizes_get", "environ_sizes_get"):
            assert guest.call(name, DATA, DATA) is Errno.SUCCESS
            assert guest.call(name, DATA, DATA + 2) is Errno.SUCCESS
        for name in ("args_get", "environ_get"):
            assert guest.call(name, DATA, DATA) is Errno.SUCCESS
        assert guest.call("path_filestat_get", 3, 0, *guest.text("f", DATA), DATA - 8) is Errno.SUCCESS
        assert int.from_bytes(guest.peek(DATA - 8 + 32, 8), "little") == 7
        path = guest.text("f", DATA)
        assert guest.call("path_open", 3, 0, *path, 0, 2, 0, 0, DATA) is Errno.SUCCESS
        assert guest.u32(DATA) == file + 1
        assert guest.symlink("target", "l") is Errno.SUCCESS
        assert guest.call("path_readlink", 3, *guest.text("l", DATA), DATA, 6, DATA) is Errno.SUCCESS
        assert guest.u32(DATA) == 6
        assert guest.call("fd_readdir", 3, DATA, 64, 0, DATA + 4) is Errno.SUCCESS
        assert guest.u32(DATA + 4) == 64
        guest.poke(DATA, pack_subscriptions(guest.abi, [(7, "clock", 1, 0, 0)] * 3))
        assert guest.call("poll_oneoff", DATA, DATA, 3, DATA) is Errno.SUCCESS
        assert guest.u32(DATA) == 3
        same = guest.text("f", DATA)
        assert guest.call("path_rename", 3, *same, 3, *same) is Errno.SUCCESS
        assert guest.contents("f") == b"content"


EXTREMES = [
    0,
    1,
    2,
    3,
    4,
    64,
    OUT,
    IOVS,
    SIZE - 8,
    SIZE - 1,
    SIZE,
    65537,
    2**29,
    2**31 - 1,
    2**31,
    2**32 - 8,
    2**32 - 1,
]
EXTREMES_64 = [*EXTREMES, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]


@pytest.mark.parametrize("version", ["preview1", "unstable"])
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a1_any_numbers_for_any_function_give_an_errno(kind: str, version: str, tmp_path: Any) -> None:
    """20,000 calls by 20 guests: `RawGuest.call` raises unless what comes back is an errno."""
    rng = random.Random(f"{kind} {version}")
    source: Any = {"f": b"content"} if kind == "memory" else tmp_path / "root"
    if kind == "local":
        source.mkdir()
        (source / "f").write_bytes(b"content")
        (tmp_path / "secret").write_bytes(b"secret")
    seen = set()
    for _ in range(20):
        with RawGuest({"/d": vfswasi.Mount(source, rw=True)}, version=version) as guest:
            # sizes are the guest's to choose; what they may cost is not the matter here
            apart = {"proc_exit", "proc_raise", "fd_allocate", "fd_filestat_set_size"}
            names = sorted(set(guest.abi.functions) - apart)
            for turn in range(1000):
                if turn % 100 == 0:
                    guest.poke(OUT, b"f\0\0\0new/../sub".ljust(64, b"\0"))
                    guest.poke(IOVS, struct.pack("<IIII", DATA, 16, OUT, 8))
                name = rng.choice(names)
                if name in ("fd_close", "fd_renumber", "fd_fdstat_set_rights") and rng.random() < 0.9:
                    continue
                types = guest.abi.functions[name]
                args = [rng.choice(EXTREMES if letter == "i" else EXTREMES_64) for letter in types]
                if name == "poll_oneoff":
                    guest.poke(IOVS, bytes(64))  # a clock that has struck already, not one that strikes in years
                    args[0] = rng.choice([IOVS, SIZE - 8, SIZE, 2**32 - 1])
                    args[2] = rng.choice([0, 1, 2**29, 2**31, 2**32 - 1])
                elif types and rng.random() < 0.5:
                    args[0] = rng.choice([3, 4, 5])
                seen.add(guest.call(name, *args))
    assert {Errno.SUCCESS, Errno.BADF, Errno.FAULT, Errno.INVAL} <= seen
    if kind == "local":
        assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "secret"]
        assert (tmp_path / "secret").read_bytes() == b"secret"
