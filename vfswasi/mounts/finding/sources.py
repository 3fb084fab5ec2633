"""From whatever the user passed as a preopen to a backend.

| source                                | becomes                                                   |
|---------------------------------------|-----------------------------------------------------------|
| `{"a.txt": b"..", "sub": {}}`         | a memory tree, made anew for each run, writable           |
| `"mem:"`                              | an empty memory tree, likewise                            |
| `"dev:"`                              | devices, to be mounted at `/dev`                          |
| a `PathLike`, a path to a directory   | that directory, live (see `source_text.py`)               |
| a path to a zip or tar archive        | its contents; with `rw` too, also of a new one            |
| `zip://inner/dir::TARGET`, `zip://*::TARGET`, `zip:///abs.zip` | a directory inside the archive TARGET, |
|                                                                | which is a path or a URL         |
| `tar://inner/dir::TARGET`, `tar:///abs.tar.gz`                 | the same for tar                 |
| `file:///dir`                         | that directory                                            |
| `s3://bucket/prefix`, `https://..`, a URL of fsspec, chained ones too | what is below it          |
| `pyfs+mem://`, `pyfs+ftp://..`        | what an opener URL of PyFilesystem2 opens                 |
| an fsspec file system, a `UPath`, a PyFilesystem2 object | itself, below `Mount(.., root=..)`     |
| a `Backend`                           | itself; the caller keeps and closes it                    |
| `Mount(source, rw=..)`                | the source with options                                   |

What other libraries have is mounted as far as it may be trusted (`fs_backends/trust`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import FsError, MountError
from ...fs_backends.base import Backend, Key
from ...fs_backends.layers.checked import check_attributes
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.memory.backend import MemoryBackend
from ...fs_backends.remote.translate import scrubbed
from ...fs_backends.trust import exact, names_below, without_dots
from ...fs_backends.trust import fsspec as trust_fsspec
from ...printing import shown
from ..options import Mount
from .single import PlainFileError, is_archive_name, open_file
from .source_text import local_path, without_caches
from .source_types import Source
from .stores import backend_of, opened, remote_options, storage_options

if TYPE_CHECKING:
    from ...fs_backends.archive.source import ArchiveSource

_ROOM_BYTES = 128 << 20  # for a tree that is opened to be looked at


def open_source(source: Source) -> Backend:
    """The backend for a source of any kind, outside of any run; the caller closes it. Raises MountError, TypeError."""
    mount = source if isinstance(source, Mount) else Mount(source)
    tree = tree_of(mount)
    try:
        if mount.file:
            from ...fs_backends.layers.picked import Picked

            picked, file = Picked(), open_file(mount, open_mount)
            picked.pick(file.key[-1], file, not mount.rw)
            return picked
        return open_mount(mount) if tree is None else MemoryBackend.with_room(tree, _ROOM_BYTES)
    except MountError as error:
        scrubbed(error)
        raise


def tree_of(mount: Mount) -> Mapping[str, Any] | None:
    """The literal tree that is mounted; None: it is something else. Raises MountError."""
    given = mount.source
    if isinstance(given, str) and given == "mem:":
        given = {}
    if not isinstance(given, Mapping):
        return None
    _no_root(mount, "a tree in memory; give the part of it that is meant")
    return given


def _no_root(mount: Mount, what: str) -> None:
    if mount.root:
        raise MountError(f"root={mount.root!r} does not apply to {what}")


def open_mount(mount: Mount) -> Backend:
    """The backend of anything but a tree literal. Raises MountError, TypeError."""
    source = mount.source
    if isinstance(source, Backend):
        _no_root(mount, "a Backend, which is mounted as it is")
        check_attributes(source)
        return source
    if is_upath(source):
        return _open_fsspec(source.fs, str(source.path), names_below(mount.root), mount)
    if isinstance(source, os.PathLike):
        return _open_path(os.fsdecode(os.fspath(source)), mount)  # whatever it looks like
    if isinstance(source, str):
        return _open_text(source, mount)
    if _is_fsspec(source):
        return _open_fsspec(source, without_dots(mount.root), (), mount)
    from ...fs_backends.pyfilesystem.package import is_pyfilesystem

    if is_pyfilesystem(source):
        return _open_pyfilesystem(source, mount)
    raise TypeError(
        "a mount's source must be a path, a URL, a dict, a Backend, a file system of fsspec or PyFilesystem2, or a "
        f"Mount, not {type(source).__name__}"
    )


def _is_fsspec(source: Any) -> bool:
    return not isinstance(source, type) and hasattr(source, "cat_file") and hasattr(source, "protocol")


def is_upath(source: Any) -> bool:
    """Whether it is a path in a file system of fsspec, and not one of this machine's."""
    fs = getattr(source, "fs", None)
    if _is_fsspec(source) or not (_is_fsspec(fs) and hasattr(source, "path") and hasattr(source, "protocol")):
        return False
    return not (isinstance(source, os.PathLike) and exact(fs, trust_fsspec.LOCAL))


