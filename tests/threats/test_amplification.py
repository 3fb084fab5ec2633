"""E5: what small calls of a guest cost below it: calls of the store, bytes moved, bytes inflated. Each has a bound.

Object stores, where the same is counted in requests, are in tests/storage.
"""

from __future__ import annotations

import io
import random
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Buffer, Handle, Key, ReadableBuffer
from vfswasi.fs_backends.layers.faulty import Faulty

from ..fs_backends.zip_forge import DEFLATED, Entry, forge
from ..kernel.test_weak_stores import WeakStore, _WeakHandle
from ..rawguest import ALL_FILE_RIGHTS, RawGuest

MIB = 1 << 20
FAST = pytest.mark.parametrize("vdso", [False, True])


class Counted(Faulty):
    """A store that counts its calls, and the bytes that are read and written."""

    def __init__(self, inner: vfswasi.Backend) -> None:
        super().__init__(_Bytes(inner))
        self.bytes = self.inner.bytes  # type: ignore[attr-defined]


class _Bytes(vfswasi.Backend):
    def __init__(self, inner: vfswasi.Backend) -> None:
        self.inner = inner
        self.caps = inner.caps
        self.bytes = {"read": 0, "written": 0}
        for name in ("stat walk list listing_version device mkdir rmdir remove rename symlink readlink link set_times "
                     "finish close take_uncommitted traffic").split():  # fmt: skip
            setattr(self, name, getattr(inner, name))

    @property
    def identity(self) -> object:
        return self.inner.identity

    def open(self, key: Key, write: bool) -> Handle:
        return self._counted(self.inner.open(key, write))

    def create(self, key: Key) -> Handle:
        return self._counted(self.inner.create(key))

    def _counted(self, handle: Handle) -> Handle:
        return _BytesHandle(handle, self.bytes)


class _BytesHandle(Handle):
    def __init__(self, inner: Handle, count: dict[str, int]) -> None:
        self.inner, self.count = inner, count
        names = "truncate size stat ident set_times allocate reserve advise sync close discard"
        for name in names.split():
            setattr(self, name, getattr(inner, name))

    def read_into(self, offset: int, buf: Buffer) -> int:
        got = self.inner.read_into(offset, buf)
        self.count["read"] += got
        return got

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self.count["written"] += len(buf)
        self.inner.write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        self.count["written"] += len(buf)
        return self.inner.append(buf)


# Directories.


@FAST
@pytest.mark.parametrize("size", [300, 4096])
def test_e5_a_directory_is_listed_once_however_small_the_buffer(size: int, vdso: bool) -> None:
    store = Counted(vfswasi.MemoryBackend({f"name-{number:05}": b"" for number in range(3000)}))
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=vdso) as guest:
        store.counts.clear()
        assert len(guest.readdir(3, size)) == 3002
        assert store.counts["list"] == 1
        assert store.counts.total() <= 5
        for cookie in random.Random(1).sample(range(1, 3002), 500):
            guest.readdir_raw(3, size, cookie)
        assert store.counts["list"] == 1
        for _ in range(100):
            guest.readdir_raw(3, size, 0)
        assert store.counts["list"] <= 101, "a rewind lists again, and no more than that"
        assert store.counts["walk"] + store.counts["stat"] <= 210


def test_e5_each_directory_descriptor_lists_for_itself_and_once() -> None:
    store = Counted(vfswasi.MemoryBackend({f"name-{number:05}": b"" for number in range(500)}))
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        fds = [guest.opendir(".") for _ in range(20)]
        store.counts.clear()
        for fd in fds * 3:
            guest.readdir_raw(fd, 4096, 7)
        assert store.counts["list"] <= 20


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_e5_many_snapshots_of_long_directories_share_a_bounded_memory(kind: str, tmp_path: Path) -> None:
    """Each descriptor has another one, since the directory changes in between."""
    tree: Any = tmp_path if kind == "local" else {}
    with RawGuest({"/d": vfswasi.Mount(tree, rw=True)}) as guest:
        for number in range(4_000):
            guest.close_fd(guest.create(f"{number:0220}"))
        fds = [guest.opendir(".") for _ in range(100)]
        tracemalloc.start()
        try:
            for number, fd in enumerate(fds):
                guest.close_fd(guest.create(f"more-{number}"))
                assert len(guest.readdir_raw(fd, 8192, 7)) == 8192
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 32 * MIB < peak < 48 * MIB, "of about 100 MiB that all of them would take"
        assert len(guest.readdir_raw(fds[0], 8192, 7)) == 8192, "one that had to go is made anew"


