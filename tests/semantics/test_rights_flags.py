"""What a descriptor may do, and what its flags make it do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Caps, Handle
from vfswasi.fs_backends.local.file import LocalHandle
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, GuestErrno, RawGuest

WRITE = READ & ~c.RIGHT_FD_READ | c.RIGHT_FD_WRITE
SYNC_FLAGS = [c.FDFLAG_DSYNC, c.FDFLAG_RSYNC, c.FDFLAG_SYNC]


@pytest.fixture(params=["memory", "local"])
def readonly(request: pytest.FixtureRequest, tmp_path: Path) -> vfswasi.Mount:
    """A read-only mount of "f" and "sub/f" on each backend."""
    if request.param == "memory":
        return vfswasi.Mount({"f": b"content", "sub": {"f": b"content"}}, rw=False)
    (tmp_path / "sub").mkdir()
    for name in ("f", "sub/f"):
        (tmp_path / name).write_bytes(b"content")
    return vfswasi.Mount(tmp_path, rw=False)


def transfer(guest: RawGuest, name: str, fd: int, *lengths: int) -> Errno:
    """fd_read, fd_write, fd_pread or fd_pwrite with buffers of these lengths."""
    offset = (0,) if name in ("fd_pread", "fd_pwrite") else ()
    return guest.call(name, fd, *guest.iovs(*((FREE + 64, length) for length in lengths)), *offset, FREE)


# Rights of files.


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (1,)])
@pytest.mark.parametrize(
    ("base", "refused", "allowed"),
    [(READ, ["fd_write", "fd_pwrite"], "fd_read"), (WRITE, ["fd_read", "fd_pread"], "fd_write")],
)
def test_a_file_opened_one_way_lacks_the_other_even_for_no_bytes(
    guest: RawGuest, base: int, refused: list[str], allowed: str, lengths: tuple[int, ...]
) -> None:
    guest.create("f", b"content")
    file = guest.open("f", base=base)
    for name in refused:
        assert transfer(guest, name, file, *lengths) is Errno.NOTCAPABLE
    assert guest.contents("f") == b"content"
    assert transfer(guest, allowed, file, *lengths) is Errno.SUCCESS
    wrong = c.RIGHT_FD_WRITE if base == READ else c.RIGHT_FD_READ
    assert not guest.fdstat(file).base & wrong


@pytest.mark.parametrize("existing", [True, False])
def test_creat_and_trunc_with_read_rights_do_not_make_a_file_writable(guest: RawGuest, existing: bool) -> None:
    if existing:
        guest.create("f", b"content")
    file = guest.open("f", oflags=c.OFLAG_CREAT | c.OFLAG_TRUNC, base=READ)
    assert guest.fstat(file).size == 0
    assert guest.fdstat(file).base == READ
    for name in ("fd_write", "fd_pwrite"):
        assert transfer(guest, name, file, 1) is Errno.NOTCAPABLE
    assert guest.call("fd_filestat_set_size", file, 5) is Errno.NOTCAPABLE
    assert guest.call("fd_allocate", file, 0, 5) is Errno.NOTCAPABLE
    assert guest.contents("f") == b""


def test_a_file_has_no_inheriting_rights(guest: RawGuest) -> None:
    guest.create("f")
    file = guest.open("f", base=ALL_FILE_RIGHTS, inheriting=ALL_FILE_RIGHTS)
    stat = guest.fdstat(file)
    assert (stat.base, stat.inheriting) == (ALL_FILE_RIGHTS, 0)


# Rights of directories.


@pytest.mark.parametrize("path", [".", "sub"])
def test_directories_never_have_seek_or_set_size(guest: RawGuest, path: str) -> None:
    guest.mkdir("sub")
    never = c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL | c.RIGHT_FD_FILESTAT_SET_SIZE | c.RIGHT_FD_READ | c.RIGHT_FD_WRITE
    assert not guest.fdstat(3).base & never
    asked = guest.fdstat(3).inheriting & ~c.RIGHT_FD_WRITE
    for base, inheriting in ((0, 0), (asked, asked), (c.RIGHT_FD_SEEK | c.RIGHT_FD_FILESTAT_SET_SIZE, 0)):
        directory = guest.open(path, base=base, inheriting=inheriting)
        assert not guest.fdstat(directory).base & never


@pytest.mark.parametrize("path", [None, ".", "sub"])
def test_a_read_only_directory_does_not_offer_write_to_inherit(readonly: vfswasi.Mount, path: str | None) -> None:
    with RawGuest({"/d": readonly}) as guest:
        directory = 3 if path is None else guest.opendir(path)
        stat = guest.fdstat(directory)
        assert stat.inheriting & c.RIGHT_FD_READ
        changing = c.RIGHT_FD_WRITE | c.RIGHT_FD_ALLOCATE | c.RIGHT_FD_FILESTAT_SET_SIZE
        assert not stat.inheriting & changing
        assert not stat.base & (c.RIGHT_PATH_CREATE_FILE | c.RIGHT_PATH_UNLINK_FILE)
        assert guest.try_open("f", fd=directory, base=WRITE)[0] is Errno.ROFS
        assert guest.contents("f", fd=directory) == b"content"


def test_a_directory_that_inherits_only_reading_gives_no_writing(guest: RawGuest) -> None:
    guest.mkdir("sub")
    guest.create("sub/f", b"content")
    directory = guest.open("sub", base=c.RIGHT_PATH_OPEN, inheriting=READ)
    assert guest.fdstat(directory).inheriting == READ
    assert guest.try_open("f", fd=directory, base=WRITE)[0] is Errno.NOTCAPABLE
    assert guest.contents("f", fd=directory) == b"content"


ON_DIRECTORIES: dict[str, tuple[int, ...]] = {
    "fd_seek": (0, 0, FREE),
    "fd_tell": (FREE,),
    "fd_allocate": (0, 1),
    "fd_advise": (0, 0, 0),
    "fd_fdstat_set_flags": (0,),
    "fd_filestat_set_size": (0,),
}


@pytest.mark.parametrize("kind", ["preopen", "directory"])
@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite", *ON_DIRECTORIES])
def test_what_files_do_is_badf_on_a_directory(guest: RawGuest, name: str, kind: str) -> None:
    guest.mkdir("sub")
    fd = 3 if kind == "preopen" else guest.opendir("sub")
    if name in ON_DIRECTORIES:
        assert guest.call(name, fd, *ON_DIRECTORIES[name]) is Errno.BADF
        return
    for lengths in ((), (0,), (1,)):
        assert transfer(guest, name, fd, *lengths) is Errno.BADF


# Flags.


@pytest.mark.parametrize(
    "flags", [0, c.FDFLAG_APPEND, c.FDFLAG_NONBLOCK, c.FDFLAG_APPEND | c.FDFLAG_NONBLOCK, *SYNC_FLAGS]
)
def test_fs_flags_shows_append_nonblock_and_sync_flags_as_set(guest: RawGuest, flags: int) -> None:
    file = guest.create("f", fdflags=flags)
    assert guest.fdstat(file).flags == flags
    other = guest.open("f", base=ALL_FILE_RIGHTS)
    assert guest.fdstat(other).flags == 0, "flags belong to the descriptor"
    guest.must("fd_fdstat_set_flags", other, flags)
    assert guest.fdstat(other).flags == flags


def test_set_flags_switches_append_live_on_and_off(guest: RawGuest) -> None:
    file = guest.create("f", b"0123456789")
    guest.seek(file, 0)
    guest.must("fd_fdstat_set_flags", file, c.FDFLAG_APPEND)
    guest.write(file, b"end")
    assert guest.contents("f") == b"0123456789end"
    guest.must("fd_fdstat_set_flags", file, 0)
    guest.seek(file, 0)
    guest.write(file, b"ab")
    assert guest.contents("f") == b"ab23456789end"


def test_set_flags_needs_its_right(guest: RawGuest) -> None:
    guest.create("f")
    file = guest.open("f", base=ALL_FILE_RIGHTS & ~c.RIGHT_FD_FDSTAT_SET_FLAGS)
    assert guest.call("fd_fdstat_set_flags", file, c.FDFLAG_APPEND) is Errno.NOTCAPABLE
    assert guest.fdstat(file).flags == 0


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What handles were asked to make durable: True for data alone."""
    asked: list[bool] = []

    def spy(real: Callable[[Any, bool], None]) -> Callable[[Any, bool], None]:
        def sync(handle: Any, data_only: bool) -> None:
            asked.append(data_only)
            real(handle, data_only)

        return sync

    monkeypatch.setattr(Handle, "sync", spy(Handle.sync))
    monkeypatch.setattr(LocalHandle, "sync", spy(LocalHandle.sync))
    return asked


