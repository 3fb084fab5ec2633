"""The directory of a zip archive as a tree: names, kinds, times, and which data overlap.

Built once. Which entries are visible, and what they are, is documented in `zip`. What stays in memory is the directory
as it stands in the archive, 34 bytes of places for each entry, and the tree.
"""

from __future__ import annotations

import stat
import struct
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import le
from typing import Final
from zipfile import BadZipFile

from ....printing import counted
from ...base import FileType, Stat
from ...charge import Charge
from ...waiting import check_time
from ..source import ArchiveSource
from ..tree import Directory, TooManyEntries, TreeBuilder
from .directory import UNIX, Ending, Entry, entry_at, extra_fields

HEADER_BYTES: Final = 30  # fixed part of a local header
LOCAL_SIGNATURE: Final = b"PK\3\4"
_EPOCH_1601_100NS = 116_444_736_000_000_000
_EXTRA_NTFS = 0x000A
_EXTRA_UNIX_TIME = 0x5455
_PLACES_COST_BYTES = 48  # of each entry: what is kept of where it stands, when a column has just grown
_ORDER_COST_BYTES = 96  # of each entry, as long as they are put in order
_STATS_KEPT = 4096
_MEAN_BYTES_MAX = 1024  # the most that an entry may take on average
_FLAG_DESCRIPTOR = 0x08
_DESCRIPTOR_MAX_BYTES = 24

_FORMAT: Final = 0o170000  # of a mode: stat.S_IFMT
_KINDS = {
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    stat.S_IFIFO: FileType.UNKNOWN,
}
_TYPES = tuple(FileType)


class ZipIndex:
    """`root`, and what there is to know of the entries, which are counted from 1. `count`: of all that the directory
    has, those that are not shown too.

    Raises BadZipFile (cut short), TooManyEntries (with the directories that they imply more than `max_entries`),
    FsError: NOMEM (more than `charge` may take), CANCELED, IO.
    """

    def __init__(self, source: ArchiveSource, ending: Ending, max_entries: int, charge: Charge) -> None:
        if ending.size > max_entries * _MEAN_BYTES_MAX + (1 << 20):
            raise BadZipFile(f"a directory of {counted(ending.size, 'byte')} is too large")
        charge.take(ending.size)
        self.ending = ending
        self.raw = bytearray(ending.size)
        source.read_into(ending.start, memoryview(self.raw))
        self._places = array("q")  # of each entry in `raw`
        self._kinds = bytearray()
        # The offset that the member's data must not pass; -1 when they start inside another member's.
        self._limits = array("q")
        self._offsets = array("q")
        self._data_starts = array("q")  # -1 until the local header was read
        self._verified = bytearray()  # whether the checksum was found right once
        self._stats: dict[int, Stat] = {}
        self._build(source.name, max_entries, charge)

    def _build(self, archive: str, max_entries: int, charge: Charge) -> None:
        raw, prefix = self.raw, self.ending.prefix
        # Directories without entries have the numbers behind all entries.
        builder = TreeBuilder(max_entries + 1, max_entries, charge)
        offsets, ends = self._offsets, array("q")
        add_place, add_kind, add_offset, add_end = self._places.append, self._kinds.append, offsets.append, ends.append
        at = seen = number = 0
        whole = len(raw)
        while at < whole:
            if not seen & 255:
                check_time("mounting")
            if seen == max_entries:
                raise TooManyEntries
            seen += 1
            place = at
            entry, at = entry_at(raw, place, prefix)
            if entry is None:
                builder.hide(bytes(raw[place + 46 : place + 246]))
                continue
            charge.take(_PLACES_COST_BYTES)
            number += 1
            kind = _kind(entry)
            add_place(place)
            add_kind(kind)
            name, raw_name, start = entry.name, entry.raw_name, entry.header_offset
            # The local header may have the name in another encoding.
            end = start + HEADER_BYTES + entry.compress_size + min(len(raw_name), len(name))
            add_offset(start if start < _FAR else _FAR)
            add_end(end if end < _FAR else _FAR)
            if kind is FileType.DIRECTORY:
                builder.add_directory(name, _stat(entry, number), number)
            else:
                builder.add(name, number)
        order = _in_order(offsets, charge)
        self._limits = _limits(order, offsets, ends, self.ending.start)
        if not isinstance(order, range):
            charge.give(number * _ORDER_COST_BYTES)
        del order
        self._data_starts = array("q", [-1]) * number
        self._verified = bytearray(number)
        self.root: Directory = builder.root
        self.seen = seen
        builder.tell_hidden(f"zip archive {archive}", seen)

    @property
    def count(self) -> int:
        """Entries, hidden ones too."""
        return len(self._places)

    def entry(self, number: int) -> Entry:
        """What the directory says of an entry."""
        entry, _ = entry_at(self.raw, self._places[number - 1], self.ending.prefix)
        assert entry is not None
        return entry

    def raw_entry(self, number: int) -> bytes:
        """The same as it stands there."""
        at = self._places[number - 1]
        _, after = entry_at(self.raw, at, self.ending.prefix)
        return bytes(self.raw[at:after])

    def kind(self, number: int) -> FileType:
        return _TYPES[self._kinds[number - 1]]

    def stat(self, number: int) -> Stat:
        status = self._stats.get(number)
        if status is None:
            if len(self._stats) >= _STATS_KEPT:
                self._stats.clear()
            status = self._stats[number] = _stat(self.entry(number), number)
        return status

    def member(self, node: Directory | int) -> Member | None:
        """The entry of an object; None for a directory without one."""
        number = node.number if isinstance(node, Directory) else node
        return Member(self, number) if number else None

    def covers(self, source: ArchiveSource) -> bool:
        """Whether the file is this archive and nothing else: every byte belongs to a member, the directory or the end.
        Raises FsError.

        A member whose local header is no header has as many bytes as the directory says: it cannot be copied, so
        nothing of it is lost.
        """
        ending = self.ending
        if ending.prefix or not ending.joined or ending.end != source.size:
            return False
        if ending.start and not (self._places and source.read(0, 4) == LOCAL_SIGNATURE):
            return False
        reached = 0
        for index in _in_order(self._offsets, None):
            if not index & 255:
                check_time("mounting")
            start = self._offsets[index]
            if start > reached:
                return False
            entry = self.entry(index + 1)
            end = start + HEADER_BYTES + len(entry.raw_name) + entry.compress_size
            header = source.read(start, HEADER_BYTES) if start + HEADER_BYTES <= ending.start else b""
            if header[:4] == LOCAL_SIGNATURE:
                name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
                end = start + HEADER_BYTES + name_bytes + extra_bytes + entry.compress_size
                if entry.flags & _FLAG_DESCRIPTOR:
                    end += _DESCRIPTOR_MAX_BYTES
            reached = max(reached, end)
        return reached >= ending.start


