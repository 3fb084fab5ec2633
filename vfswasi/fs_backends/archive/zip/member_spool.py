"""Pages of inflated members that have no place in memory any more, on disk: the next run need not inflate them again.

Each member has an unnamed temporary file, which goes with the archive. Where there is no disk, or no space on it, all
goes on without.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from typing import Final

from ..ranges import PAGE_BYTES

SPOOL_BYTES: Final = 512 << 20
_FILES_MAX = 32
_FREE_MIN_BYTES = 256 << 20  # what is left of the disk for others
_LOOK_EVERY_BYTES = 16 << 20


class _Spooled:
    """The pages of one member: which there are, and the file. Raises OSError."""

    __slots__ = ("fd", "pages")

    def __init__(self) -> None:
        self.fd = -1
        self.pages: set[int] = set()
        self.fd, path = tempfile.mkstemp(prefix="vfswasi-")
        os.unlink(path)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class MemberSpool:
    """At most `limit_bytes` for one archive, of the members that were used last. Any thread may use it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._until_look_bytes = 0
        self._lock = threading.Lock()
        self._members: OrderedDict[int, _Spooled] = OrderedDict()

    def put(self, ident: int, number: int, page: bytes) -> None:
        """Keep a page of a member, whole or the last one."""
        with self._lock:
            if len(page) > self.limit_bytes:
                return
            try:
                self._put(ident, number, page)
            except OSError:
                # Nothing depends on it, and a disk that is full should not be asked for each page.
                self.limit_bytes = 0
                self._drop_all()

    def _put(self, ident: int, number: int, page: bytes) -> None:
        found = self._members.get(ident)
        if found is None:
            found = self._members[ident] = _Spooled()
        self._members.move_to_end(ident)
        if number in found.pages:
            return
        self._until_look_bytes -= len(page)
        if self._until_look_bytes < 0:
            self._until_look_bytes = _LOOK_EVERY_BYTES
            disk = os.fstatvfs(found.fd)
            if disk.f_bavail * disk.f_frsize < _FREE_MIN_BYTES:
                raise OSError("too little space")
        while self.used_bytes + len(page) > self.limit_bytes or len(self._members) > _FILES_MAX:
            oldest = next(iter(self._members))
            if oldest == ident:
                return  # the first pages of what does not fit are as good as the last
            self._drop(oldest)
        if os.pwrite(found.fd, page, number * PAGE_BYTES) != len(page):
            raise OSError("no space")
        found.pages.add(number)
        self.used_bytes += len(page)

    def get(self, ident: int, number: int, count: int) -> bytes | None:
        """The page, `count` bytes, if it was kept."""
        with self._lock:
            found = self._members.get(ident)
            if found is None or number not in found.pages:
                return None
            self._members.move_to_end(ident)
            try:
                page = os.pread(found.fd, count, number * PAGE_BYTES)
            except OSError:
                page = b""
            if len(page) != count:
                self._drop(ident)
                return None
            return page

    def _drop(self, ident: int) -> None:
        found = self._members.pop(ident)
        self.used_bytes -= len(found.pages) * PAGE_BYTES
        self.used_bytes = max(self.used_bytes, 0)
        found.close()

    def _drop_all(self) -> None:
        for ident in list(self._members):
            self._drop(ident)
        self.used_bytes = 0

    def close(self) -> None:
        """Give the disk back."""
        with self._lock:
            self._drop_all()
