"""Sessions of aiohttp for file systems of fsspec that make requests of their own, such as those within a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import Errno, FsError
from .urls import is_itself_as_directory, redirected


async def guarded_session(**options: Any) -> Any:
    """A `ClientSession` that follows a redirect only from a name to itself with a slash behind it: `get_client` of
    fsspec's HTTPFileSystem. aiohttp would take headers and cookies of options to wherever a server sends it."""
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_check)
    others = options.pop("trace_configs", None) or []
    return aiohttp.ClientSession(trace_configs=[*others, trace], **options)


def with_guard(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for `fsspec.open(url)` whose file systems of web servers use `guarded_session`."""
    options = dict(storage_options)
    protocols = [part.partition("://")[0] for part in url.split("::")]
    for protocol in {"http", "https"} & set(protocols):
        nested = options.get(protocol)
        if protocol == protocols[0] and not isinstance(nested, Mapping):
            options.setdefault("get_client", guarded_session)
        elif nested is None or isinstance(nested, Mapping):
            options[protocol] = {"get_client": guarded_session, **(nested or {})}
    return options


async def _check(session: Any, context: Any, request: Any) -> None:
    url = str(request.url)
    target = redirected(url, request.response.headers.get("Location", ""))
    if target is None or not is_itself_as_directory(url, target):
        request.response.close()
        raise FsError(Errno.ACCES, "the server redirects to another place")


def close_session(fs: Any) -> None:
    """Close the connections of a file system that was made for one mount."""
    if fs._session is not None:
        fs.close_session(fs.loop, fs._session)
