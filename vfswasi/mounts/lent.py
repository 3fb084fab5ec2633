"""Backends that may be looked at after their mount was closed, and what changes in place are said to be made on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import MountError
from ..fs_backends.base import Backend, Key
from ..fs_backends.layers.checked import checked
from ..fs_backends.memory.backend import MemoryBackend
from .options import Mount


class Lent:
    """A backend that is closed when it is not wanted any more, and its last user has gone."""

    def __init__(self, backend: Backend, owned: bool) -> None:
        self.backend = backend
        self._owned = owned
        self._users = 0
        self._closed = False
        self._lock = threading.RLock()  # an overlay may be collected, and give, wherever this thread holds it

    def take(self) -> None:
        with self._lock:
            self._users += 1

    def try_take(self) -> bool:
        """False: it is closed, or about to be. What is somebody else's is closed by nobody here."""
        with self._lock:
            if self._closed and self._owned:
                return False
            self._users += 1
            return True

    def give(self) -> None:
        with self._lock:
            self._users -= 1
            over = self._closed and not self._users and self._owned
        if over:
            self.backend.close()

    def close(self) -> None:
        with self._lock:
            over = not self._closed and not self._users and self._owned
            self._closed = True
        if over:
            self.backend.close()


class ChangedInPlace:
    """What runs change where it is. It has no old contents, and it has the new ones already: `source` is None."""

    source: Any = None

    def __init__(self, text: str) -> None:
        self.text = text

    @contextlib.contextmanager
    def open(self) -> Iterator[Backend]:
        """Raises MountError."""
        raise MountError(f"{self.text} was changed in place, and what it had before was not kept")
        yield Backend()  # a generator

    def __reduce__(self) -> tuple[Any, ...]:
        return ChangedInPlace, (self.text,)

    def at(self, key: Key) -> contextlib.AbstractContextManager[tuple[Backend, Key]]:
        """As `fs_backends.layers.ledger.Again`."""
        raise NotImplementedError


class StoreInPlace(ChangedInPlace):
    """One mount. file: what of the backend is mounted, if it is a single file."""

    def __init__(self, mount: Mount, backend: Backend, text: str, owned: bool, file: Key | None = None) -> None:
        super().__init__(text)
        self._mount = mount
        self._lent = Lent(backend, owned)
        self._file = file

    @contextlib.contextmanager
    def at(self, key: Key) -> Iterator[tuple[Backend, Key]]:
        """Opened once more if it is closed. Raises MountError."""
        lent = self._lent
        if lent.try_take():
            try:
                yield checked(lent.backend), key if self._file is None else self._file
            finally:
                lent.give()
            return
        backend, key = self._opened(key)
        try:
            yield checked(backend), key
        finally:
            backend.close()

    def _opened(self, key: Key) -> tuple[Backend, Key]:
        from dataclasses import replace

        from .finding.single import open_file
        from .finding.sources import open_mount, open_source

        mount = replace(self._mount, rw=None)
        if self._file is None:
            return open_source(mount), key
        file = open_file(mount, open_mount)
        return file.backend, file.key

    def close(self) -> None:
        self._lent.close()


class FilesInPlace(ChangedInPlace):
    """Single files by their names, which are mounted in one directory."""

    def __init__(self, files: Mapping[str, StoreInPlace]) -> None:
        super().__init__(", ".join(file.text for file in files.values()))
        self._files = files

    def at(self, key: Key) -> contextlib.AbstractContextManager[tuple[Backend, Key]]:
        return self._files[key[0]].at(())


class TreeLiteral:
    """What a tree in memory was made of, at made_ns. tree: it, frozen."""

    text = "a tree in memory"
    source: Any = None

    def __init__(self, tree: Mapping[str, Any], made_ns: int) -> None:
        self._tree = tree
        self._made_ns = made_ns

    @contextlib.contextmanager
    def open(self) -> Iterator[Backend]:
        """The tree as it was, with its times and numbers."""
        yield MemoryBackend.with_room(self._tree, 0, self._made_ns)
