"""A complete backend of one's own: a read-only tree over any mapping of "a/b/c" to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Buffer, Caps, DirEntry, FileType, Handle, Key, Stat


class MappingBackend(Backend):
    """`files` maps paths to contents; directories are implied by the paths."""

    caps = Caps.HANDLE_SURVIVES_UNLINK | Caps.IMMUTABLE

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {tuple(path.split("/")): bytes(data) for path, data in files.items()}

    def _is_directory(self, key: Key) -> bool:
        return not key or any(other[: len(key)] == key and len(other) > len(key) for other in self._files)

    def stat(self, key: Key) -> Stat:
        data = self._files.get(key)
        if data is not None:
            return Stat(FileType.REGULAR_FILE, len(data))
        if self._is_directory(key):
            return Stat(FileType.DIRECTORY, 0)
        if any(key[:depth] in self._files for depth in range(1, len(key))):
            raise FsError(Errno.NOTDIR)
        raise FsError(Errno.NOENT)

    def list(self, key: Key) -> Iterable[DirEntry]:
        if self.stat(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        depth = len(key)
        names = {other[depth] for other in self._files if other[:depth] == key and len(other) > depth}
        return [DirEntry(name, self.stat((*key, name)).filetype) for name in sorted(names)]

    def open(self, key: Key, write: bool) -> Handle:
        if self.stat(key).filetype is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        if write:
            raise FsError(Errno.ROFS)
        return _MappingHandle(self._files[key])


class _MappingHandle(Handle):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buf: Buffer) -> int:
        piece = self._data[offset : offset + len(buf)]
        buf[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        return Stat(FileType.REGULAR_FILE, len(self._data))
