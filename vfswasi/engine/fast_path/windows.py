"""Windows: the part of an open file that lies in vdso memory, and when it is filled, moved and written back.

A `FileWindow` stands in place of its inode's handle, so every call that reaches Python sees the file as the guest left
it. Calls that vdso.wat could not answer arrive here as ordinary reads and writes; they are the occasion to move the
window, because what was missed is what will be wanted next.

- Sequential: each window that paid doubles the next, up to 256 KiB.
- Scattered over a file that fits: after one miss for each 64 KiB of it, the whole file is taken in.
- Scattered over a file that does not fit: the call goes straight to the store, so that a read of 16 bytes drags
  nothing along; now and then a small window tries whether the guest has settled somewhere.
- Large: straight between store and guest, unless the whole file went by once and fits.

Longer than other files: every method of the one class keeps the same words true.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from ...errors import Errno, FsError
from ...fs_backends.base import Buffer, ReadableBuffer, Stat
from ...kernel.files.inode import FileInode
from ...kernel.files.window import Window, tick_ns
from ...logs import logger
from . import vdso
from .access_pattern import EARNED_BYTES, LARGE_BYTES, AccessPattern
from .file_entry import FileEntry

_log = logger("vfswasi.vdso")

NO_SPACE: Final = (Errno.NOSPC, Errno.DQUOT)

_OFFSET_END: Final = (1 << 63) - 1
_NEVER: Final = (-1, -1, -1)


class Lender(Protocol):
    """What a window needs of the fast path that it belongs to."""

    @property
    def vdso(self) -> vdso.Vdso: ...

    @property
    def whole_bytes(self) -> int:
        """A larger file is never taken in as a whole."""

    def take_region(self, size: int, window: FileWindow) -> tuple[int, int] | None:
        """Room of `size` bytes: its place and its size."""

    def release_space(self) -> bool:
        """Give back what is reserved in the stores; whether there was anything."""

    def window_gone(self, window: FileWindow) -> None:
        """The window is about to leave its inode."""

    def pack_filestat(self, at: int, inode: FileInode, stat: Stat) -> None:
        """Write the struct that the guest gets to `at`."""


class FileWindow(FileEntry, Window):
    """The window of one inode."""

    __slots__ = (
        "_capacity",
        "_fast",
        "_filled_ns",
        "_inode",
        "_pattern",
        "_reserved",
        "_seen",
        "_store",
        "fds",
        "keeps_writes",
    )

    def __init__(self, fast: Lender, inode: FileInode, at: int, *, shared: bool, keeps_writes: bool) -> None:
        """`at`: address of the file's entry, kept as `address`. `shared`: others may change the file at any time.
        `keeps_writes`: what is written may reach the store later. Raises what `Handle.size` and `Handle.stat` raise."""
        FileEntry.__init__(self, fast.vdso, at, shared)
        self._fast = fast
        self._inode = inode
        self._store = inode.handle
        self.keeps_writes = keeps_writes
        self.fds: set[int] = set()
        self._capacity = 0
        self._pattern = AccessPattern()
        self._reserved = False
        # What a shared file looked like when it was read: (size, modification, change).
        self._seen = self._look() if shared else None
        self._filled_ns = 0
        self._begin(self._store.size())

    def keep_attributes(self, stat: Stat) -> None:
        self._fast.pack_filestat(self.address + vdso.FILESTAT_AT, self._inode, stat)
        self._words[(self.address >> 2) + 15] = 1

    # Reading

    def read_into(self, offset: int, buf: Buffer) -> int:
        self.settle()
        wanted = len(buf)
        size, start, valid, _, _, _, place, lease, _, _ = self._load()
        if self.shared:
            if not lease or offset + wanted > size:
                size, valid = self._look_again(valid, over=not lease)
            else:  # what Python answers from the window counts like what wasm does
                self._words[(self.address >> 2) + 13] = lease - 1
                self._answered -= 1
        elif not lease:
            self._renew_lease()
        wanted = min(wanted, max(0, size - offset))
        if not wanted:
            # The store decides: it may know more than we do.
            return self._store.read_into(offset, buf)
        if start <= offset and offset + wanted <= start + valid:
            at = place + offset - start
            buf[:wanted] = self._view[at : at + wanted]
            return wanted
        whole = size <= self._fast.whole_bytes
        plan = self._pattern.plan(offset, wanted, size, start, valid, self._lease - lease, whole)
        if plan is None or not self._fill(*plan):
            self._pattern.next = offset + wanted
            return self._store.read_into(offset, buf)
        _, start, valid, _, _, _, place, _, _, _ = self._load()
        if not (start <= offset and offset + wanted <= start + valid):
            return self._store.read_into(offset, buf)
        at = place + offset - start
        buf[:wanted] = self._view[at : at + wanted]
        return wanted

    def _fill(self, start: int, length: int) -> bool:
        """Take in part of the file; whether that worked. An error is not the guest's, which asked for less."""
        if not self._make_room(length):
            return False
        self._empty()
        before_ns = time.time_ns() if self.shared else 0
        try:
            count = self._store.read_into(start, self._view[self._place : self._place + length])
        except FsError:
            return False
        if not 0 <= count <= length:
            return False  # the call itself will find out
        self._set_window(start, count, 0)
        self._pattern.next = start + count
        if self.shared:
            self._filled_ns = before_ns
        return True

    def _make_room(self, length: int) -> bool:
        """A region of at least `length` bytes, this file's alone. The window is empty afterwards if it is another."""
        if self._capacity >= length:
            return True
        self._empty()
        self._release()
        found = self._fast.take_region(length, self)
        if found is None:
            return False
        self._place, self._capacity = found
        return True

    def _release(self) -> None:
        self._fast.vdso.regions.give(self._place, self._capacity)
        self._place = self._capacity = 0

    def give_up_region(self) -> bool:
        """Somebody else needs the room. False: it holds what the store would not take."""
        try:
            self.settle()
        except FsError:
            return False
        self._empty()
        self._release()
        self._unreserve()
        return True

    # Files that others may change

    def _look(self) -> tuple[int, int, int]:
        stat = self._store.true_stat()
        return stat.size, stat.mtim_ns or 0, stat.ctim_ns or 0

    def _look_again(self, valid: int, over: bool = False) -> tuple[int, int]:
        """(size, valid bytes of the window) after asking the store, with a new lease. `over`: the old one had ended.

        A file that was read within a tick of the file system's clock after it had been changed may have been changed
        once more in that tick, and look the same: it is read anew.
        """
        seen = self._look()
        if seen != self._seen or (over and self._filled_ns < max(seen[1:]) + tick_ns(*seen[1:])):
            self._seen = seen
            valid = 0
            self._empty()
            self.forget_attributes()
        self._set_size(seen[0])
        self._renew_lease()
        return seen[0], valid

    def _is_as_seen(self) -> bool:
        """Before the store is written to: whether nobody else has changed the file since it was looked at."""
        return not self.shared or self._look() == self._seen

    def _changed(self, as_seen: bool) -> None:
        """The store was written to: its new times are this run's doing, unless somebody else's came before them."""
        self.forget_attributes()
        if not as_seen:
            self._empty()
        if self.shared:
            try:
                self._seen = self._look()
            except FsError:  # the change was made; the next look will tell
                self._seen = _NEVER

    # Writing

    def settle(self) -> bool:
        if not self._longs[self._dirty_index]:
            return False
        _, start, _, _, dirty, dirty_end, place, _, _, _ = self._load()
        at = place + dirty - start
        as_seen = self._is_as_seen()
        self._store.write_from(dirty, self._view[at : at + dirty_end - dirty])
        self._set_dirty(0, 0)
        self._changed(as_seen)
        return True

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self.settle()
        count = len(buf)
        size, start, valid, _, _, _, _, lease, _, _ = self._load()
        if self.shared and not lease:
            size, valid = self._look_again(valid, over=True)
        if count and self._keep(offset, count, size, start, valid, self._lease - lease):
            _, start, valid, _, _, _, place, _, _, _ = self._load()
            at = place + offset - start
            self._view[at : at + count] = buf
            end = offset + count
            self._longs[(self.address >> 3) + 2] = max(valid, end - start)
            self._set_dirty(offset, end)
            self._set_size(max(size, end))
            self.forget_attributes()
            return
        as_seen = self._is_as_seen()
        try:
            self._store.write_from(offset, buf)
        except FsError as error:
            # The space may only be reserved, for this file or another.
            if error.errno not in NO_SPACE or not self._fast.release_space():
                raise
            self._store.write_from(offset, buf)
        self._written_through(offset, buf)
        self._changed(as_seen)

    def _keep(self, offset: int, count: int, size: int, start: int, valid: int, calls: int) -> bool:
        """Whether the window now has reserved room for these bytes, which continue its contents."""
        if not self.keeps_writes or count >= LARGE_BYTES or offset > size:
            return False
        room = min(self._capacity, _OFFSET_END - start)
        if valid and start <= offset <= start + valid and offset + count <= start + room:
            return self._reserve(start, valid, room)
        if offset in (self._pattern.next, size) or (valid and offset == start + valid):
            self._pattern.grow(calls)
        else:
            self._pattern.scattered += 1
            if offset + count <= size <= min(self._fast.whole_bytes, self._pattern.scattered * EARNED_BYTES):
                # A store may give less than it says; what lies behind that in the region is not this file's.
                return self._fill(0, size) and self._load()[2] == size and self._reserve(0, size, size)
            if self._pattern.is_hopeless(calls):
                return False
        self._pattern.next = offset + count
        length = min(max(self._pattern.length, 4 * count), _OFFSET_END - offset)
        if not self._make_room(length):
            return False
        self._empty()
        return self._reserve(offset, 0, length)

    def _reserve(self, start: int, valid: int, room: int) -> bool:
        if not self._store.reserve(start, room):
            self.keeps_writes = False  # a store that cannot promise space gets every write at once
            return False
        self._reserved = True
        self._set_window(start, valid, room)
        return True

    def release_space(self) -> bool:
        """Give back what is reserved for writes to come; whether anything was. Raises what `settle` raises."""
        if not self._reserved:
            return False
        self.settle()
        _, start, valid, *_ = self._load()
        self._set_window(start, valid, 0)
        self._unreserve()
        return True

    def _unreserve(self) -> None:
        if self._reserved:
            self._reserved = False
            try:
                self._store.reserve(0, 0)
            except FsError as error:
                _log.debug("what was reserved could not be given back: %s", error)

    def _written_through(self, offset: int, buf: ReadableBuffer) -> None:
        """The store has these bytes: the window is to show them too."""
        size, start, valid, _, _, _, place, _, _, _ = self._load()
        first, last = max(offset, start), min(offset + len(buf), start + valid)
        if first < last:
            at = place + first - start
            self._view[at : at + last - first] = buf[first - offset : last - offset]
        if len(buf):
            self._set_size(max(size, offset + len(buf)))
            self._pattern.next = offset + len(buf)

    def append(self, buf: ReadableBuffer) -> int:
        if self.keeps_writes and not self.shared:
            end = self._load()[0]
            self.write_from(end, buf)
            return end + len(buf)
        self.settle()
        try:
            end = self._store.append(buf)
        except FsError as error:
            if error.errno not in NO_SPACE or not self._fast.release_space():
                raise
            end = self._store.append(buf)
        if self.shared:
            self._look_again(0)
        else:
            self._written_through(end - len(buf), buf)
            self._changed(True)
        return end

    # The rest goes to the store, which must have everything first

    def truncate(self, size: int) -> None:
        self.settle()
        as_seen = self._is_as_seen()
        self._store.truncate(size)
        _, start, valid, *_ = self._load()
        self._set_size(size)
        self._set_window(start, max(0, min(valid, size - start)), 0)
        self._changed(as_seen)

    def allocate(self, offset: int, length: int) -> None:
        self.settle()
        self.release_space()  # the store may take it for this
        as_seen = self._is_as_seen()
        self._store.allocate(offset, length)
        self._set_size(max(self._load()[0], offset + length))
        self._changed(as_seen)

    def size(self) -> int:
        if self.shared:
            self.settle()
            return self._look_again(self._load()[2])[0]
        return self._load()[0]

    def stat(self) -> Stat:
        self.settle()
        if self.shared:
            self._look_again(self._load()[2])
        else:
            self._renew_lease()
        return self._store.stat()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self.settle()
        self._store.set_times(atim_ns, mtim_ns)
        self.forget_attributes()

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._store.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self.settle()
        self._store.sync(data_only)

    def refresh(self) -> None:
        """Others may have changed anything: nothing that was read counts any more. Raises what `settle` raises."""
        self.settle()
        self._empty()
        self._unreserve()
        self._set_size(self._store.size())
        self.forget_attributes()
        if self.shared:
            self._seen = self._look()

    def dissolve(self) -> None:
        self.settle()
        self.leave()

    def leave(self) -> None:
        """Put the store's handle back, whatever is lost by that, and whatever foreign code raises."""
        try:
            self._unreserve()
        finally:
            self._release()
            self._fast.window_gone(self)
            self.detach()

    def detach(self) -> None:
        """Put the store's handle back; touches no vdso memory."""
        self._inode.handle = self._store
        self._inode.window = None
        self._inode.volume.windowed.discard(self._inode)

    def close(self) -> None:
        self._end(keep=True)

    def discard(self) -> None:
        self._end(keep=False)

    def _end(self, keep: bool) -> None:
        try:
            self.dissolve()
        except BaseException:
            if self._inode.window is self:
                self.leave()
            raise
        finally:
            (self._store.close if keep else self._store.discard)()
