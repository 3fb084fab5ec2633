"""Contents that wait to be written into an archive: in memory first, then in one unnamed temporary file.

A content is a map of pages of 32 KiB; a page that is not there is zeros. Pages are in memory until `memory_bytes` are
used by all contents together, and slots of the temporary file from then on, so that neither the memory nor the number
of open files grows with what a guest writes.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from typing import IO

from ...errors import Errno, FsError
from ...printing import counted
from ..base import Buffer, ReadableBuffer

PAGE_BYTES = 32 << 10
_PAGE_COST_BYTES = 200  # of a page in memory, beside its bytes
_FILE_MAX_BYTES = 2**63 - 1
_ZEROS = bytes(PAGE_BYTES)


class StagingSpace:
    """What all contents of one backend share. Everything here and in `Staged` happens under `lock`.

    memory_bytes: the most that is kept in memory. max_bytes: the most that all contents may have, holes included.
    """

    def __init__(self, memory_bytes: int, max_bytes: int) -> None:
        self.lock = threading.RLock()
        self.memory_bytes = memory_bytes
        self.max_bytes = max_bytes
        self.used_memory_bytes = 0
        self.used_bytes = 0
        self._file: IO[bytes] | None = None
        self._free: list[int] = []
        self._slots = 0

    def charge(self, count: int) -> None:
        """Take `count` bytes; a negative number gives them back. Raises NOSPC."""
        if self.used_bytes + count > self.max_bytes and count > 0:
            raise FsError(
                Errno.NOSPC, f"more than {counted(self.max_bytes, 'byte')} wait to be written into the archive"
            )
        self.used_bytes += count

    def take_memory(self, count: int) -> bool:
        """Whether a page may have `count` more bytes of memory."""
        if self.used_memory_bytes + count > self.memory_bytes:
            return False
        self.used_memory_bytes += count
        return True

    def new_page(self, count: int) -> bytearray | int:
        """A page of at least `count` zeros: bytes in memory, or the number of a slot. Raises NOSPC, IO."""
        if self.take_memory(count + _PAGE_COST_BYTES):
            return bytearray(count)
        return self.new_slot()

    def new_slot(self) -> int:
        """A slot full of zeros, whose place on the disk is taken. Raises NOSPC, IO."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the space
            slot = self._free.pop() if self._free else self._slots
            if slot == self._slots:
                self._slots += 1
            self.write_slot(slot, 0, _ZEROS)
        except OSError as error:
            raise _no_space(error) from error
        except FsError:
            self._free.append(slot)
            raise
        return slot

    def free_page(self, page: bytearray | int) -> None:
        """Give a page back."""
        if isinstance(page, bytearray):
            self.used_memory_bytes -= len(page) + _PAGE_COST_BYTES
            return
        self._free.append(page)
        if len(self._free) == self._slots and self._file is not None:
            self._free.clear()
            self._slots = 0
            try:
                os.ftruncate(self._file.fileno(), 0)
            except (OSError, ValueError):  # its space is not back yet, or the file is closed
                pass

    def write_slot(self, slot: int, offset: int, data: ReadableBuffer) -> None:
        """Write into a slot. Raises NOSPC, IO."""
        assert self._file is not None
        try:
            done = 0
            with memoryview(data) as view:
                while done < len(view):
                    done += os.pwrite(self._file.fileno(), view[done:], slot * PAGE_BYTES + offset + done)
        except (OSError, ValueError) as error:
            raise _no_space(error) from error

    def read_slot(self, slot: int, offset: int, view: memoryview) -> None:
        """Fill `view` from a slot. Raises IO."""
        assert self._file is not None
        try:
            count = os.preadv(self._file.fileno(), (view,), slot * PAGE_BYTES + offset)
        except (OSError, ValueError) as error:
            raise FsError(Errno.IO, "temporary file of an archive") from error
        if count != len(view):
            raise FsError(Errno.IO, "temporary file of an archive became shorter")

    def close(self) -> None:
        """Drop the temporary file."""
        if self._file is not None:
            self._file.close()


def _no_space(error: Exception) -> FsError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return FsError(Errno.NOSPC if full else Errno.IO, f"temporary file of an archive: {error}")


