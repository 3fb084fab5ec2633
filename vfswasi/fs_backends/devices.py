"""A directory of devices, to be mounted at /dev."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import Errno, FsError
from .base import Backend, Caps, Device, DirEntry, FileType, Handle, Key, Stat

_DEVICES = {
    "null": Device.NULL,
    "zero": Device.ZERO,
    "full": Device.FULL,
    "random": Device.RANDOM,
    "urandom": Device.RANDOM,
    "stdin": Device.STDIN,
    "stdout": Device.STDOUT,
    "stderr": Device.STDERR,
}
_ROOT_IDENT = 1
_IDENTS = {name: ident for ident, name in enumerate(_DEVICES, _ROOT_IDENT + 1)}


class DeviceBackend(Backend):
    """null, zero, full, random, urandom, stdin, stdout and stderr; nothing can be added or removed.

    It only names them. What they do when they are opened is in `kernel/streams/devices.py`: they can be written whether
    the mount is read-only or not, since that does not change the mount. `random` and `urandom` are the same.
    """

    caps = Caps.DEVICES | Caps.IMMUTABLE | Caps.HANDLE_SURVIVES_UNLINK

    @property
    def identity(self) -> object:
        return DeviceBackend  # one is like the other

    def stat(self, key: Key) -> Stat:
        if not key:
            return Stat(FileType.DIRECTORY, 0, ident=_ROOT_IDENT)
        ident = _IDENTS.get(key[0])
        if ident is None:
            raise FsError(Errno.NOENT)
        if len(key) > 1:
            raise FsError(Errno.NOTDIR)
        return Stat(FileType.CHARACTER_DEVICE, 0, ident=ident)

    def list(self, key: Key) -> Iterable[DirEntry]:
        if self.stat(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        return [DirEntry(name, FileType.CHARACTER_DEVICE, ident) for name, ident in _IDENTS.items()]

    def listing_version(self, key: Key) -> int | None:
        return 1

    def device(self, key: Key) -> Device | None:
        return _DEVICES.get(key[0]) if len(key) == 1 else None

    def open(self, key: Key, write: bool) -> Handle:
        """Raises what `stat` raises, ISDIR, and ACCES: there is no file here."""
        filetype = self.stat(key).filetype
        raise FsError(Errno.ISDIR if filetype is FileType.DIRECTORY else Errno.ACCES)

    def create(self, key: Key) -> Handle:
        """Raises EXIST for what is there, else what `stat` raises about the way to it, ROFS."""
        try:
            self.stat(key)
        except FsError as error:
            if error.errno is Errno.NOENT:
                raise FsError(Errno.ROFS) from None
            raise
        raise FsError(Errno.EXIST)

    def readlink(self, key: Key) -> str:
        self.stat(key)
        raise FsError(Errno.INVAL)