@pytest.mark.parametrize("live", [False, True], ids=["opened", "set later"])
@pytest.mark.parametrize("append", [0, c.FDFLAG_APPEND])
@pytest.mark.parametrize(
    ("flags", "data_only"),
    [(c.FDFLAG_DSYNC, True), (c.FDFLAG_SYNC, False), (c.FDFLAG_SYNC | c.FDFLAG_DSYNC, False)],
)
def test_sync_flags_make_every_write_durable(
    guest: RawGuest, syncs: list[bool], flags: int, data_only: bool, append: int, live: bool
) -> None:
    file = guest.create("f", fdflags=0 if live else flags | append)
    if live:
        guest.must("fd_fdstat_set_flags", file, flags | append)
    assert guest.fdstat(file).flags == flags | append
    assert syncs == []
    guest.write(file, b"one")
    assert syncs == [data_only]
    guest.pwrite(file, b"two", 3)
    assert syncs == [data_only] * 2
    assert guest.contents("f") == b"onetwo"
    guest.must("fd_fdstat_set_flags", file, append)
    guest.write(file, b"x")
    assert len(syncs) == 2, "no longer"


def test_without_sync_flags_a_write_is_not_synced(guest: RawGuest, syncs: list[bool]) -> None:
    guest.write(guest.create("f"), b"one")
    assert syncs == []


