"""Guest memory as the system calls see it: every access is checked against its size.

Pointers and lengths arrive as unsigned 32-bit numbers, so sums never wrap. An access outside the known view
asks `refresh` once, since the guest may have grown its memory, and is FAULT if that did not help.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, overload

from ..abi.layouts import IOVEC_SIZE
from ..errors import Errno, FsError
from ..limits import COUNT_MAX, Limits

_U32 = Struct("<I")
_U64 = Struct("<Q")
IOVEC = Struct("<II")
# By length: to unpack a short text and decode it takes 0.11 us, to slice the view and decode that 0.19.
_TEXTS: Final = tuple(Struct(f"{length}s") for length in range(128))

# Larger buffers are taken in pieces, between which the deadline is looked at.
PIECE_BYTES: Final = 16 << 20
# So many are made at once.
_FEW_BUFFERS: Final = 256


class ManyBuffers(Sequence[memoryview]):
    """The buffers of a table of iovecs, each made when it is its turn: tens of thousands of views at once would set
    Python's collector on everything that the process has."""

    __slots__ = ("_table", "_view")

    def __init__(self, view: memoryview, table: bytes) -> None:
        """`table`: as the guest wrote it, and checked."""
        self._view = view
        self._table = table

    def __len__(self) -> int:
        return len(self._table) // IOVEC_SIZE

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | Sequence[memoryview]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        start, length = IOVEC.unpack_from(self._table, range(len(self))[index] * IOVEC_SIZE)
        return self._view[start : start + length]

    def __iter__(self) -> Iterator[memoryview]:
        view = self._view
        for start, length in IOVEC.iter_unpack(self._table):
            yield view[start : start + length]


class GuestMemory:
    """A bounds-checked view. Slices of it are used within one system call and never kept.

    Where the memory may move, and our own code runs within a call, what `iovecs` and `contents` give are copies:
    a call that fills buffers says so with `filled`. What `slice` and `view` give is used before any such code runs.
    """

    __slots__ = ("_buffer_bytes", "_call_bytes", "_iovecs", "_path_bytes", "_texts", "size", "view")

    def __init__(self, view: memoryview | None = None, limits: Limits | None = None) -> None:
        """`view`: the guest's linear memory, format "B"; by default there is none and every access is FAULT."""
        self.view = view if view is not None else memoryview(b"")
        self.size = len(self.view)
        limits = Limits() if limits is None else limits
        self._path_bytes = limits.path_bytes
        self._texts = _TEXTS[: limits.path_bytes + 1]
        self._iovecs = limits.iovecs
        self._call_bytes = limits.call_bytes
        self._buffer_bytes = min(limits.call_bytes, PIECE_BYTES)

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

    def iovecs(self, ptr: int, count: int) -> Sequence[memoryview]:
        """The buffers to be filled that `count` iovecs at `ptr` describe, read once; of more than `Limits.call_bytes`
        only the first.

        Raises FAULT, INVAL (too many iovecs, or more bytes than a count can tell).
        """
        if count == 1:
            try:
                start, length = IOVEC.unpack_from(self.view, ptr)
            except StructError:
                self.check(ptr, IOVEC_SIZE)
                start, length = IOVEC.unpack_from(self.view, ptr)
            end = start + length
            if end > self.size:
                self.check(start, length)
            if length > self._buffer_bytes:
                return ManyBuffers(self.view, self._pieces(IOVEC.pack(start, length)))
            return [self.view[start:end]]
        table, total = self._table(ptr, count)
        if total > self._buffer_bytes:
            table = self._pieces(table)
        buffers = ManyBuffers(self.view, table)
        return buffers if len(buffers) > _FEW_BUFFERS else list(buffers)

    contents = iovecs
    """The same of buffers that are only read."""

    filled = write_u32
    """So many bytes of the buffers have been filled, in their order; the number goes to a pointer. Raises FAULT."""

    def _table(self, ptr: int, count: int) -> tuple[bytes, int]:
        """`count` iovecs at `ptr` as the guest wrote them, and the sum of their lengths. Raises FAULT, INVAL."""
        self.check(ptr, count * IOVEC_SIZE)
        if count > self._iovecs:
            raise FsError(Errno.INVAL, "Limits.iovecs")
        table = bytes(self.view[ptr : ptr + count * IOVEC_SIZE])
        total = 0
        for start, length in IOVEC.iter_unpack(table):
            if start + length > self.size:
                self.check(start, length)
            total += length
        if total > COUNT_MAX:
            raise FsError(Errno.INVAL, "iovecs of more bytes than a count can tell")
        return table, total

    def _pieces(self, table: bytes) -> bytes:
        """A table of the first `Limits.call_bytes` of the buffers, in pieces that are soon done."""
        pieces = bytearray()
        left = self._call_bytes
        for start, length in IOVEC.iter_unpack(table):
            end = start + min(length, left)
            left -= end - start
            for piece in range(start, end, PIECE_BYTES):
                pieces += IOVEC.pack(piece, min(PIECE_BYTES, end - piece))
        return bytes(pieces)

    def path(self, ptr: int, length: int) -> str:
        """Path text. Raises FAULT, NAMETOOLONG (`Limits.path_bytes`, before they are copied), ILSEQ, INVAL (NUL)."""
        try:
            text: str = self._texts[length].unpack_from(self.view, ptr)[0].decode()
        except (IndexError, StructError, UnicodeDecodeError):
            text = self._text(ptr, length)
        if "\0" in text:
            raise FsError(Errno.INVAL, "NUL in path")
        return text

    def _text(self, ptr: int, length: int) -> str:
        """Of any length. Raises FAULT, NAMETOOLONG, ILSEQ."""
        end = ptr + length
        if end > self.size:
            self.check(ptr, length)
        if length > self._path_bytes:
            raise FsError(Errno.NAMETOOLONG)
        try:
            return str(self.view[ptr:end], "utf-8")
        except UnicodeDecodeError as error:
            raise FsError(Errno.ILSEQ) from error
