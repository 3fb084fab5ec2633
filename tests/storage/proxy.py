"""An HTTP proxy in front of a server, in a process of its own: it counts, delays and breaks what passes.

    with Proxy(server.port) as proxy:
        proxy.latency_s = 0.005
        proxy.fail("cut in body", method="GET", path="/bucket/key")
        ...
        proxy.requests()

Host passes through unchanged, so signatures of S3 clients stay good. Bodies are passed in large pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any
from urllib.parse import unquote

_PIECE = 1 << 20
_STATUS_CODES = {
    403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 500: "InternalError", 501: "NotImplemented",
    503: "SlowDown", 507: "InsufficientStorage",
}  # fmt: skip

# How a request can fail; a number is the status of an S3 error that is answered instead.
FAULTS = (
    "refuse",  # closed when its first byte comes
    "cut before answer",  # it reaches the server, whose answer is thrown away
    "cut after head",  # of the answer only the head comes
    "cut in body",  # half of the body comes
    "hang",  # nothing comes any more
    "hang in body",  # half of the body, and nothing more
)


@dataclass(frozen=True)
class Request:
    """What went through. path: unquoted. range, if_match: header values or "". status: 0 if none was answered. sent,
    received: bytes of the bodies of request and answer. at_s: seconds since the start of the proxy."""

    method: str
    path: str
    query: str
    range: str
    if_match: str
    status: int
    sent: int
    received: int
    at_s: float


class Proxy:
    """The proxy's side in the test. `endpoint`: its URL."""

    def __init__(self, upstream_port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(upstream_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._latency_s = 0.0

    def _ask(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    @property
    def latency_s(self) -> float:
        """Seconds before each request is passed on."""
        return self._latency_s

    @latency_s.setter
    def latency_s(self, seconds: float) -> None:
        self._latency_s = seconds
        self._ask(do="latency", seconds=seconds)

    def requests(self) -> list[Request]:
        """Everything since the start or `reset`, in the order in which it ended."""
        return [Request(**found) for found in self._ask(do="requests")]

    def reset(self) -> None:
        """Forget requests and faults; what hangs is cut."""
        self._ask(do="reset")

    def fail(
        self, how: str | int, *, method: str = "", path: str = "", query: str = "", skip: int = 0, times: int = 1
    ) -> None:
        """Break requests whose method is `method` and whose path and query contain what is given: not the first
        `skip`, then `times` of them. `how`: one of FAULTS, or a status."""
        assert how in FAULTS or how in _STATUS_CODES
        self._ask(do="fail", how=how, method=method, path=path, query=query, skip=skip, times=times)

    def connections(self) -> int:
        """How many clients are connected."""
        return int(self._ask(do="connections"))

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


# The process


@dataclass
class _Fault:
    how: str | int
    method: str
    path: str
    query: str
    skip: int
    times: int

    def hits(self, method: str, path: str, query: str) -> bool:
        if self.method not in ("", method) or self.path not in path or self.query not in query or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class _Cut(Exception):
    """The connection ends here."""


@dataclass
class _Head:
    first: list[str]
    headers: dict[str, str]
    raw: bytes


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name:
            headers[name.lower()] = value.strip()
    return _Head(lines[0].split(" ", 2), headers, raw)


class _Server:
    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.latency_s = 0.0
        self.faults: list[_Fault] = []
        self.log: list[Request] = []
        self.clients = 0
        self.start = time.monotonic()
        self.released = asyncio.Event()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        upstream: asyncio.StreamWriter | None = None
        try:
            up_reader, upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port, limit=4 * _PIECE)
            while (head := await _read_head(reader)) is not None:
                await self.request(head, reader, writer, up_reader, upstream)
        except (_Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.clients -= 1
            for side in (writer, upstream):
                if side is not None:
                    side.close()

    async def request(
        self,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        method = head.first[0]
        path, _, query = head.first[1].partition("?")
        path = unquote(path)
        counts = {"status": 0, "sent": 0, "received": 0}
        how = next((fault.how for fault in self.faults if fault.hits(method, path, query)), None)
        try:
            if how == "refuse":
                raise _Cut
            await asyncio.sleep(self.latency_s)
            if isinstance(how, int):
                await self.answer(how, method, head, reader, writer, counts)
                return
            upstream.write(head.raw)
            if head.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            counts["sent"] = await self.body(head, reader, upstream, None)
            while True:
                answer = await _read_head(up_reader)
                if answer is None:
                    raise _Cut
                if answer.first[1] != "100":
                    break
            counts["status"] = int(answer.first[1])
            if how == "hang":
                await self.released.wait()
                raise _Cut
            if how == "cut before answer":
                raise _Cut
            writer.write(answer.raw)
            if how == "cut after head":
                await writer.drain()
                raise _Cut
            bodiless = method == "HEAD" or counts["status"] in (204, 304)
            if not bodiless:
                counts["received"] = await self.body(answer, up_reader, writer, how)
            await writer.drain()
            if "close" in (answer.headers.get("connection", "").lower(), head.headers.get("connection", "").lower()):
                raise _Cut
        finally:
            self.log.append(
                Request(
                    method,
                    path,
                    query,
                    head.headers.get("range", ""),
                    head.headers.get("if-match", ""),
                    counts["status"],
                    counts["sent"],
                    counts["received"],
                    time.monotonic() - self.start,
                )
            )

    async def answer(
        self,
        status: int,
        method: str,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        counts: dict[str, int],
    ) -> None:
        """An S3 error of the proxy's own."""
        if head.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        counts["sent"] = await self.body(head, reader, None, None)
        counts["status"] = status
        code = _STATUS_CODES[status]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made</Message></Error>".encode()
        start = f"HTTP/1.1 {status} Made\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + (b"" if method == "HEAD" else body))
        await writer.drain()

    async def body(
        self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, how: str | None
    ) -> int:
        """Pass a body on; its bytes. `how`: it breaks in the middle."""
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            count = 0
            while True:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                piece = await reader.readexactly(size + 2)
                if how is not None and count:
                    await self._broken(how, writer)
                if writer is not None:
                    writer.write(line + piece)
                    await writer.drain()
                count += size
                if not size:
                    return count
        left = total = int(head.headers.get("content-length") or 0)
        while left:
            piece = await reader.read(min(left, _PIECE))
            if not piece:
                raise _Cut
            if how is not None and total - left + len(piece) > total // 2:
                if writer is not None:
                    writer.write(piece[: max(total // 2 - (total - left), 0)])
                await self._broken(how, writer)
            if writer is not None:
                writer.write(piece)
                await writer.drain()
            left -= len(piece)
        return total

    async def _broken(self, how: str, writer: asyncio.StreamWriter | None) -> None:
        if writer is not None:
            await writer.drain()
        if how == "hang in body":
            await self.released.wait()
        raise _Cut

    def command(self, command: dict[str, Any]) -> Any:
        do = command.pop("do")
        if do == "latency":
            self.latency_s = command["seconds"]
        elif do == "requests":
            return [asdict(request) for request in self.log]
        elif do == "connections":
            return self.clients
        elif do == "fail":
            self.faults.append(_Fault(**command))
        elif do == "reset":
            self.log.clear()
            self.faults.clear()
            self.released.set()
            self.released = asyncio.Event()
        return None


async def _main(upstream_port: int) -> None:
    server = _Server(upstream_port)
    listening = await asyncio.start_server(server.client, "127.0.0.1", 0, limit=4 * _PIECE)
    for listener in listening.sockets:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(listening.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(server.command(json.loads(line))), flush=True)
    listening.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream_port", type=int)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args().upstream_port))
