"""Files in memory: the nodes of a tree, the space they take, and open files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...errors import Errno, FsError
from ...printing import counted
from ..base import Buffer, FileType, Handle, ReadableBuffer, Stat
from ..turns import STEP_BYTES, copy, give_way
from ..waiting import check_time

_FILE_MAX_BYTES = 2**63 - 1
# Up to this a slice copy is quicker than a memoryview, whose set-up costs more than the copy.
_SLICE_BYTES = 4096
_CUT_BYTES = 32 << 20
_ZEROS = memoryview(bytes(STEP_BYTES))
_new_tuple = tuple.__new__


class Node:
    __slots__ = ("atim", "ctim", "ident", "mtim", "nlink")

    filetype: FileType
    size = 0
    entries: dict[str, Node] | None = None  # a dict in directories only, so that a walk need not ask for the class

    def __init__(self, ident: int, now: int) -> None:
        self.ident = ident
        self.nlink = 1
        self.atim = self.mtim = self.ctim = now

    def stat(self) -> Stat:
        # tuple.__new__ skips the argument handling of Stat(...), which costs more than all the rest of a lookup.
        return _new_tuple(Stat, (self.filetype, self.size, self.atim, self.mtim, self.ctim, self.nlink, self.ident))


class File(Node):
    """`data` is the same object from creation to the end: handles keep it. `reserved`: bytes behind its end that are
    charged already. `known`: its last `stat`, which holds as long as `ctim` is the very object in it: whatever changes
    an attribute puts another object there afterwards, be it for the same time. That needs no lock, and takes 0.06 us
    where a new `Stat` takes 0.22."""

    __slots__ = ("data", "handles", "known", "reserved")

    filetype = FileType.REGULAR_FILE

    def __init__(self, ident: int, now: int, data: bytearray) -> None:
        self.ident = ident
        self.nlink = 1
        self.atim = self.mtim = self.ctim = now
        self.data = data
        self.handles = 0
        self.reserved = 0
        self.known: Stat | None = None

    def stat(self) -> Stat:
        ctim = self.ctim  # before anything else is looked at
        known = self.known
        if known is not None and known[4] is ctim:
            return known
        known = _new_tuple(Stat, (self.filetype, len(self.data), self.atim, self.mtim, ctim, self.nlink, self.ident))
        self.known = known
        return known

    def unchanged(self) -> None:
        """After a change that was undone: what somebody saw in the middle of it does not hold."""
        self.ctim = self.ctim + 1 - 1  # the same time in another object


class Directory(Node):
    """`version`: another number after each change of `entries`, unique within the store."""

    __slots__ = ("entries", "version")

    filetype = FileType.DIRECTORY
    entries: dict[str, Node]

    def __init__(self, ident: int, now: int) -> None:
        super().__init__(ident, now)
        self.entries = {}
        self.nlink = 2
        self.version = 0


class Link(Node):
    """Raises UnicodeEncodeError for a target that is not valid Unicode."""

    __slots__ = ("size", "target")

    filetype = FileType.SYMBOLIC_LINK

    def __init__(self, ident: int, now: int, target: str) -> None:
        super().__init__(ident, now)
        self.target = target
        self.size = len(target.encode())


class Space:
    """The lock of one store, the bytes that its files and links take, and its names. They change under the lock.
    now_ns: where its times come from."""

    __slots__ = ("inodes", "lock", "max_bytes", "max_inodes", "now_ns", "used")

    def __init__(self, max_bytes: int, max_inodes: int) -> None:
        self.lock = threading.RLock()
        self.now_ns: Callable[[], int] = time.time_ns
        self.max_bytes = max_bytes
        self.max_inodes = max_inodes
        self.inodes = self.used = 0

    def extend(self, file: File, gap: int, tail: ReadableBuffer) -> None:
        """Add `gap` zeros and `tail` to a file's data. Raises FBIG, NOSPC, and has added nothing then."""
        data = file.data
        size = len(data)
        grown = gap + len(tail)
        if size + grown > _FILE_MAX_BYTES:
            raise FsError(Errno.FBIG)
        reserved = file.reserved
        if self.used + grown - reserved > self.max_bytes:
            raise FsError(Errno.NOSPC, f"more than {counted(self.max_bytes, 'byte')} in memory")
        try:
            if gap > STEP_BYTES:
                bytes(gap)  # what the machine does not have is refused before any of it is taken
            for start in range(0, gap, STEP_BYTES):
                if start:
                    check_time("a file grows")
                data += _ZEROS[: min(STEP_BYTES, gap - start)]
            if len(tail) <= STEP_BYTES:
                data += tail
            else:
                _join(data, tail)
        except BaseException as error:
            cut(data, size)
            file.unchanged()
            if isinstance(error, MemoryError):  # max_bytes is more than the machine has
                raise FsError(Errno.NOSPC, "out of memory") from error
            raise
        if reserved:
            file.reserved = max(0, reserved - grown)
            grown -= reserved - file.reserved
        self.used += grown

    def reserve(self, file: File, size: int) -> bool:
        """Charge what a file of `size` bytes takes, in place of what was reserved for it before."""
        reserved = max(0, size - len(file.data))
        if self.used - file.reserved + reserved > self.max_bytes or size > _FILE_MAX_BYTES:
            return False
        self.used += reserved - file.reserved
        file.reserved = reserved
        return True

    def release(self, file: File) -> None:
        if file.handles:
            return
        self.used -= file.reserved
        file.reserved = 0
        if not file.nlink:
            self.used -= len(file.data)
            cut(file.data, 0)


