"""The directory of a zip archive as a tree of nodes: names, kinds, times, and which data overlap.

Built once. Which entries are visible, and what they are, is documented in `zip`.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from zipfile import ZipInfo

from ..base import FileType, Stat
from .tree import TreeBuilder, TreeNode

_HEADER_BYTES = 30  # fixed part of a local header
_UNIX = 3
_EPOCH_1601_100NS = 116_444_736_000_000_000
_EXTRA_NTFS = 0x000A
_EXTRA_UNIX_TIME = 0x5455

_KINDS = {
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    stat.S_IFIFO: FileType.UNKNOWN,
}


class Node(TreeNode):
    """One object of the tree.

    `info` is None for directories without an entry. `limit` is the offset that the member's data must not pass,
    -1 when they start inside another member's. `data_start` is -1 until the local header was read. `verified`: the
    checksum was found right once.
    """

    __slots__ = ("data_start", "info", "limit", "verified")

    def __init__(self, status: Stat) -> None:
        super().__init__(status)
        self.info: ZipInfo | None = None
        self.limit = -1
        self.data_start = -1
        self.verified = False


def build_tree(infos: list[ZipInfo], data_end: int, max_nodes: int) -> Node:
    """The root of the tree. `data_end`: offset of the central directory, which no member's data may pass.

    Raises TooManyEntries: the entries and the directories that they imply are more than `max_nodes`.
    """
    builder = TreeBuilder(Node, len(infos) + 1, max_nodes)
    dates: dict[tuple[int, ...], int | None] = {}
    limits = _limits(infos, data_end)
    regular = FileType.REGULAR_FILE
    for index, info in enumerate(infos):
        name = info.orig_filename
        kind = regular
        size = info.file_size
        if name[-1:] == "/":
            kind, size = FileType.DIRECTORY, 0
        elif info.external_attr > 0xFFFF and info.create_system == _UNIX:
            kind = _KINDS.get(stat.S_IFMT(info.external_attr >> 16), regular)
            if kind is not regular and kind is not FileType.SYMBOLIC_LINK:
                size = 0
        time = _extra_time_ns(info.extra) if info.extra else None
        if time is None:
            date = info.date_time
            try:
                time = dates[date]
            except KeyError:
                time = dates[date] = _date_ns(date)
        node = builder.add(name, Stat(kind, size, time, time, time, 1, index + 1))
        if node is not None:
            node.info = info
            node.limit = limits[index]
    return builder.root


def _limits(infos: list[ZipInfo], data_end: int) -> list[int]:
    """For each entry the offset where the next one starts, or -1 if it starts inside another.

    So of two that overlap, the second has -1 here, and the first passes its limit: the reader, who also
    knows the length of the local extra field, compares.
    """
    limits = [data_end] * len(infos)
    reached = 0  # the farthest end so far
    previous = -1
    for index in sorted(range(len(infos)), key=[info.header_offset for info in infos].__getitem__):
        info = infos[index]
        start = info.header_offset
        if previous >= 0 and limits[previous] != -1:
            limits[previous] = start
        if start < reached:
            limits[index] = -1
        # A character of the name takes at least one byte.
        end = start + _HEADER_BYTES + len(info.orig_filename) + info.compress_size
        if end > reached:
            reached = end
        previous = index
    return limits


def _date_ns(date: tuple[int, ...]) -> int | None:
    """MS-DOS local time, taken as UTC, in ns; None where it is no date."""
    try:
        year, month, day, hour, minute, second = date
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return None


def extra_fields(extra: bytes) -> Iterable[tuple[int, bytes]]:
    """(tag, data) of each extra field."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        yield tag, extra[at + 4 : at + 4 + length]
        at += 4 + length


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
