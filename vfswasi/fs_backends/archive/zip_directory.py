"""The central directory of a zip archive: where it is, and what its entries say.

`zipfile` reads it too, but refuses the whole archive for one entry that is broken (a name flagged as UTF-8 that
is none, an extra field that is longer than its space, a version that it does not know), and takes time that grows
with the square of the extra fields. Here such an entry is left out and its siblings stay. The format is
APPNOTE.TXT 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from typing import Any
from zipfile import BadZipFile, ZipInfo

from .source import ArchiveSource
from .tree import TooManyEntries

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_COMMENT_MAX_BYTES = 0xFFFF
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\6\7"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\6\6"
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_ENTRY_SIGNATURE = b"PK\1\2"
_MEAN_BYTES_MAX = 1024  # the most that an entry may take on average
_UTF8_FLAG = 0x800
_EXTRA_ZIP64 = 0x0001
_UNKNOWN_32 = 0xFFFFFFFF


def read_directory(source: ArchiveSource, max_entries: int) -> tuple[list[ZipInfo], int]:
    """(the entries that can be understood, in the archive's order; the offset at which the directory starts).

    Offsets count from the start of the file, also where something stands before the archive. Raises BadZipFile (no
    directory, or one that is cut short), TooManyEntries, FsError (reading fails).
    """
    end_at, size, offset = _find_end(source)
    start = end_at - size
    prefix = start - offset
    if start < 0 or prefix < 0:
        raise BadZipFile("its directory would start before the file does")
    if size > max_entries * _MEAN_BYTES_MAX + (1 << 20):
        raise BadZipFile(f"a directory of {size} bytes is too large")
    data = source.read(start, size)
    if len(data) < size:
        raise BadZipFile("its directory is cut short")
    entries = [_entry(*parts, prefix) for parts in _split(data, max_entries)]
    return [info for info in entries if info is not None], start


def _find_end(source: ArchiveSource) -> tuple[int, int, int]:
    """(offset behind the directory, its size, the offset at which it claims to start)."""
    tail_size = min(source.size, _END.size + _COMMENT_MAX_BYTES)
    tail = source.read(source.size - tail_size, tail_size)
    at = tail.rfind(_END_SIGNATURE, 0, max(0, len(tail) - _END.size + len(_END_SIGNATURE)))
    if at < 0:
        raise BadZipFile("File is not a zip file")
    *_, size, offset, _ = _END.unpack_from(tail, at)
    end_at = source.size - tail_size + at
    if end_at < _LOCATOR.size + _END64.size:
        return end_at, size, offset
    locator_at = end_at - _LOCATOR.size
    signature, _, end64_at, disks = _LOCATOR.unpack(source.read(locator_at, _LOCATOR.size))
    if signature != _LOCATOR_SIGNATURE:
        return end_at, size, offset
    if disks > 1:
        raise BadZipFile("zipfiles that span multiple disks are not supported")
    # Its usual place counts, since the offset in the locator knows nothing of what stands before the archive.
    for place in (locator_at - _END64.size, end64_at):
        if 0 <= place <= locator_at - _END64.size:
            fields = _END64.unpack(source.read(place, _END64.size))
            if fields[0] == _END64_SIGNATURE:
                return place, fields[-2], fields[-1]
    return end_at, size, offset


def _split(data: bytes, max_entries: int) -> list[tuple[tuple[Any, ...], bytes, bytes]]:
    """(fixed fields, raw name, extra fields) of each entry, counted before anything is made of them."""
    entries: list[tuple[tuple[Any, ...], bytes, bytes]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            raise BadZipFile("Truncated central directory")
        fields = _ENTRY.unpack_from(data, at)
        if fields[0] != _ENTRY_SIGNATURE:
            raise BadZipFile("Bad magic number for central directory")
        name_at = at + _ENTRY.size
        extra_at = name_at + fields[12]
        comment_at = extra_at + fields[13]
        at = comment_at + fields[14]
        if at > len(data):
            raise BadZipFile("Truncated central directory")
        if len(entries) == max_entries:
            raise TooManyEntries
        entries.append((fields, data[name_at:extra_at], data[extra_at:comment_at]))
    return entries


def _entry(fields: tuple[Any, ...], raw_name: bytes, extra: bytes, prefix: int) -> ZipInfo | None:
    """The entry, or None if it is broken."""
    _, _, system, _, _, flags, method, time, date, crc, compress_size, file_size, *_ = fields
    external_attr, header_offset = fields[17], fields[18]
    try:
        name = raw_name.decode("utf-8" if flags & _UTF8_FLAG else "cp437")
    except UnicodeDecodeError:
        return None
    if _UNKNOWN_32 in (compress_size, file_size, header_offset):
        wide = _zip64(extra, [file_size, compress_size, header_offset])
        if wide is None:
            return None
        file_size, compress_size, header_offset = wide
    info = ZipInfo(name)
    info.orig_filename = name
    info.create_system = system
    info.flag_bits = flags
    info.compress_type = method
    info.date_time = (
        (date >> 9) + 1980, (date >> 5) & 0xF, date & 0x1F, time >> 11, (time >> 5) & 0x3F, (time & 0x1F) * 2
    )  # fmt: skip
    info.CRC = crc
    info.compress_size = compress_size
    info.file_size = file_size
    info.external_attr = external_attr
    info.header_offset = header_offset + prefix
    info.extra = extra
    return info


def _zip64(extra: bytes, values: list[int]) -> list[int] | None:
    """File size, compressed size and header offset, completed by the zip64 field; None if something is missing."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == _EXTRA_ZIP64:
            field = extra[at + 4 : at + 4 + length]
            position = 0
            for index, value in enumerate(values):
                if value == _UNKNOWN_32:
                    if position + 8 > len(field):
                        return None
                    (values[index],) = struct.unpack_from("<Q", field, position)
                    position += 8
            return values
        at += 4 + length
    return None
