"""File contents that the kernel keeps itself: a file that was unlinked while open on a store that cannot keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...errors import Errno, FsError
from ...fs_backends.base import Buffer, Handle, ReadableBuffer, Stat
from ...fs_backends.waiting import check_time

if TYPE_CHECKING:
    from ...fs_backends.staging.space import StagingSpace

_MEMORY_BYTES: Final = 8 << 20
_FILE_MEMORY_BYTES: Final = 1 << 20
_COPY_BYTES: Final = 1 << 18


class Spools:
    """Nameless copies of the files of one store: together up to 8 MiB in memory, of each the first MiB, the rest in one
    unnamed temporary file. `now_ns`: where the times of what is written to them come from."""

    __slots__ = ("_space", "now_ns")

    def __init__(self) -> None:
        self.now_ns: Callable[[], int] = time.time_ns
        self._space: StagingSpace | None = None

    def copy(self, source: Handle) -> Handle:
        """A copy of an open file. Raises NOSPC, CANCELED, and what `source` raises."""
        from ...fs_backends.staging.space import DISK_MAX_BYTES, StagingSpace  # few runs need it

        if self._space is None:
            self._space = StagingSpace(_MEMORY_BYTES, DISK_MAX_BYTES, file_memory_bytes=_FILE_MEMORY_BYTES)
        return SpoolHandle(source, self._space, self.now_ns)


class SpoolHandle(Handle):
    """A nameless copy of a file."""

    def __init__(self, source: Handle, space: StagingSpace, now_ns: Callable[[], int]) -> None:
        from ...fs_backends.staging.space import Staged

        self._now_ns = now_ns
        self._stat = source.stat()._replace(nlink=0)
        self._staged = Staged(space)
        chunk = bytearray(_COPY_BYTES)
        try:
            while count := source.read_into(self._staged.size, chunk):
                check_time("keeping an unlinked open file")
                if not 0 < count <= len(chunk):
                    raise FsError(Errno.IO, "the store read another number of bytes than it was asked for")
                self._staged.write(self._staged.size, memoryview(chunk)[:count])
        except BaseException:
            self._staged.release()
            raise

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._staged.read_into(offset, buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        if len(buf):
            self._staged.write(offset, buf)
            self._touch()

    def truncate(self, size: int) -> None:
        self._staged.truncate(size)
        self._touch()

    def _touch(self) -> None:
        now = self._now_ns()
        self._stat = self._stat._replace(mtim_ns=now, ctim_ns=now)

    def size(self) -> int:
        return self._staged.size

    def stat(self) -> Stat:
        return self._stat._replace(size=self._staged.size)

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        if atim_ns is not None:
            self._stat = self._stat._replace(atim_ns=atim_ns)
        if mtim_ns is not None:
            self._stat = self._stat._replace(mtim_ns=mtim_ns)

    def close(self) -> None:
        self._staged.release()
