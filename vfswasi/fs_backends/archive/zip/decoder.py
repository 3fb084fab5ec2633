"""Decompressors for the members of a zip archive: forward only, bounded in memory, nothing believed.

Sizes in an archive may lie: memory is taken as the bytes come, never in advance, and at the end of a
member both sizes and the checksum must be right. A decoder carries the checksum of all that it (or the
decoder that it is a copy of) has put out since the start of the member.
"""

from __future__ import annotations

import zlib
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_LZMA, BadZipFile

from ....errors import Errno, FsError
from ....printing import counted
from ...charge import Charge
from ...waiting import check_time
from ..decoders import DEFLATE_BYTES, INPUT_BYTES, bzip2_bytes, reserve
from ..source import ArchiveSource
from .directory import Entry
from .tree import Member

_STEP_MAX_BYTES = 4 << 20  # soon done
_LZMA_DICTIONARY_MAX_BYTES = 128 << 20
_FLAG_LZMA_END_MARK = 0x02


def corrupt(info: Entry, reason: str) -> FsError:
    """IO, with the reason for the host's log chained as the library's own exception."""
    error = FsError(Errno.IO, f"zip member {info.name!r}: {reason}")
    error.__cause__ = BadZipFile(reason)
    return error


class Decoder:
    """Turns the compressed bytes of one member into plain ones, forward only.

    `position`: plain bytes put out so far. `crc`: their checksum. `charge`: the memory that it was given, None for a
    copy that somebody else counts.
    """

    def __init__(self, source: ArchiveSource, info: Entry, start: int) -> None:
        self.position = 0
        self.crc = 0
        self.charge: Charge | None = None
        self._source = source
        self._info = info
        self._at = start
        self._end = start + info.compress_size
        self._inner: Any = None

    def copy(self) -> Decoder | None:
        """An independent decoder in the same state, not charged, or None if that cannot be had."""
        return None

    def release(self) -> None:
        """Give its memory back: it is of no use any more."""
        self._inner = None
        if self.charge is not None:
            self.charge.close()

    def read(self, count: int) -> bytes:
        """The next `count` bytes. Raises IO: corrupt, or fewer bytes than the archive's directory says."""
        pieces = []
        missing = count
        while missing:
            piece = self._step_checked(missing)
            if not piece and self._exhausted():
                raise corrupt(self._info, f"data end after {self.position} of {counted(self._info.file_size, 'byte')}")
            missing -= len(piece)
            self.position += len(piece)
            self.crc = zlib.crc32(piece, self.crc)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """Make sure that the member ends here as it should. Raises IO."""
        while not self._inner.eof:
            if self._step_checked(1):
                raise corrupt(self._info, f"more than the {counted(self._info.file_size, 'byte')} that it should have")
            if self._exhausted() and not self._inner.eof:
                if self._info.method == ZIP_LZMA and not self._info.flags & _FLAG_LZMA_END_MARK:
                    break
                raise corrupt(self._info, "compressed data are cut short")
        if self._at != self._end or self._inner.unused_data:
            raise corrupt(self._info, "compressed size is wrong")
        if self.crc != self._info.crc:
            raise corrupt(self._info, "checksum mismatch")

    def _step_checked(self, limit: int) -> bytes:
        check_time("zip member")
        try:
            return self._step(min(limit, _STEP_MAX_BYTES))
        except FsError:
            raise
        except Exception as error:  # zlib.error, LZMAError, OSError, EOFError, ValueError, MemoryError ...
            raise FsError(Errno.IO, f"zip member {self._info.name!r}: {error}") from error

    def _step(self, limit: int) -> bytes:
        """Some bytes, at most `limit` (at least 1); none if more input is needed."""
        raise NotImplementedError

    def _exhausted(self) -> bool:
        """Whether a step without output will be followed by no other output."""
        raise NotImplementedError

    def _input(self, count: int = INPUT_BYTES) -> bytes:
        count = min(count, self._end - self._at)
        if not count:
            return b""
        data = self._source.read(self._at, count)
        self._at += count
        return data


