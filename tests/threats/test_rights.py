"""Attacks on rights: lines R2 and R3 of the threat model. R1, read-only mounts, has a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.kernel import rights

from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, RawGuest, pack_subscriptions, unpack_events
from .jail import PATH_CALLS, PathCall
from .store import TREE, Store


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path)


# R2: rights never grow.

EVERYTHING = rights.DIRECTORY | rights.FILE


def test_r2_what_path_open_asks_beyond_the_directory_is_notcapable(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        kept = READ | c.RIGHT_PATH_OPEN
        directory = guest.open("sub", base=c.RIGHT_PATH_OPEN, inheriting=kept)
        for bit in range(64):
            asked = guest.try_open("g", fd=directory, base=1 << bit)[0]
            handed = guest.try_open(".", fd=directory, base=c.RIGHT_PATH_OPEN, inheriting=1 << bit)[0]
            assert (asked is Errno.SUCCESS) == bool(kept >> bit & 1)
            assert (handed is Errno.SUCCESS) == bool(kept >> bit & 1)
            assert asked in (Errno.SUCCESS, Errno.NOTCAPABLE)
        for oflags in (c.OFLAG_CREAT, c.OFLAG_CREAT | c.OFLAG_EXCL, c.OFLAG_TRUNC):
            assert guest.try_open("new", fd=directory, oflags=oflags, base=0)[0] is Errno.NOTCAPABLE
        assert guest.names("sub") == [b"g"]


def test_r2_set_rights_only_shrinks_bit_by_bit(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        file = guest.open("f", base=ALL_FILE_RIGHTS)
        left = ALL_FILE_RIGHTS
        for bit in range(30):
            if not left >> bit & 1:
                assert guest.call("fd_fdstat_set_rights", file, left | 1 << bit, 0) is Errno.NOTCAPABLE
                continue
            left &= ~(1 << bit)
            assert guest.call("fd_fdstat_set_rights", file, left, 0) is Errno.SUCCESS
            assert guest.call("fd_fdstat_set_rights", file, left | 1 << bit, 0) is Errno.NOTCAPABLE
            assert guest.fdstat(file).base == left
            assert guest.call("fd_fdstat_set_rights", file, left, 1 << bit) is Errno.NOTCAPABLE
        assert left == 0


def test_r2_renumber_moves_rights_and_lends_none(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        weak = guest.open("f", base=c.RIGHT_FD_READ)
        guest.must("fd_fdstat_set_rights", weak, c.RIGHT_FD_READ, 0)
        strong = guest.open("f", base=ALL_FILE_RIGHTS)
        assert guest.call("fd_renumber", weak, strong) is Errno.SUCCESS
        assert guest.fdstat(strong).base == c.RIGHT_FD_READ
        assert guest.call("fd_write", strong, *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOTCAPABLE
        assert guest.call("fd_renumber", strong, 1) is Errno.SUCCESS
        assert guest.call("fd_write", 1, *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOTCAPABLE
        assert guest.contents("f") == b"content"


@pytest.mark.parametrize("function", ["fd_write", "fd_pwrite"])
def test_r2_an_append_only_grant_stays_one(store: Store, function: str) -> None:
    with store.mounted(rw=True) as guest:
        base = c.RIGHT_FD_WRITE | (c.RIGHT_FD_SEEK if function == "fd_pwrite" else 0)
        file = guest.open("f", base=base, fdflags=c.FDFLAG_APPEND)
        assert guest.call("fd_fdstat_set_flags", file, 0) is Errno.NOTCAPABLE
        assert guest.fdstat(file).flags == c.FDFLAG_APPEND
        guest.poke(FREE, b"xyz")
        offset = (0,) if function == "fd_pwrite" else ()
        if function == "fd_pwrite":
            assert guest.call("fd_seek", file, 0, c.WHENCE_SET, FREE + 64) is Errno.SUCCESS
        assert guest.call(function, file, *guest.iovs((FREE, 3)), *offset, FREE + 64) is Errno.SUCCESS
        assert guest.contents("f") == b"contentxyz"
        for name, args in {"fd_filestat_set_size": (0,), "fd_allocate": (0, 99), "fd_sync": ()}.items():
            assert guest.call(name, file, *args) is Errno.NOTCAPABLE


def test_r2_flags_give_no_rights(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        for flags in range(0x20):
            file = guest.open("f", base=READ | c.RIGHT_FD_FDSTAT_SET_FLAGS)
            assert guest.call("fd_fdstat_set_flags", file, flags) is Errno.SUCCESS
            assert guest.fdstat(file).base == READ | c.RIGHT_FD_FDSTAT_SET_FLAGS
            assert guest.call("fd_write", file, *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOTCAPABLE
            guest.close_fd(file)


def test_r2_a_directory_opened_with_no_rights_gets_no_more_than_its_parent(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        mine = c.RIGHT_PATH_OPEN | c.RIGHT_FD_READDIR
        first = guest.open(".", base=mine, inheriting=READ | mine)
        second = guest.opendir("sub", fd=first)
        third = guest.opendir(".", fd=second)
        for fd in (second, third):
            assert (guest.fdstat(fd).base, guest.fdstat(fd).inheriting) == (mine, READ | mine)
            assert guest.mkdir("new", fd=fd) is Errno.NOTCAPABLE
            assert guest.try_open("g", fd=second, base=c.RIGHT_FD_WRITE)[0] is Errno.NOTCAPABLE


def test_r2_a_file_opened_with_no_rights_gets_no_more_than_its_directory_passes_on(store: Store) -> None:
    with store.mounted(rw=True) as guest:
        for passed_on in (0, c.RIGHT_FD_SEEK, c.RIGHT_FD_READ, c.RIGHT_FD_WRITE, READ, ALL_FILE_RIGHTS):
            directory = guest.open(".", base=c.RIGHT_PATH_OPEN, inheriting=passed_on)
            file = guest.open("f", fd=directory, base=0)
            assert guest.fdstat(file).base == READ & passed_on
            for name in ("fd_write", "fd_pwrite"):
                offset = (0,) if name == "fd_pwrite" else ()
                assert guest.call(name, file, *guest.iovs((FREE, 1)), *offset, FREE + 64) is Errno.NOTCAPABLE
            assert guest.call("fd_filestat_set_size", file, 0) is Errno.NOTCAPABLE


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("passed_on", range(8))
def test_r2_truncating_on_opening_takes_the_right_or_those_to_do_it_afterwards(
    store: Store, own: bool, passed_on: int
) -> None:
    bits = (c.RIGHT_FD_FILESTAT_SET_SIZE, c.RIGHT_FD_WRITE, c.RIGHT_FD_READ)
    inheriting = sum(bit for index, bit in enumerate(bits) if passed_on >> index & 1)
    with store.mounted(rw=True) as guest:
        base = c.RIGHT_PATH_OPEN | (c.RIGHT_PATH_FILESTAT_SET_SIZE if own else 0)
        directory = guest.open(".", base=base, inheriting=inheriting)
        errno, file = guest.try_open("f", fd=directory, oflags=c.OFLAG_TRUNC, base=0)
        allowed = own or (inheriting & bits[0] and inheriting & bits[1])
        assert errno is (Errno.SUCCESS if allowed else Errno.NOTCAPABLE)
        assert guest.contents("f") == (b"" if allowed else b"content")
        if allowed:
            assert guest.fdstat(file).base & ~inheriting == 0
            assert not guest.fdstat(file).base & (c.RIGHT_FD_WRITE | c.RIGHT_FD_FILESTAT_SET_SIZE)


_SUBSETS = st.integers(0, EVERYTHING).map(lambda bits: bits & EVERYTHING)
_STEP = st.tuples(st.sampled_from(["open", "reopen", "shrink", "renumber", "file"]), _SUBSETS, _SUBSETS)


@settings(max_examples=60, deadline=None)
@given(st.lists(_STEP, max_size=25))
def test_r2_no_sequence_of_calls_makes_rights_grow(steps: list[tuple[str, int, int]]) -> None:
    with RawGuest({"/d": TREE}) as guest:
        current = guest.opendir(".")
        top = guest.fdstat(current)
        allowed_base, allowed = top.base | top.inheriting, top.inheriting
        for what, base, inheriting in steps:
            if what == "shrink":
                guest.call("fd_fdstat_set_rights", current, base, inheriting)
            elif what == "file":
                errno, file = guest.try_open("f", fd=current, base=base)
                if errno is Errno.SUCCESS:
                    brought = rights.of_a_file(base, EVERYTHING)
                    assert brought & ~base & ~READ == 0, "nothing that changes anything"
                    assert guest.fdstat(file).base & ~(brought & guest.fdstat(current).inheriting) == 0
                    guest.close_fd(file)
            elif what == "renumber":
                spare = guest.opendir(".")
                assert guest.call("fd_renumber", current, spare) is Errno.SUCCESS
                current = spare
            else:
                now = guest.fdstat(current)
                given_rights = (base & now.inheriting, inheriting & now.inheriting) if what == "open" else (0, 0)
                errno, fd = guest.try_open(".", fd=current, base=given_rights[0], inheriting=given_rights[1])
                if errno is Errno.SUCCESS:
                    if given_rights == (0, 0):
                        given_rights = now.base, now.inheriting
                    guest.close_fd(current)
                    current = fd
                    assert guest.fdstat(fd).base & ~given_rights[0] == 0
                    assert guest.fdstat(fd).inheriting == given_rights[1]
            seen = guest.fdstat(current)
            assert seen.base & ~allowed_base == 0
            assert seen.inheriting & ~allowed == 0
            allowed_base, allowed = seen.base | seen.inheriting, seen.inheriting


@pytest.mark.parametrize("call", PATH_CALLS, ids=lambda call: call.name)
def test_r2_a_directory_without_rights_does_nothing(store: Store, call: PathCall) -> None:
    with store.mounted(rw=True) as guest:
        bare = guest.opendir(".")
        guest.must("fd_fdstat_set_rights", bare, 0, 0)
        before = store.look()
        assert call.call(guest, bare, "f") is Errno.NOTCAPABLE
        assert call.call(guest, bare, "new") is Errno.NOTCAPABLE
        assert store.look() == before


# R3: using a descriptor the wrong way. Standard streams and directories BADF, files NOTCAPABLE (docs/semantics.md).

READING = ("fd_read", "fd_pread")
WRITING = ("fd_write", "fd_pwrite")


@pytest.mark.parametrize("lengths", [(), (0,), (4,)])
@pytest.mark.parametrize(
    ("opened", "functions", "errno"),
    [
        ("stdin", ("fd_write",), Errno.BADF),
        ("stdout", ("fd_read",), Errno.BADF),
        ("stderr", ("fd_read",), Errno.BADF),
        ("stdin", ("fd_pwrite", "fd_pread"), Errno.SPIPE),
        ("stdout", ("fd_pwrite", "fd_pread"), Errno.SPIPE),
        ("directory", READING + WRITING, Errno.BADF),
        ("for reading", WRITING, Errno.NOTCAPABLE),
        ("for writing", READING, Errno.NOTCAPABLE),
        ("for nothing", READING + WRITING, Errno.NOTCAPABLE),
    ],
)
def test_r3_wrong_mode_use_is_refused(
    store: Store, opened: str, functions: tuple[str, ...], errno: Errno, lengths: tuple[int, ...]
) -> None:
    with store.mounted(rw=True) as guest:
        before = store.look()
        if opened.startswith("for"):
            base = {"reading": READ, "writing": c.RIGHT_FD_WRITE, "nothing": c.RIGHT_FD_ADVISE}
            fd = guest.open("f", base=base[opened.removeprefix("for ")])
        else:
            fd = {"stdin": 0, "stdout": 1, "stderr": 2, "directory": 3}[opened]
        for name in functions:
            offset = (0,) if name in ("fd_pread", "fd_pwrite") else ()
            buffers = guest.iovs(*((FREE, length) for length in lengths))
            assert guest.call(name, fd, *buffers, *offset, FREE + 64) is errno
        assert store.look() == before


@pytest.mark.parametrize(
    ("fd", "kind", "errno"),
    [
        (0, "write", Errno.BADF),
        (1, "read", Errno.BADF),
        (2, "read", Errno.BADF),
        (4, "read", Errno.NOTCAPABLE),
    ],
)
def test_r3_polling_the_wrong_way_is_an_event_with_the_error(store: Store, fd: int, kind: str, errno: Errno) -> None:
    with RawGuest({"/d": vfswasi.Mount(store.source, rw=True)}) as guest:
        assert guest.open("f", base=c.RIGHT_FD_WRITE | c.RIGHT_POLL_FD_READWRITE) == 4
        guest.poke(FREE, pack_subscriptions(guest.abi, [(7, kind, fd)]))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000)
        (event,) = unpack_events(guest.peek(FREE + 0x1000, 32))
        assert (event.userdata, event.errno) == (7, errno)
