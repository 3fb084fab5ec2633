"""E2: quotas charge objects. No game with names, descriptors or holes adds more to a store than the run may add."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..kernel.test_weak_stores import WeakStore
from ..rawguest import ALL_FILE_RIGHTS, RawGuest

BUDGET = 1000
FAST = pytest.mark.parametrize("vdso", [False, True])


def charged(guest: RawGuest) -> int:
    return guest.wasi._process.quota.bytes


def names(guest: RawGuest) -> int:
    return guest.wasi._process.quota.inodes


def small(**more: int) -> vfswasi.Limits:
    return vfswasi.Limits(**{"stored_bytes": BUDGET, **more})


@pytest.fixture(params=["memory", "local", "weak"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    tree: dict[str, Any] = {"old": b"o" * 700, "dir": {"f": b"fff"}}
    source: Any = MemoryBackend(tree) if request.param == "memory" else WeakStore(tree)
    if request.param == "local":
        (tmp_path / "dir").mkdir()
        (tmp_path / "old").write_bytes(tree["old"])
        (tmp_path / "dir/f").write_bytes(b"fff")
        source = tmp_path
    with RawGuest({"/d": vfswasi.Mount(source, rw=True)}, limits=small()) as made:
        yield made


def full(guest: RawGuest) -> bool:
    """Whether the budget is used up to the last byte."""
    fd = guest.create("probe")
    before = charged(guest)
    room = BUDGET - before
    assert guest.call("fd_filestat_set_size", fd, room + 1) is Errno.DQUOT
    guest.must("fd_filestat_set_size", fd, room)
    guest.must("fd_filestat_set_size", fd, 0)
    assert charged(guest) == before
    guest.close_fd(fd)
    guest.unlink("probe")
    return room == 0


def test_what_a_file_grows_by_is_charged_and_given_back(guest: RawGuest) -> None:
    fd = guest.create("f", b"x" * 600)
    assert charged(guest) == 600
    guest.pwrite(fd, b"y" * 600, 0)
    assert charged(guest) == 600, "nothing grew"
    assert guest.call("fd_pwrite", fd, *guest.iovs((0x10000, 500)), 600, 0x3000) is Errno.DQUOT
    assert guest.fstat(fd).size == 600
    guest.must("fd_filestat_set_size", fd, 100)
    assert charged(guest) == 100
    guest.must("fd_allocate", fd, 0, 900)
    assert charged(guest) == 900
    guest.close_fd(fd)
    assert guest.unlink("f") is Errno.SUCCESS
    assert charged(guest) == 0
    assert not full(guest)


def test_holes_are_charged(guest: RawGuest) -> None:
    fd = guest.create("f")
    for size in (1 << 40, 1 << 62, 2**63 - 1, BUDGET + 1):
        assert guest.call("fd_filestat_set_size", fd, size) in (Errno.DQUOT, Errno.FBIG)
        assert guest.call("fd_allocate", fd, 0, size) in (Errno.DQUOT, Errno.FBIG)
        assert guest.call("fd_pwrite", fd, *guest.iovs((0x10000, 1)), size - 1, 0x3000) in (Errno.DQUOT, Errno.FBIG)
    assert charged(guest) == guest.fstat(fd).size == 0
    guest.pwrite(fd, b"1", BUDGET - 1)
    assert full(guest)


def test_renaming_frees_nothing_and_loses_nothing(guest: RawGuest) -> None:
    guest.close_fd(guest.create("f", b"x" * 400))
    for old, new in (("f", "g"), ("g", "dir/h"), ("dir", "moved"), ("moved/h", "back")):
        assert guest.rename(old, new) is Errno.SUCCESS
        assert charged(guest) == 400
    guest.close_fd(guest.create("other", b"y" * 100))
    assert guest.rename("other", "back") is Errno.SUCCESS
    assert charged(guest) == 100, "what was replaced is given back"
    assert guest.unlink("back") is Errno.SUCCESS
    assert charged(guest) == 0


def test_a_new_file_under_an_old_name_is_not_the_old_one(guest: RawGuest) -> None:
    guest.mkdir("a")
    guest.close_fd(guest.create("a/f", b"x" * 400))
    assert guest.rename("a", "b") is Errno.SUCCESS
    guest.mkdir("a")
    guest.close_fd(guest.create("a/f"))
    assert guest.unlink("a/f") is Errno.SUCCESS
    assert charged(guest) == 400
    assert guest.unlink("b/f") is Errno.SUCCESS
    assert charged(guest) == 0


@pytest.mark.parametrize("write", [False, True])
def test_an_unlinked_open_file_is_charged_until_it_is_closed(guest: RawGuest, write: bool) -> None:
    fd = guest.create("f", b"x" * 900)
    if not write:
        guest.close_fd(fd)
        fd = guest.open("f")
    other = guest.open("f")
    assert guest.unlink("f") is Errno.SUCCESS
    assert charged(guest) == 900
    guest.close_fd(fd)
    assert charged(guest) == 900
    assert guest.read(other, 900) == b"x" * 900
    guest.close_fd(other)
    assert charged(guest) == 0


def test_what_was_there_before_gives_nothing_back(guest: RawGuest) -> None:
    guest.close_fd(guest.create("f", b"x" * 900))
    assert guest.unlink("old") is Errno.SUCCESS
    assert charged(guest) == 900
    fd = guest.open("dir/f", base=ALL_FILE_RIGHTS)
    guest.must("fd_filestat_set_size", fd, 0)
    assert charged(guest) == 900


def test_a_kept_unlinked_file_is_charged_for_its_copy() -> None:
    """A store that loses a file with its name: the kernel keeps a copy, as large as the file was."""
    with RawGuest({"/d": vfswasi.Mount(WeakStore({"old": b"o" * 1700}), rw=True)}, limits=small()) as guest:
        guest.open("old")
        assert guest.unlink("old") is Errno.DQUOT
        assert guest.names() == [b"old"]
    with RawGuest({"/d": vfswasi.Mount(WeakStore({"old": b"o" * 700}), rw=True)}, limits=small()) as guest:
        fd = guest.open("old", base=ALL_FILE_RIGHTS)
        assert guest.unlink("old") is Errno.SUCCESS
        assert charged(guest) == 700
        assert guest.call("fd_filestat_set_size", fd, BUDGET + 1) is Errno.DQUOT
        guest.must("fd_filestat_set_size", fd, BUDGET)
        guest.close_fd(fd)
        assert charged(guest) == 0


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_hard_links_free_nothing(kind: str, tmp_path: Path) -> None:
    source = vfswasi.Mount({} if kind == "memory" else tmp_path, rw=True)
    with RawGuest({"/d": source}, limits=small()) as guest:
        guest.close_fd(guest.create("f", b"x" * 600))
        assert guest.link("f", "g") is Errno.SUCCESS
        assert (charged(guest), names(guest)) == (600, 2)
        assert guest.unlink("f") is Errno.SUCCESS
        assert (charged(guest), names(guest)) == (600, 1), "the other name keeps the bytes"
        fd = guest.create("h", b"y" * 300)
        assert guest.link("h", "i") is Errno.SUCCESS
        guest.close_fd(fd)
        assert guest.unlink("i") is guest.unlink("h") is Errno.SUCCESS
        assert guest.call("path_open", 3, 0, *guest.text("z"), 1, ALL_FILE_RIGHTS, 0, 0, 0x3000) is Errno.SUCCESS
        assert charged(guest) == 900, "who has several names is charged to the end of the run"


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_targets_of_links_are_charged(kind: str, tmp_path: Path) -> None:
    source = vfswasi.Mount({} if kind == "memory" else tmp_path, rw=True)
    with RawGuest({"/d": source}, limits=small()) as guest:
        assert guest.symlink("t" * 800, "l") is Errno.SUCCESS
        assert guest.symlink("t" * 201, "m") is Errno.DQUOT
        assert guest.symlink("t" * 200, "m") is Errno.SUCCESS
        assert guest.rename("l", "k") is Errno.SUCCESS
        assert charged(guest) == 1000
        assert guest.unlink("k") is Errno.SUCCESS
        assert (charged(guest), names(guest)) == (200, 1)


def test_every_name_counts_whatever_it_names(tmp_path: Path) -> None:
    with RawGuest({"/d": vfswasi.Mount(tmp_path, rw=True)}, limits=vfswasi.Limits(inodes=4)) as guest:
        guest.close_fd(guest.create("f"))
        assert guest.mkdir("d") is guest.symlink("f", "l") is guest.link("f", "g") is Errno.SUCCESS
        assert guest.try_open("h", oflags=c.OFLAG_CREAT)[0] is Errno.DQUOT
        assert guest.try_open("h", oflags=c.OFLAG_CREAT | c.OFLAG_EXCL)[0] is Errno.DQUOT
        assert guest.mkdir("h") is guest.symlink("f", "h") is guest.link("f", "h") is Errno.DQUOT
        assert guest.names() == [b"d", b"f", b"g", b"l"]
        assert guest.rename("f", "h") is Errno.SUCCESS, "a rename adds nothing"
        assert guest.rename("h", "g") is Errno.SUCCESS, "two names of one file"
        assert guest.unlink("l") is guest.rmdir("d") is Errno.SUCCESS
        assert guest.mkdir("h2") is guest.mkdir("i") is Errno.SUCCESS
        assert guest.mkdir("j") is Errno.DQUOT


def test_stores_have_their_own_quota_and_a_common_one() -> None:
    preopens = {"/a": MemoryBackend(), "/b": MemoryBackend()}
    limits = vfswasi.Limits(mount_bytes=600, stored_bytes=1000)
    with RawGuest(preopens, limits=limits) as guest:
        one = guest.create("f")
        two = guest.create("f", fd=4)
        assert guest.call("fd_filestat_set_size", one, 601) is Errno.DQUOT
        guest.must("fd_filestat_set_size", one, 600)
        assert guest.call("fd_filestat_set_size", two, 401) is Errno.DQUOT
        guest.must("fd_filestat_set_size", two, 400)
        guest.must("fd_filestat_set_size", one, 500)
        guest.must("fd_filestat_set_size", two, 500)
        assert guest.wasi._process.quota.peak_bytes == 1000


def test_two_mounts_of_one_store_share_its_quota() -> None:
    store = MemoryBackend()
    with RawGuest({"/a": store, "/b": store}, limits=vfswasi.Limits(mount_bytes=600)) as guest:
        guest.create("f", b"x" * 500)
        fd = guest.create("g", fd=4)
        assert guest.call("fd_filestat_set_size", fd, 101) is Errno.DQUOT


def test_overlapping_local_mounts_do_not_multiply_the_quota(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    preopens = {"/a": vfswasi.Mount(tmp_path, rw=True), "/b": vfswasi.Mount(tmp_path / "sub", rw=True)}
    with RawGuest(preopens, limits=small()) as guest:
        one = guest.create("sub/f")
        two = guest.open("f", fd=4, base=ALL_FILE_RIGHTS)
        for round in range(20):
            errno = guest.call("fd_pwrite", two, *guest.iovs((0x10000, 400)), 0, 0x3000)
            assert errno is (Errno.SUCCESS if round < 2 else Errno.DQUOT)
            assert (tmp_path / "sub/f").stat().st_size <= charged(guest) <= BUDGET
            guest.must("fd_filestat_set_size", one, 0)


def test_no_file_is_larger_than_file_bytes() -> None:
    with RawGuest({"/d": {}}, limits=vfswasi.Limits(file_bytes=100)) as guest:
        fd = guest.create("f", b"x" * 100)
        assert guest.call("fd_filestat_set_size", fd, 101) is Errno.FBIG
        assert guest.call("fd_allocate", fd, 50, 51) is Errno.FBIG
        assert guest.call("fd_pwrite", fd, *guest.iovs((0x10000, 2)), 99, 0x3000) is Errno.FBIG
        assert guest.call("fd_write", fd, *guest.iovs((0x10000, 1)), 0x3000) is Errno.FBIG
        assert guest.fstat(fd).size == 100
        append = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
        assert guest.call("fd_write", append, *guest.iovs((0x10000, 1)), 0x3000) is Errno.FBIG


@FAST
@pytest.mark.parametrize("seed", range(12))
def test_at_any_time_the_charge_is_what_the_store_holds(seed: int, vdso: bool) -> None:
    """Against the store's own account of an initially empty tree, through thousands of random calls."""
    chance = random.Random(seed)
    store = MemoryBackend(max_bytes=1 << 40)
    limits = vfswasi.Limits(stored_bytes=40_000, inodes=30, file_bytes=15_000)
    places = ["f", "g", "h", "d/f", "d/g", "e/f", "e/d"]
    with RawGuest({"/d": store}, limits=limits, vdso=vdso) as guest:
        guest.mkdir("d")
        guest.mkdir("e")
        open_ones: list[int] = []
        met = set()
        for _ in range(1200):
            path, other = chance.choice(places), chance.choice(places)
            match chance.randrange(13):
                case 0 | 1:
                    flags = chance.choice([0, c.FDFLAG_APPEND])
                    errno, fd = guest.try_open(path, oflags=c.OFLAG_CREAT, base=ALL_FILE_RIGHTS, fdflags=flags)
                    open_ones += [fd] if not errno else []
                case 2:
                    errno, fd = guest.try_open(path)
                    open_ones += [fd] if not errno else []
                case 3 if open_ones:
                    guest.close_fd(open_ones.pop(chance.randrange(len(open_ones))))
                case 4:
                    guest.unlink(path)
                case 5:
                    guest.rename(path, other)
                case 6:
                    guest.rename(*chance.sample(["d", "e", "x"], 2))
                case 7:
                    guest.symlink("t" * chance.randrange(1, 90), path)
                case 8:
                    guest.mkdir(chance.choice(["d", "e", "e/d", "d/g"]))
                    guest.rmdir(chance.choice(["e/d", "d/g"]))
                case 9 if open_ones:
                    met.add(guest.call("fd_filestat_set_size", chance.choice(open_ones), chance.randrange(20_000)))
                case _ if open_ones:
                    iovs = guest.iovs((0x10000, chance.randrange(6000)))
                    met.add(guest.call("fd_write", chance.choice(open_ones), *iovs, 0x3000))
            if len(open_ones) > 12:
                guest.close_fd(open_ones.pop(0))
            assert charged(guest) <= 40_000
            assert names(guest) == count_of_names(store) <= 30
        guest.wasi.settle()
        for fd in open_ones:
            guest.close_fd(fd)
        assert charged(guest) == store.used_bytes
        assert {Errno.SUCCESS, Errno.DQUOT, Errno.FBIG} <= met


def count_of_names(store: MemoryBackend) -> int:
    todo: list[Any] = [store.export()]
    count = 0
    while todo:
        tree = todo.pop()
        count += len(tree)
        todo += [below for below in tree.values() if isinstance(below, dict)]
    return count
