"""A guest on an overlay does all that it can to change what lies below: it never does, and neither what lies beside."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vfswasi
from vfswasi import Mount
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest

BIG = bytes(range(256)) * 12_288  # 3 MiB: copied up in parts
CREAT, TRUNC = c.OFLAG_CREAT, c.OFLAG_TRUNC
GIVEN = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
NOW = c.FSTFLAG_ATIM_NOW | c.FSTFLAG_MTIM_NOW


class Object(NamedTuple):
    """All that the system says of it, but when it was looked at."""

    mode: int
    inode: int
    links: int
    size: int
    mtime_ns: int
    ctime_ns: int
    content: str


def objects(directory: Path) -> dict[str, Object]:
    """What is there, by path: names as they are listed, and what is behind them."""
    found = {}
    for where, below, files in os.walk(directory):
        for name in [".", *below, *files]:
            path = os.path.join(where, name)
            stat = os.lstat(path)
            content = os.readlink(path) if os.path.islink(path) else ""
            if os.path.isfile(path) and not content:
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            told = stat.st_mode, stat.st_ino, stat.st_nlink, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            found[os.path.relpath(path, directory)] = Object(*told, content)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`base`, which is mounted, and `beside`, to which links of it lead."""
    base, beside = tmp_path / "base", tmp_path / "beside"
    (base / "sub" / "deep").mkdir(parents=True)
    (base / "empty").mkdir()
    beside.mkdir()
    (beside / "secret").write_text("the secret")
    (base / "f").write_text("content")
    os.link(base / "f", base / "hard")
    os.link(beside / "secret", base / "sub" / "shared")
    (base / "big").write_bytes(BIG)
    (base / "sub" / "g").write_text("below")
    (base / "sub" / "deep" / "h").write_text("deepest")
    (base / "locked").write_text("of nobody")
    (base / "locked").chmod(0o400)
    (base / "inner").symlink_to("f")
    (base / "out").symlink_to("../beside/secret")
    (base / "away").symlink_to(beside)
    (base / "up").symlink_to("..")
    return tmp_path


Make = Callable[[RawGuest], object]


def _write(path: str, data: bytes = b"overwritten", **options: Any) -> Make:
    def make(guest: RawGuest) -> None:
        guest.write(guest.open(path, base=ALL_FILE_RIGHTS, **options), data)

    return make


def _truncated_before_and_after(guest: RawGuest) -> None:
    reader, writer = guest.open("big"), guest.open("big", base=ALL_FILE_RIGHTS)
    guest.must("fd_filestat_set_size", writer, 5)
    assert guest.read(reader, 100) == BIG[:5]
    guest.must("fd_filestat_set_size", writer, 4 << 20)
    guest.close_fd(writer)


def _linked_then_written(guest: RawGuest) -> None:
    assert guest.link("f", "third") is Errno.SUCCESS
    _write("third")(guest)
    assert guest.contents("f").startswith(b"overwritten")


def _unlinked_while_open(guest: RawGuest) -> None:
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    assert guest.unlink("f") is Errno.SUCCESS
    guest.write(fd, b"XXXXXXXXXX")
    guest.must("fd_filestat_set_size", fd, 3)
    assert guest.contents("hard") == b"XXX"


def _renamed_over(guest: RawGuest) -> None:
    guest.close_fd(guest.create("new", b"in place of it"))
    assert guest.rename("new", "f") is Errno.SUCCESS
    assert guest.rename("sub/g", "hard") is Errno.SUCCESS


def _renamed_and_written(guest: RawGuest) -> None:
    fd = guest.open("sub/deep/h", base=ALL_FILE_RIGHTS)
    assert guest.rename("sub", "moved") is Errno.SUCCESS
    guest.write(fd, b"through the old descriptor")
    _write("moved/g")(guest)
    assert guest.unlink("moved/shared") is Errno.SUCCESS


def _emptied(guest: RawGuest) -> None:
    for path in ("sub/deep/h", "sub/g", "sub/shared", "f", "hard", "big", "locked", "inner", "out", "away", "up"):
        assert guest.unlink(path) is Errno.SUCCESS
    for path in ("sub/deep", "sub", "empty"):
        assert guest.rmdir(path) is Errno.SUCCESS


