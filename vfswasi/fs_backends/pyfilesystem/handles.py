"""Which files of a PyFilesystem2 object are open, and their handles."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

from ...errors import Errno, FsError, Uncommitted
from ..base import Buffer, Handle, Key, ReadableBuffer, Stat
from ..staging.space import DISK_MAX_BYTES, StagingSpace
from .file import SharedFile
from .package import Library

# Staged files: in memory up to so much together and of each, the rest in a temporary file.
_STAGED_MEMORY_BYTES: Final = 64 << 20
_STAGED_FILE_BYTES: Final = 8 << 20


class _Table:
    """The open files of one store by key, whatever number of backends show it."""

    def __init__(self) -> None:
        self.files: dict[Key, SharedFile] = {}
        self.lock = threading.RLock()


_tables: WeakValueDictionary[object, _Table] = WeakValueDictionary()


class SharedFiles:
    """The open files of a backend. `lock`: whoever changes names holds it."""

    def __init__(self, library: Library, in_place: bool, identity: object) -> None:
        """`in_place`: the library changes a file where it is. `identity`: of the backend."""
        self._table = _tables.setdefault(identity, _Table())
        self.lock = self._table.lock
        self._files = self._table.files
        self._library = library
        self._in_place = in_place
        self._folds = bool(library.meta.get("case_insensitive"))
        self._uncommitted: list[Uncommitted] = []
        self._space = StagingSpace(_STAGED_MEMORY_BYTES, DISK_MAX_BYTES, file_memory_bytes=_STAGED_FILE_BYTES)

    def slot(self, key: Key) -> Key:
        """Equal for keys that the store takes for the same."""
        return tuple(name.casefold() for name in key) if self._folds else key

    def at(self, key: Key) -> SharedFile | None:
        """The open file at `key`."""
        return self._files.get(self.slot(key))

    def open(self, key: Key, stat: Stat, write: bool) -> Handle:
        """A handle of the existing file at `key`. Raises what the library raises."""
        with self.lock:
            slot = self.slot(key)
            shared = self._files.get(slot)
            if shared is None:
                shared = SharedFile(self._library, key, stat, self._in_place, self._space)
            if self._in_place or not write:  # or there may be no need for what is in it
                shared.open(write)
            self._files[slot] = shared
            shared.references += 1
            return SharedHandle(shared, write, self)

    def release(self, shared: SharedFile, publish: bool) -> None:
        """A handle is closed; with `publish` the store gets what was written. Raises FsError; what the store has not
        got is kept for `take_uncommitted` then."""
        failed: FsError | None = None
        with self.lock:
            if publish:
                try:
                    shared.publish()
                except FsError as error:
                    failed = error
            shared.references -= 1
            if not shared.references:
                key = shared.key
                if key is not None:
                    self._files.pop(self.slot(key), None)
                rest = shared.give_up()
                if rest is not None and key is not None and failed is not None:
                    lost = Uncommitted("/".join(key), failed, rest.size, rest.read, shared.close_staged)
                    self._uncommitted.append(lost)
                elif rest is not None:
                    shared.close_staged()
        if failed is not None:
            raise failed

    def unlinked(self, key: Key) -> None:
        """The name `key` is gone."""
        shared = self._files.pop(self.slot(key), None)
        if shared is not None:
            shared.unlinked()

    def renamed(self, old: Key, new: Key) -> None:
        """Everything at or below `old` is at or below `new` now."""
        depth = len(old)
        for shared in [shared for shared in self._files.values() if shared.key and shared.key[:depth] == old]:
            assert shared.key is not None
            del self._files[self.slot(shared.key)]
            shared.key = new + shared.key[depth:]
            self._files[self.slot(shared.key)] = shared

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        """Each is told once."""
        with self.lock:
            told, self._uncommitted = self._uncommitted, []
        return told


class SharedHandle(Handle):
    """One of the handles of a `SharedFile`."""

    def __init__(self, file: SharedFile, writable: bool, files: SharedFiles) -> None:
        self._file = file
        self._writable = writable
        self._files = files

    def _to_write(self) -> SharedFile:
        if not self._writable:
            raise FsError(Errno.ROFS)
        return self._file

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._file.read_into(offset, buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._to_write().write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        return self._to_write().append(buf)

    def truncate(self, size: int) -> None:
        self._to_write().truncate(size)

    def size(self) -> int:
        return self._file.size()

    def stat(self) -> Stat:
        return self._file.stat()

    def ident(self) -> int | None:
        return None

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._file.publish()
        key = self._file.key
        if key is None:
            raise FsError(Errno.NOTSUP)
        set_times(self._file.calls, key, atim_ns, mtim_ns)

    def allocate(self, offset: int, length: int) -> None:
        file = self._to_write()
        if offset + length > file.size():
            file.truncate(offset + length)

    def sync(self, data_only: bool) -> None:
        if self._writable:
            self._file.publish()

    def close(self) -> None:
        self._files.release(self._file, self._writable)

    def discard(self) -> None:
        self._files.release(self._file, False)


def set_times(library: Library, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
    """Through `setinfo`. Raises FsError; ROFS, NOTSUP (`setinfo` would ignore them), INVAL for times that are no
    seconds."""
    if not library.sets_times:
        raise FsError(Errno.ROFS if library.meta.get("read_only") else Errno.NOTSUP)
    if atim_ns is None or mtim_ns is None:  # OSFS sets both to the one that it is given
        now = library.info(key, False)[0]
        atim_ns, mtim_ns = (now.atim_ns if atim_ns is None else atim_ns, now.mtim_ns if mtim_ns is None else mtim_ns)
    given = {"accessed": atim_ns, "modified": mtim_ns}
    try:
        details = {name: time_ns / 1e9 for name, time_ns in given.items() if time_ns is not None}
    except OverflowError as error:
        raise FsError(Errno.INVAL) from error
    if details:
        library.call(library.fs.setinfo, library.path(key), {"details": details})
