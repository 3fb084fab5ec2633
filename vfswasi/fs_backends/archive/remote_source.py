"""An archive behind a URL: of a web server by ranges, through the store's cache; of any other store of fsspec as it
opens it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ...errors import Errno, FsError, MountError, errno_of
from ...optional import packages
from ...printing import redacted, shown
from ..base import Traffic
from ..remote.backend import RemoteBackend
from ..remote.client import fits_a_key
from .source import ArchiveSource, BytesSource, ObjectSource, SpooledSource, cannot


class RemoteSource(ArchiveSource):
    """One file of a remote backend, of the version that was there when it was opened; closes the backend with
    itself."""

    def __init__(self, backend: RemoteBackend, file: str, kind: str = "zip") -> None:
        """`file`: its name in the backend's root. Raises MountError."""
        self.name = redacted(f"{backend.client.name}/{file}")
        self._backend = backend
        try:
            self._handle = backend.open((file,), False)
        except FsError as error:
            backend.close()
            reason = "no such file" if error.errno is Errno.NOENT else error.detail or errno_of(error).name
            raise MountError(f"{cannot(kind)} {self.name}: {reason}") from error
        self.size = self._handle.size()

    def read_into(self, offset: int, view: memoryview) -> None:
        if self._handle.read_into(offset, view) != len(view):
            raise FsError(Errno.IO, f"{self.name}: short read at {offset}")

    def traffic(self) -> Traffic | None:
        return self._backend.traffic()

    def close(self) -> None:
        self._handle.close()
        self._backend.close()


def open_web(
    url: str,
    storage_options: Mapping[str, Any],
    kind: str,
    timeout_s: float = 30.0,
    redirects: bool = False,
    options: Mapping[str, Any] | None = None,
) -> ArchiveSource:
    """The file at exactly this URL of a web server, query included. storage_options: as fsspec takes them. options:
    of the `RemoteBackend`. The others: see `Mount`. Raises MountError."""
    name = redacted(url)
    with packages(f"{cannot(kind)} {name}", "http"):
        import fsspec.core

        from ..remote.http.client import HttpClient
        from ..remote.http.session import close_session
    try:
        parts = urlsplit(url)
        directory, _, last = parts.path.rpartition("/")
        parent = parts._replace(path=f"{directory}/", fragment="").geturl()
        fs, path = fsspec.core.url_to_fs(parent, **{**storage_options, "skip_instance_cache": True})
        client = HttpClient(fs, path, timeout_s=timeout_s, close_fs=lambda: close_session(fs), redirects=redirects)
        file = unquote(last) if fits_a_key(unquote(last)) else "archive"
        client.pin((file,), parts._replace(fragment="").geturl())
    except (ValueError, TypeError) as error:
        raise MountError(f"{cannot(kind)} {name}: {type(error).__name__}; check the URL") from error
    return RemoteSource(RemoteBackend(client, **(options or {})), file, kind)


def is_web(url: str) -> bool:
    """Whether a URL names one file of a web server, and nothing around it."""
    return url.partition("://")[0] in ("http", "https") and "::" not in url


def open_url(url: str, storage_options: Mapping[str, Any] | None = None, kind: str = "zip") -> ArchiveSource:
    """The bytes behind any URL of fsspec, chained ones too. Raises MountError."""
    import fsspec

    from ..remote.http.session import with_guard

    options = with_guard(url, storage_options or {})
    if is_web(url):
        return open_web(url, options, kind)
    name = shown(url)
    try:
        opened = fsspec.open(url, "rb", **options)
        file = opened.open()
    except Exception as error:
        # The text of the error may hold the URL with its secrets: only its kind is shown.
        raise MountError(f"{cannot(kind)} {name}: {type(error).__name__}; check the URL and the credentials") from error
    if isinstance(file, io.BytesIO):
        # fsspec's memory file system hands the same object, with one position, to everybody.
        return BytesSource(file.getvalue(), name)
    if not _can_seek(file):
        try:
            return SpooledSource(file, name, kind)
        finally:
            with contextlib.suppress(Exception):
                file.close()
    # fsspec's zip file system closes its members when it is collected: it must live as long as they.
    return ObjectSource(file, name, owner=opened, kind=kind)


def _can_seek(file: Any) -> bool:
    """Some files of fsspec say that they can and then raise."""
    try:
        end: object = file.seek(0, 2)
        file.seek(0)
    except Exception:
        return False
    return isinstance(end, int)
