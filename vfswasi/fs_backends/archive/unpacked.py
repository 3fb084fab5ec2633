"""A compressed stream as a source that can be read anywhere: it is unpacked once, into a spool.

The spool is in memory up to 32 MiB and an unnamed temporary file beyond. Nothing is taken in advance: what counts is
what comes out, and the checksums of the formats are checked.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from typing import IO, Any, Protocol

from ...errors import FsError, MountError
from .source import ArchiveSource, BytesSource, read_file_into

_INPUT_BYTES = 32 << 10
_OUTPUT_BYTES = 1 << 20
_SPOOL_MEMORY_BYTES = 32 << 20
_WINDOW_MAX_BYTES = 256 << 20  # what a decoder may take; `xz -9` needs 65 MiB, `zstd --ultra -22` 128 MiB
_STREAMS_MAX = 1000
_STREAM_MEAN_BYTES = 1024


class _Decoder(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decoder with the methods that the others have."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail  # the trailer stays there until all is out

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)


def _bzip2() -> Any:
    import bz2

    return bz2.BZ2Decompressor


def _xz() -> Any:
    import lzma

    return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW_MAX_BYTES)


def _zstd() -> Any:
    import importlib

    zstd = importlib.import_module("compression.zstd")
    window_log_max = _WINDOW_MAX_BYTES.bit_length() - 1
    return lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log_max})


# First bytes, name, what gives a constructor of decoders.
_FORMATS: tuple[tuple[bytes, str, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", "gzip", lambda: _Gzip),
    (b"BZh", "bzip2", _bzip2),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
)


def compression_of(source: ArchiveSource) -> str | None:
    """ "gzip", "bzip2", "xz", "zstd" by the first bytes, or None. Raises IO."""
    start = source.read(0, min(source.size, 6))
    return next((name for magic, name, _ in _FORMATS if start.startswith(magic)), None)


def unpacked(source: ArchiveSource, compression: str, max_bytes: int) -> ArchiveSource:
    """All that `source` unpacks to, which is no longer needed then. Raises MountError: corrupt, more than `max_bytes`,
    no decoder in this Python, no space for the spool."""
    try:
        new = next(get for _, name, get in _FORMATS if name == compression)()
    except ImportError as error:
        needs = "needs Python 3.14" if compression == "zstd" else "is not part of this Python"
        raise MountError(f"cannot mount tar archive {source.name}: {compression} {needs}; unpack it first") from error
    spool = tempfile.SpooledTemporaryFile(_SPOOL_MEMORY_BYTES)  # noqa: SIM115  the source that is returned keeps it
    try:
        size = _unpack(source, new, spool, max_bytes)
        return _spooled(spool, size, source.name)
    except MountError:
        spool.close()
        raise
    except Exception as error:  # zlib.error, LZMAError, EOFError, ValueError, MemoryError, OSError, ZstdError ...
        spool.close()
        reason = str(error) if isinstance(error, FsError) else f"{compression}: {error}"
        raise MountError(
            f"cannot mount tar archive {source.name}: {' '.join(reason.split())}; "
            "it is cut short or corrupt, or there is no space for temporary files"
        ) from error
    except BaseException:
        spool.close()
        raise


def _unpack(source: ArchiveSource, new: Callable[[], _Decoder], spool: IO[bytes], max_bytes: int) -> int:
    total = at = streams = 0
    rest = b""
    while True:
        decoder = new()
        streams += 1
        if streams > _STREAMS_MAX + total // _STREAM_MEAN_BYTES:
            raise ValueError("many streams with next to nothing in them")
        while not decoder.eof:
            if decoder.needs_input and not rest:
                rest = source.read(at, min(_INPUT_BYTES, source.size - at))
                at += len(rest)
                if not rest:
                    raise EOFError("the compressed data are cut short")
            piece = decoder.decompress(rest if decoder.needs_input else b"", _OUTPUT_BYTES)
            rest = b""
            total += len(piece)
            if total > max_bytes:
                raise MountError(
                    f"cannot mount tar archive {source.name}: it unpacks to more than {max_bytes} bytes; "
                    "raise max_unpacked_bytes"
                )
            spool.write(piece)
        # Further streams may follow, and zeros.
        rest = decoder.unused_data.lstrip(b"\0")
        while not rest and at < source.size:
            rest = source.read(at, min(_INPUT_BYTES, source.size - at))
            at += len(rest)
            rest = rest.lstrip(b"\0")
        if not rest:
            return total


def _spooled(spool: Any, size: int, name: str) -> ArchiveSource:
    if size <= _SPOOL_MEMORY_BYTES:
        spool.seek(0)
        data = spool.read()
        spool.close()
        return BytesSource(data, name)
    spool.rollover()
    spool.flush()
    return _SpoolSource(spool, size, name)


class _SpoolSource(ArchiveSource):
    """An unnamed temporary file."""

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._fd = file.fileno()

    def read_into(self, offset: int, view: memoryview) -> None:
        read_file_into(self._fd, offset, view, self.name)

    def close(self) -> None:
        # The number may be given to another file.
        self._fd = -1
        self._file.close()