def _open_text(source: str, mount: Mount) -> Backend:
    if not source or "\0" in source:
        raise MountError("the source is empty" if not source else "the source contains a NUL character")
    if source == "dev:":
        from ...fs_backends.devices import DeviceBackend

        _no_root(mount, "dev:")
        return DeviceBackend()
    source, mount = without_caches(source, mount)
    path = local_path(source)
    if path is not None:
        return _open_path(path, mount)
    for kind in ("zip", "tar"):
        if source.startswith((f"{kind}://", f"{kind}::")):
            return _open_archive_url(kind, source, mount)
    if source.startswith("pyfs+"):
        return _open_pyfilesystem(source.removeprefix("pyfs+"), mount)
    return _remote(source, names_below(mount.root), mount)


# Paths


def _open_path(path: str, mount: Mount) -> Backend:
    if not path or "\0" in path:
        raise MountError("the source is empty" if not path else "the source contains a NUL character")
    below = names_below(mount.root)
    try:
        if os.path.isfile(path) or (mount.rw and _is_archive_to_be(path)):
            return _open_archive(path, mount, "/".join(below))
        return LocalBackend(path, below=below)
    except FileNotFoundError:
        what = shown(path) + (f" with root={mount.root!r}" if below else "")
        raise MountError(f"{what} does not exist; create the directory or correct the path") from None
    except OSError as error:
        raise MountError(f"{shown(path)} cannot be opened: {error.strerror or error}") from error


def _is_archive_to_be(path: str) -> bool:
    if os.path.lexists(path):
        return False
    from ...fs_backends.archive.kind import is_archive_ending

    return is_archive_ending(path)


def _open_archive(path: str, mount: Mount, root: str = "", kind: str | None = None) -> Backend:
    if mount.rw and (kind is not None or is_archive_name(path) or not os.path.isfile(path)):
        from ...fs_backends.archive.writable import WritableArchive

        return WritableArchive(path, root=root, kind=kind)
    from ...fs_backends.archive.kind import beginning_of
    from ...fs_backends.archive.source import PathSource
    from ...fs_backends.archive.tar import backend as tar
    from ...fs_backends.archive.zip import backend as zip
    from ...fs_backends.archive.zip.directory import has_directory

    # What is looked at is what is mounted, also if another file takes its name meanwhile.
    source = PathSource(path, "zip or tar")
    try:
        found = beginning_of(source)
        if found is None and not has_directory(source):
            raise PlainFileError(path)
    except FsError as error:
        source.close()
        raise MountError(f"{shown(path)} cannot be read: {error}") from error
    except BaseException:
        source.close()
        raise
    if mount.rw:
        from ...fs_backends.archive.writable import WritableArchive

        source.close()
        return WritableArchive(path, root=root)
    return zip.ZipBackend(source, root=root) if found in ("zip", None) else tar.TarBackend(source, root=root)


# PyFilesystem2


def _open_pyfilesystem(source: Any, mount: Mount) -> Backend:
    from ...fs_backends.pyfilesystem.backend import PyFilesystemBackend
    from ...fs_backends.trust.pyfilesystem import OpenedDirectory, local_directory

    if isinstance(source, str):
        from ...fs_backends.pyfilesystem.package import open_url

        fs, below = open_url(source), "/".join(names_below(mount.root))
    else:
        fs, below = source, without_dots(mount.root)
    opened = isinstance(source, str)
    try:
        found = local_directory(fs)
        if found is None:
            return PyFilesystemBackend(fs, root=below, close=opened, trust=mount.trust)
        path, writes = found
        if mount.rw and not writes:
            raise MountError(f"{type(fs).__name__} of PyFilesystem2 can only be read; mount it without rw")
        return OpenedDirectory(path, names_below(below.lstrip("/")), fs if opened else None)
    except BaseException as error:
        with contextlib.suppress(Exception):
            if opened:
                fs.close()
        if isinstance(error, OSError):
            what = f"{type(fs).__name__} of PyFilesystem2"
            raise MountError(f"{what} cannot be opened: {error.strerror or error}") from error
        raise


