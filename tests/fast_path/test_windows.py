"""What windows cost the store, and that they stay within their bounds."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from typing import Any

import pytest

import vfswasi
from tests.rawguest import ALL_FILE_RIGHTS, RawGuest
from vfswasi.engine.fast_path import access_pattern, vdso
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Buffer, Handle
from vfswasi.fs_backends.memory.backend import MemoryBackend

from . import guests

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="tests the fast path")

MIB = 1 << 20


class CountingHandle(Handle):
    def __init__(self, store: CountingStore, inner: Handle) -> None:
        self._store = store
        self._inner = inner
        self.size = inner.size  # type: ignore[method-assign]
        self.stat = inner.stat  # type: ignore[method-assign]
        self.ident = inner.ident  # type: ignore[method-assign]
        self.close = inner.close  # type: ignore[method-assign]

    def read_into(self, offset: int, buf: Buffer) -> int:
        self._store.reads.append((offset, len(buf)))
        return self._inner.read_into(offset, buf)


class CountingStore(MemoryBackend):
    """Remembers the reads of its handles as (offset, bytes)."""

    def __init__(self, tree: dict[str, Any]) -> None:
        super().__init__(tree)
        self.reads: list[tuple[int, int]] = []

    def open(self, key: Any, write: bool) -> Handle:
        return CountingHandle(self, super().open(key, write))


@pytest.fixture
def store() -> CountingStore:
    return CountingStore({"f": random.Random(1).randbytes(4 * MIB), "small": b"s" * 1000})


@pytest.fixture
def guest(store: CountingStore) -> Iterator[RawGuest]:
    """A guest whose windows are too small for the whole file."""
    with RawGuest({"/d": store}, limits=vfswasi.Limits(window_bytes=2 * MIB)) as raw:
        yield raw


def total(store: CountingStore) -> int:
    return sum(length for _, length in store.reads)


def test_scattered_small_reads_of_a_large_file_drag_little_along(store: CountingStore, guest: RawGuest) -> None:
    fd = guest.open("f")
    pick = random.Random(2)
    for _ in range(1000):
        guest.pread(fd, 16, pick.randrange(4 * MIB))
    assert total(store) < 1000 * 16 * 20
    assert len(store.reads) <= 1001


def test_sequential_small_reads_double_up(store: CountingStore, guest: RawGuest) -> None:
    fd = guest.open("f")
    data = b"".join(guest.read(fd, 256) for _ in range(4 * MIB // 256))
    assert data == store.export()["f"]
    assert total(store) <= 4 * MIB + access_pattern.LAST_BYTES
    lengths = [length for _, length in store.reads]
    assert lengths[-2] == access_pattern.LAST_BYTES
    assert len(lengths) < 4 * MIB // access_pattern.LAST_BYTES + 8


def test_large_reads_go_past_the_windows(store: CountingStore, guest: RawGuest) -> None:
    fd = guest.open("f")
    for _ in range(4 * MIB // 65536):
        guest.read(fd, 65536)
    assert store.reads == [(offset, 65536) for offset in range(0, 4 * MIB, 65536)]


def test_a_file_that_fits_is_taken_in_once(store: CountingStore) -> None:
    pick = random.Random(3)
    with RawGuest({"/d": store}) as guest:
        fd = guest.open("f")
        for _ in range(2000):
            guest.pread(fd, 16, pick.randrange(4 * MIB))
        assert (0, 4 * MIB) in store.reads
        assert len(store.reads) < 100
        for _ in range(2):
            guest.seek(fd, 0)
            for _ in range(4 * MIB // 65536):
                guest.read(fd, 65536)
        assert len(store.reads) < 100


def test_a_small_file_is_read_once(store: CountingStore, guest: RawGuest) -> None:
    fd = guest.open("small")
    for offset in range(0, 1000, 10):
        assert guest.pread(fd, 10, offset) == b"s" * 10
    assert len(store.reads) <= 2


def test_more_files_than_there_are_places() -> None:
    count = vdso.FILES_MAX + 40
    tree = {f"f{number}": b"%d" % number * 400 for number in range(count)}
    backend = MemoryBackend(dict(tree))
    with RawGuest({"/d": vfswasi.Mount(backend, rw=True)}, limits=vfswasi.Limits(window_bytes=MIB)) as guest:
        fds = {name: guest.open(name, base=ALL_FILE_RIGHTS) for name in tree}
        for _ in range(3):
            for name, fd in fds.items():
                assert guest.read(fd, 10) == tree[name][:10]
                guest.seek(fd, 0)
        for name, fd in fds.items():
            guest.write(fd, name.encode())
    assert backend.export() == {name: name.encode() + data[len(name) :] for name, data in tree.items()}


def test_more_descriptors_than_there_are_places(mount: vfswasi.Mount) -> None:
    limits = vfswasi.Limits(descriptors=vdso.DESCRIPTORS_MAX + 100)
    with RawGuest({"/d": mount}, limits=limits) as guest:
        guest.create("f", b"0123456789")
        fds = [guest.open("f") for _ in range(vdso.DESCRIPTORS_MAX + 50)]
        assert max(fds) > vdso.DESCRIPTORS_MAX
        for number, fd in enumerate(fds):
            guest.seek(fd, number % 10)
        for number, fd in enumerate(fds):
            assert guest.read(fd, 1) == b"%d" % (number % 10)
            assert guest.tell(fd) == number % 10 + 1


def test_far_offsets_and_holes(mount: vfswasi.Mount) -> None:
    """Windows at offsets that do not fit into 32 bits."""
    if mount.source == {}:
        pytest.skip("a file in memory takes as much memory as its size")
    if isinstance(mount.source, vfswasi.OverlayBackend):
        pytest.skip("an overlay holds 4 GiB, holes included")
    far = 1 << 40
    with RawGuest({"/d": mount}, limits=vfswasi.Limits(file_bytes=far, mount_bytes=far, stored_bytes=far)) as guest:
        fd = guest.create("f")
        base = 5 << 32
        guest.must("fd_filestat_set_size", fd, base)
        guest.seek(fd, 0, 2)
        for number in range(50):
            guest.write(fd, b"%04d" % number)
        assert guest.tell(fd) == base + 200
        guest.seek(fd, base - 4)
        assert guest.read(fd, 8) == bytes(4) + b"0000"
        for number in range(1, 50):
            assert guest.read(fd, 4) == b"%04d" % number
        assert guest.read(fd, 4) == b""
        assert guest.pread(fd, 4, 1 << 32) == bytes(4)


def test_a_thousand_runs_leave_nothing_behind() -> None:
    wasm = guests.writer(600, guests.REWIND + guests.repeated(300, guests.READ))
    with vfswasi.Sandbox(wasm, preopens={"/d": {}}) as sandbox:
        for _ in range(50):
            sandbox.run(check=True)
        before = _resident_bytes()
        for _ in range(1000):
            result = sandbox.run(check=True)
        assert result.fast_calls["fd_read"] > 200
        assert _resident_bytes() - before < 24 * MIB


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_reading_ahead_into_a_broken_part_is_not_the_guests_error() -> None:
    """The first bytes of a file are fine; a window would reach into what is not."""

    class Half(CountingHandle):
        def read_into(self, offset: int, buf: Buffer) -> int:
            if offset + len(buf) > 50_000:
                raise FsError(Errno.IO)
            return super().read_into(offset, buf)

    store = CountingStore({"f": b"x" * 100_000})
    plain = MemoryBackend.open
    store.open = lambda key, write: Half(store, plain(store, key, write))  # type: ignore[method-assign]
    with RawGuest({"/d": store}) as guest:
        fd = guest.open("f")
        for _ in range(100):
            assert guest.read(fd, 490) == b"x" * 490
        assert guest.call("fd_pread", fd, *guest.iovs((0x8000, 10)), 60_000, 0x100) is Errno.IO


def test_files_that_are_closed_before_it_paid_are_not_published_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is used much is all the same, after which others are again."""
    monkeypatch.setattr(fastpath, "HEAT", 4)
    files = {f"f{number}": bytes(1000) for number in range(60)}
    with RawGuest({"/d": files}) as guest:

        def answered_here(name: str, reads: int) -> int:
            fd = guest.open(name)
            before = guest.wasi._embedding.guest.fast.counters()["fd_pread"]  # type: ignore[union-attr]
            for _ in range(reads):
                guest.pread(fd, 10, 0)
            after = guest.wasi._embedding.guest.fast.counters()["fd_pread"]  # type: ignore[union-attr]
            guest.close_fd(fd)
            return int(after - before)

        assert [answered_here(f"f{number}", 6) for number in range(3)] == [1, 1, 1]
        assert sum(answered_here(f"f{number}", 6) for number in range(3, 43)) == 5, "one of eight"
        assert answered_here("f50", 2000) > 1000
        assert answered_here("f51", 6) == 1
