"""Backends around others: one that counts its handles and looks at its keys, one that can do less."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Buffer, Caps, DirEntry, Handle, Key, ReadableBuffer, Stat


class CountedHandle(Handle):
    """`inner`, which must not be used after it was closed."""

    def __init__(self, inner: Handle, live: set[CountedHandle]) -> None:
        self.inner = inner
        self._live = live
        live.add(self)

    def _open(self) -> Handle:
        assert self in self._live, "a handle is used after it was closed"
        return self.inner

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = self._open().read_into(offset, buf)
        assert 0 <= count <= len(buf)
        return count

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._open().write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        return self._open().append(buf)

    def truncate(self, size: int) -> None:
        self._open().truncate(size)

    def size(self) -> int:
        return self._open().size()

    def stat(self) -> Stat:
        return self._open().stat()

    def ident(self) -> int | None:
        return self._open().ident()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._open().set_times(atim_ns, mtim_ns)

    def allocate(self, offset: int, length: int) -> None:
        self._open().allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        return self._open().reserve(offset, length)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._open().advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self._open().sync(data_only)

    def close(self) -> None:
        inner = self._open()
        self._live.remove(self)
        inner.close()

    def discard(self) -> None:
        inner = self._open()
        self._live.remove(self)
        inner.discard()


class Counted(Backend):
    """`inner`, with its open handles in `live`. A key that could not have come out of a walk is a failure."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.caps: Caps = inner.caps
        self.live: set[CountedHandle] = set()

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def stat(self, key: Key) -> Stat:
        return self.inner.stat(_clean(key))

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        return self.inner.walk(_clean(key), _clean(names))

    def list(self, key: Key) -> Iterable[DirEntry]:
        return self.inner.list(_clean(key))

    def listing_version(self, key: Key) -> int | None:
        return self.inner.listing_version(_clean(key))

    def open(self, key: Key, write: bool) -> Handle:
        return CountedHandle(self.inner.open(_clean(key), write), self.live)

    def create(self, key: Key) -> Handle:
        return CountedHandle(self.inner.create(_clean(key)), self.live)

    def mkdir(self, key: Key) -> None:
        self.inner.mkdir(_clean(key))

    def rmdir(self, key: Key) -> None:
        self.inner.rmdir(_clean(key))

    def remove(self, key: Key) -> None:
        self.inner.remove(_clean(key))

    def rename(self, old: Key, new: Key) -> None:
        self.inner.rename(_clean(old), _clean(new))

    def symlink(self, target: str, key: Key) -> None:
        self.inner.symlink(target, _clean(key))

    def readlink(self, key: Key) -> str:
        return self.inner.readlink(_clean(key))

    def link(self, old: Key, new: Key) -> None:
        self.inner.link(_clean(old), _clean(new))

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self.inner.set_times(_clean(key), atim_ns, mtim_ns)

    def sync_directory(self, key: Key, data_only: bool) -> None:
        self.inner.sync_directory(_clean(key), data_only)

    def close(self) -> None:
        self.inner.close()


def _clean(key: Key) -> Key:
    for name in key:
        assert name not in ("", ".", ".."), f"the backend got {key!r}"
        assert not {"/", "\0"} & set(name), f"the backend got {key!r}"
        assert len(name.encode()) <= 255, "the backend got a long name"
    return key


class Poor(Counted):
    """`inner`, a memory store, as one without inode numbers, hard links, and handles that outlive their names. A handle
    whose file lost its name is of no use any more but to be closed."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.caps = inner.caps & ~(Caps.HANDLE_SURVIVES_UNLINK | Caps.HARDLINKS | Caps.DURABLE_WRITES)

    def stat(self, key: Key) -> Stat:
        return super().stat(key)._replace(ident=None)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, stat = super().walk(key, names)
        return count, stat and stat._replace(ident=None)

    def list(self, key: Key) -> Iterable[DirEntry]:
        return [entry._replace(ident=None) for entry in super().list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        return _PoorHandle(self.inner.open(key, write), self.live)

    def create(self, key: Key) -> Handle:
        return _PoorHandle(self.inner.create(key), self.live)

    def link(self, old: Key, new: Key) -> None:
        raise FsError(Errno.NOTSUP)


class _PoorHandle(CountedHandle):
    def _open(self) -> Any:
        inner: Any = super()._open()
        assert inner._file.nlink, "a handle is used after its name is gone"
        return inner

    def stat(self) -> Stat:
        return super().stat()._replace(ident=None)

    def ident(self) -> int | None:
        return None

    def close(self) -> None:
        self._live.remove(self)
        self.inner.close()

    def discard(self) -> None:
        self._live.remove(self)
        self.inner.discard()
