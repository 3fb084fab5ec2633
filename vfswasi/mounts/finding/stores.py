"""Stores of fsspec: made from a URL with the options of a mount, and as backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import MountError
from ...fs_backends.base import Key
from ...fs_backends.trust import exact
from ...fs_backends.trust import fsspec as trust_fsspec
from ...optional import packages
from ...printing import shown
from ..options import Mount

if TYPE_CHECKING:
    from ...fs_backends.remote.backend import RemoteBackend
    from ...fs_backends.remote.reader import ReadOptions

_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}
_AND_BOTO3 = " (and boto3 in the same command, where that is used too: they must agree on one botocore)"


def opened(
    url: str, mount: Mount, below: Key = (), one_file: bool = False
) -> tuple[trust_fsspec.Directory | trust_fsspec.Store, Callable[[], None] | None]:
    """What a URL of fsspec stands for, and what closes it. Raises MountError, without the URL's secrets."""
    import fsspec.core

    name = shown(url)
    schemes = [part.split("://")[0] for part in url.split("::")]
    if "reference" in schemes and not mount.reference:
        raise MountError(
            f"{name}: the index of a reference file system may name any other place, this machine's files too; "
            "mount it with the option reference if you trust it"
        )
    if schemes[0] == "generic":
        raise MountError(f"{name}: it stands for every other store; mount the URL itself")
    options = storage_options(url, mount)
    extra = next((_EXTRAS[scheme] for scheme in schemes if scheme in _EXTRAS), None)
    try:
        with packages(name, extra, more=_AND_BOTO3 if extra == "s3" else ""):
            fsspec.get_filesystem_class(schemes[0])
            fs, path = fsspec.core.url_to_fs(url, **options)
    except MountError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise MountError(
                f"{name}: {schemes[0]!r} is not a kind of source; use a path, zip://, tar://, mem:, dev:, or a URL "
                "that fsspec knows; a path that looks like a URL is written with ./ before it"
            ) from None
        # The text of the error may hold the URL with its secrets: only its kind is shown.
        raise MountError(f"{name} cannot be opened: {type(error).__name__}") from error
    store = trust_fsspec.resolved(fs, str(path), below, reference=mount.reference, trust=mount.trust, one_file=one_file)
    if isinstance(store, trust_fsspec.Directory):
        return store, None
    if exact(store.fs, trust_fsspec.S3) and getattr(store.fs, "retries", None) is not None:
        store.fs.retries = 2  # botocore retries as well
    return store, _session_closer(store.fs)


def backend_of(store: trust_fsspec.Store, mount: Mount, close_fs: Callable[[], None] | None) -> RemoteBackend:
    from ...fs_backends.remote.backend import RemoteBackend
    from ...fs_backends.remote.fsspec.backend import client_for

    client = client_for(store, timeout_s=mount.timeout, close_fs=close_fs, redirects=mount.redirects)
    try:
        return RemoteBackend(client, **remote_options(mount, client.remembers))
    except BaseException:
        client.close()
        raise


def storage_options(url: str, mount: Mount) -> dict[str, Any]:
    """Keyed by protocol, as fsspec takes them for chained URLs."""
    from ...fs_backends.remote.http.session import guarded_session

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
            options[protocol] = {
                "skip_instance_cache": True,
                "use_listings_cache": False,
                "get_client": guarded_session,
            }
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


def remote_options(mount: Mount, remembers: bool) -> dict[str, Any]:
    return {
        "options": _read_options(mount, remembers),
        "listing_seconds": mount.listing,
        "rename_directories": mount.rename_directories,
    }


def _read_options(mount: Mount, remembers: bool) -> ReadOptions:
    from ...fs_backends.remote.cache import DEFAULT_BYTES, ReadCache, default_cache
    from ...fs_backends.remote.reader import ReadOptions

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
