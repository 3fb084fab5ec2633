"""The proxy of these tests does what it says."""

from __future__ import annotations

import http.client
import time

import pytest

from .proxy import FAULTS, Proxy
from .servers import Server

BODY = bytes(range(256)) * 1024


@pytest.fixture
def bucket(s3_server: Server) -> str:
    name = s3_server.new_bucket()
    s3_server.file_system().call_s3("put_object", Bucket=name, Key="obj", Body=BODY)
    return name


def fetch(server: Server, proxy: Proxy, bucket: str) -> bytes:
    import s3fs

    fs = s3fs.S3FileSystem(**server.storage_options(proxy.endpoint))
    fs.retries = 1
    data: bytes = fs.cat_file(f"{bucket}/obj")
    return data


def test_it_passes_signed_requests_and_counts(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    proxy.latency_s = 0.05
    before = time.monotonic()
    assert fetch(s3_server, proxy, bucket) == BODY
    assert time.monotonic() - before >= 0.05
    (request,) = [
        request for request in proxy.requests() if request.path == f"/{bucket}/obj" and request.method == "GET"
    ]
    assert (request.method, request.status, request.received) == ("GET", 200, len(BODY))
    proxy.reset()
    assert proxy.requests() == []


@pytest.mark.parametrize("how", [*FAULTS, 403, 500, 503])
def test_each_fault_is_met_once(s3_server: Server, proxy: Proxy, bucket: str, how: str | int) -> None:
    proxy.fail(how, method="GET", path="/obj")
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=1)
    connection.request("GET", f"/{bucket}/obj")
    status, body = 0, b""
    try:
        answer = connection.getresponse()
        status = answer.status
        body = answer.read()
    except http.client.IncompleteRead as error:
        body = error.partial
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    if isinstance(how, int):
        assert status == how
        assert b"<Code>" in body
    else:
        assert b"</Error>" not in body  # that of the server, which does not know us
    assert fetch(s3_server, proxy, bucket) == BODY
