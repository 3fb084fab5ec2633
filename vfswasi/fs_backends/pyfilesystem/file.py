"""Open files of PyFilesystem2: one object for all handles of a file, so that each sees what the others write.

Where the library's files can be changed in place that is what happens (MemoryFS). Elsewhere the file is staged at the
first change, here, and handed over as a whole at `sync` and when a handle that wrote is closed.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from ...errors import Errno, FsError
from ..base import Buffer, Key, ReadableBuffer, Stat
from ..staging.space import SIZE_MAX, Staged, StagingSpace
from .package import Library, positional

_CHUNK_BYTES: Final = 1 << 20
# A file that cannot be read at any position is copied as a whole; a larger one is FBIG.
SPOOL_MAX_BYTES: Final = 1 << 30
# MemoryFS has no limit, and a hole in one of its files takes memory like anything else.
MEMORY_FILE_MAX_BYTES: Final = 1 << 30


class SharedFile:
    """What is open under one key. `key`: its name now, None once it was removed. `in_place`: the library changes it
    where it is. Raises FsError."""

    def __init__(self, library: Library, key: Key, stat: Stat, in_place: bool, space: StagingSpace) -> None:
        """`stat`: its attributes as they are. The file is opened at its first use."""
        self.calls = library
        self.key: Key | None = key
        self.in_place = in_place
        self.references = 0
        self.dirty = False
        self.staged: Staged | None = None
        self._uploads = _Uploads()
        self._space = space
        self._stat = stat
        self._file: Any = None
        self._file_writes = False
        self._at = -1  # where the library's file object stands
        self._lock = threading.RLock()

    # The library's file object

    def open(self, writes: bool) -> None:
        """Open it if it is not open, or not for writing. Only files that are changed in place are opened for that."""
        with self._lock:
            if self.staged is not None or (self._file is not None and (self._file_writes or not writes)):
                return
            if self.key is None:
                raise FsError(Errno.NOENT)
            mode = "r+b" if writes else "rb"
            file = self.calls.call(self.calls.fs.openbin, self.calls.path(self.key), mode)
            self._drop_file()
            self._file, self._file_writes, self._at = file, writes, 0
            # Some stores do not tell the size of a file, which then looks empty.
            if not positional(file) or not (self._stat.size or self.in_place):
                self._stage(SIZE_MAX, SPOOL_MAX_BYTES)

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self.calls.call(file.close)

    def _read_some(self, offset: int, count: int) -> bytes:
        """From the library: at least one byte, or b"" at the end."""

        elsewhere, self._at = self._at != offset, -1

        def read() -> bytes:
            if elsewhere:
                self._file.seek(offset)
            return bytes(self._file.read(count) or b"")

        data: bytes = self.calls.call(read)
        self._at = offset + len(data)
        return data

    def _stage(self, keep: int, bound: int = SIZE_MAX) -> None:
        """Copy at most the first `keep` bytes here, and go on with the copy. Raises FBIG if these are over `bound`."""
        if self.staged is not None:
            return
        staged = Staged(self._space)
        try:
            while staged.size < keep:
                data = self._read_some(staged.size, min(_CHUNK_BYTES, keep - staged.size))
                if not data:
                    break
                staged.write(staged.size, data)
                if staged.size > bound:
                    raise FsError(Errno.FBIG, "a file that cannot be read in pieces is too large to be copied")
        except BaseException:
            staged.release()
            raise
        self.staged = staged
        self._drop_file()

    # Contents

    def size(self) -> int:
        """The size now."""
        with self._lock:
            if self.staged is not None:
                return self.staged.size
            if self.in_place and self._file is not None:
                self._at = -1
                return int(self.calls.call(self._file.seek, 0, 2))
            if self.key is not None:
                self._stat = self.calls.info(self.key, False)[0]
            return self._stat.size

    def read_into(self, offset: int, buf: Buffer) -> int:
        with self._lock:
            self.open(False)
            if self.staged is not None:
                return self.staged.read_into(offset, buf)
            if self.calls.is_archive and offset < self._at and self._stat.size <= SPOOL_MAX_BYTES:
                self._stage(SIZE_MAX)  # it would be unpacked from its start again and again
                return self.read_into(offset, buf)
            size = self.size() if self.in_place else self._stat.size
            wanted = min(len(buf), size - offset)
            done = 0
            while done < wanted:
                data = self._read_some(offset + done, min(_CHUNK_BYTES, wanted - done))
                if not data:
                    break
                buf[done : done + len(data)] = data
                done += len(data)
            return max(done, 0)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        with self._lock:
            if not len(buf):
                return
            self._check_size(offset + len(buf))
            if not self.in_place:
                self.open(False)
                self._stage(SIZE_MAX)
                assert self.staged is not None
                self.staged.write(offset, buf)
                self._changed()
                return
            self.open(True)
            size = self.size()
            if offset > size:
                self.truncate(offset)
            self._at = -1
            try:
                self.calls.call(_write_all, self._file, offset, buf)
            except FsError:
                self.calls.call(self._file.truncate, size)
                raise

    def append(self, buf: ReadableBuffer) -> int:
        with self._lock:
            end = self.size()
            self.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        with self._lock:
            self._check_size(size)
            if not self.in_place:
                if size:
                    self.open(False)
                self._stage(size)
                assert self.staged is not None
                self.staged.truncate(size)
                self._changed()
                return
            self.open(True)
            self._at = -1
            self.calls.call(_set_size, self._file, size)

    def _check_size(self, size: int) -> None:
        if size > (MEMORY_FILE_MAX_BYTES if self.in_place else SIZE_MAX):
            raise FsError(Errno.FBIG)

    def _changed(self) -> None:
        self.dirty = True
        self._stat = self._stat._replace(mtim_ns=time.time_ns())

    # Attributes and the end

    def stat(self) -> Stat:
        with self._lock:
            if self.key is None:
                return self._stat._replace(size=self.size(), nlink=0)
            if not self.dirty:
                self._stat = self.calls.info(self.key, False)[0]
            return self._stat._replace(size=self.size())

    def publish(self) -> None:
        """Hand over what was changed. Everything is kept if that fails."""
        with self._lock:
            if self.in_place:
                if self._file is not None and self._file_writes:
                    self.calls.call(self._file.flush)
                return
            if not self.dirty or self.key is None or self.staged is None:
                return
            self.calls.call(self._uploads.upload, self.calls.fs, self.calls.path(self.key), self.staged)
            self.dirty = False

    def unlinked(self) -> None:
        """Its name is gone."""
        with self._lock:
            self.key = None
            self.dirty = False

    def give_up(self) -> Staged | None:
        """Close all; the staged contents become the caller's if nobody has got them yet."""
        with self._lock:
            staged = self.staged
            if staged is not None and not self.dirty:
                self.close_staged()
                staged = None
            self._drop_file()
            return staged

    def close_staged(self) -> None:
        """Let the staged contents go."""
        if self.staged is not None:
            self._uploads.close(self.staged)


