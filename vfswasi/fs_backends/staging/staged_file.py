"""The objects of an archive that can be changed: contents are those of the archive until they are written to.

Everything happens under the lock of the staging space.
"""

from __future__ import annotations

from typing import Protocol

from ...errors import Errno, FsError
from ..archive.zip.archive import ZipArchive
from ..archive.zip.tree import Member
from ..base import Buffer, FileType, Handle, ReadableBuffer, Stat
from ..memory.file import Directory, Node, now_ns, set_node_times
from ..waiting import check_time
from .tree import Staged, StagingSpace

_COPY_BYTES = 256 << 10


class Base:
    """An archive that contents are read from. Once it is retired, it is closed with the last file that needs it."""

    def __init__(self, archive: ZipArchive) -> None:
        self.archive = archive
        self._users = 0
        self._retired = False

    def hold(self, count: int) -> None:
        self._users += count
        if self._retired and not self._users:
            self.archive.close()

    def retire(self) -> None:
        self._retired = True
        self.hold(0)


class ArchivedFile(Node):
    """A regular file: `member` of `base`, or what was staged, or both as long as the copy is not `changed`.

    `loaded_mtim`: the time that the member has.
    """

    __slots__ = ("base", "changed", "handles", "loaded_mtim", "member", "staged")

    filetype = FileType.REGULAR_FILE

    def __init__(self, ident: int, now: int) -> None:
        super().__init__(ident, now)
        self.loaded_mtim = now
        self.base: Base | None = None
        self.member: Member | None = None
        self.staged: Staged | None = None
        self.changed = False
        self.handles = 0

    def length(self) -> int:
        if self.staged is not None:
            return self.staged.size
        return self.member.stat.size if self.member is not None else 0

    def stat(self) -> Stat:
        return Stat(self.filetype, self.length(), self.atim, self.mtim, self.ctim, self.nlink, self.ident)

    def stage(self, space: StagingSpace, keep: bool) -> Staged:
        """The content where it can be written to; without `keep` it may be empty. Raises NOSPC, IO."""
        if self.staged is not None:
            return self.staged
        staged = Staged(space)
        if keep and self.base is not None and self.member is not None:
            reader = self.base.archive.open(self.member)
            try:
                buffer = bytearray(_COPY_BYTES)
                while count := reader.read_into(staged.size, buffer):
                    check_time("copying a member")
                    staged.write(staged.size, memoryview(buffer)[:count])
            except BaseException:
                staged.release()
                raise
            finally:
                reader.close()
        self.staged = staged
        return staged

    def adopt(self, base: Base, member: Member) -> None:
        """From now on the content is that of a member, which equals it."""
        base.hold(self.handles)
        if self.base is not None:
            self.base.hold(-self.handles)
        self.base, self.member = base, member
        self.loaded_mtim = self.mtim
        self.changed = False
        if self.staged is not None:
            self.staged.release()
            self.staged = None

    def release(self) -> None:
        """Forget the content of a file that has neither a name nor a handle."""
        if self.handles or self.nlink:
            return
        if self.staged is not None:
            self.staged.release()
        self.staged = self.member = self.base = None


class ArchivedDirectory(Directory):
    """A directory of the archive: `member` is its entry, if it has one; `loaded_mtim` is the time of that."""

    __slots__ = ("loaded_mtim", "member")

    def __init__(self, ident: int, now: int, member: Member | None) -> None:
        super().__init__(ident, now)
        self.loaded_mtim = now
        self.member = member


class ArchivedObject(Node):
    """A symbolic link, device, FIFO or socket of the archive, which can only be moved, removed and dated."""

    __slots__ = ("filetype", "loaded_mtim", "member", "size")

    filetype: FileType
    size: int

    def __init__(self, ident: int, now: int, member: Member) -> None:
        super().__init__(ident, now)
        self.loaded_mtim = now
        self.member = member
        self.filetype = member.stat.filetype
        self.size = member.stat.size


class Owner(Protocol):
    """The tree that handles belong to. `changed`: it is no longer what the archive holds."""

    staging: StagingSpace
    changed: bool


class StagedHandle(Handle):
    """An open file; it goes on through commits."""

    def __init__(self, owner: Owner, file: ArchivedFile, write: bool) -> None:
        self._owner = owner
        self._file = file
        self._write = write
        self._lock = owner.staging.lock
        self._reader: Handle | None = None
        self._reader_of: Member | None = None
        if file.base is not None and file.member is not None and file.staged is None:
            self._open_reader(file.base, file.member)  # what is wrong with it shows now
        file.handles += 1
        if file.base is not None:
            file.base.hold(1)

    def _open_reader(self, base: Base, member: Member) -> Handle:
        self._close_reader()
        self._reader = base.archive.open(member)
        self._reader_of = member
        return self._reader

    def _close_reader(self) -> None:
        reader, self._reader, self._reader_of = self._reader, None, None
        if reader is not None:
            reader.close()

    def read_into(self, offset: int, buf: Buffer) -> int:
        with self._lock:
            file = self._file
            if file.staged is not None:
                return file.staged.read_into(offset, buf)
            if file.member is None or file.base is None:
                return 0
            reader = self._reader
            if reader is None or self._reader_of is not file.member:
                reader = self._open_reader(file.base, file.member)
            return reader.read_into(offset, buf)

    def _staged(self, keep: bool = True) -> Staged:
        if not self._write:
            raise FsError(Errno.ROFS)
        return self._file.stage(self._owner.staging, keep)

    def _was_changed(self) -> None:
        file = self._file
        file.changed = True
        file.mtim = file.ctim = now_ns()
        if file.nlink:
            self._owner.changed = True

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        if not len(buf):
            return
        with self._lock:
            self._staged().write(offset, buf)
            self._was_changed()

    def append(self, buf: ReadableBuffer) -> int:
        with self._lock:
            end = self._file.length()
            self.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        with self._lock:
            self._staged(keep=size > 0).truncate(size)
            self._was_changed()

    def allocate(self, offset: int, length: int) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)
        with self._lock:
            super().allocate(offset, length)

    def size(self) -> int:
        with self._lock:
            return self._file.length()

    def stat(self) -> Stat:
        with self._lock:
            return self._file.stat()

    def ident(self) -> int:
        return self._file.ident

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            set_node_times(self._file, atim_ns, mtim_ns)
            if self._file.nlink:
                self._owner.changed = True

    def close(self) -> None:
        with self._lock:
            self._close_reader()
            file = self._file
            file.handles -= 1
            if file.base is not None:
                file.base.hold(-1)
            file.release()