# Paths.


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_e5_a_path_of_dots_and_links_costs_a_bounded_number_of_lookups(kind: str, tmp_path: Path) -> None:
    """The worst: each of 40 links has a target as long as may be, which goes up and down all the way."""
    up_and_down = "a/../" * 815
    tree: dict[str, Any] = {f"l{number}": vfswasi.Symlink(f"{up_and_down}l{number + 1}") for number in range(40)}
    inner: vfswasi.Backend = vfswasi.MemoryBackend({"a": {}, "l40": b"x", **tree})
    if kind == "local":
        for name, link in tree.items():
            (tmp_path / name).symlink_to(link.target[-4095:].removeprefix("/"))
        (tmp_path / "a").mkdir()
        (tmp_path / "l40").write_bytes(b"x")
        inner = vfswasi.LocalBackend(tmp_path)
    store = Counted(inner)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        store.counts.clear()
        started = time.monotonic()
        assert guest.try_open(up_and_down + "l0")[0] is Errno.SUCCESS
        assert store.counts.total() <= 41 * 4096 / 4
        assert time.monotonic() - started < 10
        store.counts.clear()
        assert guest.try_open("/".join(["a/.."] * 500))[0] in (Errno.SUCCESS, Errno.ISDIR)
        assert store.counts.total() <= 1010
        store.counts.clear()
        assert guest.try_open("./" * 2000 + "a", base=0)[0] is Errno.SUCCESS
        assert store.counts.total() <= 3
    inner.close()


def test_e5_a_deep_path_is_one_lookup() -> None:
    deep: dict[str, Any] = {"f": b"x"}
    for _ in range(200):
        deep = {"d": deep}
    store = Counted(vfswasi.MemoryBackend(deep))
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        store.counts.clear()
        guest.stat("d/" * 200 + "f")
        assert store.counts.total() <= 2


# Appending and overwriting.


@FAST
@pytest.mark.parametrize("how", ["write", "append", "pwrite"])
def test_e5_small_writes_move_each_byte_once_or_twice(how: str, vdso: bool) -> None:
    store = Counted(vfswasi.MemoryBackend({"f": b"x" * MIB}))
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=vdso) as guest:
        fd = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND if how == "append" else 0)
        guest.seek(fd, 0, c.WHENCE_END)
        store.bytes.update(read=0, written=0)
        for number in range(2000):
            if how == "pwrite":
                guest.pwrite(fd, b"y", MIB + number)
            else:
                guest.write(fd, b"y")
        guest.close_fd(fd)
        assert store.bytes["written"] <= 2 * 2000
        # A window is a page and more: it is read once, not for each write.
        assert store.bytes["read"] <= 2 * MIB
        assert guest.stat("f").size == MIB + 2000


@FAST
def test_e5_appending_with_an_open_and_a_close_each_time_moves_little(vdso: bool) -> None:
    store = Counted(vfswasi.MemoryBackend({"f": b"x" * MIB}))
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=vdso) as guest:
        for _ in range(200):
            fd = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
            guest.write(fd, b"y")
            guest.close_fd(fd)
        assert store.bytes["written"] <= 2 * 200
        assert store.bytes["read"] <= 200 * (64 << 10)
        assert store.counts["open"] <= 200


def test_e5_scattered_writes_do_not_drag_the_file_along() -> None:
    store = Counted(vfswasi.MemoryBackend({"f": bytes(32 * MIB)}))
    chance = random.Random(1)
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}, vdso=True) as guest:
        fd = guest.open("f", base=ALL_FILE_RIGHTS)
        for _ in range(500):
            guest.pwrite(fd, b"y", chance.randrange(32 * MIB))
        guest.close_fd(fd)
        assert store.bytes["written"] <= 500 * 4096
        assert store.bytes["read"] <= 500 * (64 << 10)


