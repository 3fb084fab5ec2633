"""A member whose bytes stand in the archive as they are."""

from __future__ import annotations

from ..base import Buffer, Handle, Stat
from .source import ArchiveSource

PAGE_BYTES = 64 << 10
_SMALL_READ_BYTES = 4096


class RangeHandle(Handle):
    """The `status.size` bytes of the archive from `start` on.

    Small reads in sequence are served from a window of one page; all others go straight into the buffer.
    """

    def __init__(self, source: ArchiveSource, start: int, status: Stat) -> None:
        self._source = source
        self._start = start
        self._stat = status
        self._size = status.size
        # Replaced as one, so that threads cannot tear it: offset and bytes of the window.
        self._window: tuple[int, bytes] = (0, b"")

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = min(len(buf), self._size - offset)
        if count <= 0:
            return 0
        at, window = self._window
        at = offset - at
        if at >= 0 and count <= len(window) - at:
            buf[:count] = window[at : at + count]
        elif count <= _SMALL_READ_BYTES:
            # Reading on where the window ends is a sequence, anything else is not worth a page.
            ahead = min(PAGE_BYTES, self._size - offset) if 0 <= at <= len(window) else count
            window = self._source.read(self._start + offset, ahead)
            self._check(offset, memoryview(window))
            self._window = offset, window
            buf[:count] = window[:count]
        else:
            with memoryview(buf) as whole, whole[:count] as view:
                self._source.read_into(self._start + offset, view)
                self._check(offset, view)
        return count

    def _check(self, offset: int, data: memoryview) -> None:
        """Look at bytes of the member before they are given out. Raises IO."""

    def size(self) -> int:
        return self._size

    def stat(self) -> Stat:
        return self._stat

    def close(self) -> None:
        self._window = (0, b"")
