"""What kind of archive a file is: what it begins with.

The end does not count, though a zip archive is found from there: a tar archive whose last member is a zip archive ends
like one. Only a file that begins like no archive at all, such as a program that unpacks itself, may be read as the zip
archive at its end.
"""

from __future__ import annotations

from .source import ArchiveSource
from .tar.header import BLOCK_BYTES, ZERO_BLOCK, BrokenHeader, parse_header

# A member; the end of an empty archive; the marker of one that is, or was to be, split into several files.
ZIP_BEGINNINGS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00PK\3\4")
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def beginning_of(source: ArchiveSource) -> str | None:
    """ "zip", "tar", "gzip", "bzip2", "xz", "zstd", or None. Raises IO."""
    block = source.read(0, min(source.size, BLOCK_BYTES))
    if block.startswith(ZIP_BEGINNINGS):
        return "zip"
    for magic, name in COMPRESSIONS.items():
        if block.startswith(magic):
            return name
    return "tar" if is_tar_block(block) else None


def is_tar_block(block: bytes) -> bool:
    """Whether a tar archive may begin with these 512 bytes."""
    if len(block) < BLOCK_BYTES:
        return False
    try:
        return block == ZERO_BLOCK or bool(parse_header(block))
    except BrokenHeader:
        return False