def test_e5_appending_to_a_staged_archive_rewrites_it_once(tmp_path: Path) -> None:
    """A member of a zip is inflated once, and the archive is written once, at the end."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("f", random.Random(1).randbytes(4 * MIB))
    before = path.read_bytes()
    backend = WritableZipBackend(path)
    with RawGuest({"/d": vfswasi.Mount(backend, rw=True)}) as guest:
        started = time.monotonic()
        for number in range(300):
            fd = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
            guest.write(fd, b"y")
            if number % 3:
                guest.must("fd_sync", fd)
            guest.close_fd(fd)
        # 300 times 4 MiB inflated or copied would take longer by far.
        assert time.monotonic() - started < 5
        assert path.read_bytes() == before, "no sync and no close has rewritten it"
        assert guest.stat("f").size == 4 * MIB + 300
    backend.finish(True)
    backend.close()
    with zipfile.ZipFile(path) as made:
        assert made.getinfo("f").file_size == 4 * MIB + 300


# Copies of whole files.


class _CountedWeak(WeakStore):
    """A weak store, of which an open file has to be copied before its name goes."""

    read = 0

    def open(self, key: Key, write: bool) -> Handle:
        handle = super().open(key, write)
        assert isinstance(handle, _WeakHandle)
        return _CountedWeakHandle(handle._inner, self)


class _CountedWeakHandle(_WeakHandle):
    def __init__(self, inner: Handle, store: _CountedWeak) -> None:
        super().__init__(inner)
        self._store = store

    def read_into(self, offset: int, buf: Buffer) -> int:
        got = super().read_into(offset, buf)
        self._store.read += got
        return got


@pytest.mark.parametrize("how", ["unlink", "rename over"])
def test_e5_an_unlinked_open_file_is_copied_once_whatever_its_descriptors(how: str) -> None:
    store = _CountedWeak({"f": b"x" * MIB, "g": b"y"})
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        fds = [guest.open("f") for _ in range(50)]
        store.read = 0
        assert (guest.unlink("f") if how == "unlink" else guest.rename("g", "f")) is Errno.SUCCESS
        assert store.read <= 2 * MIB
        assert guest.pread(fds[7], 4, MIB - 4) == b"xxxx"


def test_e5_looking_opening_renaming_and_truncating_copy_nothing() -> None:
    store = _CountedWeak({"f": b"x" * MIB, "d": {"g": b"y" * MIB}})
    with RawGuest({"/d": vfswasi.Mount(store, rw=True)}) as guest:
        for _ in range(20):
            guest.stat("f")
            guest.close_fd(guest.open("f", base=ALL_FILE_RIGHTS))
            fd = guest.open("f")
            guest.fstat(fd)
            guest.seek(fd, 0, 2)
            guest.close_fd(fd)
            assert guest.rename("f", "h") is Errno.SUCCESS
            assert guest.rename("h", "f") is Errno.SUCCESS
            guest.names("d")
        guest.close_fd(guest.open("d/g", base=ALL_FILE_RIGHTS, oflags=c.OFLAG_TRUNC))
        assert guest.unlink("f") is Errno.SUCCESS
        assert store.read == 0


# Seeking in compressed members.


def _member(method: int, size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made, made.open("big", "w") as member:
        for _ in range(size // MIB):
            member.write(bytes(MIB))
    return file.getvalue()


def _steps(size: int, name: str) -> list[int]:
    chance = random.Random(1)
    return {
        "backwards": list(range(size - 1, 0, -MIB)),
        "to and fro": [size - 1, 0] * 50,
        "anywhere": [chance.randrange(size) for _ in range(60)],
    }[name]


@pytest.mark.parametrize("steps", ["backwards", "to and fro", "anywhere"])
@pytest.mark.parametrize("cache_bytes", [64 * MIB, 4 * MIB])
def test_e5_seeking_in_a_deflated_member_inflates_from_a_checkpoint(steps: str, cache_bytes: int) -> None:
    size = 32 * MIB
    backend = ZipBackend(io.BytesIO(_member(zipfile.ZIP_DEFLATED, size)), cache_bytes=cache_bytes)
    with RawGuest({"/d": backend}) as guest:
        fd = guest.open("big")
        reads = _steps(size, steps)
        for offset in reads:
            assert guest.pread(fd, 1, offset) == b"\0"
        # The first pass makes the checkpoints: at most 128, or as many as an eighth of the cache holds.
        apart = size // min(128, cache_bytes // 8 // (64 << 10))
        assert backend._cache.inflated_bytes <= size + len(reads) * 2 * apart
        assert backend._cache.used_bytes <= cache_bytes
    backend.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_e5_a_decoder_that_cannot_be_copied_starts_over_at_most_once_a_read(method: int) -> None:
    """These formats have no checkpoints; what a read costs is bounded by the member, and its time by the deadline."""
    size = 16 * MIB
    backend = ZipBackend(io.BytesIO(_member(method, size)), cache_bytes=MIB)
    with RawGuest({"/d": backend}) as guest:
        fd = guest.open("big")
        reads = [size - 1, 0, size // 2, 5, size - 1]
        for offset in reads:
            guest.pread(fd, 1, offset)
        assert backend._cache.inflated_bytes <= len(reads) * size
        before = backend._cache.inflated_bytes
        for offset in range(0, size, MIB):
            guest.pread(fd, 1, offset)
        assert backend._cache.inflated_bytes - before <= 2 * size, "in order, it goes on where it was"
    backend.close()


_SEEK = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00big")
  (func (export "_start")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 0) (i64.const 6)
      (i64.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
    (drop (call $pread (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i64.const OFFSET) (i32.const 32)))))"""


