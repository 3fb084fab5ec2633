"""path_open: which combination of flags and objects is which error, and that an error creates nothing."""

from __future__ import annotations

import pytest

from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import FileType

from ..rawguest import FREE, READ, RawGuest

WRITE = READ | c.RIGHT_FD_WRITE
CREAT, DIRECTORY, EXCL, TRUNC = c.OFLAG_CREAT, c.OFLAG_DIRECTORY, c.OFLAG_EXCL, c.OFLAG_TRUNC
NAMES = [b"dangling", b"dir", b"f", b"to_dir", b"to_f"]


@pytest.fixture
def tree(guest: RawGuest) -> RawGuest:
    """f, dir/f, dir/sub/, to_f -> f, to_dir -> dir, dangling -> missing."""
    guest.close_fd(guest.create("f", b"content"))
    assert guest.mkdir("dir") is Errno.SUCCESS
    assert guest.mkdir("dir/sub") is Errno.SUCCESS
    guest.close_fd(guest.create("dir/f", b"below"))
    for target, name in (("f", "to_f"), ("dir", "to_dir"), ("missing", "dangling")):
        assert guest.symlink(target, name) is Errno.SUCCESS
    return guest


def assert_unchanged(guest: RawGuest) -> None:
    assert guest.names() == NAMES
    assert guest.names("dir") == [b"f", b"sub"]
    assert guest.contents("f") == b"content"
    assert guest.contents("dir/f") == b"below"


@pytest.mark.parametrize("path", ["missing", "f", "dir", "dir/", "to_dir", "dangling"])
@pytest.mark.parametrize("more", [0, EXCL, TRUNC])
def test_creat_with_directory_is_inval(tree: RawGuest, path: str, more: int) -> None:
    assert tree.try_open(path, oflags=CREAT | DIRECTORY | more)[0] is Errno.INVAL
    assert_unchanged(tree)


@pytest.mark.parametrize("path", ["f", "dir/f", "to_f"])
def test_directory_on_a_file_is_notdir(tree: RawGuest, path: str) -> None:
    assert tree.try_open(path, oflags=DIRECTORY)[0] is Errno.NOTDIR


@pytest.mark.parametrize("path", ["dir", "dir/", "to_dir", "."])
@pytest.mark.parametrize("oflags", [DIRECTORY, 0])
def test_a_directory_with_write_rights_is_isdir(tree: RawGuest, path: str, oflags: int) -> None:
    assert tree.try_open(path, oflags=oflags, base=WRITE)[0] is Errno.ISDIR


@pytest.mark.parametrize("oflags", [CREAT, TRUNC, CREAT | TRUNC])
def test_a_directory_cannot_be_created_or_truncated_over(tree: RawGuest, oflags: int) -> None:
    assert tree.try_open("dir", oflags=oflags)[0] is Errno.ISDIR
    assert_unchanged(tree)


@pytest.mark.parametrize("path", ["dir", "to_dir", "dir/sub", "."])
@pytest.mark.parametrize("oflags", [DIRECTORY, 0])
def test_a_directory_opens_for_reading(tree: RawGuest, path: str, oflags: int) -> None:
    fd = tree.open(path, oflags=oflags, base=c.RIGHT_FD_READDIR)
    assert tree.fdstat(fd).filetype == FileType.DIRECTORY


@pytest.mark.parametrize("path", ["f", "dir", "to_f", "to_dir", "dangling", "dir/f"])
@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("oflags", [CREAT | EXCL, CREAT | EXCL | TRUNC, EXCL])
def test_excl_on_anything_that_exists_is_exist_a_dangling_link_too(
    tree: RawGuest, path: str, follow: bool, oflags: int
) -> None:
    assert tree.try_open(path, follow=follow, oflags=oflags, base=WRITE)[0] is Errno.EXIST
    assert_unchanged(tree)


def test_excl_creates_what_is_not_there(tree: RawGuest) -> None:
    tree.open("new", oflags=CREAT | EXCL, base=WRITE)
    assert tree.names() == sorted([*NAMES, b"new"])
    assert tree.try_open("new", oflags=CREAT | EXCL, base=WRITE)[0] is Errno.EXIST


@pytest.mark.parametrize("path", ["to_f", "to_dir", "dangling"])
@pytest.mark.parametrize("oflags", [0, CREAT, TRUNC, CREAT | TRUNC])
@pytest.mark.parametrize("base", [READ, WRITE])
def test_without_follow_a_link_is_loop_dangling_too(tree: RawGuest, path: str, oflags: int, base: int) -> None:
    assert tree.try_open(path, follow=False, oflags=oflags, base=base)[0] is Errno.LOOP
    assert_unchanged(tree)


