"""Reading directories."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import vfswasi
from tests.rawguest import RawGuest, parse_dirents
from vfswasi.errors import Errno
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend


@pytest.fixture
def filled(guest: RawGuest) -> RawGuest:
    guest.close_fd(guest.create("file"))
    guest.mkdir("sub")
    guest.symlink("file", "link")
    guest.create("ünïcödé-\N{SNOWMAN}")
    return guest


def test_dots_come_first_and_have_the_right_inodes(filled: RawGuest) -> None:
    top, sub = filled.opendir("."), filled.opendir("sub")
    assert [entry.name for entry in filled.readdir(top)][:2] == [b".", b".."]
    dot, dotdot = filled.readdir(sub)
    assert (dot.name, dot.ino, dot.filetype) == (b".", filled.stat("sub").ino, 3)
    assert (dotdot.name, dotdot.ino, dotdot.filetype) == (b"..", filled.stat(".").ino, 3)
    # The parent of a preopen is nothing that the guest could know.
    assert filled.readdir(top)[1].ino == filled.stat(".").ino


def test_inodes_and_types_equal_those_of_stat(filled: RawGuest) -> None:
    entries = {entry.name: entry for entry in filled.readdir(filled.opendir("."))}
    for name in (b"file", b"sub", b"link", "ünïcödé-\N{SNOWMAN}".encode()):
        stat = filled.stat(name, follow=False)
        assert (entries[name].ino, entries[name].filetype) == (stat.ino, stat.filetype)
    assert entries[b"link"].filetype == 7


def test_each_entry_is_24_bytes_and_the_name_without_nul(filled: RawGuest) -> None:
    raw = filled.readdir_raw(filled.opendir("sub"), 4096)
    assert len(raw) == 24 + 1 + 24 + 2
    assert raw[24:25] == b"."
    assert raw[-2:] == b".."


def test_the_buffer_is_filled_wholly_and_the_last_entry_cut_anywhere(filled: RawGuest) -> None:
    fd = filled.opendir(".")
    whole = filled.readdir_raw(fd, 4096)
    for size in range(len(whole)):
        assert filled.readdir_raw(fd, size) == whole[:size]
    assert filled.readdir_raw(fd, len(whole)) == whole
    assert len(filled.readdir_raw(fd, len(whole) + 1)) == len(whole)  # less than asked for: the end


def test_nothing_is_written_behind_what_was_used(filled: RawGuest) -> None:
    fd = filled.opendir("sub")
    filled.poke(0x10000, b"\xaa" * 200)
    assert len(filled.readdir_raw(fd, 200)) == 51
    assert filled.peek(0x10000 + 51, 149) == b"\xaa" * 149


def test_cookies_increase_and_resume_anywhere(filled: RawGuest) -> None:
    fd = filled.opendir(".")
    entries = filled.readdir(fd)
    cookies = [entry.next for entry in entries]
    assert cookies == sorted(set(cookies))
    for position in reversed(range(len(entries))):
        rest = parse_dirents(filled.readdir_raw(fd, 4096, entries[position].next))
        assert rest == entries[position + 1 :]
    # on a descriptor that has read nothing yet, too
    assert parse_dirents(filled.readdir_raw(filled.opendir("."), 4096, cookies[1])) == entries[2:]


@pytest.mark.parametrize("cookie", [99, 2**32, 2**64 - 1])
def test_a_cookie_past_the_end_gives_nothing(filled: RawGuest, cookie: int) -> None:
    assert filled.readdir_raw(filled.opendir("."), 4096, cookie) == b""


def test_rewinding_sees_new_files_and_going_on_does_not(filled: RawGuest) -> None:
    fd = filled.opendir(".")
    before = filled.readdir(fd)
    filled.create("new")
    assert parse_dirents(filled.readdir_raw(fd, 4096, before[1].next)) == before[2:]
    assert b"new" in {entry.name for entry in filled.readdir(fd)}


def test_a_small_buffer_reads_many_entries(guest: RawGuest) -> None:
    names = {b"file-%04d" % number for number in range(500)}
    for name in names:
        guest.close_fd(guest.create(name))
    fd = guest.opendir(".")
    found = guest.readdir(fd, 24 + 9 + 10)
    assert {entry.name for entry in found} == names | {b".", b".."}
    assert len(found) == 502


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of store has been asked for a list."""
    counts: Counter[str] = Counter()
    for kind in (MemoryBackend, LocalBackend):

        def counted(self: Any, key: Any, original: Any = kind.list, name: str = kind.__name__) -> Any:
            counts[name] += 1
            return original(self, key)

        monkeypatch.setattr(kind, "list", counted)
    return counts


def _lines_run(guest: RawGuest, fd: int, size: int, cookie: int) -> tuple[int, bytes]:
    """How many lines of the library one call runs (work, whatever the load), and what it writes."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_globals.get("__name__", "").startswith("vfswasi"):
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        raw = guest.readdir_raw(fd, size, cookie)
    finally:
        sys.settrace(before)
    return lines, raw


def test_eight_thousand_entries_are_linear(mount: vfswasi.Mount, listings: Counter[str]) -> None:
    names = [b"file-%04d" % number for number in range(8000)]
    source: Any = mount.source
    if isinstance(source, Path):
        for name in names:
            (source / name.decode()).touch()
    else:
        source = vfswasi.MemoryBackend({name.decode(): b"" for name in names})
    with RawGuest({"/d": vfswasi.Mount(source, rw=True)}) as guest:
        fd, size, cookie = guest.opendir("."), 512, 0
        found: list[bytes] = []
        work: list[int] = []
        while True:
            lines, raw = _lines_run(guest, fd, size, cookie)
            work.append(lines)
            entries = parse_dirents(raw)
            found += [entry.name for entry in entries]
            if len(raw) < size:
                break
            cookie = entries[-1].next
    assert sorted(found) == sorted([b".", b"..", *names])
    assert sum(listings.values()) == 1
    # The first call takes the snapshot; each one after it costs the same, wherever it starts, and the few lines more of
    # handing Python's lock on.
    assert len(work) > 500
    assert 0 < max(work[1:]) <= min(work[1:]) + 40


def test_a_removed_directory_has_no_entries(guest: RawGuest) -> None:
    guest.mkdir("sub")
    fd = guest.opendir("sub")
    assert guest.rmdir("sub") is Errno.SUCCESS
    assert guest.readdir(fd) == []


def test_descriptors_of_one_directory_read_on_their_own(filled: RawGuest) -> None:
    one, other = filled.opendir("."), filled.opendir(".")
    first = filled.readdir(one)
    filled.unlink("file")
    assert b"file" not in {entry.name for entry in filled.readdir(other)}
    assert parse_dirents(filled.readdir_raw(one, 4096, first[1].next)) == first[2:]


def test_what_is_no_directory_cannot_be_read(guest: RawGuest) -> None:
    fd = guest.create("f")
    assert guest.call("fd_readdir", fd, 0x10000, 100, 0, 0x3000) is Errno.NOTDIR
