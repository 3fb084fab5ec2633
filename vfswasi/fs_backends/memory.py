"""Files in memory: a tree of nodes, one store per instance.

Times follow POSIX, except that reading sets none (as with the mount option noatime). Space is charged to objects: a
hard link costs nothing, and an unlinked file that is still open costs until its last handle is closed.

One lock per store, taken in reads too: several sandboxes on several threads may share it, and a `bytearray` cannot be
resized while another thread copies out of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Errno, FsError
from .base import Backend, Buffer, Caps, DirEntry, FileType, Handle, Key, ReadableBuffer, Stat

_NAME_MAX_BYTES = 255
_FILE_MAX_BYTES = 2**63 - 1
# Below this a slice copy is quicker than a memoryview, whose set-up costs more than the copy.
_SLICE_BYTES = 4096
_new_tuple = tuple.__new__


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link in a tree literal."""

    target: str


class _Node:
    __slots__ = ("atim", "ctim", "ident", "mtim", "nlink")

    filetype: FileType

    def __init__(self, ident: int, now: int) -> None:
        self.ident = ident
        self.nlink = 1
        self.atim = self.mtim = self.ctim = now

    def size(self) -> int:
        return 0

    def stat(self) -> Stat:
        # tuple.__new__ skips the argument handling of Stat(...), which costs more than all the rest of a lookup.
        return _new_tuple(Stat, (self.filetype, self.size(), self.atim, self.mtim, self.ctim, self.nlink, self.ident))


class _File(_Node):
    __slots__ = ("data", "handles")

    filetype = FileType.REGULAR_FILE

    def __init__(self, ident: int, now: int, data: bytes = b"") -> None:
        super().__init__(ident, now)
        self.data = bytearray(data)
        self.handles = 0

    def size(self) -> int:
        return len(self.data)


class _Directory(_Node):
    __slots__ = ("entries",)

    filetype = FileType.DIRECTORY

    def __init__(self, ident: int, now: int) -> None:
        super().__init__(ident, now)
        self.entries: dict[str, _Node] = {}
        self.nlink = 2


class _Link(_Node):
    __slots__ = ("target",)

    filetype = FileType.SYMBOLIC_LINK

    def __init__(self, ident: int, now: int, target: str) -> None:
        super().__init__(ident, now)
        self.target = target

    def size(self) -> int:
        return len(self.target.encode("utf-8", "surrogateescape"))


class _MemoryHandle(Handle):
    __slots__ = ("_file", "_lock", "_store", "_write")

    def __init__(self, store: MemoryBackend, file: _File, write: bool) -> None:
        self._store = store
        self._lock = store._lock
        self._file = file
        self._write = write
        file.handles += 1

    def read_into(self, offset: int, buf: Buffer) -> int:
        length = len(buf)
        with self._lock:
            data = self._file.data
            count = len(data) - offset
            if count <= 0:
                return 0
            if count > length:
                count = length
            if count <= _SLICE_BYTES:
                buf[:count] = data[offset : offset + count]
            else:
                with memoryview(data) as view:
                    buf[:count] = view[offset : offset + count]
        return count

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        length = len(buf)
        if not length:
            return
        with self._lock:
            self._check_writable()
            data = self._file.data
            end = offset + length
            size = len(data)
            if end > size:
                self._store._charge(end - size, end)
                if offset > size:
                    data.extend(bytes(offset - size))
            data[offset:end] = buf
            self._touch()

    def append(self, buf: ReadableBuffer) -> int:
        with self._lock:
            end = len(self._file.data)
            self.write_from(end, buf)
            return end + len(buf)

    def truncate(self, size: int) -> None:
        with self._lock:
            self._check_writable()
            data = self._file.data
            grown = size - len(data)
            self._store._charge(grown, size)
            if grown > 0:
                data.extend(bytes(grown))
            else:
                del data[size:]
            self._touch()

    def _check_writable(self) -> None:
        if not self._write:
            raise FsError(Errno.ROFS)

    def _touch(self) -> None:
        self._file.mtim = self._file.ctim = time.time_ns()

    def size(self) -> int:
        return len(self._file.data)

    def stat(self) -> Stat:
        return self._file.stat()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            _set_times(self._file, atim_ns, mtim_ns)

    def close(self) -> None:
        with self._lock:
            self._file.handles -= 1
            self._store._release(self._file)


