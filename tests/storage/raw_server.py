"""A server on loopback that answers with whatever bytes a test makes up, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_HEADERS_MAX_BYTES = 64 << 10
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Asked:
    """A request. `target`: as it stood on the first line. `headers`: names in small letters."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def range(self) -> tuple[int, int] | None:
        """`[start, end)` of a simple range."""
        first, dash, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
        return (int(first), int(last) + 1) if dash and first.isdigit() and last.isdigit() else None


Answer = Callable[[Asked], Iterable[bytes]]


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, length: bool = True) -> bytes:
    """A whole answer. length: with Content-Length."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def file_answer(asked: Asked, data: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """What an honest server says of a file."""
    wanted = asked.range()
    more = {"ETag": '"v1"', **(headers or {})}
    if asked.method == "HEAD":
        return answer(200, b"", {**more, "Content-Length": str(len(data))}, length=False)
    if wanted is None:
        return answer(200, data, more)
    start, end = wanted[0], min(wanted[1], len(data))
    if start >= end:
        return answer(416, b"", {**more, "Content-Range": f"bytes */{len(data)}"})
    return answer(206, data[start:end], {**more, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})


def page_answer(html: str | bytes, headers: Mapping[str, str] | None = None) -> bytes:
    body = html if isinstance(html, bytes) else html.encode()
    return answer(200, body, {"Content-Type": "text/html; charset=utf-8", **(headers or {})})


class RawServer:
    """`answers` makes the bytes of each answer; the connection ends with it. `sent`: bytes that went out."""

    def __init__(self, answers: Answer, family: int = socket.AF_INET) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.sent = 0
        self.heads_have_bodies = False
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self._open: set[socket.socket] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_PATIENCE_S)
                request = _read_request(connection)
                if request is not None:
                    self.asked.append(request)
                    for piece in self.answers(request):
                        if request.method == "HEAD" and not self.heads_have_bodies:
                            piece = piece.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                        connection.sendall(piece)
                        self.sent += len(piece)
                        if request.method == "HEAD" and not self.heads_have_bodies:
                            break
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(1 << 16)  # what comes after the request must not reset what was sent
        except OSError:
            pass  # the client went away, which is what most tests are about
        finally:
            self._open.discard(connection)


def _read_request(connection: socket.socket) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        if not more or len(data) > _HEADERS_MAX_BYTES:
            return None
        data += more
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Asked(method, target, headers)