@pytest.mark.parametrize("path", ["to_f", "to_dir", "dangling"])
def test_without_follow_a_link_with_directory_is_loop_or_notdir(tree: RawGuest, path: str) -> None:
    assert tree.try_open(path, follow=False, oflags=DIRECTORY)[0] in (Errno.LOOP, Errno.NOTDIR)


def test_links_on_the_way_are_followed_whatever_the_flag_says(tree: RawGuest) -> None:
    assert tree.read(tree.open("to_dir/f", follow=False), 100) == b"below"


def test_with_follow_a_link_opens_its_target(tree: RawGuest) -> None:
    assert tree.read(tree.open("to_f"), 100) == b"content"
    assert tree.fstat(tree.open("to_f")).ino == tree.stat("f").ino
    assert tree.names("to_dir") == [b"f", b"sub"]


def test_with_follow_a_dangling_link_is_noent_and_creat_makes_its_target(tree: RawGuest) -> None:
    assert tree.try_open("dangling")[0] is Errno.NOENT
    tree.open("dangling", oflags=CREAT, base=WRITE)
    assert tree.names() == sorted([*NAMES, b"missing"])
    assert tree.stat("missing").filetype == FileType.REGULAR_FILE


@pytest.mark.parametrize("path", [".", "x", "../f", "missing"])
@pytest.mark.parametrize("oflags", [0, CREAT, DIRECTORY])
def test_a_file_descriptor_as_the_base_is_notdir(tree: RawGuest, path: str, oflags: int) -> None:
    base = tree.open("f")
    assert tree.try_open(path, fd=base, oflags=oflags)[0] is Errno.NOTDIR
    assert_unchanged(tree)


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_stream_as_the_base_is_notdir(tree: RawGuest, stream: int) -> None:
    assert tree.try_open("f", fd=stream)[0] is Errno.NOTDIR


def test_a_file_descriptor_as_the_base_is_notdir_in_every_path_call(tree: RawGuest) -> None:
    base = tree.open("f")
    path = tree.text("x")
    calls: dict[str, tuple[int, ...]] = {
        "path_create_directory": (base, *path),
        "path_filestat_get": (base, 0, *path, FREE),
        "path_filestat_set_times": (base, 0, *path, 0, 0, 0),
        "path_link": (base, 0, *path, 3, *path),
        "path_open": (base, 0, *path, 0, 0, 0, 0, FREE),
        "path_readlink": (base, *path, FREE, 8, FREE + 8),
        "path_remove_directory": (base, *path),
        "path_rename": (base, *path, 3, *path),
        "path_symlink": (*path, base, *path),
        "path_unlink_file": (base, *path),
    }
    assert set(calls) == {name for name in tree.abi.functions if name.startswith("path_")}
    for name, args in calls.items():
        assert tree.call(name, *args) is Errno.NOTDIR, name
    for name in ("path_link", "path_rename"):
        flags = (0,) if name == "path_link" else ()
        assert tree.call(name, 3, *flags, *path, base, *path) is Errno.NOTDIR, name
    assert_unchanged(tree)


@pytest.mark.parametrize("path", ["f/x", "to_f/x", "dir/f/x", "f/", "f/.", "f/..", "f/../f", "to_f/"])
@pytest.mark.parametrize("oflags", [0, CREAT])
def test_a_file_on_the_way_is_notdir(tree: RawGuest, path: str, oflags: int) -> None:
    assert tree.try_open(path, oflags=oflags)[0] is Errno.NOTDIR
    assert_unchanged(tree)


@pytest.mark.parametrize("path", ["dir/", "dir///", "to_dir/", "to_dir///", "dir/sub//", "./", ".///"])
@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("oflags", [DIRECTORY, 0])
def test_slashes_after_a_directory_are_fine(tree: RawGuest, path: str, follow: bool, oflags: int) -> None:
    fd = tree.open(path, follow=follow, oflags=oflags, base=0)
    assert tree.fstat(fd).ino == tree.stat(path.rstrip("/")).ino


@pytest.mark.parametrize(
    "path", ["dir/f", "dir/.//sub/../../dir/f", "./dir//f", "dir/sub/../f", "to_dir/sub/../f", "dir/./././f"]
)
def test_dots_and_slashes_on_the_way_are_walked(tree: RawGuest, path: str) -> None:
    assert tree.contents(path) == b"below"


@pytest.mark.parametrize("path", ["missing", "missing/f", "missing/../f", "dir/missing", ""])
def test_what_is_missing_is_noent(tree: RawGuest, path: str) -> None:
    assert tree.try_open(path)[0] is Errno.NOENT
    assert_unchanged(tree)


@pytest.mark.parametrize(("oflags", "left"), [(0, b"content"), (CREAT, b"content"), (TRUNC, b""), (CREAT | TRUNC, b"")])
def test_only_trunc_empties_a_file(tree: RawGuest, oflags: int, left: bytes) -> None:
    tree.open("f", oflags=oflags, base=WRITE)
    assert tree.contents("f") == left
