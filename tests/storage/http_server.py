"""A small HTTP file server on loopback: ranges, entity tags, HEAD, index pages, and switches for what servers lack."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

CHUNK = 64 << 10


@dataclass
class File:
    data: bytes
    modified_s: float = 1_700_000_000.0
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        self.etag = f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass(frozen=True)
class Got:
    """A request that was answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int  # bytes of the body

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class HttpServer:
    """Serves `files`, path below the root -> contents. A context manager. The switches may be changed at any time.

    ignore_range: answer 200 with everything. no_length: no Content-Length; GET is chunked. no_etag, no_modified: the
    header is missing and conditions are ignored. no_head: HEAD is 405. no_index: directories are 404. etag_weak: `W/`.
    status: answer every request with this.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files: dict[str, File] = {}
        self.ignore_range = False
        self.no_length = False
        self.no_etag = False
        self.no_modified = False
        self.no_head = False
        self.no_index = False
        self.etag_weak = False
        self.status = 0
        self.requests: list[Got] = []
        for path, data in (files or {}).items():
            self.put(path, data)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, data: bytes, modified_s: float = 1_700_000_000.0) -> None:
        """Make or replace a file."""
        self.files[path.strip("/")] = File(data, modified_s)

    def remove(self, path: str) -> None:
        del self.files[path.strip("/")]

    def stop(self) -> None:
        """End the server and all of its connections."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def index(self, directory: str) -> bytes | None:
        """The page of a directory; None if nothing is in it."""
        prefix = f"{directory}/" if directory else ""
        names = set()
        for path in self.files:
            if path.startswith(prefix):
                name, slash, _ = path[len(prefix) :].partition("/")
                names.add(name + slash)
        if not names and directory:
            return None
        links = "".join(f'<li><a href="{quote(name)}">{escape(name)}</a></li>\n' for name in sorted(names))
        up = '<li><a href="../">../</a></li>\n' if directory else ""
        title = f"Index of /{escape(prefix)}"
        return f"<html><head><title>{title}</title></head><body><ul>\n{up}{links}</ul></body></html>\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    store: HttpServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was quicker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = CHUNK
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        if self.server.store.no_head:
            self._answer(405, b"")
        else:
            self._serve()

    def _serve(self) -> None:
        store = self.server.store
        path = unquote(urlsplit(self.path).path)
        if store.status:
            self._answer(store.status, b"as told\n")
            return
        file = store.files.get(path.strip("/"))
        if file is None or path.endswith("/"):
            page = None if store.no_index else store.index(path.strip("/"))
            if page is None:
                self._answer(404, b"not found\n")
            elif not path.endswith("/"):
                self._answer(301, b"", {"Location": quote(path) + "/"})
            else:
                self._answer(200, page, {"Content-Type": "text/html; charset=utf-8"})
            return
        headers = {"Content-Type": "application/octet-stream"}
        etag = f"W/{file.etag}" if store.etag_weak else file.etag
        if not store.no_etag:
            headers["ETag"] = etag
        if not store.no_modified:
            headers["Last-Modified"] = formatdate(file.modified_s, usegmt=True)
        if not store.ignore_range:
            headers["Accept-Ranges"] = "bytes"
        status = self._condition(etag)
        if status:
            self._answer(status, b"", headers)
            return
        whole = len(file.data)
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range", etag) == etag
        if found is None or found.groups() == ("", "") or store.ignore_range or not fresh:
            self._answer(200, file.data, headers)
            return
        first, last = found.groups()
        start = int(first) if first else max(0, whole - int(last))
        end = min(whole, int(last) + 1) if first and last else whole
        if start >= end:
            self._answer(416, b"", {**headers, "Content-Range": f"bytes */{whole}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{whole}"
        self._answer(206, file.data[start:end], headers)

    def _condition(self, etag: str) -> int:
        """The status that a condition of the request calls for, or 0."""
        if self.server.store.no_etag:
            return 0
        wanted, unwanted = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if wanted is not None and wanted != "*" and etag not in wanted.split(", "):
            return 412
        if unwanted is not None and (unwanted == "*" or etag in unwanted.split(", ")):
            return 304
        return 0

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        store = self.server.store
        chunked = store.no_length and status in (200, 206)
        head = self.command == "HEAD"
        store.requests.append(
            Got(
                self.command,
                unquote(self.path),
                {name.lower(): value for name, value in self.headers.items()},
                status,
                0 if head else len(body),
            )
        )
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not chunked:
            self.send_header("Content-Length", str(len(body)))
        elif not head:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if head:
            return
        if not chunked:
            self.wfile.write(body)
            return
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
