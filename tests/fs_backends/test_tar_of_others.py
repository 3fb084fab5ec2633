"""Tar archives that GNU tar and gzip read without a word, or with a warning."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest

from tests.fs_backends.tar_forge import block, forge, member, mount, padded, pax, tree

A, B = member("a", b"one"), member("b", b"two")
BOTH: dict[str, object] = {"a": b"one", "b": b"two"}


@pytest.mark.parametrize("end", [b"", bytes(1), bytes(511), bytes(512), bytes(1024), bytes(10_240)])
def test_the_end_may_be_missing(end: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert tree(mount(A + B + end)) == BOTH
    assert ("has no end, as if it were cut short" in caplog.text) == (len(end) < 512)


def test_the_padding_of_the_last_member_may_be_missing() -> None:
    assert tree(mount(A + block(b"b", 3) + b"two")) == BOTH
    assert tree(mount(A + block(b"b", 3) + b"two" + bytes(100))) == BOTH


def test_what_stands_behind_the_end_is_not_looked_at() -> None:
    for rest in (B, b"rubbish", forge(B)):
        assert tree(mount(forge(A) + rest)) == {"a": b"one"}


@pytest.mark.parametrize("rest", [b"rubbish", b"\n", bytes(5), bytes(100_000), b"\0\0x", bytes(40_000) + b"rubbish"])
def test_rubbish_behind_a_compressed_stream(rest: bytes) -> None:
    data = forge(A, B)
    for pack in (gzip.compress, bz2.compress):
        assert tree(mount(pack(data) + rest)) == BOTH
    if not rest.strip(b"\0"):
        assert tree(mount(lzma.compress(data) + rest)) == BOTH
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert tree(mount(pack(data[:600]) + pack(data[600:]))) == BOTH


@pytest.mark.parametrize("name", ["./a", "././a", ".//a", "./././/a"])
def test_a_name_with_dots_and_slashes_that_say_nothing(name: str) -> None:
    assert tree(mount(forge(member(name, b"1"), member("b/" + name, b"2")))) == {"a": b"1", "b": {"a": b"2"}}


def test_targets_of_hard_links_are_names_too() -> None:
    data = forge(member("./d//f", b"1"), member("g", kind=b"1", link=b"d/./f"))
    assert tree(mount(data)) == {"d": {"f": b"1"}, "g": b"1"}
    assert mount(data).stat(("g",)).nlink == 2


def test_a_hard_link_with_contents() -> None:
    size = pax(("size", b"3"))
    plain = member("g", b"two", b"1", link=b"a")
    assert tree(mount(forge(A, plain, B))) == {"a": b"two", "g": b"two", "b": b"two"}
    assert tree(mount(forge(A, size, plain, B))) == {"a": b"two", "g": b"two", "b": b"two"}
    first = member("a")  # the contents come with the last name, as cpio has it
    assert tree(mount(forge(first, plain, B))) == {"a": b"two", "g": b"two", "b": b"two"}
    assert tree(mount(forge(plain, B))) == {"g": b"two", "b": b"two"}, "what it leads to is missing"
    # A body that looks like a header is one where PAX says so.
    inner = forge(member("inner", b"x"))
    told = pax(("size", b"%d" % len(inner))) + block(b"g", 0, b"1", link=b"a") + padded(inner)
    assert tree(mount(forge(A, told, B))) == {"a": inner, "g": inner, "b": b"two"}


def test_a_hard_link_that_has_a_size_and_no_contents() -> None:
    # As tars of old have it: the size is that of the file.
    link = block(b"g", 3, b"1", link=b"a")
    assert tree(mount(forge(A, link, B))) == {**BOTH, "g": b"one"}
    assert tree(mount(forge(A, link))) == {"a": b"one", "g": b"one"}
    assert tree(mount(A + link)) == {"a": b"one", "g": b"one"}


def test_an_archive_in_which_nothing_can_be_seen_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert tree(mount(forge(member("../x"), member("/abs\x1b"), member(b"\xff")))) == {}
    assert "all of 3 entries not shown" in caplog.text
    assert "\x1b" not in caplog.text
    caplog.clear()
    assert tree(mount(forge(member("../x"), A))) == {"a": b"one"}
    assert "1 of 2 entries not shown" in caplog.text
    caplog.clear()
    assert tree(mount(forge())) == {}
    assert not caplog.records
