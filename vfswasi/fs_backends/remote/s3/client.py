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
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ....errors import Errno, FsError
from ....printing import counted
from ... import waiting
from ...base import Key
from ..client import DIRECTORY, Body, Data, Guard, Info, Page, Upload, fits_a_key, sound
from ..download import Downloader, is_plain
from ..translate import http_status, store_code, translated
from . import answers as s3_answers
from .answers import entries_of, info_of_key
from .bucket import Bucket
from .upload import MultipartUpload

T = TypeVar("T")
_log = logging.getLogger("vfswasi")

DOWNLOAD_MIN_BYTES = 256 << 10  # smaller ranges go through s3fs
_PIECE_BYTES = 256 << 10
_URL_S = 3600
_URLS_MAX = 1000
PUT_MAX_BYTES = 32 << 20  # a larger body goes in parts
COPY_MAX_BYTES = 5 << 30  # of one CopyObject
COPY_PART_BYTES = 512 << 20


class S3Client(Bucket):
    """A bucket, or a prefix of one."""

    def __init__(
        self, fs: Any, root: str, *, timeout_s: float = 30.0, close_fs: Callable[[], None] | None = None
    ) -> None:
        super().__init__(fs, root, timeout_s=timeout_s, close_fs=close_fs)
        self._direct = self._downloader()
        self._urls: dict[str, tuple[str, float]] = {}
        self._unlisted: set[Key] = set()  # directories that may not be listed

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
        if key[:-1] in self._unlisted and (found := self.head(key)) is not None:
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
            return self.head(key)
        if any(found.get("Prefix") == prefix + "/" for found in entries_of(answer, "CommonPrefixes")):
            return DIRECTORY
        if answer.get("IsTruncated") and self.run("list", self._list(prefix + "/", None, 1)).get("KeyCount"):
            return DIRECTORY
        for entry in entries_of(answer, "Contents"):
            if entry.get("Key") == prefix:
                return info_of_key(entry)
        if answer.get("IsTruncated"):  # servers differ in the order of their listings
            return self.head(key)
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
                raise FsError(Errno.IO, f"{self.name}: more than {counted(count, 'byte')} came")
        if count is not None and len(data) != count:
            raise FsError(Errno.IO, f"{self.name}: {counted(len(data), 'byte')} came instead of {count:,}")
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


async def _close(body: Any) -> None:
    body.close()
