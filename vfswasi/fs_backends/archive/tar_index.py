"""The index of a tar archive: one pass over the headers that seeks over what lies between them.

A header says where the next one is, so one that is broken, or data that end behind the end of the archive, are an
error of the archive; an entry whose name cannot be shown is left out.

What a header block claims about itself is bounded before it is read: a PAX header to 1 MiB, a long name to what a path
may have, the headers before one member to 16, all of them together to 1 KiB for each entry that is allowed.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ..base import FileType, Stat
from .source import ArchiveSource
from .tar_header import (
    BLOCK_BYTES,
    ZERO_BLOCK,
    BrokenHeader,
    Header,
    old_gnu_sparse,
    old_gnu_sparse_more,
    parse_header,
    pax_number,
    pax_records,
    pax_time_ns,
)
from .tar_sparse import SIZE_MAX_BYTES, BadMap, SparseMap
from .tree import MAX_PATH_BYTES, TooManyEntries, TreeBuilder, TreeNode

_PAX_MAX_BYTES = 1 << 20
_CHAIN_MAX = 16
_MEAN_BYTES_MAX = 1024
# Headers that lie closer together than this are fetched together: a request costs more than what lies between them.
_NEAR_BYTES = 4096
_AHEAD_BYTES = 16 << 10

_KINDS = {
    b"2": FileType.SYMBOLIC_LINK,
    b"3": FileType.CHARACTER_DEVICE,
    b"4": FileType.BLOCK_DEVICE,
    b"5": FileType.DIRECTORY,
    b"6": FileType.UNKNOWN,  # FIFO
    b"D": FileType.DIRECTORY,  # of an incremental GNU archive: its data are the names that it had
}
_WITHOUT_DATA = b"123456"
_NO_OBJECTS = b"VNAEI"  # volume label, old GNU names, Solaris' access lists, extended attributes and inodes
_PAX_KEYWORDS = frozenset({"path", "linkpath", "size", "mtime"})
_SPARSE = "GNU.sparse."


class Node(TreeNode):
    """One object of the tree.

    `start` and `data_bytes`: where its bytes stand. `target`: of a symbolic link. `pieces`: of a sparse file, or the
    one that is to be read from the data (`map_in_data`). `problem`: why it cannot be opened.
    """

    __slots__ = ("data_bytes", "map_in_data", "pieces", "problem", "start", "target")

    def __init__(self, status: Stat) -> None:
        super().__init__(status)
        self.start = 0
        self.data_bytes = 0
        self.target: bytes | None = None
        self.pieces: SparseMap | None = None
        self.map_in_data = False
        self.problem: str | None = None


@dataclass
class _Extended:
    """What the headers before a member say about it."""

    values: dict[str, bytes] = field(default_factory=dict)
    sparse: dict[str, bytes] = field(default_factory=dict)
    pieces: list[tuple[int, int]] = field(default_factory=list)  # of PAX format 0.0
    count: int = 0


def build_index(source: ArchiveSource, max_entries: int) -> Node:
    """The root of the tree. Raises BrokenHeader, TooManyEntries, FsError (reading fails)."""
    return _Indexer(source, max_entries).run()


class _Indexer:
    def __init__(self, source: ArchiveSource, max_entries: int) -> None:
        self._source = source
        self._max_entries = max_entries
        self._entries = 0
        self._extended_bytes_left = max_entries * _MEAN_BYTES_MAX + _PAX_MAX_BYTES
        self._builder = TreeBuilder(Node, max_entries + 1, max_entries)
        self._linked: dict[int, Node] = {}  # by identity, what has had two names at some time
        self._globals: dict[str, bytes] = {}
        self._last = -_AHEAD_BYTES
        self._window_at = 0
        self._window = b""

    def run(self) -> Node:
        at = 0
        extended = _Extended()
        while (block := self._block(at)) != ZERO_BLOCK:
            header = parse_header(block)
            at += BLOCK_BYTES
            if header.type in (b"L", b"K", b"x", b"X", b"g"):
                extended.count += 1
                if extended.count > _CHAIN_MAX:
                    raise BrokenHeader(f"more than {_CHAIN_MAX} headers before one member")
                self._extend(extended, header, at)
                at += _padded(header.size)
                self._check_end(at)
            else:
                at = self._member(extended, header, block, at)
                extended = _Extended()
        self._count_names()
        return self._builder.root

    def _block(self, at: int) -> bytes:
        """The block at `at`, which is a header or ends the archive."""
        place = at - self._window_at
        if not 0 <= place <= len(self._window) - BLOCK_BYTES:
            if at + BLOCK_BYTES > self._source.size:
                raise BrokenHeader("the end of the archive is missing" if at else "no header at its start")
            near = 0 < at - self._last <= _NEAR_BYTES
            count = min(_AHEAD_BYTES, self._source.size - at) if near else BLOCK_BYTES
            self._window_at = at
            self._window = self._source.read(at, count)
            place = 0
        self._last = at
        return self._window[place : place + BLOCK_BYTES]

    def _check_end(self, at: int) -> None:
        if at > self._source.size:
            raise BrokenHeader("the data of a member are cut short")

    def _payload(self, at: int, count: int) -> bytes:
        """The data of a header that describes another."""
        self._check_end(at + count)
        self._extended_bytes_left -= count
        if self._extended_bytes_left < 0:
            raise BrokenHeader("more bytes of headers than so many entries may have")
        place = at - self._window_at
        if 0 <= place <= len(self._window) - count:
            return self._window[place : place + count]
        return self._source.read(at, count)

    def _extend(self, extended: _Extended, header: Header, at: int) -> None:
        if header.type in (b"L", b"K"):
            # One byte more than a path may have is enough to know that it is too long.
            name = self._payload(at, min(header.size, MAX_PATH_BYTES + 2)).partition(b"\0")[0]
            extended.values["path" if header.type == b"L" else "linkpath"] = name
            return
        if header.size > _PAX_MAX_BYTES:
            raise BrokenHeader(f"a PAX header of {header.size} bytes is too large")
        into = self._globals if header.type == b"g" else extended.values
        for keyword, value in pax_records(self._payload(at, header.size)):
            if keyword in _PAX_KEYWORDS:
                into[keyword] = value
            elif keyword.startswith(_SPARSE) and into is extended.values:
                _note_sparse(extended, keyword.removeprefix(_SPARSE), value)

    def _member(self, extended: _Extended, header: Header, block: bytes, at: int) -> int:
        """Take one member in; the offset of the next header."""
        self._entries += 1
        if self._entries > self._max_entries:
            raise TooManyEntries
        values = {**self._globals, **extended.values} if self._globals else extended.values
        pieces, full, problem = extended.pieces, None, None
        if header.type == b"S":
            at, pieces, full = self._old_gnu_pieces(block, at)
        size = _size(values.get("size"), header.size)
        data_bytes = 0 if header.type in _WITHOUT_DATA else size
        end = at + _padded(data_bytes)
        # The padding of the last member is not missed by anybody, but its bytes are.
        self._check_end(at + data_bytes)
        name = _text(extended.sparse.get("name") or values.get("path") or header.name)
        if name is None or header.type in _NO_OBJECTS:
            return end
        time = pax_time_ns(values["mtime"]) if values.get("mtime") else header.mtime_ns
        linkname = values.get("linkpath") or header.linkname
        if header.type == b"1":
            self._hard_link(name, linkname)
            return end
        kind = _KINDS.get(header.type, FileType.REGULAR_FILE)
        if kind is FileType.REGULAR_FILE:
            if name.endswith("/") and header.type in (b"0", b"\0"):
                kind = FileType.DIRECTORY  # of an archive older than the type
            elif extended.sparse or extended.pieces:
                full = _piece(extended.sparse.get("realsize") or extended.sparse.get("size") or b"")
            if header.type == b"M":
                problem = "its beginning is on another volume"
            elif full is not None and not 0 <= full <= SIZE_MAX_BYTES:
                full, problem = 0, "its full size is no size"
        elif kind is FileType.SYMBOLIC_LINK:
            size = len(linkname)
        if kind is not FileType.REGULAR_FILE and kind is not FileType.SYMBOLIC_LINK:
            size = 0
        status = Stat(kind, size if full is None else full, time, time, time, 1, self._entries)
        if name in (".", "./"):
            if kind is FileType.DIRECTORY:
                self._builder.root.stat = status._replace(ident=self._builder.root.stat.ident)
            return end
        node = self._builder.add(name.removeprefix("./"), status)
        if node is None or kind is FileType.DIRECTORY:
            return end
        node.start, node.data_bytes, node.problem = at, data_bytes, problem
        if kind is FileType.SYMBOLIC_LINK:
            node.target = linkname
        elif full is not None:
            if extended.sparse.get("major") == b"1":
                node.map_in_data = True
            elif problem is None:
                try:
                    node.pieces = SparseMap(pieces, full, data_bytes)
                except BadMap as error:
                    node.problem = str(error)
        return end

    def _old_gnu_pieces(self, block: bytes, at: int) -> tuple[int, list[tuple[int, int]], int]:
        """(offset of the data, pieces, full size) of an old GNU sparse file."""
        pieces, more, full = old_gnu_sparse(block)
        while more:
            found, more = old_gnu_sparse_more(self._payload(at, BLOCK_BYTES))
            pieces += found
            at += BLOCK_BYTES
        return at, pieces, full

    def _hard_link(self, name: str, raw_target: bytes) -> None:
        """One more name of what stands under the target's name up to now."""
        target = _text(raw_target)
        node = self._builder.find(target.removeprefix("./")) if target else None
        if node is not None and node.children is None and self._builder.link(name.removeprefix("./"), node):
            self._linked[id(node)] = node

    def _count_names(self) -> None:
        """Give the objects that have had several names the count of those that are left."""
        if not self._linked:
            return
        names = dict.fromkeys(self._linked, 0)
        todo = [self._builder.root]
        while todo:
            for child in (todo.pop().children or {}).values():
                if child.children is not None:
                    todo.append(child)
                elif id(child) in names:
                    names[id(child)] += 1
        for number, count in names.items():
            node = self._linked[number]
            node.stat = node.stat._replace(nlink=count)


def _note_sparse(extended: _Extended, keyword: str, value: bytes) -> None:
    if keyword == "offset":
        extended.pieces.append((_piece(value), 0))
    elif keyword == "numbytes" and extended.pieces:
        extended.pieces[-1] = extended.pieces[-1][0], _piece(value)
    elif keyword == "map":
        numbers = array("q", map(_piece, value.split(b",") if value else ()))
        if len(numbers) % 2:
            numbers.append(-1)
        extended.pieces = list(zip(numbers[0::2], numbers[1::2], strict=True))
    else:
        extended.sparse[keyword] = value


def _piece(text: bytes) -> int:
    """A number of a sparse map; -1, which no map may hold, if it is none."""
    value = pax_number(text)
    return -1 if value is None or value > SIZE_MAX_BYTES else value


def _size(text: bytes | None, otherwise: int) -> int:
    if not text:
        return otherwise
    value = pax_number(text)
    if value is None:
        raise BrokenHeader("size in a PAX header is no size")
    return value


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _padded(count: int) -> int:
    return (count + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
