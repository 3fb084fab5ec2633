"""The directory of a zip archive as a tree of nodes: names, kinds, times, and which data overlap.

Built once. Which entries are visible, and what they are, is documented in `zip`.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from zipfile import ZipInfo

from .base import DirEntry, FileType, Stat

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4096
_NO_NAMES = frozenset({"", ".", ".."})
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


class TooManyEntries(Exception):
    """The tree would have more nodes than allowed."""


class Node:
    """One object of the tree.

    `children` is None except for directories. `info` is None for directories. `limit` is the offset that the
    member's data must not pass, -1 when they start inside another member's. `data_start` is -1 until the
    local header was read. `verified`: the checksum was found right once.
    """

    __slots__ = ("children", "data_start", "entries", "info", "limit", "stat", "verified")

    def __init__(self, status: Stat, info: ZipInfo | None) -> None:
        self.stat = status
        self.info = info
        self.children: dict[str, Node] | None = None
        self.entries: tuple[DirEntry, ...] | None = None
        self.limit = -1
        self.data_start = -1
        self.verified = False

    def list(self) -> tuple[DirEntry, ...]:
        """The entries of a directory, made at the first call."""
        if self.entries is None:
            assert self.children is not None
            self.entries = tuple(
                DirEntry(name, child.stat.filetype, child.stat.ident) for name, child in self.children.items()
            )
        return self.entries


class _Builder:
    def __init__(self, infos: list[ZipInfo], max_nodes: int) -> None:
        self._next_ident = len(infos) + 1  # entries have 1..len(infos), implied directories what follows
        self._nodes_left = max_nodes
        self.root = self._implied_directory()
        self._directories = {"": self.root}

    def _implied_directory(self) -> Node:
        node = Node(Stat(FileType.DIRECTORY, 0, ident=self._next_ident), None)
        node.children = {}
        self._next_ident += 1
        return node

    def add(self, name: str, status: Stat, info: ZipInfo) -> Node | None:
        """Put one entry in its place; the node if it is a visible file."""
        path = name[:-1] if name[-1:] == "/" else name
        head, slash, leaf = path.rpartition("/")
        if leaf in _NO_NAMES or (slash and not head):
            return None
        # Most names are too short to need more than one look.
        if (len(name) > _MAX_NAME_BYTES // 4 or "\0" in name) and not _is_path(path):
            return None
        parent = self._directories.get(head) or self._make_directories(head)
        if parent is None:
            return None
        assert parent.children is not None
        if status[0] is FileType.DIRECTORY:
            self._make_directory(parent, path, leaf).stat = status
            return None
        old = parent.children.get(leaf)
        if old is None:
            self._count()
        elif old.children is not None:
            return None
        node = parent.children[leaf] = Node(status, info)
        return node

    def _make_directories(self, path: str) -> Node | None:
        names = path.split("/")
        if not all(map(_is_name, names)):
            return None
        node = self.root
        for index, name in enumerate(names, 1):
            node = self._make_directory(node, "/".join(names[:index]), name)
        return node

    def _make_directory(self, parent: Node, path: str, name: str) -> Node:
        assert parent.children is not None
        node = parent.children.get(name)
        if node is None or node.children is None:
            if node is None:
                self._count()
            node = parent.children[name] = self._implied_directory()
            self._directories[path] = node
        return node

    def _count(self) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise TooManyEntries


def build_tree(infos: list[ZipInfo], data_end: int, max_nodes: int) -> Node:
    """The root of the tree. `data_end`: offset of the central directory, which no member's data may pass.

    Raises TooManyEntries: the entries and the directories that they imply are more than `max_nodes`.
    """
    builder = _Builder(infos, max_nodes)
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
        node = builder.add(name, Stat(kind, size, time, time, time, 1, index + 1), info)
        if node is not None:
            node.limit = limits[index]
    return builder.root


def _is_name(name: str) -> bool:
    """Whether a key can hold this component."""
    if name in _NO_NAMES or "\0" in name:
        return False
    return len(name) <= _MAX_NAME_BYTES // 4 or len(name.encode()) <= _MAX_NAME_BYTES


def _is_path(path: str) -> bool:
    """Whether a key can hold all components, and a program can spell the path."""
    return len(path.encode()) <= _MAX_PATH_BYTES and all(map(_is_name, path.split("/")))


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


def _extra_fields(extra: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        yield tag, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _extra_time_ns(extra: bytes) -> int | None:
    """Modification time from the NTFS field (100 ns steps), else the Unix one (seconds), else None."""
    unix: int | None = None
    for tag, data in _extra_fields(extra):
        if tag == _EXTRA_NTFS and len(data) >= 16:
            attribute, length, ticks = struct.unpack_from("<HHQ", data, 4)
            if attribute == 1 and length >= 8 and ticks:
                return int(ticks - _EPOCH_1601_100NS) * 100
        elif tag == _EXTRA_UNIX_TIME and len(data) >= 5 and data[0] & 1 and unix is None:
            unix = int.from_bytes(data[1:5], "little", signed=True) * 1_000_000_000
    return unix
