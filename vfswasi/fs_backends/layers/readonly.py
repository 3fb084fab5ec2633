"""The second wall of a read-only mount: a backend whose every mutator raises ROFS.

The first is the mask over the rights of the mount's descriptors. Handles are opened for reading, which makes them
refuse writes; only `set_times` needs a wrapper, since times can be set through a descriptor that only reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import Errno, FsError
from ..base import Backend, Caps, Device, DirEntry, Handle, Key, Traffic

_KEPT = Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK | Caps.IMMUTABLE | Caps.SHARED | Caps.DEVICES


class ReadOnly(Backend):
    """`inner`, without any way to change it."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.caps = inner.caps & _KEPT
        self.stat = inner.stat  # type: ignore[method-assign]
        self.walk = inner.walk  # type: ignore[method-assign]

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def list(self, key: Key) -> Iterable[DirEntry]:
        return self.inner.list(key)

    def listing_version(self, key: Key) -> int | None:
        return self.inner.listing_version(key)

    def version(self, key: Key) -> str | None:
        return self.inner.version(key)

    def readlink(self, key: Key) -> str:
        return self.inner.readlink(key)

    def device(self, key: Key) -> Device | None:
        return self.inner.device(key)

    def open(self, key: Key, write: bool) -> Handle:
        if write:
            raise FsError(Errno.ROFS)
        return _ReadOnlyHandle(self.inner.open(key, False))

    def traffic(self) -> Traffic | None:
        return self.inner.traffic()

    def close(self) -> None:
        self.inner.close()


class _ReadOnlyHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner
        self.read_into = inner.read_into  # type: ignore[method-assign]
        self.stat = inner.stat  # type: ignore[method-assign]
        self.true_stat = inner.true_stat  # type: ignore[method-assign]
        self.size = inner.size  # type: ignore[method-assign]
        self.ident = inner.ident  # type: ignore[method-assign]

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        raise FsError(Errno.ROFS)

    def allocate(self, offset: int, length: int) -> None:
        raise FsError(Errno.ROFS)

    def append(self, buf: object) -> int:
        raise FsError(Errno.ROFS)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._inner.advise(offset, length, advice)

    def close(self) -> None:
        self._inner.close()

    def discard(self) -> None:
        self._inner.discard()