class Member:
    """One entry: what is known of it, and what was found out."""

    __slots__ = ("index", "number")

    def __init__(self, index: ZipIndex, number: int) -> None:
        self.index = index
        self.number = number

    @property
    def info(self) -> Entry:
        return self.index.entry(self.number)

    @property
    def raw(self) -> bytes:
        """The entry as it stands in the directory."""
        return self.index.raw_entry(self.number)

    @property
    def stat(self) -> Stat:
        return self.index.stat(self.number)

    @property
    def limit(self) -> int:
        """The offset that the data must not pass; -1 when they start inside another member's."""
        return self.index._limits[self.number - 1]

    @property
    def data_start(self) -> int:
        """-1 until the local header was read."""
        return self.index._data_starts[self.number - 1]

    @data_start.setter
    def data_start(self, value: int) -> None:
        self.index._data_starts[self.number - 1] = value

    @property
    def verified(self) -> bool:
        """Whether the checksum was found right once."""
        return bool(self.index._verified[self.number - 1])

    @verified.setter
    def verified(self, value: bool) -> None:
        self.index._verified[self.number - 1] = value


_FAR = 2**63 - 1


def _kind(entry: Entry) -> FileType:
    if entry.name[-1:] == "/":
        return FileType.DIRECTORY
    if entry.attributes <= 0xFFFF or entry.system != UNIX:
        return FileType.REGULAR_FILE
    kind = _KINDS.get(entry.attributes >> 16 & _FORMAT, FileType.REGULAR_FILE)
    if kind is FileType.REGULAR_FILE:
        return kind
    # What has contents is a file whatever it was made from: `zip` stores what it reads from a pipe as a FIFO.
    return FileType.REGULAR_FILE if entry.file_size and kind is not FileType.SYMBOLIC_LINK else kind


def _stat(entry: Entry, number: int) -> Stat:
    kind = _kind(entry)
    time = _extra_time_ns(entry.extra) if entry.extra else None
    if time is None:
        time = _date_ns(entry.date, entry.time)
    size = entry.file_size if kind is FileType.REGULAR_FILE or kind is FileType.SYMBOLIC_LINK else 0
    return Stat(kind, size, time, time, time, 1, number)


def _limits(order: Sequence[int], offsets: array[int], ends: array[int], data_end: int) -> array[int]:
    """For each entry the offset where the next one starts, or -1 if it starts inside another.

    So of two that overlap, the second has -1 here, and the first passes its limit: the reader, who also
    knows the length of the local extra field, compares.
    """
    limits = array("q", [data_end]) * len(offsets)
    reached = 0  # the farthest end so far
    previous = -1
    for index in order:
        start = offsets[index]
        if previous >= 0 and limits[previous] != -1:
            limits[previous] = start
        if start < reached:
            limits[index] = -1
        reached = max(reached, ends[index])
        previous = index
    return limits


def _in_order(offsets: array[int], charge: Charge | None) -> Sequence[int]:
    """The places in `offsets`, by what stands there; what that takes, if anything, is charged."""
    places = range(len(offsets))
    if all(map(le, offsets, islice(offsets, 1, None))):
        return places  # as nearly all programs write them
    if charge is not None:
        charge.take(len(offsets) * _ORDER_COST_BYTES)
    return sorted(places, key=offsets.__getitem__)


def _date_ns(date: int, time: int) -> int | None:
    """MS-DOS local time, taken as UTC, in ns; None where it is no date."""
    try:
        when = datetime(
            (date >> 9) + 1980, (date >> 5) & 0xF, date & 0x1F, time >> 11, (time >> 5) & 0x3F, (time & 0x1F) * 2,
            tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return None
    return int(when.timestamp()) * 1_000_000_000


def _extra_time_ns(extra: bytes) -> int | None:
    """Modification time from the NTFS field (100 ns steps), else the Unix one (seconds), else None."""
    unix: int | None = None
    for tag, data in extra_fields(extra):
        if tag == _EXTRA_NTFS and len(data) >= 16:
            attribute, length, ticks = struct.unpack_from("<HHQ", data, 4)
            if attribute == 1 and length >= 8 and ticks:
                return int(ticks - _EPOCH_1601_100NS) * 100
        elif tag == _EXTRA_UNIX_TIME and len(data) >= 5 and data[0] & 1 and unix is None:
            unix = int.from_bytes(data[1:5], "little", signed=True) * 1_000_000_000
    return unix
