"""Attacks with paths: lines P1 to P8 of the threat model. `jail` checks that nothing outside has changed."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import vfswasi
from vfswasi.errors import Errno

from ..rawguest import RawGuest
from .jail import CREAT, INSIDE, PATH_CALLS, SECRET, WRITE, Jail, PathCall, fill

OUTSIDE_LINKS = {
    "abs": "/etc",
    "abs-jail": "/jail",
    "out": "../jail-evil",
    "out-slash": "../jail-evil/",
    "up": "..",
    "up-and-back": "../jail",
    "secret": "../jail-evil/secret",
    "dangling": "../jail-evil/new",
    "dangling-abs": "/new",
    "via": "out/secret",
    "sub/up2": "../../jail-evil",
    "deep-up": "sub/../../jail-evil/secret",
}

# What a call answers when a slash follows a link to a directory outside; NOTCAPABLE unless it stands here, where
# the call never follows its last component.
SLASHED = {
    "open creat excl": Errno.NOTCAPABLE,
    "mkdir": Errno.EXIST,
    "rmdir": Errno.NOTDIR,
    "unlink": Errno.NOTDIR,
    "symlink": Errno.EXIST,
    "link to": Errno.EXIST,
    "rename from": Errno.NOTDIR,
    "rename to": Errno.NOTDIR,
}

each_call = pytest.mark.parametrize("call", PATH_CALLS, ids=lambda call: call.name)
following = pytest.mark.parametrize(
    "call", [call for call in PATH_CALLS if call.follows], ids=lambda call: call.name
)


def _plant(jail: Jail) -> None:
    for name, target in OUTSIDE_LINKS.items():
        jail.plant(name, target)


# P1: absolute, `..`, links that lead out.


@each_call
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/f",
        "/etc/passwd",
        "/jail/f",
        "../",
        "../f",
        "../new",
        "../jail/f",
        "../jail-evil/secret",
        "./../f",
        ".//.././jail/f",
        "sub/../../jail/f",
        "sub/deep/../../../f",
        "sub/../../../../../../../../etc/passwd",
        "abs/passwd",
        "abs-jail/f",
        "out/secret",
        "out/new",
        "out/room/new",
        "out-slash/new",
        "up/new",
        "up/jail/f",
        "up-and-back/f",
        "sub/up2/secret",
    ],
)
def test_p1_a_path_that_leaves_is_notcapable(jail: Jail, call: PathCall, path: str) -> None:
    _plant(jail)
    before = jail.inside()
    assert call.call(jail.guest, 3, path) is Errno.NOTCAPABLE
    assert jail.inside() == before


@each_call
@pytest.mark.parametrize("path", ["..", "sub/../..", "up/..", "out/.."])
def test_p1_dots_that_leave_are_notcapable(jail: Jail, call: PathCall, path: str) -> None:
    _plant(jail)
    before = jail.inside()
    assert call.call(jail.guest, 3, path) is Errno.NOTCAPABLE
    assert jail.inside() == before


@following
@pytest.mark.parametrize("link", list(OUTSIDE_LINKS))
def test_p1_a_link_that_leads_out_is_not_followed(jail: Jail, call: PathCall, link: str) -> None:
    _plant(jail)
    before = jail.inside()
    assert call.call(jail.guest, 3, link) is Errno.NOTCAPABLE
    assert jail.inside() == before


@pytest.mark.parametrize(
    "path", ["../f", "..", "../sub/g", "deep/../../f", "to-f", "to-f/x", "to-dir/new", "/g"]
)
@each_call
def test_p1_the_boundary_is_the_descriptor_used_not_the_preopen(
    jail: Jail, call: PathCall, path: str
) -> None:
    jail.plant("sub/to-f", "../f")
    jail.plant("sub/to-dir", "../empty")
    sub = jail.guest.opendir("sub")
    if path == "to-f" and not call.follows:
        path = "to-f/"
    before = jail.inside()
    errno = call.call(jail.guest, sub, path)
    assert errno is (SLASHED.get(call.name, Errno.NOTCAPABLE) if path == "to-f/" else Errno.NOTCAPABLE)
    assert jail.inside() == before
    assert jail.guest.contents("sub/to-f") == b"content"  # the preopen itself reaches that far


def test_p1_a_moved_directory_takes_its_boundary_along(jail: Jail) -> None:
    guest = jail.guest
    deep = guest.opendir("sub/deep")
    assert guest.rename("sub/deep", "moved") is Errno.SUCCESS
    for path in ("..", "../f", "../sub/g"):
        assert guest.try_open(path, fd=deep)[0] is Errno.NOTCAPABLE
    guest.create("x", b"x", fd=deep)
    assert "moved/x" in jail.inside()


def test_p1_links_that_stay_inside_are_followed(jail: Jail) -> None:
    """Without this, refusing every link would pass the tests above."""
    for name, target in {"a": "sub/g", "sub/b": "../f", "c": "sub/../sub/./deep", "d": "c/../b"}.items():
        jail.plant(name, target)
    guest = jail.guest
    assert guest.contents("a") == b"below"
    assert guest.contents("sub/b") == b"content"
    assert guest.contents("d") == b"content"
    assert guest.mkdir("c/new") is Errno.SUCCESS
    assert "sub/deep/new" in jail.inside()


def test_p1_a_link_out_can_be_made_looked_at_and_removed_but_not_followed(jail: Jail) -> None:
    guest = jail.guest
    assert guest.symlink("../jail-evil/secret", "mine") is Errno.SUCCESS
    assert guest.readlink("mine") == b"../jail-evil/secret"
    assert guest.stat("mine", follow=False).filetype == 7
    assert guest.try_open("mine")[0] is Errno.NOTCAPABLE
    assert guest.link("mine", "second") is Errno.SUCCESS
    assert guest.try_open("second")[0] is Errno.NOTCAPABLE
    assert (
        guest.rename("mine", "sub/mine") is Errno.SUCCESS
    )  # from there it leads to the jail, where nothing is
    assert guest.try_open("sub/mine")[0] is Errno.NOENT
    assert guest.rename("second", "sub/second") is Errno.SUCCESS
    assert guest.symlink("../../jail-evil/secret", "sub/third") is Errno.SUCCESS
    assert guest.try_open("sub/third")[0] is Errno.NOTCAPABLE
    assert guest.symlink("/etc/passwd", "absolute") is Errno.PERM
    assert guest.unlink("sub/mine") is Errno.SUCCESS
    assert "absolute" not in jail.inside()


# P2: names that begin alike.


@pytest.mark.parametrize("neighbour", ["jail-evil", "jailbreak"])
def test_p2_a_neighbour_whose_name_begins_with_the_jails_is_outside(jail: Jail, neighbour: str) -> None:
    jail.plant("link", f"../{neighbour}/secret")
    for path in (f"../{neighbour}/secret", "link", f"{neighbour}/secret", f"-evil/../../{neighbour}/secret"):
        errno, _ = jail.guest.try_open(path)
        assert errno in (Errno.NOTCAPABLE, Errno.NOENT)


def test_p2_inside_the_jail_names_that_begin_alike_are_different(jail: Jail) -> None:
    guest = jail.guest
    for name in ("a", "ab"):
        assert guest.mkdir(name) is Errno.SUCCESS
        guest.close_fd(guest.create(f"{name}/f", name.encode()))
    under_ab = guest.open("ab/f")
    dir_ab = guest.opendir("ab")
    assert guest.rename("a", "ab/a") is Errno.SUCCESS  # "ab" is not inside "a"
    assert guest.rename("ab/a", "b") is Errno.SUCCESS
    assert guest.read(under_ab, 10) == b"ab"
    assert guest.contents("f", fd=dir_ab) == b"ab"
    assert guest.rename("b", "b/inside") is Errno.INVAL


def test_p2_the_root_of_a_zip_is_a_directory_not_a_prefix(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("jail/f", "jailbreak/secret", "jail-evil/secret", "secret"):
            made.writestr(name, b"content" if name == "jail/f" else SECRET)
    with RawGuest({"/jail": f"zip://jail::{archive}"}) as guest:
        assert guest.names() == [b"f"]
        assert guest.contents("f") == b"content"
        for path in ("break/secret", "../jailbreak/secret", "-evil/secret", "../secret", "secret"):
            assert guest.try_open(path)[0] in (Errno.NOTCAPABLE, Errno.NOENT)


def test_p2_mounts_with_names_that_begin_alike_do_not_overlap(tmp_path: Path) -> None:
    for name in ("jail", "jail-evil"):
        fill(tmp_path / name, INSIDE)
    mounts = {"/jail": tmp_path / "jail", "/jail-evil": vfswasi.Mount(tmp_path / "jail-evil", rw=True)}
    with RawGuest(mounts) as guest:
        assert guest.mkdir("new", fd=3) is Errno.ROFS
        assert guest.mkdir("new", fd=4) is Errno.SUCCESS


# P3: slashes behind links.


@each_call
@pytest.mark.parametrize("slash", ["/", "//", "/.", "/./", "/.//."])
@pytest.mark.parametrize("link", ["out", "out-slash", "up", "abs"])
def test_p3_a_slash_behind_a_link_leads_nowhere_else(
    jail: Jail, call: PathCall, link: str, slash: str
) -> None:
    _plant(jail)
    before = jail.inside()
    errno = call.call(jail.guest, 3, link + slash)
    if "." in slash:
        assert errno is Errno.NOTCAPABLE
    else:
        assert errno is SLASHED.get(call.name, Errno.NOTCAPABLE)
    assert jail.inside() == before


@each_call
@pytest.mark.parametrize("target", ["f/", "f//", "f/.", "f/./", "sub/g/"])
def test_p3_a_slash_in_a_links_target_demands_a_directory(jail: Jail, call: PathCall, target: str) -> None:
    jail.plant("link", target)
    before = jail.inside()
    if call.follows:
        assert call.call(jail.guest, 3, "link") is Errno.NOTDIR
    errno = call.call(jail.guest, 3, "link/x")
    assert errno is Errno.NOTDIR
    assert jail.inside() == before


def test_p3_slashes_behind_directories_and_links_to_them_are_fine(jail: Jail) -> None:
    jail.plant("link", "sub/")
    guest = jail.guest
    for path in ("sub/", "sub//", "sub/.", "link", "link/", "link//", "link/.", "link/./"):
        opened = guest.opendir(path)
        assert guest.contents("g", fd=opened) == b"below"
    assert guest.stat("link/", follow=False).filetype == 3
    assert guest.stat("link", follow=False).filetype == 7


# P4: loops.


@following
@pytest.mark.parametrize(
    "loop", [{"l": "l"}, {"l": "m", "m": "l"}, {"l": "sub/../l"}, {"l": "l/x"}, {"l": "./l/."}]
)
def test_p4_a_loop_of_links_ends(jail: Jail, call: PathCall, loop: dict[str, str]) -> None:
    for name, target in loop.items():
        jail.plant(name, target)
    before = jail.inside()
    for path in ("l", "l/", "l/x"):
        assert call.call(jail.guest, 3, path) is Errno.LOOP
    assert jail.inside() == before


@each_call
def test_p4_chains_that_double_end_at_once(jail: Jail, call: PathCall) -> None:
    jail.plant("l0", ".")
    for number in range(1, 60):
        jail.plant(f"l{number}", f"l{number - 1}/l{number - 1}")
    started = time.monotonic()
    assert call.call(jail.guest, 3, "l59/x") is Errno.LOOP
    assert time.monotonic() - started < 1


def test_p4_links_are_counted_over_the_whole_path(jail: Jail) -> None:
    guest = jail.guest
    jail.plant("c1", "sub")
    for number in range(2, 42):
        jail.plant(f"c{number}", f"c{number - 1}")
    assert guest.contents("c40/g") == b"below"
    assert guest.try_open("c41/g")[0] is Errno.LOOP
    for name in ("here", "sub/here"):
        jail.plant(name, ".")
    assert guest.contents("c20" + "/here" * 20 + "/g") == b"below"
    assert guest.try_open("c20" + "/here" * 21 + "/g")[0] is Errno.LOOP
    assert guest.try_open("here/" * 20 + "c21/g")[0] is Errno.LOOP


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


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "memory://x", "s3://bucket/x", "zip://f::file:///x", "C:/f"]
)
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
