"""What `path_open` gives to programs that name few rights, and to those that drop some: rules of docs/semantics.md."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno

from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, GuestErrno, RawGuest, pack_subscriptions, unpack_events

BROUGHT = READ & ~c.RIGHT_FD_READ  # seek, tell, stat, poll


# Files.


@pytest.mark.parametrize("version", ["preview1", "unstable"])
@pytest.mark.parametrize("inheriting", [0, ALL_FILE_RIGHTS])
def test_a_file_opened_with_no_rights_can_be_read(mount: vfswasi.Mount, version: str, inheriting: int) -> None:
    with RawGuest({"/d": mount}, version=version) as guest:
        guest.create("f", b"content")
        file = guest.open("f", base=0, inheriting=inheriting)
        assert (guest.fdstat(file).base, guest.fdstat(file).inheriting) == (READ, 0)
        assert guest.read(file, 100) == b"content"
        assert guest.pread(file, 3, 1) == b"ont"
        assert guest.tell(file) == 7
        assert guest.fstat(file).size == 7
        with pytest.raises(GuestErrno, match="NOTCAPABLE"):
            guest.write(file, b"x")
        for name, args in {"fd_filestat_set_size": (0,), "fd_allocate": (0, 9)}.items():
            assert guest.call(name, file, *args) is Errno.NOTCAPABLE
        assert guest.contents("f") == b"content"


def test_a_new_file_opened_with_no_rights_can_be_read(guest: RawGuest) -> None:
    for oflags in (c.OFLAG_CREAT, c.OFLAG_CREAT | c.OFLAG_EXCL, c.OFLAG_CREAT | c.OFLAG_TRUNC):
        file = guest.open(f"new{oflags}", oflags=oflags, base=0)
        assert guest.read(file, 10) == b""
        assert guest.fdstat(file).base == READ


def test_on_a_read_only_mount_it_can_be_read_too(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    (tmp_path / "f").chmod(0o444)
    for source in (tmp_path, {"f": b"content"}):
        with RawGuest({"/d": vfswasi.Mount(source, rw=False)}) as guest:
            assert guest.read(guest.open("f", base=0), 100) == b"content"


@pytest.mark.parametrize("named", [c.RIGHT_FD_READ, c.RIGHT_FD_WRITE, c.RIGHT_FD_READ | c.RIGHT_FD_WRITE])
def test_to_read_or_write_brings_seek_tell_stat_and_poll(guest: RawGuest, named: int) -> None:
    guest.create("f", b"content")
    file = guest.open("f", base=named)
    assert guest.fdstat(file).base == named | BROUGHT
    assert guest.seek(file, 3) == 3
    assert guest.tell(file) == 3
    assert guest.fstat(file).size == 7
    kinds = [kind for kind, bit in (("read", c.RIGHT_FD_READ), ("write", c.RIGHT_FD_WRITE)) if named & bit]
    guest.poke(FREE, pack_subscriptions(guest.abi, [(7, kind, file) for kind in kinds]))
    guest.must("poll_oneoff", FREE, FREE + 0x1000, len(kinds), FREE + 0x2000)
    events = unpack_events(guest.peek(FREE + 0x1000, 32 * len(kinds)))
    assert [event.errno for event in events] == [0] * len(kinds)
    if named & c.RIGHT_FD_WRITE:
        assert guest.pwrite(file, b"C", 0) == 1


@pytest.mark.parametrize("named", [c.RIGHT_FD_READ, c.RIGHT_FD_WRITE])
def test_it_brings_nothing_that_the_directory_does_not_pass_on(guest: RawGuest, named: int) -> None:
    guest.create("f", b"content")
    directory = guest.open(".", base=c.RIGHT_PATH_OPEN, inheriting=named | c.RIGHT_FD_TELL)
    file = guest.open("f", fd=directory, base=named)
    assert guest.fdstat(file).base == named | c.RIGHT_FD_TELL
    assert guest.call("fd_seek", file, 1, c.WHENCE_SET, FREE) is Errno.NOTCAPABLE
    assert guest.call("fd_filestat_get", file, FREE) is Errno.NOTCAPABLE


@pytest.mark.parametrize("named", [c.RIGHT_FD_ADVISE, c.RIGHT_FD_SEEK, c.RIGHT_FD_FILESTAT_GET, c.RIGHT_FD_SYNC])
def test_other_rights_bring_nothing(guest: RawGuest, named: int) -> None:
    guest.create("f", b"content")
    file = guest.open("f", base=named)
    assert guest.fdstat(file).base == named
    assert guest.call("fd_read", file, *guest.iovs((FREE, 1)), FREE + 8) is Errno.NOTCAPABLE


@pytest.mark.parametrize("bit", [c.RIGHT_FD_SEEK, c.RIGHT_FD_TELL, c.RIGHT_FD_FILESTAT_GET, c.RIGHT_POLL_FD_READWRITE])
def test_what_was_brought_can_be_given_up(guest: RawGuest, bit: int) -> None:
    guest.create("f", b"content")
    file = guest.open("f", base=c.RIGHT_FD_READ)
    guest.must("fd_fdstat_set_rights", file, READ & ~bit, 0)
    assert guest.fdstat(file).base == READ & ~bit
    assert guest.call("fd_fdstat_set_rights", file, READ, 0) is Errno.NOTCAPABLE


def test_no_rights_on_a_device_are_those_to_read() -> None:
    with RawGuest({"/dev": "dev:"}, stdin=b"typed") as guest:
        assert guest.read(guest.open("stdin", base=0), 10) == b"typed"
        assert guest.read(guest.open("zero", base=0), 3) == b"\0\0\0"
        null = guest.open("null", base=0)
        with pytest.raises(GuestErrno, match="NOTCAPABLE"):
            guest.write(null, b"x")


# What Go's os.Root does. It opens directories with all rights but those that its read-only mode drops.

_WRITING = c.RIGHT_FD_DATASYNC | c.RIGHT_FD_WRITE | c.RIGHT_FD_ALLOCATE | c.RIGHT_PATH_FILESTAT_SET_SIZE
_EVERYTHING = (1 << 28) - 1
_OF_A_DIRECTORY = _EVERYTHING & ~_WRITING
_TO_WRITE = _EVERYTHING & ~(c.RIGHT_FD_READ | c.RIGHT_FD_READDIR)


@pytest.fixture
def root(guest: RawGuest) -> tuple[RawGuest, int]:
    """A guest, and its directory as `os.OpenRoot` opens it."""
    guest.create("f", b"content")
    guest.mkdir("sub")
    guest.create("sub/g", b"content")
    return guest, guest.open(".", oflags=c.OFLAG_DIRECTORY, base=_OF_A_DIRECTORY, inheriting=_EVERYTHING)


@pytest.mark.parametrize("name", ["f", "new", "sub/g", "sub/new"])
@pytest.mark.parametrize("base", [_TO_WRITE, _EVERYTHING & ~c.RIGHT_FD_READDIR])
def test_go_root_create_and_write_file(root: tuple[RawGuest, int], name: str, base: int) -> None:
    guest, fd = root
    *parents, last = name.split("/")
    for parent in parents:  # Root opens each directory on the way
        fd = guest.open(
            parent, fd=fd, follow=False, oflags=c.OFLAG_DIRECTORY, base=_OF_A_DIRECTORY, inheriting=_EVERYTHING
        )
    file = guest.open(
        last, fd=fd, follow=False, oflags=c.OFLAG_CREAT | c.OFLAG_TRUNC, base=base, inheriting=_EVERYTHING
    )
    assert guest.write(file, b"written") == 7
    guest.must("fd_sync", file)
    guest.must("fd_filestat_set_size", file, 5)
    guest.close_fd(file)
    assert guest.contents(name) == b"writt"


def test_go_root_truncates_what_is_there_but_only_that(root: tuple[RawGuest, int]) -> None:
    guest, fd = root
    file = guest.open("f", fd=fd, oflags=c.OFLAG_TRUNC, base=_TO_WRITE)
    assert guest.fstat(file).size == 0
    assert guest.try_open("missing", fd=fd, oflags=c.OFLAG_TRUNC, base=_TO_WRITE)[0] is Errno.NOENT
    exclusive = c.OFLAG_CREAT | c.OFLAG_EXCL | c.OFLAG_TRUNC
    assert guest.try_open("f", fd=fd, oflags=exclusive, base=_TO_WRITE)[0] is Errno.EXIST


def test_go_root_changes_names_and_attributes(root: tuple[RawGuest, int]) -> None:
    guest, fd = root
    assert guest.mkdir("dir", fd=fd) is Errno.SUCCESS
    assert guest.rename("f", "dir/f", fd=fd, new_fd=fd) is Errno.SUCCESS
    assert guest.symlink("f", "dir/l", fd=fd) is Errno.SUCCESS
    assert guest.readlink("dir/l", fd=fd) == b"f"
    assert guest.link("dir/f", "dir/h", fd=fd, new_fd=fd) is Errno.SUCCESS
    assert guest.stat("dir/h", fd=fd).nlink == 2
    times = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
    path = guest.text("dir/f")
    assert guest.call("path_filestat_set_times", fd, 1, *path, 10**9, 2 * 10**9, times) is Errno.SUCCESS
    stat = guest.stat("dir/f", fd=fd)
    assert (stat.atim, stat.mtim) == (10**9, 2 * 10**9)
    assert {entry.name for entry in guest.readdir(guest.opendir("dir", fd=fd))} >= {b"f", b"l", b"h"}
    for name in ("f", "l", "h"):
        assert guest.unlink(f"dir/{name}", fd=fd) is Errno.SUCCESS
    assert guest.rmdir("dir", fd=fd) is Errno.SUCCESS
    guest.must("fd_sync", fd)
    guest.must("fd_datasync", fd)


def test_go_root_on_a_read_only_mount_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    for source in (tmp_path, {"f": b"content"}):
        with RawGuest({"/d": vfswasi.Mount(source, rw=False)}) as guest:
            fd = guest.open(".", base=_OF_A_DIRECTORY, inheriting=_EVERYTHING)
            for oflags in (c.OFLAG_TRUNC, c.OFLAG_CREAT | c.OFLAG_TRUNC):
                assert guest.try_open("f", fd=fd, oflags=oflags, base=_TO_WRITE)[0] is Errno.ROFS
                assert guest.try_open("f", fd=fd, oflags=oflags, base=0)[0] is Errno.ROFS
            assert guest.contents("f") == b"content"


# fsync of a directory.


@pytest.mark.parametrize("version", ["preview1", "unstable"])
@pytest.mark.parametrize("name", ["fd_sync", "fd_datasync"])
@pytest.mark.parametrize("kind", ["preopen", "directory"])
def test_a_directory_can_be_synced(mount: vfswasi.Mount, name: str, kind: str, version: str) -> None:
    with RawGuest({"/d": mount}, version=version) as guest:
        guest.mkdir("sub")
        fd = 3 if kind == "preopen" else guest.opendir("sub")
        guest.create("f", b"content")
        assert guest.rename("f", "g") is Errno.SUCCESS
        assert guest.call(name, fd) is Errno.SUCCESS
        guest.must("fd_fdstat_set_rights", fd, guest.fdstat(fd).base & ~(c.RIGHT_FD_SYNC | c.RIGHT_FD_DATASYNC), 0)
        assert guest.call(name, fd) is Errno.NOTCAPABLE


@pytest.mark.parametrize(
    ("held", "sync", "datasync"),
    [
        (c.RIGHT_FD_SYNC, Errno.SUCCESS, Errno.SUCCESS),
        (c.RIGHT_FD_DATASYNC, Errno.NOTCAPABLE, Errno.SUCCESS),
        (c.RIGHT_FD_SYNC | c.RIGHT_FD_DATASYNC, Errno.SUCCESS, Errno.SUCCESS),
        (c.RIGHT_FD_ADVISE | c.RIGHT_FD_READDIR, Errno.NOTCAPABLE, Errno.NOTCAPABLE),
    ],
)
@pytest.mark.parametrize("path", ["f", "."])
def test_the_right_to_sync_is_enough_for_the_data(
    guest: RawGuest, path: str, held: int, sync: Errno, datasync: Errno
) -> None:
    """Programs open a directory to read it, and the C library asks for FD_SYNC alone then."""
    guest.create("f", b"content")
    fd = guest.open(path, base=held)
    assert (guest.call("fd_sync", fd), guest.call("fd_datasync", fd)) == (sync, datasync)


@pytest.mark.parametrize("use_openat2", [None, False])
def test_a_local_directory_is_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_openat2: bool | None
) -> None:
    asked: list[tuple[str, str]] = []

    def note(name: str) -> None:
        real = getattr(os, name)

        def call(fd: int) -> None:
            asked.append((name, os.readlink(f"/proc/self/fd/{fd}")))
            real(fd)

        monkeypatch.setattr(os, name, call)

    note("fsync")
    note("fdatasync")
    (tmp_path / "a" / "b").mkdir(parents=True)
    store = vfswasi.LocalBackend(tmp_path, use_openat2=use_openat2)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        deep = guest.opendir("a/b")
        guest.must("fd_sync", 3)
        guest.must("fd_datasync", guest.opendir("a"))
        guest.must("fd_sync", deep)
        assert guest.rename("a/b", "c") is Errno.SUCCESS
        guest.must("fd_sync", deep)
        assert guest.rmdir("c") is Errno.SUCCESS
        assert guest.call("fd_sync", deep) is Errno.SUCCESS, "of a removed one there is nothing to keep, as on Linux"
    top = str(tmp_path)
    assert asked == [
        ("fsync", top),
        ("fdatasync", f"{top}/a"),
        ("fsync", f"{top}/a/b"),
        ("fsync", f"{top}/c"),
    ]


def test_to_sync_a_directory_that_became_a_link_does_not_follow_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    with RawGuest({"/d": vfswasi.Mount(tmp_path / "in", rw=True)}) as guest:
        fd = guest.opendir("sub")
        (tmp_path / "in" / "sub").rename(tmp_path / "in" / "gone")
        (tmp_path / "in" / "sub").symlink_to(tmp_path / "out")
        assert guest.call("fd_sync", fd) in (Errno.LOOP, Errno.NOTDIR)


def test_on_a_read_only_mount_there_is_nothing_to_sync(tmp_path: Path) -> None:
    for source in (tmp_path, {"f": b""}, "dev:"):
        with RawGuest({"/d": vfswasi.Mount(source, rw=False)}) as guest:
            for name in ("fd_sync", "fd_datasync"):
                assert guest.call(name, 3) is Errno.SUCCESS
                assert guest.call(name, guest.opendir(".")) is Errno.SUCCESS


# How long a path may be: 4096 bytes with the NUL that ends it on Linux.


@pytest.fixture(params=["memory", "local", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> vfswasi.Mount:
    if request.param == "memory":
        return vfswasi.Mount({}, rw=True)
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w"):
            pass
        return vfswasi.Mount(tmp_path / "a.zip", rw=True)
    (tmp_path / "tree").mkdir()
    return vfswasi.Mount(tmp_path / "tree", rw=True)


def padded(name: str, size: int) -> str:
    """A path of so many bytes to `name`."""
    rest = size - len(name.encode())
    return (".//" if rest % 2 else "") + "./" * (rest // 2 - rest % 2) + name


@pytest.mark.parametrize("name", ["f", "ü"])
def test_a_path_may_have_4095_bytes_in_every_call(store: vfswasi.Mount, name: str) -> None:
    with RawGuest({"/d": store}) as guest:
        links = guest.symlink("x", "probe") is Errno.SUCCESS
        guest.create("probed")
        hard = guest.link("probed", "g") is Errno.SUCCESS
        for size, expected in ((4095, Errno.SUCCESS), (4096, Errno.NAMETOOLONG), (4097, Errno.NAMETOOLONG)):
            guest.create(name, b"content")
            path = padded(name, size)
            assert len(path.encode()) == size
            where = guest.text(path, FREE)
            new = guest.text(padded("n", size), FREE + 0x2000)
            assert guest.call("path_filestat_get", 3, 0, *where, 0) is expected
            assert guest.call("path_open", 3, 0, *where, 0, READ, 0, 0, 0) is expected
            if hard:
                assert guest.call("path_link", 3, 0, *where, 3, *new) is expected
                guest.unlink("n")
            assert guest.call("path_rename", 3, *where, 3, *new) is expected
            guest.rename("n", name)
            if links:
                assert guest.call("path_symlink", *guest.text("x", 0), 3, *new) is expected
                assert guest.call("path_readlink", 3, *new, 0, 8, 8) is expected
                guest.unlink("n")
            assert guest.call("path_create_directory", 3, *new) is expected
            assert guest.call("path_remove_directory", 3, *new) is expected
            assert guest.call("path_unlink_file", 3, *where) is expected


def test_a_links_target_may_have_4095_bytes(store: vfswasi.Mount) -> None:
    with RawGuest({"/d": store}) as guest:
        guest.create("f", b"content")
        for size, expected in ((4095, Errno.SUCCESS), (4096, Errno.NAMETOOLONG), (4097, Errno.NAMETOOLONG)):
            target = guest.text(padded("f", size), FREE)
            assert guest.call("path_symlink", *target, 3, *guest.text("l")) is expected
            assert (b"l" in guest.names()) == (expected is Errno.SUCCESS)
            if expected is Errno.SUCCESS:
                assert len(guest.readlink("l", 5000)) == size
                assert guest.contents("l") == b"content"
                assert guest.unlink("l") is Errno.SUCCESS


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_a_longer_target_that_a_store_has_is_not_followed(letter: str) -> None:
    size = len(letter.encode())
    tree: dict[str, object] = {
        f"l{more}": vfswasi.Symlink("./" * 2000 + letter * ((95 + more) // size)) for more in (0, 2)
    }
    with RawGuest({"/d": tree}) as guest:
        assert guest.try_open("l2")[0] is Errno.NAMETOOLONG
        assert guest.try_open("l0")[0] is Errno.NOENT
