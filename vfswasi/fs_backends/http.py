"""Files of a web server: what links on a page below the mount's URL name, and whatever else can be asked for by name.

A name is a directory if its page links to `name/`, or if the server's answer for it comes from a URL with a slash at
the end. A file that no page links to is found by its name all the same. Directories without a page are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..errors import Errno, FsError
from .base import FileType, Key
from .fsspec import FsspecClient, http_date
from .remote.client import DIRECTORY, Data, Info, Page, fits_a_key
from .remote.translate import http_status


class HttpClient(FsspecClient):
    """Everything below one URL; read-only."""

    def __init__(
        self, fs: Any, root: str, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None
    ) -> None:
        super().__init__(fs, root, timeout_s=timeout_s, close_fs=close_fs)
        self.lists_first = False
        self.writes = False
        urlsplit(self.root)  # ValueError: it is no URL

    def path(self, key: Key) -> str:
        parts = urlsplit(self.root)
        below = "".join("/" + quote(name, safe="") for name in key)
        return parts._replace(path=parts.path.rstrip("/") + (below or "/")).geturl()

    def info(self, key: Key) -> Info | None:
        try:
            entry = self.call("info", self.path(key))
        except FsError as error:
            if error.errno is Errno.NOENT or http_status(error) in (404, 405, 410):
                return None if key else DIRECTORY  # a server need not have a page for the directory
            raise
        final = urlsplit(str(entry.get("url") or "")).path
        if not key or final.endswith("/"):
            return DIRECTORY
        time_ns = http_date(entry.get("Last-Modified"))
        tag = entry.get("ETag")
        size = entry.get("size")
        # A weak tag (RFC 9110, 8.8.1) does not tell one byte from another.
        version = tag if isinstance(tag, str) and not tag.startswith("W/") else None
        if version is None and time_ns is not None:
            version = f"{time_ns}-{size}"
        return Info(FileType.REGULAR_FILE, int(size) if size is not None else None, time_ns, version)

    def pages(self, key: Key) -> Iterator[Page]:
        here = self.path(key)
        if not here.endswith("/"):
            here += "/"
        try:
            found = self.call("ls", here, detail=False)
        except FsError as error:
            if error.errno is Errno.NOENT:
                if not key:
                    yield {}, True
                return
            raise
        base = urlsplit(here)
        names: dict[str, Info] = {}
        for link in found:
            parts = urlsplit(str(link))
            if parts.netloc != base.netloc or not parts.path.startswith(base.path):
                continue
            rest = parts.path[len(base.path) :]
            name, slash, more = rest.partition("/")
            name = unquote(name)
            if more or not fits_a_key(name):
                continue
            if slash:
                names[name] = DIRECTORY
            elif name not in names:
                names[name] = Info(FileType.REGULAR_FILE, None)
        yield names, True

    def fetch(self, key: Key, info: Info, start: int, end: int) -> Future[Data]:
        options: dict[str, Any] = {}
        if info.version is not None and info.version.startswith('"'):
            options["headers"] = {**self.fs.kwargs.get("headers", {}), "If-Match": info.version}
        if end >= 0:
            options |= {"start": start, "end": end}
        return self._received(self._start("cat_file", self.path(key), **options), info, start, end)
