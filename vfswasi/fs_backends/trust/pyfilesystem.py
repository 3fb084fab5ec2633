"""Which file systems of PyFilesystem2 are recognised, what they forward to, and what is mounted of them."""

from __future__ import annotations

from typing import Any, Final

from ...errors import MountError
from ..base import Key
from ..local.backend import LocalBackend
from . import (
    CONTENTS,
    MEMORY,
    OBJECTS,
    SERVER,
    UNKNOWN,
    Nature,
    described,
    exact,
    leads_to_this_machine,
    refuse_unknown,
)

# The name under which a package shows the class -> what it is.
NATURES: Final[dict[str, Nature]] = {
    "fs.memoryfs.MemoryFS": MEMORY,
    "fs.zipfs.ReadZipFS": CONTENTS,
    "fs.tarfs.ReadTarFS": CONTENTS,
    "fs.ftpfs.FTPFS": SERVER,
    "fs_s3fs.S3FS": OBJECTS,
    "fs_gcsfs.GCSFS": OBJECTS,
}
LOCAL: Final = (
    "fs.osfs.OSFS",
    "fs.tempfs.TempFS",
    "fs.appfs.UserDataFS",
    "fs.appfs.UserConfigFS",
    "fs.appfs.UserCacheFS",
    "fs.appfs.SiteDataFS",
    "fs.appfs.SiteConfigFS",
    "fs.appfs.UserLogFS",
)
# They change names or permissions, and forward the rest.
WRAPPERS: Final = (
    "fs.wrapfs.WrapFS",
    "fs.subfs.SubFS",
    "fs.subfs.ClosingSubFS",
    "fs.wrap.WrapReadOnly",
    "fs.wrap.WrapCachedDir",
)
# Temporary directories of their own, of which the library makes an archive when they are closed.
PACKED: Final = ("fs.zipfs.WriteZipFS", "fs.tarfs.WriteTarFS")
COMPOSITES: Final = ("fs.mountfs.MountFS", "fs.multifs.MultiFS")
_FORWARDS_MAX: Final = 16


def _unwrapped(fs: Any, path: str) -> tuple[Any, str]:
    for _ in range(_FORWARDS_MAX):
        if not any(exact(fs, name) for name in WRAPPERS):
            return fs, path
        fs, path = fs.delegate_path(path)
    raise MountError(f"{described(fs)}: more than {_FORWARDS_MAX} file systems stand one above the other")


def local_directory(fs: Any) -> tuple[str, bool] | None:
    """(the directory of this machine that a file system shows, whether it may be written to); None: it is none, or not
    known to be one. Raises OSError."""
    inner, path = _unwrapped(fs, "/")
    if not any(exact(inner, name) for name in LOCAL):
        return None
    return str(inner.getsyspath(path)), not fs.getmeta().get("read_only")


def check(fs: Any, root: str, trust: bool) -> bool:
    """Whether it stands over some directory of this machine, nobody knows which. Raises MountError: what is at `root`
    of it may not be mounted."""
    inner, path = _unwrapped(fs, root)
    if any(exact(inner, name) for name in (*LOCAL, *PACKED)):
        return False
    if any(exact(inner, name) for name in COMPOSITES):
        parts = [part for _, part in _parts(inner)]
        if not trust:
            for part in parts:
                if local_directory(part) is not None:
                    raise MountError(
                        f"{described(inner)} has a part that is a directory of this machine; mount the parts by "
                        "themselves, or say trust=True (the option trust) if no link in it leads out"
                    )
                check(part, "/", trust)
        return any(local_directory(part) is not None or leads_to_this_machine(part) for part in parts)
    nature = next((nature for name, nature in NATURES.items() if exact(inner, name)), UNKNOWN)
    if nature is UNKNOWN:
        if not trust:
            raise refuse_unknown(inner)
        return leads_to_this_machine(inner)
    if nature.resolves and path.strip("/") and not trust:
        raise MountError(
            f"{described(inner)}: the server follows links, so nothing keeps a program below {path!r}; mount the whole "
            "server (its root), or say trust=True (the option trust) if no link there leads out"
        )
    return False


def _parts(fs: Any) -> list[tuple[str, Any]]:
    if exact(fs, COMPOSITES[0]):
        return [*fs.mounts, ("/", fs.default_fs)]
    return list(fs.iterate_fs())


class OpenedDirectory(LocalBackend):
    """A directory that belongs to an object of PyFilesystem2, `fs`, which is closed with it; None: it is not ours."""

    def __init__(self, path: str, below: Key, fs: Any) -> None:
        super().__init__(path, below=below)
        self._fs = fs

    def close(self) -> None:
        super().close()
        if self._fs is not None:
            self._fs.close()
