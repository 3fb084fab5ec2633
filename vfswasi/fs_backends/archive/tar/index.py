"""The index of a tar archive: one pass over the headers that seeks over what lies between them.

A header says where the next one is, so one that is broken, or data that end behind the end of the archive, are an
error of the archive; an entry whose name cannot be shown is left out.

What a header block claims about itself is bounded before it is read: a PAX header to 1 MiB, a long name to what a path
may have, the headers before one member to 16, all of them together by the number of members. What is kept is charged.
"""

from __future__ import annotations

import logging
from array import array
from dataclasses import dataclass, field

from ....printing import counted
from ...base import FileType, Stat
from ...charge import Charge
from ...waiting import check_time
from ..source import ArchiveSource
from ..tree import MAX_PATH_BYTES, Directory, TooManyEntries, TreeBuilder
from .entries import TarEntries
from .header import (
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
from .members import Members
from .sparse import PIECE_COST_BYTES, SIZE_MAX_BYTES, BadMap, SparseMap

_PAX_MAX_BYTES = 1 << 20
_CHAIN_MAX = 16
# What the headers before members may be, in bytes and in records of PAX (by what it takes to look at one).
_EXTENDED_BYTES = 16 << 20
_EXTENDED_MEMBER_BYTES = 2048
_RECORD_COST_BYTES = 64
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
_WITHOUT_DATA = b"23456"
_NO_OBJECTS = b"VNAEI"  # volume label, old GNU names, Solaris' access lists, extended attributes and inodes
_PAX_KEYWORDS = {"path": MAX_PATH_BYTES, "linkpath": MAX_PATH_BYTES, "size": 64, "mtime": 64}
_SPARSE = "GNU.sparse."
_SPARSE_KEYWORDS = {"name": MAX_PATH_BYTES, "realsize": 64, "size": 64, "major": 64}

_log = logging.getLogger("vfswasi")


@dataclass
class _Extended:
    """What the headers before a member say about it."""

    values: dict[str, bytes] = field(default_factory=dict)
    sparse: dict[str, bytes] = field(default_factory=dict)
    pieces: array[int] = field(default_factory=lambda: array("q"))  # of PAX formats 0.x: start and length in turn
    count: int = 0


def build_index(
    source: ArchiveSource, max_entries: int, charge: Charge, members: Members | None = None
) -> tuple[Directory, TarEntries]:
    """(root of the tree, what there is to know of the entries). members: takes where each of them stands.

    Raises BrokenHeader, TooManyEntries, FsError: NOMEM (more than `charge` may take), CANCELED, IO."""
    return _Indexer(source, max_entries, charge, members).run()


class _Indexer:
    def __init__(self, source: ArchiveSource, max_entries: int, charge: Charge, members: Members | None) -> None:
        self._found = members
        self._shown: tuple[str | None, int] = None, 0  # name and number of the member that was looked at last
        self._data_at = 0
        self._source = source
        self._max_entries = max_entries
        self._charge = charge
        self._members = 0
        self._headers = 0
        self._extended_left = _EXTENDED_BYTES
        self._builder = TreeBuilder(max_entries + 1, max_entries, charge)
        self._entries = TarEntries(charge)
        self._linked: set[int] = set()  # what has had two names at some time
        self._globals: dict[str, bytes] = {}
        self._last = -_AHEAD_BYTES
        self._window_at = 0
        self._window = b""

    def run(self) -> tuple[Directory, TarEntries]:
        at = start = 0
        extended = _Extended()
        while (block := self._block(at)) != ZERO_BLOCK:
            if not self._headers & 63:
                check_time("mounting")
            self._headers += 1
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
                header_at = at - BLOCK_BYTES
                at = self._member(extended, header, block, at)
                if self._found is not None:
                    self._found.add(start, header_at, self._data_at, at, *self._shown)
                extended = _Extended()
                start = at
        self._count_names()
        if self._found is not None:
            self._found.finish(start, at, self._linked)
        name = f"tar archive {self._source.name}"
        if at + BLOCK_BYTES > self._source.size:
            if extended.count:
                raise BrokenHeader("the member is missing that headers at its end describe")
            _log.warning("%s has no end, as if it were cut short", name)
        self._builder.tell_hidden(name, self._members)
        return self._builder.root, self._entries

    def _block(self, at: int) -> bytes:
        """The block at `at`, which is a header or ends the archive; the end of the file ends it too."""
        place = at - self._window_at
        if not 0 <= place <= len(self._window) - BLOCK_BYTES:
            left = self._source.size - at
            if left < BLOCK_BYTES:
                if at and (left <= 0 or not any(self._source.read(at, left))):
                    return ZERO_BLOCK
                raise BrokenHeader("a header is cut short" if at else "no header at its start")
            near = 0 < at - self._last <= _NEAR_BYTES
            count = min(_AHEAD_BYTES, left) if near else BLOCK_BYTES
            self._window_at = at
            self._window = self._source.read(at, count)
            place = 0
        self._last = at
        return self._window[place : place + BLOCK_BYTES]

    def _check_end(self, at: int) -> None:
        if at > self._source.size:
            raise BrokenHeader("the data of a member are cut short")

    def _spend(self, count: int) -> None:
        """Look at so much of headers that describe others."""
        self._extended_left -= count
        if self._extended_left < 0:
            raise BrokenHeader("more bytes of headers than so few members may have")

    def _payload(self, at: int, count: int) -> bytes:
        """The data of a header that describes another."""
        self._check_end(at + count)
        self._spend(count)
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
            raise BrokenHeader(f"a PAX header of {counted(header.size, 'byte')} is too large")
        into = self._globals if header.type == b"g" else extended.values
        for number, (keyword, value) in enumerate(pax_records(self._payload(at, header.size))):
            if not number % 64:
                self._spend(_RECORD_COST_BYTES * min(number, 64))
                check_time("mounting")
            if keyword in _PAX_KEYWORDS:
                into[keyword] = value[: _PAX_KEYWORDS[keyword] + 1]
            elif keyword.startswith(_SPARSE) and into is extended.values:
                self._note_sparse(extended, keyword.removeprefix(_SPARSE), value)

    def _note_sparse(self, extended: _Extended, keyword: str, value: bytes) -> None:
        if keyword == "offset":
            extended.pieces.extend((_piece(value), 0))
        elif keyword == "numbytes" and extended.pieces:
            extended.pieces[-1] = _piece(value)
        elif keyword == "map":
            count = value.count(b",") + 1
            self._spend(count * _RECORD_COST_BYTES // 4)
            numbers = array("q", map(_piece, value.split(b",") if value else ()))
            if len(numbers) % 2:
                numbers.append(-1)
            extended.pieces = numbers
        elif keyword in _SPARSE_KEYWORDS:
            extended.sparse[keyword] = value[: _SPARSE_KEYWORDS[keyword] + 1]
        else:
            extended.sparse.setdefault("", b"")  # it is sparse, whatever else there is to it

    def _member(self, extended: _Extended, header: Header, block: bytes, at: int) -> int:
        """Take one member in; the offset of the next header."""
        self._members += 1
        if self._members > self._max_entries:
            raise TooManyEntries
        self._extended_left += _EXTENDED_MEMBER_BYTES
        values = {**self._globals, **extended.values} if self._globals else extended.values
        pieces, full, problem = extended.pieces, None, None
        if header.type == b"S":
            at, pieces, full = self._old_gnu_pieces(block, at)
        self._data_at, self._shown = at, (None, 0)
        size = _size(values.get("size"), header.size)
        if header.type == b"1" and size and not self._is_body(extended, at, size):
            size = 0
        data_bytes = 0 if header.type in _WITHOUT_DATA else size
        end = at + _padded(data_bytes)
        # The padding of the last member is not missed by anybody, but its bytes are.
        self._check_end(at + data_bytes)
        raw_name = extended.sparse.get("name") or values.get("path") or header.name
        name = _text(raw_name)
        if name is None or header.type in _NO_OBJECTS:
            if name is None:
                self._builder.hide(raw_name[:200])
            return end
        name = _plain(name)
        time = pax_time_ns(values["mtime"]) if values.get("mtime") else header.mtime_ns
        linkname = values.get("linkpath") or header.linkname
        kind = _KINDS.get(header.type, FileType.REGULAR_FILE)
        if header.type == b"1" and self._hard_link(name, linkname, at, size):
            return end
        if kind is FileType.REGULAR_FILE:
            if name.endswith("/") and header.type in (b"0", b"\0"):
                kind = FileType.DIRECTORY  # of an archive older than the type
            elif extended.sparse or extended.pieces:
                full = _piece(extended.sparse.get("realsize") or extended.sparse.get("size") or b"")
            if header.type == b"M":
                problem = "its beginning is on another volume"
            elif full is not None and not 0 <= full <= SIZE_MAX_BYTES:
                full, problem = 0, "its full size is no size"
        if kind is FileType.DIRECTORY:
            if name in (".", "./", ""):
                root = self._builder.root
                root.stat = Stat(kind, 0, time, time, time, 1, root.stat.ident)
                self._shown = "", 0
            else:
                number = self._entries.skip()
                self._shown = name.removesuffix("/"), number
                self._builder.add_directory(name, Stat(kind, 0, time, time, time, 1, number), number)
            return end
        number = self._entries.add(kind, at, size if kind is FileType.REGULAR_FILE else 0, time)
        self._shown = name.removesuffix("/"), number
        if not self._builder.add(name, number):
            return end
        if kind is FileType.SYMBOLIC_LINK:
            self._entries.set_target(number, linkname)
        if problem is not None:
            self._entries.set_problem(number, problem)
        if full is not None:
            self._sparse(number, extended, pieces, full, data_bytes, problem)
        return end

    def _is_body(self, extended: _Extended, at: int, size: int) -> bool:
        """Whether a hard link has contents behind it. POSIX.1-2001 allows it, and older programs write a size without.

        Where the headers of PAX say so, it has; else if what follows is no header.
        """
        if extended.values and "size" in extended.values:
            return True
        if at + BLOCK_BYTES > self._source.size:
            return at + size <= self._source.size
        try:
            block = self._source.read(at, BLOCK_BYTES)
            return block != ZERO_BLOCK and not parse_header(block)
        except BrokenHeader:
            return True

    def _sparse(
        self, number: int, extended: _Extended, pieces: array[int], full: int, data_bytes: int, problem: str | None
    ) -> None:
        self._entries.set_sparse(number, full, data_bytes)
        if problem is not None:
            return
        if extended.sparse.get("major") == b"1":
            self._entries.maps[number] = None
            return
        try:
            self._charge.take(len(pieces) // 2 * PIECE_COST_BYTES)
            self._entries.maps[number] = SparseMap(pieces, full, data_bytes)
        except BadMap as error:
            self._entries.set_problem(number, str(error))

    def _old_gnu_pieces(self, block: bytes, at: int) -> tuple[int, array[int], int]:
        """(offset of the data, pieces, full size) of an old GNU sparse file."""
        found, more, full = old_gnu_sparse(block)
        pieces = array("q", (number for pair in found for number in pair))
        blocks = 0
        while more:
            found, more = old_gnu_sparse_more(self._payload(at, BLOCK_BYTES))
            self._extended_left += BLOCK_BYTES
            self._charge.take(len(found) * PIECE_COST_BYTES + 1)
            pieces.extend(number for pair in found for number in pair)
            at += BLOCK_BYTES
            blocks += 1
            if not blocks & 63:
                check_time("mounting")
        return at, pieces, full

    def _hard_link(self, name: str, raw_target: bytes, at: int, size: int) -> bool:
        """One more name of what stands under the target's name up to now; False: it is a file of its own."""
        target = _text(raw_target)
        node = self._builder.find(_plain(target)) if target else None
        if node is None or isinstance(node, Directory):
            if not size:
                self._builder.hide(name)
            return not size
        if self._builder.add(name, node):
            self._linked.add(node)
            self._shown = name.removesuffix("/"), node
        if size and self._entries.kind(node) is FileType.REGULAR_FILE:
            # Some programs write the contents with the last of the names.
            self._entries.set_contents(node, at, size)
            self._linked.add(node)
            self._shown = self._shown[0], node
        return True

    def _count_names(self) -> None:
        """Give the objects that have had several names the count of those that are left."""
        if not self._linked:
            return
        names = dict.fromkeys(self._linked, 0)
        todo = [self._builder.root]
        while todo:
            for child in todo.pop().children.values():
                if isinstance(child, Directory):
                    todo.append(child)
                elif child in names:
                    names[child] += 1
        for number, count in names.items():
            self._entries.set_names(number, count)


def _plain(name: str) -> str:
    """A name as GNU tar understands it: `./` before it, `//` and `/./` in it say nothing."""
    if name.startswith("./") or "//" in name or "/./" in name or name.endswith("/."):
        absolute = name.startswith("/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        directory = name.endswith(("/", "/."))
        return "/" * absolute + "/".join(parts) + "/" * (directory and bool(parts))
    return name


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
