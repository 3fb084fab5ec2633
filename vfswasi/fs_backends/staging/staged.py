"""Contents that the guest has written and the store has not got yet: in memory first, then in an unnamed file."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import IO

from ...errors import Errno, FsError
from ..base import Buffer, ReadableBuffer

SIZE_MAX = (1 << 63) - 1
STAGED_FILE_MEMORY_BYTES = 8 << 20  # of one file; what is larger lies in an unnamed file
_COPY_BYTES = 1 << 20


class Room:
    """Memory that the staged files of one mount share; what does not fit goes to the disk."""

    def __init__(self, memory_bytes: int, file_bytes: int) -> None:
        """memory_bytes: for all files. file_bytes: for each; larger ones are on disk as a whole."""
        self._left = memory_bytes
        self.file_bytes = file_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether there was so much."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give(self, count: int) -> None:
        with self._lock:
            self._left += count


class Staged:
    """A growable file of our own: positional reads and writes. Raises FBIG (sizes no file has), NOSPC (the disk)."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._memory: bytearray | None = bytearray()
        self._file: IO[bytes] | None = None
        self._taken = 0
        self.size = 0

    def read_into(self, offset: int, buf: Buffer) -> int:
        """Fill `buf` from `offset`; short only at the end."""
        count = min(len(buf), self.size - offset)
        if count <= 0:
            return 0
        if self._memory is not None:
            buf[:count] = self._memory[offset : offset + count]
            return count
        assert self._file is not None
        view = memoryview(buf)[:count]
        done = 0
        try:
            while done < count:
                got = os.preadv(self._file.fileno(), [view[done:]], offset + done)
                if not got:
                    raise FsError(Errno.IO, "staged data is missing")
                done += got
        except OSError as error:
            raise FsError(Errno.IO, "staged data cannot be read") from error
        return count

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`."""
        buf = bytearray(min(count, max(self.size - offset, 0)))
        self.read_into(offset, buf)
        return bytes(buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        """All of `buf` at `offset`; a gap reads as zeros."""
        count = len(buf)
        if not count:
            return
        end = offset + count
        if end > SIZE_MAX:
            raise FsError(Errno.FBIG)
        memory = self._in_memory(end)
        if memory is not None:
            if offset > len(memory):
                memory.extend(bytes(offset - len(memory)))
            memory[offset:end] = buf
        else:
            assert self._file is not None
            view = memoryview(buf).cast("B")
            done = 0
            try:
                while done < count:
                    done += os.pwrite(self._file.fileno(), view[done : done + _COPY_BYTES], offset + done)
            except OSError as error:
                raise FsError(Errno.NOSPC, "no room to stage what is written") from error
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """Set the size; growth reads as zeros."""
        if size > SIZE_MAX:
            raise FsError(Errno.FBIG)
        memory = self._in_memory(size)
        if memory is not None:
            if size < len(memory):
                del memory[size:]
            else:
                memory.extend(bytes(size - len(memory)))
        else:
            assert self._file is not None
            try:
                os.ftruncate(self._file.fileno(), size)
            except (OSError, OverflowError) as error:
                raise FsError(Errno.FBIG, "too large for the disk") from error
        self.size = size

    def _in_memory(self, size: int) -> bytearray | None:
        """The memory if the file may be of that size in memory; else it goes to disk."""
        if self._memory is None:
            return None
        more = size - self._taken
        if size <= self._room.file_bytes and (more <= 0 or self._room.take(more)):
            self._taken = max(self._taken, size)
            return self._memory
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the staged file
            try:
                file.write(self._memory)
                file.flush()
            except OSError:
                file.close()
                raise
        except OSError as error:
            raise FsError(Errno.NOSPC, "no room to stage what is written") from error
        self._file = file
        self._memory = None
        self._give_back()
        return None

    def _give_back(self) -> None:
        self._room.give(self._taken)
        self._taken = 0

    def close(self) -> None:
        """Give everything back."""
        self._give_back()
        self._memory = None
        self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None
