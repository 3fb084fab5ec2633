"""A directory that has nothing but single files of other stores: what a file that is mounted by itself lies in.

Its names are fixed. A file can be written if its own store lets it, but nothing is made, removed or renamed: the names
are the host's, not the guest's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...errors import Errno, FsError, Uncommitted
from ..base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat, Traffic
from .readonly import ReadOnly

_IF_ALL = Caps.HANDLE_SURVIVES_UNLINK | Caps.IMMUTABLE
_IF_THOSE_THAT_ARE_WRITTEN = Caps.RANDOM_WRITE | Caps.SET_TIMES | Caps.DURABLE_WRITES


class OneFile(NamedTuple):
    """A file of a store. identity, place: of the file, as a backend tells its own."""

    backend: Backend
    key: Key
    identity: object
    place: Key | None

    def stat(self) -> Stat:
        """Raises NOENT too if something else is there now."""
        found = self.backend.stat(self.key)
        if found.filetype is not FileType.REGULAR_FILE:
            raise FsError(Errno.NOENT)
        return found._replace(ident=None)  # those of two stores may be the same


class Picked(Backend):
    """The files that were picked, by the name that each has here."""

    def __init__(self) -> None:
        self._files: dict[str, OneFile] = {}

    def pick(self, name: str, file: OneFile, readonly: bool) -> None:
        """One more file; it is closed with the others."""
        backend = ReadOnly(file.backend) if readonly else file.backend
        self._files[name] = OneFile(backend, file.key, file.identity, file.place)
        self.caps = self._caps()

    def stores(self) -> Iterable[Backend]:
        """Those of the files."""
        return [file.backend for file in self._files.values()]

    def shown(self) -> list[tuple[str, object, Key | None]]:
        """(name, identity, place) of each."""
        return [(name, file.identity, file.place) for name, file in self._files.items()]

    def writable(self) -> list[str]:
        """The names of those that can be changed."""
        return sorted(name for name, file in self._files.items() if not isinstance(file.backend, ReadOnly))

    @property
    def identity(self) -> object:
        return frozenset((name, file.identity) for name, file in self._files.items())

    def _caps(self) -> Caps:
        all_caps = [file.backend.caps for file in self._files.values()]
        written = [caps for caps in all_caps if Caps.WRITE in caps]
        found = Caps.WRITE if written else Caps.NONE
        for cap in _IF_ALL:
            if all(cap in caps for caps in all_caps):
                found |= cap
        for cap in _IF_THOSE_THAT_ARE_WRITTEN:
            if written and all(cap in caps for caps in written):
                found |= cap
        return found | (Caps.SHARED if any(Caps.SHARED in caps for caps in all_caps) else Caps.NONE)

    def _file(self, key: Key) -> OneFile:
        file = self._files.get(key[0])
        if file is None:
            raise FsError(Errno.NOENT)
        if len(key) > 1:
            raise FsError(Errno.NOTDIR)
        return file

    def stat(self, key: Key) -> Stat:
        if not key:
            return Stat(FileType.DIRECTORY, 0, nlink=2)
        return self._file(key).stat()

    def list(self, key: Key) -> Iterable[DirEntry]:
        if key:
            self._file(key).stat()
            raise FsError(Errno.NOTDIR)
        found = []
        for name, file in self._files.items():
            try:
                found.append(DirEntry(name, file.stat().filetype))
            except FsError as error:
                if error.errno is not Errno.NOENT:
                    raise
        return found

    def version(self, key: Key) -> str | None:
        return self._file(key).backend.version(self._file(key).key) if key else super().version(key)

    def open(self, key: Key, write: bool) -> Handle:
        if not key:
            raise FsError(Errno.ISDIR)
        file = self._file(key)
        file.stat()
        return _PickedHandle(file.backend.open(file.key, write))

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        if not key:
            raise FsError(Errno.ROFS)
        file = self._file(key)
        file.stat()
        file.backend.set_times(file.key, atim_ns, mtim_ns)

    def finish(self, keep: bool) -> None:
        failed: Exception | None = None
        for file in self._files.values():
            try:
                file.backend.finish(keep)
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        found = []
        for name, file in self._files.items():
            for lost in file.backend.take_uncommitted():
                lost.path = name
                found.append(lost)
        return found

    def traffic(self) -> Traffic | None:
        found = [traffic for file in self._files.values() if (traffic := file.backend.traffic()) is not None]
        if not found:
            return None
        return sum(found, Traffic())

    def close(self) -> None:
        failed: Exception | None = None
        for file in self._files.values():
            try:
                file.backend.close()
            except Exception as error:
                failed = failed or error
        self._files = {}
        if failed is not None:
            raise failed


class _PickedHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner
        self.read_into = inner.read_into  # type: ignore[method-assign]
        self.write_from = inner.write_from  # type: ignore[method-assign]
        self.append = inner.append  # type: ignore[method-assign]
        self.truncate = inner.truncate  # type: ignore[method-assign]
        self.size = inner.size  # type: ignore[method-assign]
        self.set_times = inner.set_times  # type: ignore[method-assign]
        self.allocate = inner.allocate  # type: ignore[method-assign]
        self.reserve = inner.reserve  # type: ignore[method-assign]
        self.advise = inner.advise  # type: ignore[method-assign]
        self.sync = inner.sync  # type: ignore[method-assign]

    def stat(self) -> Stat:
        return self._inner.stat()._replace(ident=None)

    def ident(self) -> int | None:
        return None

    def close(self) -> None:
        self._inner.close()

    def discard(self) -> None:
        self._inner.discard()
