"""Zip archives written byte by byte, so that every field can lie."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
UTF8_FLAG = 0x800
DATE = (2020 - 1980) << 9 | 2 << 5 | 3  # 3 February 2020
TIME = 4 << 11 | 5 << 5 | 3  # 04:05:06
DATE_NS = 1_580_702_706 * 10**9


def deflate(data: bytes) -> bytes:
    """`data` as a raw deflate stream."""
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


@dataclass
class Entry:
    """One member; what is None is computed honestly from `data`. `payload`: the bytes after the header."""

    name: str | bytes
    data: bytes = b""
    method: int = STORED
    flags: int = UTF8_FLAG
    payload: bytes | None = None
    file_size: int | None = None
    compress_size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_extra: bytes = b""
    date: int = DATE
    mode: int = 0
    system: int = 3
    header_offset: int | None = None
    after: bytes = b""  # between this member's data and the next header


def forge(*entries: Entry, comment: bytes = b"", prefix: bytes = b"") -> bytes:
    """An archive with these entries, in this order."""
    body = bytearray(prefix)
    directory = bytearray()
    for entry in entries:
        name = entry.name.encode() if isinstance(entry.name, str) else entry.name
        payload = entry.payload
        if payload is None:
            payload = deflate(entry.data) if entry.method == DEFLATED else entry.data
        sizes = (
            zlib.crc32(entry.data) if entry.crc is None else entry.crc,
            len(payload) if entry.compress_size is None else entry.compress_size,
            len(entry.data) if entry.file_size is None else entry.file_size,
        )
        offset = len(body) if entry.header_offset is None else entry.header_offset
        local_name = name if entry.local_name is None else entry.local_name
        local_method = entry.method if entry.local_method is None else entry.local_method
        fields = (entry.flags, local_method, TIME, entry.date, *sizes)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *fields, len(local_name), len(entry.local_extra))
        body += local_name + entry.local_extra + payload + entry.after
        fields = (entry.flags, entry.method, TIME, entry.date, *sizes, len(name), len(entry.extra))
        directory += struct.pack("<4sBB5H3L2H", b"PK\1\2", 20, entry.system, 20, *fields)
        directory += struct.pack("<3H2L", 0, 0, 0, entry.mode << 16, offset) + name + entry.extra
    count = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)
