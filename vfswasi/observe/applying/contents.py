"""New contents, on their way into a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ...errors import Errno, FsError
from ...fs_backends.base import Handle
from ...fs_backends.layers.overlay.entries import Content
from .comparing import pieces


def write(content: Content, handle: Handle, step: Callable[[int], None]) -> str:
    """All of it into an empty file; returns its SHA-256. `step` is told bytes. Raises FsError; STALE: it is not as long
    any more as it was said to be."""
    digest = hashlib.sha256()
    offset = 0
    source = content.open()
    try:
        for piece in pieces(source):
            handle.write_from(offset, piece)
            digest.update(piece)
            offset += len(piece)
            step(len(piece))
    finally:
        source.close()
    if offset != content.size:
        raise FsError(Errno.STALE, f"contents of {content.size:,} bytes had {offset:,} when they were read")
    return digest.hexdigest()


def digest_of_content(content: Content) -> str:
    """SHA-256. Raises as `write`."""
    return write(content, _Nowhere(), lambda _: None)


class _Nowhere(Handle):
    def write_from(self, offset: int, buf: object) -> None:
        pass
