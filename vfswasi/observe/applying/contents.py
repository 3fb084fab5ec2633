"""New contents, on their way into a file.

What a run did not write of a file is still in the store that the changes were made on, under its old name there. If
that is the target, it must have been read before the target is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ...errors import Errno, FsError
from ...fs_backends.base import Buffer, Handle, ReadableBuffer
from ...fs_backends.layers.overlay.entries import Content
from ...fs_backends.staging.space import DISK_MAX_BYTES, Staged, StagingSpace
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


class Spool:
    """Contents that no change of any store changes: in memory, from 64 MiB on in an unnamed temporary file."""

    def __init__(self) -> None:
        self._space = StagingSpace(max_bytes=DISK_MAX_BYTES)

    def copy(self, content: Content) -> Spooled:
        """Raises FsError, as `write`."""
        staged = Staged(self._space)
        write(content, _SpooledHandle(staged), lambda _: None)
        return Spooled(staged)

    def close(self) -> None:
        self._space.close()


class Spooled:
    def __init__(self, staged: Staged) -> None:
        self.size = staged.size
        self._staged = staged

    def open(self) -> Handle:
        return _SpooledHandle(self._staged)

    def release(self) -> None:
        """It is not needed any more."""
        self._staged.release()


class _SpooledHandle(Handle):
    def __init__(self, staged: Staged) -> None:
        self._staged = staged

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._staged.read_into(offset, buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._staged.write(offset, buf)

    def close(self) -> None:
        pass


class InStore:
    """What a file of a store has at this moment, as contents."""

    def __init__(self, handle: Handle) -> None:
        self.size = handle.size()
        self._handle = handle

    def open(self) -> Handle:
        return _Kept(self._handle)


class _Kept(Handle):
    """Somebody else closes it."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._handle.read_into(offset, buf)

    def close(self) -> None:
        pass


class _Nowhere(Handle):
    def write_from(self, offset: int, buf: object) -> None:
        pass