class MemoryBackend(Backend):
    """A tree in memory. Give the object to several runs, or mount it twice, and all see the same files."""

    caps = (
        Caps.WRITE
        | Caps.RANDOM_WRITE
        | Caps.EMPTY_DIRS
        | Caps.SYMLINKS
        | Caps.HARDLINKS
        | Caps.SET_TIMES
        | Caps.ATOMIC_RENAME
        | Caps.HANDLE_SURVIVES_UNLINK
        | Caps.DURABLE_WRITES
    )

    def __init__(self, tree: Mapping[str, Any] | None = None, *, max_bytes: int = 1 << 30) -> None:
        """`tree`: names to contents: bytes-like, str (as UTF-8), a mapping (a directory), a `Symlink`.

        `max_bytes`: contents of all files together; beyond it NOSPC. Raises TypeError and ValueError.
        """
        self._lock = threading.RLock()
        self._next = 1
        self._max_bytes = max_bytes
        self._used = 0
        self._root = _Directory(self._ident(), time.time_ns())
        if tree is not None:
            self._fill(self._root, tree, "")

    def _ident(self) -> int:
        ident = self._next
        self._next += 1
        return ident

    def _fill(self, directory: _Directory, tree: Mapping[str, Any], where: str) -> None:
        for name, value in tree.items():
            path = f"{where}/{name}"
            _check_name(name, path)
            now = directory.mtim
            if isinstance(value, str):
                value = value.encode()
            if isinstance(value, bytes | bytearray | memoryview):
                data = bytes(value)
                if self._used + len(data) > self._max_bytes:
                    raise ValueError(f"{path}: the tree is larger than max_bytes={self._max_bytes}")
                self._used += len(data)
                directory.entries[name] = _File(self._ident(), now, data)
            elif isinstance(value, Symlink):
                directory.entries[name] = _Link(self._ident(), now, value.target)
            elif isinstance(value, Mapping):
                below = directory.entries[name] = _Directory(self._ident(), now)
                directory.nlink += 1
                self._fill(below, value, path)
            else:
                raise TypeError(f"{path}: a file must be bytes or str, a directory a dict, not {type(value).__name__}")

    def export(self) -> dict[str, Any]:
        """The tree as a literal: files as bytes, directories as dicts, links as `Symlink`."""
        with self._lock:
            return _export(self._root)

    def _charge(self, grown: int, size: int) -> None:
        if size > _FILE_MAX_BYTES:
            raise FsError(Errno.FBIG)
        if grown > 0 and self._used + grown > self._max_bytes:
            raise FsError(Errno.NOSPC, f"more than {self._max_bytes} bytes in memory")
        self._used += grown

    def _release(self, file: _File) -> None:
        if not file.nlink and not file.handles:
            self._used -= len(file.data)
            file.data = bytearray()

    def _find(self, key: Key) -> _Node:
        node: _Node = self._root
        for name in key:
            if not isinstance(node, _Directory):
                raise FsError(Errno.NOTDIR)
            below = node.entries.get(name)
            if below is None:
                raise FsError(Errno.NOENT)
            node = below
        return node

    def _directory(self, key: Key) -> _Directory:
        node = self._find(key)
        if not isinstance(node, _Directory):
            raise FsError(Errno.NOTDIR)
        return node

    def _add(self, key: Key, node: _Node) -> None:
        directory = self._directory(key[:-1])
        if key[-1] in directory.entries:
            raise FsError(Errno.EXIST)
        directory.entries[key[-1]] = node
        directory.mtim = directory.ctim = time.time_ns()

    def stat(self, key: Key) -> Stat:
        return self._find(key).stat()

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        node: _Node | None = self._root
        for name in key:
            node = node.entries.get(name) if isinstance(node, _Directory) else None
        found: _Node | None = None
        count = 0
        for name in names:
            node = node.entries.get(name) if isinstance(node, _Directory) else None
            if node is None:
                break
            found = node
            count += 1
        return count, None if found is None else found.stat()

    def list(self, key: Key) -> Iterable[DirEntry]:
        with self._lock:
            entries = self._directory(key).entries
            return [DirEntry(name, node.filetype, node.ident) for name, node in entries.items()]

    def open(self, key: Key, write: bool) -> Handle:
        with self._lock:
            node = self._find(key)
            if isinstance(node, _File):
                return _MemoryHandle(self, node, write)
        raise FsError(Errno.ISDIR if node.filetype is FileType.DIRECTORY else Errno.LOOP)

    def create(self, key: Key) -> Handle:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            file = _File(self._ident(), time.time_ns())
            self._add(key, file)
            return _MemoryHandle(self, file, True)

    def mkdir(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            self._add(key, _Directory(self._ident(), time.time_ns()))
            self._directory(key[:-1]).nlink += 1

    def symlink(self, target: str, key: Key) -> None:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            self._add(key, _Link(self._ident(), time.time_ns(), target))

    def readlink(self, key: Key) -> str:
        node = self._find(key)
        if not isinstance(node, _Link):
            raise FsError(Errno.INVAL)
        return node.target

    def link(self, old: Key, new: Key) -> None:
        with self._lock:
            node = self._find(old)
            if isinstance(node, _Directory):
                raise FsError(Errno.PERM)
            if not new:
                raise FsError(Errno.EXIST)
            self._add(new, node)
            node.nlink += 1
            node.ctim = time.time_ns()

    def rmdir(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.BUSY)
        with self._lock:
            node = self._directory(key)
            if node.entries:
                raise FsError(Errno.NOTEMPTY)
            self._detach(key)

    def remove(self, key: Key) -> None:
        with self._lock:
            if isinstance(self._find(key), _Directory):
                raise FsError(Errno.ISDIR)
            self._detach(key)

    def _detach(self, key: Key) -> None:
        """Take the name `key` away from whatever has it."""
        directory = self._directory(key[:-1])
        node = directory.entries.pop(key[-1])
        now = directory.mtim = directory.ctim = node.ctim = time.time_ns()
        if isinstance(node, _Directory):
            directory.nlink -= 1
            node.nlink = 0
            node.mtim = now
            return
        node.nlink -= 1
        if isinstance(node, _File):
            self._release(node)

    def rename(self, old: Key, new: Key) -> None:
        if not old or not new:
            raise FsError(Errno.BUSY)
        with self._lock:
            node = self._find(old)
            target_directory = self._directory(new[:-1])
            target = target_directory.entries.get(new[-1])
            if target is node:
                return
            if new[: len(old)] == old:
                raise FsError(Errno.INVAL)
            if target is not None:
                if isinstance(node, _Directory) and not isinstance(target, _Directory):
                    raise FsError(Errno.NOTDIR)
                if isinstance(target, _Directory) and not isinstance(node, _Directory):
                    raise FsError(Errno.ISDIR)
                if isinstance(target, _Directory) and target.entries:
                    raise FsError(Errno.NOTEMPTY)
                self._detach(new)
            source_directory = self._directory(old[:-1])
            del source_directory.entries[old[-1]]
            target_directory.entries[new[-1]] = node
            if isinstance(node, _Directory):
                source_directory.nlink -= 1
                target_directory.nlink += 1
            now = node.ctim = time.time_ns()
            for directory in (source_directory, target_directory):
                directory.mtim = directory.ctim = now

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            _set_times(self._find(key), atim_ns, mtim_ns)


def _set_times(node: _Node, atim_ns: int | None, mtim_ns: int | None) -> None:
    if atim_ns is not None:
        node.atim = atim_ns
    if mtim_ns is not None:
        node.mtim = mtim_ns
    node.ctim = time.time_ns()


def _export(directory: _Directory) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, node in directory.entries.items():
        if isinstance(node, _Directory):
            tree[name] = _export(node)
        elif isinstance(node, _File):
            tree[name] = bytes(node.data)
        elif isinstance(node, _Link):
            tree[name] = Symlink(node.target)
    return tree


def _check_name(name: object, path: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{path}: a name must be a str, not {type(name).__name__}")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{path}: {name!r} is not a file name; use nested dicts for directories")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r}: the name is not valid Unicode") from None
    if len(raw) > _NAME_MAX_BYTES:
        raise ValueError(f"{path}: a name may have {_NAME_MAX_BYTES} bytes, not {len(raw)}")