def copied(value: bytes | bytearray | memoryview) -> bytearray:
    """The same bytes."""
    if not isinstance(value, memoryview) and len(value) <= STEP_BYTES:
        return bytearray(value)
    data = bytearray()
    with memoryview(value) as view:
        if view.nbytes <= STEP_BYTES or not view.c_contiguous:
            return bytearray(view)
        _join(data, view.cast("B"))
    return data


def _join(data: bytearray, tail: ReadableBuffer) -> None:
    with memoryview(tail) as view:
        for start in range(0, len(view), STEP_BYTES):
            give_way()
            data += view[start : start + STEP_BYTES]


def cut(data: bytearray, size: int) -> None:
    """Keep `size` bytes. Giving memory back takes time too."""
    while len(data) - size > _CUT_BYTES:
        del data[-_CUT_BYTES:]
        give_way()
    del data[size:]


class MemoryHandle(Handle):
    __slots__ = ("_data", "_file", "_lock", "_space", "_write")

    def __init__(self, space: Space, file: File, write: bool) -> None:
        self._space = space
        self._lock = space.lock
        self._file = file
        self._data = file.data
        self._write = write
        file.handles += 1

    def read_into(self, offset: int, buf: Buffer) -> int:
        length = len(buf)
        if length <= _SLICE_BYTES:
            piece = self._data[offset : offset + length]
            count = len(piece)
            if count == length:
                buf[:] = piece
            else:
                buf[:count] = piece
            return count
        with self._lock, memoryview(self._data) as view:
            count = max(0, min(length, len(view) - offset))
            copy(memoryview(buf), view[offset : offset + count])
        return count

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        length = len(buf)
        if not length:
            return
        with self._lock:
            data = self._data
            end = offset + length
            size = len(data)
            if end <= size:
                if length <= _SLICE_BYTES:
                    data[offset:end] = buf
                else:
                    # Slice assignment to a bytearray goes through a copy of what it is given.
                    with memoryview(data) as view:
                        copy(view[offset:end], buf)
            elif offset >= size:
                self._space.extend(self._file, offset - size, buf)
            else:
                self._space.extend(self._file, 0, buf[size - offset :])
                with memoryview(data) as view:
                    copy(view[offset:size], buf[: size - offset])
            file = self._file
            now_ns = self._space.now_ns  # a call of what a local name has is quicker than one of an attribute
            file.mtim = file.ctim = now_ns()

    def append(self, buf: ReadableBuffer) -> int:
        with self._lock:
            end = len(self._data)
            self.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        with self._lock:
            data = self._data
            grown = size - len(data)
            self._space.reserve(self._file, 0)
            if grown > 0:
                self._space.extend(self._file, grown, b"")
            elif grown:
                cut(data, size)
                self._space.used += grown
            self._file.mtim = self._file.ctim = self._space.now_ns()

    def allocate(self, offset: int, length: int) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        # The base's two steps without the lock could shrink a file that grew between them.
        with self._lock:
            super().allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        with self._lock:
            return self._write and self._space.reserve(self._file, offset + length if length else 0)

    def size(self) -> int:
        return len(self._data)

    def stat(self) -> Stat:
        return self._file.stat()

    def ident(self) -> int:
        return self._file.ident

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            set_node_times(self._file, atim_ns, mtim_ns, self._space.now_ns())

    def close(self) -> None:
        file = self._file
        with self._lock:
            file.handles = others = file.handles - 1
            if not others and (file.reserved or not file.nlink):
                self._space.release(file)


def set_node_times(node: Node, atim_ns: int | None, mtim_ns: int | None, now: int) -> None:
    if atim_ns is not None:
        node.atim = atim_ns
    if mtim_ns is not None:
        node.mtim = mtim_ns
    node.ctim = now