# Archives by URL


def _open_archive_url(kind: str, source: str, mount: Mount) -> Backend:
    if source.startswith(f"{kind}::"):
        inner, target = "", source.removeprefix(f"{kind}::")
    else:
        inner, chained, target = source.removeprefix(f"{kind}://").partition("::")
        if not chained:
            inner, target = "", inner
    names = ("" if inner == "*" else inner.strip("/"), *names_below(mount.root))
    root = "/".join(name for name in names if name)
    if not target:
        raise MountError(f"{shown(source)} names no archive; write {kind}:///path/to/archive.{kind}")
    target, mount = without_caches(target, replace(mount, root=""))
    path = local_path(target)
    if mount.rw and path is None:
        raise MountError(
            f"{shown(source)}: an archive can only be written where it is a file of this machine; mount it without rw, "
            "or write an archive here and upload it"
        )
    if mount.rw and path is not None and not inner.strip("/*"):
        return _open_archive(path, mount, root, kind)
    if kind == "zip":
        from ...fs_backends.archive.zip.backend import ZipBackend

        return ZipBackend(path if path is not None else source_of_file(target, mount, kind), root=root)
    from ...fs_backends.archive.tar.backend import TarBackend

    return TarBackend(path if path is not None else source_of_file(target, mount, kind), root=root)


def source_of_file(url: str, mount: Mount, kind: str) -> ArchiveSource:
    """The bytes of the one file behind a URL: by ranges, through the cache, wherever the file has a directory that can
    be mounted."""
    if url.startswith(("zip://", "tar://", "libarchive://")) and not mount.trust:
        raise MountError(
            f"{shown(url)}: an archive in an archive would be read by fsspec, which has no limits for a hostile one; "
            "take the inner archive out, or say trust=True (the option trust)"
        )
    from ...fs_backends.archive.remote_source import RemoteSource, is_web, open_url, open_web
    from ...fs_backends.archive.source import PathSource
    from ...fs_backends.remote.client import fits_a_key

    if is_web(url):
        options = remote_options(mount, True)
        return open_web(url, storage_options(url, mount), kind, mount.timeout, mount.redirects, options)
    last = url.split("::")[0]
    parent, _, name = last.rpartition("/")
    if "?" in last or parent.count("/") < 2 or not fits_a_key(name) or "%" in name:
        return open_url(url, storage_options(url, mount), kind)
    store, close_fs = opened(parent + url[len(last) :], mount, one_file=True)
    if isinstance(store, trust_fsspec.Directory):
        return PathSource(os.path.join(store.path, *store.below, name))
    return RemoteSource(backend_of(store, mount, close_fs), name, kind)


# Stores of fsspec


def _remote(url: str, below: Key, mount: Mount) -> Backend:
    """The backend for a URL of fsspec. Raises MountError, without the URL's secrets."""
    store, close_fs = opened(url, mount, below)
    return _mounted(store, mount, close_fs)


def _mounted(
    store: trust_fsspec.Directory | trust_fsspec.Store,
    mount: Mount,
    close_fs: Callable[[], None] | None = None,
) -> Backend:
    if isinstance(store, trust_fsspec.Directory):
        return _open_path(store.path, replace(mount, root="/".join(store.below)))
    from ...fs_backends.remote.fsspec.backend import check_root

    backend = backend_of(store, mount, close_fs)
    try:
        check_root(backend, bool(mount.rw))
    except BaseException:
        backend.close()
        raise
    return backend


def _open_fsspec(fs: Any, root: str, below: Key, mount: Mount) -> Backend:
    """`root`: as the file system spells it; `below`: names in it."""
    store = trust_fsspec.resolved(fs, root, below, reference=mount.reference, trust=mount.trust)
    return _mounted(store, mount)
