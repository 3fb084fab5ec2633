"""An open file of an overlay: the base's own handle until something is written, then what was staged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ....errors import Errno, FsError
from ...base import Buffer, Handle, Key, ReadableBuffer, Stat
from ...staging.space import Staged, StagingSpace
from .nodes import FileNode, Lower, OpenFile


class Owner(Protocol):
    """The overlay that handles belong to. fixed: nobody else changes the base. now_ns: where times come from."""

    space: StagingSpace
    fixed: bool
    now_ns: Callable[[], int]

    def stat_of(self, file: FileNode) -> Stat: ...

    def touch(self, file: FileNode) -> None: ...

    def note(self, file: FileNode) -> None: ...

    def closed(self, file: FileNode) -> None: ...

    def adopt(self, reader: Reader) -> FileNode: ...

    def forget(self, reader: Reader) -> None: ...


class OverlayHandle(Handle, OpenFile):
    """`read_into` is the base's own method as long as the bytes are there, so that reading costs nothing more. No
    attribute refers to a method of its own, or it would go with the garbage collector only."""

    def __init__(self, owner: Owner, file: FileNode, write: bool) -> None:
        """Raises what opening the base's file raises."""
        self._owner = owner
        self._file = file
        self._write = write
        self._lock = owner.space.lock
        if file.staged is None and file.lower is not None:
            self._read_lower(file.lower)
        file.handles.append(self)

    def _read_lower(self, lower: Lower) -> None:
        self.read_into = (lower.opened or lower.handle()).read_into  # type: ignore[method-assign]

    def moved(self) -> None:
        file = self._file
        if file.staged is None and file.lower is not None:
            self._read_lower(file.lower)
        else:
            self.__dict__.pop("read_into", None)

    def read_into(self, offset: int, buf: Buffer) -> int:
        with self._lock:
            staged = self._file.staged
            return 0 if staged is None else staged.read_into(offset, buf)

    def advise(self, offset: int, length: int, advice: int) -> None:
        file = self._file
        lower = file.lower
        if file.staged is None and lower is not None and lower.opened is not None:
            lower.opened.advise(offset, length, advice)

    def _staged(self, keep: bool = True) -> Staged:
        if not self._write:
            raise FsError(Errno.ROFS)
        file = self._file
        staged = file.staged
        if staged is None:
            self._owner.touch(file)
            self._owner.note(file)  # as it was when it was opened: the program may have read it since
            staged = file.stage(self._owner.space, keep, self._owner.fixed)
            for handle in file.handles:
                handle.moved()
        return staged

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        if not len(buf):
            return
        with self._lock:
            file = self._file
            (file.staged or self._staged()).write(offset, buf)
            now_ns = self._owner.now_ns  # a call of what a local name has is quicker than one of an attribute
            file.mtim = file.ctim = now_ns()

    def append(self, buf: ReadableBuffer) -> int:
        with self._lock:
            end = self.size()
            self.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        with self._lock:
            self._staged(keep=size > 0).truncate(size)
            file = self._file
            file.mtim = file.ctim = self._owner.now_ns()

    def allocate(self, offset: int, length: int) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        with self._lock:
            super().allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        with self._lock:
            staged = self._file.staged
            if not self._write or staged is None:
                return False
            return staged.reserve(offset, length)

    def size(self) -> int:
        staged = self._file.staged
        return self.stat().size if staged is None else staged.size

    def stat(self) -> Stat:
        return self._owner.stat_of(self._file)

    def ident(self) -> int:
        return self._file.ident

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            self._owner.touch(self._file)
            self._owner.note(self._file)
            self._file.set_times(atim_ns, mtim_ns, self._owner.now_ns())

    def close(self) -> None:
        with self._lock:
            file = self._file
            file.handles.remove(self)
            if not file.handles:
                if file.staged is not None and file.staged.promised:
                    file.staged.reserve(0, 0)
                self._owner.closed(file)


class Reader(OverlayHandle):
    """For reading a file of the base that nobody else has open, and of which nothing is ours: most opens are of that
    kind, and need no node. It gets one, `_file`, as soon as something is done that has to do with one; until then the
    base's handle answers."""

    _write = False
    alone = True  # it has no node

    def __init__(self, owner: Owner, place: Key, found: Stat, below: Handle) -> None:
        """`found`: what `below` says of the file, with its number; `place`: where it is in the base."""
        self._owner = owner
        self._lock = owner.space.lock
        self.place = place
        self.found = found
        self.below = below
        self.read_into = below.read_into  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> FileNode:
        if name != "_file":
            raise AttributeError(name)
        return self._owner.adopt(self)

    def adopted(self, file: FileNode) -> None:
        """It has a node now, which has its handle of the base."""
        self._file = file
        self.alone = False

    def advise(self, offset: int, length: int, advice: int) -> None:
        if self.alone:
            self.below.advise(offset, length, advice)
        else:
            super().advise(offset, length, advice)

    def size(self) -> int:
        return self.below.size() if self.alone else super().size()

    def stat(self) -> Stat:
        return self.below.stat() if self.alone else super().stat()

    def ident(self) -> int:
        ident = self.found.ident
        assert ident is not None
        return ident

    def close(self) -> None:
        with self._lock:
            if self.alone:
                self._owner.forget(self)
                self.below.close()
            else:
                super().close()
