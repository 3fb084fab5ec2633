"""From whatever the user passed as a preopen to a backend.

| source                                | becomes                                                   |
|---------------------------------------|-----------------------------------------------------------|
| `{"a.txt": b"..", "sub": {}}`         | a memory tree, made anew for each run, writable           |
| `"mem:"`                              | an empty memory tree, likewise                            |
| `"dev:"`                              | devices, to be mounted at `/dev`                          |
| a path or `PathLike` to a directory   | that directory, live                                      |
| a path to a zip or tar archive        | its contents; a zip archive, or a new one, with `rw` too  |
| `zip://inner/dir::TARGET`, `zip://*::TARGET`, `zip:///abs.zip` | a directory inside the archive TARGET: a path, or a
URL |
| `tar://inner/dir::TARGET`, `tar:///abs.tar.gz`                 | the same for tar                 |
| `file:///dir`                         | that directory                                            |
| `s3://bucket/prefix`, `https://..`, any URL of fsspec, chained ones too | what is below it        |
| `pyfs+mem://`, `pyfs+ftp://..`        | what an opener URL of PyFilesystem2 opens                 |
| an fsspec file system, a `UPath`, a PyFilesystem2 object | itself, below `Mount(.., root=..)`     |
| a `Backend`                           | itself; the caller keeps and closes it                    |
| `Mount(source, rw=..)`                | the source with options                                   |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from .errors import FsError, MountError
from .fs_backends.base import Backend
from .fs_backends.local import LocalBackend
from .fs_backends.memory import MemoryBackend
from .mount_options import Mount

if TYPE_CHECKING:
    from .fs_backends.archive.source import ArchiveSource
    from .fs_backends.remote.backend import RemoteBackend
    from .fs_backends.remote.reader import ReadOptions

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Backend | Mount | Any"


_ROOM_BYTES = 128 << 20  # for a tree that is opened to be looked at


def open_source(source: Source) -> Backend:
    """The backend for a source of any kind, outside of any run; the caller closes it. Raises MountError, TypeError."""
    mount = source if isinstance(source, Mount) else Mount(source)
    given: Any = {} if mount.source == "mem:" else mount.source
    return MemoryBackend.with_room(given, _ROOM_BYTES) if isinstance(given, Mapping) else open_mount(mount)


def open_mount(mount: Mount) -> Backend:
    """The backend of anything but a tree literal. Raises MountError, TypeError."""
    source = mount.source
    if isinstance(source, Backend):
        return source
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        return _open_text(source, mount)
    if hasattr(source, "fs") and hasattr(source, "path") and hasattr(source, "protocol"):  # UPath
        return _open_fsspec(source.fs, str(source.path), mount)
    if hasattr(source, "cat_file") and hasattr(source, "protocol"):
        return _open_fsspec(source, mount.root, mount)
    from .fs_backends.pyfilesystem import PyFilesystemBackend, is_pyfilesystem

    if is_pyfilesystem(source):
        return PyFilesystemBackend(source, root=mount.root)
    raise TypeError(
        "a mount's source must be a path, a URL, a dict, a Backend, a file system of fsspec or PyFilesystem2, or a "
        f"Mount, not {type(source).__name__}"
    )


def _open_text(source: str, mount: Mount) -> Backend:
    if not source or "\0" in source:
        raise MountError("the source is empty" if not source else "the source contains a NUL character")
    if source == "dev:":
        from .fs_backends.devices import DeviceBackend

        return DeviceBackend()
    for kind in ("zip", "tar"):
        if source.startswith(f"{kind}://"):
            return _open_archive_url(kind, source, mount)
    if source.startswith("pyfs+"):
        from .fs_backends.pyfilesystem import PyFilesystemBackend

        return PyFilesystemBackend(source.removeprefix("pyfs+"), root=mount.root)
    if source.startswith("file://") and "::" not in source:
        parts = urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise MountError(f"{source!r}: a file URL must name a path of this machine: file:///dir")
        return _open_path(unquote(parts.path), mount)
    if "://" in source or "::" in source:
        from .fs_backends.fsspec import check_root

        backend = _remote(source, mount)
        try:
            check_root(backend, bool(mount.rw))
        except BaseException:
            backend.close()
            raise
        return backend
    return _open_path(source, mount)


# Paths


def _open_path(path: str, mount: Mount) -> Backend:
    try:
        if os.path.isfile(path) or (mount.rw and path.endswith(".zip") and not os.path.lexists(path)):
            return _open_archive(path, mount)
        return LocalBackend(path)
    except FileNotFoundError:
        raise MountError(f"{path!r} does not exist; create the directory or correct the path") from None
    except OSError as error:
        raise MountError(f"{path!r} cannot be opened: {error.strerror or error}") from error


def _open_archive(path: str, mount: Mount) -> Backend:
    if mount.rw:
        from .fs_backends.zip_writer import WritableZipBackend

        return WritableZipBackend(path)
    from .fs_backends import tar, zip
    from .fs_backends.archive.kind import beginning_of
    from .fs_backends.archive.source import PathSource
    from .fs_backends.archive.zip_directory import has_directory

    # What is looked at is what is mounted, also if another file takes its name meanwhile.
    source = PathSource(path, "zip or tar")
    try:
        kind = beginning_of(source)
        if kind is None and not has_directory(source):
            raise MountError(f"{path!r} is a file, neither a directory nor a zip or tar archive")
    except FsError as error:
        source.close()
        raise MountError(f"{path!r} cannot be read: {error}") from error
    except BaseException:
        source.close()
        raise
    return zip.ZipBackend(source) if kind in ("zip", None) else tar.TarBackend(source)


# Archives by URL


def _open_archive_url(kind: str, source: str, mount: Mount) -> Backend:
    inner, chained, target = source.removeprefix(f"{kind}://").partition("::")
    if not chained:
        inner, target = "", inner
    root = "" if inner == "*" else inner.strip("/")
    if not target:
        raise MountError(f"{source!r} names no archive; write {kind}:///path/to/archive.{kind}")
    if target.startswith("file://"):
        target = unquote(urlsplit(target).path)
    local = "://" not in target and "::" not in target
    if kind == "zip":
        if mount.rw and local and not root:
            return _open_archive(target, mount)
        from .fs_backends.zip import ZipBackend

        return ZipBackend(target if local else _archive_source(target, mount), root=root)
    from .fs_backends.tar import TarBackend

    return TarBackend(target if local else _archive_source(target, mount), root=root)


def _archive_source(url: str, mount: Mount) -> ArchiveSource:
    """The bytes behind a URL: by ranges, through the cache, wherever the file has a directory that can be mounted."""
    from .fs_backends.archive.remote_source import RemoteSource
    from .fs_backends.archive.source import open_url
    from .fs_backends.remote.client import fits_a_key

    last = url.split("::")[0]
    parent, _, name = last.rpartition("/")
    if "?" in last or parent.count("/") < 2 or not fits_a_key(name) or "%" in name:
        return open_url(url, _storage_options(url, mount))
    rest = url[len(last) :]
    return RemoteSource(_remote(parent + rest, mount), name)


# Stores of fsspec


def _remote(url: str, mount: Mount) -> RemoteBackend:
    """A `RemoteBackend` for a URL. Raises MountError, without the URL's secrets."""
    import fsspec.core

    from .fs_backends.archive.source import redacted
    from .fs_backends.fsspec import client_for
    from .fs_backends.remote.backend import RemoteBackend

    shown = repr(redacted(url))
    schemes = [part.split("://")[0] for part in url.split("::")]
    if "reference" in schemes and not mount.reference:
        raise MountError(
            f"{shown}: the index of a reference file system may name any other place, this machine's files too; "
            "mount it with the option reference if you trust it"
        )
    options = _storage_options(url, mount)
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = next((name for name in schemes if name in ("s3", "http", "https")), None)
        hint = f'pip install "vfswasi[{extra}]"' if extra else f"{error}"
        raise MountError(f"{shown}: a package is missing: {hint}") from error
    except Exception as error:
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise MountError(
                f"{shown}: {schemes[0]!r} is not a kind of source; use a path, zip://, tar://, mem:, dev:, or a URL "
                "that fsspec knows"
            ) from None
        # The text of the error may hold the URL with its secrets: only its kind is shown.
        raise MountError(f"{shown} cannot be opened: {type(error).__name__}") from error
    if getattr(fs, "retries", None) is not None and schemes[0] in ("s3", "s3a"):
        fs.retries = 2  # botocore retries as well
    try:
        client = client_for(fs, path, timeout_s=mount.timeout, close_fs=_session_closer(fs))
    except ValueError as error:
        raise MountError(f"{shown} is no URL: {type(error).__name__}") from error
    try:
        return RemoteBackend(client, **_remote_options(mount, client.remembers))
    except BaseException:
        client.close()
        raise


