"""What the kernel makes up for: stores without inode numbers, and stores that lose an open file when its name goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import vfswasi
from tests.rawguest import RawGuest
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Buffer, Caps, DirEntry, Handle, Key, ReadableBuffer, Stat


class WeakStore(vfswasi.MemoryBackend):
    """A memory tree without idents, links and times, whose handles die with the name (as with object stores)."""

    caps = Caps.WRITE | Caps.RANDOM_WRITE | Caps.EMPTY_DIRS
    symlink = vfswasi.Backend.symlink
    link = vfswasi.Backend.link
    set_times = vfswasi.Backend.set_times

    def stat(self, key: Key) -> Stat:
        return super().stat(key)._replace(ident=None)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, stat = super().walk(key, names)
        return count, stat and stat._replace(ident=None)

    def list(self, key: Key) -> Iterable[DirEntry]:
        return [entry._replace(ident=None) for entry in super().list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        return _WeakHandle(super().open(key, write))

    def create(self, key: Key) -> Handle:
        return _WeakHandle(super().create(key))


class _WeakHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner

    def _alive(self) -> Handle:
        if not self._inner.stat().nlink:
            raise FsError(Errno.IO, "the object is gone")
        return self._inner

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._alive().read_into(offset, buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._alive().write_from(offset, buf)

    def truncate(self, size: int) -> None:
        self._alive().truncate(size)

    def stat(self) -> Stat:
        return self._alive().stat()._replace(ident=None)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def weak() -> Iterator[RawGuest]:
    tree: dict[str, Any] = {"a": b"aaa", "b": b"bbb", "dir": {"f": b"fff", "sub": {}}}
    with RawGuest({"/d": vfswasi.Mount(WeakStore(tree), rw=True)}) as guest:
        yield guest


def test_inode_numbers_are_unique_and_equal_everywhere(weak: RawGuest) -> None:
    paths = ["a", "b", "dir", "dir/f", "dir/sub", "."]
    numbers = {path: weak.stat(path).ino for path in paths}
    assert len(set(numbers.values())) == len(paths)
    assert {entry.name: entry.ino for entry in weak.readdir(weak.opendir("."))}[b"dir"] == numbers["dir"]
    assert weak.readdir(weak.opendir("dir"))[1].ino == numbers["."]
    assert weak.fstat(weak.open("a")).ino == numbers["a"]


def test_inode_numbers_follow_renames(weak: RawGuest) -> None:
    before = weak.stat("dir/f").ino
    fd = weak.open("dir/f")
    assert weak.rename("dir", "moved") is Errno.SUCCESS
    assert weak.stat("moved/f").ino == weak.fstat(fd).ino == before
    weak.mkdir("dir")
    assert weak.stat("dir").ino not in (before, weak.stat("moved").ino)


def test_an_unlinked_open_file_lives_on_as_a_copy(weak: RawGuest) -> None:
    fd = weak.create("new", b"abcdef")
    other = weak.open("new")
    assert weak.unlink("new") is Errno.SUCCESS
    weak.pwrite(fd, b"XY", 2)
    weak.pwrite(fd, b"end", 10)
    assert weak.read(other, 20) == b"abXYef\0\0\0\0end"
    assert (weak.fstat(fd).size, weak.fstat(fd).nlink) == (13, 0)
    weak.must("fd_filestat_set_size", fd, 3)
    weak.must("fd_filestat_set_size", fd, 5)
    assert weak.pread(other, 20, 0) == b"abX\0\0"
    weak.create("new", b"another")
    assert weak.pread(fd, 20, 0) == b"abX\0\0"
    assert weak.contents("new") == b"another"


def test_a_large_unlinked_file_lives_on_too(weak: RawGuest) -> None:
    fd = weak.create("large")
    block = bytes(range(256)) * 256
    for _ in range(40):
        weak.write(fd, block)
    assert weak.unlink("large") is Errno.SUCCESS
    assert weak.fstat(fd).size == 40 * len(block)
    assert weak.pread(fd, 100, 39 * len(block)) == block[:100]


def test_a_file_replaced_by_rename_lives_on(weak: RawGuest) -> None:
    fd = weak.open("b")
    assert weak.rename("a", "b") is Errno.SUCCESS
    assert weak.read(fd, 9) == b"bbb"
    assert weak.fstat(fd).nlink == 0
    assert weak.contents("b") == b"aaa"


def test_what_the_store_cannot_do_is_notsup(weak: RawGuest) -> None:
    assert weak.symlink("a", "l") is Errno.NOTSUP
    assert weak.link("a", "l") is Errno.NOTSUP
    assert weak.call("path_filestat_set_times", 3, 1, *weak.text("a"), 1, 1, 5) is Errno.NOTSUP
    assert weak.try_open("a", fdflags=2)[0] is Errno.NOTSUP
    assert weak.names() == [b"a", b"b", b"dir"]