class _NotDurable(MemoryBackend):
    """A store where a single write is not durable by itself, as an object store's is not."""

    caps = MemoryBackend.caps & ~Caps.DURABLE_WRITES


@pytest.mark.parametrize("flag", SYNC_FLAGS)
def test_sync_flags_are_notsup_where_a_write_is_not_durable_by_itself(flag: int) -> None:
    with RawGuest({"/d": vfswasi.Mount(_NotDurable({"f": b"content"}), rw=True)}) as guest:
        for path, oflags in (("f", 0), ("f", c.OFLAG_TRUNC), ("new", c.OFLAG_CREAT)):
            errno, _ = guest.try_open(path, base=ALL_FILE_RIGHTS, oflags=oflags, fdflags=flag)
            assert errno is Errno.NOTSUP
        assert guest.names() == [b"f"]
        assert guest.contents("f") == b"content"
        file = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
        assert guest.call("fd_fdstat_set_flags", file, flag) is Errno.NOTSUP
        assert guest.fdstat(file).flags == c.FDFLAG_APPEND


# fd_allocate.


@pytest.mark.parametrize(
    ("offset", "length", "size"), [(0, 100, 100), (50, 50, 100), (7, 1, 8), (0, 7, 7), (0, 3, 7), (2, 2, 7)]
)
def test_allocate_grows_the_file_with_zeros_and_never_shrinks_it(
    guest: RawGuest, offset: int, length: int, size: int
) -> None:
    file = guest.create("f", b"content")
    assert guest.call("fd_allocate", file, offset, length) is Errno.SUCCESS
    assert guest.fstat(file).size == size
    assert guest.contents("f") == b"content".ljust(size, b"\0")
    assert guest.tell(file) == 7


def test_allocating_nothing_is_inval(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    assert guest.call("fd_allocate", file, 100, 0) is Errno.INVAL
    assert guest.fstat(file).size == 7


# fd_fdstat_set_rights.


def test_rights_that_were_given_up_stay_given_up(guest: RawGuest) -> None:
    file = guest.create("f", b"content")
    guest.must("fd_fdstat_set_rights", file, READ, 0)
    assert guest.fdstat(file).base == READ
    with pytest.raises(GuestErrno, match="NOTCAPABLE"):
        guest.write(file, b"x")
    assert guest.call("fd_fdstat_set_rights", file, ALL_FILE_RIGHTS, 0) is Errno.NOTCAPABLE
    assert guest.fdstat(file).base == READ
