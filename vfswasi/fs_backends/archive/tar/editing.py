"""The headers of one member of a tar archive, changed where something changed and else as they stand.

What does not fit a field goes into a PAX record, whatever format the archive has: every program that knows the long
names of GNU tar knows those too. Records that nobody here understands stay.

POSIX.1-2024, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ....errors import Errno, FsError
from ..source import ArchiveSource
from .header import BLOCK_BYTES, BrokenHeader, parse_header, pax_records
from .members import Place

REGULAR: Final = b"0"
HARD_LINK: Final = b"1"
SYMBOLIC_LINK: Final = b"2"
DIRECTORY: Final = b"5"
_MODES = {REGULAR: 0o600, HARD_LINK: 0o600, SYMBOLIC_LINK: 0o777, DIRECTORY: 0o700}
_OLD_GNU_MAGIC = b"ustar  \0"
_OCTAL_MAX = 8**11  # of sizes and times
_PAX_MAX_BYTES = 1 << 20
_SPARSE = b"GNU.sparse."
_OF_CONTENTS = (b"size", b"SCHILY.realsize", b"SUN.holesdata")
_PRIVILEGES = b"xattr.security.capability"


class Change(NamedTuple):
    """What becomes different; None: nothing. name, link: paths in the archive, as they are to stand. kind: the type.
    size: of new contents. mtime_ns: the new time."""

    name: str | None = None
    link: str | None = None
    kind: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None


class Part(NamedTuple):
    """One header that describes others: its type, where it and its data stand, and bytes of the data."""

    kind: bytes
    start: int
    data: int
    size: int

    @property
    def end(self) -> int:
        return self.data + padded(self.size)


def parts(source: ArchiveSource, start: int, end: int) -> Iterator[Part]:
    """The headers between two offsets, which describe what stands at `end`. Raises IO."""
    at = start
    while at < end:
        try:
            header = parse_header(source.read(at, BLOCK_BYTES))
        except BrokenHeader as error:
            raise FsError(Errno.IO, f"{source.name}: {error}; somebody changed the archive") from error
        part = Part(header.type, at, at + BLOCK_BYTES, header.size)
        yield part
        at = part.end


def padded(count: int) -> int:
    """Bytes with what fills the last block."""
    return (count + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def edited(source: ArchiveSource, place: Place, change: Change, explicit: bool) -> bytes:
    """The headers of a member with a change, up to its data. explicit: everything is to stand there, since headers that
    hold for the whole archive say something else. Raises IO."""
    kept = b""
    records: list[tuple[bytes, bytes]] = []
    for part in parts(source, place.start, place.header):
        if part.kind in (b"x", b"X"):
            records += _records(source, part)
        elif (part.kind == b"L" and change.name is None) or (part.kind == b"K" and change.link is None):
            kept += source.read(part.start, part.end - part.start)
    block = bytearray(source.read(place.header, BLOCK_BYTES))
    # The map of an old GNU sparse file goes on behind the header.
    more = b"" if change.size is not None else source.read(place.header + BLOCK_BYTES, _map_bytes(place))
    return kept + _changed(block, records, change, explicit) + more


def _map_bytes(place: Place) -> int:
    return place.data - place.header - BLOCK_BYTES


def made(kind: bytes, change: Change, explicit: bool) -> bytes:
    """The headers of a new member."""
    info = tarfile.TarInfo("x")
    info.type, info.mode = kind, _MODES[kind]
    return _changed(bytearray(info.tobuf(tarfile.USTAR_FORMAT)), [], change, explicit)


def _records(source: ArchiveSource, part: Part) -> list[tuple[bytes, bytes]]:
    if part.size > _PAX_MAX_BYTES:
        raise FsError(Errno.IO, f"{source.name}: a PAX header of {part.size} bytes is too large")
    try:
        return [
            (keyword.encode("utf-8", "replace"), value)
            for keyword, value in pax_records(source.read(part.data, part.size))
        ]
    except BrokenHeader as error:
        raise FsError(Errno.IO, f"{source.name}: {error}; somebody changed the archive") from error


def _changed(block: bytearray, records: list[tuple[bytes, bytes]], change: Change, explicit: bool) -> bytes:
    if change.name is not None:
        _set_name(block, records, change.name, explicit)
    if change.link is not None:
        _set_link(block, records, change.link, explicit)
    if change.kind is not None:
        block[156:157] = change.kind
    if change.size is not None:
        _set_size(block, records, change.size, explicit)
        if change.kind == REGULAR:
            _drop_privileges(block, records)
    if change.mtime_ns is not None:
        _set_time(block, records, change.mtime_ns, explicit)
    _set_checksum(block)
    return _pax_header(records) + bytes(block)


def _set_name(block: bytearray, records: list[tuple[bytes, bytes]], name: str, explicit: bool) -> None:
    raw = name.encode()
    sparse = any(keyword == _SPARSE + b"name" for keyword, _ in records)
    records[:] = [(keyword, value) for keyword, value in records if keyword not in (b"path", _SPARSE + b"name")]
    if sparse:
        records.append((_SPARSE + b"name", raw))
    if explicit or sparse or not _fits(raw):
        records.append((b"path", raw))
    block[0:100] = raw[:100].ljust(100, b"\0") if raw.isascii() else _plain(raw)
    if block[257:262] == b"ustar" and block[257:265] != _OLD_GNU_MAGIC:
        block[345:500] = bytes(155)


def _set_link(block: bytearray, records: list[tuple[bytes, bytes]], link: str, explicit: bool) -> None:
    raw = link.encode()
    records[:] = [(keyword, value) for keyword, value in records if keyword != b"linkpath"]
    if explicit or not _fits(raw):
        records.append((b"linkpath", raw))
    block[157:257] = raw[:100].ljust(100, b"\0") if raw.isascii() else _plain(raw)


def _fits(raw: bytes) -> bool:
    return len(raw) < 100 and raw.isascii()


def _plain(raw: bytes) -> bytes:
    """What stands in the field for programs that do not know PAX."""
    return raw.decode().encode("ascii", "replace")[:100].ljust(100, b"\0")


def _set_size(block: bytearray, records: list[tuple[bytes, bytes]], size: int, explicit: bool) -> None:
    records[:] = [
        (keyword, value)
        for keyword, value in records
        if keyword not in _OF_CONTENTS and not keyword.startswith(_SPARSE)
    ]
    if explicit or size >= _OCTAL_MAX:
        records.append((b"size", b"%d" % size))
    block[124:136] = _field(size)


def _drop_privileges(block: bytearray, records: list[tuple[bytes, bytes]]) -> None:
    """As with any file that is written to: what others put into it does not run as its owner."""
    records[:] = [(keyword, value) for keyword, value in records if not keyword.endswith(_PRIVILEGES)]
    mode = bytes(block[100:108]).rstrip(b"\0 ").strip()
    if mode and not mode.strip(b"01234567"):
        block[100:108] = b"%07o\0" % (int(mode, 8) & ~(stat.S_ISUID | stat.S_ISGID) & 0o7777777)


def _set_time(block: bytearray, records: list[tuple[bytes, bytes]], time_ns: int, explicit: bool) -> None:
    records[:] = [(keyword, value) for keyword, value in records if keyword != b"mtime"]
    seconds, rest = divmod(time_ns, 10**9)
    if explicit or rest or not 0 <= seconds < _OCTAL_MAX:
        sign = b"-" if time_ns < 0 else b""
        whole, decimals = divmod(abs(time_ns), 10**9)
        text = b"%s%d" % (sign, whole) + (b".%09d" % decimals).rstrip(b"0").rstrip(b".")
        records.append((b"mtime", text))
    block[136:148] = b"%011o\0" % min(max(seconds, 0), _OCTAL_MAX - 1)


def _field(value: int) -> bytes:
    """A number field of 12 bytes: octal, or base 256 as GNU tar has it."""
    return b"%011o\0" % value if value < _OCTAL_MAX else b"\x80" + value.to_bytes(11, "big")


def _set_checksum(block: bytearray) -> None:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)


def _pax_header(records: Sequence[tuple[bytes, bytes]]) -> bytes:
    if not records:
        return b""
    data = b"".join(_record(keyword, value) for keyword, value in records)
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size, info.mode = b"x", len(data), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(padded(len(data)), b"\0")


def _record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3
    size = rest
    while size != rest + len(str(size)):
        size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, keyword, value)