class DeflateDecoder(Decoder):
    """Deflate; its state can be copied."""

    def __init__(self, source: ArchiveSource, info: Entry, start: int) -> None:
        super().__init__(source, info, start)
        self.charge = reserve(DEFLATE_BYTES, f"zip member {info.name!r}")
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)

    def copy(self) -> Decoder:
        twin = DeflateDecoder.__new__(DeflateDecoder)
        twin.__dict__.update(self.__dict__)
        twin._inner = self._inner.copy()
        twin.charge = None
        return twin

    def _step(self, limit: int) -> bytes:
        if self._inner.eof:
            return b""
        data: bytes = self._inner.decompress(self._inner.unconsumed_tail or self._input(), limit)
        return data

    def _exhausted(self) -> bool:
        return self._inner.eof or (self._at == self._end and not self._inner.unconsumed_tail)


class BlockDecoder(Decoder):
    """bzip2 and lzma: the decompressor keeps its input itself and cannot be copied."""

    def __init__(self, source: ArchiveSource, info: Entry, start: int) -> None:
        super().__init__(source, info, start)
        try:
            self._inner = self._lzma() if info.method == ZIP_LZMA else self._bzip2()
        except FsError:
            raise
        except Exception as error:  # ImportError of a Python without the library, LZMAError, MemoryError
            raise FsError(Errno.IO, f"zip member {info.name!r}: {error}") from error

    def _bzip2(self) -> Any:
        import bz2

        header = self._source.read(self._at, min(4, self._end - self._at))
        self.charge = reserve(bzip2_bytes(header), f"bzip2 of zip member {self._info.name!r}")
        return bz2.BZ2Decompressor()

    def _lzma(self) -> Any:
        import lzma

        # APPNOTE 5.8.8: version (2 bytes), length of the properties (2 bytes), properties.
        header = self._input(4)
        size = int.from_bytes(header[2:4], "little")
        properties = self._input(size)
        if len(header) != 4 or size != 5 or len(properties) != 5:
            raise corrupt(self._info, "lzma properties are wrong")
        # A window larger than the file is never used, and is the archive's way to make us allocate.
        dictionary = min(int.from_bytes(properties[1:], "little"), max(self._info.file_size, 4096))
        if dictionary > _LZMA_DICTIONARY_MAX_BYTES:
            raise corrupt(self._info, f"lzma dictionary of {counted(dictionary, 'byte')} is too large")
        self.charge = reserve(dictionary + INPUT_BYTES, f"the lzma dictionary of zip member {self._info.name!r}")
        rest, lc = divmod(properties[0], 9)
        pb, lp = divmod(rest, 5)
        parameters = {
            "id": lzma.FILTER_LZMA1,
            "dict_size": max(dictionary, 4096),
            "lc": lc,
            "lp": lp,
            "pb": pb,
        }
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[parameters])

    def _step(self, limit: int) -> bytes:
        if self._inner.eof:
            return b""
        data: bytes = self._inner.decompress(self._input() if self._inner.needs_input else b"", limit)
        return data

    def _exhausted(self) -> bool:
        return self._inner.eof or (self._at == self._end and self._inner.needs_input)


def new_decoder(source: ArchiveSource, member: Member) -> Decoder:
    """A decoder at the start of a located member. Raises IO, NOMEM."""
    info = member.info
    kind = DeflateDecoder if info.method == ZIP_DEFLATED else BlockDecoder
    return kind(source, info, member.data_start)


def inflate(source: ArchiveSource, member: Member) -> bytes:
    """All bytes of a compressed member, with everything checked. Raises IO, NOMEM."""
    decoder = new_decoder(source, member)
    try:
        data = decoder.read(member.info.file_size)
        decoder.finish()
    finally:
        decoder.release()
    return data
