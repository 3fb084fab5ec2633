"""A compressed stream as a source that can be read anywhere: it is unpacked once, into a spool.

The spool is in memory up to 32 MiB and an unnamed temporary file beyond. Nothing is taken in advance: what counts is
what comes out, and the checksums of the formats are checked.
"""

from __future__ import annotations

import importlib
import io
import tempfile
import zlib
from collections.abc import Callable
from typing import IO, Any, Final, NamedTuple, Protocol

from ...errors import Errno, FsError, MountError
from ...printing import counted
from ..charge import Charge
from ..waiting import check_time
from .decoders import DEFLATE_BYTES, bzip2_bytes, reserve, xz_bytes, zstd_bytes
from .kind import COMPRESSIONS
from .source import ArchiveSource, BytesSource, read_file_into

_INPUT_BYTES = 32 << 10
_HEADER_BYTES = 2048  # more than a stream needs to say what it needs
_OUTPUT_BYTES = 1 << 20
_SPOOL_MEMORY_BYTES = 32 << 20
_SLACK_BYTES = 4 << 20  # of a decoder, beside its dictionary
_STREAMS_MAX = 1000
_STREAM_MEAN_BYTES = 1024


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

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


def _gzip(_: int) -> _Decoder:
    return _Gzip()


def _bzip2(_: int) -> _Decoder:
    import bz2

    return bz2.BZ2Decompressor()


def _xz(dictionary_bytes: int) -> _Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=dictionary_bytes + _SLACK_BYTES)


def _zstd(window_bytes: int) -> _Decoder:
    zstd = zstd_module()
    window_log_max = max(window_bytes - 1, 1 << 10).bit_length()
    made: _Decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log_max})
    return made


