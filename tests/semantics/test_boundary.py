"""Numbers and pointers of every function: what crosses from WebAssembly into the host, and how a run ends."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS
from vfswasi.errors import Errno

from ..rawguest import FREE, SIZE, RawGuest, pack_subscriptions

# Arguments that are valid for each function. Words are filled in by `arguments`:
#   dir, file: open descriptors     in, out: 64 bytes of memory each     args: room for argv or environ
#   path: the name "f"              new: the name "g"                    iovs: one iovec
#   subs: one subscription
VALID: dict[str, Sequence[str | int]] = {
    "args_get": ("args", "args"),
    "args_sizes_get": ("out", "out"),
    "environ_get": ("args", "args"),
    "environ_sizes_get": ("out", "out"),
    "clock_res_get": (1, "out"),
    "clock_time_get": (1, 0, "out"),
    "fd_advise": ("file", 0, 0, 0),
    "fd_allocate": ("file", 0, 1),
    "fd_close": ("file",),
    "fd_datasync": ("file",),
    "fd_fdstat_get": ("file", "out"),
    "fd_fdstat_set_flags": ("file", 0),
    "fd_fdstat_set_rights": ("file", 0, 0),
    "fd_filestat_get": ("file", "out"),
    "fd_filestat_set_size": ("file", 1),
    "fd_filestat_set_times": ("file", 0, 0, 0),
    "fd_pread": ("file", "iovs", 1, 0, "out"),
    "fd_prestat_get": ("dir", "out"),
    "fd_prestat_dir_name": ("dir", "out", 64),
    "fd_pwrite": ("file", "iovs", 1, 0, "out"),
    "fd_read": ("file", "iovs", 1, "out"),
    "fd_readdir": ("dir", "out", 64, 0, "out"),
    "fd_renumber": ("file", "file"),
    "fd_seek": ("file", 0, 0, "out"),
    "fd_sync": ("file",),
    "fd_tell": ("file", "out"),
    "fd_write": ("file", "iovs", 1, "out"),
    "path_create_directory": ("dir", "new", 1),
    "path_filestat_get": ("dir", 0, "path", 1, "out"),
    "path_filestat_set_times": ("dir", 0, "path", 1, 0, 0, 0),
    "path_link": ("dir", 0, "path", 1, "dir", "new", 1),
    "path_open": ("dir", 0, "path", 1, 0, 2, 0, 0, "out"),
    "path_readlink": ("dir", "path", 1, "out", 64, "out"),
    "path_remove_directory": ("dir", "path", 1),
    "path_rename": ("dir", "path", 1, "dir", "new", 1),
    "path_symlink": ("path", 1, "dir", "new", 1),
    "path_unlink_file": ("dir", "path", 1),
    "poll_oneoff": ("subs", "out", 1, "out"),
    "proc_exit": (0,),
    "proc_raise": (0,),
    "sched_yield": (),
    "random_get": ("out", 64),
    "sock_accept": ("file", 0, "out"),
    "sock_recv": ("file", "iovs", 1, 0, "out", "out"),
    "sock_send": ("file", "iovs", 1, 0, "out"),
    "sock_shutdown": ("file", 1),
}

# How many bytes the smallest access through such a pointer takes; one byte fewer before the end straddles it.
POINTERS = {"args": 2, "out": 2, "path": 1, "new": 1, "iovs": 8, "subs": 48}
DESCRIPTORS = ("dir", "file")
NUMBERS_NEVER_OPEN = (99, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@pytest.fixture(params=["preview1", "unstable"])
def raw(request: pytest.FixtureRequest, mount: vfswasi.Mount) -> Iterator[RawGuest]:
    """A guest of each snapshot with the file "f" open as descriptor 4, its cursor in the middle."""
    with RawGuest({"/d": mount}, version=request.param, args=["a"], env={"A": "1"}) as guest:
        assert guest.create("f", b"content") == 4
        guest.seek(4, 2, guest.abi.whence.index(c.WHENCE_SET))
        yield guest


def arguments(guest: RawGuest, name: str) -> list[int]:
    """The numbers for `VALID[name]`, with memory made to fit."""
    guest.poke(FREE, b"f")
    guest.poke(FREE + 64, b"g")
    guest.poke(FREE + 128, struct.pack("<II", FREE + 256, 8))
    guest.poke(FREE + 512, pack_subscriptions(guest.abi, [(7, "clock", c.CLOCK_MONOTONIC, 0, 0)]))
    words = {"dir": 3, "file": 4, "path": FREE, "new": FREE + 64, "iovs": FREE + 128, "subs": FREE + 512}
    return [
        word if isinstance(word, int) else words.get(word, FREE + 0x1000 + 64 * index)
        for index, word in enumerate(VALID[name])
    ]


def positions(name: str, words: Sequence[str]) -> list[int]:
    return [index for index, word in enumerate(VALID[name]) if word in words]


def test_the_table_of_arguments_covers_every_function() -> None:
    assert set(VALID) == set(ABIS["preview1"].functions)
    for name, types in ABIS["preview1"].functions.items():
        assert len(VALID[name]) == len(types), name


def lacks(guest: RawGuest, name: str) -> bool:
    """Whether the guest's snapshot does not have the function, which is then its whole answer."""
    if name in guest.abi.functions:
        return False
    assert (guest.abi.version, name) == ("unstable", "sock_accept")
    return True


