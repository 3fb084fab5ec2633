"""An open file of a store whose accesses are noted."""

from __future__ import annotations

from typing import Final

from ....errors import Errno, FsError
from ...base import Buffer, Caps, Handle, ReadableBuffer, Stat
from ...waiting import check_time
from .looked import Looked
from .note import CHANGED, ENDLESS, LINKED, Note, Ranges

_READ_BYTES: Final = 1 << 18


class AccessedHandle(Handle):
    """An open file that was there before. stat: what it was like when it was opened."""

    def __init__(self, inner: Handle, looked: Looked, note: Note, stat: Stat) -> None:
        self._inner = inner
        self._looked = looked
        self._note = note
        self._before = stat
        self.advise = inner.advise  # type: ignore[method-assign]
        self.ident = inner.ident  # type: ignore[method-assign]
        self.reserve = inner.reserve  # type: ignore[method-assign]
        self.sync = inner.sync  # type: ignore[method-assign]

    def read_into(self, offset: int, buf: Buffer) -> int:
        looked, note = self._looked, self._note
        if looked.waiting is not None:
            looked.settle()
        try:
            count = self._inner.read_into(offset, buf)
        except FsError as error:
            if error.errno is not Errno.CANCELED:
                note.doubt(f"the store answered {error.errno.name}")
            raise
        if not looked.over:
            if count:
                with memoryview(buf) as view:
                    looked.got(note, offset, view[:count])
            if count < len(buf):
                note.see_size(max(offset + count, 0) if count else self._inner.size())
        return count

    def size(self) -> int:
        size, looked = self._inner.size(), self._looked
        asked = self._note, size, None
        if looked.waiting != asked:
            looked.settle()
            looked.waiting = None if looked.over else asked
        return size

    def stat(self) -> Stat:
        stat = self._inner.stat()
        self._looked.settle()
        if not self._looked.over:
            self._note.see(stat)
        return stat

    def true_stat(self) -> Stat:
        return self._inner.true_stat()

    # Changes

    def take_in(self) -> None:
        """All of it is an input, whatever is read of it. Raises FsError (CANCELED)."""
        note, looked = self._note, self._looked
        if note.cut or looked.over:
            return
        size = self._inner.size() if note.was is None else note.was.size
        note.see_size(size)
        if not note.hashed:  # its version says it all
            if size and note.read is None:
                note.read = Ranges()
            if size and note.read is not None:
                note.read.add(0, size)
            return
        piece = bytearray(min(_READ_BYTES, max(size, 1)))
        at = 0
        with memoryview(piece) as view:
            while at < size and not note.lost:
                check_time("reading what is changed")
                count = self._inner.read_into(at, view[: size - at])
                if not count:
                    break
                looked.got(note, at, view[:count])
                at += count

    def _change(self) -> None:
        """A part of it is about to be changed: what there is of it goes into what it will be."""
        note, looked = self._note, self._looked
        looked.settle()
        if not note.written and not looked.over:
            self._check()
            self.take_in()
            self._first_change(self._before)
        elif not note.cut and not looked.over:
            self.take_in()

    def _first_change(self, before: Stat) -> None:
        """before: what it is like as yet. What else has this file as its contents shows the change too."""
        note = self._note
        note.change(before)
        note.changed = True
        if note.was is not None and note.was.nlink > 1:
            note.doubt(LINKED)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        note = self._note
        if note.own is None:  # the first change of contents
            self._change()
        self._inner.write_from(offset, buf)
        note.write(offset, offset + len(buf))

    def append(self, buf: ReadableBuffer) -> int:
        if self._note.own is None:
            self._change()
        end = self._inner.append(buf)
        self._note.write(end - len(buf), end)
        return end

    def truncate(self, size: int) -> None:
        note, looked = self._note, self._looked
        if size:
            if note.own is None:
                self._change()
        elif not looked.over:
            if looked.waiting is not None and looked.waiting[0] is note:
                looked.waiting = None  # the size was asked for to say what is given back
            self._check()
            self._first_change(self._before)
        self._inner.truncate(size)
        if not size:
            note.cut = True
        note.write(size, ENDLESS)

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        if not self._looked.over:
            self._first_change(self._inner.stat())
        self._inner.set_times(atim_ns, mtim_ns)

    def allocate(self, offset: int, length: int) -> None:
        if self._note.own is None:
            self._change()
        self._inner.allocate(offset, length)
        self._note.write(self._before.size, ENDLESS)

    # Ends

    def _check(self) -> None:
        """It is still what it was when it was opened, unless the run has changed it."""
        note, before = self._note, self._before
        if note.written or self._looked.over or Caps.IMMUTABLE in self._looked.caps:
            return
        try:
            now = self._inner.stat()
        except FsError:
            note.doubt(CHANGED)
            return
        if (now.size, now.mtim_ns, now.ctim_ns) != (before.size, before.mtim_ns, before.ctim_ns):
            note.doubt(CHANGED)

    def close(self) -> None:
        self._check()
        self._inner.close()

    def discard(self) -> None:
        self._inner.discard()
