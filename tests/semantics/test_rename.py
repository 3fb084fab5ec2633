"""rename: what may replace what, and that open things follow."""

from __future__ import annotations

import pytest

from tests.rawguest import RawGuest
from vfswasi.errors import Errno


@pytest.fixture
def filled(guest: RawGuest) -> RawGuest:
    guest.close_fd(guest.create("file", b"one"))
    guest.close_fd(guest.create("other", b"two"))
    guest.mkdir("empty")
    guest.mkdir("full")
    guest.close_fd(guest.create("full/f", b"inside"))
    guest.mkdir("full/deep")
    guest.symlink("file", "link")
    return guest


@pytest.mark.parametrize(
    ("old", "new", "errno"),
    [
        ("full", "empty", Errno.SUCCESS),
        ("empty", "full", Errno.NOTEMPTY),
        ("empty", "file", Errno.NOTDIR),
        ("file", "empty", Errno.ISDIR),
        ("file", "full", Errno.ISDIR),
        ("full", "full/deep", Errno.INVAL),
        ("full", "full/deep/new", Errno.INVAL),
        ("full", "full/new", Errno.INVAL),
        ("full/deep", "full", Errno.NOTEMPTY),
        ("file", "other", Errno.SUCCESS),
        ("file", "new", Errno.SUCCESS),
        ("file", "file", Errno.SUCCESS),
        ("full", "full", Errno.SUCCESS),
        ("file", "new/", Errno.NOTDIR),
        ("file/", "new", Errno.NOTDIR),
        ("full/", "new/", Errno.SUCCESS),
        ("full", "new///", Errno.SUCCESS),
        ("missing", "new", Errno.NOENT),
        ("file", "missing/new", Errno.NOENT),
        ("file", "other/new", Errno.NOTDIR),
        ("", "new", Errno.NOENT),
        ("file", "", Errno.NOENT),
        (".", "new", Errno.BUSY),
        ("file", ".", Errno.BUSY),
        ("full/..", "new", Errno.BUSY),
        ("full", "full/deep/..", Errno.BUSY),
        ("link", "other", Errno.SUCCESS),
        ("link", "empty", Errno.ISDIR),
    ],
)
def test_outcome(filled: RawGuest, old: str, new: str, errno: Errno) -> None:
    before = (filled.names(), filled.names("full"), filled.contents("file"))
    assert filled.rename(old, new) is errno
    if errno is not Errno.SUCCESS or old == new:
        assert (filled.names(), filled.names("full"), filled.contents("file")) == before
    else:
        assert old.strip("/").encode() not in filled.names()
        assert new.strip("/").encode() in filled.names()


def test_contents_move_and_replace(filled: RawGuest) -> None:
    assert filled.rename("file", "other") is Errno.SUCCESS
    assert filled.contents("other") == b"one"
    assert filled.rename("full", "empty") is Errno.SUCCESS
    assert filled.contents("empty/f") == b"inside"


def test_two_names_of_one_inode_stay(filled: RawGuest) -> None:
    assert filled.link("file", "second") is Errno.SUCCESS
    fd = filled.open("second")
    before = filled.fstat(fd)
    assert filled.rename("file", "second") is Errno.SUCCESS
    assert {b"file", b"second"} <= set(filled.names())
    assert filled.fstat(fd) == filled.stat("file") == filled.stat("second") == before
    assert before.nlink == 2
    assert filled.unlink("second") is Errno.SUCCESS
    assert filled.read(fd, 9) == filled.contents("file") == b"one"
    assert filled.fstat(fd).nlink == 1


def test_a_link_moves_as_a_link(filled: RawGuest) -> None:
    assert filled.rename("link", "full/link") is Errno.SUCCESS
    assert filled.readlink("full/link") == b"file"
    assert filled.contents("file") == b"one"


def test_open_files_follow(filled: RawGuest) -> None:
    fd = filled.create("full/f", b"abc")
    assert filled.rename("full", "moved") is Errno.SUCCESS
    filled.write(fd, b"def")
    assert filled.contents("moved/f") == b"abcdef"
    assert filled.fstat(fd).nlink == 1


def test_open_directories_follow(filled: RawGuest) -> None:
    fd = filled.opendir("full/deep")
    assert filled.rename("full", "moved") is Errno.SUCCESS
    filled.create("new", b"x", fd=fd)
    assert filled.names("moved/deep") == [b"new"]
    assert filled.names(".", fd=fd) == [b"new"]


def test_a_replaced_open_file_stays_what_it_was(filled: RawGuest) -> None:
    fd = filled.open("other")
    assert filled.rename("file", "other") is Errno.SUCCESS
    assert filled.read(fd, 9) == b"two"
    assert filled.fstat(fd).nlink == 0
    assert filled.contents("other") == b"one"


def test_a_replaced_open_directory_is_gone(filled: RawGuest) -> None:
    fd = filled.opendir("empty")
    assert filled.rename("full", "empty") is Errno.SUCCESS
    assert filled.mkdir("new", fd=fd) is Errno.NOENT
    assert b"new" not in filled.names("empty")


def test_between_two_directory_descriptors(filled: RawGuest) -> None:
    full, empty = filled.opendir("full"), filled.opendir("empty")
    assert filled.rename("f", "g", fd=full, new_fd=empty) is Errno.SUCCESS
    assert filled.contents("empty/g") == b"inside"
    assert filled.rename("../f", "g", fd=full, new_fd=empty) is Errno.NOTCAPABLE
