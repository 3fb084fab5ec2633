"""The central directory of a zip archive: where it is, and what its entries say.

`zipfile` reads it too, but refuses the whole archive for one entry that is broken (a name flagged as UTF-8 that
is none, an extra field that is longer than its space, a version that it does not know), and takes time that grows
with the square of the extra fields. Here such an entry is left out and its siblings stay. The format is
APPNOTE.TXT 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple
from zipfile import BadZipFile

from ..source import ArchiveSource

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_COMMENT_MAX_BYTES = 0xFFFF
_CANDIDATES_MAX = 4096
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\6\7"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\6\6"
ENTRY = struct.Struct("<4s4B4H3L5H2L")
_ENTRY_BYTES: Final = ENTRY.size
ENTRY_SIGNATURE: Final = b"PK\1\2"
UTF8_FLAG: Final = 0x800
EXTRA_ZIP64: Final = 0x0001
EXTRA_UNICODE_PATH: Final = 0x7075
_UNICODE_PATH_TAG = struct.pack("<H", EXTRA_UNICODE_PATH)
_EXTRA_FIELDS_MAX = 64  # that are looked at; programs write up to six
UNIX: Final = 3
_UNIX_SYSTEMS = (UNIX, 19)  # and OS X
_UNKNOWN_16, _UNKNOWN_32 = 0xFFFF, 0xFFFFFFFF


class Ending(NamedTuple):
    """start, size: of the directory. prefix: bytes before the archive. end: behind its comment. joined: nothing stands
    between the directory and what says where it is."""

    start: int
    size: int
    prefix: int
    end: int
    comment: bytes
    joined: bool


class Entry(NamedTuple):
    """One entry. `header_offset` counts from the start of the file, also where something stands before the archive.
    `at`: of the entry in the directory."""

    name: str
    raw_name: bytes
    extra: bytes
    system: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    compress_size: int
    file_size: int
    attributes: int
    header_offset: int
    at: int


def find_directory(source: ArchiveSource) -> Ending:
    """Raises BadZipFile (there is none, it would lie outside the file, it is one of several files), FsError."""
    tail_size = min(source.size, _END.size + _COMMENT_MAX_BYTES)
    tail_at = source.size - tail_size
    tail = source.read(tail_at, tail_size)
    errors: list[BadZipFile] = []
    found: list[tuple[tuple[bool, ...], Ending]] = []
    at = len(tail)
    tried = 0
    while tried < _CANDIDATES_MAX:
        at = tail.rfind(_END_SIGNATURE, 0, max(0, min(at + 3, len(tail) - _END.size + len(_END_SIGNATURE))))
        if at < 0:
            break
        *fields, comment_bytes = _END.unpack_from(tail, at)
        # A comment may hold what looks like an end. The true one ends where the file does, and has its directory.
        fits = at + _END.size + comment_bytes == len(tail)
        if not fits and (found or errors):
            continue
        tried += 1
        comment = tail[at + _END.size : at + _END.size + comment_bytes]
        try:
            ending = _ending(source, tail_at + at, tuple(fields[1:]), comment)
        except BadZipFile as error:
            errors.append(error)
            continue
        rank = (_has_entries(source, ending), fits, not ending.prefix)
        if all(rank):
            return ending
        found.append((rank, ending))
    if found and not (errors and not found[0][0][0]):
        return max(found, key=lambda pair: pair[0])[1]
    raise errors[0] if errors else BadZipFile("no end of a zip archive in it")


def has_directory(source: ArchiveSource) -> bool:
    """Whether there is a zip archive at the end of a file, whatever it begins with. Raises FsError."""
    try:
        return _has_entries(source, find_directory(source))
    except BadZipFile:
        return False


def _has_entries(source: ArchiveSource, found: Ending) -> bool:
    return not found.size or (found.size >= ENTRY.size and source.read(found.start, 4) == ENTRY_SIGNATURE)


def _ending(source: ArchiveSource, end_at: int, fields: tuple[int, ...], comment: bytes) -> Ending:
    disk, first_disk, here, total, size, offset = fields
    end = end_at + _END.size + len(comment)
    directory_end = end_at
    joined = True
    locator_at = end_at - _LOCATOR.size
    if locator_at >= _END64.size:
        signature, _, end64_at, disks = _LOCATOR.unpack(source.read(locator_at, _LOCATOR.size))
        if signature == _LOCATOR_SIGNATURE:
            if disks > 1:
                raise _split(disks)
            # Its usual place counts, since the offset in the locator knows nothing of what stands before the archive.
            for place in (locator_at - _END64.size, end64_at):
                if 0 <= place <= locator_at - _END64.size:
                    wide = _END64.unpack(source.read(place, _END64.size))
                    if wide[0] == _END64_SIGNATURE:
                        _, record_bytes, _, _, disk, first_disk, here, total, size, offset = wide
                        directory_end = place
                        joined = place + 12 + record_bytes == locator_at
                        break
    if disk not in (0, _UNKNOWN_16) or first_disk not in (0, _UNKNOWN_16) or here != total:
        raise _split(disk + 1)
    start = directory_end - size
    prefix = start - offset
    if start < 0 or prefix < 0:
        raise BadZipFile("its directory would start before the file does")
    return Ending(start, size, prefix, end, comment, joined)


def _split(disks: int) -> BadZipFile:
    return BadZipFile(
        f"it is one part of an archive that is split into {disks} files or more, whose members cannot be read from it; "
        "join them first (zip -s 0 SPLIT.zip --out WHOLE.zip)"
    )


def entry_at(raw: bytes | bytearray, at: int, prefix: int) -> tuple[Entry | None, int]:
    """(the entry, None if it is broken; where the next one stands). Raises BadZipFile: it is cut short or none."""
    whole = len(raw)
    if whole - at < _ENTRY_BYTES:
        raise BadZipFile("Truncated central directory")
    (signature, _, system, _, _, flags, method, time, date, crc, compress_size, file_size, name_bytes, extra_bytes,
     comment_bytes, _, _, attributes, offset) = ENTRY.unpack_from(raw, at)  # fmt: skip
    if signature != ENTRY_SIGNATURE:
        raise BadZipFile("Bad magic number for central directory")
    name_at = at + _ENTRY_BYTES
    extra_at = name_at + name_bytes
    after = extra_at + extra_bytes + comment_bytes
    if after > whole:
        raise BadZipFile("Truncated central directory")
    raw_name = bytes(raw[name_at:extra_at])
    extra = bytes(raw[extra_at : extra_at + extra_bytes]) if extra_bytes else b""
    name = decoded(raw_name, flags, system, extra)
    if name is None:
        return None, after
    if compress_size == _UNKNOWN_32 or file_size == _UNKNOWN_32 or offset == _UNKNOWN_32:
        wide = _zip64(extra, [file_size, compress_size, offset])
        if wide is None:
            return None, after
        file_size, compress_size, offset = wide
    return Entry(
        name, raw_name, extra, system, flags, method, time, date, crc, compress_size, file_size, attributes,
        offset + prefix, at,
    ), after  # fmt: skip


def decoded(raw: bytes, flags: int, system: int, extra: bytes) -> str | None:
    """A name as text; None if it is flagged as UTF-8 and is none.

    The flag counts most, then the field that Info-ZIP adds (APPNOTE 4.6.9) if it was made for this name. Without both,
    programs on Unix write what the file system holds, which is UTF-8 nearly everywhere; all else is code page 437.
    """
    if raw.isascii() and not extra:
        return raw.decode("ascii")
    try:
        if flags & UTF8_FLAG:
            return raw.decode()
        text = _unicode_path(raw, extra) if _UNICODE_PATH_TAG in extra else None
        if text is not None:
            return text
        if system in _UNIX_SYSTEMS:
            return raw.decode()
    except UnicodeDecodeError:
        if flags & UTF8_FLAG:
            return None
    return raw.decode("cp437")


def _unicode_path(raw: bytes, extra: bytes) -> str | None:
    for tag, data in extra_fields(extra):
        # version 1, checksum of the name that stands beside it, UTF-8
        if tag == EXTRA_UNICODE_PATH and len(data) > 5 and data[0] == 1:
            if int.from_bytes(data[1:5], "little") != zlib.crc32(raw):
                return None
            try:
                return data[5:].decode()
            except UnicodeDecodeError:
                return None
    return None


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, data) of the extra fields, as many as there may be."""
    at = 0
    for _ in range(_EXTRA_FIELDS_MAX):
        if at + 4 > len(extra):
            break
        tag, length = struct.unpack_from("<HH", extra, at)
        yield tag, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _zip64(extra: bytes, values: list[int]) -> list[int] | None:
    """File size, compressed size and header offset, completed by the zip64 field; None if something is missing."""
    for tag, field in extra_fields(extra):
        if tag == EXTRA_ZIP64:
            position = 0
            for index, value in enumerate(values):
                if value == _UNKNOWN_32:
                    if position + 8 > len(field):
                        return None
                    (values[index],) = struct.unpack_from("<Q", field, position)
                    position += 8
            return values
    return None
