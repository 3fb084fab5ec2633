"""`Proxy`: counts, delays and breaks the requests on their way to a server. Runs in a process of its own."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

FAULTS = {
    "cut before request": "read the head of the request, close; the server hears nothing",
    "cut before answer": "the server does what was asked, then close without a byte of its answer",
    "cut after head": "close after the head of the answer",
    "cut in body": "half of the body, then a TCP reset",
    "truncate": "half of the body, then an orderly close, although Content-Length promised more",
    "short body": "half of the body, and a Content-Length that says so",
    "refuse": "a TCP reset: when a client connects, or with conditions when a request comes that fits them",
    "hang": "say nothing until `release`, then go on",
    "hang in body": "half of the body, then nothing until `release`, then the rest",
}


@dataclass(frozen=True)
class Request:
    """A request that reached the proxy.

    path is decoded, target is as it came. status is 0 if the client was sent none. sent and received are bytes of the
    bodies, as the client sees it. headers have lower-case names. fault is what `fail` did to it. started and ended are
    seconds of one clock; ended is 0 while it runs.
    """

    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    sent: int
    received: int
    fault: str | int | None
    started: float
    ended: float

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def if_match(self) -> str | None:
        return self.headers.get("if-match")

    @property
    def if_none_match(self) -> str | None:
        return self.headers.get("if-none-match")

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def kind(self) -> str:
        """What the request is in terms of S3: "GetObject", "ListObjectsV2", "UploadPart"..."""
        names = set(self.parameters)
        bucket_only = self.path.strip("/").count("/") == 0
        if self.method == "GET" and bucket_only:
            return "ListObjectsV2" if "list-type" in names else "ListMultipartUploads" if "uploads" in names else "GET"
        if self.method == "PUT" and "partNumber" in names:
            return "UploadPartCopy" if "x-amz-copy-source" in self.headers else "UploadPart"
        if self.method == "PUT":
            copies = "x-amz-copy-source" in self.headers
            return "CreateBucket" if bucket_only else "CopyObject" if copies else "PutObject"
        if self.method == "POST":
            for name, kind in (
                ("uploads", "CreateMultipartUpload"),
                ("uploadId", "CompleteMultipartUpload"),
                ("delete", "DeleteObjects"),
            ):
                if name in names:
                    return kind
        if self.method == "DELETE":
            return "AbortMultipartUpload" if "uploadId" in names else "DeleteObject"
        plain = {"GET": "GetObject", "HEAD": "HeadBucket" if bucket_only else "HeadObject"}
        return plain.get(self.method, self.method)

    def __str__(self) -> str:
        extra = "".join(f" {name}={value}" for name in ("range", "if_match") if (value := getattr(self, name)))
        fault = f" [{self.fault}]" if self.fault else ""
        return f"{self.method} {self.target}{extra} -> {self.status}, {self.sent} up, {self.received} down{fault}"


@dataclass(frozen=True)
class Totals:
    """Sums since the last `reset`. running_max is the most requests at one time; running those of this moment."""

    requests: int
    received: int
    sent: int
    connections: int
    running_max: int
    running: int


class Proxy:
    """A context manager; thread-safe."""

    def __init__(self, upstream_port: int, upstream_host: str = "127.0.0.1", *, latency_s: float = 0.0) -> None:
        program = Path(__file__).with_name("proxy_process.py")
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, "-I", str(program), upstream_host, str(upstream_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._latency_s = 0.0
        atexit.register(self.stop)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the proxy did not start")
        self.port: int = json.loads(line)["port"]
        self.latency_s = latency_s

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _ask(self, name: str, **arguments: Any) -> Any:
        with self._lock:
            process = self._process
            if process is None:
                raise RuntimeError("the proxy is stopped")
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([name, arguments]) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or '{"error": "the proxy is gone"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["reply"]

    @property
    def latency_s(self) -> float:
        """Seconds before each request is forwarded."""
        return self._latency_s

    @latency_s.setter
    def latency_s(self, seconds: float) -> None:
        self._ask("latency", seconds=seconds)
        self._latency_s = seconds

    def requests(self) -> list[Request]:
        """All requests since the last `reset`, in the order in which they came."""
        return [Request(**record) for record in self._ask("records")]

    def kinds(self) -> list[str]:
        """`Request.kind` of each."""
        return [request.kind for request in self.requests()]

    def totals(self) -> Totals:
        return Totals(**self._ask("totals"))

    def connections(self) -> int:
        """How many clients are connected at this moment."""
        return int(self._ask("open"))

    def count(self) -> int:
        return self.totals().requests

    def bytes_out(self) -> int:
        """Bytes of response bodies since the last `reset`."""
        return self.totals().received

    def bytes_in(self) -> int:
        """Bytes of request bodies since the last `reset`."""
        return self.totals().sent

    def reset(self) -> None:
        """Forget the requests; the faults stay."""
        self._ask("reset")

    def fail(
        self,
        how: str | int,
        *,
        method: str | Iterable[str] | None = None,
        path: str | None = None,
        target: str | None = None,
        query: str | Iterable[str] = (),
        no_query: str | Iterable[str] = (),
        header: str | Iterable[str] = (),
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let the `nth` request that matches from now on, and the `times - 1` after it, fail (None: all after it).

        how: a key of FAULTS, or a status that the proxy answers by itself, with S3's error as its body. method: one or
        several. path, target: parts of the decoded path, and of the raw one with its query. query: parts of the raw
        query, one or several, that must all be there; no_query: that must not. header: names. Of several faults that
        fit, the first counts. "refuse" without a condition closes idle connections, and then counts new ones.
        """
        if not isinstance(how, int) and how not in FAULTS:
            raise ValueError(f"{how!r} is none of {', '.join(FAULTS)}, and no status")
        match: dict[str, Any] = {
            name: part for name, part in (("path", path), ("target", target)) if part is not None
        } | {
            name: [names] if isinstance(names, str) else list(names)
            for name, names in (("method", method), ("query", query), ("no_query", no_query), ("header", header))
            if names
        }
        self._ask("fail", match=match, nth=nth, times=times, how=how)

    def release(self) -> None:
        """Let those that hang go on."""
        self._ask("release")

    def heal(self) -> None:
        """No more faults; those that hang go on."""
        self._ask("heal")

    def close_idle(self) -> None:
        """Close the connections on which no request runs."""
        self._ask("close idle")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        process.kill()
        process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
