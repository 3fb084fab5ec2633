"""One file as a mount: where it lies in a store, and in which directory the guest finds it.

WASI gives a program directories. So a file that is mounted at `/data/x.csv` is in a preopen `/data` that has it, and
other files that are mounted there, and nothing else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import FsError, MountError, errno_of
from ...fs_backends.base import Backend, FileType
from ...fs_backends.layers.picked import OneFile
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.remote.client import fits_a_key
from ...fs_backends.trust import fsspec as trust_fsspec
from ...printing import shown
from ..options import Mount
from .source_text import local_path, without_caches

_ARCHIVE = re.compile(r"\.(zip|whl|jar|tar(\.[a-z0-9]+)?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


class PlainFileError(MountError):
    """The source is a file and no archive. path: where it is."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{shown(path)} is a file, neither a directory nor a zip or tar archive; one file is mounted by its name "
            f"in a directory of the guest, such as /data/{os.path.basename(path)}"
            + (", with the option file (file=True)" if is_archive_name(path) else "")
        )
        self.path = path

    def __reduce__(self) -> tuple[type[PlainFileError], tuple[str]]:
        return type(self), (self.path,)


def check_place(guest: str) -> None:
    """Raises MountError: no file of the guest's can be there."""
    _, slash, name = guest.rpartition("/")
    if not slash or not fits_a_key(name):
        raise MountError(
            f"one file is mounted by its name in a directory of the guest, such as /data/x, not as {guest!r}"
        )


def is_archive_name(path: str) -> bool:
    return _ARCHIVE.search(path) is not None


def is_named_so(guest: str, path: str) -> bool:
    """Whether a file that is no archive is mounted as what it is without being told: the guest's directory is one of
    its own, and nobody calls the file an archive, which would be a broken one."""
    return guest.rpartition("/")[0] not in ("", ".", "..") and not is_archive_name(path)


def open_file(mount: Mount, open_mount: Callable[[Mount], Backend]) -> OneFile:
    """The file that a path or a URL names. open_mount: of `sources.py`. Raises MountError."""
    source: Any = mount.source
    if mount.root:
        raise MountError(f"root={mount.root!r} does not apply to one file; write the whole path or URL")
    if isinstance(source, os.PathLike):
        return _local(os.fsdecode(os.fspath(source)))
    if not isinstance(source, str):
        raise MountError(f"the option file takes a path or a URL, not {type(source).__name__}")
    if not source or "\0" in source:
        raise MountError("the source is empty" if not source else "the source contains a NUL character")
    source, mount = without_caches(source, mount)
    path = local_path(source)
    return _local(path) if path is not None else _in_store(source, replace(mount, file=False), open_mount)


def _local(path: str) -> OneFile:
    """Found by its name in its directory, whatever file has it: editors and programs replace files."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise MountError(f"{shown(path)} is not a file; mount it without the option file")
        directory, name = os.path.split(os.path.realpath(path))
        backend = LocalBackend(directory)
    except FileNotFoundError:
        raise MountError(f"{shown(path)} does not exist; create the file or correct the path") from None
    except (OSError, ValueError) as error:
        raise MountError(f"{shown(path)} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not fits_a_key(name):
        backend.close()
        raise MountError(f"{shown(path)}: its name cannot be told to a program")
    identity = ("local", status.st_dev, status.st_ino)
    return _checked(OneFile(backend, (name,), identity, (*backend.place, name)), path)


def _in_store(url: str, mount: Mount, open_mount: Callable[[Mount], Backend]) -> OneFile:
    last, chained, rest = url.partition("::")
    parent, _, name = last.rpartition("/")
    scheme = last.partition("://")[0]
    whole = parent + chained + rest
    if not fits_a_key(name) or "?" in last or "%" in name or "*" in name or "://" not in last:
        raise MountError(f"{shown(url)}: the option file needs a URL that ends with the name of a file")
    if scheme in ("zip", "tar"):
        if not chained:
            raise MountError(f"{shown(url)}: write {scheme}://name/in/it::/path/to/archive.{scheme}")
        if parent.endswith((":/", "//")):
            whole = f"{scheme}://*::{rest}"
        return _checked(_of(open_mount(replace(mount, source=whole)), name), url)
    from .stores import backend_of, opened

    if parent.count("/") < 2 or scheme.startswith("pyfs+"):
        raise MountError(f"{shown(url)}: one file of it cannot be mounted; mount the directory that it is in")
    store, close_fs = opened(whole, mount, one_file=True)
    if isinstance(store, trust_fsspec.Directory):
        return _local(os.path.join(store.path, *store.below, name))
    return _checked(_of(backend_of(store, mount, close_fs), name), url)


def _of(backend: Backend, name: str) -> OneFile:
    place = backend.place
    return OneFile(backend, (name,), (backend.identity, name), None if place is None else (*place, name))


def _checked(file: OneFile, source: str) -> OneFile:
    """Raises MountError unless it is there, and FsError for the caller's limits."""
    try:
        found = file.backend.stat(file.key)
    except FsError as error:
        file.backend.close()
        if errno_of(error).name == "NOENT":
            raise MountError(f"{shown(source)} does not exist") from error
        raise
    except BaseException:
        file.backend.close()
        raise
    if found.filetype is not FileType.REGULAR_FILE:
        file.backend.close()
        raise MountError(f"{shown(source)} is not a file; mount it without the option file")
    return file
