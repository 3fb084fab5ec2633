"""What an S3 server answers that no S3 server answers."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from vfswasi import Errno, ModuleError, Mount, MountError, ReadCache, run
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.s3 import answers as s3_answers
from vfswasi.fs_backends.remote.translate import translated
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from .raw_server import Asked, RawServer, answer, file_answer

DATA = bytes(range(256)) * 2048  # 512 KiB
MIB = 1 << 20


def listing(entries: str, head: str = "") -> bytes:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>b</Name><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}"
        "</ListBucketResult>"
    )
    return answer(200, body.encode(), {"Content-Type": "application/xml"})


def entry(name: str, size: int = len(DATA)) -> str:
    return (
        f"<Contents><Key>{name}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>&quot;v1&quot;</ETag>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def is_listing(asked: Asked) -> bool:
    return "list-type" in parse_qs(urlsplit(asked.target).query)


Answers = Callable[[Asked], Iterable[bytes]]


def a_server(of_file: Answers, of_listing: Answers | None = None) -> RawServer:
    def answers(asked: Asked) -> Iterable[bytes]:
        if is_listing(asked):
            return [listing(entry("file"))] if of_listing is None else of_listing(asked)
        return of_file(asked)

    return RawServer(answers)


def mounted(server: RawServer, **options: Any) -> Backend:
    given = {"key": "K", "secret": "S", "token": "hunter2"}
    mount = Mount("s3://b", endpoint=server.url, cache=ReadCache(), timeout=10, storage_options=given, **options)
    return sources.open_source(mount)


def good(asked: Asked) -> Iterable[bytes]:
    return [file_answer(asked, DATA)]


def test_the_server_of_these_tests_is_one() -> None:
    with a_server(good) as server:
        backend = mounted(server)
        assert [found.name for found in backend.list(())] == ["file"]
        assert contents(backend, ("file",)) == DATA
        backend.close()


# Listings


def flood(first: bytes, count: int) -> Iterable[bytes]:
    return itertools.chain([first], itertools.repeat(b"<Contents></Contents>" * 1000, count))


LISTINGS: dict[str, Answers] = {
    "300,000 keys": lambda asked: [listing("".join(entry(f"key-{number}") for number in range(300_000)))],
    "small tags": lambda asked: [listing("<a/>" * 500_000)],
    "without end": lambda asked: flood(answer(200, b"<ListBucketResult>", length=False), 1 << 14),
    "one long name": lambda asked: [listing(f"<Contents><Key>{'x' * (9 * MIB)}</Key></Contents>")],
    "entities": lambda asked: [
        listing(
            "<Contents><Key>&b;</Key></Contents>",
            '<!DOCTYPE x [<!ENTITY a "' + "x" * 1000 + '"><!ENTITY b "' + "&a;" * 1000 + '">]>',
        )
    ],
}


@pytest.mark.parametrize("label", LISTINGS)
def test_x7_a_listing_is_bounded_before_it_is_parsed(label: str) -> None:
    bad = False

    def of_listing(asked: Asked) -> Iterable[bytes]:
        return LISTINGS[label](asked) if bad else [listing(entry("file"))]

    with a_server(good, of_listing) as server:
        backend = mounted(server)
        bad = True
        started = time.monotonic()
        assert errno_of(lambda: list(backend.list(()))) is Errno.IO
        assert time.monotonic() - started < 20
        # botocore and s3fs try again a few times.
        assert server.sent < 800 * MIB if label == "300,000 keys" else server.sent < 100 * MIB
        backend.close()
        with pytest.raises(MountError):
            mounted(server)


def test_an_error_that_goes_on_for_ever_is_an_error() -> None:
    def of_file(asked: Asked) -> Iterable[bytes]:
        return flood(answer(500, b"<Error>", length=False), 1 << 14)

    with a_server(of_file) as server:
        backend = mounted(server)
        handle = backend.open(("file",), False)
        assert errno_of(handle.read_into, 0, bytearray(100)) is Errno.IO
        assert server.sent < 400 * MIB
        handle.close()
        backend.close()


def test_as_many_keys_as_a_page_may_have_are_taken() -> None:
    longest = "%3C" * 341  # as encoded keys are
    names = [f"{number:04}{longest}"[:255] for number in range(1000)]
    with a_server(good, lambda asked: [listing("".join(entry(name) for name in names))]) as server:
        backend = mounted(server)
        assert len(list(backend.list(()))) == 1000
        backend.close()


def test_bytes_of_listings_are_counted() -> None:
    with a_server(good) as server:
        backend = mounted(server)
        assert isinstance(backend, RemoteBackend)
        assert backend.traffic().bytes_received > 300
        allowance = waiting.Allowance(1000, 100, 1000)
        with waiting.bounded_by(None, allowance):
            assert errno_of(lambda: list(backend.list(()))) in (Errno.DQUOT, Errno.SUCCESS)
        backend.close()


# Objects


def _shifted(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, len(DATA))
    headers = {"ETag": '"v1"', "Content-Range": f"bytes {start + 1}-{end}/{len(DATA)}"}
    return [answer(206, (DATA + DATA)[start + 1 : end + 1], headers)]


def _everything(asked: Asked) -> Iterable[bytes]:
    return itertools.chain([answer(200, b"", {"ETag": '"v1"', "Content-Length": str(1 << 30)}, length=False)], _zeros())


def _as_long_but_from_the_start(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, len(DATA))
    return [answer(200, DATA[: end - start], {"ETag": '"v1"'})]


def _more_than_it_says(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, len(DATA))
    headers = {"ETag": '"v1"', "Content-Range": f"bytes {start}-{end - 1}/{len(DATA)}"}
    return itertools.chain([answer(206, b"", headers, length=False)], _zeros())


def _zeros() -> Iterable[bytes]:
    return itertools.repeat(bytes(256 << 10), 1 << 12)


@pytest.mark.parametrize("answers", [_shifted, _everything, _as_long_but_from_the_start, _more_than_it_says])
@pytest.mark.parametrize("count", [1000, 400_000])
def test_x7_another_range_than_was_asked_for_is_io(answers: Answers, count: int) -> None:
    with a_server(answers) as server:
        backend = mounted(server)
        assert isinstance(backend, RemoteBackend)
        handle = backend.open(("file",), False)
        buffer = bytearray(b"\xa5" * count)
        assert errno_of(handle.read_into, 40_000, buffer) is Errno.IO
        assert buffer == b"\xa5" * count
        assert backend.traffic().bytes_received < 16 * MIB
        handle.close()
        backend.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["file", "listing"])
def test_x4_an_endpoint_that_redirects_is_not_followed(status: int, where: str) -> None:
    with RawServer(lambda asked: [file_answer(asked, b"theirs" * 100)]) as other:
        redirect = answer(status, b"", {"Location": f"{other.url}/b/file"})
        moved = False

        def of_file(asked: Asked) -> Iterable[bytes]:
            return [redirect] if moved and where == "file" else good(asked)

        def of_listing(asked: Asked) -> Iterable[bytes]:
            return [redirect] if moved and where == "listing" else [listing(entry("file"))]

        with a_server(of_file, of_listing) as server:
            backend = mounted(server)
            handle = backend.open(("file",), False)
            moved = True
            if where == "listing":
                assert errno_of(lambda: list(backend.list(()))) in (Errno.SUCCESS, Errno.ACCES, Errno.IO)
                with pytest.raises(MountError):
                    mounted(server)
            else:
                for count in (100, 300_000):
                    assert errno_of(handle.read_into, 0, bytearray(count)) in (Errno.ACCES, Errno.IO)
            assert other.asked == []
            handle.close()
            backend.close()


def test_the_hook_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    bounded = s3_answers._bounded

    async def counted(answer: Any) -> bytes:
        nonlocal calls
        calls += 1
        return await bounded(answer)

    monkeypatch.setattr(s3_answers, "_bounded", counted)
    with a_server(good) as server:
        backend = mounted(server, listing=0)
        for _ in range(3):
            list(backend.list(()))
        assert calls == len(server.asked)
        backend.close()


def test_archives_in_a_bucket_that_lies() -> None:
    with a_server(_shifted) as server:
        given = {"key": "K", "secret": "S"}
        with pytest.raises(MountError) as caught:
            sources.open_source(Mount("zip://*::s3://b/file", endpoint=server.url, storage_options=given))
        assert io.StringIO(str(caught.value)).read().count("\n") == 0


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 01 Jan 99999999999 00:00:00 GMT", "x"]
)
def test_a_date_that_is_none_does_not_end_a_write(date: str) -> None:
    def of_file(asked: Asked) -> Iterable[bytes]:
        if asked.method == "PUT":
            return [answer(200, b"", {"ETag": '"v2"', "Date": date})]
        return [answer(404, b"")]

    with a_server(of_file, lambda _: [listing("")]) as server, contextlib.closing(mounted(server, rw=True)) as backend:
        handle = backend.create(("new",))
        handle.write_from(0, b"data")
        handle.close()
        assert backend.stat(("new",)).size == 4


def test_a_listing_without_keys_keeps_no_directory_from_being_removed() -> None:
    def of_file(asked: Asked) -> Iterable[bytes]:
        return [answer(204 if asked.method == "DELETE" else 404, b"")]

    with a_server(of_file, lambda _: [listing("<Contents/>")]) as server:
        backend = mounted(server, rw=True)
        assert errno_of(backend.rmdir, ("d",)) in (Errno.NOENT, Errno.NOTEMPTY)
        backend.close()


def test_an_entity_tag_that_is_no_header_is_an_errno_or_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on the way that goes around the library, which is not taken where a proxy is set."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    odd = entry("file").replace("v1", "\u20ac\u20ac")
    with (
        a_server(good, lambda _: [listing(odd)]) as server,
        contextlib.closing(mounted(server)) as backend,
    ):
        handle = backend.open(("file",), False)
        buffer = bytearray(len(DATA))
        errno = errno_of(handle.read_into, 0, buffer)
        assert errno is Errno.IO or (errno is Errno.SUCCESS and buffer == DATA), "the server is asked again"
        handle.close()


# Without anything to show.

BUT_NONE = "CredentialsError: no credentials were found, or a part of them; give them in storage_options"


def test_who_has_no_credentials_is_told_so_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    with RawServer(lambda _: [answer(500, b"")]) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        for source in ("s3://b/x", "zip://*::s3://b/x.zip", "tar://*::s3://b/x.tar"):
            with pytest.raises(MountError, match=BUT_NONE) as caught:
                sources.open_mount(Mount(source, endpoint=endpoint))
            assert "\n" not in str(caught.value)
            assert str(caught.value).count("credentials") == 1
        with pytest.raises(ModuleError, match=BUT_NONE):
            run("s3://b/m.wasm")
        with pytest.raises(MountError, match=BUT_NONE):
            sources.open_mount(Mount("s3://b/x", endpoint=endpoint, storage_options={"key": "half"}))
        assert server.asked == []


@pytest.mark.parametrize("library", ["botocore.exceptions", "google.auth.exceptions", "azure.identity"])
def test_libraries_that_found_no_credentials_are_understood(library: str) -> None:
    name = {"bo": "CredentialRetrievalError", "go": "DefaultCredentialsError", "az": "CredentialUnavailableError"}
    kind = type(name[library[:2]], (Exception,), {"__module__": library})
    error = translated(kind("secret words"), "s3://b: list")
    assert error.errno is Errno.ACCES
    assert "no credentials were found" in error.detail
    assert "secret" not in error.detail
    stranger = type(name[library[:2]], (Exception,), {"__module__": "somebody.else"})
    assert translated(stranger("secret words"), "s3://b: list").errno is Errno.IO