@pytest.mark.parametrize("name", [name for name in VALID if positions(name, DESCRIPTORS)])
def test_a_descriptor_that_is_not_open_is_badf(raw: RawGuest, name: str) -> None:
    if lacks(raw, name):
        return
    for position in positions(name, DESCRIPTORS):
        for number in NUMBERS_NEVER_OPEN:
            args = arguments(raw, name)
            args[position] = number
            assert raw.call(name, *args) is Errno.BADF, (position, number)


@pytest.mark.parametrize("name", [name for name in VALID if positions(name, tuple(POINTERS))])
def test_a_bad_pointer_is_fault_and_nothing_is_done(raw: RawGuest, name: str) -> None:
    if lacks(raw, name):
        return
    for position in positions(name, tuple(POINTERS)):
        width = POINTERS[str(VALID[name][position])]
        for address in {SIZE - width + 1, SIZE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF}:
            args = arguments(raw, name)
            args[position] = address
            assert raw.call(name, *args) is Errno.FAULT, (position, hex(address))
    assert raw.names() == [b"f"]
    assert raw.tell(4) == 2
    assert raw.contents("f") == b"content"


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite", "sock_recv", "sock_send"])
@pytest.mark.parametrize(("buffer", "length"), [(SIZE, 1), (SIZE - 4, 5), (0xFFFFFFFF, 1), (16, 0xFFFFFFFF)])
def test_an_iovec_that_leads_out_of_memory_is_fault(guest: RawGuest, name: str, buffer: int, length: int) -> None:
    guest.create("f", b"content")
    args = arguments(guest, name)
    guest.poke(FREE + 128, struct.pack("<II", buffer, length))
    assert guest.call(name, *args) is Errno.FAULT
    assert guest.contents("f") == b"content"


@pytest.mark.parametrize("address", [SIZE, 0x80000000, 0xFFFFFFFF])
def test_length_zero_is_fine_at_any_address(guest: RawGuest, address: int) -> None:
    file = guest.create("f", b"content")
    assert guest.call("random_get", address, 0) is Errno.SUCCESS
    for name in ("fd_read", "fd_write"):
        assert guest.call(name, file, address, 0, FREE) is Errno.SUCCESS
        assert guest.call(name, file, *guest.iovs((address, 0)), FREE) is Errno.SUCCESS
        assert guest.call(name, file, *guest.iovs((address, 0), (address, 0)), FREE) is Errno.SUCCESS
    assert guest.call("fd_readdir", 3, address, 0, 0, FREE) is Errno.SUCCESS
    assert guest.call("path_open", 3, 0, address, 0, 0, 0, 0, 0, FREE) is Errno.NOENT
    assert guest.contents("f") == b"content"


