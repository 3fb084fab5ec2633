"""L2 and L3: what may lie in a local directory beside files and directories, and what a guest may do to it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import vfswasi
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Key
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.local.file import LocalHandle

from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest
from .jail import CREAT, DIRECTORY, EXCL, PATH_CALLS, TRUNC, WRITE, PathCall, fill

each_call = pytest.mark.parametrize("call", PATH_CALLS, ids=lambda call: call.name)
MODES = pytest.mark.parametrize("use_openat2", [True, False], ids=["openat2", "by-component"])
LAST = 2**63 - 1


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """Opening a FIFO waits for the other side, and would wait for ever; a signal ends that."""

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("a call blocks")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[True, False], ids=["openat2", "by-component"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RawGuest]:
    """Descriptor 3 is tmp_path/root; "f", "sub/g" and "empty" are in it."""
    fill(tmp_path / "root", {"f": b"content", "sub": {"g": b"below"}, "empty": {}})
    backend = LocalBackend(tmp_path / "root", use_openat2=request.param)
    with RawGuest({"/d": vfswasi.Mount(backend, rw=True)}) as made:
        yield made
    backend.close()


def make(kind: str, path: Path) -> bool:
    """A FIFO, a socket, or a device, which needs privileges; False if it may not be made."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            where = os.getcwd()
            os.chdir(path.parent)  # the address of a socket is limited to 108 bytes
            try:
                listener.bind(path.name)
            finally:
                os.chdir(where)
    else:
        major, minor, type_ = {
            "null": (1, 3, stat.S_IFCHR),
            "tty": (5, 0, stat.S_IFCHR),
            "disk": (7, 250, stat.S_IFBLK),
        }[kind]
        try:
            os.mknod(path, 0o600 | type_, os.makedev(major, minor))
        except PermissionError:
            return False
    return True


def attributes(path: Path) -> tuple[int, ...]:
    host = path.lstat()
    return host.st_mode, host.st_ino, host.st_nlink, host.st_rdev, host.st_mtime_ns


KINDS = ["FIFO", "socket", "null", "tty", "disk"]
# What does to a special file what it does to a plain one: it is a name like others.
ON_NAMES = {"stat", "lstat", "set_times", "set_times nofollow", "unlink", "link from", "rename from", "rename to"}


# L2: what is neither a file nor a directory.


@pytest.mark.parametrize("kind", KINDS)
@each_call
def test_l2_no_call_opens_it_or_waits_for_it(guest: RawGuest, tmp_path: Path, kind: str, call: PathCall) -> None:
    root = tmp_path / "root"
    (root / "link").symlink_to("special")
    refused = {
        "open directory": Errno.NOTDIR,
        "open creat excl": Errno.EXIST,
        "mkdir": Errno.EXIST,
        "rmdir": Errno.NOTDIR,
        "readlink": Errno.INVAL,
        "symlink": Errno.EXIST,
        "link to": Errno.EXIST,
    }.get(call.name, Errno.ACCES)
    for where in ("link", "sub/../link/", "special", "sub/special"):
        path = root / (where if "link" not in where else "special")
        if not path.exists() and not make(kind, path):
            return  # devices need privileges
        (root / "f").touch()
        before = attributes(path)
        errno = call.call(guest, 3, where)
        if "link" not in where:
            assert errno is (Errno.SUCCESS if call.name in ON_NAMES else refused)
        elif where.endswith("/"):
            assert errno is not Errno.SUCCESS
        if "link" in where and "set_times" not in call.name:
            assert attributes(path)[:4] == before[:4]
        elif call.name not in ON_NAMES:
            assert attributes(path) == before
        (root / "new").unlink(missing_ok=True)
    assert guest.open("sub/g") == 4, "nothing was left open"


@pytest.mark.parametrize("kind", KINDS)
def test_l2_no_flag_of_open_makes_a_difference(guest: RawGuest, tmp_path: Path, kind: str) -> None:
    if not make(kind, tmp_path / "root" / "special"):
        return
    flags = (0, CREAT, CREAT | EXCL, TRUNC, CREAT | TRUNC, DIRECTORY)
    for oflags, base, fdflags in itertools.product(flags, (0, 2, WRITE, 2 | WRITE, ALL_FILE_RIGHTS), (0, 1, 4)):
        errno, _ = guest.try_open("special", base=base, oflags=oflags, fdflags=fdflags)
        assert errno is (Errno.EXIST if oflags & EXCL else Errno.NOTDIR if oflags & DIRECTORY else Errno.ACCES)


