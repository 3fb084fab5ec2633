"""What kind of archive a file is: what it begins with.

The end does not count, though a zip archive is found from there: a tar archive whose last member is a zip archive ends
like one. Only a file that begins like no archive at all, such as a program that unpacks itself, may be read as the zip
archive at its end.
"""

from __future__ import annotations

import re
from typing import Final

from .source import ArchiveSource
from .tar.header import BLOCK_BYTES, ZERO_BLOCK, BrokenHeader, parse_header

# A member; the end of an empty archive; the marker of one that is, or was to be, split into several files.
ZIP_BEGINNINGS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00PK\3\4")
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

ENDINGS: Final = ".zip, .tar, .tar.gz, .tar.bz2, .tar.xz or .tar.zst"
_NAME: Final = re.compile(r"\.(?:(zip)|tar(?:\.([a-z0-9]+))?|(tgz|tbz2?|txz|tzst))$", re.IGNORECASE)
_NAMED: Final = {
    "": None, "gz": "gzip", "tgz": "gzip", "bz2": "bzip2", "tbz": "bzip2", "tbz2": "bzip2", "xz": "xz", "txz": "xz",
    "zst": "zstd", "tzst": "zstd",
}  # fmt: skip


def is_archive_ending(path: str) -> bool:
    """Whether somebody who gives this name to a new file means an archive, also one that cannot be made."""
    return _NAME.search(path) is not None


def named(path: str) -> tuple[str, str | None] | None:
    """("zip" or "tar", compression) of a new archive with this name; None: there is none."""
    found = _NAME.search(path)
    if found is None:
        return None
    ending = (found[2] or found[3] or "").lower()
    return ("zip", None) if found[1] else ("tar", _NAMED[ending]) if ending in _NAMED else None


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
