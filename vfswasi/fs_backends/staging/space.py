"""Bytes that are not yet where they belong: in memory first, then in one unnamed temporary file.

A content is a map of pages of 32 KiB; a page that is not there is that of what lies under the content, or zeros. Pages
are in memory until `memory_bytes` are used by all contents of a space together, and slots of the temporary file from
then on, so that neither the memory nor the number of open files grows with what a guest writes.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import weakref
from collections.abc import Callable
from typing import IO, Final

from ...errors import Errno, FsError
from ..base import Buffer, ReadableBuffer
from ..waiting import check_time

PAGE_BYTES: Final = 32 << 10
MEMORY_BYTES: Final = 64 << 20
MAX_BYTES: Final = 4 << 30
SIZE_MAX: Final = (1 << 63) - 1
_PAGE_COST_BYTES = 200  # of a page in memory, beside its bytes
_ROUNDING_BYTES = 64 << 20  # what the disk may have more at least: small contents take a slot too
_ZEROS = bytes(PAGE_BYTES)
_PAGES_AT_ONCE = 256  # between two looks at the time

# Fills all of a view from an offset.
Under = Callable[[int, memoryview], None]


class StagingSpace:
    """What all contents of one owner share. Everything here and in `Staged` happens under `lock`.

    memory_bytes: the most that is kept in memory. max_bytes: the most that all contents may have, holes included.
    directory: where the temporary file is made; None: where the system has such files.
    """

    def __init__(
        self, memory_bytes: int = MEMORY_BYTES, max_bytes: int = MAX_BYTES, directory: str | None = None
    ) -> None:
        self.lock = threading.RLock()
        self.memory_bytes = memory_bytes
        self.max_bytes = max_bytes
        self.used_memory_bytes = 0
        self.used_bytes = 0
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._close: weakref.finalize[..., StagingSpace] | None = None
        self._free: list[int] = []
        self._slots = 0

    def charge(self, count: int) -> None:
        """Take `count` bytes; a negative number gives them back. Raises NOSPC."""
        if self.used_bytes + count > self.max_bytes and count > 0:
            raise FsError(Errno.NOSPC, f"more than {self.max_bytes} bytes wait to be stored")
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
        if not self._free and self._slots * PAGE_BYTES >= self.max_bytes + max(self.max_bytes, _ROUNDING_BYTES):
            raise FsError(Errno.NOSPC, f"more than {self.max_bytes} bytes are copied or wait to be stored")
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115
                self._close = weakref.finalize(self, self._file.close)
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
            raise FsError(Errno.IO, "the temporary file of what was written cannot be read") from error
        if count != len(view):
            raise FsError(Errno.IO, "the temporary file of what was written became shorter")

    def close(self) -> None:
        """Drop the temporary file."""
        if self._close is not None:
            self._close()


def _no_space(error: Exception) -> FsError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return FsError(Errno.NOSPC if full else Errno.IO, f"no room for what was written: {error}")


class Staged:
    """One content. A method does all that it should, or raises and has changed nothing that can be seen.

    under: what lies below it, of `size` bytes, which shows wherever nothing was written. It may raise FsError.
    """

    __slots__ = ("_charged", "_pages", "_reserved", "_space", "_under", "size", "under_bytes")

    def __init__(self, space: StagingSpace, under: Under | None = None, size: int = 0) -> None:
        self.size = self.under_bytes = size
        self._space = space
        self._under = under
        self._charged = self._reserved = 0
        # Bytes of a page behind the end of the content are zeros, or not there.
        self._pages: dict[int, bytearray | int] = {}

    @property
    def whole(self) -> bool:
        """Whether nothing of what lies under it shows."""
        return not self.under_bytes or all(number in self._pages for number in range(_pages_of(self.under_bytes)))

    def read_into(self, offset: int, buf: Buffer, under: Under | None = None) -> int:
        """Like `Handle.read_into`. `under`: in place of its own. Raises IO, and what `under` raises."""
        page, start = self._pages.get(offset // PAGE_BYTES), offset % PAGE_BYTES
        if type(page) is bytearray and start + len(buf) <= len(page) and offset + len(buf) <= self.size:
            buf[:] = page[start : start + len(buf)]
            return len(buf)
        count = max(0, min(len(buf), self.size - offset))
        done = steps = 0
        with memoryview(buf) as view:
            while done < count:
                number, start = divmod(offset + done, PAGE_BYTES)
                length = min(count - done, PAGE_BYTES - start)
                page = self._pages.get(number)
                if page is None:
                    # What lies under it is read in one go up to the next page of ours.
                    while done + length < count and number + 1 not in self._pages:
                        number += 1
                        length = min(count - done, length + PAGE_BYTES)
                    with view[done : done + length] as piece:
                        self._read_under(offset + done, piece, under or self._under)
                else:
                    with view[done : done + length] as piece:
                        self._read_page(page, start, piece)
                done += length
                steps += 1
                if not steps % _PAGES_AT_ONCE:
                    check_time("reading what was written")
        return count

    def _read_page(self, page: bytearray | int, start: int, piece: memoryview) -> None:
        if isinstance(page, int):
            self._space.read_slot(page, start, piece)
            return
        there = page[start : start + len(piece)]
        piece[: len(there)] = there
        if len(there) < len(piece):
            _clear(piece[len(there) :])

    def _read_under(self, offset: int, piece: memoryview, under: Under | None) -> None:
        shown = max(0, min(len(piece), self.under_bytes - offset))
        if shown:
            assert under is not None
            under(offset, piece[:shown])
        if shown < len(piece):
            _clear(piece[shown:])

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`."""
        self.read_into(offset, buf := bytearray(min(count, max(self.size - offset, 0))))
        return bytes(buf)

    def write(self, offset: int, buf: ReadableBuffer) -> None:
        """Write all of `buf`, which is not empty. Raises FBIG, NOSPC, IO, and what `under` raises."""
        end = offset + len(buf)
        if offset % PAGE_BYTES + len(buf) <= PAGE_BYTES and not self._reserved and self._write_one(offset, end, buf):
            return
        if end > SIZE_MAX:
            raise FsError(Errno.FBIG)
        self._grow(growth := max(0, end - self.size))
        fresh: list[int] = []
        try:
            # All space first, so that what fails then is only the disk itself.
            for number in range(offset // PAGE_BYTES, (end - 1) // PAGE_BYTES + 1):
                start, count = number * PAGE_BYTES, min(PAGE_BYTES, end - number * PAGE_BYTES)
                whole = offset <= start and (count == PAGE_BYTES or end >= self.under_bytes)
                self._make_room(number, count, fresh, whole)
            self._fill(offset, buf)
        except BaseException:
            self._charge(-growth)
            for number in fresh:
                self._space.free_page(self._pages.pop(number))
            self._cut(self.size)
            raise
        self.size = max(self.size, end)

    def _write_one(self, offset: int, end: int, buf: ReadableBuffer) -> bool:
        """The usual case, in few steps: into one page that is in memory, or at its end. False: it is another one."""
        number, start = divmod(offset, PAGE_BYTES)
        page = self._pages.get(number)
        size = self.size
        if end <= size:
            stop = start + len(buf)
            if type(page) is not bytearray or stop > len(page):
                return False
            page[start:stop] = buf
            return True
        space, grown, more = self._space, end - size, len(buf)
        if page is None:
            if number * PAGE_BYTES < self.under_bytes:
                return False
            more += start + _PAGE_COST_BYTES
        elif type(page) is not bytearray or len(page) != start:
            return False
        memory, used = space.used_memory_bytes + more, space.used_bytes + grown
        if memory > space.memory_bytes or used > space.max_bytes:
            return False
        page = bytearray(start) if page is None else page
        page += buf
        self._pages[number] = page
        space.used_memory_bytes, space.used_bytes = memory, used
        self._charged += grown
        self.size = end
        return True

    def _grow(self, growth: int) -> None:
        """Charge for growth, of which some may have been reserved."""
        self._charge(growth - (reserved := min(growth, self._reserved)))
        self._reserved -= reserved

    def _charge(self, count: int) -> None:
        self._space.charge(count)
        self._charged += count

    def _make_room(self, number: int, count: int, fresh: list[int], whole: bool = False) -> None:
        """See to it that a page has its first `count` bytes, and what lies under it unless all of that is written next
        (`whole`). `fresh`: gets the numbers of pages that are made."""
        if len(fresh) % _PAGES_AT_ONCE == _PAGES_AT_ONCE - 1:
            check_time("writing")
        page = self._pages.get(number)
        if page is None:
            below = max(0, min(PAGE_BYTES, self.under_bytes - number * PAGE_BYTES))
            self._pages[number] = page = self._space.new_page(max(count, below))
            fresh.append(number)
            if below and not whole:
                check_time("copying a file before it is changed")
                data = bytearray(below)
                assert self._under is not None
                self._under(number * PAGE_BYTES, memoryview(data))
                if isinstance(page, int):
                    self._space.write_slot(page, 0, data)
                else:
                    page[:below] = data
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
        if size > SIZE_MAX:
            raise FsError(Errno.FBIG)
        self.reserve(0)
        if size < self.size:
            self._cut(size)
            self._charge(-min(self.size - size, self._charged))
        else:
            self._charge(size - self.size)
        self.size = size

    def reserve(self, end: int) -> bool:
        """See to it that writes before `end` find space; what was promised before does not count any more."""
        self._charge(-self._reserved)
        self._reserved = 0
        if not end:
            return True
        fresh: list[int] = []
        growth = max(0, end - self.size)
        try:
            self._charge(growth)
            self._reserved = growth
            for number in range(self.size // PAGE_BYTES, _pages_of(end)):
                self._make_room(number, min(PAGE_BYTES, end - number * PAGE_BYTES), fresh)
        except FsError:
            self.reserve(0)
            for number in fresh:
                self._space.free_page(self._pages.pop(number))
            return False
        return True

    def _cut(self, size: int) -> None:
        """Drop all bytes from `size` on."""
        self.under_bytes = min(self.under_bytes, size)
        last, rest = divmod(size, PAGE_BYTES)
        page = self._pages.get(last)
        if rest and isinstance(page, int):
            self._space.write_slot(page, rest, _ZEROS[rest:])
        elif rest and isinstance(page, bytearray) and len(page) > rest:
            self._space.used_memory_bytes -= len(page) - rest
            del page[rest:]
        for number in [number for number in self._pages if number >= last + bool(rest)]:
            self._space.free_page(self._pages.pop(number))

    def copy(self, space: StagingSpace, under: Under | None) -> Staged:
        """The same content in another space, over the same bytes. Raises NOSPC, IO."""
        made = Staged(space, under, self.under_bytes)
        made.size = self.size
        made._charge(max(0, self._charged - self._reserved))
        fresh: list[int] = []
        try:
            for number, page in self._pages.items():
                data = page
                if isinstance(page, int):
                    data = bytearray(PAGE_BYTES)
                    self._space.read_slot(page, 0, memoryview(data))
                assert isinstance(data, bytearray)
                made._pages[number] = room = space.new_page(len(data))
                fresh.append(number)
                if isinstance(room, int):
                    space.write_slot(room, 0, data)
                else:
                    room[:] = data
        except BaseException:
            made.release()
            raise
        return made

    def release(self) -> None:
        """Give everything back; the content is empty then."""
        for page in self._pages.values():
            self._space.free_page(page)
        self._pages.clear()
        self._charge(-self._charged)
        self.size = self.under_bytes = self._reserved = 0


def _pages_of(size: int) -> int:
    return -(-size // PAGE_BYTES)


def _clear(piece: memoryview) -> None:
    for start in range(0, len(piece), PAGE_BYTES):
        part = piece[start : start + PAGE_BYTES]
        part[:] = _ZEROS[: len(part)]
