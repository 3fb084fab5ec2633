"""An open file of a remote store: one object for all its handles, so that they see each other's writes.

It pins the version that was there when it was opened: reads give that version or an error, never a mixture of two.
The first write stages the contents; `sync`, and the close of the last handle that writes, store them as a whole.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Protocol

from ...errors import Errno, FsError, Uncommitted
from .. import waiting
from ..base import Buffer, FileType, Handle, Key, ReadableBuffer, Stat
from ..staging.space import SIZE_MAX, Staged, StagingSpace
from .client import Client, Data, Guard, Info, Unranged, Upload
from .listings import Listings
from .reader import Fetched, Reader, ReadOptions
from .sizes import Sizes

_COPY_BYTES = 4 << 20
_numbers = itertools.count()  # for what has no version of its own
_ADVICE = ("normal", "sequential", "random", "willneed", "dontneed", "noreuse")


class Surroundings(Protocol):
    """What an open file needs of its backend: `RemoteBackend`, which says what each of these is."""

    client: Client
    listings: Listings
    sizes: Sizes
    space: StagingSpace
    read_options: ReadOptions
    stream_bytes: int
    uncommitted: list[Uncommitted]

    def closed(self, opened: OpenObject) -> None: ...


class OpenObject:
    """`key` is None once it was removed. `info`: what the store has, None: nothing yet."""

    def __init__(self, backend: Surroundings, key: Key, info: Info | None) -> None:
        self.backend = backend
        self.key: Key | None = key
        self.info = info
        self.handles = 0
        self.writers = 0
        self._number = next(_numbers)
        self.staged: Staged | None = None
        self.dirty = info is None  # the store has not what we have
        self.guard = Guard.NEW if info is None else Guard.SAME
        self.lock = threading.RLock()
        self._mtim_ns = time.time_ns()
        self._reader: Reader | None = None
        self._upload: Upload | None = None
        self._in_order = info is None  # so far written from the start to the end, nothing twice
        if info is None:
            self.staged = Staged(backend.space)

    # Reading

    def read_into(self, offset: int, buf: Buffer) -> int:
        with self.lock:
            if self.staged is None and self.info is not None and self.info.size is None:
                self.stage()  # the store does not say how much there is, so it has to be read to be known
            if self.staged is not None:
                return self.staged.read_into(offset, buf)
            reader = self._reader or self._open_reader()
        try:
            return self._read(reader, offset, buf)
        except FsError as error:
            if error.errno not in (Errno.STALE, Errno.NOENT):
                raise
            if self.key is not None:
                self.backend.listings.forget(self.key)
            if reader.has_read or not self._look_again():
                raise FsError(Errno.IO, f"{self.name}: it was changed by somebody else while it was open") from error
        with self.lock:
            self._close_reader()
            reader = self._open_reader()
        return self._read(reader, offset, buf)

    def _read(self, reader: Reader, offset: int, buf: Buffer) -> int:
        try:
            return reader.read_into(offset, buf)
        except Unranged:
            with self.lock:
                return self.stage(ranges=False).read_into(offset, buf)

    @property
    def name(self) -> str:
        return f"{self.backend.client.name}: {'/'.join(self.key or ('(removed)',))!r}"

    def _open_reader(self) -> Reader:
        info, key, client = self.info, self.key, self.backend.client
        assert info is not None
        if key is None:
            raise FsError(Errno.IO, "the file was removed")
        assert info.size is not None

        def fetch(start: int, end: int) -> Fetched:
            waiting.spend(count=end - start)
            return client.fetch(key, info, start, end)

        version: object = info.version if info.version is not None else self._number
        file = (client.identity, client.asker, key, version, info.size, info.mtim_ns)
        options = self.backend.read_options
        self._reader = Reader(fetch, info.size, file, options, self.name, client.give_back)
        return self._reader

    def _look_again(self) -> bool:
        """The version that a listing told of is gone before anything was read of it: take the one that is there now."""
        if self.key is None:
            return False
        found = self.backend.client.info(self.key)
        if found is None or found.filetype is not FileType.REGULAR_FILE or found.size is None:
            return False
        if self.info is not None and found.version == self.info.version:
            return False
        self.info = found
        return True

    # Writing

    def stage(self, keep: bool = True, ranges: bool = True) -> Staged:
        """The contents in our own hands; without `keep` none of them. ranges: the store has ranges of the object.
        Raises IO, NOSPC."""
        if self.staged is not None:
            return self.staged
        staged = Staged(self.backend.space)
        if keep and self.info is not None and self.info.size != 0:
            try:
                if self.info.size is None or not ranges:
                    self._download_all(staged)
                else:
                    buf = bytearray(min(_COPY_BYTES, self.info.size))
                    while count := self.read_into(staged.size, buf):
                        staged.write(staged.size, memoryview(buf)[:count])
            except BaseException:
                staged.release()
                raise
        else:
            self._in_order = True
        self.staged = staged
        self._close_reader()
        return staged

    def _download_all(self, staged: Staged) -> None:
        assert self.key is not None
        assert self.info is not None

        def write(data: Data) -> None:
            staged.write(staged.size, data)

        self.backend.sizes.read_all(self.key, self.info, write)
        self.backend.sizes.learned(self.key, self.info, staged.size)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        with self.lock:
            end = offset + len(buf)
            if end > SIZE_MAX:
                raise FsError(Errno.FBIG)
            staged = self.stage()
            before = staged.size
            staged.write(offset, buf)
            self._changed()
            if offset != before:
                self._in_order = False
                if self._upload is not None:
                    self._upload.changed(min(offset, before), end)
            self._send(staged)

    def truncate(self, size: int) -> None:
        with self.lock:
            if size > SIZE_MAX:
                raise FsError(Errno.FBIG)
            if self.staged is None and self.info is not None and size == self.info.size:
                return
            staged = self.stage(keep=size > 0)
            if size < staged.size:
                self._abort_upload()
                self._in_order = size == 0
            elif size > staged.size:
                self._in_order = False
            staged.truncate(size)
            self._changed()

    def _changed(self) -> None:
        self.dirty = True
        self._mtim_ns = time.time_ns()

    def _send(self, staged: Staged) -> None:
        """Of a large file that is written in order, what is complete goes while the guest still writes."""
        if self._upload is None:
            if not self._in_order or self.key is None or staged.size < self.backend.stream_bytes:
                return
            self._upload = self.backend.client.start_upload(self.key)
            if self._upload is None:
                self._in_order = False
                return
        self._upload.add(staged, staged.size)

    def _abort_upload(self) -> None:
        if self._upload is not None:
            self._upload.abort()
            self._upload = None

    def commit(self) -> None:
        """Store what was written, if anything was. Raises what `Client.put` raises; the staged contents remain."""
        with self.lock:
            if not self.dirty or self.key is None:
                return
            staged = self.stage()
            version = self.info.version if self.info is not None else None
            guard = self.guard if self.guard is not Guard.SAME or version is not None else Guard.ANY
            upload, self._upload = self._upload, None
            if upload is not None:
                info = upload.finish(staged, guard, version)
            else:
                info = self.backend.client.put(self.key, staged, guard, version)
            self.info = info
            self.guard = Guard.SAME
            self.dirty = False
            self._in_order = False
            self.backend.listings.note(self.key, info)

    def moved(self, key: Key) -> None:
        """It has another name now."""
        with self.lock:
            self._abort_upload()
            self.key = key
            self._close_reader()

    def removed(self) -> None:
        """It has no name any more: nothing of it will be stored."""
        with self.lock:
            self._abort_upload()
            self.key = None

    # The end

    def release(self, write: bool, keep: bool) -> None:
        """One handle less. Without `keep` what was not stored yet is given up. Raises as `commit`; what could not be
        stored is then in `backend.uncommitted`."""
        with self.lock:
            self.handles -= 1
            self.writers -= write
            try:
                if write and not self.writers and self.dirty:
                    if keep:
                        self._last_commit()
                    else:
                        self._give_up()
            finally:
                if not self.handles:
                    self.backend.closed(self)
                    self._abort_upload()
                    self._close_reader()
                    if self.staged is not None:
                        self.staged.release()
                        self.staged = None

    def _last_commit(self) -> None:
        try:
            self.commit()
        except FsError as error:
            key, staged = self.key, self.staged
            assert key is not None
            assert staged is not None
            self.staged = None
            self._give_up()
            self.backend.uncommitted.append(Uncommitted("/".join(key), error, staged.size, staged.read, staged.release))
            raise

    def _give_up(self) -> None:
        self._abort_upload()
        self.dirty = False
        if self.info is None:
            self.key = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def stat(self) -> Stat:
        with self.lock:
            info = self.info
            size = self.staged.size if self.staged is not None else (info.size or 0) if info is not None else 0
            mtim = self._mtim_ns if self.dirty or info is None else info.mtim_ns
            return Stat(FileType.REGULAR_FILE, size, mtim, mtim, mtim, 1 if self.key is not None else 0)

    def advise(self, offset: int, length: int, advice: int) -> None:
        with self.lock:
            if self.staged is not None or self.info is None or self.info.size is None or self.key is None:
                return
            reader = self._reader or self._open_reader()
        if advice < len(_ADVICE):
            reader.advise(offset, length, _ADVICE[advice])


class RemoteHandle(Handle):
    """One handle of an `OpenObject`."""

    def __init__(self, file: OpenObject, write: bool) -> None:
        self._file = file
        self._write = write
        file.handles += 1
        file.writers += write
        self.read_into = file.read_into  # type: ignore[method-assign]
        self.stat = file.stat  # type: ignore[method-assign]

    def _writable(self) -> OpenObject:
        if not self._write:
            raise FsError(Errno.ROFS)
        return self._file

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._writable().write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        file = self._writable()
        with file.lock:
            end = file.stat().size
            file.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        self._writable().truncate(size)

    def ident(self) -> int | None:
        return None

    def allocate(self, offset: int, length: int) -> None:
        file = self._writable()
        with file.lock:
            if offset + length > file.stat().size:
                file.truncate(offset + length)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._file.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        if self._write:
            self._file.commit()

    def close(self) -> None:
        self._file.release(self._write, keep=True)

    def discard(self) -> None:
        self._file.release(self._write, keep=False)