def _times(guest: RawGuest) -> None:
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for number, flags in ((5 * 10**17, GIVEN), (0, NOW)):
        guest.must("fd_filestat_set_times", fd, number, number, flags)
        for path in ("f", "big", "sub", ".", "sub/deep/h"):
            guest.must("path_filestat_set_times", 3, 1, *guest.text(path), number, number, flags)
        guest.must("path_filestat_set_times", 3, 0, *guest.text("out"), number, number, flags)


def _allocated(guest: RawGuest) -> None:
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    assert guest.call("fd_allocate", fd, 0, 1 << 20) in (Errno.SUCCESS, Errno.NOTSUP)
    guest.pwrite(fd, b"far behind", 1 << 20)
    guest.must("fd_sync", fd)
    guest.must("fd_datasync", fd)


def _appended(guest: RawGuest) -> None:
    fd = guest.open("hard", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
    for _ in range(200):
        guest.write(fd, b"more ")


def _in_parts_of_a_large_file(guest: RawGuest) -> None:
    fd = guest.open("big", base=ALL_FILE_RIGHTS)
    for offset in (0, 70_000, 1 << 20, (3 << 20) - 3, 3 << 20):
        guest.pwrite(fd, b"part", offset)
        assert guest.pread(fd, 4, offset) == b"part"


def _through_links_that_lead_away(guest: RawGuest) -> None:
    for path in (
        "out",
        "away/secret",
        "up/beside/secret",
        "../beside/secret",
        "/etc/passwd",
        "sub/../../beside/secret",
    ):
        for oflags in (0, TRUNC, CREAT, CREAT | TRUNC):
            errno, _ = guest.try_open(path, oflags=oflags, base=ALL_FILE_RIGHTS)
            assert errno in (Errno.NOTCAPABLE, Errno.PERM), path
    assert guest.rename("f", "away/f") in (Errno.NOTCAPABLE, Errno.PERM)
    assert guest.link("f", "up/f") in (Errno.NOTCAPABLE, Errno.PERM)
    assert guest.unlink("away/secret") in (Errno.NOTCAPABLE, Errno.PERM)
    assert guest.mkdir("away/new") in (Errno.NOTCAPABLE, Errno.PERM)


def _through_links_of_its_own(guest: RawGuest) -> None:
    for target, name in (("../beside", "escape"), ("sub/../../beside/secret", "file"), ("away", "again")):
        guest.symlink(target, name)
    assert guest.rename("sub", "sub2") is Errno.SUCCESS
    guest.symlink("away", "sub")
    for path in ("escape/secret", "file", "again/secret", "sub/secret"):
        errno, _ = guest.try_open(path, base=ALL_FILE_RIGHTS, oflags=TRUNC)
        assert errno in (Errno.NOTCAPABLE, Errno.PERM, Errno.NOENT), path
    _write("inner")(guest)


def _with_names_for_other_systems(guest: RawGuest) -> None:
    for name in ("..\\..\\beside\\x", "C:x", "con", "x\ny", "\x1b[31m", "-rf", "~", "..."):
        fd = guest.create(name, b"data")
        guest.close_fd(fd)
    assert guest.try_open("a\0b", oflags=CREAT, base=ALL_FILE_RIGHTS)[0] in (Errno.ILSEQ, Errno.INVAL)


def _swapped(guest: RawGuest) -> None:
    """A file becomes a directory and back, in the place of what is open."""
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    assert guest.unlink("f") is Errno.SUCCESS
    assert guest.mkdir("f") is Errno.SUCCESS
    guest.close_fd(guest.create("f/hard", b"1"))
    guest.write(fd, b"into what was there")
    assert guest.unlink("f/hard") is Errno.SUCCESS
    assert guest.rmdir("f") is Errno.SUCCESS
    assert guest.rename("hard", "f") is Errno.SUCCESS


ATTEMPTS: dict[str, Make] = {
    "open with O_TRUNC": lambda guest: guest.open("f", base=ALL_FILE_RIGHTS, oflags=TRUNC),
    "create over it": lambda guest: guest.create("f", b"new"),
    "write": _write("f"),
    "write through its other name": _write("hard"),
    "write what another directory shares": _write("sub/shared"),
    "write through a link": _write("inner"),
    "write what its owner may only read": _write("locked"),
    "write parts of a large file": _in_parts_of_a_large_file,
    "append": _appended,
    "allocate": _allocated,
    "truncate a file that is open twice": _truncated_before_and_after,
    "link and write": _linked_then_written,
    "unlink while open, and write": _unlinked_while_open,
    "rename over it": _renamed_over,
    "rename a directory and write below": _renamed_and_written,
    "remove everything": _emptied,
    "set times": _times,
    "go through links that lead away": _through_links_that_lead_away,
    "make links that lead away": _through_links_of_its_own,
    "use names that mean something elsewhere": _with_names_for_other_systems,
    "swap a file and a directory": _swapped,
}


@pytest.mark.parametrize("make", ATTEMPTS.values(), ids=ATTEMPTS.keys())
@pytest.mark.parametrize("vdso", [True, False])
def test_no_guest_changes_what_lies_below_its_overlay(place: Path, make: Make, vdso: bool) -> None:
    before = objects(place)
    with RawGuest({"/d": Mount(place / "base", overlay=True)}, vdso=vdso) as guest:
        make(guest)
    assert objects(place) == before
    harmless = make is _through_links_that_lead_away
    assert bool(guest.wasi.changes["/d"]) != harmless  # it did something where it could


@pytest.mark.parametrize("make", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_nor_the_file_of_an_archive(place: Path, make: Make) -> None:
    archive = place / "base.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in {"f": b"content", "hard": b"content", "big": BIG, "sub/g": b"below", "sub/shared": b"1",
                           "sub/deep/h": b"deepest", "locked": b"1", "empty/": b""}.items():  # fmt: skip
            file.writestr(name, data)
        for name, target in {
            "inner": "f",
            "out": "../beside/secret",
            "away": str(place / "beside"),
            "up": "..",
        }.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            file.writestr(info, target)
    before = objects(place)
    with RawGuest({"/d": Mount(archive, overlay=True)}) as guest:
        try:
            make(guest)
        except AssertionError:
            assert make in (_linked_then_written, _unlinked_while_open)  # "hard" is a file of its own here
    assert objects(place) == before


def test_windows_of_the_fast_path_write_nothing_through(place: Path) -> None:
    """Reads and writes of one byte at a time, most of which never leave WebAssembly."""
    before = objects(place)
    with RawGuest({"/d": Mount(place / "base", overlay=True)}, vdso=True) as guest:
        for path in ("f", "hard", "big", "sub/shared"):
            fd = guest.open(path, base=ALL_FILE_RIGHTS)
            guest.poke(FREE, b"!")
            iovs = guest.iovs((FREE, 1))
            for _ in range(2000):
                guest.must("fd_write", fd, *iovs, FREE + 64)
            guest.seek(fd, 0)
            assert guest.read(fd, 2000) == b"!" * 2000
            assert objects(place) == before  # while it is open, too
        guest.wasi.settle()
        assert objects(place) == before
    assert objects(place) == before
    changed = guest.wasi.changes["/d"]
    assert changed.read_bytes("big") == b"!" * 2000 + BIG[2000:]
    assert "hard" in changed


def test_what_is_given_to_be_read_stays_so_beside_an_overlay(place: Path) -> None:
    """The same directory twice: what the guest changes at one name is not there at the other."""
    preopens = {"/d": Mount(place / "base", overlay=True), "/r": Mount(place / "base")}
    before = objects(place)
    with RawGuest(preopens) as guest:
        _write("f")(guest)
        assert guest.contents("f", fd=4) == b"content"
        assert guest.try_open("f", fd=4, base=ALL_FILE_RIGHTS)[0] in (Errno.ROFS, Errno.NOTCAPABLE, Errno.PERM)
    assert objects(place) == before


def test_changes_are_applied_within_the_mount_whatever_lies_in_their_way(place: Path) -> None:
    """A directory of the base becomes a link that leads away, between the run and its end."""
    beside = objects(place / "beside")
    guest = RawGuest({"/d": Mount(place / "base", overlay=True, apply="success")})
    _write("sub/deep/h")(guest)
    guest.close_fd(guest.create("sub/deep/secret", b"new"))
    (place / "base" / "sub" / "deep").rename(place / "base" / "aside")
    (place / "base" / "sub" / "deep").symlink_to(place / "beside")
    between = objects(place / "base")
    with pytest.raises(vfswasi.UncommittedError, match="/d"):
        guest.close()
    assert objects(place / "beside") == beside
    assert objects(place / "base") == between
