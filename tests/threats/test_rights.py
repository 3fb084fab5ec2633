"""Attacks on rights: lines R1 to R3 of the threat model."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS
from vfswasi.errors import Errno
from vfswasi.kernel import rights

from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, RawGuest, pack_subscriptions, unpack_events
from .jail import PATH_CALLS, PathCall, fill, fingerprints

# R1: read-only is read-only, for every function that there is.

TREE: dict[str, Any] = {
    "f": b"content",
    "sub": {"g": b"below"},
    "empty": {},
    "link": vfswasi.Symlink("f"),
}


class Store:
    """The same tree as a read-only and as a writable mount (which a zip has not), and a look at it from behind."""

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.look: Callable[[], object]
        self.source: Any
        if kind == "memory":
            backend = self.source = vfswasi.MemoryBackend(TREE)
            self.look = lambda: fingerprints(backend)
        elif kind == "local":
            fill(place / "tree", TREE)
            self.source = place / "tree"
            local = vfswasi.LocalBackend(self.source)
            self.look = lambda: fingerprints(local)
        else:
            archive = self.source = place / "tree.zip"
            with zipfile.ZipFile(archive, "w") as made:
                for name in ("f", "sub/g", "empty/"):
                    made.writestr(name, b"content" if name == "f" else b"")
                link = zipfile.ZipInfo("link")
                link.external_attr = 0o120777 << 16
                made.writestr(link, b"f")
            self.look = lambda: (archive.read_bytes(), archive.stat().st_mtime_ns, sorted(place.iterdir()))

    def mounted(self, rw: bool) -> RawGuest:
        return RawGuest(
            {"/d": vfswasi.Mount(self.source, rw=rw), "/free": vfswasi.Mount({"f": b"free"}, rw=True)}
        )


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path)


@pytest.fixture(params=["memory", "local", "zip"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path)


class Attempt(NamedTuple):
    """`make(guest, file)`: one call on the mount at descriptor 3, where `file` is "f" opened with all that the
    mount hands down. `readonly`: the errno on a read-only mount."""

    function: str
    what: str
    make: Callable[[RawGuest, int], Errno]
    readonly: Errno = Errno.ROFS


def _open(path: str, **options: Any) -> Callable[[RawGuest, int], Errno]:
    return lambda guest, _: guest.try_open(path, **options)[0]


def _opened_and_used(guest: RawGuest, _: int) -> Errno:
    """Opening for writing changes nothing yet, so what was opened is written to."""
    errno, fd = guest.try_open("f", base=c.RIGHT_FD_WRITE)
    return guest.call("fd_write", fd, *guest.iovs((FREE, 3)), FREE + 64) if errno is Errno.SUCCESS else errno


def _times(guest: RawGuest, fd: int, flags: int) -> Errno:
    return guest.call("fd_filestat_set_times", fd, 5 * 10**17, 5 * 10**17, flags)


def _path_times(path: str, follow: int, flags: int) -> Callable[[RawGuest, int], Errno]:
    return lambda guest, _: guest.call(
        "path_filestat_set_times", 3, follow, *guest.text(path), 5 * 10**17, 5 * 10**17, flags
    )


GIVEN = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
NOW = c.FSTFLAG_ATIM_NOW | c.FSTFLAG_MTIM_NOW
CREAT, EXCL, TRUNC = c.OFLAG_CREAT, c.OFLAG_EXCL, c.OFLAG_TRUNC

ATTEMPTS = [
    Attempt("fd_allocate", "", lambda guest, file: guest.call("fd_allocate", file, 0, 100)),
    Attempt("fd_filestat_set_size", "cut", lambda guest, file: guest.call("fd_filestat_set_size", file, 0)),
    Attempt("fd_filestat_set_size", "grow", lambda guest, file: guest.call("fd_filestat_set_size", file, 99)),
    Attempt("fd_filestat_set_times", "file", lambda guest, file: _times(guest, file, GIVEN)),
    Attempt("fd_filestat_set_times", "file, now", lambda guest, file: _times(guest, file, NOW)),
    Attempt("fd_filestat_set_times", "directory", lambda guest, _: _times(guest, 3, GIVEN)),
    Attempt("fd_filestat_set_times", "sub", lambda guest, _: _times(guest, guest.opendir("sub"), NOW)),
    Attempt(
        "fd_write", "", lambda guest, file: guest.call("fd_write", file, *guest.iovs((FREE, 9)), FREE + 64)
    ),
    Attempt(
        "fd_pwrite",
        "",
        lambda guest, file: guest.call("fd_pwrite", file, *guest.iovs((FREE, 9)), 3, FREE + 64),
    ),
    Attempt("path_create_directory", "", lambda guest, _: guest.mkdir("new")),
    Attempt("path_create_directory", "below", lambda guest, _: guest.mkdir("n", fd=guest.opendir("sub"))),
    Attempt("path_filestat_set_times", "file", _path_times("f", 1, GIVEN)),
    Attempt("path_filestat_set_times", "now", _path_times("f", 1, NOW)),
    Attempt("path_filestat_set_times", "directory", _path_times("sub", 1, GIVEN)),
    Attempt("path_filestat_set_times", "the root", _path_times(".", 1, GIVEN)),
    Attempt("path_filestat_set_times", "link", _path_times("link", 0, GIVEN)),
    Attempt("path_link", "", lambda guest, _: guest.link("f", "new")),
    Attempt("path_link", "of a link", lambda guest, _: guest.link("link", "new")),
    Attempt("path_open", "creat", _open("new", oflags=CREAT)),
    Attempt("path_open", "creat excl", _open("new", oflags=CREAT | EXCL)),
    Attempt("path_open", "creat for writing", _open("new", oflags=CREAT, base=c.RIGHT_FD_WRITE)),
    Attempt("path_open", "creat without rights", _open("new", oflags=CREAT, base=0)),
    Attempt("path_open", "creat below", _open("sub/new", oflags=CREAT)),
    Attempt("path_open", "trunc for reading", _open("f", oflags=TRUNC)),
    Attempt("path_open", "trunc without rights", _open("f", oflags=TRUNC, base=0)),
    Attempt("path_open", "trunc for writing", _open("f", oflags=TRUNC, base=ALL_FILE_RIGHTS)),
    Attempt("path_open", "creat trunc", _open("f", oflags=CREAT | TRUNC)),
    Attempt("path_open", "trunc through a link", _open("link", oflags=TRUNC)),
    Attempt("path_open", "for writing", _opened_and_used),
    Attempt("path_remove_directory", "", lambda guest, _: guest.rmdir("empty")),
    Attempt("path_rename", "file", lambda guest, _: guest.rename("f", "new")),
    Attempt("path_rename", "file over file", lambda guest, _: guest.rename("f", "sub/g")),
    Attempt("path_rename", "directory", lambda guest, _: guest.rename("sub", "new")),
    Attempt("path_rename", "directory over directory", lambda guest, _: guest.rename("sub", "empty")),
    Attempt("path_symlink", "", lambda guest, _: guest.symlink("f", "new")),
    Attempt("path_unlink_file", "file", lambda guest, _: guest.unlink("f")),
    Attempt("path_unlink_file", "link", lambda guest, _: guest.unlink("link")),
]

# Functions that change nothing but the guest's own memory, descriptors or life.
HARMLESS = set(
    "args_get args_sizes_get environ_get environ_sizes_get clock_res_get clock_time_get fd_advise fd_close "
    "fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get fd_pread fd_prestat_get "
    "fd_prestat_dir_name fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell path_filestat_get path_readlink "
    "poll_oneoff proc_exit proc_raise sched_yield random_get sock_accept sock_recv sock_send sock_shutdown".split()
)

each_attempt = pytest.mark.parametrize(
    "attempt", ATTEMPTS, ids=lambda one: f"{one.function} {one.what}".strip()
)


def test_r1_every_function_is_either_attempted_or_harmless() -> None:
    attempted = {attempt.function for attempt in ATTEMPTS}
    assert attempted.isdisjoint(HARMLESS)
    for abi in ABIS.values():
        assert set(abi.functions) - attempted - HARMLESS == set()


def _make(attempt: Attempt, guest: RawGuest) -> Errno:
    file = guest.open("f", base=guest.fdstat(3).inheriting & rights.FILE)
    guest.poke(FREE, b"overwritten")
    return attempt.make(guest, file)


@each_attempt
def test_r1_on_a_writable_mount_it_succeeds_and_changes_the_tree(store: Store, attempt: Attempt) -> None:
    """The other half of the proof: the arguments are right, and the look would see it."""
    before = store.look()
    with store.mounted(rw=True) as guest:
        assert _make(attempt, guest) is Errno.SUCCESS
    assert store.look() != before


@each_attempt
def test_r1_on_a_read_only_mount_it_is_rofs_and_changes_nothing(any_store: Store, attempt: Attempt) -> None:
    before = any_store.look()
    with any_store.mounted(rw=False) as guest:
        assert _make(attempt, guest) is attempt.readonly
        assert any_store.look() == before
    assert any_store.look() == before


def test_r1_harmless_functions_change_nothing_on_a_read_only_mount(any_store: Store) -> None:
    before = any_store.look()
    with any_store.mounted(rw=False) as guest:
        file = guest.open("f", base=guest.fdstat(3).inheriting & rights.FILE)
        apart = {"proc_exit", "proc_raise", "poll_oneoff", "fd_close", "fd_renumber", "fd_fdstat_set_rights"}
        for name in sorted(HARMLESS - apart):
            for fd in (3, file):
                types = guest.abi.functions[name]
                guest.poke(FREE, struct.pack("<II", FREE + 256, 8))
                pointers = [FREE if letter == "i" else 0 for letter in types[1:]]
                guest.call(name, *([fd, *pointers] if types else []))
        assert guest.call("fd_sync", file) is Errno.SUCCESS
        assert guest.call("fd_datasync", file) is Errno.SUCCESS
        assert guest.call("fd_renumber", file, 3) is Errno.SUCCESS
        assert guest.call("fd_close", 3) is Errno.SUCCESS
    assert any_store.look() == before


@pytest.mark.parametrize("name", ["link", "rename"])
@pytest.mark.parametrize("into", [True, False], ids=["into the read-only mount", "out of it"])
def test_r1_nothing_is_linked_or_renamed_across_its_border(any_store: Store, name: str, into: bool) -> None:
    before = any_store.look()
    with any_store.mounted(rw=False) as guest:
        fds = {"fd": 4, "new_fd": 3} if into else {"fd": 3, "new_fd": 4}
        assert getattr(guest, name)("f", "new", **fds) is Errno.ROFS
        assert guest.names(fd=4) == [b"f"]
        assert guest.contents("f", fd=4) == b"free"
    assert any_store.look() == before


@each_attempt
def test_r1_a_writable_view_of_the_same_store_does_not_lend_its_rights(
    store: Store, attempt: Attempt
) -> None:
    before = store.look()
    mounts = {
        "/ro": vfswasi.Mount(store.source, rw=False, overlap=True),
        "/rw": vfswasi.Mount(store.source, rw=True, overlap=True),
    }
    with RawGuest(mounts) as guest:
        keep = guest.open("f", fd=4, base=guest.fdstat(4).inheriting & rights.FILE)
        guest.opendir("sub", fd=4)
        assert _make(attempt, guest) is attempt.readonly
        guest.close_fd(keep)
    assert store.look() == before


@each_attempt
def test_r1_the_backend_behind_the_mask_refuses_on_its_own(store: Store, attempt: Attempt) -> None:
    """The second wall: with the mask over the rights torn down, the wrapper still raises ROFS."""
    before = store.look()
    with store.mounted(rw=False) as guest:
        directory = guest.wasi._process.fds.get(3, 0)
        directory.rights, directory.inheriting = rights.DIRECTORY, rights.INHERITING
        directory.mount.readonly = False  # type: ignore[attr-defined]
        if attempt.function in ("fd_allocate", "fd_filestat_set_size", "fd_write", "fd_pwrite"):
            errno, _ = guest.try_open("f", base=rights.FILE)  # needs a writable handle
        else:
            file = guest.open("f", base=rights.FILE & ~rights.NEED_WRITABLE_HANDLE)
            errno = attempt.make(guest, file)
        assert errno in (Errno.ROFS, Errno.NOTSUP)
    assert store.look() == before


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
        for oflags in (CREAT, CREAT | EXCL, TRUNC):
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
        for name, args in {"fd_filestat_set_size": (0,), "fd_allocate": (0, 99), "fd_tell": (FREE,)}.items():
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
                    assert guest.fdstat(file).base & ~(base & guest.fdstat(current).inheriting) == 0
                    guest.close_fd(file)
            elif what == "renumber":
                spare = guest.opendir(".")
                assert guest.call("fd_renumber", current, spare) is Errno.SUCCESS
                current = spare
            else:
                now = guest.fdstat(current)
                given_rights = (
                    (base & now.inheriting, inheriting & now.inheriting) if what == "open" else (0, 0)
                )
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
            base = {"reading": READ, "writing": READ & ~c.RIGHT_FD_READ | c.RIGHT_FD_WRITE, "nothing": 0}
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
def test_r3_polling_the_wrong_way_is_an_event_with_the_error(
    store: Store, fd: int, kind: str, errno: Errno
) -> None:
    with RawGuest({"/d": vfswasi.Mount(store.source, rw=True)}) as guest:
        assert guest.open("f", base=c.RIGHT_FD_WRITE | c.RIGHT_POLL_FD_READWRITE) == 4
        guest.poke(FREE, pack_subscriptions(guest.abi, [(7, kind, fd)]))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000)
        (event,) = unpack_events(guest.peek(FREE + 0x1000, 32))
        assert (event.userdata, event.errno) == (7, errno)
