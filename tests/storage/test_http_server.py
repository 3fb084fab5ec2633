"""The HTTP server of these tests answers as real ones do, and lacks what it is told to lack."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from .http_server import HttpServer

BODY = bytes(range(256)) * 1000

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer({"file": BODY, "dir/a b": b"1", "dir/sub/c": b"22", "empty": b""}) as made:
        yield made


def ask(server: HttpServer, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_files_and_ranges(server: HttpServer) -> None:
    status, headers, body = ask(server, "/file")
    assert (status, body, headers["content-length"]) == (200, BODY, str(len(BODY)))
    assert ask(server, "/file", "HEAD")[:2] == (200, headers | {"date": ask(server, "/file", "HEAD")[1]["date"]})
    status, headers, body = ask(server, "/file", Range="bytes=10-19")
    assert (status, body, headers["content-range"]) == (206, BODY[10:20], f"bytes 10-19/{len(BODY)}")
    assert ask(server, "/file", Range="bytes=-5")[2] == BODY[-5:]
    assert ask(server, "/file", Range=f"bytes={len(BODY) - 3}-")[2] == BODY[-3:]
    assert ask(server, "/file", Range=f"bytes={len(BODY)}-")[0] == 416
    assert ask(server, "/empty")[::2] == (200, b"")
    assert ask(server, "/none")[0] == 404
    assert [(got.method, got.range, got.sent) for got in server.requests[-6:-3]] == [
        ("GET", "bytes=10-19", 10),
        ("GET", "bytes=-5", 5),
        ("GET", f"bytes={len(BODY) - 3}-", 3),
    ]


def test_conditions(server: HttpServer) -> None:
    etag = ask(server, "/file")[1]["etag"]
    assert ask(server, "/file", If_Match=etag)[0] == 200
    assert ask(server, "/file", If_None_Match=etag)[0] == 304
    server.put("file", b"new")
    assert ask(server, "/file", If_Match=etag)[0] == 412
    assert ask(server, "/file", If_Range=etag, Range="bytes=0-0")[::2] == (200, b"new")


def test_index_pages(server: HttpServer) -> None:
    assert b'href="dir/"' in ask(server, "/")[2]
    page = ask(server, "/dir/")[2]
    assert b'href="a%20b"' in page
    assert b'href="sub/"' in page
    assert ask(server, "/dir")[0] == 301
    assert ask(server, "/nothing/")[0] == 404
    server.no_index = True
    assert ask(server, "/dir/")[0] == 404


def test_switches(server: HttpServer) -> None:
    server.ignore_range = True
    assert ask(server, "/file", Range="bytes=0-9")[::2] == (200, BODY)
    server.no_length = True
    status, headers, body = ask(server, "/file")
    assert (status, body, "content-length" in headers) == (200, BODY, False)
    assert "content-length" not in ask(server, "/file", "HEAD")[1]
    server.no_length = False
    server.no_etag = server.no_modified = True
    headers = ask(server, "/file", If_Match='"other"')[1]
    assert headers.keys().isdisjoint({"etag", "last-modified"})
    server.no_head = True
    assert ask(server, "/file", "HEAD")[0] == 405
    server.status = 503
    assert ask(server, "/file")[0] == 503