def _write_all(file: Any, offset: int, buf: ReadableBuffer) -> None:
    file.seek(offset)
    view = memoryview(buf)
    done = 0
    while done < len(view):
        # A copy: the memory behind the view belongs to the guest.
        count = file.write(bytes(view[done : done + _CHUNK_BYTES]))
        if not count:
            raise FsError(Errno.IO, "the library writes nothing and reports no error")
        done += count


def _set_size(file: Any, size: int) -> None:
    end = file.seek(0, 2)
    if size <= end:
        file.seek(0)  # MemoryFS does not grow a file whose position is behind the new end
        file.truncate(size)
        return
    while end < size:
        end += file.write(bytes(min(_CHUNK_BYTES, size - end)))


class _Uploads:
    """The uploads of one staged file. One that nobody waits for any more still reads it, and would store what it finds
    of a closed one as the whole file: what is staged stays until it has been read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._closed = False

    def upload(self, fs: Any, path: str, staged: Staged) -> None:
        """Raises what the library raises; CANCELED if the file was closed before."""
        with self._lock:
            if self._closed:
                raise FsError(Errno.CANCELED)
            self._running += 1
        try:
            fs.upload(path, _Source(staged))
        finally:
            with self._lock:
                self._running -= 1
                if self._closed and not self._running:
                    staged.release()

    def close(self, staged: Staged) -> None:
        """Close what is staged, now or when it has been read."""
        with self._lock:
            self._closed = True
            if not self._running:
                staged.release()


class _Source:
    """Staged contents, as a file for `upload`."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        self._at = 0

    def read(self, size: int | None = -1) -> bytes:
        count = self._staged.size if size is None or size < 0 else size
        data = self._staged.read(self._at, count)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._staged.size)[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
