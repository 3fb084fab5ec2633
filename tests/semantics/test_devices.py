"""Devices: what stands behind the names of a `DeviceBackend`, held against what Linux does where it can be asked."""

from __future__ import annotations

import contextlib
import errno as errno_module
import os
import stat as stat_module
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Caps, Device, DirEntry, FileType, Stat
from vfswasi.fs_backends.devices import DeviceBackend
from vfswasi.fs_backends.layers.readonly import ReadOnly
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.kernel import rights
from vfswasi.kernel.clocks import DeadlinePassed
from vfswasi.kernel.entropy import SeededEntropy
from vfswasi.kernel.paths.open import open_at
from vfswasi.kernel.process import Preopen, Process

from ..fs_backends import tar_forge, zip_forge
from ..rawguest import ALL_FILE_RIGHTS, FREE, READ, GuestErrno, RawGuest, pack_subscriptions, unpack_events

NAMES = ["full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"]
PLAIN = ["null", "zero", "full", "random", "urandom"]
STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
WRITE = c.RIGHT_FD_WRITE
BOTH = READ | WRITE


def make(preopens: dict[str, Any] | None = None, **options: Any) -> RawGuest:
    return RawGuest({"/dev": DeviceBackend(), **(preopens or {})}, **options)


@pytest.fixture(params=[True, False], ids=["fast path", "python"])
def vdso(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def guest(vdso: bool) -> Iterator[RawGuest]:
    with make({"/d": {}}, stdin=b"typed", vdso=vdso) as raw:
        yield raw


# Looking


def test_all_are_listed_as_character_devices(guest: RawGuest) -> None:
    entries = {entry.name.decode(): entry for entry in guest.readdir(guest.opendir("."))}
    assert sorted(entries) == [".", "..", *NAMES]
    idents = {guest.stat(".").ino}
    for name in NAMES:
        seen = guest.stat(name)
        assert (seen.filetype, seen.size, seen.nlink) == (FileType.CHARACTER_DEVICE, 0, 1)
        assert (entries[name].filetype, entries[name].ino) == (seen.filetype, seen.ino)
        idents.add(seen.ino)
    assert len(idents) == len(NAMES) + 1


@pytest.mark.parametrize("name", PLAIN)
def test_an_opened_device_has_the_attributes_of_its_name(guest: RawGuest, name: str) -> None:
    fd = guest.open(name, base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
    assert guest.fstat(fd) == guest.stat(name)
    assert guest.fdstat(fd) == (FileType.CHARACTER_DEVICE, c.FDFLAG_APPEND, rights.DEVICE, 0)


def test_a_device_is_no_terminal(guest: RawGuest) -> None:
    """wasi-libc takes a character device without SEEK and TELL for one."""
    assert guest.fdstat(guest.open("null")).base & (c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL)


# Opening


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("oflags", "errno"),
    [
        (0, Errno.SUCCESS),
        (c.OFLAG_CREAT, Errno.SUCCESS),
        (c.OFLAG_TRUNC, Errno.SUCCESS),
        (c.OFLAG_CREAT | c.OFLAG_TRUNC, Errno.SUCCESS),
        (c.OFLAG_CREAT | c.OFLAG_EXCL, Errno.EXIST),
        (c.OFLAG_DIRECTORY, Errno.NOTDIR),
    ],
)
def test_the_flags_of_open(guest: RawGuest, name: str, oflags: int, errno: Errno) -> None:
    assert guest.try_open(name, oflags=oflags, base=BOTH)[0] is errno


@pytest.mark.parametrize("name", PLAIN)
def test_linux_says_the_same_about_those_flags(name: str) -> None:
    for flags in (os.O_CREAT, os.O_TRUNC, os.O_CREAT | os.O_TRUNC):
        os.close(os.open(f"/dev/{name}", os.O_RDWR | flags))
    for flags, expected in ((os.O_CREAT | os.O_EXCL, FileExistsError), (os.O_DIRECTORY, NotADirectoryError)):
        with pytest.raises(expected):
            os.open(f"/dev/{name}", os.O_RDWR | flags)


def test_paths_through_and_beside_devices(guest: RawGuest) -> None:
    assert guest.try_open("null/x")[0] is Errno.NOTDIR
    assert guest.try_open("null/")[0] is Errno.NOTDIR
    assert guest.try_open("missing", base=BOTH)[0] is Errno.NOENT
    assert guest.try_open("missing", oflags=c.OFLAG_CREAT, base=BOTH)[0] is Errno.ROFS
    assert guest.try_open("missing", oflags=c.OFLAG_CREAT | c.OFLAG_EXCL, base=BOTH)[0] is Errno.ROFS
    assert guest.try_open(".", base=BOTH)[0] is Errno.ISDIR
    assert guest.try_open("x", fd=guest.open("null"))[0] is Errno.NOTDIR


def test_nothing_else_can_be_done_to_them(guest: RawGuest) -> None:
    for errno in (
        guest.unlink("null"),
        guest.mkdir("new"),
        guest.rmdir("null"),
        guest.rename("null", "new"),
        guest.symlink("null", "new"),
        guest.link("null", "new"),
        guest.call("path_filestat_set_times", 3, 0, *guest.text("null"), 1, 1, c.FSTFLAG_ATIM),
    ):
        assert errno is Errno.ROFS


def test_the_rights_asked_for_decide(guest: RawGuest) -> None:
    reads, writes = guest.open("zero", base=READ), guest.open("zero", base=WRITE)
    assert guest.read(reads, 3) == b"\0\0\0"
    assert guest.call("fd_write", reads, *guest.iovs((FREE, 3)), FREE + 64) is Errno.NOTCAPABLE
    assert guest.write(writes, b"abc") == 3
    assert guest.call("fd_read", writes, *guest.iovs((FREE, 3)), FREE + 64) is Errno.NOTCAPABLE
    guest.must("fd_fdstat_set_rights", reads, READ & ~c.RIGHT_FD_READ, 0)
    assert guest.call("fd_read", reads, *guest.iovs((FREE, 3)), FREE + 64) is Errno.NOTCAPABLE


def test_a_directory_that_hands_down_no_right_to_write_gives_none(guest: RawGuest) -> None:
    directory = guest.open(".", oflags=c.OFLAG_DIRECTORY, base=c.RIGHT_PATH_OPEN, inheriting=READ)
    assert guest.try_open("null", fd=directory, base=WRITE)[0] is Errno.NOTCAPABLE
    assert guest.read(guest.open("null", fd=directory), 10) == b""


def test_what_the_preopen_hands_down_allows_to_write_and_no_other_change(guest: RawGuest) -> None:
    """wasi-libc asks for no right that it does not see here."""
    assert guest.fdstat(3).inheriting & rights.MUTATING == WRITE
    assert guest.fdstat(3).base & rights.MUTATING == 0


@pytest.mark.parametrize("readonly", [True, False])
def test_it_makes_no_difference_whether_the_mount_is_read_only(readonly: bool) -> None:
    backend: Backend = ReadOnly(DeviceBackend()) if readonly else DeviceBackend()
    with make() as guest:
        process = guest.wasi._process
        process._add_preopen(Preopen("/other", backend, readonly), (1 << 30) - 1)
        fd = guest.open("null", fd=4, oflags=c.OFLAG_CREAT | c.OFLAG_TRUNC, base=BOTH)
        assert guest.write(fd, b"abc") == 3
        assert guest.try_open("null", fd=4, oflags=c.OFLAG_CREAT | c.OFLAG_EXCL, base=BOTH)[0] is Errno.EXIST


class _WithFiles(MemoryBackend):
    """A file, a device that may be opened, and one that was merely found."""

    caps = MemoryBackend.caps | Caps.DEVICES

    def stat(self, key: tuple[str, ...]) -> Stat:
        found = super().stat(key)
        return found._replace(filetype=FileType.CHARACTER_DEVICE) if key and key[-1] != "file" else found

    def walk(self, key: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, Stat | None]:
        return Backend.walk(self, key, names)

    def list(self, key: tuple[str, ...]) -> list[DirEntry]:
        return [DirEntry(entry.name, self.stat((entry.name,)).filetype, entry.ident) for entry in super().list(key)]

    def device(self, key: tuple[str, ...]) -> Device | None:
        return Device.NULL if key == ("null",) else None


def test_files_beside_devices_stay_read_only() -> None:
    source = vfswasi.Mount(_WithFiles({"file": b"data", "null": b"", "found": b""}), rw=False)
    with RawGuest({"/d": source}) as guest:
        assert guest.write(guest.open("null", base=BOTH), b"abc") == 3
        for oflags, base in ((0, WRITE), (c.OFLAG_TRUNC, READ), (c.OFLAG_CREAT | c.OFLAG_TRUNC, BOTH)):
            assert guest.try_open("file", oflags=oflags, base=base)[0] is Errno.ROFS
        assert guest.contents("file") == b"data"
        for base in (READ, WRITE):
            assert guest.try_open("found", base=base)[0] is Errno.ACCES
        assert guest.call("fd_write", guest.open("file"), *guest.iovs((FREE, 1)), FREE + 64) is Errno.ROFS


def test_device_nodes_of_other_stores_are_not_opened(tmp_path: Path) -> None:
    class Found(MemoryBackend):
        def stat(self, key: tuple[str, ...]) -> Stat:
            found = super().stat(key)
            return found._replace(filetype=FileType.CHARACTER_DEVICE) if key else found

        walk = Backend.walk

        def device(self, key: tuple[str, ...]) -> Device | None:
            raise AssertionError("nobody asks a store without Caps.DEVICES")

    with RawGuest({"/d": Found({"null": b""})}) as guest:
        assert guest.try_open("null")[0] is Errno.ACCES
    with RawGuest({"/d": "/dev"}) as guest:
        assert guest.try_open("null")[0] is Errno.ACCES


def test_a_device_in_an_archive_is_not_opened() -> None:
    """Whoever made the archive does not decide what the guest may reach, not even under these names."""
    zipped = zip_forge.forge(*[zip_forge.Entry(name, b"", mode=stat_module.S_IFCHR | 0o666) for name in NAMES])
    tarred = tar_forge.forge(*[tar_forge.member(name, kind=b"3") for name in NAMES])
    for backend in (zip_forge.mount(zipped), tar_forge.mount(tarred)):
        with contextlib.closing(backend), RawGuest({"/dev": backend}) as guest:
            for name in NAMES:
                assert guest.stat(name).filetype == FileType.CHARACTER_DEVICE
                assert guest.try_open(name, base=READ)[0] is Errno.ACCES
                assert guest.try_open(name, base=WRITE)[0] is Errno.ROFS
                assert guest.try_open(name, oflags=c.OFLAG_TRUNC)[0] is Errno.ROFS


# Reading and writing


@pytest.mark.parametrize("name", PLAIN)
def test_they_do_what_those_of_linux_do(guest: RawGuest, name: str) -> None:
    fd, host = guest.open(name, base=ALL_FILE_RIGHTS), os.open(f"/dev/{name}", os.O_RDWR)
    try:
        for size in (0, 1, 1000):
            here, there = guest.read(fd, size), os.read(host, size)
            assert len(here) == len(there)
            assert len(guest.pread(fd, size, 77)) == len(os.pread(host, size, 77))
            if "random" not in name:
                assert here == there
        for write, host_write in (
            (lambda data: guest.write(fd, data), lambda data: os.write(host, data)),
            (lambda data: guest.pwrite(fd, data, 5), lambda data: os.pwrite(host, data, 5)),
        ):
            for data in (b"", b"abc"):
                assert _outcome(write, data) == _outcome(host_write, data)
        for offset, whence in ((5, 0), (7, 2), (0, 1), (-3, 1)):
            assert guest.seek(fd, offset, whence) == os.lseek(host, offset, whence) == 0
        assert guest.tell(fd) == 0
        assert guest.call("fd_seek", fd, 0, 3, FREE) is Errno.INVAL
        for function, args, ask in (
            ("fd_sync", (), os.fsync),
            ("fd_datasync", (), os.fdatasync),
            ("fd_filestat_set_size", (0,), lambda one: os.ftruncate(one, 0)),
            ("fd_allocate", (0, 1), lambda one: os.posix_fallocate(one, 0, 1)),
            ("fd_advise", (0, 0, 0), lambda one: os.posix_fadvise(one, 0, 0, 0)),
        ):
            here_errno = guest.call(function, fd, *args)
            assert here_errno.name == (_outcome(ask, host) or "SUCCESS"), function
    finally:
        os.close(host)


def _outcome(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except GuestErrno as error:
        return error.errno.name
    except OSError as error:
        return errno_module.errorcode[error.errno or 0][1:]


def test_other_calls_on_a_device(guest: RawGuest) -> None:
    fd = guest.open("zero", base=ALL_FILE_RIGHTS)
    for name in ("fd_pread", "fd_pwrite"):
        assert guest.call(name, fd, *guest.iovs((FREE, 1)), 2**63, FREE + 64) is Errno.INVAL
    assert guest.call("fd_filestat_set_times", fd, 1, 1, c.FSTFLAG_ATIM) is Errno.ROFS
    assert guest.call("fd_readdir", fd, FREE, 100, 0, FREE + 200) is Errno.NOTDIR
    assert guest.call("fd_prestat_get", fd, FREE) is Errno.BADF
    assert guest.call("sock_shutdown", fd, 1) is Errno.NOTSOCK
    for flags in (c.FDFLAG_APPEND, c.FDFLAGS_ALL, 0):
        guest.must("fd_fdstat_set_flags", fd, flags)
        assert guest.fdstat(fd).flags == flags


def test_several_buffers_are_all_filled(guest: RawGuest) -> None:
    fd = guest.open("zero", base=BOTH)
    guest.poke(FREE, b"\xff" * 64)
    guest.must("fd_read", fd, *guest.iovs((FREE, 5), (FREE + 9, 0), (FREE + 10, 7)), FREE + 100)
    assert guest.u32(FREE + 100) == 12
    assert guest.peek(FREE, 20) == bytes(5) + b"\xff" * 5 + bytes(7) + b"\xff" * 3
    guest.must("fd_write", fd, *guest.iovs((FREE, 5), (FREE, 7)), FREE + 100)
    assert guest.u32(FREE + 100) == 12


@pytest.mark.parametrize("name", ["null", "zero"])
def test_counts_stay_within_32_bits_when_buffers_overlap(name: str) -> None:
    """65,536 iovecs may describe the same bytes again and again."""
    process = Process(preopens=[Preopen("/dev", DeviceBackend(), True)])
    fd = open_at(process, 3, False, name, 0, BOTH, 0, 0)
    huge = [memoryview(bytes(1 << 28))] * 17
    assert process.fds.get(fd, 0).write(huge, process.deadline) == 2**32 - 1


def _seeded(seed: int, *, vdso: bool) -> RawGuest:
    guest = make(vdso=vdso)
    guest.wasi._process.entropy = SeededEntropy(seed)
    return guest


@pytest.mark.parametrize("name", ["random", "urandom"])
def test_random_bytes_are_those_of_the_run(vdso: bool, name: str) -> None:
    def take(how: str) -> bytes:
        with _seeded(7, vdso=vdso) as guest:
            fd = guest.open(name)
            data = b""
            for size in (1, 100, 5000):
                if how == "device":
                    data += guest.read(fd, size)
                else:
                    guest.must("random_get", FREE, size)
                    data += guest.peek(FREE, size)
            return data

    assert take("device") == take("call")
    with _seeded(8, vdso=vdso) as other:
        assert other.read(other.open(name), 100) != take("device")[1:101]
    with make(vdso=vdso) as unseeded:
        fd = unseeded.open(name)
        assert unseeded.read(fd, 32) != unseeded.read(fd, 32)


def test_random_get_and_the_device_share_one_sequence(vdso: bool) -> None:
    with _seeded(7, vdso=False) as guest:
        guest.must("random_get", FREE, 300)
        expected = guest.peek(FREE, 300)
    with _seeded(7, vdso=vdso) as guest:
        fd = guest.open("urandom")
        got = b""
        for _ in range(10):
            guest.must("random_get", FREE, 10)
            got += guest.peek(FREE, 10) + guest.read(fd, 20)
    assert got == expected


@pytest.mark.parametrize("name", ["zero", "urandom"])
def test_a_huge_read_copies_in_pieces_and_obeys_the_deadline(name: str) -> None:
    sizes: list[int] = []

    def entropy(count: int) -> bytes:
        sizes.append(count)
        return b"\x01" * count

    process = Process(preopens=[Preopen("/dev", DeviceBackend(), True)], entropy=entropy)
    fd = open_at(process, 3, False, name, 0, READ, 0, 0)
    buffer = bytearray(b"\xff" * (5 << 20) + b"\xff")
    assert process.fds.get(fd, 0).read([memoryview(buffer)], process.deadline) == len(buffer)
    assert buffer == (b"\0" if name == "zero" else b"\x01") * len(buffer)
    assert all(size <= 1 << 20 for size in sizes)
    process.deadline.at_ns = time.monotonic_ns() + 20_000_000
    with pytest.raises(DeadlinePassed):
        process.fds.get(fd, 0).read([memoryview(buffer)] * 800, process.deadline)


# Standard streams


def test_they_are_the_streams(guest: RawGuest) -> None:
    assert guest.read(guest.open("stdin"), 3) == b"typ"
    assert guest.read(0, 10) == b"ed"
    for name, standard in STANDARD.items():
        fd = guest.open(name, base=BOTH)
        assert guest.fstat(fd) == guest.fstat(standard)
        assert guest.fdstat(fd).filetype == guest.fdstat(standard).filetype
        for whence in (0, 1):
            assert guest.call("fd_seek", fd, 0, whence, FREE) is Errno.SPIPE
        assert guest.call("fd_pread", fd, *guest.iovs((FREE, 1)), 0, FREE + 64) is Errno.SPIPE


def test_output_keeps_its_order_over_all_descriptors(vdso: bool) -> None:
    with make(vdso=vdso) as guest:
        fds = [1, guest.open("stdout", base=WRITE), guest.open("stdout", base=BOTH, fdflags=c.FDFLAG_APPEND), 2]
        for number in range(200):
            guest.write(fds[number % 4], b"%d." % number)
        guest.wasi._process.fds.get(1, 0).sink.collect()  # type: ignore[attr-defined]
        streams = [guest.wasi._process.fds.get(fd, 0) for fd in (1, 2)]
        got = [stream.sink.getvalue() for stream in streams]  # type: ignore[attr-defined]
    assert got[0] == b"".join(b"%d." % number for number in range(200) if number % 4 != 3)


def test_the_limit_of_the_output_is_shared(vdso: bool) -> None:
    with make(limits=vfswasi.Limits(output_bytes=100), vdso=vdso) as guest:
        fd = guest.open("stdout", base=WRITE)
        assert guest.write(1, b"x" * 60) == 60
        assert guest.write(fd, b"y" * 60) == 40
        for one in (1, fd):
            assert guest.call("fd_write", one, *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOSPC


def test_closing_one_leaves_the_other(guest: RawGuest) -> None:
    fd = guest.open("stdin")
    guest.close_fd(fd)
    assert guest.read(0, 2) == b"ty"
    fd = guest.open("stdin")
    guest.close_fd(0)
    assert guest.read(fd, 9) == b"ped"
    fd = guest.open("stdout", base=WRITE)
    guest.close_fd(1)
    assert guest.write(fd, b"still") == 5


@pytest.mark.parametrize("name", STANDARD)
def test_a_standard_descriptor_that_was_closed_is_nxio(guest: RawGuest, name: str) -> None:
    guest.close_fd(STANDARD[name])
    assert guest.try_open(name, base=BOTH)[0] is Errno.NXIO
    assert guest.stat(name).filetype == FileType.CHARACTER_DEVICE


def test_a_stream_gives_only_what_it_can_and_what_was_asked_for(guest: RawGuest) -> None:
    for name, lacking in (("stdin", "fd_write"), ("stdout", "fd_read")):
        assert guest.call(lacking, guest.open(name, base=BOTH), *guest.iovs((FREE, 1)), FREE + 64) is Errno.BADF
    assert guest.call("fd_read", guest.open("stdin", base=WRITE), *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOTCAPABLE
    guest.must("fd_fdstat_set_rights", 1, 0, 0)
    again = guest.open("stdout", base=WRITE)
    assert guest.call("fd_write", again, *guest.iovs((FREE, 1)), FREE + 64) is Errno.NOTCAPABLE, "lost is lost"


def test_a_file_in_place_of_a_standard_stream_is_opened_again(guest: RawGuest) -> None:
    guest.must("fd_renumber", guest.create("out", b"first", fd=4), 1)
    fd = guest.open("stdout", base=BOTH)
    assert guest.fstat(fd) == guest.fstat(1) == guest.stat("out", fd=4)
    assert guest.read(fd, 9) == b"first"
    guest.close_fd(1)
    assert guest.write(fd, b" more") == 5
    guest.close_fd(fd)
    assert guest.contents("out", fd=4) == b"first more"
    guest.must("fd_renumber", guest.create("out", b"second", fd=4), 2)
    guest.close_fd(guest.open("stderr", oflags=c.OFLAG_TRUNC, base=WRITE))
    assert guest.contents("out", fd=4) == b""


def test_a_file_that_may_only_be_read_stays_so(vdso: bool) -> None:
    source = vfswasi.Mount(MemoryBackend({"in": b"data"}), rw=False)
    with make({"/d": source}, vdso=vdso) as guest:
        guest.must("fd_renumber", guest.open("in", fd=4), 0)
        assert guest.try_open("stdin", oflags=c.OFLAG_TRUNC, base=BOTH)[0] is Errno.ROFS
        fd = guest.open("stdin", base=BOTH)
        assert guest.call("fd_write", fd, *guest.iovs((FREE, 1)), FREE + 64) is Errno.ROFS
        assert guest.read(fd, 9) == b"data"


def test_another_device_or_a_directory_in_place_of_a_standard_stream(guest: RawGuest) -> None:
    guest.must("fd_renumber", guest.open("null", base=BOTH), 1)
    fd = guest.open("stdout", base=BOTH)
    assert guest.write(fd, b"gone") == 4
    assert guest.fstat(fd) == guest.stat("null")
    guest.must("fd_renumber", guest.opendir("."), 1)
    assert guest.try_open("stdout", base=BOTH)[0] is Errno.NXIO


Poll = Callable[..., list[tuple[int, int, int]]]


def _poll_of(guest: RawGuest) -> Poll:
    """`poll_oneoff` with subscriptions: (userdata, bytes, flags) of each event."""

    def poll(*subscriptions: tuple[Any, ...]) -> list[tuple[int, int, int]]:
        guest.poke(FREE, pack_subscriptions(guest.abi, subscriptions))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, len(subscriptions), FREE + 0x2000)
        events = unpack_events(guest.peek(FREE + 0x1000, 32 * guest.u32(FREE + 0x2000)))
        assert all(event.errno == Errno.SUCCESS for event in events)
        return [(event.userdata, event.nbytes, event.flags) for event in events]

    return poll


@pytest.mark.parametrize("name", PLAIN)
def test_a_device_is_always_ready(guest: RawGuest, name: str) -> None:
    fd = guest.open(name, base=BOTH)
    hour = (3, "clock", c.CLOCK_MONOTONIC, 3600 * 10**9, 0)
    assert _poll_of(guest)((1, "read", fd), (2, "write", fd), hour) == [(1, 0, 0), (2, 0, 0)]


def test_polling_input_waits_for_what_is_behind_it() -> None:
    read_end, write_end = os.pipe()
    try:
        with make(stdin=read_end) as guest:
            poll, null, stdin = _poll_of(guest), guest.open("null", base=BOTH), guest.open("stdin")
            soon = (9, "clock", c.CLOCK_MONOTONIC, 1000, 0)
            assert poll((1, "read", stdin), soon) == [(9, 0, 0)]
            assert poll((1, "read", stdin), (2, "read", null)) == [(2, 0, 0)]
            os.write(write_end, b"hello")
            assert poll((1, "read", stdin), (2, "read", 0)) == [(1, 5, 0), (2, 5, 0)]
            assert guest.read(stdin, 9) == b"hello"
            assert poll((1, "read", 0), soon) == [(9, 0, 0)]
            os.close(write_end)
            write_end = -1
            assert poll((1, "read", stdin)) == [(1, 0, c.EVENTRWFLAG_HANGUP)]
    finally:
        for fd in (read_end, write_end):
            if fd >= 0:
                os.close(fd)


def test_polling_output_waits_for_room() -> None:
    read_end, write_end = os.pipe()
    try:
        with make(stdout=write_end) as guest:
            poll, stdout = _poll_of(guest), guest.open("stdout", base=BOTH)
            assert poll((1, "write", stdout)) == [(1, 0, 0)]
            os.set_blocking(write_end, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(write_end, bytes(4096))
            soon = (9, "clock", c.CLOCK_MONOTONIC, 1000, 0)
            assert poll((1, "write", stdout), soon) == [(9, 0, 0)]
            os.read(read_end, 1 << 16)
            assert poll((1, "write", stdout)) == [(1, 0, 0)]
    finally:
        os.close(read_end)
        os.close(write_end)


def test_polling_needs_the_rights_to_read_or_write(guest: RawGuest) -> None:
    for name, base, errno in (("null", READ, Errno.NOTCAPABLE), ("stdin", BOTH, Errno.BADF)):
        fd = guest.open(name, base=base)
        guest.poke(FREE, pack_subscriptions(guest.abi, [(1, "write", fd)]))
        guest.must("poll_oneoff", FREE, FREE + 0x1000, 1, FREE + 0x2000)
        assert unpack_events(guest.peek(FREE + 0x1000, 32))[0].errno == errno


def test_a_terminal_stays_one() -> None:
    ours, theirs = os.openpty()
    try:
        with make(stdout=theirs) as guest:
            seen = guest.fdstat(guest.open("stdout", base=WRITE))
            assert seen.filetype == FileType.CHARACTER_DEVICE
            assert not seen.base & (c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL)
    finally:
        os.close(ours)
        os.close(theirs)


# The backend alone


def test_the_backend() -> None:
    backend = DeviceBackend()
    assert stat_module.S_ISCHR(os.stat("/dev/null").st_mode), "Linux agrees that it is one"
    assert backend.stat(()).filetype is FileType.DIRECTORY
    assert backend.device(("null",)) is Device.NULL
    assert backend.device(()) is backend.device(("null", "x")) is backend.device(("x",)) is None
    for call, args, errno in (
        (backend.stat, (("x",),), Errno.NOENT),
        (backend.stat, (("null", "x"),), Errno.NOTDIR),
        (backend.list, (("null",),), Errno.NOTDIR),
        (backend.list, (("x",),), Errno.NOENT),
        (backend.open, (("null",), False), Errno.ACCES),
        (backend.open, ((), False), Errno.ISDIR),
        (backend.create, (("null",),), Errno.EXIST),
        (backend.create, (("x",),), Errno.ROFS),
        (backend.create, (("null", "x"),), Errno.NOTDIR),
        (backend.readlink, (("null",),), Errno.INVAL),
        (backend.remove, (("null",),), Errno.ROFS),
    ):
        with pytest.raises(FsError) as caught:
            call(*args)
        assert caught.value.errno is errno, (call, args)
    assert ReadOnly(backend).device(("zero",)) is Device.ZERO
    assert Backend().device(()) is None
