"""The process behind `Proxy`: an HTTP/1.1 proxy that counts, delays and breaks. Driven by lines of JSON on stdin.

Bytes pass through unchanged, the Host header included, so that signatures stay valid. Connections are kept alive on
both sides, one to the server for each of the client's. Ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

BLOCK = 256 << 10
HEAD_MAX = 64 << 10
UNTIL_CLOSE = -1
CHUNKED = -2

ERRORS = {
    403: ("Forbidden", "AccessDenied", "Access Denied"),
    404: ("Not Found", "NoSuchKey", "The specified key does not exist."),
    409: ("Conflict", "ConditionalRequestConflict", "A conflicting operation happened."),
    412: ("Precondition Failed", "PreconditionFailed", "At least one of the pre-conditions did not hold"),
    429: ("Too Many Requests", "TooManyRequests", "Please reduce your request rate."),
    500: ("Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
    501: ("Not Implemented", "NotImplemented", "A header you provided implies functionality that is not implemented"),
    503: ("Service Unavailable", "SlowDown", "Please reduce your request rate."),
    507: ("Insufficient Storage", "InsufficientStorage", "There is no room."),
}

Record = dict[str, Any]


class Cut(Exception):
    """The connection is at its end."""


class Stream:
    """A socket with what was read from it too far."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.ahead = b""
        self._loop = asyncio.get_running_loop()
        self._block = bytearray(BLOCK)

    async def some(self, most: int = BLOCK) -> memoryview:
        """At least a byte; valid until the next call. Raises Cut at the end."""
        if self.ahead:
            taken, self.ahead = self.ahead[:most], self.ahead[most:]
            return memoryview(taken)
        view = memoryview(self._block)
        got = await self._loop.sock_recv_into(self.sock, view[: min(most, BLOCK)])
        if not got:
            raise Cut
        return view[:got]

    async def until(self, mark: bytes) -> bytes:
        """All that comes, to the end of `mark`."""
        start = 0
        while (end := self.ahead.find(mark, start)) < 0:
            start = max(0, len(self.ahead) - len(mark) + 1)
            if len(self.ahead) > HEAD_MAX:
                raise Cut
            more = await self._loop.sock_recv(self.sock, HEAD_MAX)
            if not more:
                raise Cut
            self.ahead += more
        end += len(mark)
        taken, self.ahead = self.ahead[:end], self.ahead[end:]
        return taken

    async def send(self, data: bytes | memoryview) -> None:
        await self._loop.sock_sendall(self.sock, data)

    def ended(self) -> bool:
        """Whether the other side has closed a connection on which nothing is expected."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self, *, reset: bool = False) -> None:
        try:
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass


class Head:
    """The first line and the headers of a message."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        self.first = first.split(" ", 2)
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    @property
    def last(self) -> bool:
        """Whether the sender closes the connection after this message."""
        connection = self.headers.get("connection", "").lower()
        version = self.first[2] if self.first[0][:5] != "HTTP/" else self.first[0]
        return "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)

    def body(self) -> int:
        """Bytes of the body, or CHUNKED. 0 if nothing says that there is one."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return CHUNKED
        return int(self.headers.get("content-length") or 0)

    def with_header(self, name: str, value: str) -> bytes:
        """The raw head with one header replaced."""
        first, *lines = self.raw[:-4].split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].strip().lower() != name.lower().encode()]
        return b"\r\n".join([first, *kept, f"{name}: {value}".encode(), b"", b""])


async def relay(source: Stream, length: int, send: Callable[[bytes | memoryview, int], Awaitable[None]]) -> None:
    """Pass a body on as it comes: `send(data, bytes of it that are body)`."""
    if length == UNTIL_CLOSE:
        while True:
            try:
                data = await source.some()
            except Cut:
                return
            await send(data, len(data))
    elif length != CHUNKED:
        while length:
            data = await source.some(length)
            length -= len(data)
            await send(data, len(data))
    else:
        while True:
            line = await source.until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if not size:
                while line != b"\r\n":  # trailers
                    await send(line, 0)
                    line = await source.until(b"\r\n")
                await send(line, 0)
                return
            await send(line, 0)
            await relay(source, size, send)
            await send(await source.until(b"\r\n"), 0)


class Fault:
    """What goes wrong with which requests: the `nth` that matches from now on, and the `times - 1` after it."""

    def __init__(self, match: dict[str, Any], nth: int, times: int | None, how: str | int) -> None:
        self.match = match
        self.first = nth
        self.last = None if times is None else nth + times - 1
        self.how = how
        self.seen = 0

    def hits(self, record: Record | None) -> bool:
        """Counts the request; `record` is None for a connection."""
        if (record is None) != (self.how == "refuse" and not self.match):
            return False
        if record is not None and not matches(record, self.match):
            return False
        self.seen += 1
        return self.first <= self.seen and (self.last is None or self.seen <= self.last)


def matches(record: Record, match: dict[str, Any]) -> bool:
    return (
        ("method" not in match or record["method"] in match["method"])
        and ("path" not in match or match["path"] in record["path"])
        and ("target" not in match or match["target"] in record["target"])
        and ("query" not in match or all(part in record["query"] for part in match["query"]))
        and ("no_query" not in match or not any(part in record["query"] for part in match["no_query"]))
        and ("header" not in match or {name.lower() for name in match["header"]} <= set(record["headers"]))
    )


class Proxy:
    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.latency_s = 0.0
        self.records: list[Record] = []
        self.faults: list[Fault] = []
        self.connections = 0
        self.running = 0
        self.running_max = 0
        self.idle: set[Stream] = set()
        self.go_on = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            self.connections += 1
            if self.fault(None):
                Stream(sock).close(reset=True)
                continue
            task = asyncio.create_task(self.serve(Stream(sock)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def fault(self, record: Record | None) -> str | int | None:
        chosen: str | int | None = None
        for fault in self.faults:
            if fault.hits(record) and chosen is None:
                chosen = fault.how
        return chosen

    async def serve(self, client: Stream) -> None:
        """All requests of one connection."""
        server: Stream | None = None
        try:
            while True:
                self.idle.add(client)
                head = Head(await client.until(b"\r\n\r\n"))
                self.idle.discard(client)
                if server is not None and server.ended():
                    server.close()
                    server = None
                record = self.note(head)
                self.running += 1
                self.running_max = max(self.running_max, self.running)
                try:
                    server = await self.exchange(client, server, head, record)
                finally:
                    self.running -= 1
                    record["ended"] = time.monotonic()
        except (Cut, OSError, ValueError):
            pass
        finally:
            self.idle.discard(client)
            client.close()
            if server is not None:
                server.close()

    def note(self, head: Head) -> Record:
        path, _, query = head.first[1].partition("?")
        record = {
            "method": head.first[0],
            "target": head.first[1],
            "path": unquote(path),
            "query": query,
            "headers": head.headers,
            "status": 0,
            "sent": 0,
            "received": 0,
            "fault": None,
            "started": time.monotonic(),
            "ended": 0.0,
        }
        self.records.append(record)
        record["fault"] = self.fault(record)
        return record

    async def exchange(self, client: Stream, server: Stream | None, head: Head, record: Record) -> Stream:
        """One request and its answer; returns the connection to the server. Raises Cut if no other can follow."""
        how = record["fault"]
        if how == "cut before request":
            raise Cut
        if how == "refuse":
            client.close(reset=True)
            raise Cut
        if how == "hang":
            await self.hang(client)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if isinstance(how, int):
            await self.answer(client, head, record, how)
            if head.last:
                raise Cut
            return server or await self.connect()
        server = server or await self.connect()
        upload: asyncio.Task[None] | None = None
        try:
            await server.send(head.raw)
            length = head.body()
            if length:

                async def up(data: bytes | memoryview, counted: int) -> None:
                    record["sent"] += counted
                    await server.send(data)

                upload = asyncio.create_task(relay(client, length, up))
            reply = Head(await server.until(b"\r\n\r\n"))
            while reply.first[1].startswith("1"):
                await client.send(reply.raw)
                reply = Head(await server.until(b"\r\n\r\n"))
            closing = head.last or reply.last
            raw = reply.raw
            if upload is not None and not await self.finished(upload, record):
                closing = True  # the rest of the body would be taken for the next request
                raw = reply.with_header("Connection", "close")
            await self.give_back(client, server, head, reply, raw, record)
            if closing:
                raise Cut
        except BaseException:
            server.close()
            raise
        finally:
            if upload is not None:
                upload.cancel()
                await asyncio.gather(upload, return_exceptions=True)
        return server

    async def hang(self, client: Stream) -> None:
        """Until `release`, or until the client has gone, even if it left data behind."""
        poll = select.poll()
        poll.register(client.sock, select.POLLRDHUP)
        while not self.go_on.is_set():
            if poll.poll(0):
                raise Cut
            try:
                await asyncio.wait_for(self.go_on.wait(), 0.05)
            except TimeoutError:
                pass

    async def connect(self) -> Stream:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.upstream)
        except BaseException:
            sock.close()
            raise
        return Stream(sock)

    @staticmethod
    async def finished(upload: asyncio.Task[None], record: Record) -> bool:
        """Whether the whole body went out. An answer that comes before it is over is final."""
        declined = not record["sent"] and "100-continue" in record["headers"].get("expect", "").lower()
        done, _ = await asyncio.wait({upload}, timeout=0 if declined else 0.2)
        return bool(done) and upload.exception() is None

    async def give_back(
        self, client: Stream, server: Stream, head: Head, reply: Head, raw: bytes, record: Record
    ) -> None:
        how = record["fault"]
        if how == "cut before answer":
            raise Cut
        length = reply.body()
        if length == 0 and "content-length" not in reply.headers:
            length = UNTIL_CLOSE
        if head.first[0] == "HEAD" or reply.first[1] in ("204", "304"):
            length = 0
        half = length // 2 if length > 0 else 1
        if how == "short body" and length > 0:
            raw = reply.with_header("Content-Length", str(half))
        record["status"] = int(reply.first[1])
        await client.send(raw)
        if how == "cut after head":
            raise Cut

        async def down(data: bytes | memoryview, counted: int) -> None:
            if counted and how in ("cut in body", "truncate", "short body", "hang in body"):
                left = max(0, half - record["received"])
                if counted >= left:
                    await self.at_half(client, data, left, record)
            record["received"] += counted
            await client.send(data)

        if how != "hang in body":
            await relay(server, length, down)
            return

        held = False

        async def hold(data: bytes | memoryview, counted: int) -> None:
            nonlocal held
            if counted and not held and record["received"] + counted >= half:
                held = True
                left = half - record["received"]
                record["received"] += left
                await client.send(data[:left])
                await self.hang(client)
                data, counted = data[left:], counted - left
            record["received"] += counted
            await client.send(data)

        await relay(server, length, hold)

    @staticmethod
    async def at_half(client: Stream, data: bytes | memoryview, left: int, record: Record) -> None:
        record["received"] += left
        await client.send(data[:left])
        if record["fault"] == "cut in body":
            await asyncio.sleep(0.02)  # what was sent arrives; the reset would overtake it
            client.close(reset=True)
        raise Cut

    async def answer(self, client: Stream, head: Head, record: Record, status: int) -> None:
        """An error as S3 words it, after the request's body, if there is one."""
        reason, code, message = ERRORS.get(status, ("Error", "Error", "Error"))
        length = head.body()
        declined = "100-continue" in head.headers.get("expect", "").lower()
        if length and not declined:

            async def drop(data: bytes | memoryview, counted: int) -> None:
                record["sent"] += counted

            await relay(client, length, drop)
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            f"<Resource>{head.first[1].partition('?')[0]}</Resource><RequestId>proxy</RequestId></Error>"
        ).encode()
        closing = "Connection: close\r\n" if length and declined else ""
        record["status"] = status
        lines = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\n{closing}"
        if head.first[0] == "HEAD":
            await client.send(f"{lines}\r\n".encode())
        else:
            record["received"] = len(body)
            await client.send(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if closing:
            raise Cut

    # Control

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == "latency":
            self.latency_s = arguments["seconds"]
        elif name == "records":
            return self.records
        elif name == "totals":
            return {
                "requests": len(self.records),
                "received": sum(record["received"] for record in self.records),
                "sent": sum(record["sent"] for record in self.records),
                "connections": self.connections,
                "running_max": self.running_max,
                "running": self.running,
            }
        elif name == "reset":
            self.records = []
            self.connections = 0
            self.running_max = self.running
        elif name == "fail":
            self.faults.append(Fault(**arguments))
            self.go_on.clear()
            if arguments["how"] == "refuse" and not arguments["match"]:
                self.close_idle()
        elif name == "open":
            return len(self.tasks)
        elif name == "close idle":
            self.close_idle()
        elif name == "heal":
            self.faults = []
            self.go_on.set()
        elif name == "release":
            self.go_on.set()
        else:
            raise ValueError(name)
        return None

    def close_idle(self) -> None:
        for stream in self.idle:
            try:
                stream.sock.shutdown(socket.SHUT_RDWR)  # its task wakes up and closes it
            except OSError:
                pass


async def main(host: str, port: int) -> None:
    proxy = Proxy((host, port))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    accepting = asyncio.create_task(proxy.accept(listener))
    commands = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    while line := await commands.readline():
        name, arguments = json.loads(line)
        try:
            reply = {"reply": proxy.command(name, arguments)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    accepting.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