def zstd_module() -> Any:
    """Python's own, or the package that brings the same to older ones. Raises ImportError."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


class _Format(NamedTuple):
    """new: a decoder that may take so many bytes. needs: so many, for a stream that begins so. rubbish: the format's
    own program lets anything stand behind a stream."""

    new: Callable[[int], _Decoder]
    needs: Callable[[bytes], int]
    rubbish: bool


_FORMATS: Final = {
    "gzip": _Format(_gzip, lambda header: DEFLATE_BYTES, True),
    "bzip2": _Format(_bzip2, bzip2_bytes, True),
    "xz": _Format(_xz, xz_bytes, False),
    "zstd": _Format(_zstd, zstd_bytes, False),
}


class _Spool:
    """What comes out: in memory as long as it is little, and `charge` lets it be there."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._memory: io.BytesIO | None = io.BytesIO()
        self._file: IO[bytes] | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        memory = self._memory
        if memory is not None:
            # A buffer that grows has a quarter more than it needs.
            if self.size + len(data) <= _SPOOL_MEMORY_BYTES and self._charge.try_take(len(data) * 5 // 4):
                memory.write(data)
                self.size += len(data)
                return
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  the source that is made of it keeps it
            with memory.getbuffer() as kept:
                _write(self._file, kept)
            self._charge.give(self.size * 5 // 4)
            self._memory = None
        assert self._file is not None
        _write(self._file, memoryview(data))
        self.size += len(data)

    def source(self, name: str) -> ArchiveSource:
        """All of it."""
        if self._memory is not None:
            return BytesSource(self._memory.getbuffer(), name)
        assert self._file is not None
        return _SpoolSource(self._file, self.size, name)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _write(file: IO[bytes], data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


def unpacked(
    source: ArchiveSource, compression: str, max_bytes: int, charge: Charge, whole: bool = False
) -> ArchiveSource:
    """All that `source` unpacks to, which is no longer needed then. Raises MountError (corrupt, more than `max_bytes`,
    no decoder in this Python, a dictionary larger than the budget, no space for the spool), FsError (CANCELED).

    charge: for the part of the spool that is in memory. whole: nothing else may stand behind the streams.
    """
    spool = _Spool(charge)
    try:
        if _unpack(source, compression, spool, max_bytes) and whole:
            raise MountError(
                f"cannot mount tar archive {source.name} for writing: the file holds more than the archive, which "
                "would be lost; mount it read-only, or make a plain archive of it first"
            )
        return spool.source(source.name)
    except ImportError as error:
        spool.close()
        needs = needed_for(compression)
        raise MountError(f"cannot mount tar archive {source.name}: {needs}, or unpack it first") from error
    except MountError:
        spool.close()
        raise
    except Exception as error:  # zlib.error, LZMAError, EOFError, ValueError, MemoryError, OSError, ZstdError ...
        spool.close()
        if isinstance(error, FsError) and error.errno is Errno.CANCELED:
            raise
        reason = str(error) if isinstance(error, FsError) else f"{compression}: {error}"
        advice = "it is cut short or corrupt, or there is no space for temporary files"
        if isinstance(error, FsError) and error.errno is Errno.NOMEM:
            reason, advice = error.detail, "raise the limit, or pack it with a smaller one"
        raise MountError(f"cannot mount tar archive {source.name}: {' '.join(reason.split())}; {advice}") from error
    except BaseException:
        spool.close()
        raise


def needed_for(compression: str) -> str:
    """For messages: what this Python lacks."""
    if compression == "zstd":
        return 'zstd needs Python 3.14, or `pip install "vfswasi[zstd]"`'
    return f"{compression} is not part of this Python"


def _unpack(source: ArchiveSource, compression: str, spool: _Spool, max_bytes: int) -> bytes:
    """What stands behind the last stream."""
    format = _FORMATS[compression]
    magic = next(start for start, name in COMPRESSIONS.items() if name == compression)
    at = streams = 0
    rest = b""
    while True:
        streams += 1
        if streams > _STREAMS_MAX + spool.size // _STREAM_MEAN_BYTES:
            raise ValueError("many streams with next to nothing in them")
        if len(rest) < _HEADER_BYTES and at < source.size:
            more = source.read(at, min(_INPUT_BYTES, source.size - at))
            at += len(more)
            rest += more
        needed = format.needs(rest[:_HEADER_BYTES])
        charge = reserve(needed, f"the dictionary of {compression}")
        try:
            at, rest = _unpack_stream(source, format.new(needed), at, rest, spool, max_bytes)
        finally:
            charge.close()
        # Further streams may follow, and zeros.
        rest = rest.lstrip(b"\0")
        while not rest and at < source.size:
            check_time("unpacking")
            rest = source.read(at, min(_INPUT_BYTES, source.size - at))
            at += len(rest)
            rest = rest.lstrip(b"\0")
        if len(rest) < len(magic) and at < source.size:
            more = source.read(at, min(_INPUT_BYTES, source.size - at))
            at += len(more)
            rest += more
        if not rest or (format.rubbish and not rest.startswith(magic)):
            return rest


def _unpack_stream(
    source: ArchiveSource, decoder: _Decoder, at: int, rest: bytes, spool: _Spool, max_bytes: int
) -> tuple[int, bytes]:
    """Unpack one stream, which begins with `rest` and goes on at `at`; the same for what follows it."""
    while not decoder.eof:
        check_time("unpacking")
        if decoder.needs_input and not rest:
            rest = source.read(at, min(_INPUT_BYTES, source.size - at))
            at += len(rest)
            if not rest:
                raise EOFError("the compressed data are cut short")
        piece = decoder.decompress(rest if decoder.needs_input else b"", _OUTPUT_BYTES)
        rest = b""
        if spool.size + len(piece) > max_bytes:
            raise MountError(
                f"cannot mount tar archive {source.name}: it unpacks to more than {counted(max_bytes, 'byte')}; "
                "raise max_unpacked_bytes"
            )
        spool.write(piece)
    return at, decoder.unused_data


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
