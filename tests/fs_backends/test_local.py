"""The local directory backend, against the directory itself as the ground truth.

Everything runs twice: with `openat2`, and component by component as where the system has no such call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Caps, FileType, Key
from vfswasi.fs_backends.local import file as local_file
from vfswasi.fs_backends.local import listing as local_listing
from vfswasi.fs_backends.local import openat2
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.local.file import Idents, translate

MODES = pytest.mark.parametrize("use_openat2", [True, False], ids=["openat2", "by-component"])
pytestmark = pytest.mark.usefixtures("plain_umask")


@pytest.fixture
def plain_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """The mounted directory, next to an outside that nothing may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"SECRET")
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(params=[True, False], ids=["openat2", "by-component"])
def backend(request: pytest.FixtureRequest, ground: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(ground, use_openat2=request.param)
    yield made
    made.close()


def errno_of(call: Callable[..., Any], *args: Any) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)
    return caught.value.errno


def read(backend: LocalBackend, *key: str) -> bytes:
    handle = backend.open(key, False)
    try:
        buf = bytearray(handle.size())
        assert handle.read_into(0, buf) == len(buf)
        return bytes(buf)
    finally:
        handle.close()


def snapshot(top: Path) -> list[tuple[object, ...]]:
    """Everything that a change would show in. Not the access times: taking the snapshot moves them."""
    found = ((path, path.lstat()) for path in sorted(top.rglob("*")))
    return [
        (path, host.st_mode, host.st_ino, host.st_nlink, host.st_size, host.st_mtime_ns, host.st_ctime_ns)
        for path, host in found
    ]


# The root


def test_constructor_raises_what_the_host_says(ground: Path) -> None:
    (ground / "f").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        LocalBackend(ground / "missing")
    with pytest.raises(NotADirectoryError):
        LocalBackend(ground / "f")


