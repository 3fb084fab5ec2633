"""Attributes and times: nanoseconds, identity, link counts, what changes them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import vfswasi
from tests.rawguest import RawGuest
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

A, A_NOW, M, M_NOW = c.FSTFLAG_ATIM, c.FSTFLAG_ATIM_NOW, c.FSTFLAG_MTIM, c.FSTFLAG_MTIM_NOW
SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND


def _set(guest: RawGuest, path: str, atim: int, mtim: int, flags: int, *, follow: bool = True) -> Errno:
    return guest.call("path_filestat_set_times", 3, int(follow), *guest.text(path), atim, mtim, flags)


@pytest.mark.parametrize("by", ["path", "descriptor"])
def test_nanoseconds_are_kept_both_ways(guest: RawGuest, by: str) -> None:
    fd = guest.create("f")
    atim, mtim = BASE + 123_456_789, BASE + 987_654_321
    if by == "path":
        assert _set(guest, "f", atim, mtim, A | M) is Errno.SUCCESS
    else:
        guest.must("fd_filestat_set_times", fd, atim, mtim, A | M)
    for stat in (guest.stat("f"), guest.fstat(fd)):
        assert (stat.atim, stat.mtim) == (atim, mtim)


def test_what_is_not_named_stays(guest: RawGuest) -> None:
    guest.create("f")
    assert _set(guest, "f", BASE, BASE + 5, A | M) is Errno.SUCCESS
    assert _set(guest, "f", BASE + 7, BASE + 8, A) is Errno.SUCCESS
    assert guest.stat("f")[5:7] == (BASE + 7, BASE + 5)
    assert _set(guest, "f", BASE + 9, BASE + 10, M) is Errno.SUCCESS
    assert guest.stat("f")[5:7] == (BASE + 7, BASE + 10)
    assert _set(guest, "f", 1, 1, 0) is Errno.SUCCESS
    assert guest.stat("f")[5:7] == (BASE + 7, BASE + 10)


@pytest.mark.parametrize("flags", [A | A_NOW, M | M_NOW, A | A_NOW | M, 16, 0x8000])
def test_contradictions_and_unknown_flags_are_inval_and_change_nothing(guest: RawGuest, flags: int) -> None:
    fd = guest.create("f")
    assert _set(guest, "f", BASE, BASE, A | M) is Errno.SUCCESS
    assert _set(guest, "f", 5, 5, flags) is Errno.INVAL
    assert guest.call("fd_filestat_set_times", fd, 5, 5, flags) is Errno.INVAL
    assert guest.stat("f")[5:7] == (BASE, BASE)


def test_now_is_now(guest: RawGuest) -> None:
    guest.create("f")
    before = time.time_ns() - 50_000_000  # file systems may use a coarser clock
    assert _set(guest, "f", 0, 0, A_NOW | M_NOW) is Errno.SUCCESS
    after = time.time_ns()
    assert all(before <= value <= after for value in guest.stat("f")[5:7])


def test_times_of_a_link_itself(guest: RawGuest) -> None:
    guest.create("f")
    assert guest.symlink("f", "l") is Errno.SUCCESS
    assert _set(guest, "f", BASE, BASE, A | M) is Errno.SUCCESS
    assert _set(guest, "l", BASE + 1, BASE + 2, A | M, follow=False) is Errno.SUCCESS
    assert guest.stat("f").mtim == BASE
    assert guest.stat("l", follow=False).mtim == BASE + 2
    assert _set(guest, "l", BASE + 3, BASE + 4, A | M) is Errno.SUCCESS
    assert guest.stat("f").mtim == BASE + 4


def test_times_of_directories(guest: RawGuest) -> None:
    guest.mkdir("sub")
    fd = guest.opendir("sub")
    guest.must("fd_filestat_set_times", fd, BASE, BASE + 1, A | M)
    assert guest.stat("sub")[5:7] == (BASE, BASE + 1)
    assert guest.fstat(fd)[5:7] == (BASE, BASE + 1)


def test_identity_is_unique_and_survives_rename_link_and_reopen(guest: RawGuest) -> None:
    names = ["a", "b", "c"]
    for name in names:
        guest.close_fd(guest.create(name))
    guest.mkdir("sub")
    identities = {name: guest.stat(name)[:2] for name in [*names, "sub"]}
    assert len(set(identities.values())) == 4
    assert guest.rename("a", "sub/moved") is Errno.SUCCESS
    assert guest.stat("sub/moved")[:2] == identities["a"]
    assert guest.link("b", "sub/linked") is Errno.SUCCESS
    assert guest.stat("sub/linked")[:2] == identities["b"]
    assert guest.fstat(guest.open("c"))[:2] == identities["c"] == guest.fstat(guest.open("c"))[:2]
    assert guest.rename("sub", "sub2") is Errno.SUCCESS
    assert guest.stat("sub2")[:2] == identities["sub"]


def test_mounts_have_their_own_device_numbers(mount: vfswasi.Mount) -> None:
    with RawGuest({"/a": mount, "/b": {"f": b""}}) as guest:
        guest.create("f", fd=3)
        assert guest.stat("f", fd=3).dev != guest.stat("f", fd=4).dev


def test_link_counts(guest: RawGuest) -> None:
    fd = guest.create("f")
    assert guest.stat("f").nlink == 1
    assert guest.link("f", "g") is Errno.SUCCESS
    assert guest.stat("f").nlink == guest.stat("g").nlink == guest.fstat(fd).nlink == 2
    assert guest.unlink("f") is Errno.SUCCESS
    assert guest.fstat(fd).nlink == 1
    assert guest.unlink("g") is Errno.SUCCESS
    assert guest.fstat(fd).nlink == 0


def test_sizes(guest: RawGuest) -> None:
    guest.create("f", b"12345")
    guest.symlink("some/target", "l")
    assert guest.stat("f").size == 5
    assert guest.stat("l", follow=False).size == len("some/target")


def test_times_before_1970_and_beyond_u64_do_not_crash(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"")
    os.utime(tmp_path / "old", ns=(-5 * SECOND, -1))
    store = vfswasi.MemoryBackend({"old": b"", "future": b""})
    store.set_times(("old",), -(10**18), -1)
    store.set_times(("future",), 2**70, 2**64)
    with RawGuest({"/local": tmp_path, "/memory": store}) as guest:
        assert guest.stat("old", fd=3)[5:7] == (0, 0)
        assert guest.stat("old", fd=4)[5:7] == (0, 0)
        assert guest.stat("future", fd=4)[5:7] == (2**64 - 1, 2**64 - 1)


def _wait_for_a_later_time() -> None:
    time.sleep(0.02)  # file systems take their times from a clock that ticks every few milliseconds


def test_ctime_changes_with_the_inode(guest: RawGuest) -> None:
    fd = guest.create("f", b"abc")
    last = guest.stat("f").ctim
    changes = (
        lambda: guest.write(fd, b"x"),
        lambda: guest.must("fd_filestat_set_size", fd, 1),
        lambda: _set(guest, "f", BASE, BASE, A | M),
        lambda: guest.link("f", "g"),
        lambda: guest.unlink("g"),
        lambda: guest.rename("f", "f2"),
    )
    for number, change in enumerate(changes):
        _wait_for_a_later_time()
        change()
        now = guest.fstat(fd).ctim
        assert now > last, number
        last = now


def test_a_directorys_mtime_changes_with_its_entries(guest: RawGuest) -> None:
    guest.mkdir("sub")
    last = guest.stat("sub").mtim
    changes = (
        lambda: guest.close_fd(guest.create("sub/f")),
        lambda: guest.mkdir("sub/d"),
        lambda: guest.symlink("x", "sub/l"),
        lambda: guest.link("sub/f", "sub/g"),
        lambda: guest.rename("sub/g", "sub/h"),
        lambda: guest.unlink("sub/h"),
        lambda: guest.rmdir("sub/d"),
    )
    for number, change in enumerate(changes):
        _wait_for_a_later_time()
        change()
        now = guest.stat("sub").mtim
        assert now > last, number
        last = now
    _wait_for_a_later_time()
    guest.create("sub/f", b"only the contents change")
    assert guest.stat("sub").mtim == last
