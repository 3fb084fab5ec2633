"""Requests to one bucket of S3: begun, waited for, on a condition."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ....errors import Errno, FsError, MountError
from ... import waiting
from ...base import FileType, Key
from ..asker import asker_of, token_of
from ..client import Guard, Info, fits_a_key
from ..entries import http_date, nanoseconds
from ..fsspec.client import FsspecClient
from ..translate import chain, http_status, translated
from . import answers as s3_answers
from .answers import info_of_key
from .signer import connected

T = TypeVar("T")
_TOLD_BY_THE_SIGNER = frozenset(
    {"key", "secret", "token", "username", "password", "anon", "endpoint_url", "skip_instance_cache"}
)


class Bucket(FsspecClient):
    """A bucket, or a prefix of one, and what is asked of it there."""

    def __init__(
        self, fs: Any, root: str, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None
    ) -> None:
        super().__init__(fs, root, timeout_s=timeout_s, close_fs=close_fs)
        bucket, _, prefix = self.root.partition("/")
        if not bucket:
            raise MountError("an S3 mount needs a bucket: s3://bucket or s3://bucket/prefix")
        if ("@" in bucket or ":" in bucket) and not bucket.startswith("arn:"):
            raise MountError(
                f"{self.name}: no password can stand before a bucket; give credentials in storage_options, in the "
                "environment or in the configuration files of AWS"
            )
        if any(not fits_a_key(name) for name in prefix.split("/") if prefix):
            raise MountError(f"{self.name}: a prefix has no empty component, no '.' and no '..'")
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.implied = True
        self.lists_first = True

    @functools.cached_property
    def place(self) -> Key:  # type: ignore[override]
        """The same bucket of the same server, whoever asks and however its endpoint was given."""
        prefix = tuple(name for name in self._prefix.split("/") if name)
        return ("s3", self._connection()[0], self.bucket, *prefix)

    @functools.cached_property
    def identity(self) -> object:  # type: ignore[override]
        return self.place

    @functools.cached_property
    def asker(self) -> str:
        """What requests are signed with, wherever it came from, and what else goes along with them."""
        endpoint, signer = self._connection()
        fs = self.fs
        more = None if type(fs).__module__.startswith("s3fs.") else token_of(fs)
        options = {name: value for name, value in fs.storage_options.items() if name not in _TOLD_BY_THE_SIGNER}
        return asker_of(endpoint, signer, more, list(fs.storage_args), options)

    def _connection(self) -> tuple[str, object]:
        """(where the server is, what signs). Makes no request of the store. Where nobody knows: something that is
        nobody else's."""
        future = asyncio.run_coroutine_threadsafe(connected(self.fs), self.fs.loop)
        try:
            return waiting.result(future, self.timeout_s, f"{self.name}: connect")
        except Exception:
            return token_of(self), token_of(self)

    def object_key(self, key: Key) -> str:
        """The one place where a key becomes an object's."""
        return self._prefix + "/".join(key)

    # Requests

    async def request(self, method: str, **arguments: Any) -> Any:
        self.counter.count(requests=1)
        await self.fs.set_session()
        s3_answers.guard(await self.fs.get_s3(self.bucket))
        return await self.fs._call_s3(method, self.fs.req_kw, Bucket=self.bucket, **arguments)

    def run(self, what: str, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on fsspec's loop. Raises FsError."""
        what = f"{self.name}: {what}"
        future = self.start(work)
        try:
            return waiting.result(future, self.timeout_s if timeout_s is None else timeout_s, what)
        except FsError:
            raise
        except Exception as error:
            failed = translated(error, what)
        raise failed

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """As `run`, without waiting. Raises DQUOT."""
        self._spend(work)
        charge = waiting.charger()

        def received(count: int) -> None:
            self.counter.count(received=count)
            charge(0, count)

        # The task runs in a copy of this context.
        token = s3_answers.received.set(received)
        try:
            return asyncio.run_coroutine_threadsafe(work, self.fs.loop)
        finally:
            s3_answers.received.reset(token)

    @staticmethod
    def _spend(work: Coroutine[Any, Any, Any]) -> None:
        try:
            waiting.spend(requests=1)
        except FsError:
            work.close()
            raise

    def head(self, key: Key) -> Info | None:
        """Without the right to list, S3 says 403 of what is not there: ACCES."""
        try:
            answer = self.run("head", self.request("head_object", Key=self.object_key(key)))
        except FsError as error:
            if error.errno is Errno.NOENT:
                return None
            raise
        return info_of_key({**answer, "Size": answer.get("ContentLength")})

    def guarded(
        self, method: str, key: Key, guard: Guard, version: str | None, data: bytes | None, **arguments: Any
    ) -> dict[str, Any]:
        """A request that stores the object on a condition. `data`: what it stores, if that tells the ETag. Raises
        EXIST, STALE and what requests raise."""
        condition: dict[str, str] = {}
        if guard is Guard.NEW:
            condition["IfNoneMatch"] = "*"
        elif guard is Guard.SAME and version is not None:
            condition["IfMatch"] = version
        try:
            answer: dict[str, Any] = self.run(
                "write", self.request(method, Key=self.object_key(key), **arguments, **condition)
            )
            return answer
        except FsError as error:
            if condition and any(http_status(link) == 501 for link in chain(error)):
                self._look_first(key, guard, version)
                return self.guarded(method, key, Guard.ANY, None, data, **arguments)
            if not condition or not _is_refused(error):
                raise
            there = self.head(key)
            if there is not None and data is not None and there.version == f'"{hashlib.md5(data).hexdigest()}"':
                return {"ETag": there.version}  # our own request, whose first answer was lost
            if guard is Guard.NEW:
                raise FsError(Errno.EXIST, f"{self.name}: somebody else made {'/'.join(key)!r} meanwhile") from error
            raise FsError(Errno.STALE, f"{self.name}: somebody else changed {'/'.join(key)!r} meanwhile") from error

    def _look_first(self, key: Key, guard: Guard, version: str | None) -> None:
        there = self.head(key)
        if guard is Guard.NEW and there is not None:
            raise FsError(Errno.EXIST)
        if guard is Guard.SAME and (there is None or there.version != version):
            raise FsError(Errno.STALE)

    def stored(self, size: int, answer: dict[str, Any]) -> Info:
        """What is there after a request that stored it, without asking: its time is that of the answer."""
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        time_ns = nanoseconds(answer.get("LastModified")) or http_date(headers.get("date"))
        return Info(FileType.REGULAR_FILE, size, time_ns, answer.get("ETag"))


def _is_refused(error: FsError) -> bool:
    return any(http_status(link) in (409, 412) for link in chain(error))
