"""A directory being read: one snapshot per descriptor, packed once, served by slicing.

The snapshot is taken when the guest asks for cookie 0 (or starts elsewhere without one). Cookie N is the
offset behind the N-th entry, so cookies strictly increase and resume anywhere; reading a long directory
through a small buffer costs one slice per call, whatever its length. Layout: `abi.layouts.DIRENT` and the
name in UTF-8, which is the same in both snapshots of WASI.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, count
from struct import Struct

from ..fs_backends.base import FileType

_DIRENT = Struct("<QQIB3x")


class DirectoryStream:
    """Packed entries; `offsets[n]` is where the entry behind cookie `n` starts."""

    __slots__ = ("data", "offsets")

    def __init__(self, names: Sequence[str], serials: Sequence[int], filetypes: Sequence[FileType]) -> None:
        """In the order in which the guest will see them."""
        # One pass each in C: a directory of a thousand names costs what three Python statements per name would.
        raws = [name.encode() for name in names]
        lengths = [len(raw) for raw in raws]
        headers = map(_DIRENT.pack, count(1), serials, lengths, filetypes)
        self.data = b"".join(chain.from_iterable(zip(headers, raws, strict=True)))
        self.offsets = [0, *accumulate(map(_DIRENT.size.__add__, lengths))]

    def read(self, cookie: int, size: int) -> memoryview:
        """At most `size` bytes from the entry behind `cookie` on; the last entry is cut wherever it falls."""
        if cookie >= len(self.offsets):
            return memoryview(b"")
        start = self.offsets[cookie]
        return memoryview(self.data)[start : start + size]
