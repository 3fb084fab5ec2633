"""Attacks on read-only mounts: line R1 of the threat model, for every function that there is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS
from vfswasi.errors import Errno
from vfswasi.kernel import rights

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest
from .store import Store


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
    Attempt("fd_write", "", lambda guest, file: guest.call("fd_write", file, *guest.iovs((FREE, 9)), FREE + 64)),
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

each_attempt = pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda one: f"{one.function} {one.what}".strip())


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
def test_r1_a_writable_view_of_the_same_store_does_not_lend_its_rights(store: Store, attempt: Attempt) -> None:
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
