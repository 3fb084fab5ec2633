"""Uploads of large objects to S3 in parts, while the guest still writes.

Source: Amazon S3 API Reference (CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload).
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from typing import Any

from ....errors import Errno, FsError
from ... import waiting
from ...base import Key
from ..client import Body, Guard, Info, Upload
from ..translate import translated
from .bucket import Bucket

PART_BYTES = 8 << 20
PARTS_MAX = 10_000
PARTS_AT_ONCE = 4


class MultipartUpload(Upload):
    """Parts of `PART_BYTES`, later ones larger so that `PARTS_MAX` are enough; `PARTS_AT_ONCE` on their way."""

    part_bytes = PART_BYTES

    def __init__(self, client: Bucket, key: Key) -> None:
        self._client = client
        self._key = key
        self._name = client.object_key(key)
        self._id: str | None = None
        self._ranges: list[tuple[int, int]] = []  # of parts that were sent, by number - 1
        self._tags: dict[int, str] = {}
        self._going: dict[int, Future[dict[str, Any]]] = {}
        self._stale: set[int] = set()

    def _sent_to(self) -> int:
        return self._ranges[-1][1] if self._ranges else 0

    def _size_of_next(self) -> int:
        """8 MiB for the first 1,000, then ever more: 10,000 parts hold 5 TiB."""
        return self.part_bytes * (1 << min(len(self._ranges) // 1000, 7))

    def add(self, body: Body, end: int) -> None:
        while end - self._sent_to() >= self._size_of_next():
            start = self._sent_to()
            self._ranges.append((start, start + self._size_of_next()))
            self._send(len(self._ranges) - 1, body)

    def _send(self, index: int, body: Body) -> None:
        if self._id is None:
            answer = self._client.run("start upload", self._client.request("create_multipart_upload", Key=self._name))
            number = answer.get("UploadId")
            if not isinstance(number, str):
                raise FsError(Errno.IO, f"{self._client.name}: the server began an upload without saying which")
            self._id = number
        while len(self._going) >= PARTS_AT_ONCE:
            self._wait(next(iter(self._going)))
        start, end = self._ranges[index]
        waiting.spend(count=end - start)
        data = body.read(start, end - start)
        if len(data) != end - start:
            raise FsError(Errno.IO, "staged data is missing")
        self._stale.discard(index)
        self._going[index] = self._client.start(
            self._client.request("upload_part", Key=self._name, PartNumber=index + 1, UploadId=self._id, Body=data)
        )
        self._client.counter.count(sent=len(data))

    def _wait(self, index: int) -> None:
        future = self._going.pop(index)
        what = f"{self._client.name}: upload of part {index + 1}"
        try:
            self._tags[index] = waiting.result(future, self._client.timeout_s, what)["ETag"]
            return
        except FsError:
            raise
        except Exception as error:
            failed = translated(error, what)
        raise failed

    def changed(self, start: int, end: int) -> None:
        for index, (first, last) in enumerate(self._ranges):
            if first < end and start < last:
                self._stale.add(index)

    def finish(self, body: Body, guard: Guard, version: str | None) -> Info:
        try:
            self.add(body, body.size)
            if self._sent_to() < body.size:
                self._ranges.append((self._sent_to(), body.size))
                self._send(len(self._ranges) - 1, body)
            for index in sorted(self._stale):
                if index in self._going:
                    self._wait(index)
                self._send(index, body)
            for index in list(self._going):
                self._wait(index)
            parts = [{"PartNumber": index + 1, "ETag": self._tags[index]} for index in range(len(self._ranges))]
            answer = self._client.guarded(
                "complete_multipart_upload",
                self._key,
                guard,
                version,
                None,
                UploadId=self._id,
                MultipartUpload={"Parts": parts},
            )
        except BaseException:
            self.abort()
            raise
        return self._client.stored(body.size, answer)

    def abort(self) -> None:
        going, self._going = self._going, {}
        for future in going.values():
            future.cancel()
        upload, self._id = self._id, None
        if upload is None:
            return
        # The run's time may be over, and a part that is left behind costs its owner money every month.
        with contextlib.suppress(FsError), waiting.unbounded():
            self._client.run(
                "abort upload",
                self._client.request("abort_multipart_upload", Key=self._name, UploadId=upload),
                min(self._client.timeout_s, 5),
            )
