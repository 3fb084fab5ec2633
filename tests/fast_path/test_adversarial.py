"""What hostile stores, hostile arguments and unlucky moments could do to the fast path."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.engine.fast_path import file_entry
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Buffer, Caps, Handle, Key, ReadableBuffer
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend

from ..rawguest import RawGuest

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="tests the fast path")


class _Wrapped(Handle):
    def __init__(self, inner: Handle) -> None:
        self.inner = inner
        for name in ("write_from", "truncate", "stat", "size", "ident", "reserve", "allocate", "append", "close"):
            setattr(self, name, getattr(inner, name))

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self.inner.read_into(offset, buf)


class _Short(_Wrapped):
    """Says that there is more than it gives."""

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self.inner.read_into(offset, memoryview(buf)[: min(len(buf), max(0, 100 - offset))])


class _LyingStore(MemoryBackend):
    def open(self, key: Key, write: bool) -> Handle:
        handle = super().open(key, write)
        return _Short(handle) if key == ("lies",) else handle


def test_a_store_that_gives_less_than_it_says_shows_nothing_of_other_files() -> None:
    store = _LyingStore({"lies": bytes(60_000)})
    with RawGuest({"/d": store, "/s": {"secret": b"SECRET!!" * 7500}}) as guest:
        secret = guest.open("secret", fd=4)
        for _ in range(5):
            guest.pread(secret, 1000, 0)
        guest.close_fd(secret)
        lies = guest.open("lies", base=c.RIGHT_FD_READ | c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL)
        for _ in range(5):
            guest.pwrite(lies, b"x", 50)
        for offset in range(0, 60_000, 500):
            assert b"SECRET" not in guest.pread(lies, 500, offset)


def test_writes_near_the_largest_offset_lose_nothing(tmp_path: Path) -> None:
    top = 2**63 - 1
    (tmp_path / "f").write_bytes(b"")
    with RawGuest({"/d": vfswasi.Mount(tmp_path, rw=True)}) as guest:
        fd = guest.create("g")
        start = top - 4096
        wrote = [guest.call("fd_pwrite", fd, *guest.iovs((0x100, 16)), start + at, 0) for at in (0, 16)]
        beyond = guest.call("fd_pwrite", fd, *guest.iovs((0x100, 16)), top - 8, 0)
        assert beyond is Errno.FBIG
        if wrote == [Errno.SUCCESS, Errno.SUCCESS]:  # file systems differ in what they take
            assert guest.call("fd_sync", fd) is Errno.SUCCESS


@pytest.mark.parametrize("vdso", [True, False])
def test_a_call_that_had_an_effect_is_not_made_again(vdso: bool) -> None:
    store = MemoryBackend({"other": b""})
    store.caps |= Caps.DURABLE_WRITES
    faulty = Faulty(store, {("handle.sync", 2): Errno.DQUOT})
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}, vdso=vdso) as guest:
        other = guest.create("reserved")
        for _ in range(5):
            guest.write(other, b"kept")
        fd = guest.create("log", fdflags=c.FDFLAG_APPEND | c.FDFLAG_SYNC)
        assert guest.call("fd_write", fd, *guest.iovs((0x100, 3)), 0) is Errno.SUCCESS
        assert guest.call("fd_write", fd, *guest.iovs((0x100, 3)), 0) is Errno.DQUOT
        guest.close_fd(fd)
    assert len(store.export()["log"]) == 6


@pytest.mark.parametrize("fdflags", [0, c.FDFLAG_APPEND, c.FDFLAG_SYNC, c.FDFLAG_DSYNC | c.FDFLAG_APPEND])
def test_space_that_is_only_reserved_is_there_for_every_write(fdflags: int) -> None:
    """Also for a descriptor that is not published, and at the end of the file."""
    with RawGuest({"/d": vfswasi.Mount(MemoryBackend({}, max_bytes=40_000), rw=True)}) as guest:
        reserving = guest.create("reserving")
        for _ in range(20):
            guest.write(reserving, b"kept")
        fd = guest.create("large", fdflags=fdflags)
        assert guest.write(fd, b"x" * 35_000) == 35_000
        assert guest.call("fd_write", fd, *guest.iovs((0x8000, 10_000)), 0) is Errno.NOSPC


@pytest.mark.parametrize("vdso", [True, False])
def test_the_error_of_a_close_is_the_closes_own(vdso: bool) -> None:
    faulty = Faulty(MemoryBackend({}), {("handle.close", 1): Errno.NOSPC})
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}, vdso=vdso) as guest:
        other = guest.create("reserved")
        for _ in range(5):
            guest.write(other, b"kept")
        fd = guest.create("new")
        assert guest.call("fd_close", fd) is Errno.NOSPC
        assert guest.call("fd_close", fd) is Errno.BADF


def test_leases_end_and_begin_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file_entry, "LEASE", 50)
    with RawGuest({"/d": {"f": b"x" * 1000}}) as guest:
        fd = guest.open("f")
        for _ in range(500):
            guest.pread(fd, 1, 5)
        fast = guest.wasi._embedding.guest.fast  # type: ignore[union-attr]
        assert fast is not None
        assert fast.counters()["fd_pread"] > 400

    path = tmp_path / "f"
    path.write_bytes(b"x" * 300_000)
    with RawGuest({"/d": tmp_path}) as guest:
        fd = guest.open("f")
        for at in range(0, 10_000, 10):
            guest.pread(fd, 10, at)
        with path.open("ab") as file:
            file.write(b"more")
        sizes = []
        for at in range(10_000, 60_000, 10):  # windows move meanwhile
            guest.pread(fd, 10, at)
            sizes.append(guest.fstat(fd).size)
        assert sizes[file_entry.SHARED_LEASE + 10 :] == [300_004] * (len(sizes) - file_entry.SHARED_LEASE - 10)


def test_what_could_not_be_given_back_is_tried_again() -> None:
    store = MemoryBackend({"f": b"o" * 100})
    faulty = Faulty(store)
    first = RawGuest({"/d": vfswasi.Mount(faulty, rw=True)})
    fd = first.open("f", base=c.RIGHT_FD_READ | c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL)
    for _ in range(5):
        first.pwrite(fd, b"n", 0)
    faulty.fail = {("handle.write_from", faulty.counts["handle.write_from"] + 1): Errno.IO}
    with RawGuest({"/d": vfswasi.Mount(faulty, rw=True)}) as second:
        first.tell(fd)
        first.tell(fd)
        other = second.open("f", base=c.RIGHT_FD_READ | c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL)
        assert second.pread(other, 1, 0) == b"n"
        second.pwrite(other, b"2", 50)
        for _ in range(10):
            assert first.pread(fd, 1, 50) == b"2"
    first.close()


def test_a_reservation_that_cannot_be_given_back_costs_no_run() -> None:
    class Stubborn(_Wrapped):
        def __init__(self, inner: Handle) -> None:
            super().__init__(inner)
            self.reserve = self._reserve  # type: ignore[method-assign]

        def _reserve(self, offset: int, length: int) -> bool:
            if not length:
                raise FsError(Errno.IO)
            return self.inner.reserve(offset, length)

    class Store(MemoryBackend):
        def create(self, key: Key) -> Handle:
            return Stubborn(super().create(key))

    store = Store({})
    with RawGuest({"/d": store}) as guest:
        fd = guest.create("f")
        for _ in range(10):
            guest.write(fd, b"data")
        assert guest.call("fd_close", fd) is Errno.SUCCESS
    assert store.export() == {"f": b"data" * 10}


def test_a_store_that_only_appends() -> None:
    class Appends(_Wrapped):
        def __init__(self, inner: Handle) -> None:
            super().__init__(inner)
            self.write_from = self._refuse  # type: ignore[method-assign]
            self.reserve = lambda offset, length: False  # type: ignore[method-assign]

        def _refuse(self, offset: int, buf: ReadableBuffer) -> None:
            raise FsError(Errno.NOTSUP)

    class Store(MemoryBackend):
        caps = MemoryBackend.caps & ~Caps.RANDOM_WRITE

        def create(self, key: Key) -> Handle:
            return Appends(super().create(key))

    store = Store({})
    with RawGuest({"/d": store}) as guest:
        fd = guest.create("log", fdflags=c.FDFLAG_APPEND)
        for _ in range(10):
            assert guest.write(fd, b"line\n") == 5
        assert guest.fstat(fd).size == 50
        guest.close_fd(fd)
    assert store.export() == {"log": b"line\n" * 10}


def test_closing_one_of_two_descriptors_writes_back() -> None:
    store = MemoryBackend({"f": b""})
    rights = c.RIGHT_FD_READ | c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL
    with RawGuest({"/d": store}) as guest:
        one, two = guest.open("f", base=rights), guest.open("f", base=rights)
        for _ in range(10):
            guest.write(one, b"0123456789")
        guest.close_fd(two)
        assert len(store.export()["f"]) == 100
        guest.close_fd(one)


def test_a_callable_for_output_sees_the_files_as_the_guest_left_them() -> None:
    store = MemoryBackend({})
    seen: list[int] = []
    with RawGuest({"/d": store}, stdout=lambda data: seen.append(len(store.export().get("f", b"")))) as guest:
        fd = guest.create("f")
        for _ in range(10):
            guest.write(fd, b"x" * 16)
        guest.write(1, b"look")
    assert seen == [160]


def test_closing_a_wasi_object_publishes_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "new.zip"
    for vdso in (True, False):
        path.unlink(missing_ok=True)
        with RawGuest({"/z": vfswasi.Mount(path, rw=True)}, vdso=vdso) as guest:
            fd = guest.create("f")
            guest.write(fd, b"zipped")
        with zipfile.ZipFile(path) as archive:
            assert archive.read("f") == b"zipped"


def test_a_store_that_goes_while_others_join(tmp_path: Path) -> None:
    """A run whose store is dropped, while another thread starts runs on the same files: nobody touches what is gone."""
    shared = MemoryBackend({"f": b"x" * 1000})
    over = threading.Event()

    def join() -> None:
        while not over.is_set():
            with vfswasi.WASI(version="preview1", preopens={"/d": shared}):
                pass

    thread = threading.Thread(target=join)
    thread.start()
    try:
        for _ in range(60):
            guest = RawGuest({"/d": shared})
            fd = guest.open("f")
            for _ in range(5):
                guest.pread(fd, 10, 0)
            guest.store.close()
            del guest
    finally:
        over.set()
        thread.join()
