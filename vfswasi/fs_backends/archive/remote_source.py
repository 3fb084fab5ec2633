"""An archive in a remote store, read by ranges through the store's cache."""

from __future__ import annotations

from ...errors import Errno, FsError, MountError
from ..base import Traffic
from ..remote.backend import RemoteBackend
from .source import ArchiveSource


class RemoteSource(ArchiveSource):
    """One file of a remote backend, of the version that was there when it was opened; closes the backend with
    itself."""

    def __init__(self, backend: RemoteBackend, file: str) -> None:
        """`file`: its name in the backend's root. Raises MountError."""
        self.name = f"{backend.client.name}/{file}"
        self._backend = backend
        try:
            self._handle = backend.open((file,), False)
        except FsError as error:
            backend.close()
            reason = "no such file" if error.errno is Errno.NOENT else error.detail or error.errno.name
            raise MountError(f"cannot mount archive {self.name}: {reason}") from error
        self.size = self._handle.size()

    def read_into(self, offset: int, view: memoryview) -> None:
        if self._handle.read_into(offset, view) != len(view):
            raise FsError(Errno.IO, f"{self.name}: short read at {offset}")

    def traffic(self) -> Traffic | None:
        return self._backend.traffic()

    def close(self) -> None:
        self._handle.close()
        self._backend.close()
