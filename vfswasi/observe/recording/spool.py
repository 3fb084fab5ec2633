"""What is kept while a run goes on: in memory first, then in unnamed temporary files.

Nothing here raises for lack of room: the run that is recorded must not end because of that. `Room` says that something
was left out, and why.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from ...fs_backends.staging.pages import PAGE_BYTES
from ...printing import counted

_IN_MEMORY_BYTES: Final = 4 << 20
_LENGTH_BITS: Final = 16  # of a length, which is PAGE_BYTES at most
_PAGE_COST_BYTES: Final = 180  # in memory, of a page that is known by its digest
_PIECE_BYTES: Final = 1 << 20

# Where bytes lie in a spool: position << 16 | length.
Ref = int


def ref_of(position: int, length: int) -> Ref:
    return position << _LENGTH_BITS | length


def place_of(ref: Ref) -> tuple[int, int]:
    """(position, length)."""
    return ref >> _LENGTH_BITS, ref & ((1 << _LENGTH_BITS) - 1)


class Room:
    """How much a recording may take: bytes of contents, and memory for what is known of names.

    cut: why something was left out; None: all of it is there.
    """

    def __init__(self, max_bytes: int, memory_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._left, self._memory_left = max_bytes, memory_bytes
        self._memory_bytes = memory_bytes
        self.cut: str | None = None

    def take(self, count: int) -> bool:
        if self.cut is None and count > self._left:
            self.cut = f"more than {counted(self.max_bytes, 'byte')} were to be kept"
        if self.cut is not None:
            return False
        self._left -= count
        return True

    def take_memory(self, count: int) -> bool:
        if self.cut is None and count > self._memory_left:
            self.cut = f"what is known of its files took more than {counted(self._memory_bytes, 'byte')} of memory"
        if self.cut is not None:
            return False
        self._memory_left -= count
        return True

    def failed(self, error: OSError) -> None:
        if self.cut is None:
            self.cut = f"a temporary file could not be written: {error.strerror}"


class Stream:
    """Bytes one behind the other."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self.size = 0

    def add(self, data: bytes | bytearray | memoryview) -> bool:
        """False: there is no room, and nothing more is kept."""
        if not self._room.take(len(data)):
            return False
        try:
            self._file.write(data)
        except OSError as error:
            self._room.failed(error)
            return False
        self.size += len(data)
        return True

    def read(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        data = self._file.read(length)
        self._file.seek(0, 2)
        return data

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        self._file.seek(0)
        left = self.size
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise OSError("a temporary file was cut short")
            left -= len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()


class Pages:
    """Pieces of at most PAGE_BYTES, each different one once."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.stream = Stream(room)
        self._known: dict[bytes, Ref] = {}

    def keep(self, data: bytes | bytearray | memoryview) -> Ref | None:
        """None: there is no room."""
        digest = hashlib.sha256(data).digest()
        ref = self._known.get(digest)
        if ref is None:
            position = self.stream.size
            if not self._room.take_memory(_PAGE_COST_BYTES) or not self.stream.add(data):
                return None
            ref = self._known[digest] = ref_of(position, len(data))
        return ref

    def keep_all(self, data: bytes) -> list[Ref] | None:
        """In several pieces."""
        refs = []
        for start in range(0, len(data), PAGE_BYTES):
            ref = self.keep(data[start : start + PAGE_BYTES])
            if ref is None:
                return None
            refs.append(ref)
        return refs

    def close(self) -> None:
        self._known.clear()
        self.stream.close()
