"""Making and removing directories, removing files, and what happens to what is open meanwhile."""

from __future__ import annotations

import pytest

from tests.rawguest import GuestErrno, RawGuest
from vfswasi.errors import Errno


@pytest.fixture
def filled(guest: RawGuest) -> RawGuest:
    guest.close_fd(guest.create("file", b"data"))
    guest.mkdir("dir")
    guest.mkdir("full")
    guest.close_fd(guest.create("full/f"))
    guest.symlink("file", "link")
    guest.symlink("dir", "dirlink")
    guest.symlink("nowhere", "dangling")
    return guest


@pytest.mark.parametrize(
    "path", ["file", "dir", "link", "dirlink", "dangling", ".", "dir/.", "dir/..", "dir/", "file/.."]
)
def test_mkdir_on_anything_is_exist(filled: RawGuest, path: str) -> None:
    expected = Errno.NOTDIR if path == "file/.." else Errno.EXIST
    before = filled.names()
    assert filled.mkdir(path) is expected
    assert filled.names() == before


def test_mkdir_with_trailing_slashes(guest: RawGuest) -> None:
    assert guest.mkdir("new///") is Errno.SUCCESS
    assert guest.stat("new").filetype == 3


@pytest.mark.parametrize(
    ("path", "errno"), [("no/new", Errno.NOENT), ("file/new", Errno.NOTDIR), ("dangling/n", Errno.NOENT)]
)
def test_mkdir_needs_its_parent(filled: RawGuest, path: str, errno: Errno) -> None:
    assert filled.mkdir(path) is errno


@pytest.mark.parametrize("path", ["new/.", "new/./", "new/.."])
def test_mkdir_does_not_make_what_is_before_dots(guest: RawGuest, path: str) -> None:
    assert guest.mkdir(path) is Errno.NOENT
    assert guest.names() == []


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("file", Errno.NOTDIR),
        ("link", Errno.NOTDIR),
        ("dirlink", Errno.NOTDIR),
        ("dirlink/", Errno.NOTDIR),
        ("dangling", Errno.NOTDIR),
        ("full", Errno.NOTEMPTY),
        ("full/", Errno.NOTEMPTY),
        ("dir/.", Errno.INVAL),
        (".", Errno.INVAL),
        ("dir/..", Errno.NOTEMPTY),
        ("missing", Errno.NOENT),
        ("", Errno.NOENT),
    ],
)
def test_rmdir_refuses(filled: RawGuest, path: str, errno: Errno) -> None:
    before = filled.names()
    assert filled.rmdir(path) is errno
    assert filled.names() == before


@pytest.mark.parametrize("path", ["dir", "dir/", "dir//", "dirlink/../dir"])
def test_rmdir_removes_an_empty_directory(filled: RawGuest, path: str) -> None:
    expected = Errno.SUCCESS
    assert filled.rmdir(path) is expected
    assert b"dir" not in filled.names()


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("dir", Errno.ISDIR),
        ("dir/", Errno.ISDIR),
        (".", Errno.ISDIR),
        ("file/", Errno.NOTDIR),
        ("file/.", Errno.NOTDIR),
        ("link/", Errno.NOTDIR),
        ("dirlink/", Errno.NOTDIR),
        ("missing", Errno.NOENT),
        ("", Errno.NOENT),
    ],
)
def test_unlink_refuses(filled: RawGuest, path: str, errno: Errno) -> None:
    before = filled.names()
    assert filled.unlink(path) is errno
    assert filled.names() == before


@pytest.mark.parametrize("path", ["link", "dirlink", "dangling"])
def test_unlink_removes_the_link_and_not_its_target(filled: RawGuest, path: str) -> None:
    assert filled.unlink(path) is Errno.SUCCESS
    assert path.encode() not in filled.names()
    assert {b"file", b"dir"} <= set(filled.names())


def test_creating_in_a_removed_directory_is_noent(guest: RawGuest) -> None:
    guest.mkdir("gone")
    fd = guest.opendir("gone")
    assert guest.rmdir("gone") is Errno.SUCCESS
    assert guest.mkdir("new", fd=fd) is Errno.NOENT
    assert guest.symlink("x", "new", fd=fd) is Errno.NOENT
    guest.close_fd(guest.create("file", b"stays"))
    assert guest.link("file", "new", new_fd=fd) is Errno.NOENT
    assert guest.rename("file", "new", new_fd=fd) is Errno.NOENT
    assert guest.contents("file") == b"stays"
    assert guest.stat("file").nlink == 1
    with pytest.raises(GuestErrno) as caught:
        guest.create("new", fd=fd)
    assert caught.value.errno is Errno.NOENT
    # A new directory of that name is another one.
    guest.mkdir("gone")
    assert guest.mkdir("new", fd=fd) is Errno.NOENT
    assert guest.names("gone") == []
    assert guest.fstat(fd).nlink == 0


def test_an_unlinked_open_file_reads_and_writes_on(guest: RawGuest) -> None:
    fd = guest.create("f", b"abc")
    other = guest.open("f")
    assert guest.unlink("f") is Errno.SUCCESS
    guest.write(fd, b"def")
    assert guest.read(other, 9) == b"abcdef"
    assert guest.fstat(fd).nlink == 0
    guest.must("fd_filestat_set_size", fd, 2)
    assert guest.fstat(other).size == 2
    # A new file of that name is another one.
    new = guest.create("f", b"new")
    assert guest.pread(fd, 9, 0) == b"ab"
    assert guest.fstat(new).ino != guest.fstat(fd).ino
    guest.close_fd(fd)
    guest.close_fd(other)
    assert guest.contents("f") == b"new"
