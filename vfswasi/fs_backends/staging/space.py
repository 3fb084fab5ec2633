"""Bytes that are not yet where they belong: in memory first, then in one unnamed temporary file.

A content is a map of pages of 32 KiB; a page that is not there is that of what lies under the content, or zeros. Pages
are in memory until `memory_bytes` are used by all contents of a space together, and slots of the temporary file from
then on, so that neither the memory nor the number of open files grows with what a guest writes.

What is in memory cannot fail to be changed, and one write into one slot happens or does not. So a call that changes
more than that makes new pages first, and puts them in the place of the old ones when nothing can fail any more.

Longer than other files: what keeps a content as it was, whatever fails, is to be read together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ...errors import Errno, FsError
from ..base import Buffer, ReadableBuffer
from ..waiting import check_time
from .pages import MASK, PAGE_BYTES, PAGES_AT_ONCE, SHIFT, ZEROS, clear, pages_of, part
from .slots import Slots

MEMORY_BYTES: Final = 64 << 20
MAX_BYTES: Final = 4 << 30
SIZE_MAX: Final = (1 << 63) - 1
# For stores that take what the disk does: as much as the file systems of most machines let one file have.
DISK_MAX_BYTES: Final = 16 << 40
_PAGE_COST_BYTES: Final = 200  # of a page in memory, beside its bytes
_ROUNDING_BYTES: Final = 64 << 20  # what the disk may have more at least: small contents take a slot too

# Fills all of a view from an offset.
Under = Callable[[int, memoryview], None]


class StagingSpace:
    """What all contents of one owner share. Whatever changes here or in `Staged` does so under `lock`.

    memory_bytes: the most that is kept in memory. max_bytes: the most that all contents may have, holes included, and
    without what shows of something under them. directory: where the temporary file is made; None: where the system has
    such files. file_memory_bytes: what of each content may be in memory, so that a large one leaves room for others.
    """

    def __init__(
        self,
        memory_bytes: int = MEMORY_BYTES,
        max_bytes: int = MAX_BYTES,
        directory: str | None = None,
        file_memory_bytes: int = SIZE_MAX,
    ) -> None:
        self.lock = threading.RLock()
        self.memory_bytes = memory_bytes
        self.max_bytes = max_bytes
        self.used_memory_bytes = 0
        self.used_bytes = 0
        self.directory = directory
        self._memory_pages = file_memory_bytes >> SHIFT
        self.slots = Slots(PAGE_BYTES, directory)

    def charge(self, count: int) -> None:
        """Take `count` bytes; a negative number gives them back. Raises NOSPC."""
        if self.used_bytes + count > self.max_bytes and count > 0:
            raise FsError(Errno.NOSPC, f"more than {self.max_bytes:,} bytes would wait to be stored")
        self.used_bytes += count

    def _take_memory(self, count: int) -> bool:
        if self.used_memory_bytes + count > self.memory_bytes:
            return False
        self.used_memory_bytes += count
        return True

    def new_page(self, number: int, data: bytearray) -> bytearray | int:
        """What page `number` of a content with these bytes is: they themselves, in memory, or the number of a slot that
        has them and zeros. Raises NOSPC, IO."""
        if number < self._memory_pages and self._take_memory(len(data) + _PAGE_COST_BYTES):
            return data
        if self.slots.used_bytes >= self.max_bytes + max(self.max_bytes, _ROUNDING_BYTES):
            raise FsError(Errno.NOSPC, f"more than {self.max_bytes:,} bytes would be copied or wait to be stored")
        return self.slots.put(data)

    def extend(self, page: bytearray, size: int) -> bool:
        """Add zeros to a page up to a size, if there is memory for them."""
        more = size - len(page)
        if not self._take_memory(more):
            return False
        page += ZEROS[:more]
        return True

    def shorten(self, page: bytearray, size: int) -> None:
        """Keep the first bytes of a page."""
        self.used_memory_bytes -= len(page) - size
        del page[size:]

    def free_page(self, page: bytearray | int) -> None:
        """Give a page back."""
        if isinstance(page, bytearray):
            self.used_memory_bytes -= len(page) + _PAGE_COST_BYTES
            return
        self.slots.free(page)

    def close(self) -> None:
        """Drop the temporary file."""
        self.slots.close()


class Staged:
    """One content. A method does all that it should, or raises and has changed nothing that can be seen. Any thread may
    call it.

    under: what lies below it, of `size` bytes, which shows wherever nothing was written. It may raise FsError.
    """

    __slots__ = ("_charged", "_over_bytes", "_pages", "_space", "_under", "promised", "size", "under_bytes")

    def __init__(self, space: StagingSpace, under: Under | None = None, size: int = 0) -> None:
        self.size = self.under_bytes = size
        self._space = space
        self._under = under
        self._charged = 0
        self.promised = 0  # the end of what is reserved
        self._over_bytes = 0  # of what lies under it and is behind a page
        # Behind the end of the content a page in memory has zeros, or nothing, and a slot has anything.
        self._pages: dict[int, bytearray | int] = {}

    @property
    def whole(self) -> bool:
        """Whether nothing of what lies under it shows."""
        return self._over_bytes == self.under_bytes

    # Reading

    def read_into(self, offset: int, buf: Buffer, under: Under | None = None) -> int:
        """Like `Handle.read_into`. `under`: in place of its own. Raises IO, and what `under` raises."""
        count = len(buf)
        with self._space.lock:
            end = offset + count
            if end <= self.size:
                page = self._pages.get(offset >> SHIFT)
                start = offset & MASK
                if type(page) is bytearray and start + count <= len(page):
                    buf[:] = page[start : start + count]
                    return count
            else:
                count = max(0, self.size - offset)
            if count:
                with memoryview(buf) as view:
                    self._read(offset, view[:count], under or self._under)
            return count

    def _read(self, offset: int, view: memoryview, under: Under | None) -> None:
        done = looked = 0
        while done < len(view):
            number, start = divmod(offset + done, PAGE_BYTES)
            length = min(len(view) - done, PAGE_BYTES - start)
            page = self._pages.get(number)
            if page is None:
                # What lies under it is read in one go up to the next page of ours.
                while done + length < len(view) and number + 1 not in self._pages:
                    number += 1
                    length = min(len(view) - done, length + PAGE_BYTES)
            elif isinstance(page, int):
                # Slots that follow each other too, up to what is between two looks at the time.
                first, most = page - number, min(len(view) - done, PAGES_AT_ONCE * PAGE_BYTES)
                while length < most and self._pages.get(number + 1) == first + number + 1:
                    number += 1
                    length = min(most, length + PAGE_BYTES)
            with view[done : done + length] as piece:
                if page is None:
                    self._read_under(offset + done, piece, under)
                elif isinstance(page, int):
                    self._space.slots.read(page, start, piece)
                else:
                    there = page[start : start + length]
                    piece[: len(there)] = there
                    clear(piece[len(there) :])
            done += length
            if done - looked >= PAGES_AT_ONCE * PAGE_BYTES:
                looked = done
                check_time("reading what was written")

    def _read_under(self, offset: int, piece: memoryview, under: Under | None) -> None:
        shown = max(0, min(len(piece), self.under_bytes - offset))
        if shown:
            assert under is not None
            under(offset, piece[:shown])
        clear(piece[shown:])

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`."""
        with self._space.lock:
            buf = bytearray(min(count, max(self.size - offset, 0)))
            self.read_into(offset, buf)
        return bytes(buf)

    # Writing

    def write(self, offset: int, buf: ReadableBuffer) -> None:
        """Write all of `buf`; a gap before it reads as zeros. Raises FBIG, NOSPC, IO, and what `under` raises."""
        count = len(buf)
        end = offset + count
        space = self._space
        with space.lock:
            page = self._pages.get(offset >> SHIFT)
            if type(page) is bytearray:  # most writes end here: over or behind what is in one page in memory
                start = offset & MASK
                size = self.size
                there = len(page)
                if end <= size:
                    if start + count <= there:
                        page[start : start + count] = buf
                        return
                elif (
                    offset == size
                    and start == there
                    and start + count <= PAGE_BYTES
                    and not self.promised
                    and space.used_bytes + count <= space.max_bytes
                    and space.used_memory_bytes + count <= space.memory_bytes
                ):
                    page += buf
                    space.used_bytes += count
                    space.used_memory_bytes += count
                    self._charged += count
                    self.size = end
                    return
            elif page is None and offset == self.size and count <= PAGE_BYTES and not offset & MASK and count:
                self._charge(end, self._over_bytes)  # the first bytes of a page
                try:
                    self._pages[offset >> SHIFT] = space.new_page(offset >> SHIFT, bytearray(buf))
                except BaseException:
                    self._charge(offset, self._over_bytes)
                    raise
                self.size = end
                return
            if count:
                self._write(offset, end, buf)

    def _write(self, offset: int, end: int, buf: ReadableBuffer) -> None:
        """In all other cases; `end` is behind `offset`."""
        if end > SIZE_MAX:
            raise FsError(Errno.FBIG)
        size = max(self.size, end)
        first, last = offset >> SHIFT, (end - 1) >> SHIFT
        in_place = first == last or self.promised > 0
        over = self._over_bytes
        kept: list[int] = []
        made: dict[int, bytearray | int] = {}
        try:
            self._charge(size, over)
            self._clear_gap(offset)
            with memoryview(buf) as view:
                for number in range(first, last + 1):
                    start, stop = part(number, offset, end)
                    at = (number << SHIFT) + start
                    page = self._pages.get(number)
                    with view[at - offset : at - offset + stop - start] as piece:
                        if isinstance(page, bytearray) and (stop <= len(page) or self._space.extend(page, stop)):
                            kept.append(number)
                        elif isinstance(page, int) and (in_place or at >= self.size):
                            self._space.slots.write(page, start, piece)
                        else:
                            if not start and (stop == PAGE_BYTES or at + stop >= self.size):
                                data = bytearray(piece)
                            else:
                                data = self._shown(number, stop)
                                data[start:stop] = piece
                            made[number] = self._space.new_page(number, data)
                            over += self._below(number) if page is None else 0
                    if not (number - first + 1) % PAGES_AT_ONCE:
                        check_time("writing")
                self._charge(size, over)
                # Nothing fails from here on.
                for number in kept:
                    start, stop = part(number, offset, end)
                    at = (number << SHIFT) + start - offset
                    page = self._pages[number]
                    assert isinstance(page, bytearray)
                    with view[at : at + stop - start] as piece:
                        page[start:stop] = piece
        except BaseException:
            for page in made.values():
                self._space.free_page(page)
            self._charge(self.size, self._over_bytes)
            if not self.promised:
                self._trim(self.size, self.size)
            raise
        for number, page in made.items():
            old = self._pages.get(number)
            self._pages[number] = page
            if old is not None:
                self._space.free_page(old)
        self.size, self._over_bytes = size, over

    def _charge(self, size: int, over_bytes: int) -> None:
        """For a content of this size with so much behind its pages, and what is reserved."""
        due = max(size, self.promised) - self.under_bytes + over_bytes
        self._space.charge(due - self._charged)
        self._charged = due

    def _below(self, number: int) -> int:
        """How much of what lies under it is in the place of a page."""
        return max(0, min(PAGE_BYTES, self.under_bytes - (number << SHIFT)))

    def _shown(self, number: int, count: int) -> bytearray:
        """All that shows where a page is, or is to be, and `count` bytes at least."""
        page = self._pages.get(number)
        if isinstance(page, bytearray):
            return page.ljust(count, b"\0")
        base = number << SHIFT
        shown = min(PAGE_BYTES, self.size - base) if page is not None else self._below(number)
        data = bytearray(max(count, shown))
        if shown > 0:
            with memoryview(data) as view, view[:shown] as piece:
                if page is not None:
                    self._space.slots.read(page, 0, piece)
                else:
                    assert self._under is not None
                    self._under(base, piece)
        return data

    def _clear_gap(self, end: int) -> None:
        """What slots have between the end of the content and `end` will be seen."""
        if end > self.size:
            for number in self._numbers(self.size >> SHIFT, pages_of(end)):
                page = self._pages[number]
                if isinstance(page, int):
                    start, stop = part(number, self.size, end)
                    self._space.slots.write(page, start, ZEROS[: stop - start])

    def _numbers(self, first: int, last: int) -> list[int]:
        """The pages that there are from `first` to before `last`."""
        if last - first < len(self._pages):
            return [number for number in range(first, last) if number in self._pages]
        return [number for number in self._pages if first <= number < last]

    def truncate(self, size: int) -> None:
        """Set the size; growth reads as zeros and takes no space but is counted. What was reserved is so no more.
        Raises FBIG, NOSPC, IO."""
        if size > SIZE_MAX:
            raise FsError(Errno.FBIG)
        with self._space.lock:
            self._unreserve()
            if size < self.size:
                self._trim(size, self.size)
            else:
                self._clear_gap(size)
            self._charge(size, self._over_bytes)
            self.size = size

    def _trim(self, size: int, end: int) -> None:
        """Drop all bytes from `size` on. There are no pages behind `end`."""
        last, rest = divmod(size, PAGE_BYTES)
        page = self._pages.get(last)
        if rest and isinstance(page, bytearray) and len(page) > rest:
            self._space.shorten(page, rest)
        for number in self._numbers(pages_of(size), pages_of(end)):
            self._space.free_page(self._pages.pop(number))
        if size < self.under_bytes:
            self.under_bytes = size
            self._over_bytes = sum(map(self._below, self._pages))

    def reserve(self, offset: int, length: int) -> bool:
        """Like `Handle.reserve`: whether writes in this range will find space; what was promised before does not count
        any more."""
        end = offset + length
        with self._space.lock:
            self._unreserve()
            if not length:
                return True
            if end > SIZE_MAX:
                return False
            try:
                self.promised = end
                self._charge(self.size, self._over_bytes)
                for number in range(offset >> SHIFT, pages_of(end)):
                    self._make_room(number, part(number, offset, end)[1])
                    if not number % PAGES_AT_ONCE:
                        check_time("reserving space")
            except (FsError, MemoryError):
                self._unreserve()
                return False
        return True

    def _make_room(self, number: int, count: int) -> None:
        page = self._pages.get(number)
        if isinstance(page, int) or (page is not None and (len(page) >= count or self._space.extend(page, count))):
            return
        over = self._over_bytes + (self._below(number) if page is None else 0)
        self._charge(self.size, over)
        made = self._space.new_page(number, self._shown(number, count))
        self._pages[number] = made
        self._over_bytes = over
        if page is not None:
            self._space.free_page(page)

    def _unreserve(self) -> None:
        if self.promised:
            end, self.promised = max(self.size, self.promised), 0
            self._trim(self.size, end)
            self._charge(self.size, self._over_bytes)

    def cover(self, under: Under) -> None:
        """Take all that shows of what lies under it, which `under` gives. Raises NOSPC, IO, and what `under` raises."""
        with self._space.lock:
            self._under = under
            for number in range(pages_of(self.under_bytes)):
                self._make_room(number, 0)
                if not number % PAGES_AT_ONCE:
                    check_time("keeping a file")

    def copy(self, space: StagingSpace, under: Under | None) -> Staged:
        """The same content in another space, over the same bytes. Raises NOSPC, IO."""
        made = Staged(space, under, self.under_bytes)
        with self._space.lock, space.lock:
            try:
                made._charge(self.size, self._over_bytes)
                made.size, made._over_bytes = self.size, self._over_bytes
                for step, number in enumerate(self._numbers(0, pages_of(self.size))):
                    made._pages[number] = space.new_page(number, self._shown(number, 0))
                    if not (step + 1) % PAGES_AT_ONCE:
                        check_time("copying what was written")
            except BaseException:
                made.release()
                raise
        return made

    def release(self) -> None:
        """Give everything back; the content is empty then."""
        with self._space.lock:
            for page in self._pages.values():
                self._space.free_page(page)
            self._pages.clear()
            self.size = self.under_bytes = self._over_bytes = self.promised = 0
            self._charge(0, 0)
