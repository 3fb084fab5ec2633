"""Attacks with numbers: lines A2 to A6 of the threat model. A1, pointers, has a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import wasmtime

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..open_files import open_files, opened_since
from ..rawguest import ALL_FILE_RIGHTS, FREE, SIZE, RawGuest, pack_subscriptions
from .jail import CREAT, EXCL, TRUNC, WRITE, Jail

OUT, IOVS, DATA = FREE, FREE + 0x100, FREE + 0x1000

# A2: a failed call changes nothing.


def test_a2_five_thousand_failed_opens_make_no_file_and_leak_no_descriptor(jail: Jail) -> None:
    guest = jail.guest
    expected = guest.open("f")
    guest.close_fd(expected)
    before, open_before = jail.inside(), open_files()
    new, existing = guest.text("new"), guest.text("f", 0x1100)
    for turn in range(5000):
        bad = (SIZE, SIZE - 3, 2**31, 2**32 - 1)[turn % 4]
        assert guest.call("path_open", 3, 0, *new, CREAT, WRITE, 0, 0, bad) is Errno.FAULT
        assert guest.call("path_open", 3, 0, *existing, TRUNC, WRITE, 0, 0, bad) is Errno.FAULT
    assert jail.inside() == before
    assert opened_since(open_before) == []
    assert guest.open("f") == expected


FAILING_OPENS: dict[str, tuple[Errno, dict[str, Any]]] = {
    "creat and directory": (Errno.INVAL, {"path": "new", "oflags": CREAT | c.OFLAG_DIRECTORY}),
    "unknown oflags": (Errno.INVAL, {"path": "new", "oflags": CREAT | 16}),
    "unknown fdflags": (Errno.INVAL, {"path": "new", "oflags": CREAT, "fdflags": 32}),
    "too many rights": (Errno.NOTCAPABLE, {"path": "new", "oflags": CREAT, "base": 2**64 - 1}),
    "too much inheriting": (Errno.NOTCAPABLE, {"path": "new", "oflags": CREAT, "inheriting": 1 << 40}),
    "trunc and too many rights": (Errno.NOTCAPABLE, {"path": "f", "oflags": TRUNC, "base": 2**64 - 1}),
    "trunc and unknown fdflags": (Errno.INVAL, {"path": "f", "oflags": TRUNC, "fdflags": 32}),
    "excl on what exists": (Errno.EXIST, {"path": "f", "oflags": CREAT | EXCL | TRUNC}),
    "creat with a slash": (Errno.ISDIR, {"path": "new/", "oflags": CREAT}),
    "trunc as a directory": (Errno.NOTDIR, {"path": "f", "oflags": TRUNC | c.OFLAG_DIRECTORY}),
    "trunc of a directory": (Errno.ISDIR, {"path": "sub", "oflags": TRUNC}),
    "no parent": (Errno.NOENT, {"path": "no/new", "oflags": CREAT}),
    "name too long": (Errno.NAMETOOLONG, {"path": "n" * 256, "oflags": CREAT}),
    "path too long": (Errno.NAMETOOLONG, {"path": "./" * 2048 + "n", "oflags": CREAT}),
}


@pytest.mark.parametrize("name", FAILING_OPENS)
def test_a2_a_failed_open_makes_truncates_and_opens_nothing(jail: Jail, name: str) -> None:
    guest = jail.guest
    expected = guest.open("f")
    guest.close_fd(expected)
    before, open_before = jail.inside(), open_files()
    errno, options = FAILING_OPENS[name]
    for _ in range(100):
        assert guest.try_open(**{"base": WRITE, **options})[0] is errno
    assert jail.inside() == before
    assert opened_since(open_before) == []
    assert guest.open("f") == expected


@pytest.mark.parametrize(("path", "oflags"), [("new", CREAT), ("f", TRUNC), ("f", 0), ("sub", 0)])
def test_a2_without_room_in_the_table_nothing_is_made_or_truncated(
    mount: vfswasi.Mount, path: str, oflags: int
) -> None:
    with RawGuest({"/d": mount}, limits=vfswasi.Limits(descriptors=6)) as guest:
        guest.close_fd(guest.create("f", b"content"))
        guest.mkdir("sub")
        guest.open("f")
        guest.open("f")
        assert guest.try_open(path, oflags=oflags, base=2)[0] is Errno.MFILE
        guest.close_fd(5)
        assert guest.names() == [b"f", b"sub"]
        assert guest.contents("f") == b"content"


def test_a2_failed_calls_move_no_cursor_and_change_no_table(jail: Jail) -> None:
    guest = jail.guest
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    guest.seek(file, 3)
    before = jail.inside()
    failing: list[tuple[Errno, str, tuple[int, ...]]] = [
        (Errno.INVAL, "fd_seek", (file, -4, c.WHENCE_CUR, OUT)),
        (Errno.INVAL, "fd_seek", (file, 0, 9, OUT)),
        (Errno.FAULT, "fd_seek", (file, 0, c.WHENCE_SET, SIZE)),
        (Errno.FAULT, "fd_read", (file, SIZE, 1, OUT)),
        (Errno.BADF, "fd_renumber", (file, 99)),
        (Errno.BADF, "fd_renumber", (99, file)),
        (Errno.NOTCAPABLE, "fd_fdstat_set_rights", (file, 1 << 40, 0)),
        (Errno.INVAL, "fd_fdstat_set_flags", (file, 0x41)),
        (Errno.INVAL, "fd_filestat_set_times", (file, 5, 5, 3)),
        (Errno.INVAL, "fd_filestat_set_times", (file, 5, 5, 12)),
        (Errno.INVAL, "path_filestat_set_times", (3, 0, *guest.text("f"), 5, 5, 7)),
        (Errno.FBIG, "fd_filestat_set_size", (file, 2**63)),
        (Errno.FBIG, "fd_allocate", (file, 2**63 - 1, 1)),
        (Errno.BADF, "fd_close", (99,)),
    ]
    for errno, name, args in failing:
        status = guest.fdstat(file)
        assert guest.call(name, *args) is errno, name
        assert guest.fdstat(file) == status
        assert guest.tell(file) == 3
        assert jail.inside() == before


def test_a2_a_failed_readdir_loses_no_entry(jail: Jail) -> None:
    guest = jail.guest
    whole = guest.readdir_raw(3, 4096)
    for args in ((SIZE - 10, 64, 0, OUT), (DATA, 64, 0, SIZE), (2**32 - 1, 64, 2, OUT)):
        assert guest.call("fd_readdir", 3, *args) is Errno.FAULT
    assert guest.readdir_raw(3, 4096) == whole


# A3: numbers that mean nothing.


def _every_unknown(known: int, bits: int) -> list[int]:
    return [1 << bit for bit in range(bits) if not known >> bit & 1] + [(1 << bits) - 1, known + 1]


# The argument under test is the last of `args`; the file is made anew for each call.
UNKNOWN: list[tuple[str, Callable[[RawGuest, int, int], Sequence[int]], list[int]]] = [
    ("fd_seek", lambda _, fd, bad: (fd, 0, bad, OUT), [3, 4, 255, 256, 2**31, 2**32 - 1]),
    ("fd_advise", lambda _, fd, bad: (fd, 0, 0, bad), [6, 255, 256, 2**31, 2**32 - 1]),
    ("clock_res_get", lambda _, fd, bad: (bad, OUT), [4, 255, 256, 2**31, 2**32 - 1]),
    ("clock_time_get", lambda _, fd, bad: (bad, 0, OUT), [4, 255, 256, 2**31, 2**32 - 1]),
    ("fd_fdstat_set_flags", lambda _, fd, bad: (fd, bad), _every_unknown(0x1F, 32)),
    ("fd_filestat_set_times", lambda _, fd, bad: (fd, 5, 5, bad), _every_unknown(0xF, 32)),
    ("path_filestat_get", lambda g, fd, bad: (3, bad, *g.text("f"), DATA), _every_unknown(1, 32)),
    ("path_filestat_set_times", lambda g, fd, bad: (3, 0, *g.text("f"), 5, 5, bad), _every_unknown(0xF, 32)),
    ("path_filestat_set_times", lambda g, fd, bad: (3, bad, *g.text("f"), 5, 5, 5), _every_unknown(1, 32)),
    ("path_link", lambda g, fd, bad: (3, bad, *g.text("f"), 3, *g.text("new", DATA)), _every_unknown(1, 32)),
    (
        "path_open",
        lambda g, fd, bad: (3, bad, *g.text("new"), CREAT, WRITE, 0, 0, OUT),
        _every_unknown(1, 32),
    ),
    (
        "path_open",
        lambda g, fd, bad: (3, 0, *g.text("new"), CREAT | bad, WRITE, 0, 0, OUT),
        _every_unknown(0xF, 32),
    ),
    (
        "path_open",
        lambda g, fd, bad: (3, 0, *g.text("new"), CREAT, WRITE, 0, bad, OUT),
        _every_unknown(0x1F, 32),
    ),
    ("proc_raise", lambda _, fd, bad: (bad,), [31, 64, 255, 2**31, 2**32 - 1]),
    ("sock_recv", lambda g, fd, bad: (fd, *g.iovs((DATA, 1)), bad, OUT, OUT + 8), _every_unknown(3, 16)),
    ("sock_send", lambda g, fd, bad: (fd, *g.iovs((DATA, 1)), bad, OUT), _every_unknown(0, 16)),
    ("sock_shutdown", lambda g, fd, bad: (fd, bad), [4, 8, 255, 2**31, 2**32 - 1]),
]


@pytest.mark.parametrize(
    ("name", "args", "bad"), UNKNOWN, ids=[f"{number} {row[0]}" for number, row in enumerate(UNKNOWN)]
)
def test_a3_unknown_flags_and_kinds_are_inval(
    jail: Jail, name: str, args: Callable[[RawGuest, int, int], Sequence[int]], bad: list[int]
) -> None:
    guest = jail.guest
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    before = jail.inside()
    for value in bad:
        assert guest.call(name, *args(guest, file, value)) is Errno.INVAL, hex(value)
    assert jail.inside() == before
    assert guest.tell(file) == 0


@pytest.mark.parametrize("kind", [3, 4, 127, 128, 255])
def test_a3_an_unknown_kind_of_subscription_is_inval(guest: RawGuest, kind: int) -> None:
    for others in ([], [(1, "clock", 1, 0, 0)], [(1, "read", 0)]):
        subscriptions = [*others, (7, kind, 0)]
        guest.poke(DATA, pack_subscriptions(guest.abi, subscriptions))
        got = guest.call("poll_oneoff", DATA, DATA + 0x1000, len(subscriptions), OUT)
        assert got is Errno.INVAL


# A4: offsets, sizes and cookies at the extremes.

LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("offset", "whence", "at"),
    [
        (-1, c.WHENCE_SET, None),
        (-(2**63), c.WHENCE_SET, None),
        (LAST, c.WHENCE_SET, LAST),
        (-3, c.WHENCE_CUR, 0),
        (-4, c.WHENCE_CUR, None),
        (-(2**63), c.WHENCE_CUR, None),
        (LAST - 3, c.WHENCE_CUR, LAST),
        (LAST - 2, c.WHENCE_CUR, None),
        (LAST, c.WHENCE_CUR, None),
        (-7, c.WHENCE_END, 0),
        (-8, c.WHENCE_END, None),
        (LAST - 7, c.WHENCE_END, LAST),
        (LAST - 6, c.WHENCE_END, None),
        (-(2**63), c.WHENCE_END, None),
    ],
)
def test_a4_a_seek_to_the_extremes(guest: RawGuest, offset: int, whence: int, at: int | None) -> None:
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    guest.seek(file, 3)
    errno = guest.call("fd_seek", file, offset, whence, OUT)
    assert errno is (Errno.INVAL if at is None else Errno.SUCCESS)
    assert guest.tell(file) == (3 if at is None else at)


def test_a4_reading_and_writing_at_the_last_offset(jail: Jail) -> None:
    guest = jail.guest
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    before = jail.inside()
    guest.seek(file, LAST)
    assert guest.read(file, 10) == b""
    assert guest.call("fd_write", file, *guest.iovs((DATA, 1)), OUT) is Errno.FBIG
    assert guest.call("fd_write", file, *guest.iovs((DATA, 1), (DATA, 1)), OUT) is Errno.FBIG
    assert guest.call("fd_write", file, *guest.iovs((DATA, 0)), OUT) is Errno.SUCCESS
    assert guest.tell(file) == LAST
    for offset in (LAST, LAST - 3):
        assert guest.pread(file, 10, offset) == b""
        assert guest.call("fd_pwrite", file, *guest.iovs((DATA, 8)), offset, OUT) is Errno.FBIG
    for offset in (2**63, 2**63 + 1, 2**64 - 1):
        for name in ("fd_pread", "fd_pwrite"):
            assert guest.call(name, file, *guest.iovs((DATA, 8)), offset, OUT) is Errno.INVAL
    assert jail.inside() == before


def test_a4_a_huge_append_offset_is_the_end_all_the_same(jail: Jail) -> None:
    guest = jail.guest
    file = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
    guest.seek(file, LAST)
    assert guest.write(file, b"!") == 1
    assert guest.tell(file) == 8
    assert guest.contents("f") == b"content!"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("fd_filestat_set_size", (2**63,)),
        ("fd_filestat_set_size", (2**64 - 1,)),
        ("fd_filestat_set_size", (LAST,)),
        ("fd_allocate", (0, 2**63)),
        ("fd_allocate", (2**63, 1)),
        ("fd_allocate", (LAST, 1)),
        ("fd_allocate", (LAST, LAST)),
        ("fd_allocate", (2**64 - 1, 2**64 - 1)),
        ("fd_allocate", (0, LAST)),
    ],
)
def test_a4_sizes_that_no_store_has_are_fbig_or_nospc(jail: Jail, name: str, args: tuple[int, ...]) -> None:
    file = jail.guest.open("f", base=ALL_FILE_RIGHTS)
    before = jail.inside()
    assert jail.guest.call(name, file, *args) in (Errno.FBIG, Errno.NOSPC)
    assert jail.inside() == before


@pytest.mark.parametrize(
    ("offset", "length", "errno"),
    [
        (0, 2**63 - 1, Errno.SUCCESS),
        (2**63 - 1, 0, Errno.SUCCESS),
        (2**63 - 1, 2**63 - 1, Errno.SUCCESS),
        (2**63, 0, Errno.INVAL),
        (0, 2**64 - 1, Errno.INVAL),
    ],
)
def test_a4_advice_on_ranges_at_the_extremes(guest: RawGuest, offset: int, length: int, errno: Errno) -> None:
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    for advice in range(6):
        assert guest.call("fd_advise", file, offset, length, advice) is errno


@pytest.mark.parametrize("cookie", [2**64 - 1, 2**63, 2**63 - 1, 2**32, 1000])
def test_a4_a_cookie_that_was_never_given_is_the_end(guest: RawGuest, cookie: int) -> None:
    whole = guest.readdir_raw(3, 4096)
    assert guest.readdir_raw(3, 4096, cookie) == b""
    assert guest.readdir_raw(3, 4096) == whole
    fresh = guest.opendir("sub")
    assert guest.readdir_raw(fresh, 4096, cookie) == b""


@pytest.mark.parametrize("time", [0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_a4_times_at_the_extremes(guest: RawGuest, time: int) -> None:
    file = guest.open("f", base=ALL_FILE_RIGHTS)
    for _ in range(2):
        assert guest.call("fd_filestat_set_times", file, time, time, 5) in (Errno.SUCCESS, Errno.INVAL)
        assert guest.call("path_filestat_set_times", 3, 0, *guest.text("f"), time, time, 5) in (
            Errno.SUCCESS,
            Errno.INVAL,
        )
        assert 0 <= guest.stat("f").mtim < 2**64


@pytest.mark.parametrize("timeout", [2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("clock", [c.CLOCK_REALTIME, c.CLOCK_MONOTONIC])
@pytest.mark.parametrize("flags", [0, c.SUBCLOCKFLAG_ABSTIME])
def test_a4_a_clock_that_strikes_in_centuries_hinders_nobody(
    guest: RawGuest, timeout: int, clock: int, flags: int
) -> None:
    guest.poke(DATA, pack_subscriptions(guest.abi, [(1, "clock", clock, timeout, flags), (2, "read", 0)]))
    assert guest.call("poll_oneoff", DATA, DATA + 0x1000, 2, OUT) is Errno.SUCCESS
    assert guest.u32(OUT) == 1
    assert guest.u64(DATA + 0x1000) == 2


# A5: memories that WASI cannot use.

_IMPORT = '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'
BAD_MEMORIES = {
    "none": ("", "memory"),
    "under another name": ('(memory (export "mem") 1)', "memory"),
    "not a memory": ('(func (export "memory"))', "memory"),
    "shared": ('(memory (export "memory") 1 2 shared)', "shared"),
    "64-bit": ('(memory (export "memory") i64 1)', "64-bit"),
    "several": ('(memory (export "memory") 1) (memory (export "second") 1)', "several memories"),
}


@pytest.mark.parametrize("name", BAD_MEMORIES)
def test_a5_an_unsuitable_memory_is_refused_before_the_guest_runs(name: str) -> None:
    memory, words = BAD_MEMORIES[name]
    ran: list[int] = []
    wat = f"""(module {_IMPORT} (import "env" "ran" (func $ran)) {memory}
        (func $first (call $ran)) (start $first) (func (export "_start") (call $ran)))"""
    with pytest.raises(vfswasi.ModuleError, match=words):
        vfswasi.run(wat.encode(), imports={"env": {"ran": lambda _: ran.append(1)}})
    assert ran == []


@pytest.mark.parametrize("name", BAD_MEMORIES)
@pytest.mark.parametrize("method", ["start", "initialize", "finalize_bindings"])
def test_a5_an_unsuitable_memory_is_refused_by_the_class(name: str, method: str) -> None:
    memory, _ = BAD_MEMORIES[name]
    export = "_initialize" if method == "initialize" else "_start"
    config = wasmtime.Config()
    config.wasm_memory64 = config.wasm_multi_memory = config.wasm_threads = config.shared_memory = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    with vfswasi.WASI(version="preview1") as wasi:
        module = wasmtime.Module(engine, f'(module {_IMPORT} {memory} (func (export "{export}") unreachable))')
        function = wasi.get_import_object(store)["wasi_snapshot_preview1"]["fd_write"]
        instance = wasmtime.Instance(store, module, [function])
        with pytest.raises(vfswasi.MissingExportError, match="memory"):
            getattr(wasi, method)(instance)
    store.close()


# A6: what happens in a start section.


def _in_start_section(body: str, imports: str = "", after: str = "") -> bytes:
    return f"""(module {imports}
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\08\\00\\00\\00\\02\\00\\00\\00hi")
      (func $first {body}) (start $first)
      (func (export "_start") {after}))""".encode()


def test_a6_exit_in_a_start_section_is_an_exit() -> None:
    wat = _in_start_section("(call $exit (i32.const 42)) unreachable", after="unreachable")
    result = vfswasi.run(wat)
    assert (result.returncode, result.trap) == (42, None)


def test_a6_a_trap_in_a_start_section_is_a_trap() -> None:
    result = vfswasi.run(_in_start_section("unreachable"))
    assert result.returncode == -6
    assert "unreachable" in (result.trap or "")


@pytest.mark.parametrize(
    "body",
    [
        "(loop $again (br $again))",
        # a sleep of 2^40 ns: the subscription lies in zeroed memory, its timeout is written first
        "(i64.store (i32.const 1048) (i64.const 1099511627776)) (i32.store (i32.const 1040) (i32.const 1))"
        "(drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))",
    ],
    ids=["computing", "sleeping"],
)
def test_a6_the_deadline_holds_in_a_start_section(body: str) -> None:
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(_in_start_section(body), timeout=0.2)


def test_a6_the_memory_limit_holds_in_a_start_section() -> None:
    wat = _in_start_section(
        "(if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (call $exit (i32.const 1))))",
        after="(call $exit (i32.const 7))",
    )
    assert vfswasi.run(wat, limits=vfswasi.Limits(memory_bytes=65536)).returncode == 7
    assert vfswasi.run(wat).returncode == 1


def test_a6_calls_in_a_start_section_are_answered() -> None:
    wat = _in_start_section(
        "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))"
        "(if (i32.ne (call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 64)) (i32.const 21))"
        "  (then (call $exit (i32.const 9))))"
    )
    result = vfswasi.run(wat, stdout=vfswasi.PIPE)
    assert (result.returncode, result.stdout) == (0, b"hi")


def test_a6_a_host_exception_in_a_start_section_arrives_unchanged() -> None:
    error = ZeroDivisionError("mine")

    def fail(_memory: object) -> None:
        raise error

    wat = _in_start_section("(call $fail)", imports='(import "env" "fail" (func $fail))')
    with pytest.raises(ZeroDivisionError) as caught:
        vfswasi.run(wat, imports={"env": {"fail": fail}})
    assert caught.value is error


def test_a6_the_class_refuses_calls_before_start() -> None:
    store = wasmtime.Store()
    with vfswasi.WASI(version="preview1") as wasi:
        module = wasmtime.Module(
            store.engine,
            """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1) (func $first (call $exit (i32.const 3))) (start $first)
              (func (export "_start")))""",
        )
        function = wasi.get_import_object(store)["wasi_snapshot_preview1"]["proc_exit"]
        with pytest.raises(vfswasi.WasiStateError, match="before start"):
            wasmtime.Instance(store, module, [function])
    store.close()
