"""S3 through s3fs: what its general interface cannot say is said with requests of our own (`call_s3`).

- Reading: each request carries the ETag of the version that was open (`If-Match`), so two versions never mix.
- Writing: one PUT, or a multipart upload whose parts go several at a time while the guest still writes. The condition
  goes along (`If-None-Match: *` for a new file, `If-Match` for a file that was open), so of two writers one wins
  and the other hears of it. A multipart upload that fails is aborted.
- Directories: what lies before a `/` in a key, with or without a marker object `dir/`. A key that is both file and
  directory is the directory. Who may read and not list can use names that are known; of others S3 says 403: ACCES.
  Keys with empty components, `.` and `..` are invisible.

Servers that know no conditions answer 501; then the condition is looked at just before the request.

Source: Amazon S3 API Reference (GetObject, PutObject, CreateMultipartUpload, CompleteMultipartUpload, ListObjectsV2).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ....errors import Errno, FsError, MountError
from ... import waiting
from ...base import FileType, Key
from ..asker import asker_of, token_of
from ..client import DIRECTORY, Body, Data, Guard, Info, Page, Upload, fits_a_key, sound
from ..download import Downloader, is_plain
from ..fsspec.backend import FsspecClient, http_date, nanoseconds
from ..translate import chain, http_status, store_code, translated
from . import answers as s3_answers
from .answers import entries_of, info_of_key
from .signer import connected
from .upload import MultipartUpload

T = TypeVar("T")
_log = logging.getLogger("vfswasi")

DOWNLOAD_MIN_BYTES = 256 << 10  # smaller ranges go through s3fs
_PIECE_BYTES = 256 << 10
_TOLD_BY_THE_SIGNER = frozenset(
    {"key", "secret", "token", "username", "password", "anon", "endpoint_url", "skip_instance_cache"}
)
_URL_S = 3600
_URLS_MAX = 1000
PUT_MAX_BYTES = 32 << 20  # a larger body goes in parts
COPY_MAX_BYTES = 5 << 30  # of one CopyObject
COPY_PART_BYTES = 512 << 20


class S3Client(FsspecClient):
    """A bucket, or a prefix of one."""

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
        self._direct = self._downloader()
        self._urls: dict[str, tuple[str, float]] = {}
        self._unlisted: set[Key] = set()  # directories that may not be listed

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

    # Looking

    async def _list(self, prefix: str, token: str | None, most: int = 1000) -> dict[str, Any]:
        more = {} if token is None else {"ContinuationToken": token}
        answer: dict[str, Any] = await self.request(
            "list_objects_v2", Prefix=prefix, Delimiter="/", MaxKeys=most, **more
        )
        return answer

    def info(self, key: Key) -> Info | None:
        if not key:
            return self._root()
        if key[:-1] in self._unlisted and (found := self._head(key)) is not None:
            return found
        prefix = self.object_key(key)
        try:
            answer = self.run("list", self._list(prefix, None))
        except FsError as error:
            if error.errno is not Errno.ACCES:
                raise
            if len(self._unlisted) >= _URLS_MAX:
                self._unlisted.clear()
            self._unlisted.add(key[:-1])
            return self._head(key)
        if any(found.get("Prefix") == prefix + "/" for found in entries_of(answer, "CommonPrefixes")):
            return DIRECTORY
        if answer.get("IsTruncated") and self.run("list", self._list(prefix + "/", None, 1)).get("KeyCount"):
            return DIRECTORY
        for entry in entries_of(answer, "Contents"):
            if entry.get("Key") == prefix:
                return info_of_key(entry)
        if answer.get("IsTruncated"):  # servers differ in the order of their listings
            return self._head(key)
        return None

    def _root(self) -> Info | None:
        try:
            answer = self.run("list", self._list(self._prefix, None, 1))
        except FsError as error:
            if store_code(error) != "AccessDenied":  # of whom the server knows, and who may perhaps read
                raise
            _log.warning("%s: the server does not allow to list it; only names that are known can be used", self.name)
            return DIRECTORY
        there = not self._prefix or answer.get("KeyCount") or answer.get("Contents") or answer.get("CommonPrefixes")
        return DIRECTORY if there else None

    def _head(self, key: Key) -> Info | None:
        """Without the right to list, S3 says 403 of what is not there: ACCES."""
        try:
            answer = self.run("head", self.request("head_object", Key=self.object_key(key)))
        except FsError as error:
            if error.errno is Errno.NOENT:
                return None
            raise
        return info_of_key({**answer, "Size": answer.get("ContentLength")})

    def pages(self, key: Key) -> Iterator[Page]:
        prefix = self.object_key(key) + "/" if key else self._prefix
        token: str | None = None
        exists = not key
        while True:
            answer = self.run("list", self._list(prefix, token))
            files, directories = entries_of(answer, "Contents"), entries_of(answer, "CommonPrefixes")
            exists = exists or bool(files or directories)
            if not exists:
                return
            entries: dict[str, Info] = {}
            for found in files:
                name = str(found.get("Key", ""))[len(prefix) :]
                if fits_a_key(name) and sound(info := info_of_key(found)):
                    entries[name] = info
            for found in directories:
                name = str(found.get("Prefix", ""))[len(prefix) : -1]
                if fits_a_key(name):
                    entries[name] = DIRECTORY
            before, token = token, answer.get("NextContinuationToken")
            last = not answer.get("IsTruncated") or not token or token == before
            yield entries, last
            if last:
                return

    # Reading

    def fetch(self, key: Key, info: Info, start: int, end: int) -> Future[Data]:
        name = self.object_key(key)
        if end - start < DOWNLOAD_MIN_BYTES or self._direct is None:
            return self.start(self._get(name, info, start, end))
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        if info.version is not None:
            headers["If-Match"] = info.version
        waiting.spend(requests=1)
        return self._direct.fetch(
            lambda fresh: self._url(name, fresh),
            headers,
            end - start,
            lambda: self.run("get", self._get(name, info, start, end)),
        )

    def _downloader(self) -> Downloader | None:
        """Plain HTTP for bulk data, unless the requests need what only the client knows."""
        fs = self.fs
        if fs.s3_additional_kwargs or fs.client_kwargs.get("verify") is not None:
            return None
        endpoint = str(getattr(fs, "endpoint_url", None) or f"https://{self.bucket}.s3.amazonaws.com")
        if not is_plain(endpoint, fs.config_kwargs or {}) or os.environ.get("AWS_CA_BUNDLE"):
            return None
        return Downloader(endpoint, self.name, self.timeout_s, self.counter)

    def give_back(self, data: Data) -> None:
        if self._direct is not None:
            self._direct.give_back(data)

    def _url(self, name: str, fresh: bool) -> str:
        """A URL by which everybody could read the object for a while. It stays in this process."""
        now = time.monotonic()
        found = self._urls.get(name)
        if found is not None and not fresh and found[1] > now:
            return found[0]
        url = str(self.run("sign", self._sign(name)))
        if len(self._urls) >= _URLS_MAX:
            self._urls.clear()
        self._urls[name] = url, now + _URL_S / 2
        return url

    async def _sign(self, name: str) -> Any:
        await self.fs.set_session()
        s3 = await self.fs.get_s3(self.bucket)
        parameters = {"Bucket": self.bucket, "Key": name, **self.fs.req_kw}
        return await s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=_URL_S)

    def close(self) -> None:
        if self._direct is not None:
            self._direct.close()
        super().close()

    async def _get(self, name: str, info: Info, start: int, end: int) -> Data:
        condition = {} if info.version is None else {"IfMatch": info.version}
        if end >= 0:
            condition["Range"] = f"bytes={start}-{end - 1}"
        again = True
        while True:
            failed: FsError | None = None
            try:
                answer = await self.request("get_object", Key=name, **condition)
                async with contextlib.AsyncExitStack() as stack:
                    stack.push_async_callback(_close, answer["Body"])
                    if end >= 0:
                        s3_answers.check_range(answer, start, end, self.name)
                    data = await self._taken(answer["Body"], end - start if end >= 0 else info.size)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                status = http_status(error)
                if again and (status is None or status < 400):  # it broke off while it came
                    again = False
                    continue
                failed = translated(error, f"{self.name}: get")
            if failed is not None:
                raise failed
            return data

    async def _taken(self, body: Any, count: int | None) -> Data:
        """All of a body, which has so many bytes. Raises IO."""
        data = bytearray()
        while piece := await body.read(_PIECE_BYTES):
            self.counter.count(received=len(piece))
            data += piece
            if count is not None and len(data) > count:
                raise FsError(Errno.IO, f"{self.name}: more than {count} bytes came")
        if count is not None and len(data) != count:
            raise FsError(Errno.IO, f"{self.name}: {len(data)} bytes came instead of {count}")
        return data

    # Writing

    def put(self, key: Key, body: Body, guard: Guard, version: str | None) -> Info:
        if body.size > PUT_MAX_BYTES:
            upload = MultipartUpload(self, key)
            return upload.finish(body, guard, version)
        waiting.spend(count=body.size)
        data = body.read(0, body.size)
        answer = self.guarded("put_object", key, guard, version, data, Body=data)
        self.counter.count(sent=len(data))
        return self.stored(len(data), answer)

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
            there = self._head(key)
            if there is not None and data is not None and there.version == f'"{hashlib.md5(data).hexdigest()}"':
                return {"ETag": there.version}  # our own request, whose first answer was lost
            if guard is Guard.NEW:
                raise FsError(Errno.EXIST, f"{self.name}: somebody else made {'/'.join(key)!r} meanwhile") from error
            raise FsError(Errno.STALE, f"{self.name}: somebody else changed {'/'.join(key)!r} meanwhile") from error

    def _look_first(self, key: Key, guard: Guard, version: str | None) -> None:
        there = self._head(key)
        if guard is Guard.NEW and there is not None:
            raise FsError(Errno.EXIST)
        if guard is Guard.SAME and (there is None or there.version != version):
            raise FsError(Errno.STALE)

    def stored(self, size: int, answer: dict[str, Any]) -> Info:
        """What is there after a request that stored it, without asking: its time is that of the answer."""
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        time_ns = nanoseconds(answer.get("LastModified")) or http_date(headers.get("date"))
        return Info(FileType.REGULAR_FILE, size, time_ns, answer.get("ETag"))

    def start_upload(self, key: Key) -> Upload:
        return MultipartUpload(self, key)

    # Names

    def make_directory(self, key: Key) -> None:
        self.run("make directory", self.request("put_object", Key=self.object_key(key) + "/", Body=b""))

    def remove_directory(self, key: Key) -> None:
        prefix = self.object_key(key) + "/"
        answer = self.run("list", self._list(prefix, None, 2))
        files, directories = entries_of(answer, "Contents"), entries_of(answer, "CommonPrefixes")
        if directories or any(found.get("Key") != prefix for found in files):
            raise FsError(Errno.NOTEMPTY)
        self.run("remove directory", self.request("delete_object", Key=prefix))

    def remove(self, key: Key) -> None:
        self.run("remove", self.request("delete_object", Key=self.object_key(key)))

    def copy(self, old: Key, new: Key, info: Info) -> Info:
        source = {"Bucket": self.bucket, "Key": self.object_key(old)}
        condition = {} if info.version is None else {"CopySourceIfMatch": info.version}
        size = info.size or 0
        if size > COPY_MAX_BYTES:
            answer = self.run("copy", self._copy_parts(source, self.object_key(new), size, condition), 3600)
        else:
            answer = self.run(
                "copy",
                self.request("copy_object", Key=self.object_key(new), CopySource=source, **condition),
                max(self.timeout_s, 600),
            ).get("CopyObjectResult", {})
        return self.stored(size, answer)

    async def _copy_parts(
        self, source: dict[str, str], name: str, size: int, condition: dict[str, str]
    ) -> dict[str, Any]:
        upload = (await self.request("create_multipart_upload", Key=name))["UploadId"]
        try:
            parts = []
            for number, start in enumerate(range(0, size, COPY_PART_BYTES), 1):
                end = min(start + COPY_PART_BYTES, size)
                answer = await self.request(
                    "upload_part_copy",
                    Key=name,
                    CopySource=source,
                    CopySourceRange=f"bytes={start}-{end - 1}",
                    PartNumber=number,
                    UploadId=upload,
                    **condition,
                )
                parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
            done: dict[str, Any] = await self.request(
                "complete_multipart_upload", Key=name, UploadId=upload, MultipartUpload={"Parts": parts}
            )
            return done
        except BaseException:
            with contextlib.suppress(Exception):
                await self.request("abort_multipart_upload", Key=name, UploadId=upload)
            raise


def _is_refused(error: FsError) -> bool:
    return any(http_status(link) in (409, 412) for link in chain(error))


async def _close(body: Any) -> None:
    body.close()
