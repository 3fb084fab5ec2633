"""Any fsspec file system as a tree: `FsspecBackend`, and the client that knows most about a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....errors import Errno, FsError, MountError, errno_of
from ....printing import shown
from ...base import FileType
from ...trust import PAGES, exact, shown_as
from ...trust.fsspec import S3, Directory, Store, resolved
from ..backend import RemoteBackend
from ..client import Client, Elsewhere
from ..reader import ReadOptions
from ..translate import scrubbed
from .client import FsspecClient


class FsspecBackend(RemoteBackend):
    """A directory of an fsspec file system.

    fs: an `AbstractFileSystem`; it stays the caller's. root: a path or URL of it. trust: it is not recognised, or the
    server follows links, and yet no link in it leads out of `root`, and it is no directory of this machine (see
    docs/trust.md). The others are those of `RemoteBackend`.

    Raises MountError (there is no such directory, it is a file, the store does not answer or may not be mounted).
    """

    def __init__(
        self,
        fs: Any,
        root: str = "",
        *,
        options: ReadOptions | None = None,
        listing_seconds: float = 30.0,
        rename_directories: bool = False,
        timeout_s: float = 30.0,
        trust: bool = False,
    ) -> None:
        client: Client | None = None
        try:
            store = resolved(fs, root, trust=trust)
            if isinstance(store, Directory):
                raise MountError(
                    f"{store.path!r} is a directory of this machine; mount its path, or LocalBackend(path)"
                )
            client = client_for(store, timeout_s=timeout_s)
            if options is None and not client.remembers:
                options = ReadOptions(readahead=0)
            super().__init__(client, options, listing_seconds=listing_seconds, rename_directories=rename_directories)
            check_root(self, writing=True)
        except BaseException as error:
            if client is not None:
                client.close()
            scrubbed(error)
            if isinstance(error, FsError):  # a limit of whoever calls
                raise MountError(f"{shown(root)}: {error.detail or errno_of(error).name}") from error
            raise


def client_for(
    store: Store, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None, redirects: bool = False
) -> Client:
    """The client that knows most about a store. redirects: see `Mount`. Raises MountError, also for what is no URL."""
    try:
        return _client_for(store, timeout_s, close_fs, redirects)
    except ValueError as error:
        raise MountError(f"{shown(store.path)} is no URL: {type(error).__name__}") from error


def _client_for(store: Store, timeout_s: float, close_fs: Callable[[], None] | None, redirects: bool) -> Client:
    if exact(store.fs, S3) or _is_s3(store.fs):
        from ..s3.client import S3Client

        return S3Client(store.fs, store.path, timeout_s=timeout_s, close_fs=close_fs)
    if store.nature.about == PAGES.about:
        from ..http.client import HttpClient

        return HttpClient(store.fs, store.path, timeout_s=timeout_s, close_fs=close_fs, redirects=redirects)
    return FsspecClient(
        store.fs,
        store.path,
        timeout_s=timeout_s,
        close_fs=close_fs,
        nature=store.nature,
        anywhere=store.anywhere,
    )


def _is_s3(fs: object) -> bool:
    """Whether a trusted store is s3fs's with something that the user added."""
    return any(shown_as(cls, S3) for cls in type(fs).__mro__)


def check_root(backend: RemoteBackend, writing: bool) -> None:
    """That there is something to mount. Raises MountError; CANCELED, DQUOT, NOMEM for what the caller allows."""
    client = backend.client
    try:
        info = client.info(())
    except Elsewhere as error:
        raise MountError(error.detail) from error
    except FsError as error:
        if error.errno in (Errno.CANCELED, Errno.DQUOT, Errno.NOMEM):  # the caller's limits, and no fault of the store
            raise
        if error.errno is Errno.NOENT:
            raise MountError(f"{client.name} does not exist; create it or correct the URL") from error
        hint = "check the credentials" if error.errno is Errno.ACCES else "check the URL and the connection"
        what = (error.detail or str(error)).removeprefix(f"{client.name}: ")
        raise MountError(f"{client.name}: {what}" + (f"; {hint}" if "credentials" not in what else "")) from error
    if info is None:
        if not (writing and client.implied):
            raise MountError(f"{client.name} does not exist")
    elif info.filetype is FileType.REGULAR_FILE:
        raise MountError(
            f"{client.name} is a file, not a directory; an archive is mounted as zip://*::URL or tar://*::URL, "
            "and one file with the option file (file=True)"
        )
