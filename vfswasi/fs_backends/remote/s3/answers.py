"""Answers of an S3 server, bounded before botocore takes and parses them as a whole.

aiobotocore reads all of an answer that is no object into memory and parses its XML in one step, and lets aiohttp follow
redirects to any host with the headers of the request. The hook here stands in for its sending: it reads answers up to
a bound, refuses what no S3 server sends, and follows no redirect (botocore finds buckets of other regions by itself).

Source: Amazon S3 API Reference, ListObjectsV2: at most 1,000 keys in an answer.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from ....errors import Errno, FsError
from ...base import FileType
from ..client import Elsewhere, Info
from ..entries import nanoseconds
from ..http.answers import number_of, range_of

# 1,000 keys of 1,024 bytes, each byte as %XX, are 3 MiB and 30,000 tags.
ANSWER_MAX_BYTES = 8 << 20
TAGS_MAX = 64_000

# Told how many bytes of an answer came, for whoever waits for it.
received: contextvars.ContextVar[Callable[[int], None]] = contextvars.ContextVar("received")


def guard(client: Any) -> None:
    """Have a client of aiobotocore use the hook; once is as good as often."""
    sender = _Sender(client._endpoint)
    client.meta.events.register("before-send.s3", sender, unique_id="vfswasi bounded answers")


class _Sender:
    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    async def __call__(self, request: Any, **_: Any) -> Any:
        session = self._endpoint.http_session
        await _follow_nothing(session, request)
        is_object, request.stream_output = request.stream_output, True
        answer = await session.send(request)
        if not (is_object and answer.status_code < 300):
            try:
                answer._content = await _bounded(answer)
            except BaseException as error:
                await _drop(answer.raw)
                if isinstance(error, FsError) or not isinstance(error, Exception):
                    raise
                from botocore.exceptions import HTTPClientError

                raise HTTPClientError(error=error) from error  # which botocore tries again
        return answer


async def _bounded(answer: Any) -> bytes:
    """The body. Raises FsError (IO)."""
    tell = received.get(None)
    raw = answer.raw
    of_httpx = getattr(raw, "aiter_bytes", None)
    pieces = raw.content.iter_any() if of_httpx is None else of_httpx()
    body = bytearray()
    async for data in pieces:
        if tell is not None:
            tell(len(data))
        body += data
        if len(body) > ANSWER_MAX_BYTES:
            raise FsError(Errno.IO, f"an answer of the server is larger than {ANSWER_MAX_BYTES:,} bytes")
    if body.count(b"<") > TAGS_MAX:
        raise FsError(Errno.IO, f"an answer of the server has more than {TAGS_MAX:,} tags")
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise FsError(Errno.IO, "an answer of the server declares entities")
    return bytes(body)


def check_range(answer: dict[str, Any], start: int, end: int, what: str) -> None:
    """That GetObject brings the range that was asked for, before any of it is read. Raises FsError (IO)."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    told = str(answer.get("ContentRange") or "")
    first, behind, _ = range_of({"Content-Range": told})
    length = number_of(str(headers.get("content-length", end - start)))
    if (told and (first, behind) != (start, end)) or (not told and start) or length != end - start:
        raise FsError(Errno.IO, f"{what}: another range comes than bytes {start} to {end}")


async def _drop(raw: Any) -> None:
    if hasattr(raw, "aclose"):
        await raw.aclose()
    else:
        raw.close()


async def _follow_nothing(session: Any, request: Any) -> None:
    """aiohttp asks the hooks of a session before it follows a redirect; httpx follows none by itself."""
    if "httpx" in type(session).__name__.lower():
        return
    if hasattr(session, "_get_session"):
        found = await session._get_session(session._proxy_config.proxy_url_for(request.url))
    else:
        found = session._session
    hooks = found.trace_configs
    if not any(_refuse in hook.on_request_redirect for hook in hooks):
        import aiohttp

        hook = aiohttp.TraceConfig()
        hook.on_request_redirect.append(_refuse)
        hook.freeze()
        hooks.append(hook)


async def _refuse(session: Any, context: Any, request: Any) -> None:
    request.response.close()
    raise Elsewhere("the S3 server redirects to another place, which is not followed")


def info_of_key(found: dict[str, Any]) -> Info:
    """What an entry of a listing says of a key."""
    size: Any = found.get("Size")
    size = size if type(size) is int else -1  # which no file has: it is left out
    return Info(FileType.REGULAR_FILE, size, nanoseconds(found.get("LastModified")), found.get("ETag"))


def entries_of(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list in an answer, of what is an entry at all."""
    found = answer.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
