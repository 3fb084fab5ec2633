"""Attacks with names, and what a guest is given: lines P5 to P8 of the threat model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi
from vfswasi.errors import Errno

from ..rawguest import RawGuest
from .jail import CREAT, INSIDE, PATH_CALLS, WRITE, Jail, PathCall, fill

each_call = pytest.mark.parametrize("call", PATH_CALLS, ids=lambda call: call.name)


# P5: bytes that are no name.


@each_call
@pytest.mark.parametrize("path", [b"\0", b"f\0", b"\0f", b"f\0/../../x", b"new\0", b"sub/\0/g"])
def test_p5_nul_is_inval(jail: Jail, call: PathCall, path: bytes) -> None:
    before = jail.inside()
    assert call.call(jail.guest, 3, path) is Errno.INVAL
    assert jail.inside() == before


@each_call
@pytest.mark.parametrize(
    "path",
    [
        b"\xff",
        b"f\x80",
        b"\xc0\xaf",  # "/" in two bytes
        b"\xe0\x80\xaf",
        b"\xc0\xae\xc0\xae/f",  # ".." in overlong dots
        b"\xc0\x80",  # NUL in two bytes
        b"\xed\xa0\x80",  # a surrogate
        b"\xed\xb2\x80",  # what Python's surrogateescape would make
        b"\xe2\x82",  # cut
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    ],
)
def test_p5_bytes_that_are_not_utf8_are_ilseq(jail: Jail, call: PathCall, path: bytes) -> None:
    before = jail.inside()
    assert call.call(jail.guest, 3, path) is Errno.ILSEQ
    assert call.call(jail.guest, 3, b"sub/" + path) is Errno.ILSEQ
    assert jail.inside() == before


@pytest.mark.parametrize(("target", "errno"), [(b"a\0b", Errno.INVAL), (b"\xff", Errno.ILSEQ)])
def test_p5_a_links_target_must_be_text_too(jail: Jail, target: bytes, errno: Errno) -> None:
    assert jail.guest.symlink(target, "new") is errno
    assert "new" not in jail.inside()


# P6: characters that mean something elsewhere.

ODD_NAMES = [
    "\uff0e\uff0e",  # ".." under NFKC
    "\uff0e\uff0e\uff0fjail-evil",  # "../jail-evil" under NFKC
    "\u2024\u2024",
    "..\u2215jail-evil",
    "..\\jail-evil\\secret",
    "sub\\g",
    "\\",
    "C:",
    "C:f",
    "\\\\host\\share",
    "f:stream",
    "CON",
    "f.",
    "f ",
    " f",
    "...",
    "~",
    "~root",
    "$HOME",
    "${HOME}",
    "%2e%2e%2ff",
    "%66",
    "file:",
    "memory:",
    "s3:",
    "zip::f",
    "simplecache::file:",
    "f::f",
    "*",
    "**",
    "?",
    "[f]",
    "[!x]",
    "{f,sub}",
    "f?versionId=1",
    "f#fragment",
    "f&x",
    "-rf",
    "|ls",
    ";ls",
    "`ls`",
    "f\n",
    "\r",
    "\t",
    "\x1b[31m",
    "\x7f",
    "F",
    "ſub",  # "sub" when upper-cased and folded
    "é",
    "e\u0301",
    "\u202ef",
    "f\u200d",
    "\ufeff",
    "\U0001f600",
    "\ufffd",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_p6_an_odd_name_is_a_name_like_any_other(jail: Jail, name: str) -> None:
    guest = jail.guest
    before = jail.inside()
    guest.close_fd(guest.create(name, b"odd"))
    there = jail.inside()
    assert set(there) - set(before) == {name}
    assert {path: seen for path, seen in there.items() if path not in (name, "")} == {
        path: seen for path, seen in before.items() if path != ""
    }
    assert name.encode() in guest.names()
    assert guest.contents(name) == b"odd"
    assert guest.stat(name).size == 3
    assert guest.rename(name, f"sub/{name}") is Errno.SUCCESS
    assert guest.contents(f"sub/{name}") == b"odd"
    assert guest.unlink(f"sub/{name}") is Errno.SUCCESS
    assert set(jail.inside()) == set(before)
    assert jail.inside()["f"] == before["f"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_p6_an_odd_name_is_a_directory_and_a_links_target_like_any_other(jail: Jail, name: str) -> None:
    guest = jail.guest
    assert guest.mkdir(name) is Errno.SUCCESS
    guest.close_fd(guest.create(f"{name}/x", b"odd"))
    assert guest.symlink(f"{name}/x", "link") is Errno.SUCCESS
    assert guest.contents("link") == b"odd"
    assert f"{name}/x" in jail.inside()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "memory://x", "s3://bucket/x", "zip://f::file:///x", "C:/f"])
def test_p6_a_url_is_a_path_to_a_missing_directory(jail: Jail, url: str) -> None:
    assert jail.guest.try_open(url)[0] is Errno.NOENT
    assert jail.guest.try_open(url, base=WRITE, oflags=CREAT)[0] is Errno.NOENT


@pytest.mark.parametrize(
    ("one", "other"), [("f", "F"), ("é", "e\u0301"), ("ß", "ss"), ("\u212b", "Å"), ("ﬁ", "fi"), ("İ", "i̇")]
)
def test_p6_names_are_neither_folded_nor_normalised(jail: Jail, one: str, other: str) -> None:
    guest = jail.guest
    for name in (one, other):
        guest.close_fd(guest.create(name, name.encode()))
    assert guest.contents(one) == one.encode()
    assert guest.contents(other) == other.encode()
    assert guest.unlink(other) is Errno.SUCCESS
    assert guest.contents(one) == one.encode()


# P7: empty, dots, slashes behind files.


@each_call
def test_p7_an_empty_path_is_noent(jail: Jail, call: PathCall) -> None:
    before = jail.inside()
    assert call.call(jail.guest, 3, "") is Errno.NOENT
    assert jail.inside() == before


@pytest.mark.parametrize("path", [".", "./", "sub/.", "empty/.", "empty/./"])
def test_p7_dot_is_not_removed_renamed_or_made(jail: Jail, path: str) -> None:
    guest = jail.guest
    before = jail.inside()
    assert guest.rmdir(path) is Errno.INVAL
    assert guest.unlink(path) is Errno.ISDIR
    assert guest.rename(path, "new") is Errno.BUSY
    assert guest.rename("empty", path) is Errno.BUSY
    assert guest.mkdir(path) is Errno.EXIST
    assert guest.symlink("f", path) is Errno.EXIST
    assert guest.link("f", path) is Errno.EXIST
    assert jail.inside() == before


@each_call
@pytest.mark.parametrize("path", ["f/", "f//", "f/.", "f/./", "f/x", "f/..", "f/../f"])
def test_p7_a_file_is_not_a_directory(jail: Jail, call: PathCall, path: str) -> None:
    before = jail.inside()
    # mkdir(2) on anything that exists is EXIST, with or without a slash behind it.
    expected = Errno.EXIST if call.name == "mkdir" and path in ("f/", "f//") else Errno.NOTDIR
    assert call.call(jail.guest, 3, path) is expected
    assert jail.inside() == before


# P8: what a guest is given.


def test_p8_without_preopens_there_is_no_directory() -> None:
    with RawGuest() as guest:
        for fd in range(3, 20):
            assert guest.call("fd_prestat_get", fd, 0x4000) is Errno.BADF
            assert guest.try_open("/etc/passwd", fd=fd)[0] is Errno.BADF
        for fd in range(3):
            assert guest.try_open("etc/passwd", fd=fd)[0] is Errno.NOTDIR


@pytest.mark.parametrize("again", ["/d/", "/d//"])
def test_p8_a_guest_directory_is_given_once(again: str) -> None:
    with pytest.raises(vfswasi.MountError, match="twice"):
        RawGuest({"/d": {}, again: {}})


Sources = Callable[[Path], tuple[object, object]]
OVERLAPS: dict[str, Sources] = {
    "the same directory": lambda root: (root / "jail", root / "jail"),
    "a directory inside": lambda root: (root / "jail", root / "jail" / "sub"),
    "a directory around": lambda root: (root / "jail" / "sub", root / "jail"),
    "through dots": lambda root: (root / "jail", root / "other" / ".." / "jail" / "sub"),
    "through a link": lambda root: (root / "jail", root / "link"),
    "as a URL": lambda root: (root / "jail", f"file://{root}/jail/sub"),
}


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("readonly_first", [True, False])
def test_p8_overlapping_directories_with_other_permissions_are_refused(
    tmp_path: Path, name: str, readonly_first: bool
) -> None:
    for directory in ("jail", "other"):
        fill(tmp_path / directory, INSIDE)
    (tmp_path / "link").symlink_to("jail/sub")
    one, other = OVERLAPS[name](tmp_path)
    options = {"rw": not readonly_first}, {"rw": readonly_first}
    with pytest.raises(vfswasi.MountError, match="overlap"):
        RawGuest({"/a": vfswasi.Mount(one, **options[0]), "/b": vfswasi.Mount(other, **options[1])})  # type: ignore[arg-type]
    with RawGuest(
        {
            "/a": vfswasi.Mount(one, **options[0]),  # type: ignore[arg-type]
            "/b": vfswasi.Mount(other, overlap=True, **options[1]),  # type: ignore[arg-type]
        }
    ) as guest:
        readonly, writable = (3, 4) if readonly_first else (4, 3)
        assert guest.mkdir("new", fd=readonly) is Errno.ROFS
        assert guest.mkdir("new", fd=writable) is Errno.SUCCESS


def test_p8_one_store_with_two_permissions_is_refused() -> None:
    store = vfswasi.MemoryBackend(INSIDE)
    with pytest.raises(vfswasi.MountError, match="overlap"):
        RawGuest({"/a": store, "/b": vfswasi.Mount(store, rw=False)})
    with RawGuest({"/a": store, "/b": vfswasi.Mount(store, rw=False, overlap=True)}) as guest:
        assert guest.mkdir("new", fd=4) is Errno.ROFS
        assert guest.mkdir("new", fd=3) is Errno.SUCCESS
        assert b"new" in guest.names(fd=4)
