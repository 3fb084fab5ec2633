"""Attacks with paths: lines P1 to P4 of the threat model. `jail` checks that nothing outside has changed."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

import vfswasi
from vfswasi.errors import Errno

from ..rawguest import RawGuest
from .jail import INSIDE, PATH_CALLS, SECRET, Jail, PathCall, fill

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
following = pytest.mark.parametrize("call", [call for call in PATH_CALLS if call.follows], ids=lambda call: call.name)


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


@pytest.mark.parametrize("path", ["../f", "..", "../sub/g", "deep/../../f", "to-f", "to-f/x", "to-dir/new", "/g"])
@each_call
def test_p1_the_boundary_is_the_descriptor_used_not_the_preopen(jail: Jail, call: PathCall, path: str) -> None:
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
    assert guest.rename("mine", "sub/mine") is Errno.SUCCESS  # from there it leads to the jail, where nothing is
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
@pytest.mark.parametrize("link", ["out-slash", "abs"])
def test_p3_a_slash_behind_a_link_leads_nowhere_else(jail: Jail, call: PathCall, link: str, slash: str) -> None:
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
@pytest.mark.parametrize("loop", [{"l": "l"}, {"l": "m", "m": "l"}, {"l": "sub/../l"}, {"l": "l/x"}, {"l": "./l/."}])
def test_p4_a_loop_of_links_ends(jail: Jail, call: PathCall, loop: dict[str, str]) -> None:
    for name, target in loop.items():
        jail.plant(name, target)
    before = jail.inside()
    for path in ("l", "l/", "l/x"):
        assert call.call(jail.guest, 3, path) is Errno.LOOP
    assert jail.inside() == before


@pytest.mark.alone
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
