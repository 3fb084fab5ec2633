"""Old contents: what the base had, read again, and only believed where it is still what it was."""

from __future__ import annotations

from ..errors import Errno, FsError, errno_of
from ..fs_backends.base import Backend, FileType, Stat
from ..fs_backends.layers.overlay.entries import Was
from .contents import digest_of_handle, key_of, pieces_of_handle, text_digest


class NotThere(Exception):
    """Old contents cannot be had; the message says why, in a few words."""


class OldContents:
    """Of the files of a base; None: there is no base."""

    def __init__(self, backend: Backend | None) -> None:
        self._backend = backend

    def digest(self, path: str, was: Was) -> str | None:
        """SHA-256 of a file's contents, or of a link's target; None: they cannot be had. Raises FsError (CANCELED)."""
        try:
            if was.filetype is FileType.SYMBOLIC_LINK:
                return text_digest(self.target(path, was))
            self._check(path, was)
            assert self._backend is not None
            handle = self._backend.open(key_of(path), False)
            try:
                found = digest_of_handle(handle, was.size)
            finally:
                handle.close()
            self._check(path, was)
            return found
        except NotThere:
            return None
        except FsError as error:
            if errno_of(error) is Errno.CANCELED:
                raise
            return None

    def read(self, path: str, was: Was) -> bytes:
        """All of a file. Raises NotThere, FsError (CANCELED)."""
        self._check(path, was, strict=was.digest is None)
        assert self._backend is not None
        try:
            handle = self._backend.open(key_of(path), False)
            try:
                data = b"".join(pieces_of_handle(handle, was.size))
            finally:
                handle.close()
        except FsError as error:
            raise _not_there(error) from error
        if was.digest is None:
            self._check(path, was)
        elif _sha256(data) != was.digest:
            raise NotThere("they are not what they were")
        return data

    def target(self, path: str, was: Was) -> str:
        """Of a link. Raises NotThere, FsError (CANCELED)."""
        self._check(path, was, strict=was.digest is None)
        assert self._backend is not None
        try:
            found = self._backend.readlink(key_of(path))
        except FsError as error:
            raise _not_there(error) from error
        if was.digest is not None and text_digest(found) != was.digest:
            raise NotThere("it leads somewhere else now")
        return found

    def _check(self, path: str, was: Was, strict: bool = True) -> None:
        """Whether the base has there what it had. strict: its time and number too; a digest says more."""
        if self._backend is None:
            raise NotThere("what the changes were made on is not at hand")
        try:
            now = self._backend.stat(key_of(path))
        except FsError as error:
            raise _not_there(error) from error
        if now.filetype is not was.filetype or now.size != was.size or (strict and not _same_time(now, was)):
            raise NotThere("what they were made on has changed since")


def _same_time(now: Stat, was: Was) -> bool:
    """A store that tells no times is believed, as it was when the changes were made."""
    return was.mtim_ns == now.mtim_ns and (was.ident is None or now.ident is None or was.ident == now.ident)


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _not_there(error: FsError) -> NotThere:
    if errno_of(error) is Errno.CANCELED:
        raise error
    return NotThere(f"they cannot be read: {errno_of(error).name}")
