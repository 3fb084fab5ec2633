"""File contents that the kernel keeps itself: a file that was unlinked while open on a store that cannot keep it."""

from __future__ import annotations

import time

from ...errors import Errno, FsError
from ...fs_backends.base import Buffer, Handle, ReadableBuffer, Stat
from ...fs_backends.waiting import check_time

_SPOOL_MEMORY_BYTES = 1 << 20
_COPY_BYTES = 1 << 18


class SpoolHandle(Handle):
    """A nameless copy of a file: in memory up to 1 MiB, then in an unnamed temporary file."""

    def __init__(self, source: Handle) -> None:
        import tempfile  # few runs need it, and it takes longer than all of them

        self._stat = source.stat()._replace(nlink=0)
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY_BYTES)  # noqa: SIM115
        self._size = 0
        chunk = bytearray(_COPY_BYTES)
        try:
            while count := source.read_into(self._size, chunk):
                check_time("keeping an unlinked open file")
                if not 0 < count <= len(chunk):
                    raise FsError(Errno.IO, "the store read another number of bytes than it was asked for")
                try:
                    self._file.write(memoryview(chunk)[:count])
                except OSError as error:
                    raise FsError(Errno.NOSPC, "no room to keep an unlinked open file") from error
                self._size += count
        except BaseException:
            self._file.close()
            raise

    def read_into(self, offset: int, buf: Buffer) -> int:
        if offset >= self._size:
            return 0
        try:
            self._file.seek(offset)
            data = self._file.read(len(buf))
        except OSError as error:
            raise FsError(Errno.IO, "spool") from error
        buf[: len(data)] = data
        return len(data)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        if not len(buf):
            return
        if offset > self._size:
            self.truncate(offset)
        try:
            self._file.seek(offset)
            self._file.write(buf)
        except OSError as error:
            raise FsError(Errno.NOSPC, "spool") from error
        self._size = max(self._size, offset + len(buf))
        self._touch()

    def truncate(self, size: int) -> None:
        try:
            if size > self._size:
                # SpooledTemporaryFile counts what is written, so growth must go through write to roll over.
                self._file.rollover()
            self._file.truncate(size)
        except (OSError, OverflowError) as error:
            raise FsError(Errno.FBIG, "spool") from error
        self._size = size
        self._touch()

    def _touch(self) -> None:
        now = time.time_ns()
        self._stat = self._stat._replace(mtim_ns=now, ctim_ns=now)

    def size(self) -> int:
        return self._size

    def stat(self) -> Stat:
        return self._stat._replace(size=self._size)

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        if atim_ns is not None:
            self._stat = self._stat._replace(atim_ns=atim_ns)
        if mtim_ns is not None:
            self._stat = self._stat._replace(mtim_ns=mtim_ns)

    def close(self) -> None:
        self._file.close()