def test_the_last_bytes_of_memory_are_memory(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.seek(file, 0)
    assert guest.call("fd_read", file, *guest.iovs((SIZE - 7, 7)), FREE) is Errno.SUCCESS
    assert guest.peek(SIZE - 7, 7) == b"content"
    assert guest.call("fd_tell", file, SIZE - 8) is Errno.SUCCESS
    assert guest.u64(SIZE - 8) == 7


def test_memory_that_has_grown_is_seen(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    assert guest.call("fd_tell", file, SIZE) is Errno.FAULT
    guest.grow()
    assert guest.call("fd_tell", file, SIZE) is Errno.SUCCESS
    assert guest.u64(SIZE) == 7


HIGH = 0x90000000
LONG = 0x88000000  # a buffer of more than 2 GiB, which ends far below 4 GiB from here on

BUFFERS_ABOVE_2_GIB = f"""(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 0xA000)
  (data (i32.const 0) "f")
  (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
  (func $iovec (param i32 i32)
    (i32.store (i32.const 16) (local.get 0))
    (i32.store (i32.const 20) (local.get 1)))
  (func (export "_start")
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (call $iovec (i32.const {HIGH}) (i32.const 7))
    (call $must (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 36)))
    (call $must (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 40)))
    (call $iovec (i32.const 65536) (i32.const {LONG}))
    (call $must (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 36)))
    (call $must (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 40)))
    (if (i32.ne (i32.load (i32.const 36)) (i32.const 5)) (then (call $exit (i32.const 200))))
    (if (i32.ne (i32.load (i32.const 40)) (i32.const {LONG})) (then (call $exit (i32.const 201))))
))""".encode()


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_buffers_above_2_gib_and_longer_than_2_gib_work(kind: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content rest")
    source = {"f": b"content rest"} if kind == "memory" else tmp_path
    limits = vfswasi.Limits(memory_bytes=4 << 30, call_bytes=2**32 - 1)
    result = vfswasi.run(
        BUFFERS_ABOVE_2_GIB,
        preopens={"/d": source},
        stdout=vfswasi.PIPE,
        stderr=vfswasi.DEVNULL,
        timeout=60,
        limits=limits,
    )
    assert (result.returncode, result.trap, result.stdout) == (0, None, b"content")


def test_rights_offsets_and_cookies_are_unsigned(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    everything = 2**64 - 1
    assert guest.try_open("f", base=everything)[0] is Errno.NOTCAPABLE
    assert guest.try_open(".", base=0, inheriting=1 << 63)[0] is Errno.NOTCAPABLE
    assert guest.call("fd_fdstat_set_rights", file, everything, 0) is Errno.NOTCAPABLE
    for offset in (2**63, 2**64 - 1):
        assert guest.call("fd_pread", file, *guest.iovs((FREE, 1)), offset, FREE + 8) is Errno.INVAL
        assert guest.call("fd_pwrite", file, *guest.iovs((FREE, 1)), offset, FREE + 8) is Errno.INVAL
        assert guest.call("fd_filestat_set_size", file, offset) is Errno.FBIG
    assert guest.readdir_raw(3, 4096, 2**64 - 1) == b""
    assert guest.contents("f") == b"content"


FLAGS_UNKNOWN: list[tuple[str, tuple[str | int, ...]]] = [
    ("fd_seek", ("file", 0, 3, "out")),
    ("fd_seek", ("file", 0, 0xFFFFFFFF, "out")),
    ("fd_advise", ("file", 0, 0, 6)),
    ("fd_advise", ("file", 0, 0, 0xFFFFFFFF)),
    ("fd_fdstat_set_flags", ("file", 0x20)),
    ("fd_fdstat_set_flags", ("file", 0x8001)),
    ("fd_filestat_set_times", ("file", 0, 0, 0x10)),
    ("path_filestat_get", ("dir", 2, "path", 1, "out")),
    ("path_filestat_set_times", ("dir", 2, "path", 1, 0, 0, 0)),
    ("path_filestat_set_times", ("dir", 0, "path", 1, 0, 0, 0x10)),
    ("path_link", ("dir", 2, "path", 1, "dir", "new", 1)),
    ("path_open", ("dir", 2, "path", 1, 0, 2, 0, 0, "out")),
    ("path_open", ("dir", 0, "path", 1, 0x10, 2, 0, 0, "out")),
    ("path_open", ("dir", 0, "new", 1, 0x8001, 2, 0, 0, "out")),
    ("path_open", ("dir", 0, "path", 1, 0, 2, 0, 0x20, "out")),
    ("sock_accept", ("file", 0x20, "out")),
    ("sock_recv", ("file", "iovs", 1, 4, "out", "out")),
    ("sock_send", ("file", "iovs", 1, 1, "out")),
    ("sock_shutdown", ("file", 4)),
]


def unknown_flags(guest: RawGuest, name: str, words: Sequence[str | int]) -> list[int]:
    filled = {"dir": 3, "file": 4, "path": FREE, "new": FREE + 64, "iovs": FREE + 128}
    arguments(guest, name)
    return [word if isinstance(word, int) else filled.get(word, FREE + 0x1000) for word in words]


@pytest.mark.parametrize(("name", "words"), FLAGS_UNKNOWN)
def test_unknown_flag_bits_whence_and_advice_are_inval(guest: RawGuest, name: str, words: Sequence[str | int]) -> None:
    guest.create("f", b"content")
    assert guest.call(name, *unknown_flags(guest, name, words)) is Errno.INVAL
    assert guest.names() == [b"f"]
    assert guest.tell(4) == 7


@pytest.mark.parametrize(("name", "words"), FLAGS_UNKNOWN)
def test_the_descriptor_is_checked_before_the_flags(guest: RawGuest, name: str, words: Sequence[str | int]) -> None:
    closed = [99 if word in DESCRIPTORS else word for word in words]
    assert guest.call(name, *unknown_flags(guest, name, closed)) is Errno.BADF


def test_the_descriptor_is_checked_before_offsets_and_lengths(guest: RawGuest) -> None:
    assert guest.call("fd_allocate", 99, 0, 0) is Errno.BADF
    assert guest.call("fd_pread", 99, *guest.iovs((FREE, 1)), 2**63, FREE + 8) is Errno.BADF
    assert guest.call("fd_filestat_set_size", 99, 2**64 - 1) is Errno.BADF


@pytest.mark.parametrize("clock", [4, 0x80000000, 0xFFFFFFFF])
def test_an_unknown_clock_is_inval(guest: RawGuest, clock: int) -> None:
    assert guest.call("clock_res_get", clock, FREE) is Errno.INVAL
    assert guest.call("clock_time_get", clock, 0, FREE) is Errno.INVAL
    guest.poke(FREE, pack_subscriptions(guest.abi, [(0, "clock", clock, 0, 0)]))
    assert guest.call("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000) is Errno.INVAL


@pytest.mark.parametrize("subscription", [(0, "clock", 1, 0, 2), (0, "clock", 1, 0, 0x8000), (0, 3, 0), (0, 255, 0)])
def test_an_unknown_subscription_kind_or_clock_flag_is_inval(
    guest: RawGuest, subscription: tuple[str | int, ...]
) -> None:
    guest.poke(FREE, pack_subscriptions(guest.abi, [subscription]))
    assert guest.call("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000) is Errno.INVAL


def test_a_module_without_memory_that_only_exits_runs() -> None:
    module = b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (i32.const 42))))"""
    result = vfswasi.run(module, timeout=60)
    assert (result.returncode, result.trap) == (42, None)


def test_returning_from_start_is_exit_0() -> None:
    result = vfswasi.run(b'(module (memory (export "memory") 1) (func (export "_start")))', timeout=60)
    assert (result.returncode, result.trap) == (0, None)


EXITS_WITH_WHAT_IT_READS = b"""(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00")
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $exit (i32.load (i32.const 16)))
    unreachable))"""


def test_every_exit_code_survives_and_large_ones_are_u32() -> None:
    codes = [*range(256), 256, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    with vfswasi.Sandbox(EXITS_WITH_WHAT_IT_READS) as sandbox:
        results = [sandbox.run(stdin=struct.pack("<I", code), timeout=60) for code in codes]
    assert [result.returncode for result in results] == codes
    assert {result.trap for result in results} == {None}
