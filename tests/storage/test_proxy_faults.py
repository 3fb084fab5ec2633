"""Each fault of the proxy as a plain client meets it, and that its counts are exact."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

import pytest

from .http_server import HttpServer
from .proxy import FAULTS, Proxy
from .servers import Server

BODY = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def origin() -> Iterator[HttpServer]:
    with HttpServer({"dir/file": BODY}) as server:
        yield server


@pytest.fixture
def tap(origin: HttpServer) -> Iterator[Proxy]:
    """A proxy in front of a plain file server."""
    origin.no_length = False
    with Proxy(origin.port) as proxy:
        yield proxy


@pytest.fixture
def client(tap: Proxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", tap.port, timeout=10)
    yield connection
    connection.close()


def get(client: http.client.HTTPConnection, **headers: str) -> bytes:
    client.request("GET", "/dir/file", headers=headers)
    return client.getresponse().read()


def test_requests_are_recorded_exactly(tap: Proxy, client: http.client.HTTPConnection) -> None:
    assert get(client) == BODY
    assert get(client, **{"Range": "bytes=5-9", "If-Match": "*"}) == BODY[5:10]
    client.request("HEAD", "/dir/f%C3%A9?x=1&y")
    assert client.getresponse().read() == b""
    first, second, third = tap.requests()
    assert (first.method, first.path, first.status, first.received) == ("GET", "/dir/file", 200, len(BODY))
    assert (second.status, second.received, second.range, second.if_match) == (206, 5, "bytes=5-9", "*")
    assert (third.method, third.status, third.path, third.parameters) == ("HEAD", 404, "/dir/fé", {"x": "1", "y": ""})
    totals = tap.totals()
    assert (totals.requests, totals.received, totals.connections, totals.running_max) == (3, len(BODY) + 5, 1, 1)
    tap.reset()
    assert tap.count() == tap.bytes_out() == 0


def test_chunked_bodies_pass_and_are_counted_without_their_framing(
    tap: Proxy, origin: HttpServer, client: http.client.HTTPConnection
) -> None:
    origin.no_length = True
    assert get(client) == BODY
    assert get(client) == BODY
    assert [request.received for request in tap.requests()] == [len(BODY)] * 2


def test_latency_delays_each_request(tap: Proxy, client: http.client.HTTPConnection) -> None:
    tap.latency_s = 0.1
    before = time.monotonic()
    get(client)
    get(client)
    assert time.monotonic() - before >= 0.2


def test_each_fault_is_what_it_says(tap: Proxy) -> None:
    met: dict[str, str] = {}
    for how in FAULTS:
        if "hang" in how:
            continue
        tap.fail(how)
        client = http.client.HTTPConnection("127.0.0.1", tap.port, timeout=10)
        try:
            body = get(client)
            met[how] = f"{len(body)} bytes"
        except http.client.IncompleteRead as error:
            met[how] = f"IncompleteRead after {len(error.partial)}"
        except (http.client.HTTPException, OSError) as error:
            met[how] = type(error).__name__
        client.close()
    half = len(BODY) // 2
    assert met == {
        "cut before request": "RemoteDisconnected",
        "cut before answer": "RemoteDisconnected",
        "cut after head": "IncompleteRead after 0",
        "cut in body": "ConnectionResetError",
        "truncate": f"IncompleteRead after {half}",
        "short body": f"{half} bytes",
        "refuse": "ConnectionResetError",
    }
    counted = {request.fault: (request.status, request.received) for request in tap.requests()}
    assert counted == {
        "cut before request": (0, 0),
        "cut before answer": (0, 0),
        "cut after head": (200, 0),
        "cut in body": (200, half),
        "truncate": (200, half),
        "short body": (200, half),
    }


@pytest.mark.parametrize("how", ["hang", "hang in body"])
def test_what_hangs_goes_on_when_released(tap: Proxy, client: http.client.HTTPConnection, how: str) -> None:
    tap.fail(how)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(get(client)))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive()
    assert [request.received for request in tap.requests()] == [len(BODY) // 2 if how == "hang in body" else 0]
    tap.release()
    reader.join(10)
    assert got == [BODY]


@pytest.mark.parametrize("how", ["hang", "hang in body"])
def test_a_client_that_gives_up_leaves_no_connection(tap: Proxy, how: str) -> None:
    tap.fail(how)
    client = http.client.HTTPConnection("127.0.0.1", tap.port, timeout=0.2)
    with pytest.raises(TimeoutError):
        get(client)
    assert tap.connections() == 1
    client.close()
    give_up = time.monotonic() + 5
    while tap.connections() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert tap.connections() == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchKey"), (412, "PreconditionFailed"), (500, "InternalError"), (503, "SlowDown")],
)
def test_a_status_is_answered_by_the_proxy(
    tap: Proxy, origin: HttpServer, client: http.client.HTTPConnection, status: int, code: str
) -> None:
    before = len(origin.requests)
    tap.fail(status, method=["GET", "PUT", "HEAD"], times=3)
    client.request("PUT", "/dir/file", body=b"x" * 100_000)
    answer = client.getresponse()
    assert (answer.status, f"<Code>{code}</Code>".encode() in answer.read()) == (status, True)
    client.request("HEAD", "/dir/file")
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (status, b"")
    client.request("GET", "/dir/file")
    assert client.getresponse().read().startswith(b"<?xml")
    assert len(origin.requests) == before
    assert get(client) == BODY
    assert tap.requests()[0].sent == 100_000


def test_which_requests_fail(tap: Proxy, client: http.client.HTTPConnection) -> None:
    def statuses(*targets: str) -> list[int]:
        found = []
        for target in targets:
            client.request("GET", target)
            answer = client.getresponse()
            answer.read()
            found.append(answer.status)
        return found

    tap.fail(503, nth=2, times=2)
    assert statuses(*["/dir/file"] * 4) == [200, 503, 503, 200]
    tap.heal()
    tap.fail(503, query="a", no_query="b", times=None)
    assert statuses("/dir/file", "/dir/file?b=1&a=1", "/dir/file?a=1", "/dir/file?a") == [200, 200, 503, 503]
    tap.heal()
    tap.fail(503, path="other", times=None)
    tap.fail(503, method="PUT", times=None)
    tap.fail(503, header="Range", times=None)
    assert statuses("/dir/file", "/dir/file?other", "/dir/other") == [200, 200, 503]
    assert get(client, Range="bytes=0-0").startswith(b"<?xml")


def test_refused_clients_have_no_idle_connection_to_fall_back_on(
    tap: Proxy, client: http.client.HTTPConnection
) -> None:
    assert get(client) == BODY
    tap.fail("refuse")
    with pytest.raises((http.client.HTTPException, OSError)):
        get(client)
    client.close()
    with pytest.raises((http.client.HTTPException, OSError)):
        get(client)
    client.close()
    assert get(client) == BODY


def test_it_says_so_when_it_does_not_know_a_fault(tap: Proxy) -> None:
    with pytest.raises(ValueError, match="no status"):
        tap.fail("explode")


def test_uploads_through_it_wait_for_100_continue(s3_server: Server, proxy: Proxy) -> None:
    import s3fs

    bucket = s3_server.new_bucket()
    fs = s3fs.S3FileSystem(**s3_server.storage_options(proxy.endpoint))
    data = bytes(range(256)) * 20_000
    for _ in range(3):
        fs.call_s3("put_object", Bucket=bucket, Key="a b+é", Body=data)
    assert fs.cat_file(f"{bucket}/a b+é") == data
    with pytest.raises(OSError, match=r"(?i)pre-?condition|exists"):
        fs.call_s3("put_object", Bucket=bucket, Key="a b+é", Body=data, IfNoneMatch="*")
    uploads = [request for request in proxy.requests() if request.kind == "PutObject"]
    assert [request.sent for request in uploads[:3]] == [len(data)] * 3
    assert [request.status for request in uploads] == [200, 200, 200, 412]