def _storage_options(url: str, mount: Mount) -> dict[str, Any]:
    """Keyed by protocol, as fsspec takes them for chained URLs."""
    options: dict[str, Any] = {}
    protocols = [part.split("://")[0] for part in url.split("::")]
    given = dict(mount.storage_options or {})
    for protocol in protocols:
        if protocol in ("s3", "s3a"):
            made: dict[str, Any] = {
                "use_listings_cache": False,
                "skip_instance_cache": True,
                "config_kwargs": {"read_timeout": 10, "connect_timeout": 5, "retries": {"max_attempts": 1}},
            }
            if mount.anon is not None:
                made["anon"] = mount.anon
            if mount.endpoint is not None:
                made["endpoint_url"] = mount.endpoint
            options[protocol] = made
        elif protocol in ("http", "https"):
            options[protocol] = {"skip_instance_cache": True, "use_listings_cache": False}
    mine = given.pop(protocols[-1], None) if isinstance(given.get(protocols[-1]), Mapping) else None
    for protocol in list(given):
        if protocol in protocols and isinstance(given[protocol], Mapping):
            options[protocol] = {**options.get(protocol, {}), **given.pop(protocol)}
    last = protocols[-1]
    options[last] = {**options.get(last, {}), **given, **(mine or {})}
    if (mount.endpoint is not None or mount.anon is not None) and not {"s3", "s3a"} & set(protocols):
        raise MountError("the options endpoint and anon are for S3")
    return options


