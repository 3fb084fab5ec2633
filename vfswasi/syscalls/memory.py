"""Guest memory as the system calls see it: every access is checked against its size.

Pointers and lengths arrive as unsigned 32-bit numbers, so sums never wrap. An access outside the known view
asks `refresh` once, since the guest may have grown its memory, and is FAULT if that did not help.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from ..abi.layouts import IOVEC_SIZE
from ..errors import Errno, FsError

_U32 = Struct("<I")
_U64 = Struct("<Q")
_IOVEC = Struct("<II")

# One call's limits; docs/semantics.md names their errno.
IOVECS_MAX: Final = 65536
PATH_MAX_BYTES: Final = 4096
COUNT_MAX: Final = (1 << 32) - 1


class GuestMemory:
    """A bounds-checked view. Slices of it are used within one system call and never kept."""

    __slots__ = ("size", "view")

    def __init__(self, view: memoryview | None = None) -> None:
        """`view`: the guest's linear memory, format "B"; by default there is none and every access is FAULT."""
        self.view = view if view is not None else memoryview(b"")
        self.size = len(self.view)

    def refresh(self) -> None:
        """Re-take the view if the memory has grown."""

    def slice(self, ptr: int, length: int) -> memoryview:
        """`length` bytes at `ptr`, shared with the guest; no bytes are fine anywhere. Raises FAULT."""
        end = ptr + length
        if end > self.size:
            self.refresh()
            if end > self.size and length:
                raise FsError(Errno.FAULT)
        return self.view[ptr:end]

    def check(self, ptr: int, length: int) -> None:
        """Raises FAULT if any of these bytes is outside: for results, before anything is done."""
        if ptr + length > self.size:
            self.refresh()
            if ptr + length > self.size and length:
                raise FsError(Errno.FAULT)

    def read(self, ptr: int, length: int) -> bytes:
        """A copy of `length` bytes at `ptr`. Raises FAULT."""
        return bytes(self.slice(ptr, length))

    def write(self, ptr: int, data: bytes | memoryview) -> None:
        """Raises FAULT."""
        self.slice(ptr, len(data))[:] = data

    def write_u32(self, ptr: int, value: int) -> None:
        """Raises FAULT."""
        try:
            _U32.pack_into(self.view, ptr, value)
        except StructError:
            self.check(ptr, 4)
            _U32.pack_into(self.view, ptr, value)

    def write_u64(self, ptr: int, value: int) -> None:
        """Raises FAULT."""
        try:
            _U64.pack_into(self.view, ptr, value)
        except StructError:
            self.check(ptr, 8)
            _U64.pack_into(self.view, ptr, value)

    def iovecs(self, ptr: int, count: int) -> list[memoryview]:
        """The buffers that `count` iovecs at `ptr` describe, read once. Raises FAULT, INVAL (too many bytes)."""
        if count == 1:
            try:
                start, length = _IOVEC.unpack_from(self.view, ptr)
            except StructError:
                self.check(ptr, IOVEC_SIZE)
                start, length = _IOVEC.unpack_from(self.view, ptr)
            end = start + length
            if end > self.size:
                self.check(start, length)
            return [self.view[start:end]]
        self.check(ptr, count * IOVEC_SIZE)
        if count > IOVECS_MAX:
            raise FsError(Errno.INVAL, "too many iovecs")
        table = bytes(self.view[ptr : ptr + count * IOVEC_SIZE])
        buffers = [self.slice(start, length) for start, length in _IOVEC.iter_unpack(table)]
        if count > 1 and sum(map(len, buffers)) > COUNT_MAX:
            raise FsError(Errno.INVAL, "iovecs of more bytes than a count can tell")
        return buffers

    def path(self, ptr: int, length: int) -> str:
        """Path text. Raises FAULT, NAMETOOLONG (over 4096 bytes, before they are copied), ILSEQ, INVAL (NUL)."""
        end = ptr + length
        if end > self.size:
            self.check(ptr, length)
        if length > PATH_MAX_BYTES:
            raise FsError(Errno.NAMETOOLONG)
        try:
            text = str(self.view[ptr:end], "utf-8")
        except UnicodeDecodeError as error:
            raise FsError(Errno.ILSEQ) from error
        if "\0" in text:
            raise FsError(Errno.INVAL, "NUL in path")
        return text
