"""A directory being read: one snapshot per descriptor, packed once, served by slicing.

The snapshot is taken when the guest asks for cookie 0 (or starts elsewhere without one). Cookie N is the
offset behind the N-th entry, so cookies strictly increase and resume anywhere; reading a long directory
through a small buffer costs one slice per call, whatever its length. Layout: `abi.layouts.DIRENT` and the
name in UTF-8, which is the same in both snapshots of WASI.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from ..fs_backends.base import FileType

_DIRENT = Struct("<QQIB3x")


class DirectoryStream:
    """Packed entries; `offsets[n]` is where the entry behind cookie `n` starts."""

    __slots__ = ("data", "offsets")

    def __init__(self, entries: Iterable[tuple[str, int, FileType]]) -> None:
        """`entries`: name, inode number, type; in the order in which the guest will see them."""
        pack = _DIRENT.pack
        parts: list[bytes] = []
        offsets = [0]
        end = 0
        for cookie, (name, serial, filetype) in enumerate(entries, 1):
            raw = name.encode()
            parts.append(pack(cookie, serial, len(raw), filetype))
            parts.append(raw)
            end += 24 + len(raw)
            offsets.append(end)
        self.data = b"".join(parts)
        self.offsets = offsets

    def read(self, cookie: int, size: int) -> memoryview:
        """At most `size` bytes from the entry behind `cookie` on; the last entry is cut wherever it falls."""
        if cookie >= len(self.offsets):
            return memoryview(b"")
        start = self.offsets[cookie]
        return memoryview(self.data)[start : start + size]
