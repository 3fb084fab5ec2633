"""Compressed streams, written: gzip, bzip2 and xz with what Python has, zstd with what `unpacked` reads it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from ..unpacked import zstd_module

# A decoder of what is written needs no more than a mount allows it: 8 MiB for xz.
_XZ_PRESET: Final = 6


@contextmanager
def packed(file: IO[bytes], compression: str | None) -> Iterator[IO[bytes]]:
    """What is written into it comes out compressed in `file`, which stays open. None: it is `file`. Raises ImportError
    (no encoder in this Python), OSError."""
    if compression is None:
        yield file
        return
    stream = _opened(file, compression)
    try:
        yield stream
    except BaseException:
        _drop(stream)
        raise
    stream.close()


def check(compression: str | None) -> None:
    """Whether there is an encoder. Raises ImportError."""
    if compression == "bzip2":
        import bz2  # noqa: F401
    elif compression == "xz":
        import lzma  # noqa: F401
    elif compression == "zstd":
        zstd_module()


def _opened(file: IO[bytes], compression: str) -> Any:
    if compression == "gzip":
        import gzip

        return gzip.GzipFile("", "wb", 6, file, mtime=0)
    if compression == "bzip2":
        import bz2

        return bz2.BZ2File(file, "wb")
    if compression == "xz":
        import lzma

        return lzma.LZMAFile(file, "wb", preset=_XZ_PRESET)
    return zstd_module().ZstdFile(file, "w")


def _drop(stream: Any) -> None:
    """Close it without an error of its own: what it would write goes nowhere."""
    try:
        stream.close()
    except Exception:  # the disk is still full
        pass
