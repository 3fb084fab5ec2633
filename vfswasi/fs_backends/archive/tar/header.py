"""The headers of a tar archive: one block of 512 bytes, and the records of a PAX header.

`tarfile` reads them too, but calls itself for each header that describes the next (a chain of them ends in
RecursionError), loads such a header whole whatever size it claims, and takes a header that is broken for the end of
the archive. Here the numbers are only parsed; whoever follows them bounds them.

The formats: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)

# name mode uid gid size mtime checksum type linkname magic+version uname gname devmajor devminor prefix
_HEADER = struct.Struct("100s 8x 8x 8x 12s 12s 8s c 100s 8s 32x 32x 8x 8x 155s 12x")
_CHECKSUM_AT = 148
_OLD_GNU_MAGIC = b"ustar  \0"
_SPARSE_AT = 386  # of an old GNU header: 4 pairs of offset and length, one byte "more follow", the full size
_SPARSE_MORE_AT = 482
_SPARSE_BLOCK_PAIRS = 21
_SPARSE_BLOCK_MORE_AT = 504
_PAX_NUMBER_MAX_DIGITS = 20
_PAX_TIME = re.compile(r"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_TIME_MAX_S = 1 << 63


class BrokenHeader(Exception):
    """The bytes are no header; the text says why."""


class Header(NamedTuple):
    """One block. Names are raw; `type` is one byte; `mtime_ns` is None where it is no number."""

    name: bytes
    type: bytes
    size: int
    mtime_ns: int | None
    linkname: bytes


def parse_header(block: bytes) -> Header:
    """Raises BrokenHeader: the checksum or the size is wrong."""
    name, size_field, time_field, checksum, kind, linkname, magic, prefix = _HEADER.unpack(block)
    # Some old programs added signed bytes up.
    unsigned = 8 * 0x20 + sum(block) - sum(checksum)
    wanted = number(checksum)
    if wanted != unsigned:
        rest = block[:_CHECKSUM_AT] + block[_CHECKSUM_AT + 8 :]
        signed = unsigned - 256 * sum(byte > 127 for byte in rest)
        if wanted != signed:
            raise BrokenHeader("checksum of a header is wrong")
    size = number(size_field)
    if size is None or size < 0:
        raise BrokenHeader("size in a header is no size")
    name = _text(name)
    # Old GNU headers keep other things in the place of the prefix.
    if magic[:5] == b"ustar" and magic != _OLD_GNU_MAGIC and (before := _text(prefix)):
        name = before + b"/" + name
    seconds = number(time_field)
    time_ns = seconds * 10**9 if seconds is not None and abs(seconds) < _TIME_MAX_S else None
    return Header(name, kind, size, time_ns, _text(linkname))


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def number(field: bytes) -> int | None:
    """A number field: octal digits, or base 256 where the first bit is set; None if it is neither."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # The bit 0x40 is the sign of a two's complement that fills the field.
        return value - (1 << bits) if field[0] & 0x40 else value - (1 << bits - 1)
    digits = _text(field).strip()
    if not digits:
        return 0
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def old_gnu_sparse(block: bytes) -> tuple[list[tuple[int, int]], bool, int]:
    """(offset and length of the pieces, whether a block with more follows, full size). Raises BrokenHeader."""
    full = number(block[_SPARSE_MORE_AT + 1 : _SPARSE_MORE_AT + 13])
    if full is None:
        raise BrokenHeader("full size of a sparse file is no number")
    return _pairs(block[_SPARSE_AT:_SPARSE_MORE_AT]), bool(block[_SPARSE_MORE_AT]), full


def old_gnu_sparse_more(block: bytes) -> tuple[list[tuple[int, int]], bool]:
    """What a block that continues such a header holds. Raises BrokenHeader."""
    return _pairs(block[: _SPARSE_BLOCK_PAIRS * 24]), bool(block[_SPARSE_BLOCK_MORE_AT])


def _pairs(data: bytes) -> list[tuple[int, int]]:
    pairs = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        offset, length = number(data[at : at + 12]), number(data[at + 12 : at + 24])
        if offset is None or length is None:
            raise BrokenHeader("piece of a sparse file is no number")
        pairs.append((offset, length))
    return pairs


def pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(keyword, value) of each record, in order. Raises BrokenHeader."""
    at = 0
    while at < len(data):
        if not data[at]:  # some programs fill the block up with zeros and count them
            break
        space = data.find(b" ", at, at + _PAX_NUMBER_MAX_DIGITS)
        length = pax_number(data[at:space]) if space > 0 else None
        if not length or at + length > len(data) or data[at + length - 1] != 0x0A:
            raise BrokenHeader("length of a PAX record is wrong")
        keyword, equals, value = data[space + 1 : at + length - 1].partition(b"=")
        if not equals:
            raise BrokenHeader("PAX record without a value")
        yield keyword.decode("utf-8", "replace"), value
        at += length


def pax_number(text: bytes) -> int | None:
    """A number without sign; None if it is none."""
    return int(text) if len(text) <= _PAX_NUMBER_MAX_DIGITS and text.isdigit() else None


def pax_time_ns(text: bytes) -> int | None:
    """Seconds with any number of decimals, in ns, rounded down; None if it is no time."""
    found = _PAX_TIME.fullmatch(text.decode("ascii", "replace"))
    if found is None:
        return None
    sign, whole, decimals = found.groups()
    decimals = decimals or ""
    ns = int(whole) * 10**9 + int(decimals[:9].ljust(9, "0"))
    if sign:
        ns = -ns - bool(decimals[9:].strip("0"))
    return ns if abs(ns) < _TIME_MAX_S * 10**9 else None