class Staged:
    """One content. A method does all that it should, or raises and has changed nothing that can be seen."""

    __slots__ = ("_pages", "_space", "size")

    def __init__(self, space: StagingSpace) -> None:
        self.size = 0
        self._space = space
        # Bytes of a page behind the end of the content are zeros, or not there.
        self._pages: dict[int, bytearray | int] = {}

    def read_into(self, offset: int, buf: Buffer) -> int:
        """Like `Handle.read_into`. Raises IO."""
        count = max(0, min(len(buf), self.size - offset))
        done = 0
        with memoryview(buf) as view:
            while done < count:
                number, start = divmod(offset + done, PAGE_BYTES)
                length = min(count - done, PAGE_BYTES - start)
                with view[done : done + length] as piece:
                    self._read_page(self._pages.get(number), start, piece)
                done += length
        return count

    def _read_page(self, page: bytearray | int | None, start: int, piece: memoryview) -> None:
        if isinstance(page, int):
            self._space.read_slot(page, start, piece)
            return
        there = b"" if page is None else page[start : start + len(piece)]
        piece[: len(there)] = there
        piece[len(there) :] = _ZEROS[: len(piece) - len(there)]

    def write(self, offset: int, buf: ReadableBuffer) -> None:
        """Write all of `buf`, which is not empty. Raises FBIG, NOSPC, IO."""
        end = offset + len(buf)
        if end > _FILE_MAX_BYTES:
            raise FsError(Errno.FBIG)
        growth = max(0, end - self.size)
        self._space.charge(growth)
        try:
            # All space first, so that what fails then is only the disk itself.
            for number in range(offset // PAGE_BYTES, (end - 1) // PAGE_BYTES + 1):
                self._make_room(number, min(PAGE_BYTES, end - number * PAGE_BYTES))
            self._fill(offset, buf)
        except BaseException:
            self._space.charge(-growth)
            self._cut(self.size)
            raise
        self.size = max(self.size, end)

    def _make_room(self, number: int, count: int) -> None:
        """See to it that a page has its first `count` bytes."""
        page = self._pages.get(number)
        if page is None:
            self._pages[number] = self._space.new_page(count)
        elif isinstance(page, bytearray) and len(page) < count:
            if self._space.take_memory(count - len(page)):
                page.extend(_ZEROS[: count - len(page)])
                return
            slot = self._space.new_slot()
            self._space.write_slot(slot, 0, page)
            self._pages[number] = slot
            self._space.free_page(page)

    def _fill(self, offset: int, buf: ReadableBuffer) -> None:
        done = 0
        with memoryview(buf) as view:
            while done < len(view):
                number, start = divmod(offset + done, PAGE_BYTES)
                with view[done : done + PAGE_BYTES - start] as piece:
                    page = self._pages[number]
                    if isinstance(page, int):
                        self._space.write_slot(page, start, piece)
                    else:
                        page[start : start + len(piece)] = piece
                    done += len(piece)

    def truncate(self, size: int) -> None:
        """Set the size; growth reads as zeros and takes no space but is counted. Raises FBIG, NOSPC, IO."""
        if size > _FILE_MAX_BYTES:
            raise FsError(Errno.FBIG)
        if size < self.size:
            self._cut(size)
        self._space.charge(size - self.size)
        self.size = size

    def _cut(self, size: int) -> None:
        """Drop all bytes from `size` on."""
        last, rest = divmod(size, PAGE_BYTES)
        page = self._pages.get(last)
        if rest and isinstance(page, int):
            self._space.write_slot(page, rest, _ZEROS[rest:])
        elif rest and isinstance(page, bytearray) and len(page) > rest:
            self._space.used_memory_bytes -= len(page) - rest
            del page[rest:]
        for number in [number for number in self._pages if number >= last + bool(rest)]:
            self._space.free_page(self._pages.pop(number))

    def release(self) -> None:
        """Give everything back; the content is empty then."""
        for page in self._pages.values():
            self._space.free_page(page)
        self._pages.clear()
        self._space.charge(-self.size)
        self.size = 0
