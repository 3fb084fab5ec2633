"""Blocks of remote files that were read: in memory, then on disk if that is wanted, for all runs and threads.

A block belongs to one *version* of one file, so nothing has to be thrown away when a file changes: its new version is
another file here. It also belongs to whoever asked for it (see `asker`): a mount with other credentials asks the store
itself. The least recently used blocks go first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from typing import Any

from ...errors import MountError
from ...optional import packages
from .asker import digest

DEFAULT_BYTES = 64 << 20

# Who asks, which file and which version of it; anything hashable whose repr is as unique.
FileId = object


class ReadCache:
    """A bounded store of blocks, which any number of mounts may share.

    memory_bytes: what is kept in memory. disk_bytes: what is kept of the rest in a private directory (mode 0700) made
    inside `directory`, and removed with the cache; needs the package zict (`pip install "vfswasi[disk-cache]"`).

    Raises ValueError, MountError (no such directory, no zict).
    """

    def __init__(
        self,
        memory_bytes: int = DEFAULT_BYTES,
        *,
        disk_bytes: int = 0,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value in (("memory_bytes", memory_bytes), ("disk_bytes", disk_bytes)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"ReadCache({name}=...) must be a number of bytes, not {value!r}")
            if value < 0:
                raise ValueError(f"ReadCache({name}=...) must not be negative")
        self.memory_bytes = memory_bytes
        self.disk_bytes = disk_bytes
        self._blocks: OrderedDict[tuple[FileId, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._disk: Any = _open_disk(self, disk_bytes, directory) if disk_bytes else None

    def get(self, file: FileId, index: int) -> bytes | None:
        """The block, or None."""
        with self._lock:
            block = self._blocks.get((file, index))
            if block is not None:
                self._blocks.move_to_end((file, index))
                return block
        if self._disk is None:
            return None
        try:
            block = bytes(self._disk.pop(_file_name(file, index)))
        except (KeyError, OSError):  # the disk may be cleaned by others: a miss
            return None
        self.put(file, index, block)
        return block

    def put(self, file: FileId, index: int, block: bytes) -> None:
        """Keep a block; others may have to go."""
        gone: list[tuple[tuple[FileId, int], bytes]] = []
        with self._lock:
            old = self._blocks.pop((file, index), None)
            self._bytes += len(block) - (len(old) if old is not None else 0)
            self._blocks[file, index] = block
            while self._bytes > self.memory_bytes:
                key, oldest = self._blocks.popitem(last=False)
                self._bytes -= len(oldest)
                gone.append((key, oldest))
        if self._disk is not None:
            for (gone_file, gone_index), oldest in gone:
                try:
                    self._disk[_file_name(gone_file, gone_index)] = oldest
                except OSError:  # a full disk: it was only a cache
                    break

    def drop(self, file: FileId, first: int, last: int) -> None:
        """Forget the blocks from `first` to `last` of a file, in memory."""
        with self._lock:
            for index in range(first, last + 1):
                block = self._blocks.pop((file, index), None)
                if block is not None:
                    self._bytes -= len(block)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._bytes = 0
        if self._disk is not None:
            self._disk.clear()

    def __len__(self) -> int:
        """Bytes that are kept in memory."""
        return self._bytes


def _file_name(file: FileId, index: int) -> str:
    return digest((file, index))


def _open_disk(owner: ReadCache, disk_bytes: int, directory: str | os.PathLike[str] | None) -> Any:
    with packages("a cache on disk", "disk-cache"):
        import zict
    try:
        private = tempfile.mkdtemp(prefix="vfswasi-cache-", dir=directory)
    except OSError as error:
        raise MountError(f"no directory for the cache can be made in {str(directory)!r}: {error.strerror}") from error
    weakref.finalize(owner, shutil.rmtree, private, ignore_errors=True)
    return zict.LRU(disk_bytes, zict.File(private), weight=lambda _key, block: len(block))


_default: ReadCache | None = None
_default_lock = threading.Lock()


def _renew_lock() -> None:
    global _default_lock
    _default_lock = threading.Lock()  # another thread may have held it when the process was forked
    if _default is not None:  # what it keeps may be half changed, too
        _default._lock = threading.Lock()
        _default.clear()


os.register_at_fork(after_in_child=_renew_lock)


def default_cache() -> ReadCache:
    """The one that mounts share unless they are given another: 64 MiB of memory."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ReadCache()
        return _default