@MODES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", ["", "sub"])
def test_l2_what_becomes_special_between_the_look_and_the_open_is_not_opened(
    tmp_path: Path, kind: str, depth: str, use_openat2: bool
) -> None:
    """The walk has seen a file; when it is opened it is something else."""
    fill(tmp_path / "root", {"f": b"content", "sub": {"f": b"content"}})
    path = tmp_path / "root" / depth / "f"

    class Late(LocalBackend):
        def open(self, key: Key, write: bool) -> LocalHandle:
            path.unlink()
            made.append(make(kind, path))
            return super().open(key, write)

    made: list[bool] = []
    backend = Late(tmp_path / "root", use_openat2=use_openat2)
    with RawGuest({"/d": vfswasi.Mount(backend, rw=True)}) as guest:
        for base in (2, WRITE):
            path.unlink(missing_ok=True)
            path.write_bytes(b"content")
            errno, _ = guest.try_open(str(Path(depth) / "f"), base=base)
            assert errno is (Errno.ACCES if made[-1] else Errno.NOENT)
    backend.close()


def test_l2_a_fifo_with_a_writer_gives_nothing_away(guest: RawGuest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root" / "special")
    writer = os.open(tmp_path / "root" / "special", os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"for somebody else")
    assert guest.try_open("special")[0] is Errno.ACCES
    assert os.read(writer, 100) == b"for somebody else"
    os.close(writer)


def test_l2_they_are_listed_and_told_apart(guest: RawGuest, tmp_path: Path) -> None:
    for kind in ("FIFO", "socket"):
        make(kind, tmp_path / "root" / "sub" / kind)
    types = {entry.name: entry.filetype for entry in guest.readdir(guest.opendir("sub"))}
    assert types[b"FIFO"] == guest.stat("sub/FIFO").filetype == 0
    assert types[b"socket"] == guest.stat("sub/socket").filetype == 6


# L3: magic links.


MAGIC = ["root", "root/", "root/etc/passwd", "cwd", "cwd/x", "exe", "fd/{fd}", "fd/{fd}/passwd", "task/{pid}/root/etc"]


@MODES
@pytest.mark.parametrize("path", MAGIC)
def test_l3_magic_links_of_proc_lead_nowhere(path: str, use_openat2: bool) -> None:
    """They are no text that could be walked: the system jumps to an object that is anywhere."""
    outside = os.open("/etc", os.O_RDONLY)
    place = f"/proc/{os.getpid()}"
    name = path.format(fd=outside, pid=os.getpid())
    assert os.path.exists(f"{place}/{name}") or path == "cwd/x", "the host gets through"
    backend = LocalBackend(place, use_openat2=use_openat2)
    with RawGuest({"/proc": vfswasi.Mount(backend, rw=True)}) as guest:
        refused = (Errno.NOTCAPABLE, Errno.NOENT, Errno.LOOP, Errno.NOTDIR)
        for base, oflags in ((0, 0), (2, 0), (WRITE, CREAT), (WRITE, TRUNC)):
            errno, _ = guest.try_open(name, base=base, oflags=oflags)
            assert errno in refused
    key = tuple(part for part in name.split("/") if part)
    for call in (lambda: backend.open(key, False), lambda: backend.list(key)):
        with pytest.raises(FsError) as caught:
            call()
        assert caught.value.errno in (Errno.LOOP, Errno.NOTDIR)
    backend.close()
    os.close(outside)


def test_l3_a_link_to_a_magic_link_leads_nowhere(guest: RawGuest, tmp_path: Path) -> None:
    (tmp_path / "root" / "self").symlink_to("/proc/self/root/etc")
    (tmp_path / "root" / "cwd").symlink_to("../../../../../../../../proc/self/cwd")
    for name in ("self", "self/passwd", "cwd", "cwd/x"):
        assert guest.try_open(name)[0] is Errno.NOTCAPABLE


# L3: hard links.


def test_l3_a_hard_link_to_the_outside_is_that_file_and_the_documentation_says_so(
    guest: RawGuest, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    os.link(tmp_path / "outside", tmp_path / "root" / "hard")
    assert guest.contents("hard") == b"outside"
    assert guest.stat("hard").nlink == 2
    documented = (Path(__file__).parents[2] / "docs" / "backends.md").read_text()
    assert "A hard link to a file outside is that file" in documented.replace("\n", " ")


def test_l3_a_guest_makes_no_hard_link_to_the_outside(guest: RawGuest, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "root" / "out").symlink_to("../outside")
    (tmp_path / "root" / "up").symlink_to("..")
    for source in ("../outside", "up/outside", "sub/../../outside", str(tmp_path / "outside"), "out/"):
        assert guest.link(source, "mine") in (Errno.NOTCAPABLE, Errno.NOTDIR)
        assert guest.link(source, "mine", flags=1) in (Errno.INVAL, Errno.NOTCAPABLE)
    assert guest.link("out", "mine", flags=1) is Errno.INVAL
    assert guest.link("out", "mine") is Errno.SUCCESS, "the link, not what it names"
    assert guest.try_open("mine")[0] is Errno.NOTCAPABLE
    assert (tmp_path / "outside").stat().st_nlink == 1


# L3: modes.


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
@pytest.mark.parametrize("where", ["", "sub/"])
def test_l3_what_a_guest_makes_is_its_hosts_alone(guest: RawGuest, tmp_path: Path, where: str) -> None:
    for name, oflags in (("a", CREAT), ("b", CREAT | EXCL), ("c", CREAT | TRUNC), ("new", CREAT)):
        guest.close_fd(guest.open(where + name, base=ALL_FILE_RIGHTS, oflags=oflags))
        assert stat.S_IMODE((tmp_path / "root" / where / name).stat().st_mode) == 0o600
    assert guest.mkdir(where + "d") is Errno.SUCCESS
    assert stat.S_IMODE((tmp_path / "root" / where / "d").stat().st_mode) == 0o700
    guest.rename(where + "a", where + "e")
    guest.link(where + "b", where + "g2")
    for name in ("e", "g2"):
        assert stat.S_IMODE((tmp_path / "root" / where / name).stat().st_mode) == 0o600


def test_l3_no_call_makes_a_program_of_anything(guest: RawGuest, tmp_path: Path) -> None:
    """There is no chmod; and the bits that others set are no guest's doing, and stay or go as the system has it."""
    assert not [name for name in guest.abi.functions if "mode" in name or "chmod" in name or "chown" in name]
    path = tmp_path / "root" / "f"
    path.chmod(0o6755)
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    guest.pwrite(fd, b"x", 0)
    guest.must("fd_filestat_set_size", fd, 3)
    guest.must("fd_filestat_set_times", fd, 5, 5, 5)
    assert stat.S_IMODE(path.stat().st_mode) in (0o6755, 0o755)  # the system takes them, but from root's processes
    guest.close_fd(fd)
    guest.close_fd(guest.create("sub/copy", b"x"))
    assert guest.rename("sub/copy", "f") is Errno.SUCCESS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# L3: times.


@pytest.mark.parametrize("value", [-1, -(10**9), -(2**31) * 10**9, 2**31 * 10**9, LAST])
def test_l3_times_of_others_reach_the_guest_as_unsigned_numbers(guest: RawGuest, tmp_path: Path, value: int) -> None:
    os.utime(tmp_path / "root" / "f", ns=(value, value))
    host = (tmp_path / "root" / "f").stat().st_mtime_ns
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for seen in (guest.stat("f"), guest.fstat(fd)):
        assert seen.mtim in (max(host, 0), host % 2**64)
        assert seen.atim in (max(host, 0), host % 2**64)


@pytest.mark.parametrize("how", ["descriptor", "path", "directory"])
@pytest.mark.parametrize("value", [0, 1, 2**31 * 10**9, 2**32 * 10**9, LAST, 2**63, 2**64 - 1])
def test_l3_extreme_times_are_clamped_to_what_the_file_system_has(
    guest: RawGuest, tmp_path: Path, value: int, how: str
) -> None:
    name = "empty" if how == "directory" else "f"
    if how == "path":
        errno = guest.call("path_filestat_set_times", 3, 0, *guest.text(name), value, value, 5)
    else:
        fd = guest.opendir(name) if how == "directory" else guest.open(name, base=ALL_FILE_RIGHTS)
        errno = guest.call("fd_filestat_set_times", fd, value, value, 5)
    assert errno is Errno.SUCCESS
    host = (tmp_path / "root" / name).stat()
    assert host.st_mtime_ns == value or (value > 2**33 * 10**9 and host.st_mtime_ns > 2**31 * 10**9)
    assert guest.stat(name).mtim == host.st_mtime_ns
    assert guest.peek(FREE, 1) == b"\0"
