"""Every function of both snapshots is called once where it succeeds, and what it did is looked at.

`Succeeds` has a method of each function's name; a function without one fails the test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS, Abi
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import FileType

from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, PollEvent, RawGuest, pack_subscriptions, unpack_events

EVERY = [(version, name) for version, abi in ABIS.items() for name in abi.functions]
SECOND = 1_000_000_000


def run_with_number(abi: Abi, function: str, number: int) -> vfswasi.Result:
    """Run a program that calls `function(number)`; if that returns, its errno is the exit status."""
    result = "" if function == "proc_exit" else "(result i32)"
    call = f"(call $f (i32.const {number}))"
    module = f"""(module
      (import "{abi.module}" "{function}" (func $f (param i32) {result}))
      (import "{abi.module}" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func (export "_start") {call if not result else f"(call $exit {call})"}))"""
    return vfswasi.run(module.encode(), timeout=60)


class Succeeds:
    """One method for each function. The guest has args ["a", "bc"], the environment {"A": "1"} and, in its
    only preopen "/d", the file "f" open for everything as descriptor 4, its cursor behind b"content"."""

    def __init__(self, guest: RawGuest) -> None:
        self.guest = guest
        self.file = 4

    def args_sizes_get(self) -> None:
        self.guest.must("args_sizes_get", FREE, FREE + 4)
        assert struct.unpack("<II", self.guest.peek(FREE, 8)) == (2, 5)

    def args_get(self) -> None:
        self.guest.must("args_get", FREE, FREE + 16)
        assert struct.unpack("<II", self.guest.peek(FREE, 8)) == (FREE + 16, FREE + 18)
        assert self.guest.peek(FREE + 16, 5) == b"a\0bc\0"

    def environ_sizes_get(self) -> None:
        self.guest.must("environ_sizes_get", FREE, FREE + 4)
        assert struct.unpack("<II", self.guest.peek(FREE, 8)) == (1, 4)

    def environ_get(self) -> None:
        self.guest.must("environ_get", FREE, FREE + 16)
        assert self.guest.u32(FREE) == FREE + 16
        assert self.guest.peek(FREE + 16, 4) == b"A=1\0"

    def clock_res_get(self) -> None:
        self.guest.must("clock_res_get", c.CLOCK_MONOTONIC, FREE)
        assert self.guest.u64(FREE) > 0

    def clock_time_get(self) -> None:
        self.guest.must("clock_time_get", c.CLOCK_REALTIME, 1, FREE)
        assert self.guest.u64(FREE) > 1_600_000_000 * SECOND

    def fd_advise(self) -> None:
        for advice in range(6):
            self.guest.must("fd_advise", self.file, 0, 7, advice)
        assert self.guest.contents("f") == b"content"

    def fd_allocate(self) -> None:
        self.guest.must("fd_allocate", self.file, 0, 10)
        assert self.guest.contents("f") == b"content\0\0\0"

    def fd_close(self) -> None:
        self.guest.must("fd_close", self.file)
        assert self.guest.call("fd_close", self.file) is Errno.BADF

    def fd_datasync(self) -> None:
        self.guest.must("fd_datasync", self.file)

    def fd_sync(self) -> None:
        self.guest.must("fd_sync", self.file)

    def fd_fdstat_get(self) -> None:
        assert self.guest.fdstat(self.file) == (FileType.REGULAR_FILE, 0, ALL_FILE_RIGHTS, 0)

    def fd_fdstat_set_flags(self) -> None:
        self.guest.must("fd_fdstat_set_flags", self.file, c.FDFLAG_APPEND)
        assert self.guest.fdstat(self.file).flags == c.FDFLAG_APPEND

    def fd_fdstat_set_rights(self) -> None:
        self.guest.must("fd_fdstat_set_rights", self.file, READ, 0)
        assert self.guest.fdstat(self.file).base == READ

    def fd_filestat_get(self) -> None:
        stat = self.guest.fstat(self.file)
        assert (stat.filetype, stat.nlink, stat.size) == (FileType.REGULAR_FILE, 1, 7)
        assert min(stat.dev, stat.ino, stat.atim, stat.mtim, stat.ctim) > 0

    def fd_filestat_set_size(self) -> None:
        self.guest.must("fd_filestat_set_size", self.file, 3)
        assert self.guest.contents("f") == b"con"

    def fd_filestat_set_times(self) -> None:
        flags = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
        self.guest.must("fd_filestat_set_times", self.file, 5 * SECOND, 7 * SECOND, flags)
        stat = self.guest.fstat(self.file)
        assert (stat.atim, stat.mtim) == (5 * SECOND, 7 * SECOND)

    def fd_pread(self) -> None:
        assert self.guest.pread(self.file, 3, 2) == b"nte"
        assert self.guest.tell(self.file) == 7

    def fd_pwrite(self) -> None:
        assert self.guest.pwrite(self.file, b"XY", 1) == 2
        assert self.guest.contents("f") == b"cXYtent"
        assert self.guest.tell(self.file) == 7

    def fd_prestat_get(self) -> None:
        self.guest.must("fd_prestat_get", 3, FREE)
        assert struct.unpack("<B3xI", self.guest.peek(FREE, 8)) == (0, 2)

    def fd_prestat_dir_name(self) -> None:
        self.guest.must("fd_prestat_dir_name", 3, FREE, 2)
        assert self.guest.peek(FREE, 2) == b"/d"

    def fd_read(self) -> None:
        reads = self.guest.open("f")
        assert [self.guest.read(reads, 4) for _ in range(3)] == [b"cont", b"ent", b""]

    def fd_write(self) -> None:
        assert self.guest.write(self.file, b"more") == 4
        assert self.guest.contents("f") == b"contentmore"

    def fd_readdir(self) -> None:
        entries = {entry.name: entry.filetype for entry in self.guest.readdir(3)}
        assert entries == {b".": FileType.DIRECTORY, b"..": FileType.DIRECTORY, b"f": FileType.REGULAR_FILE}

    def fd_renumber(self) -> None:
        other = self.guest.open("f")
        self.guest.must("fd_renumber", self.file, other)
        assert self.guest.tell(other) == 7
        assert self.guest.call("fd_close", self.file) is Errno.BADF

    def fd_seek(self) -> None:
        for whence, offset, position in ((c.WHENCE_SET, 2, 2), (c.WHENCE_CUR, 3, 5), (c.WHENCE_END, -1, 6)):
            assert self.guest.seek(self.file, offset, self.guest.abi.whence.index(whence)) == position

    def fd_tell(self) -> None:
        assert self.guest.tell(self.file) == 7

    def path_create_directory(self) -> None:
        assert self.guest.mkdir("new") is Errno.SUCCESS
        assert self.guest.stat("new").filetype == FileType.DIRECTORY

    def path_filestat_get(self) -> None:
        assert self.guest.stat("f") == self.guest.fstat(self.file)

    def path_filestat_set_times(self) -> None:
        flags = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
        self.guest.must("path_filestat_set_times", 3, 0, *self.guest.text("f"), 5 * SECOND, 7 * SECOND, flags)
        stat = self.guest.stat("f")
        assert (stat.atim, stat.mtim) == (5 * SECOND, 7 * SECOND)

    def path_link(self) -> None:
        assert self.guest.link("f", "new") is Errno.SUCCESS
        assert self.guest.stat("new").ino == self.guest.stat("f").ino
        assert self.guest.stat("f").nlink == 2

    def path_open(self) -> None:
        assert self.guest.open("f") == 5
        assert self.guest.read(5, 100) == b"content"

    def path_readlink(self) -> None:
        self.guest.symlink("f", "new")
        assert self.guest.readlink("new") == b"f"

    def path_remove_directory(self) -> None:
        self.guest.mkdir("new")
        assert self.guest.rmdir("new") is Errno.SUCCESS
        assert self.guest.names() == [b"f"]

    def path_rename(self) -> None:
        assert self.guest.rename("f", "new") is Errno.SUCCESS
        assert self.guest.names() == [b"new"]

    def path_symlink(self) -> None:
        assert self.guest.symlink("f", "new") is Errno.SUCCESS
        assert self.guest.stat("new", follow=False).filetype == FileType.SYMBOLIC_LINK
        assert self.guest.contents("new") == b"content"

    def path_unlink_file(self) -> None:
        assert self.guest.unlink("f") is Errno.SUCCESS
        assert self.guest.names() == []

    def poll_oneoff(self) -> None:
        subscriptions = [
            (11, "clock", c.CLOCK_MONOTONIC, 0, 0),
            (2**64 - 1, "write", self.file),
            (13, "clock", c.CLOCK_REALTIME, 1, c.SUBCLOCKFLAG_ABSTIME),
        ]
        self.guest.poke(FREE, pack_subscriptions(self.guest.abi, subscriptions))
        self.guest.must("poll_oneoff", FREE, FREE + 0x1000, 3, FREE + 0x2000)
        assert self.guest.u32(FREE + 0x2000) == 3
        assert unpack_events(self.guest.peek(FREE + 0x1000, 96)) == [
            PollEvent(11, 0, c.EVENTTYPE_CLOCK, 0, 0),
            PollEvent(2**64 - 1, 0, c.EVENTTYPE_FD_WRITE, 0, 0),
            PollEvent(13, 0, c.EVENTTYPE_CLOCK, 0, 0),
        ]

    def proc_exit(self) -> None:
        result = run_with_number(self.guest.abi, "proc_exit", 3)
        assert (result.returncode, result.trap) == (3, None)

    def proc_raise(self) -> None:
        assert self.guest.call("proc_raise", c.SIGNAL_NAMES.index("CHLD")) is Errno.SUCCESS

    def sched_yield(self) -> None:
        assert self.guest.call("sched_yield") is Errno.SUCCESS

    def random_get(self) -> None:
        self.guest.must("random_get", FREE, 32)
        assert self.guest.peek(FREE, 32) != bytes(32)

    # Nothing is a socket, so this is the best that these can say.

    def sock_accept(self) -> None:
        assert self.guest.call("sock_accept", self.file, 0, FREE) is Errno.NOTSOCK

    def sock_recv(self) -> None:
        iovs = self.guest.iovs((FREE + 64, 8))
        assert self.guest.call("sock_recv", self.file, *iovs, 0, FREE, FREE + 8) is Errno.NOTSOCK

    def sock_send(self) -> None:
        iovs = self.guest.iovs((FREE + 64, 8))
        assert self.guest.call("sock_send", self.file, *iovs, 0, FREE) is Errno.NOTSOCK

    def sock_shutdown(self) -> None:
        assert self.guest.call("sock_shutdown", self.file, 3) is Errno.NOTSOCK


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_every_function_is_called_and_does_its_work(version: str, name: str, mount: vfswasi.Mount) -> None:
    with RawGuest({"/d": mount}, version=version, args=["a", "bc"], env={"A": "1"}) as guest:
        assert guest.create("f", b"content") == 4
        getattr(Succeeds(guest), name)()


# Signals, with the actions that the specification names.

IGNORED, STOPPING = "NONE PIPE CHLD CONT URG WINCH", "STOP TSTP TTIN TTOU"
TERMINATING = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 ALRM TERM XCPU XFSZ VTALRM PROF POLL PWR SYS"
NUMBERS = {
    name: number
    for number, name in enumerate(
        "NONE HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP TSTP "
        "TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH POLL PWR SYS".split()
    )
}


def test_every_signal_is_in_one_of_the_lists() -> None:
    assert sorted(f"{IGNORED} {STOPPING} {TERMINATING}".split()) == sorted(NUMBERS)


@pytest.mark.parametrize("version", ABIS)
@pytest.mark.parametrize("name", TERMINATING.split())
def test_a_terminating_signal_is_the_negative_returncode(version: str, name: str) -> None:
    result = run_with_number(ABIS[version], "proc_raise", NUMBERS[name])
    assert (result.returncode, result.trap) == (-NUMBERS[name], None)
    with pytest.raises(vfswasi.GuestTrapError, match=f"signal {NUMBERS[name]}"):
        result.check_returncode()


@pytest.mark.parametrize("version", ABIS)
@pytest.mark.parametrize(
    ("number", "errno"),
    [
        *((NUMBERS[name], Errno.SUCCESS) for name in IGNORED.split()),
        *((NUMBERS[name], Errno.NOTSUP) for name in STOPPING.split()),
        *((number, Errno.INVAL) for number in (31, 32, 255, 256 + 9, 0x80000000, 0xFFFFFFFF)),
    ],
)
def test_other_signals_return_to_the_program(version: str, number: int, errno: Errno) -> None:
    result = run_with_number(ABIS[version], "proc_raise", number)
    assert (result.returncode, result.trap) == (errno, None)


# What is different in the older snapshot.


@pytest.fixture
def unstable(mount: vfswasi.Mount) -> Iterator[RawGuest]:
    with RawGuest({"/d": mount}, version="unstable") as guest:
        yield guest


def test_unstable_has_the_same_functions_without_sock_accept() -> None:
    preview1, unstable = ABIS["preview1"].functions, ABIS["unstable"].functions
    assert set(preview1) - set(unstable) == {"sock_accept"}
    assert all(preview1[name] == types for name, types in unstable.items())
    assert (len(preview1), len(unstable)) == (46, 45)


def test_a_module_that_wants_sock_accept_of_unstable_is_refused() -> None:
    module = b"""(module (import "wasi_unstable" "sock_accept" (func (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "_start")))"""
    with pytest.raises(vfswasi.MissingImportError, match="sock_accept"):
        vfswasi.run(module, timeout=60)


@pytest.mark.parametrize("by_path", [True, False])
def test_unstables_filestat_has_a_u32_link_count_and_56_bytes(unstable: RawGuest, by_path: bool) -> None:
    file = unstable.create("f", b"content")
    for name in ("second", "third"):
        assert unstable.link("f", name) is Errno.SUCCESS
    times = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
    unstable.must("fd_filestat_set_times", file, 5 * SECOND, 7 * SECOND, times)
    unstable.poke(FREE, b"\xaa" * 64)
    if by_path:
        unstable.must("path_filestat_get", 3, 0, *unstable.text("f"), FREE)
    else:
        unstable.must("fd_filestat_get", file, FREE)
    raw = unstable.peek(FREE, 64)
    assert raw[56:] == b"\xaa" * 8
    dev, ino, filetype, nlink, size, atim, mtim, ctim = struct.unpack("<QQB3xIQQQQ", raw[:56])
    assert (filetype, nlink, size) == (FileType.REGULAR_FILE, 3, 7)
    assert (atim, mtim) == (5 * SECOND, 7 * SECOND)
    assert min(dev, ino) > 0
    assert ctim > 1_600_000_000 * SECOND


def test_preview1s_filestat_has_a_u64_link_count_and_64_bytes(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.poke(FREE, b"\xaa" * 72)
    guest.must("fd_filestat_get", file, FREE)
    raw = guest.peek(FREE, 72)
    assert raw[64:] == b"\xaa" * 8
    _, _, filetype, nlink, size = struct.unpack("<QQB7xQQ", raw[:40])
    assert (filetype, nlink, size) == (FileType.REGULAR_FILE, 1, 7)


@pytest.mark.parametrize(
    ("version", "cur", "end", "start"),
    [("preview1", 1, 2, 0), ("unstable", 0, 1, 2)],
    ids=["preview1", "unstable"],
)
def test_whence_is_numbered_as_each_snapshot_has_it(
    version: str, cur: int, end: int, start: int, mount: vfswasi.Mount
) -> None:
    with RawGuest({"/d": mount}, version=version) as guest:
        file = guest.create("f", b"content")
        assert guest.seek(file, 3, start) == 3
        assert guest.seek(file, 1, cur) == 4
        assert guest.seek(file, -2, end) == 5
        assert guest.call("fd_seek", file, 0, 3, FREE) is Errno.INVAL


@pytest.mark.parametrize(("version", "size"), [("preview1", 48), ("unstable", 56)])
def test_subscriptions_have_the_size_of_each_snapshot(version: str, size: int, mount: vfswasi.Mount) -> None:
    with RawGuest({"/d": mount}, version=version) as guest:
        file = guest.create("f", b"content")
        clock_at = 16 if version == "preview1" else 24
        clock = struct.pack("<QB", 5, c.EVENTTYPE_CLOCK).ljust(clock_at, b"\0")
        clock += struct.pack("<I4xQQH", c.CLOCK_REALTIME, 1, 0, c.SUBCLOCKFLAG_ABSTIME)
        read = struct.pack("<QB7xI", 6, c.EVENTTYPE_FD_READ, file)
        guest.poke(FREE, clock.ljust(size, b"\0") + read.ljust(size, b"\0"))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, 2, FREE + 0x2000)
        assert unpack_events(guest.peek(FREE + 0x1000, 64)) == [
            PollEvent(5, 0, c.EVENTTYPE_CLOCK, 0, 0),
            PollEvent(6, 0, c.EVENTTYPE_FD_READ, 0, 0),
        ]


def test_unstables_identifier_of_a_clock_is_not_its_id(unstable: RawGuest) -> None:
    clock = struct.pack("<QB7xQI4xQQH", 5, c.EVENTTYPE_CLOCK, 77, c.CLOCK_MONOTONIC, 0, 0, 0)
    unstable.poke(FREE, clock.ljust(56, b"\0"))
    unstable.must("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000)
    assert unpack_events(unstable.peek(FREE + 0x1000, 32)) == [PollEvent(5, 0, c.EVENTTYPE_CLOCK, 0, 0)]


@pytest.mark.parametrize(("version", "bits"), [("preview1", 30), ("unstable", 29)])
def test_rights_have_as_many_bits_as_each_snapshot_knows(version: str, bits: int, mount: vfswasi.Mount) -> None:
    assert ABIS[version].rights_all == 2**bits - 1
    with RawGuest({"/d": mount}, version=version) as guest:
        stat = guest.fdstat(3)
        assert (stat.base | stat.inheriting) < 2**bits
        guest.create("f")
        assert guest.try_open("f", base=1 << bits)[0] is Errno.NOTCAPABLE
