"""A directory being read: one snapshot per descriptor, packed once, served by slicing.

The snapshot is taken when the guest asks for cookie 0 (or starts elsewhere without one). Cookie N is the
offset behind the N-th entry, so cookies strictly increase and resume anywhere; reading a long directory
through a small buffer costs one slice per call, whatever its length. Layout: `abi.layouts.DIRENT` and the
name in UTF-8, which is the same in both snapshots of WASI.

A guest can have a thousand descriptors of one long directory and change it between their snapshots: together they are
bounded by `Snapshots`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, count, islice
from struct import Struct
from typing import Final

from ...fs_backends.base import FileType

_DIRENT = Struct("<QQIB3x")
_MAX_BYTES: Final = 32 << 20


class DirectoryStream:
    """Packed entries; `offsets[n]` is where the entry behind cookie `n` starts. `len` is how many there are."""

    __slots__ = ("data", "offsets")

    def __init__(self, names: Sequence[str], serials: Sequence[int], filetypes: Sequence[FileType]) -> None:
        """In the order in which the guest will see them."""
        self.data = bytearray()
        self.offsets = array("Q", (0,))
        self.add(names, serials, filetypes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def add(self, names: Sequence[str], serials: Sequence[int], filetypes: Sequence[FileType]) -> None:
        """More of them, a few hundred at once: nothing else runs meanwhile."""
        # One pass each in C: a directory of a thousand names costs what three Python statements per name would.
        raws = [name.encode() for name in names]
        lengths = [len(raw) for raw in raws]
        headers = map(_DIRENT.pack, count(len(self.offsets)), serials, lengths, filetypes)
        start = len(self.data)
        self.data += b"".join(chain.from_iterable(zip(headers, raws, strict=True)))
        sizes = map(_DIRENT.size.__add__, lengths)
        self.offsets.extend(islice(accumulate(sizes, initial=start), 1, None))

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return len(self.data) + self.offsets.itemsize * len(self.offsets)

    def read(self, cookie: int, size: int) -> memoryview:
        """At most `size` bytes from the entry behind `cookie` on; the last entry is cut wherever it falls."""
        if cookie >= len(self.offsets):
            return memoryview(b"")
        start = self.offsets[cookie]
        return memoryview(self.data)[start : start + size]


class Snapshots:
    """What the directory descriptors of a run are at, by a key of each: the newest snapshot, and as many of the others
    as `max_bytes` have room for. A descriptor that comes back for an older one takes a new snapshot."""

    __slots__ = ("_bytes", "_max_bytes", "_streams")

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._streams: dict[object, DirectoryStream] = {}

    def get(self, key: object) -> DirectoryStream | None:
        return self._streams.get(key)

    def keep(self, key: object, stream: DirectoryStream) -> None:
        """In place of the last one of that key."""
        self.drop(key)
        self._streams[key] = stream
        self._bytes += stream.nbytes
        while self._bytes > self._max_bytes and len(self._streams) > 1:
            self.drop(next(iter(self._streams)))

    def drop(self, key: object) -> None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._bytes -= stream.nbytes
