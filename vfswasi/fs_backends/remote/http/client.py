"""Files of a web server: what links on a page below the mount's URL name, and whatever else can be asked for by name.

A name is a directory if its page links to `name/`, or if the server redirects it to itself with a slash at the end. A
file that no page links to is found by its name all the same. Directories without a page are empty.

Of fsspec's file system only the session is used, with its options: it follows redirects anywhere, takes every answer
whole, and looks for links with expressions that a page can make run for minutes.

- A redirect is followed within the mount: the same origin, below the root. Others are ACCES. With `redirects` a file
  may also come from elsewhere, asked for over a session that knows nothing of ours.
- An answer is read as far as was asked for. Ranges, lengths, versions and encodings are checked (`http_answers`).
- A server without ranges, or one that does not say how large a file is, sends it once, into a file of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import aiohttp
import yarl

from ....errors import Errno, FsError, MountError
from ....printing import counted
from ... import waiting
from ...base import FileType, Key
from ...charge import Charge
from ..client import DIRECTORY, Data, Elsewhere, Info, Page
from ..fsspec.client import FsspecClient
from ..translate import http_status, translated
from . import answers as http_answers
from .answers import Charger, Decoder, Headers
from .page import links
from .urls import Root, is_itself_as_directory, names_on_page, redirected, shown

T = TypeVar("T")

_HOPS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MISSING = frozenset({404, 410})
_CLOSING_S = 0.5
# Ours in every request, whatever options say.
_OURS = frozenset({"accept-encoding", "range", "if-match", "if-range", "if-none-match", "if-modified-since"})


class HttpClient(FsspecClient):
    """Everything below one URL; read-only.

    redirects: files may come from where the server says, whatever that is.
    """

    lists_all = False

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        timeout_s: float = 30.0,
        close_fs: Callable[[], None] | None = None,
        redirects: bool = False,
    ) -> None:
        super().__init__(fs, root, timeout_s=timeout_s, close_fs=close_fs)
        if not (self._is_async and hasattr(fs, "set_session")):
            raise MountError(
                f"{type(fs).__name__} cannot be mounted; web servers are reached by fsspec's HTTPFileSystem"
            )
        self.lists_first = False
        self.writes = False
        urlsplit(self.root)  # ValueError: it is no URL
        self._root = str(yarl.URL(self.root, encoded=bool(getattr(fs, "encoded", False))))
        self._inside = Root(self._root)
        self._redirects = redirects
        self._elsewhere: aiohttp.ClientSession | None = None
        self.name = shown(self._root).rstrip("/")
        self._pinned: dict[Key, str] = {}
        if redirects:
            self.identity = (self.identity, "redirects")

    def path(self, key: Key) -> str:
        """The URL, encoded."""
        if key in self._pinned:
            return self._pinned[key]
        parts = urlsplit(self._root)
        below = "".join("/" + quote(name, safe="") for name in key)
        return parts._replace(path=parts.path.rstrip("/") + (below or "/")).geturl()

    def pin(self, key: Key, url: str) -> None:
        """`key` is what this URL leads to, query and spelling included."""
        self._pinned[key] = str(self.fs.encode_url(url))
        self.identity = (self.identity, key, self._pinned[key])  # two queries are two files

    # Requests

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a request on fsspec's loop. Raises DQUOT."""
        try:
            waiting.spend(requests=1)
        except FsError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, self.fs.loop)

    def _run(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        """Raises FsError."""
        return self._waited(self._begin(work), f"{self.name}/: {what}")

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, url: str, headers: dict[str, str], charge: Charger, *, leaves: bool = False
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """The answer, its body not read yet, and the URL it came from, after redirects. The first request is charged.

        leaves: redirects may lead elsewhere, if the mount has that. Raises `Elsewhere`, IO.
        """
        own = True
        for hop in range(_HOPS_MAX + 1):
            if hop:
                charge(1, 0)
            self.counter.count(requests=1)
            answer = await self._send(method, url, headers, own)
            try:
                if answer.status not in _REDIRECTS:
                    yield answer, url
                    return
                location = answer.headers.get("Location", "")
            finally:
                # What is left of a body is not waited for.
                answer.release() if answer.content.at_eof() else answer.close()
            target = redirected(url, location)
            if own and target is not None and is_itself_as_directory(url, target):
                raise _Directory(Errno.IO, f"{self.name}: it is a directory now")
            if own and target is not None and self._inside.holds(target) and _keeps_kind(url, target.path):
                url = self._inside.url_of(target)
            elif leaves and target is not None and self._may_leave(url, target):
                own, url = False, target._replace(fragment="").geturl()
            else:
                where = shown(location if target is None else target.geturl())
                raise Elsewhere(f"{self.name}: it redirects to {where}, which is not followed; mount that URL instead")
        raise FsError(Errno.IO, f"{self.name}: more than {_HOPS_MAX} redirects")

    def _may_leave(self, url: str, target: SplitResult) -> bool:
        """Files alone, never with a name and password that a server gives, and not out of TLS."""
        kept = target.scheme == "https" or urlsplit(url).scheme == "http"
        return self._redirects and kept and "@" not in target.netloc

    async def _send(self, method: str, url: str, headers: dict[str, str], own: bool) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s)
        options: dict[str, Any] = {"allow_redirects": False, "auto_decompress": False, "timeout": timeout}
        headers = {"Accept-Encoding": "identity", **headers}
        if own:
            given = dict(self.fs.kwargs)
            theirs = dict(given.pop("headers", None) or {})
            theirs = {name: value for name, value in theirs.items() if str(name).lower() not in _OURS}
            session = await self.fs.set_session()
            options = {**given, **options, "headers": {**theirs, **headers}}
        else:
            if self._elsewhere is None:
                self._elsewhere = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            session = self._elsewhere
            options["headers"] = headers
        answer: aiohttp.ClientResponse = await session.request(method, yarl.URL(url, encoded=True), **options)
        return answer

    # Looking

    def info(self, key: Key) -> Info | None:
        if not key:
            return self._root_info()
        try:
            return self._run("look", self._look(self.path(key), waiting.charger()))
        except _Directory:
            return DIRECTORY

    def _root_info(self) -> Info:
        """A server need not have a page for the directory, or show it; an answer has to come."""
        try:
            self._run("look", self._look(self.path(()), waiting.charger()))
        except _Directory:
            pass
        except FsError as error:
            if http_status(error) not in (403, 405):
                raise
        return DIRECTORY

    async def _look(self, url: str, charge: Charger) -> Info | None:
        what = f"{self.name}/: look"
        async with self._asked("HEAD", url, {}, charge, leaves=True) as (answer, _):
            status, headers = answer.status, answer.headers.copy()
        if status in _MISSING:
            return None
        if status == 401:
            raise _Status(status, what)
        if status == 200 and (size := http_answers.length_of(headers)) is not None:
            return _info(headers, size)
        # Some servers answer HEAD wrongly, or say more when they are asked for a range.
        charge(1, 0)
        async with self._asked("GET", url, {"Range": "bytes=0-0"}, charge, leaves=True) as (answer, _):
            status, headers = answer.status, answer.headers.copy()
        if status in _MISSING:
            return None
        if http_answers.is_encoded(headers) and status in (200, 206):
            return _info(headers, None)
        if status in (206, 416):
            return _info(headers, http_answers.range_of(headers)[2])
        if status == 200:
            return _info(headers, http_answers.length_of(headers))
        raise _Status(status, what)

    def pages(self, key: Key) -> Iterator[Page]:
        here = self.path(key)
        parts = urlsplit(here)
        if not parts.path.endswith("/"):
            here = parts._replace(path=parts.path + "/").geturl()
        # Where the request is given up, it may still be running: then the memory is given back when it has ended.
        memory = Charge(waiting.buffers())
        found = self._run("list", self._page(here, waiting.charger(), memory))
        if found is None:
            if not key:
                yield {}, True
            return
        body, final, headers = found
        what = f"{self.name}: list"
        try:
            names = names_on_page(
                links(body, http_answers.charset_of(headers), lambda: waiting.check_time(what)) if body else (),
                here,
                final,
                waiting.check_entries,
            )
        finally:
            del found, body
            memory.close()
        yield {name: DIRECTORY if below else Info(FileType.REGULAR_FILE, None) for name, below in names.items()}, True

    async def _page(self, url: str, charge: Charger, memory: Charge) -> tuple[bytes, str, Headers] | None:
        """A directory's page: at most `PAGE_MAX_BYTES`, which are taken from `memory`. None: there is none."""
        what = f"{self.name}: list"
        async with self._asked("GET", url, {}, charge) as (answer, final):
            if answer.status in _MISSING:
                return None
            if answer.status != 200:
                raise _Status(answer.status, what)
            headers = answer.headers.copy()
            if not http_answers.is_html(headers):
                return b"", final, headers
            decoder = Decoder(headers, http_answers.PAGE_MAX_BYTES, what)
            body = bytearray()
            try:
                async for data in answer.content.iter_any():
                    self.counter.count(received=len(data))
                    charge(0, len(data))
                    for piece in decoder.pieces(data):
                        memory.take(len(piece))
                        body += piece
                decoder.finish()
                return bytes(body), final, headers
            except BaseException:
                memory.close()  # now: an error and what it was raised in hold each other
                raise

    # Reading

    def fetch(self, key: Key, info: Info, start: int, end: int) -> Future[Data]:
        return self._begin(self._range(self.path(key), info, start, end, waiting.charger()))

    async def _range(self, url: str, info: Info, start: int, end: int, charge: Charger) -> Data:
        what = f"{self.name}: read"
        headers = {"Range": f"bytes={start}-{end - 1}", **_condition(info)}
        try:
            async with self._asked("GET", url, headers, charge, leaves=True) as (answer, _):
                alone = http_answers.check_range(answer.status, answer.headers, info, start, end, what)
                return await self._taken(answer, end - start, alone, what)
        except (asyncio.CancelledError, FsError):
            raise
        except Exception as error:
            failed = translated(error, what)
        raise failed

    async def _taken(self, answer: aiohttp.ClientResponse, count: int, alone: bool, what: str) -> Data:
        """The first bytes of a body, which has to have so many; alone: and no more."""
        data, done = bytearray(count), 0
        async for piece in answer.content.iter_any():
            self.counter.count(received=len(piece))
            more = min(len(piece), count - done)
            data[done : done + more] = piece[:more]
            done += more
            if more < len(piece) and alone:
                raise FsError(Errno.IO, f"{what}: more than {counted(count, 'byte')} come")
            if done == count and not alone:
                break
        if done != count:
            raise FsError(Errno.IO, f"{what}: {counted(done, 'byte')} came instead of {count:,}")
        return data

    def download(self, key: Key, info: Info, write: Callable[[Data], None]) -> None:
        what = f"{self.name}: read"
        stack = contextlib.AsyncExitStack()
        try:
            answer = self._run("read", self._opened(stack, self.path(key), info, waiting.charger()))
            decoder = Decoder(answer.headers, http_answers.WHOLE_MAX_BYTES, what)
            while data := self._step(_piece(answer), what):
                self.counter.count(received=len(data))
                for piece in decoder.pieces(data):
                    waiting.check_time(what)
                    waiting.spend(count=len(piece))
                    if info.size is not None and decoder.count > info.size:
                        raise FsError(Errno.IO, f"{what}: more than {counted(info.size, 'byte')} come")
                    write(piece)
            decoder.finish()
            if info.size is not None and decoder.count != info.size:
                raise FsError(Errno.STALE, f"{what}: {counted(decoder.count, 'byte')} came instead of {info.size:,}")
        finally:
            asyncio.run_coroutine_threadsafe(stack.aclose(), self.fs.loop)

    async def _opened(
        self, stack: contextlib.AsyncExitStack, url: str, info: Info, charge: Charger
    ) -> aiohttp.ClientResponse:
        asked = self._asked("GET", url, _condition(info), charge, leaves=True)
        answer, _ = await stack.enter_async_context(asked)
        if answer.status != 200:
            raise _Status(answer.status, f"{self.name}: read")
        http_answers.check_version(answer.headers, http_answers.length_of(answer.headers), info, f"{self.name}: read")
        return answer

    def _step(self, work: Coroutine[Any, Any, T], what: str) -> T:
        """Of an answer that is coming; no request of its own. Raises FsError."""
        return self._waited(asyncio.run_coroutine_threadsafe(work, self.fs.loop), what)

    def _waited(self, future: Future[T], what: str) -> T:
        try:
            return waiting.result(future, self.timeout_s, what)
        except FsError:
            raise
        except Exception as error:
            failed = translated(error, what)
        raise failed  # without aiohttp's own, which shows the request's URL and headers

    def close(self) -> None:
        session, self._elsewhere = self._elsewhere, None
        if session is not None:
            closing = asyncio.run_coroutine_threadsafe(session.close(), self.fs.loop)
            with contextlib.suppress(Exception):
                closing.result(_CLOSING_S)
        super().close()


class _Directory(FsError):
    """The name is that of a directory."""


class _Status(FsError):
    """An answer that is an error. status: its number."""

    def __init__(self, status: int, what: str) -> None:
        number = http_answers.error_of(status, what)
        super().__init__(number.errno, number.detail)
        self.status = status


def _keeps_kind(url: str, path: str) -> bool:
    """Whether a redirect leads from a file to a file: from a missing one servers lead to a front page."""
    return urlsplit(url).path.endswith("/") or not path.endswith("/")


def _info(headers: Headers, size: int | None) -> Info:
    version = http_answers.version_of(headers, size)
    return Info(FileType.REGULAR_FILE, size, http_answers.time_of(headers), version)


def _condition(info: Info) -> dict[str, str]:
    """Headers by which a server gives no other version, where it knows versions."""
    version = info.version
    return {"If-Match": version} if version is not None and version.startswith('"') else {}


async def _piece(answer: aiohttp.ClientResponse) -> bytes:
    """What comes next, about a mebibyte of it; nothing at the end."""
    pieces, count = [], 0
    while count < http_answers.PIECE_BYTES and (data := await answer.content.readany()):
        pieces.append(data)
        count += len(data)
    return b"".join(pieces)
