"""Ranges of objects by plain HTTP on threads: for bulk data, where the event loop of an asynchronous client, which
handles each quarter of a mebibyte in Python, is the bottleneck.

A URL that says by itself who asks (a presigned one) is all that is needed of the store's own client.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from ...errors import Errno, FsError
from ...printing import counted
from ..waiting import Threads
from .client import Counter, Data
from .translate import STATUSES, stand_in

THREADS_MAX = 8
_ATTEMPTS = 2
_PAUSE_S = 0.1
_PIECE_BYTES = 1 << 20


class Unsuitable(Exception):
    """The store wants something that only its own client knows."""


class Downloader:
    """Fetches ranges from one server, each thread over a connection of its own, into buffers that are used again."""

    def __init__(self, endpoint: str, name: str, timeout_s: float, counter: Counter) -> None:
        """endpoint: URL of the server. name: for messages. timeout_s: for one request."""
        parts = urlsplit(endpoint)
        self._endpoint = (parts.scheme, parts.hostname or "", parts.port)
        self._name = name
        self._timeouts = min(5.0, timeout_s), min(10.0, timeout_s)
        self._counter = counter
        self._threads = Threads(THREADS_MAX, "vfswasi download")
        self._own = threading.local()
        self._connections: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()
        self._buffers: deque[bytearray] = deque(maxlen=THREADS_MAX)

    def fetch(
        self, url: Callable[[bool], str], headers: Mapping[str, str], count: int, otherwise: Callable[[], Data]
    ) -> Future[Data]:
        """Start to fetch `count` bytes. `url`: gives the URL, a new one if that is asked for; called on another thread.
        `otherwise`: what is done instead where the server wants something else. Raises STALE, NOENT, ACCES, IO."""
        return self._threads.submit(lambda: self._run(url, headers, count, otherwise))

    def give_back(self, data: Data) -> None:
        """Nobody reads what was fetched any more. Fresh memory costs as much as the copy from the socket."""
        if type(data) is bytearray:
            self._buffers.append(data)

    def _run(
        self, url: Callable[[bool], str], headers: Mapping[str, str], count: int, otherwise: Callable[[], Data]
    ) -> Data:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(url(attempt > 1), headers, count)
            except Unsuitable:
                return otherwise()
            except FsError as error:
                # A 403 may mean that the URL has expired.
                if attempt >= _ATTEMPTS or error.errno not in (Errno.IO, Errno.ACCES):
                    raise
                failed = error
            except (http.client.HTTPException, OSError, ValueError) as error:  # whose text may hold the URL
                failed = FsError(Errno.IO, f"{self._name}: get: {type(error).__name__}")
                failed.__cause__ = stand_in(error)
            if attempt >= _ATTEMPTS:
                raise failed
            time.sleep(_PAUSE_S)

    def _once(self, url: str, headers: Mapping[str, str], count: int) -> bytearray:
        parts = urlsplit(url)
        if (parts.scheme, parts.hostname or "", parts.port) != self._endpoint:
            raise Unsuitable
        self._counter.count(requests=1)
        connection = self._connection()
        try:
            connection.request("GET", f"{parts.path}?{parts.query}", headers=dict(headers))
            answer = connection.getresponse()
            if 300 <= answer.status < 400:
                raise Unsuitable
            if answer.status not in (200, 206):
                number = STATUSES.get(answer.status, Errno.IO)
                raise FsError(number, f"{self._name}: get: HTTP status {answer.status}")
            if answer.length != count:
                length = counted(answer.length or 0, "byte")
                raise FsError(Errno.IO, f"{self._name}: {length} come instead of {count:,}")
            if not _is_range(answer, headers.get("Range", "")):
                raise FsError(Errno.IO, f"{self._name}: another range comes than was asked for")
            data = self._buffer(count)
            done = 0
            with memoryview(data) as view:
                while done < count:
                    got = answer.readinto(view[done : done + _PIECE_BYTES])
                    if not got:
                        raise FsError(Errno.IO, f"{self._name}: {counted(done, 'byte')} came instead of {count:,}")
                    done += got
                    self._counter.count(received=got)
            answer.read()
            if answer.will_close:
                connection.close()
        except BaseException:
            connection.close()
            raise
        return data

    def _buffer(self, count: int) -> bytearray:
        try:
            buffer = self._buffers.pop()
        except IndexError:
            return bytearray(count)
        if len(buffer) != count:
            return bytearray(count)
        return buffer

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's, connected."""
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            scheme, host, port = self._endpoint
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            connection = self._own.connection = kind(host, port, timeout=self._timeouts[0])
            self._connections.add(connection)
        if connection.sock is None:
            connection.connect()
            sock: Any = connection.sock
            sock.settimeout(self._timeouts[1])
        return connection

    def close(self) -> None:
        """Close connections; threads end when they are done."""
        self._threads.close()
        self._buffers.clear()
        for connection in list(self._connections):
            sock = connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # whoever waits for it gives up
            connection.close()


def _is_range(answer: http.client.HTTPResponse, asked: str) -> bool:
    """Whether an answer says that it is the range that was asked for, or all of something that begins there."""
    told = answer.getheader("Content-Range")
    unit, _, where = asked.partition("=")
    if told is None:
        return answer.status == 200 and where.startswith("0-")
    return told.partition("/")[0].strip().lower() == f"{unit} {where}"


def is_plain(endpoint: str, options: Mapping[str, Any]) -> bool:
    """Whether nothing stands between us and the server that only its client knows: proxies, certificates."""
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    if (parts.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(parts.hostname or ""):
        return False
    return not any(options.get(name) for name in ("proxies", "proxies_config", "client_cert"))
