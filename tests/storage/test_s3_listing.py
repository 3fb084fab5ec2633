"""What a name is, whichever way it is asked for; and what can be done without the right to list."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from vfswasi import Errno, Mount, MountError, ReadCache
from vfswasi.fs_backends.base import FileType, Key
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.s3.client import S3Client
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.table import MountTable
from vfswasi.testing.ground import errno_of

from ..rawguest import GuestErrno, RawGuest
from .servers import Server

BETWEEN = 1005  # more than a page of a listing


@pytest.fixture(scope="module")
def wide(moto: Server) -> str:
    """Keys that are file and directory, with pages of others between: "!" comes before "/" in the order of S3."""
    fs = moto.file_system()
    bucket = moto.new_bucket()

    def put(key: str) -> None:
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"x")

    for key in ("a", "a/x", "plain", "b", "b/"):
        put(key)
    for number in range(BETWEEN):
        put(f"a!{number:04}")
    return bucket


def as_stat(backend: RemoteBackend, key: Key) -> FileType:
    return backend.stat(key).filetype


def as_walk(backend: RemoteBackend, key: Key) -> FileType:
    count, stat = backend.walk((), key)
    assert count == len(key)
    assert stat is not None
    return stat.filetype


def as_open(backend: RemoteBackend, key: Key) -> FileType:
    if errno_of(lambda: backend.open(key, False).close()) is Errno.ISDIR:
        return FileType.DIRECTORY
    return FileType.REGULAR_FILE


def as_list(backend: RemoteBackend, key: Key) -> FileType:
    return {entry.name: entry.filetype for entry in backend.list(key[:-1])}[key[-1]]


def as_below(backend: RemoteBackend, key: Key) -> FileType:
    """Seen from what is below it."""
    count, _ = backend.walk((), (*key, "x"))
    return FileType.DIRECTORY if count > len(key) else as_stat(backend, key)


QUESTIONS: list[Callable[[RemoteBackend, Key], FileType]] = [as_stat, as_walk, as_open, as_list, as_below]
KINDS = {"a": FileType.DIRECTORY, "b": FileType.DIRECTORY, "plain": FileType.REGULAR_FILE}


@pytest.mark.parametrize("first", QUESTIONS, ids=lambda question: question.__name__)
def test_a_key_that_is_file_and_directory_is_the_directory_whoever_asks_first(
    moto: Server, wide: str, first: Callable[[RemoteBackend, Key], FileType]
) -> None:
    backend = RemoteBackend(S3Client(moto.file_system(), wide, timeout_s=120))
    for name, kind in KINDS.items():
        for question in (first, *QUESTIONS):
            assert question(backend, (name,)) is kind, (name, question.__name__)


def test_it_is_so_for_who_remembers_nothing(moto: Server, wide: str) -> None:
    backend = RemoteBackend(S3Client(moto.file_system(), wide, timeout_s=120), listing_seconds=0)
    for name, kind in KINDS.items():
        assert as_stat(backend, (name,)) is kind


def test_a_page_still_answers_for_the_files_on_it(moto: Server, wide: str) -> None:
    backend = RemoteBackend(S3Client(moto.file_system(), wide, timeout_s=120))
    for number in range(0, 900, 50):
        assert backend.stat((f"a!{number:04}",)).size == 1
    assert backend.traffic().requests == 1


# Without the right to list


@pytest.fixture(scope="module")
def bucket(seaweed: Server) -> str:
    name = seaweed.new_bucket()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("inside", b"of the archive")
    for key, data in {"corpus.zip": made.getvalue(), "p/known": b"contents", "p/d/e/deep": b"below"}.items():
        seaweed.file_system().call_s3("put_object", Bucket=name, Key=key, Body=data)
    return name


def as_reader(server: Server, source: str, **options: Any) -> Mount:
    keys = {"key": "reader", "secret": "reader-secret"}
    return Mount(source, endpoint=server.endpoint, storage_options=keys, cache=ReadCache(), **options)


@pytest.mark.parametrize("listing", [0.0, 30.0])
def test_who_may_not_list_reads_names_that_are_known(
    seaweed: Server, bucket: str, listing: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "vfswasi")
    with RawGuest({"/d": as_reader(seaweed, f"s3://{bucket}/p", listing=listing)}) as guest:
        for _ in range(2):
            assert guest.contents("known") == b"contents"
            assert guest.contents("d/e/deep") == b"below"
            assert guest.stat("known").size == 8
            with pytest.raises(GuestErrno) as caught:
                guest.names()
            assert caught.value.errno is Errno.ACCES
            assert guest.try_open("missing")[0] in (Errno.NOENT, Errno.ACCES)
    assert any("does not allow to list it" in record.getMessage() for record in caplog.records)


def test_who_may_not_list_mounts_an_archive(seaweed: Server, bucket: str) -> None:
    with RawGuest({"/d": as_reader(seaweed, f"zip://*::s3://{bucket}/corpus.zip")}) as guest:
        assert guest.names() == [b"inside"]
        assert guest.contents("inside") == b"of the archive"


def test_names_of_who_may_not_list_cost_a_request_each(seaweed: Server, bucket: str) -> None:
    backend = open_source(as_reader(seaweed, f"s3://{bucket}/p"))
    assert isinstance(backend, RemoteBackend)
    backend.stat(("known",))
    before = backend.traffic().requests
    for _ in range(5):
        backend.stat(("known",))
    assert backend.traffic().requests == before
    backend.stat(("d", "e", "deep"))
    backend.close()


def test_403_of_a_server_for_who_may_not_list_is_acces(
    monkeypatch: pytest.MonkeyPatch, seaweed: Server, bucket: str
) -> None:
    """AWS says it of what is not there, too."""
    from botocore.exceptions import ClientError

    fs = seaweed.file_system()
    real = fs._call_s3

    async def aws(method: str, *args: Any, **options: Any) -> Any:
        code = {"list_objects_v2": "AccessDenied", "head_object": "403"}.get(method)
        if code is not None and not options.get("Key", "").endswith("known"):
            answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise PermissionError("no") from ClientError(answer, method)  # type: ignore[arg-type]
        return await real(method, *args, **options)

    monkeypatch.setattr(fs, "_call_s3", aws)
    with RawGuest({"/d": Mount(fs, root=f"{bucket}/p", rw=True)}) as guest:
        assert guest.contents("known") == b"contents"
        assert guest.try_open("missing")[0] is Errno.ACCES
        assert guest.try_open("d", oflags=2)[0] is Errno.ACCES


# What is said where something cannot be mounted


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("s3://no-such-bucket/x", {}, "mount '/d': s3://no-such-bucket/x does not exist; create it or correct the URL"),
        ("s3://{bucket}/none", {}, "mount '/d': s3://{bucket}/none does not exist"),
        (
            "s3://{bucket}/x",
            {"storage_options": {"key": "wrong", "secret": "w"}},
            "mount '/d': s3://{bucket}/x: list: ",
        ),
        (
            "zip://*::s3://{bucket}/new.zip",
            {"rw": True},
            "mount '/d': 'zip://*::s3://{bucket}/new.zip': an archive can only be written where it is a file of this "
            "machine; mount it without rw, or write an archive here and upload it",
        ),
        ("zip://*::s3://{bucket}/corpus.zip", {"rw": True}, "can only be written where it is a file of this machine"),
        (
            "zip://*::s3://{bucket}/none.zip",
            {},
            "mount '/d': cannot mount zip archive s3://{bucket}/none.zip: no such file",
        ),
        ("tar://*::s3://{bucket}/new.tar", {"rw": True}, "can only be written where it is a file of this machine"),
        ("new.tar.lz4", {"rw": True}, "mount '/d': cannot make an archive 'new.tar.lz4': its name must end in .zip"),
        ("s3://user:pw@{bucket}/x", {}, "mount '/d': s3://***@{bucket}/x: no password can stand before a bucket"),
    ],
)
def test_messages_of_mounting_name_the_thing_once_and_say_what_to_do(
    seaweed: Server, bucket: str, source: str, options: dict[str, Any], text: str
) -> None:
    remote = {"endpoint": seaweed.endpoint} if "s3://" in source else {}
    with pytest.raises(MountError) as caught:
        MountTable({"/d": Mount(source.format(bucket=bucket), **remote, **options)})
    message = str(caught.value)
    assert text.format(bucket=bucket) in message
    assert "\n" not in message
    for name in ("s3:", "new.", "/none"):
        assert message.count(name) <= 1 + (name == "new." and "such as new.zip" in message)