def test_constructor_leaves_no_descriptor_behind_when_it_fails(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfswasi.fs_backends.local.backend.openat2_works", lambda fd: False)
    before = open_files()
    with pytest.raises(OSError, match="openat2"):
        LocalBackend(ground, use_openat2=True)
    assert opened_since(before) == []


def test_a_system_without_dir_fd_is_refused_in_words(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_NOFOLLOW")
    with pytest.raises(OSError, match="POSIX"):
        LocalBackend(ground)


def test_a_link_as_the_root_is_followed(ground: Path) -> None:
    (ground / "f").write_bytes(b"x")
    (ground.parent / "alias").symlink_to("root")
    backend = LocalBackend(ground.parent / "alias")
    assert read(backend, "f") == b"x"
    backend.close()


def test_the_root_is_pinned_when_its_name_goes_elsewhere(backend: LocalBackend, ground: Path) -> None:
    (ground / "f").write_bytes(b"inside")
    ground.rename(ground.parent / "moved")
    ground.symlink_to("outside")
    assert read(backend, "f") == b"inside"
    assert [entry.name for entry in backend.list(())] == ["f"]


def test_identity_is_the_directory_not_the_object(ground: Path) -> None:
    (ground / "d").mkdir()
    backends = [LocalBackend(ground), LocalBackend(str(ground)), LocalBackend(ground / "d")]
    assert backends[0].identity == backends[1].identity
    assert hash(backends[0].identity) == hash(backends[1].identity)
    assert backends[0].identity != backends[2].identity
    for backend in backends:
        backend.close()


def test_after_close_nothing_reaches_a_directory_that_took_the_number(ground: Path) -> None:
    (ground / "f").write_bytes(b"")
    for use_openat2 in (True, False):
        backend = LocalBackend(ground, use_openat2=use_openat2)
        backend.close()
        taken = [os.open(ground, os.O_RDONLY) for _ in range(4)]
        for call in (backend.stat, backend.list):
            assert errno_of(call, ()) is Errno.BADF
        assert errno_of(backend.open, ("f",), False) is Errno.BADF
        assert errno_of(backend.stat, ("d", "f")) is Errno.BADF
        for fd in taken:
            os.close(fd)


def test_caps(backend: LocalBackend) -> None:
    assert backend.caps == ~Caps.IMMUTABLE & ~Caps.DEVICES


# stat, walk, list


def special_files(ground: Path) -> dict[str, FileType]:
    """One of each kind. Devices need privileges; /dev has them otherwise (see the test of /dev)."""
    (ground / "file").write_bytes(b"12345")
    (ground / "dir").mkdir()
    (ground / "link").symlink_to("nowhere")
    os.mkfifo(ground / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        where = os.getcwd()
        os.chdir(ground)  # the address of a socket is limited to 108 bytes
        try:
            listener.bind("socket")
        finally:
            os.chdir(where)
    return {
        "file": FileType.REGULAR_FILE,
        "dir": FileType.DIRECTORY,
        "link": FileType.SYMBOLIC_LINK,
        "fifo": FileType.UNKNOWN,
        "socket": FileType.SOCKET_STREAM,
    }


def test_stat_walk_and_list_agree_about_kinds_and_idents(backend: LocalBackend, ground: Path) -> None:
    (ground / "deep").mkdir()
    for parent, directory in (((), ground), (("deep",), ground / "deep")):
        kinds = special_files(directory)
        listed = {entry.name: entry for entry in backend.list(parent) if entry.name != "deep"}
        assert {name: entry.filetype for name, entry in listed.items()} == kinds
        for name, kind in kinds.items():
            found = backend.stat((*parent, name))
            assert found.filetype is kind
            assert found.ident == listed[name].ident == os.lstat(directory / name).st_ino
            assert backend.walk((), (*parent, name)) == (len(parent) + 1, found)
            assert backend.walk(parent, (name,)) == (1, found)


@MODES
def test_devices_have_their_kind_and_open_as_acces(use_openat2: bool) -> None:
    backend = LocalBackend("/dev", use_openat2=use_openat2)
    assert backend.stat(("null",)).filetype is FileType.CHARACTER_DEVICE
    listed = {entry.name: entry for entry in backend.list(())}
    assert listed["null"].filetype is FileType.CHARACTER_DEVICE
    assert listed["null"].ident == backend.stat(("null",)).ident
    for write in (False, True):
        assert errno_of(backend.open, ("null",), write) is Errno.ACCES
    backend.close()


def test_stat_has_what_the_host_has(backend: LocalBackend, ground: Path) -> None:
    (ground / "f").write_bytes(b"12345")
    os.utime(ground / "f", ns=(1_000_000_001, -2_000_000_003))
    os.link(ground / "f", ground / "g")
    host = os.lstat(ground / "f")
    found = backend.stat(("f",))
    assert found == (
        FileType.REGULAR_FILE,
        5,
        1_000_000_001,
        -2_000_000_003,
        host.st_ctime_ns,
        2,
        host.st_ino,
    )
    assert backend.stat(("g",)) == found
    assert backend.stat(()).ident == ground.stat().st_ino
    assert backend.stat(()).filetype is FileType.DIRECTORY


@pytest.mark.parametrize(
    ("names", "count", "kind"),
    [
        (("d", "e", "f"), 3, FileType.REGULAR_FILE),
        (("d", "e"), 2, FileType.DIRECTORY),
        (("d", "e", "f", "x"), 3, FileType.REGULAR_FILE),
        (("d", "e", "f", "x", "y"), 3, FileType.REGULAR_FILE),
        (("d", "new"), 1, FileType.DIRECTORY),
        (("d", "new", "newer"), 1, FileType.DIRECTORY),
        (("d", "e", "new"), 2, FileType.DIRECTORY),
        (("d", "out", "f"), 2, FileType.SYMBOLIC_LINK),
        (("d", "in", "f"), 2, FileType.SYMBOLIC_LINK),
        (("d", "in", "new"), 2, FileType.SYMBOLIC_LINK),
        (("d", "out"), 2, FileType.SYMBOLIC_LINK),
        (("fifo", "x"), 1, FileType.UNKNOWN),
        (("new",), 0, None),
        (("new", "newer"), 0, None),
        ((), 0, None),
    ],
)
def test_walk_stops_where_the_protocol_says(
    backend: LocalBackend, ground: Path, names: Key, count: int, kind: FileType | None
) -> None:
    (ground / "d" / "e").mkdir(parents=True)
    (ground / "d" / "e" / "f").write_bytes(b"")
    (ground / "d" / "out").symlink_to("../../outside")
    (ground / "d" / "in").symlink_to("e")
    os.mkfifo(ground / "fifo")
    for depth in range(max(1, min(count, 2))):
        # The same walk from further down, as long as the start is a directory.
        key, rest = names[:depth], names[depth:]
        found_count, found = backend.walk(key, rest)
        assert found_count == count - depth
        if found_count:
            assert found == backend.stat(names[:count])
            assert found.filetype is kind
        else:
            assert found is None


def test_walk_below_a_file_or_a_link_is_an_error(backend: LocalBackend, ground: Path) -> None:
    (ground / "f").write_bytes(b"")
    (ground / "out").symlink_to("../outside")
    for names in (("x",), ("x", "y")):
        assert errno_of(backend.walk, ("f",), names) is Errno.NOTDIR
        assert errno_of(backend.walk, ("out",), names) in (Errno.LOOP, Errno.NOTDIR)
        assert backend.walk(("gone",), names) == (0, None)


def test_list_errors(backend: LocalBackend, ground: Path) -> None:
    (ground / "f").write_bytes(b"")
    (ground / "d").mkdir()
    (ground / "d" / "f").write_bytes(b"")
    (ground / "d" / "out").symlink_to("../../outside")
    for parent in ((), ("d",)):
        assert errno_of(backend.list, (*parent, "f")) is Errno.NOTDIR
        assert errno_of(backend.list, (*parent, "missing")) is Errno.NOENT
    assert errno_of(backend.list, ("d", "out")) in (Errno.LOOP, Errno.NOTDIR)


def test_a_fifo_is_listed_as_no_directory_without_blocking(backend: LocalBackend, ground: Path) -> None:
    os.mkfifo(ground / "fifo")
    assert errno_of(backend.list, ("fifo",)) is Errno.NOTDIR


def test_names_that_no_key_can_hold_are_not_listed(backend: LocalBackend, ground: Path) -> None:
    names = ["é", "名前", "\U0001f600", "a b", "back\\slash", "*", "~", "名" * 85]
    for name in names:
        (ground / name).write_bytes(b"")
    for raw in (b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\xaf"):
        (Path(os.fsdecode(os.fsencode(ground) + b"/" + raw))).write_bytes(b"")
    assert sorted(entry.name for entry in backend.list(())) == sorted(names)
    for name in names:
        assert read(backend, name) == b""


def test_keys_deeper_than_one_path_can_be(backend: LocalBackend) -> None:
    """The system takes 4095 bytes at once; the tree below the root may be deeper."""
    key: Key = ()
    for _ in range(20):
        key = (*key, "n" * 250)
        backend.mkdir(key)
    handle = backend.create((*key, "f"))
    handle.write_from(0, b"deep")
    handle.close()
    assert read(backend, *key, "f") == b"deep"
    assert backend.stat((*key, "f")).size == 4
    assert backend.walk((), (*key, "f")) == (21, backend.stat((*key, "f")))
    assert backend.walk((), (*key, "new")) == (20, backend.stat(key))
    assert [entry.name for entry in backend.list(key)] == ["f"]
    backend.remove((*key, "f"))
    for depth in range(20, 0, -1):
        backend.rmdir(key[:depth])


# Inode numbers


def test_idents_of_several_devices_never_meet() -> None:
    idents = Idents(7)
    places = [
        (7, 5),
        (8, 5),
        (9, 5),
        (8, 6),
        (8, 1 << 60),
        (9, 1 << 60),
        (7, (1 << 63) + 5),
        (7, (1 << 64) - 1),
    ]
    numbers = [idents.ident(dev, ino) for dev, ino in places]
    assert numbers[0] == 5
    assert len(set(numbers)) == len(places)
    for number in numbers[1:]:
        assert number is not None
        assert 1 << 63 <= number < 1 << 64
    assert numbers == [idents.ident(dev, ino) for dev, ino in places]
    assert idents.ident(7, 0) is None


def test_two_backends_of_one_directory_give_the_same_numbers(ground: Path) -> None:
    first, second = LocalBackend(ground), LocalBackend(ground)
    # In another order, so that tables of their own would differ.
    one = [first._idents.ident(dev, 1 << 60) for dev in (-1, -2)]
    two = [second._idents.ident(dev, 1 << 60) for dev in (-2, -1)]
    assert one == two[::-1]
    first.close()
    second.close()


@MODES
def test_what_is_mounted_below_the_root_has_one_number(use_openat2: bool) -> None:
    """/proc and /dev are other devices than /, and their mount points are listed by what they cover."""
    backend = LocalBackend("/", use_openat2=use_openat2)
    listed = {entry.name: entry for entry in backend.list(())}
    for name in ("proc", "dev"):
        found = backend.stat((name,))
        assert listed[name].ident == found.ident
        assert found.ident is not None
        assert found.ident >= 1 << 63
    by_name = {entry.name: entry.ident for entry in backend.list(("dev",))}
    assert by_name["null"] == backend.stat(("dev", "null")).ident
    backend.close()


def test_without_a_mount_table_listings_are_still_right(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_table(path: str, flags: int) -> int:
        raise FileNotFoundError(path)

    for name in "abc":
        (ground / name).write_bytes(b"")
    idents = Idents(ground.stat().st_dev)
    fd = os.open(ground, os.O_RDONLY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_table)
        lister = local_listing.Lister(fd, idents)
    assert sorted(entry.ident or 0 for entry in lister.entries(fd)) == sorted(
        (ground / name).stat().st_ino for name in "abc"
    )
    lister.close()
    os.close(fd)


@pytest.mark.parametrize("liar", ["file", "directory"])
def test_a_listing_with_wrong_inode_numbers_is_not_believed(
    ground: Path, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    """Network and layered file systems list other numbers than stat tells, some only for files."""
    for name in "abc":
        (ground / name).write_bytes(b"")
        (ground / (name * 2)).mkdir()

    class Lying:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry, self.name = entry, entry.name
            self.is_file, self.is_dir, self.is_symlink = entry.is_file, entry.is_dir, entry.is_symlink

        def inode(self) -> int:
            lies = self.entry.is_file() if liar == "file" else self.entry.is_dir()
            return self.entry.inode() + 1000 * lies

    class LyingScan:
        def __init__(self, fd: int) -> None:
            self.entries = real(fd)

        def __enter__(self) -> Iterator[Lying]:
            return (Lying(entry) for entry in self.entries)

        def __exit__(self, *_: object) -> None:
            self.entries.close()

    real = os.scandir
    backend = LocalBackend(ground)
    monkeypatch.setattr(os, "scandir", LyingScan)
    listed = list(backend.list(()))
    assert len(listed) == 6
    assert {entry.name: entry.ident for entry in listed} == {
        name: backend.stat((name,)).ident for name in ("a", "b", "c", "aa", "bb", "cc")
    }
    backend.close()


# Opening


@pytest.mark.parametrize("parent", [(), ("d",)], ids=["top", "below"])
def test_open_refuses_what_is_not_a_file(backend: LocalBackend, ground: Path, parent: Key) -> None:
    (ground / "d").mkdir()
    directory = ground.joinpath(*parent)
    special_files(directory)
    expected = {
        "dir": Errno.ISDIR,
        "link": Errno.LOOP,
        "fifo": Errno.ACCES,
        "socket": Errno.ACCES,
        "missing": Errno.NOENT,
    }
    before = open_files()
    for write in (False, True):
        for name, code in expected.items():
            assert errno_of(backend.open, (*parent, name), write) is code, name
        assert errno_of(backend.open, (*parent, "file", "x"), write) is Errno.NOTDIR
        assert errno_of(backend.open, (), write) is Errno.ISDIR
    assert opened_since(before) == []


def test_opening_a_fifo_does_not_block(backend: LocalBackend, ground: Path) -> None:
    os.mkfifo(ground / "fifo")
    results: list[Errno] = []
    thread = threading.Thread(
        target=lambda: results.extend(errno_of(backend.open, ("fifo",), write) for write in (False, True)),
        daemon=True,
    )
    thread.start()
    thread.join(5)
    assert results == [Errno.ACCES, Errno.ACCES]


def test_a_handle_for_reading_changes_nothing(backend: LocalBackend, ground: Path) -> None:
    (ground / "f").write_bytes(b"abc")
    handle = backend.open(("f",), False)
    for call in (
        lambda: handle.write_from(0, b"x"),
        lambda: handle.append(b"x"),
        lambda: handle.truncate(0),
        lambda: handle.allocate(0, 10),
    ):
        assert errno_of(call) is Errno.ROFS
    assert (ground / "f").read_bytes() == b"abc"
    handle.close()


def test_descriptors_are_not_inherited(backend: LocalBackend, ground: Path) -> None:
    (ground / "d").mkdir()
    handles = [backend.create(("f",)), backend.create(("d", "f")), backend.open(("d", "f"), False)]
    numbers = [backend._root, backend._lister._mounts._table, *(handle._fd for handle in handles)]
    assert [os.get_inheritable(fd) for fd in numbers] == [False] * len(numbers)
    for handle in handles:
        handle.close()


# Reading and writing


def test_reads_and_writes_are_positional(backend: LocalBackend, ground: Path) -> None:
    handle = backend.create(("f",))
    handle.write_from(5, b"hello")
    assert (ground / "f").read_bytes() == b"\0" * 5 + b"hello"
    buf = bytearray(b"........")
    assert handle.read_into(7, buf) == 3
    assert bytes(buf) == b"llo....."
    assert handle.read_into(10, buf) == 0
    assert handle.read_into(1 << 62, buf) == 0
    assert handle.read_into((1 << 63) - 2, buf) == 0
    assert handle.read_into((1 << 63) - 1, buf) == 0
    assert handle.read_into(1 << 63, buf) == 0
    assert handle.read_into((1 << 64) - 1, buf) == 0
    assert handle.read_into(0, bytearray()) == 0
    assert handle.size() == 10
    view = memoryview(bytearray(4))
    assert handle.read_into(6, view) == 4
    assert bytes(view) == b"ello"
    handle.close()


def test_an_empty_write_changes_nothing(backend: LocalBackend) -> None:
    handle = backend.create(("f",))
    for offset in (0, 100, 1 << 63, (1 << 64) - 1):
        handle.write_from(offset, b"")
    assert handle.append(b"") == 0
    assert handle.size() == 0
    handle.close()


def test_offsets_that_no_file_can_have_are_fbig(backend: LocalBackend) -> None:
    handle = backend.create(("f",))
    for offset in (1 << 63, (1 << 64) - 1):
        assert errno_of(handle.write_from, offset, b"x") is Errno.FBIG
        assert errno_of(handle.truncate, offset) is Errno.FBIG
        assert errno_of(handle.allocate, offset, 1) is Errno.FBIG
        handle.advise(offset, 1, 0)
    for offset in ((1 << 63) - 1, (1 << 63) - 2):
        assert errno_of(handle.write_from, offset, b"xx") is Errno.FBIG
    assert handle.size() == 0
    handle.close()


def test_short_transfers_are_continued(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals on network file systems and sizes over 2 GiB cut transfers."""
    handle = backend.create(("f",))
    preadv, pwrite, pwritev = os.preadv, os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda fd, buf, offset: pwrite(fd, buf[:3], offset))
    monkeypatch.setattr(os, "pwritev", lambda fd, bufs, o, flags: pwritev(fd, [bufs[0][:3]], o, flags))
    monkeypatch.setattr(os, "preadv", lambda fd, bufs, offset: preadv(fd, [memoryview(bufs[0])[:3]], offset))
    handle.write_from(0, b"0123456789")
    assert handle.append(bytearray(b"abcdefgh")) == 18
    buf = bytearray(20)
    assert handle.read_into(0, buf) == 18
    assert bytes(buf) == b"0123456789abcdefgh\0\0"
    handle.close()


def test_a_full_disk_and_a_stuck_write_are_errors(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = backend.create(("f",))

    def fails(code: int) -> Callable[..., int]:
        def call(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        return call

    for code, expected in ((errno.ENOSPC, Errno.NOSPC), (errno.EDQUOT, Errno.DQUOT), (errno.EIO, Errno.IO)):
        monkeypatch.setattr(os, "pwrite", fails(code))
        assert errno_of(handle.write_from, 0, b"x") is expected
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    assert errno_of(handle.write_from, 0, b"x") is Errno.IO
    handle.close()


def test_append_goes_to_the_end_that_others_made(backend: LocalBackend, ground: Path) -> None:
    handle = backend.create(("f",))
    assert handle.append(b"one") == 3
    with open(ground / "f", "ab") as other:
        other.write(b"two")
    assert handle.append(b"three") == 11
    assert (ground / "f").read_bytes() == b"onetwothree"
    handle.close()


def test_append_where_the_system_has_no_such_flag(
    backend: LocalBackend, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = backend.create(("f",))

    def refuses(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "old kernel")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refuses)
        assert handle.append(b"one") == 3
    with monkeypatch.context() as patch:
        patch.setattr(local_file, "_RWF_APPEND", 0)
        assert handle.append(b"two") == 6
    assert (ground / "f").read_bytes() == b"onetwo"
    handle.close()


def test_concurrent_appends_lose_nothing(backend: LocalBackend, ground: Path) -> None:
    backend.create(("f",)).close()
    handles = [backend.open(("f",), True) for _ in range(4)]

    def append_all(number: int) -> None:
        for _ in range(200):
            handles[number].append(b"%d" % number * 10)

    threads = [threading.Thread(target=append_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = (ground / "f").read_bytes()
    assert len(data) == 4 * 200 * 10
    assert {data[at : at + 10] for at in range(0, len(data), 10)} == {b"%d" % n * 10 for n in range(4)}
    for handle in handles:
        handle.close()


def test_truncate_and_allocate(backend: LocalBackend, ground: Path) -> None:
    handle = backend.create(("f",))
    handle.write_from(0, b"abcdef")
    handle.truncate(3)
    handle.truncate(5)
    assert (ground / "f").read_bytes() == b"abc\0\0"
    handle.allocate(0, 2)
    assert handle.size() == 5
    handle.allocate(4, 6)
    assert handle.size() == 10
    handle.allocate(20, 0)
    assert (ground / "f").read_bytes()[:10] == b"abc" + b"\0" * 7
    handle.close()


def test_allocate_where_the_file_system_cannot(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = backend.create(("f",))
    codes = [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC]

    def refuses(*_: object) -> None:
        code = codes.pop(0)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    handle.allocate(0, 10)
    handle.allocate(10, 10)
    assert handle.size() == 20
    assert errno_of(handle.allocate, 0, 100) is Errno.NOSPC
    assert handle.size() == 20
    handle.close()


def test_advice_and_sync_are_taken(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = backend.create(("f",))
    calls: list[object] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, length, advice: calls.append(advice))
    for advice in range(6):
        handle.advise(0, 10, advice)
    names = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
    assert calls == [getattr(os, f"POSIX_FADV_{name}") for name in names]
    calls.clear()
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append("fdatasync"))
    handle.sync(data_only=False)
    handle.sync(data_only=True)
    assert calls == ["fsync", "fdatasync"]
    handle.close()


def test_an_unlinked_file_lives_on_in_its_handle(backend: LocalBackend, ground: Path) -> None:
    handle = backend.create(("f",))
    handle.write_from(0, b"data")
    ident = handle.stat().ident
    assert (handle.stat().nlink, ident) == (1, backend.stat(("f",)).ident)
    backend.remove(("f",))
    assert handle.stat().nlink == 0
    assert handle.stat().ident == ident
    handle.append(b"more")
    buf = bytearray(8)
    assert handle.read_into(0, buf) == 8
    assert bytes(buf) == b"datamore"
    assert os.listdir(ground) == []
    handle.close()


def test_a_closed_handle_never_touches_the_next_owner_of_its_number(backend: LocalBackend, ground: Path) -> None:
    handle = backend.create(("f",))
    handle.close()
    other = backend.create(("g",))
    assert errno_of(handle.write_from, 0, b"x") is Errno.BADF
    assert errno_of(handle.close) is Errno.BADF
    assert other.size() == 0
    other.close()


# Changing names


@pytest.mark.parametrize("parent", [(), ("d",), ("d", "e")], ids=["top", "below", "deep"])
def test_each_mutator_does_its_one_thing(backend: LocalBackend, ground: Path, parent: Key) -> None:
    (ground / "d" / "e").mkdir(parents=True)
    at = ground.joinpath(*parent)
    backend.create((*parent, "f")).close()
    backend.mkdir((*parent, "m"))
    assert stat.S_IMODE((at / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE((at / "m").stat().st_mode) == 0o700
    backend.symlink("../f", (*parent, "l"))
    assert os.readlink(at / "l") == backend.readlink((*parent, "l")) == "../f"
    backend.link((*parent, "f"), (*parent, "m", "f2"))
    assert (at / "f").stat().st_ino == (at / "m" / "f2").stat().st_ino
    backend.rename((*parent, "m", "f2"), (*parent, "f3"))
    assert not (at / "m" / "f2").exists()
    assert (at / "f3").stat().st_nlink == 2
    backend.rename((*parent, "m"), (*parent, "n"))
    backend.remove((*parent, "f3"))
    backend.remove((*parent, "l"))
    backend.rmdir((*parent, "n"))
    assert sorted(set(os.listdir(at)) - {"d", "e"}) == ["f"]


def test_linking_a_link_makes_a_second_link_not_a_second_file(backend: LocalBackend, ground: Path) -> None:
    (ground / "l").symlink_to("../outside/f")
    backend.link(("l",), ("m",))
    assert (ground / "m").is_symlink()
    assert (ground / "m").lstat().st_ino == (ground / "l").lstat().st_ino


def test_rename_replaces_its_like(backend: LocalBackend, ground: Path) -> None:
    for name in "ab":
        (ground / name).write_bytes(name.encode())
        (ground / f"d{name}").mkdir()
    backend.rename(("a",), ("b",))
    assert (ground / "b").read_bytes() == b"a"
    backend.rename(("da",), ("db",))
    assert sorted(os.listdir(ground)) == ["b", "db"]


@pytest.mark.parametrize(
    ("method", "args", "code"),
    [
        ("create", [("f",)], Errno.EXIST),
        ("create", [("d",)], Errno.EXIST),
        ("create", [("out",)], Errno.EXIST),
        ("create", [("dangling",)], Errno.EXIST),
        ("create", [()], Errno.EXIST),
        ("create", [("missing", "x")], Errno.NOENT),
        ("create", [("f", "x")], Errno.NOTDIR),
        ("create", [("n" * 256,)], Errno.NAMETOOLONG),
        ("mkdir", [("f",)], Errno.EXIST),
        ("mkdir", [("d",)], Errno.EXIST),
        ("mkdir", [("dangling",)], Errno.EXIST),
        ("mkdir", [()], Errno.EXIST),
        ("mkdir", [("missing", "x")], Errno.NOENT),
        ("mkdir", [("f", "x")], Errno.NOTDIR),
        ("rmdir", [("d",)], Errno.NOTEMPTY),
        ("rmdir", [("f",)], Errno.NOTDIR),
        ("rmdir", [("out",)], Errno.NOTDIR),
        ("rmdir", [("missing",)], Errno.NOENT),
        ("rmdir", [()], Errno.BUSY),
        ("remove", [("d",)], Errno.ISDIR),
        ("remove", [("missing",)], Errno.NOENT),
        ("remove", [("d", "missing")], Errno.NOENT),
        ("remove", [()], Errno.ISDIR),
        ("symlink", ["t", ("f",)], Errno.EXIST),
        ("symlink", ["t", ("dangling",)], Errno.EXIST),
        ("symlink", ["t", ()], Errno.EXIST),
        ("symlink", ["", ("new",)], Errno.NOENT),
        ("symlink", ["a\0b", ("new",)], Errno.INVAL),
        ("symlink", ["t", ("missing", "x")], Errno.NOENT),
        ("readlink", [("f",)], Errno.INVAL),
        ("readlink", [("d",)], Errno.INVAL),
        ("readlink", [()], Errno.INVAL),
        ("readlink", [("missing",)], Errno.NOENT),
        ("link", [("f",), ("d",)], Errno.EXIST),
        ("link", [("f",), ("dangling",)], Errno.EXIST),
        ("link", [("f",), ()], Errno.EXIST),
        ("link", [("d",), ("new",)], Errno.PERM),
        ("link", [(), ("new",)], Errno.PERM),
        ("link", [("missing",), ("new",)], Errno.NOENT),
        ("link", [("f",), ("missing", "x")], Errno.NOENT),
        ("rename", [("missing",), ("new",)], Errno.NOENT),
        ("rename", [("f",), ("missing", "x")], Errno.NOENT),
        ("rename", [("f",), ("d",)], Errno.ISDIR),
        ("rename", [("empty",), ("f",)], Errno.NOTDIR),
        ("rename", [("empty",), ("d",)], Errno.NOTEMPTY),
        ("rename", [("d",), ("d", "e", "x")], Errno.INVAL),
        ("rename", [(), ("new",)], Errno.BUSY),
        ("rename", [("f",), ()], Errno.BUSY),
        ("set_times", [("missing",), 1, 1], Errno.NOENT),
        ("stat", [("missing",)], Errno.NOENT),
        ("stat", [("f", "x")], Errno.NOTDIR),
        ("stat", [("n" * 256,)], Errno.NAMETOOLONG),
        ("stat", [("d", "n" * 256)], Errno.NAMETOOLONG),
        ("walk", [(), ("d", "n" * 256)], Errno.NAMETOOLONG),
    ],
)
def test_errors_change_nothing(backend: LocalBackend, ground: Path, method: str, args: list[Any], code: Errno) -> None:
    (ground / "f").write_bytes(b"abc")
    (ground / "d" / "e").mkdir(parents=True)
    (ground / "empty").mkdir()
    (ground / "out").symlink_to("../outside")
    (ground / "dangling").symlink_to("../outside/new")
    before = snapshot(ground.parent)
    assert errno_of(getattr(backend, method), *args) is code
    assert snapshot(ground.parent) == before


def test_rmdir_and_rename_say_notempty_where_the_system_says_exist(
    backend: LocalBackend, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise FileExistsError(errno.EEXIST, "not empty")

    monkeypatch.setattr(os, "rmdir", refuses)
    monkeypatch.setattr(os, "rename", refuses)
    assert errno_of(backend.rmdir, ("d",)) is Errno.NOTEMPTY
    assert errno_of(backend.rename, ("d",), ("e",)) is Errno.NOTEMPTY


def test_removing_a_directory_is_isdir_where_the_system_says_perm(
    backend: LocalBackend, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    (ground / "d").mkdir()
    (ground / "f").write_bytes(b"")
    monkeypatch.setattr(os, "unlink", refuses)
    assert errno_of(backend.remove, ("d",)) is Errno.ISDIR
    assert errno_of(backend.remove, ("f",)) is Errno.PERM


def test_a_link_target_that_is_not_text_is_ilseq(backend: LocalBackend, ground: Path) -> None:
    os.symlink(b"\xff", os.fsencode(ground) + b"/l")
    assert errno_of(backend.readlink, ("l",)) is Errno.ILSEQ


# Times


@pytest.mark.parametrize("key", [("f",), ("d", "f"), ("d",), ("l",), ()], ids=str)
def test_set_times_sets_what_is_given_on_the_object_itself(backend: LocalBackend, ground: Path, key: Key) -> None:
    (ground / "f").write_bytes(b"")
    (ground / "d").mkdir()
    (ground / "d" / "f").write_bytes(b"")
    (ground / "l").symlink_to("f")
    backend.set_times(key, 1_111_111_111, 2_222_222_222)
    backend.set_times(key, None, 3_333_333_333)
    assert backend.stat(key)[2:4] == (1_111_111_111, 3_333_333_333)
    backend.set_times(key, 4_444_444_444, None)
    backend.set_times(key, None, None)
    assert backend.stat(key)[2:4] == (4_444_444_444, 3_333_333_333)
    if key == ("l",):
        assert (ground / "f").stat().st_mtime_ns > 10**18


@pytest.mark.parametrize("wanted", [-1, -(10**18), -(1 << 63), -(1 << 80), (1 << 63) - 1, (1 << 64) - 1, 1 << 80])
def test_times_out_of_the_ordinary_are_kept_or_clamped(backend: LocalBackend, ground: Path, wanted: int) -> None:
    """What comes back is the file system's choice: the nearest time that it can store."""
    handle = backend.create(("f",))
    for setter in (handle.set_times, lambda *times: backend.set_times(("f",), *times)):
        os.utime(ground / "f", ns=(0, 0))
        setter(wanted, wanted)
        found = handle.stat()
        assert found.mtim_ns == backend.stat(("f",)).mtim_ns == os.stat(ground / "f").st_mtime_ns
        assert found.mtim_ns is not None
        assert (found.mtim_ns < 0) == (wanted < 0)
        if abs(wanted) <= 10**18:
            assert found.mtim_ns == wanted
        else:
            assert abs(found.mtim_ns) > 2**31 * 10**9 - 1
    handle.close()


# Escapes


@pytest.mark.parametrize("target", ["../outside", "{outside}", "inner"])
def test_a_link_on_the_way_is_never_followed(backend: LocalBackend, ground: Path, target: str) -> None:
    (ground / "inner").mkdir()
    (ground / "inner" / "f").write_bytes(b"inner")
    (ground / "f").write_bytes(b"")
    (ground / "d").mkdir()
    (ground / "l").symlink_to(target.format(outside=ground.parent / "outside"))
    (ground / "d" / "l").symlink_to(target.format(outside=ground.parent / "outside"))
    calls: list[tuple[Any, ...]] = []
    for via in (("l",), ("d", "l")):
        calls += [
            (backend.stat, (*via, "f")),
            (backend.stat, (*via, "x", "f")),
            (backend.list, via),
            (backend.walk, via, ("f",)),
            (backend.walk, via, ("f", "x")),
            (backend.open, (*via, "f"), False),
            (backend.open, (*via, "f"), True),
            (backend.create, (*via, "new")),
            (backend.mkdir, (*via, "new")),
            (backend.rmdir, (*via, "f")),
            (backend.remove, (*via, "f")),
            (backend.symlink, "t", (*via, "new")),
            (backend.readlink, (*via, "f")),
            (backend.rename, ("f",), (*via, "new")),
            (backend.rename, (*via, "f"), ("new",)),
            (backend.link, ("f",), (*via, "new")),
            (backend.link, (*via, "f"), ("new",)),
            (backend.set_times, (*via, "f"), 1, 1),
        ]
    before = snapshot(ground.parent)
    for call, *args in calls:
        assert errno_of(call, *args) in (Errno.LOOP, Errno.NOTDIR), (call.__name__, args)
    assert snapshot(ground.parent) == before


@pytest.mark.parametrize("name", ["..", ".", "", "../outside/f", "d/../f", "/etc/passwd", "a\0b", "\ud800"])
def test_names_that_no_key_may_hold_are_refused_all_the_same(backend: LocalBackend, ground: Path, name: str) -> None:
    (ground / "f").write_bytes(b"")
    for call, *args in (
        (backend.stat, (name,)),
        (backend.walk, (), (name,)),
        (backend.open, (name,), True),
        (backend.list, (name,)),
        (backend.create, (name,)),
        (backend.mkdir, (name,)),
        (backend.remove, (name,)),
        (backend.rename, ("f",), (name,)),
        (backend.link, ("f",), (name,)),
        (backend.symlink, "t", (name,)),
        (backend.set_times, (name,), 0, 0),
    ):
        assert errno_of(call, *args) in (Errno.INVAL, Errno.ILSEQ), call
    assert os.listdir(ground) == ["f"]
    assert os.listdir(ground.parent / "outside") == ["f"]


def test_dots_inside_a_key_do_not_lead_out(backend: LocalBackend, ground: Path) -> None:
    (ground / "d").mkdir()
    for key in (("d", "..", "..", "outside", "f"), ("..", "outside", "f")):
        before = open_files()
        for call in (backend.stat, backend.list, backend.create, lambda key: backend.open(key, False)):
            assert errno_of(call, key) in (Errno.INVAL, Errno.XDEV)
        assert opened_since(before) == []


SWAPPER = """
import ctypes, os, sys
os.chdir(sys.argv[1])
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    for _ in range(100):
        if renameat2(-100, b"d", -100, b"trap", 2):  # RENAME_EXCHANGE
            sys.exit(f"renameat2: {os.strerror(ctypes.get_errno())}")
"""


@MODES
def test_no_escape_while_another_process_swaps_a_directory_for_a_link(ground: Path, use_openat2: bool) -> None:
    (ground / "d").mkdir()
    (ground / "d" / "f").write_bytes(b"public")
    (ground / "trap").symlink_to("../outside")
    secret = (ground.parent / "outside" / "f").stat().st_ino
    backend = LocalBackend(ground, use_openat2=use_openat2)
    swapper = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(ground), str(os.getpid())], stdout=subprocess.PIPE, text=True
    )
    try:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "ready\n"
        before = open_files()
        seen = {"public": 0, "refused": 0}
        refusals: set[Errno] = set()
        until = time.monotonic() + 2
        number = 0
        while time.monotonic() < until:
            number += 1
            name = f"new{number}"
            attempts: list[Callable[[], object]] = [
                lambda: read(backend, "d", "f"),
                lambda: backend.stat(("d", "f")),
                lambda: backend.walk((), ("d", "f")),
                lambda: list(backend.list(("d",))),
                lambda name=name: backend.mkdir(("d", name)),  # type: ignore[misc]
                lambda name=name: backend.rmdir(("d", name)),  # type: ignore[misc]
                lambda: backend.set_times(("d", "f"), 1, 1),
            ]
            for attempt in attempts:
                try:
                    result = attempt()
                except FsError as error:
                    seen["refused"] += 1
                    refusals.add(error.errno)
                    continue
                seen["public"] += 1
                assert result != b"SECRET"
                assert secret not in (getattr(result, "ident", None), getattr(result, "st_ino", None))
                if isinstance(result, tuple) and len(result) == 2:
                    assert result[1].ident != secret
                if isinstance(result, list):
                    assert secret not in [entry.ident for entry in result]
        assert swapper.poll() is None
        assert opened_since(before) == []
    finally:
        swapper.kill()
        swapper.communicate()
        backend.close()
    # Both sides of the swap were really met, and nothing was made or changed outside.
    assert min(seen.values()) > 20, seen
    assert refusals <= {Errno.LOOP, Errno.NOTDIR, Errno.NOENT, Errno.EXIST}
    assert os.listdir(ground.parent / "outside") == ["f"]
    assert (ground.parent / "outside" / "f").stat().st_mtime_ns > 10**18


# The system call and its absence


def test_openat2_is_chosen_where_it_works(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    real = openat2.openat2

    def counting(dir_fd: int, path: bytes, how: openat2.OpenHow) -> int:
        calls.append(path)
        return real(dir_fd, path, how)

    monkeypatch.setattr("vfswasi.fs_backends.local.backend.openat2", counting)
    (ground / "d").mkdir()
    for choice, expected in ((None, [b"d/x"]), (True, [b"d/x"]), (False, [])):
        calls.clear()
        backend = LocalBackend(ground, use_openat2=choice)
        assert errno_of(backend.stat, ("d", "x")) is Errno.NOENT
        assert calls == expected
        backend.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_a_filtered_openat2_falls_back_to_one_open_per_component(
    ground: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def filtered(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    (ground / "d").mkdir()
    (ground / "d" / "f").write_bytes(b"x")
    (ground / "l").symlink_to("d")
    monkeypatch.setattr(openat2, "_syscall", filtered)
    backend = LocalBackend(ground)
    assert read(backend, "d", "f") == b"x"
    assert errno_of(backend.open, ("l", "f"), False) is Errno.NOTDIR
    backend.close()


def test_openat2_asks_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [errno.EAGAIN, errno.EINTR, errno.EAGAIN]

    def busy(*_: object) -> int:
        if not answers:
            return 99
        ctypes.set_errno(answers.pop())
        return -1

    monkeypatch.setattr(openat2, "_syscall", busy)
    assert openat2.openat2(0, b"x", openat2.open_how(0)) == 99
    answers[:] = [errno.EAGAIN] * 10_000
    with pytest.raises(BlockingIOError):
        openat2.openat2(0, b"x", openat2.open_how(0))
    assert len(answers) > 9000


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EACCES, ""), Errno.ACCES),
        (OSError(errno.EPERM, ""), Errno.PERM),
        (OSError(errno.EROFS, ""), Errno.ROFS),
        (OSError(errno.E2BIG, ""), Errno.TOOBIG),
        (OSError(errno.EOPNOTSUPP, ""), Errno.NOTSUP),
        (OSError(errno.EMFILE, ""), Errno.MFILE),
        (OSError(errno.ESTALE, ""), Errno.STALE),
        (OSError(errno.EXDEV, ""), Errno.XDEV),
        (OSError(errno.EREMOTEIO, ""), Errno.IO),
        (OSError("no number"), Errno.IO),
        (OverflowError(), Errno.FBIG),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, ""), Errno.ILSEQ),
        (ValueError("embedded null byte"), Errno.INVAL),
    ],
    ids=repr,
)
def test_host_errors_become_the_errno_of_the_same_name(error: Any, code: Errno) -> None:
    assert translate(error).errno is code


def test_the_cause_is_chained_for_the_hosts_log(backend: LocalBackend) -> None:
    with pytest.raises(FsError) as caught:
        backend.stat(("missing",))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_failing_calls_leak_no_descriptors(backend: LocalBackend, ground: Path) -> None:
    (ground / "d" / "e").mkdir(parents=True)
    (ground / "d" / "f").write_bytes(b"")
    os.mkfifo(ground / "d" / "fifo")
    (ground / "d" / "l").symlink_to("e")
    before = open_files()
    for _ in range(50):
        for name in ("missing", "f", "l", "fifo", "e", "n" * 300, "a\0b", ".."):
            key = ("d", name, "x")
            for call, *args in (
                (backend.stat, key),
                (backend.list, key),
                (backend.open, key, False),
                (backend.open, ("d", name), True),
                (backend.create, key),
                (backend.remove, key),
                (backend.rmdir, key),
                (backend.rename, key, ("d", name, "y")),
                (backend.rename, ("d", "f"), (*key, "z")),
                (backend.link, key, ("d", name, "y")),
                (backend.readlink, key),
                (backend.set_times, key, 1, 1),
                (backend.walk, (), (*key, "y")),
                (backend.walk, key, ("y", "z")),
            ):
                try:
                    result = call(*args)
                except FsError:
                    continue
                if call == backend.open or call == backend.create:
                    result.close()
    assert opened_since(before) == []