@pytest.fixture(scope="module")
def four_gib() -> bytes:
    """4 GiB of zeros that are 4 MiB in the archive."""
    encoder = zlib.compressobj(9, wbits=-15)
    piece = encoder.compress(bytes(MIB)) + encoder.flush(zlib.Z_FULL_FLUSH)  # can be repeated
    payload = piece * 4095 + encoder.flush()
    return forge(Entry("big", method=DEFLATED, payload=payload, file_size=4095 * MIB, crc=0))


@pytest.mark.alone
def test_e5_the_deadline_holds_while_a_member_is_inflated(four_gib: bytes) -> None:
    """One read near the end, again and again."""
    backend = ZipBackend(io.BytesIO(four_gib))
    wat = _SEEK.replace("OFFSET", str(4000 * MIB)).replace("(drop (call", "(loop $again (drop (call")
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(wat.replace("(i32.const 32)))", "(i32.const 32))) (br $again))").encode(),
                    preopens={"/d": backend}, timeout=0.3)  # fmt: skip
    assert time.monotonic() - started < 2
    backend.close()


def test_e5_a_guest_whose_read_was_cut_short_by_the_deadline_has_not_ended_well(four_gib: bytes) -> None:
    """It took the error for an end of file, say; what it has written of it must not count as its result."""
    backend = ZipBackend(io.BytesIO(four_gib))
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(_SEEK.replace("OFFSET", str(4000 * MIB)).encode(), preopens={"/d": backend}, timeout=0.3)


@pytest.mark.parametrize("same", [True, False], ids=["one name", "many names"])
def test_e5_files_that_could_not_be_stored_are_kept_for_little_more_than_their_contents(same: bool) -> None:
    """A guest that stores and stores where it may not."""
    files = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem(skip_instance_cache=True)
    mount = vfswasi.Mount(files, rw=True, root="/")
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("pipe_file", "put_file", "open"):
                patch.setattr(files, name, _refuse)
            guest = RawGuest({"/d": mount})
            for number in range(500):
                fd = guest.create("f" if same else f"f{number}", b"x" * 1000)
                assert guest.call("fd_close", fd) is Errno.ACCES
            held, _ = tracemalloc.get_traced_memory()
            with pytest.raises(vfswasi.UncommittedError) as caught:
                guest.close()
    finally:
        tracemalloc.stop()
    assert held < 500 * 5000
    assert len(caught.value.files) == 500
    for file in caught.value.files:
        assert file.read() == b"x" * 1000
        assert file.error.errno is Errno.ACCES
        assert str(file.error.__cause__) == "PermissionError"


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError("nothing can be stored here")
