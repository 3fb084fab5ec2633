"""What comes from a web server, believed no further than it goes: redirects, versions, ranges, encodings, lengths.

Source: RFC 9110 (8.4 encodings, 8.8 validators, 14 ranges, 15.4 redirects).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ....errors import Errno, FsError
from ....printing import counted
from ..client import Info, Unranged
from ..entries import http_date
from ..translate import STATUSES

PAGE_MAX_BYTES = 16 << 20  # of a directory's page
WHOLE_MAX_BYTES = 4 << 30  # of a file that has to be fetched as a whole
PIECE_BYTES = 1 << 20
_TAG_MAX = 256
_DATE_MAX = 64
_SIZE_MAX = (1 << 63) - 1
_DIGITS_MAX = 19

Headers = Mapping[str, str]


def error_of(status: int, what: str) -> FsError:
    """For an answer that is not what was asked for."""
    number = STATUSES.get(status, Errno.IO)
    return FsError(number, f"{what}: HTTP status {status}")


def number_of(text: str) -> int | None:
    """A count of bytes as headers have it; None for anything else."""
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS_MAX:
        return None
    number = int(text)
    return number if number <= _SIZE_MAX else None


def is_encoded(headers: Headers) -> bool:
    """Whether the body is something else than the file's bytes, which were asked for."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def length_of(headers: Headers) -> int | None:
    """Bytes of the file that a whole answer brings, if it says so."""
    return None if is_encoded(headers) else number_of(headers.get("Content-Length", "").strip())


def range_of(headers: Headers) -> tuple[int | None, int | None, int | None]:
    """`Content-Range`: the first byte, the one behind the last, and the size of the whole, each None if not told."""
    unit, _, rest = headers.get("Content-Range", "").strip().partition(" ")
    where, slash, whole = rest.partition("/")
    if unit.lower() != "bytes" or not slash:
        return None, None, None
    first, _, last = where.partition("-")
    begins, ends = number_of(first.strip()), number_of(last.strip())
    if begins is None or ends is None or ends < begins:
        begins = ends = None
    return begins, None if ends is None else ends + 1, number_of(whole.strip())


def _tag_of(headers: Headers) -> str | None:
    """A strong entity tag. A weak one (RFC 9110, 8.8.1) does not tell one byte from another."""
    tag = headers.get("ETag", "")
    plain = tag.isascii() and tag.isprintable() and len(tag) <= _TAG_MAX
    return tag if plain and len(tag) > 1 and tag[0] == tag[-1] == '"' else None


def time_of(headers: Headers) -> int | None:
    date = headers.get("Last-Modified")
    try:
        return None if date is None or len(date) > _DATE_MAX else http_date(date)
    except (OverflowError, IndexError):
        return None


def version_of(headers: Headers, size: int | None) -> str | None:
    tag, time_ns = _tag_of(headers), time_of(headers)
    return tag if tag is not None or time_ns is None else f"{time_ns}-{size}"


def check_version(headers: Headers, size: int | None, info: Info, what: str) -> None:
    """That an answer is of the version that `info` told of, as far as both tell. Raises STALE."""
    if size is not None and info.size is not None and size != info.size:
        raise FsError(Errno.STALE, f"{what}: it has {counted(size, 'byte')} now, not {info.size:,}")
    if info.version is None:
        return
    if info.version.startswith('"'):
        now = _tag_of(headers)
    else:
        time_ns = time_of(headers)
        now = None if time_ns is None else f"{time_ns}-{info.size}"
    if now is not None and now != info.version:
        raise FsError(Errno.STALE, f"{what}: it is another version now")


def check_range(status: int, headers: Headers, info: Info, start: int, end: int, what: str) -> bool:
    """That an answer to a request for `[start, end)` begins there; whether it also ends there.

    Raises STALE (another version), `Unranged` (the server gives only all of it), IO (it lies).
    """
    if status == 416:
        raise FsError(Errno.STALE, f"{what}: the range is not there any more")
    if status not in (200, 206):
        raise error_of(status, what)
    if is_encoded(headers):
        raise Unranged(f"{what}: the server sends it compressed")
    if status == 200:
        length = length_of(headers)
        check_version(headers, length, info, what)
        # Without a length nothing tells the start of the file from rubbish but its end.
        if start or (length is None and end != info.size):
            raise Unranged(f"{what}: the server has no ranges")
        return end == info.size
    first, behind, whole = range_of(headers)
    check_version(headers, whole, info, what)
    length = number_of(headers.get("Content-Length", str(end - start)).strip())
    if (first, behind) != (start, end) or length != end - start:
        raise FsError(Errno.IO, f"{what}: bytes {first} to {behind} come instead of {start} to {end}")
    return True


class Decoder:
    """The bytes of a file out of the pieces of a whole answer, at most `most` of them."""

    def __init__(self, headers: Headers, most: int, what: str) -> None:
        """Raises IO for encodings that we did not ask for and do not know."""
        self._what = what
        self._most = most
        self._unpack: Any = None
        self._first = True
        self.count = 0
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._unpack = zlib.decompressobj(wbits=47)
        elif is_encoded(headers):
            raise FsError(Errno.IO, f"{what}: it comes encoded, though it was asked for as it is")

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What comes out of the next piece, each at most `PIECE_BYTES`. Raises IO, FBIG."""
        if self._unpack is None:
            yield self._counted(data)
            return
        try:
            if self._first and data and data[0] & 0x0F != 8 and data[0] != 0x1F:  # deflate without its header
                self._unpack = zlib.decompressobj(wbits=-15)
            self._first = self._first and not data
            more = bool(data)
            while more and not self._unpack.eof:
                piece = self._unpack.decompress(data, PIECE_BYTES)
                data = self._unpack.unconsumed_tail
                more = bool(data) or len(piece) == PIECE_BYTES
                if piece:
                    yield self._counted(piece)
        except zlib.error as error:
            raise FsError(Errno.IO, f"{self._what}: what it comes compressed in is broken") from error

    def _counted(self, piece: bytes) -> bytes:
        self.count += len(piece)
        if self.count > self._most:
            raise FsError(Errno.FBIG, f"{self._what}: it is larger than {counted(self._most, 'byte')}")
        return piece

    def finish(self) -> None:
        """When all has come. Raises IO."""
        if self._unpack is not None and not self._unpack.eof and not self._first:
            raise FsError(Errno.IO, f"{self._what}: what it comes compressed in ends early")


def charset_of(headers: Headers) -> str:
    """Of a page; "" if it does not say."""
    for part in headers.get("Content-Type", "").split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'")
    return ""


def is_html(headers: Headers) -> bool:
    """Whether a page may have links."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in ("", "text/html", "application/xhtml+xml")


Charger = Callable[[int, int], None]
