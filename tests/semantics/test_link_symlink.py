"""link, symlink, readlink."""

from __future__ import annotations

import pytest

from tests.rawguest import FREE, RawGuest
from vfswasi.errors import Errno


@pytest.fixture
def filled(guest: RawGuest) -> RawGuest:
    guest.close_fd(guest.create("file", b"data"))
    guest.mkdir("dir")
    guest.symlink("file", "link")
    guest.symlink("nowhere", "dangling")
    return guest


def test_a_link_is_a_second_name(filled: RawGuest) -> None:
    assert filled.link("file", "dir/second") is Errno.SUCCESS
    assert filled.stat("file").nlink == 2
    assert filled.stat("file")[:2] == filled.stat("dir/second")[:2]
    assert filled.unlink("file") is Errno.SUCCESS
    assert filled.contents("dir/second") == b"data"


@pytest.mark.parametrize(
    ("old", "new", "errno"),
    [
        ("file", "dir", Errno.EXIST),
        ("file", "link", Errno.EXIST),
        ("file", "dangling", Errno.EXIST),
        ("file", "file", Errno.EXIST),
        ("file", ".", Errno.EXIST),
        ("dir", "new", Errno.PERM),
        ("dir/", "new", Errno.PERM),
        (".", "new", Errno.PERM),
        ("file", "new/", Errno.NOENT),
        ("file/", "new", Errno.NOTDIR),
        ("missing", "new", Errno.NOENT),
        ("file", "missing/new", Errno.NOENT),
        ("file", "file/new", Errno.NOTDIR),
    ],
)
def test_link_refuses(filled: RawGuest, old: str, new: str, errno: Errno) -> None:
    before = filled.names()
    assert filled.link(old, new) is errno
    assert filled.names() == before
    assert filled.stat("file").nlink == 1


@pytest.mark.parametrize("flags", [1, 2, 2**31])
def test_link_with_follow_or_unknown_flags_is_inval(filled: RawGuest, flags: int) -> None:
    assert filled.link("file", "new", flags=flags) is Errno.INVAL
    assert b"new" not in filled.names()


@pytest.mark.parametrize("name", ["link", "dangling"])
def test_a_link_to_a_symlink_links_the_symlink(filled: RawGuest, name: str) -> None:
    assert filled.link(name, "second") is Errno.SUCCESS
    assert filled.stat("second", follow=False).filetype == 7
    assert filled.stat("second", follow=False)[:2] == filled.stat(name, follow=False)[:2]
    assert filled.stat(name, follow=False).nlink == 2


@pytest.mark.parametrize(
    ("target", "path", "errno"),
    [
        ("t", "file", Errno.EXIST),
        ("t", "dir", Errno.EXIST),
        ("t", "link", Errno.EXIST),
        ("t", "dangling", Errno.EXIST),
        ("t", "dir/", Errno.EXIST),
        ("t", "new/", Errno.NOENT),
        ("t", "file/", Errno.NOTDIR),
        ("", "new", Errno.NOENT),
        ("/absolute", "new", Errno.PERM),
        ("/", "new", Errno.PERM),
        ("t", "missing/new", Errno.NOENT),
        ("t", "", Errno.NOENT),
    ],
)
def test_symlink_refuses(filled: RawGuest, target: str, path: str, errno: Errno) -> None:
    before = filled.names()
    assert filled.symlink(target, path) is errno
    assert filled.names() == before


@pytest.mark.parametrize("target", ["../../etc/passwd", "..", "dir/../../x"])
def test_a_target_that_leads_out_may_be_made_and_not_followed(filled: RawGuest, target: str) -> None:
    assert filled.symlink(target, "out") is Errno.SUCCESS
    assert filled.readlink("out") == target.encode()
    assert filled.stat("out", follow=False).filetype == 7
    errno, _ = filled.try_open("out")
    assert errno is Errno.NOTCAPABLE
    errno, _ = filled.try_open("out/x", oflags=1)
    assert errno is Errno.NOTCAPABLE
    for follow in (1, 0):  # a slash follows the link, whatever the flag says
        path = "out" if follow else "out/"
        assert filled.call("path_filestat_get", 3, follow, *filled.text(path), 0x3000) is Errno.NOTCAPABLE
    assert filled.mkdir("out/x") is Errno.NOTCAPABLE
    assert filled.link("file", "out/x") is Errno.NOTCAPABLE
    assert filled.rename("file", "out/x") is Errno.NOTCAPABLE
    assert filled.contents("file") == b"data"


@pytest.mark.parametrize("target", ["file", "./dir//../file", "ünïcödé \N{SNOWMAN}", "a" * 4000, "dir/"])
def test_targets_are_kept_as_they_stand(guest: RawGuest, target: str) -> None:
    assert guest.symlink(target, "l") is Errno.SUCCESS
    assert guest.readlink("l") == target.encode()


def test_readlink_truncates_and_leaves_the_rest_alone(filled: RawGuest) -> None:
    filled.poke(FREE, b"\xaa" * 16)
    filled.must("path_readlink", 3, *filled.text("link"), FREE, 2, 0x3000)
    assert filled.u32() == 2
    assert filled.peek(FREE, 4) == b"fi\xaa\xaa"
    filled.must("path_readlink", 3, *filled.text("link"), FREE, 16, 0x3000)
    assert filled.u32() == 4
    assert filled.peek(FREE, 6) == b"file\xaa\xaa"
    filled.must("path_readlink", 3, *filled.text("link"), FREE, 0, 0x3000)
    assert filled.u32() == 0


@pytest.mark.parametrize(
    ("path", "errno"), [("file", Errno.INVAL), ("dir", Errno.INVAL), (".", Errno.INVAL), ("no", Errno.NOENT)]
)
def test_readlink_of_what_is_no_link(filled: RawGuest, path: str, errno: Errno) -> None:
    assert filled.call("path_readlink", 3, *filled.text(path), FREE, 16, 0x3000) is errno


def test_a_chain_of_40_links_is_followed_and_41_is_loop(guest: RawGuest) -> None:
    guest.close_fd(guest.create("l0", b"end"))
    for number in range(1, 42):
        guest.symlink(f"l{number - 1}", f"l{number}")
    assert guest.contents("l40") == b"end"
    assert guest.try_open("l41")[0] is Errno.LOOP
