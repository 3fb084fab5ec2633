"""Sparse members of a tar archive: which pieces of the file stand in the archive, and how it is read."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from typing import Final

from ....errors import Errno, FsError
from ...base import Buffer, Handle, Stat
from ...charge import Charge
from ..source import ArchiveSource
from .header import BLOCK_BYTES, pax_number

SIZE_MAX_BYTES = 2**63 - 1
MAP_MAX_BYTES = 1 << 20
PIECE_COST_BYTES: Final = 48  # three columns of 8 bytes, when they have just grown, and two while they are read


class BadMap(Exception):
    """The pieces are not those of any file; the text says why."""


class SparseMap:
    """The pieces of one file in ascending order: where each starts and ends in the file, and its offset in the data.

    pieces: start and length of each in turn.

    Raises BadMap: they overlap, lie outside the file, or are more than there are data. Units are bytes.
    """

    def __init__(self, pieces: Sequence[int], full_bytes: int, data_bytes: int) -> None:
        self.starts = array("q")
        self.ends = array("q")
        self.places = array("q")
        at = place = 0
        for index in range(0, len(pieces), 2):
            start, length = pieces[index], pieces[index + 1]
            if start < at or length < 0 or start + length > full_bytes:
                raise BadMap("pieces of a sparse file overlap or lie outside it")
            if place + length > data_bytes:
                raise BadMap("pieces of a sparse file are more than its data")
            at = start + length
            if length:
                self.starts.append(start)
                self.ends.append(at)
                self.places.append(place)
            place += length


def map_in_data(source: ArchiveSource, start: int, data_bytes: int, full_bytes: int) -> tuple[SparseMap, int]:
    """(the map that stands before the data itself, in PAX format 1.0; bytes that it takes). Raises BadMap, IO."""
    text = b""
    numbers = array("q")
    wanted = 1  # the count of pieces comes first
    taken = 0
    while len(numbers) < wanted:
        if taken + BLOCK_BYTES > min(data_bytes, MAP_MAX_BYTES):
            raise BadMap("map of a sparse file is cut short or too large")
        text += source.read(start + taken, BLOCK_BYTES)
        taken += BLOCK_BYTES
        *lines, text = text.split(b"\n")
        for line in lines:
            if len(numbers) == wanted:
                break
            value = pax_number(line)
            if value is None:
                raise BadMap("map of a sparse file holds what is no number")
            if not numbers:
                wanted = 1 + 2 * value
            numbers.append(min(value, SIZE_MAX_BYTES))
        if len(text) > BLOCK_BYTES:
            raise BadMap("map of a sparse file holds what is no number")
    return SparseMap(numbers[1:], full_bytes, data_bytes - taken), taken


class SparseHandle(Handle):
    """A file of which only the pieces of `pieces` stand in the archive, from `start` on; the rest is zeros. `charge`:
    what the pieces were taken from, if they are this handle's own."""

    def __init__(
        self, source: ArchiveSource, start: int, status: Stat, pieces: SparseMap, charge: Charge | None = None
    ) -> None:
        self._charge = charge
        self._source = source
        self._start = start
        self._stat = status
        self._map = pieces

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = min(len(buf), self._stat.size - offset)
        if count <= 0:
            return 0
        end = offset + count
        pieces = self._map
        # The first piece that does not end before the range.
        index = bisect.bisect_right(pieces.ends, offset)
        with memoryview(buf) as view:
            at = offset
            while at < end:
                start = pieces.starts[index] if index < len(pieces.starts) else end
                if at < start:
                    stop = min(start, end)
                    view[at - offset : stop - offset] = bytes(stop - at)
                else:
                    stop = min(pieces.ends[index], end)
                    place = self._start + pieces.places[index] + at - start
                    with view[at - offset : stop - offset] as piece:
                        self._source.read_into(place, piece)
                    index += 1
                at = stop
        return count

    def size(self) -> int:
        return self._stat.size

    def stat(self) -> Stat:
        return self._stat

    def close(self) -> None:
        if self._charge is not None:
            self._charge.close()


def bad_map(error: BadMap) -> FsError:
    """IO, with the reason for the host's log."""
    failure = FsError(Errno.IO, f"tar member: {error}")
    failure.__cause__ = error
    return failure