def _session_closer(fs: Any) -> Callable[[], None] | None:
    """What closes the connections of a file system that was made for one mount."""
    close = getattr(type(fs), "close_session", None)
    if close is None:
        return None

    def close_session() -> None:
        session = getattr(fs, "_s3", None) or getattr(fs, "_session", None)
        if session is not None:
            close(fs.loop, session)

    return close_session


def _remote_options(mount: Mount, remembers: bool) -> dict[str, Any]:
    return {
        "options": _read_options(mount, remembers),
        "listing_seconds": mount.listing,
        "rename_directories": mount.rename_directories,
    }


def _read_options(mount: Mount, remembers: bool) -> ReadOptions:
    from .fs_backends.remote.cache import DEFAULT_BYTES, ReadCache, default_cache
    from .fs_backends.remote.reader import ReadOptions

    cache: ReadCache | None
    if isinstance(mount.cache, ReadCache):
        cache = mount.cache
    elif mount.disk:
        cache = ReadCache(DEFAULT_BYTES if mount.cache is None else mount.cache, disk_bytes=mount.disk)
    elif mount.cache is None:
        cache = default_cache()
    else:
        cache = ReadCache(mount.cache) if mount.cache else None
    if not remembers:
        return ReadOptions(block=mount.block, readahead=0, cache=None, timeout_s=mount.timeout)
    return ReadOptions(block=mount.block, readahead=mount.readahead, cache=cache, timeout_s=mount.timeout)


def _open_fsspec(fs: Any, root: str, mount: Mount) -> Backend:
    from .fs_backends.fsspec import check_root, client_for
    from .fs_backends.remote.backend import RemoteBackend

    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    if "file" in protocols or "local" in protocols:
        if not root:
            raise MountError("a local file system object needs Mount(fs, root=DIRECTORY)")
        return _open_path(str(fs._strip_protocol(root)), mount)
    client = client_for(fs, root, timeout_s=mount.timeout)
    backend = RemoteBackend(client, **_remote_options(mount, client.remembers))
    try:
        check_root(backend, bool(mount.rw))
    except BaseException:
        backend.close()
        raise
    return backend
