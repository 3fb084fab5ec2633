"""What a web server sends, and how little of it is believed."""

from __future__ import annotations

import gc
import gzip
import io
import itertools
import tarfile
import threading
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, FsError, Mount, MountError, ReadCache, TarBackend, ZipBackend
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.http import answers as http_answers
from vfswasi.kernel.clocks import Deadline
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from ..guest_programs import compile_guest
from .raw_server import Asked, RawServer, answer, file_answer, page_answer

DATA = bytes(range(256)) * 4096  # 1 MiB
HEAD_LENGTH = {"Content-Length": str(len(DATA)), "ETag": '"v1"'}
MIB = 1 << 20


def flood(first: bytes, count: int = 1 << 30) -> Iterator[bytes]:
    """An answer that goes on and on."""
    yield first
    piece = bytes(256 << 10)
    for _ in range(count // len(piece)):
        yield piece


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    return answer(status, b"", headers, length=False)


def chunked(pieces: Iterable[bytes], headers: Mapping[str, str] | None = None, status: int = 200) -> Iterator[bytes]:
    yield head_of(status, {**(headers or {}), "Transfer-Encoding": "chunked"})
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def a_mount(server: RawServer, **options: Any) -> Mount:
    options.setdefault("cache", ReadCache())
    options.setdefault("timeout", 5)
    return Mount(f"{server.url}/pub", **options)


def mounted(server: RawServer, **options: Any) -> Backend:
    return sources.open_source(a_mount(server, **options))


Answers = Callable[[Asked], Iterable[bytes]]


def serving(answers: Answers, head: Mapping[str, str] | None = HEAD_LENGTH) -> Answers:
    """Directories have an empty page, HEAD of a file tells `head`, and `answers` the rest."""

    def serve(asked: Asked) -> Iterable[bytes]:
        if asked.path.endswith("/"):
            return [page_answer("")]
        if asked.method == "HEAD" and head is not None:
            return [head_of(200, head)]
        return answers(asked)

    return serve


def range_headers(asked: Asked, shift: int = 0, total: object = len(DATA)) -> dict[str, str]:
    start, end = asked.range() or (0, 1)
    return {"ETag": '"v1"', "Content-Range": f"bytes {start + shift}-{end - 1 + shift}/{total}"}


# Answers to a request for a range that are no such range.


def _wrong_range(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, 1)
    return [answer(206, DATA[start + 1 : end + 1], range_headers(asked, 1))]


def _flood_without_length(asked: Asked) -> Iterable[bytes]:
    return flood(head_of(206, range_headers(asked)))


def _flood_with_length(asked: Asked) -> Iterable[bytes]:
    return flood(head_of(206, {**range_headers(asked), "Content-Length": str(1 << 30)}))


def _flood_in_chunks(asked: Asked) -> Iterable[bytes]:
    return chunked(itertools.repeat(bytes(64 << 10), 1 << 14), range_headers(asked), 206)


def _flood_of_everything(asked: Asked) -> Iterable[bytes]:
    return flood(head_of(200, {"ETag": '"v1"'}))


def _bomb(asked: Asked) -> Iterable[bytes]:
    packed = gzip.compress(bytes(64 * MIB))
    return [answer(206, packed, {**range_headers(asked), "Content-Encoding": "gzip"})]


def _one_byte_less(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, 1)
    return [answer(206, DATA[start : end - 1], range_headers(asked), length=False)]


def _no_content_range(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, 1)
    return [answer(206, DATA[start:end], {"ETag": '"v1"'})]


def _unit_of_no_bytes(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, 1)
    told = range_headers(asked)["Content-Range"].replace("bytes", "lines")
    return [answer(206, DATA[start:end], {"Content-Range": told})]


def _two_ranges(asked: Asked) -> Iterable[bytes]:
    return [answer(206, DATA, {"Content-Type": "multipart/byteranges; boundary=x"})]


def _other_version(asked: Asked) -> Iterable[bytes]:
    return [file_answer(asked, DATA, {"ETag": '"v2"'})]


def _other_size(asked: Asked) -> Iterable[bytes]:
    start, end = asked.range() or (0, 1)
    return [answer(206, DATA[start:end], range_headers(asked, total=len(DATA) + 1))]


def _nothing(asked: Asked) -> Iterable[bytes]:
    return [answer(204)]


def _no_http(asked: Asked) -> Iterable[bytes]:
    return [b"\xff" * 10_000]


def _endless_headers(asked: Asked) -> Iterable[bytes]:
    return flood(b"HTTP/1.1 206 X\r\n", 1 << 28)


def _multiple_choices(asked: Asked) -> Iterable[bytes]:
    return [answer(300, DATA)]


LIES: dict[str, Answers] = {
    name.removeprefix("_"): made
    for name, made in list(globals().items())
    if name.startswith("_") and getattr(made, "__module__", "") == __name__
}


@pytest.mark.parametrize("lie", LIES)
def test_x7_a_server_that_lies_gives_an_error_and_takes_no_room(lie: str) -> None:
    with RawServer(serving(LIES[lie])) as server:
        backend = mounted(server)
        assert isinstance(backend, RemoteBackend)
        handle = backend.open(("file",), False)
        buffer = bytearray(b"\xa5" * 100)
        assert errno_of(handle.read_into, 70_000, buffer) is Errno.IO
        assert buffer == b"\xa5" * 100
        # What a socket holds may be on its way already.
        assert server.sent < 64 * MIB
        assert backend.traffic().bytes_received < 40 * MIB
        handle.close()
        backend.close()


def test_what_comes_is_counted_and_ends_at_the_bound() -> None:
    with RawServer(serving(_flood_in_chunks)) as server:
        backend = mounted(server, block=4096)
        assert isinstance(backend, RemoteBackend)
        handle = backend.open(("file",), False)
        assert errno_of(handle.read_into, 70_000, bytearray(100)) is Errno.IO
        assert 4096 <= backend.traffic().bytes_received < MIB
        handle.close()
        backend.close()


def test_the_start_of_everything_is_a_range() -> None:
    """A server without ranges is not asked for all of a file whose start is wanted."""

    def answers(asked: Asked) -> Iterable[bytes]:
        return itertools.chain([head_of(200, {"Content-Length": str(64 * MIB)}), DATA], flood(b"", 63 * MIB))

    with RawServer(serving(answers, {"Content-Length": str(64 * MIB)})) as server:
        backend = mounted(server)
        assert isinstance(backend, RemoteBackend)
        handle = backend.open(("file",), False)
        buffer = bytearray(100)
        assert handle.read_into(0, buffer) == 100
        assert buffer == DATA[:100]
        assert backend.traffic().bytes_received < 8 * MIB
        handle.close()
        backend.close()


# Servers without ranges, without lengths, that compress whether or not they are asked to


def _whole(asked: Asked) -> Iterable[bytes]:
    return [answer(200, DATA)]


def _whole_in_chunks(asked: Asked) -> Iterable[bytes]:
    return chunked(DATA[at : at + 50_000] for at in range(0, len(DATA), 50_000))


def _until_the_end(asked: Asked) -> Iterable[bytes]:
    return [answer(200, DATA, length=False)]


def _gzip(asked: Asked) -> Iterable[bytes]:
    return [answer(200, gzip.compress(DATA), {"Content-Encoding": "gzip"})]


def _gzip_in_chunks(asked: Asked) -> Iterable[bytes]:
    packed = gzip.compress(DATA)
    return chunked((packed[at : at + 7] for at in range(0, len(packed), 7)), {"Content-Encoding": "x-gzip"})


def _zlib(asked: Asked) -> Iterable[bytes]:
    return [answer(200, zlib.compress(DATA), {"Content-Encoding": "deflate"})]


def _raw_deflate(asked: Asked) -> Iterable[bytes]:
    packer = zlib.compressobj(wbits=-15)
    return [answer(200, packer.compress(DATA) + packer.flush(), {"Content-Encoding": "deflate"})]


def _ranges_of_something_compressed(asked: Asked) -> Iterable[bytes]:
    packed = gzip.compress(DATA)
    return [file_answer(asked, packed, {"Content-Encoding": "gzip"})]


WHOLE = [
    _whole,
    _whole_in_chunks,
    _until_the_end,
    _gzip,
    _gzip_in_chunks,
    _zlib,
    _raw_deflate,
    _ranges_of_something_compressed,
]


@pytest.mark.parametrize("answers", WHOLE)
def test_a_file_that_only_comes_as_a_whole_comes_once(answers: Answers) -> None:
    with RawServer(serving(answers, None)) as server:
        backend = mounted(server)
        handle = backend.open(("file",), False)
        buffer = bytearray(1000)
        for offset in (900_000, 5, 500_000, len(DATA) - 1000):
            assert handle.read_into(offset, buffer) == 1000
            assert buffer == DATA[offset : offset + 1000]
        assert handle.size() == len(DATA)
        whole = [asked for asked in server.asked if asked.method == "GET" and asked.path == "/pub/file"]
        assert len([asked for asked in whole if asked.range() is None]) == 1
        assert all(asked.headers["accept-encoding"] == "identity" for asked in server.asked)
        handle.close()
        backend.close()


def archives() -> dict[str, bytes]:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as writer:
        writer.writestr("padding", bytes(200_000))
        writer.writestr("dir/inside", b"in the archive")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("dir/inside")
        info.size = 14
        tar.addfile(info, io.BytesIO(b"in the archive"))
    return {"zip": made.getvalue(), "tar": packed.getvalue()}


def archive_answers(data: bytes) -> dict[str, Answers]:
    return {
        "ranges": lambda asked: [file_answer(asked, data)],
        "no ranges": lambda asked: [answer(200, data)],
        "chunked": lambda asked: chunked([data[:100], data[100:]]),
        "compressed": lambda asked: [answer(200, gzip.compress(data), {"Content-Encoding": "gzip"})],
        "HEAD is forbidden": lambda asked: [answer(403) if asked.method == "HEAD" else file_answer(asked, data)],
        "HEAD is unknown": lambda asked: [answer(501) if asked.method == "HEAD" else answer(200, data)],
    }


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("how", archive_answers(b""))
@pytest.mark.parametrize("rest", ["a.bin", "a.bin?key=1&b=2", "get?file=a", "a%20b%2Fc", "?a", "%FF"])
def test_archives_from_servers_of_every_kind(kind: str, how: str, rest: str) -> None:
    with RawServer(archive_answers(archives()[kind])[how]) as server:
        url = f"{server.url}/pub/{rest}"
        backend = sources.open_source(Mount(f"{kind}://dir::{url}", cache=ReadCache(), timeout=5))
        assert contents(backend, ("inside",)) == b"in the archive"
        backend.close()
        assert {asked.target for asked in server.asked} == {f"/pub/{rest}"}
        opener = ZipBackend if kind == "zip" else TarBackend
        with_opener = opener.open_url(url, root="dir")
        assert contents(with_opener, ("inside",)) == b"in the archive"
        with_opener.close()


def test_two_queries_are_two_archives_for_the_cache() -> None:
    made: dict[str, bytes] = {}
    for query in ("1", "2"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as writer:
            writer.writestr("inside", query)
        made[f"/get?id={query}"] = archive.getvalue()
    cache = ReadCache()
    with RawServer(lambda asked: [file_answer(asked, made[asked.target])]) as server:
        for query in ("1", "2"):
            backend = sources.open_source(Mount(f"zip://*::{server.url}/get?id={query}", cache=cache))
            assert contents(backend, ("inside",)) == query.encode()
            backend.close()


def test_an_archive_that_grows_for_ever_ends_with_the_bytes_of_the_mounting(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        return chunked(itertools.repeat(bytes(64 << 10)))

    with RawServer(answers) as server:
        allowance = waiting.Allowance(100, 3 * MIB, 1000)
        with waiting.bounded_by(None, allowance), pytest.raises((MountError, FsError), match="remote_bytes"):
            sources.open_source(Mount(f"tar://*::{server.url}/a.tar", cache=ReadCache(), timeout=5))
        assert server.sent < 20 * MIB
        monkeypatch.setattr(http_answers, "WHOLE_MAX_BYTES", 2 * MIB)
        with pytest.raises(MountError, match="larger than"):
            sources.open_source(Mount(f"tar://*::{server.url}/a.tar", cache=ReadCache(), timeout=5))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_messages_name_the_kind_of_the_archive(kind: str) -> None:
    with RawServer(lambda asked: [answer(404)]) as server:
        for url in (f"{server.url}/x", f"{server.url}/x?secret", f"simplecache::{server.url}/x"):
            with pytest.raises(MountError, match=f"{kind} archive") as caught:
                sources.open_source(f"{kind}://*::{url}")
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [gzip.compress(DATA)[:-20], b"\x1f\x8b" + bytes(50), b"no gzip at all"],
    ids=["cut off", "broken", "none"],
)
def test_what_comes_compressed_and_broken_is_io(body: bytes) -> None:
    with RawServer(serving(lambda asked: [answer(200, body, {"Content-Encoding": "gzip"})], None)) as server:
        backend = mounted(server)
        assert errno_of(backend.open, ("file",), False) is Errno.IO
        backend.close()


def test_an_encoding_that_nobody_asked_for_is_io() -> None:
    with RawServer(serving(lambda asked: [answer(200, DATA, {"Content-Encoding": "br"})], None)) as server:
        backend = mounted(server)
        assert errno_of(backend.open, ("file",), False) is Errno.IO
        backend.close()


def test_a_bomb_ends_at_the_bytes_of_the_run() -> None:
    bomb = gzip.compress(bytes(256 * MIB))
    with RawServer(serving(lambda asked: [answer(200, bomb, {"Content-Encoding": "gzip"})], None)) as server:
        result = vfswasi.run(
            compile_guest("seqread"),
            ["/d/file", "512"],
            preopens={"/d": a_mount(server)},
            capture_output=True,
            limits=vfswasi.Limits(remote_bytes=8 * MIB),
        )
        assert result.returncode != 0


def test_a_bomb_ends_at_what_a_file_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answers, "WHOLE_MAX_BYTES", 4 * MIB)
    bomb = gzip.compress(bytes(64 * MIB))
    with RawServer(serving(lambda asked: [answer(200, bomb, {"Content-Encoding": "gzip"})], None)) as server:
        backend = mounted(server)
        assert errno_of(backend.open, ("file",), False) is Errno.FBIG
        backend.close()


def test_secrets_of_requests_are_in_no_chain_of_errors() -> None:
    broken = False

    def answers(asked: Asked) -> Iterable[bytes]:
        return [b"HTTP/1.1 x y z\r\n\r\n"] if broken else [file_answer(asked, DATA)]

    with RawServer(serving(answers, None)) as server:
        secrets = {"headers": {"Authorization": "hunter2"}}
        source = Mount(f"{server.url}/pub?sig=hunter2", storage_options=secrets, cache=ReadCache(), timeout=5)
        backend = sources.open_source(source)
        handle = backend.open(("file",), False)
        broken = True
        for call in (lambda: backend.stat(("other",)), lambda: handle.read_into(0, bytearray(10))):
            with pytest.raises(FsError) as caught:
                call()
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))
        handle.close()
        backend.close()


# Directories


def test_a_page_that_goes_on_for_ever_is_not_taken() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        if asked.path == "/pub/sub/":
            return flood(head_of(200, {"Content-Type": "text/html"}))
        if asked.path == "/pub/bomb/":
            return [page_answer(gzip.compress(bytes(64 * MIB)), {"Content-Encoding": "gzip"})]
        if asked.path.endswith("/"):
            return [page_answer('<a href="sub/">x</a><a href="bomb/">x</a>')]
        return [answer(301, b"", {"Location": asked.path + "/"})]

    with RawServer(answers) as server:
        backend = mounted(server)
        before = waiting.buffers().within.used  # type: ignore[union-attr]
        assert errno_of(lambda: list(backend.list(("sub",)))) in (Errno.FBIG, Errno.NOMEM)
        assert errno_of(lambda: list(backend.list(("bomb",)))) in (Errno.FBIG, Errno.NOMEM)
        assert waiting.buffers().within.used == before  # type: ignore[union-attr]
        assert server.sent < 64 * MIB
        backend.close()


def test_a_page_that_is_given_up_is_given_back_to_the_budget() -> None:
    more = threading.Event()

    def answers(asked: Asked) -> Iterable[bytes]:
        if asked.path == "/pub/sub":
            return [answer(301, b"", {"Location": asked.path + "/"})]
        return slow_page() if asked.path == "/pub/sub/" else [page_answer('<a href="sub/">x</a>')]

    def slow_page() -> Iterator[bytes]:
        yield head_of(200, {"Content-Type": "text/html"})
        yield b" " * MIB
        more.wait(20)
        yield b'<a href="x">'

    with RawServer(answers) as server:
        backend = mounted(server, timeout=60)
        allowance = waiting.Allowance(1000, 1 << 30, 1000)
        deadline = Deadline(1.5)
        with waiting.bounded_by(deadline, allowance):
            assert errno_of(lambda: list(backend.list(("sub",)))) is Errno.CANCELED
        more.set()
        end = time.monotonic() + 20
        while allowance.buffers.used and time.monotonic() < end:
            gc.collect()
            time.sleep(0.02)
        assert allowance.buffers.used == 0
        assert server.sent > MIB
        backend.close()


def test_pages_are_taken_from_the_budget_of_the_run() -> None:
    page = '<a href="x">' + " " * MIB
    with RawServer(lambda asked: [page_answer(page)]) as server:
        backend = mounted(server)
        allowance = waiting.Allowance(1000, 1 << 30, 1000, buffer_bytes=MIB)
        with waiting.bounded_by(None, allowance):
            assert errno_of(lambda: list(backend.list(()))) is Errno.NOMEM
        assert allowance.buffers.used == 0
        with waiting.bounded_by(None, waiting.Allowance(1000, 1 << 30, 1000)):
            assert [entry.name for entry in backend.list(())] == ["x"]
        backend.close()


def test_a_page_of_too_many_names_is_nomem() -> None:
    page = "".join(f"<a href={number}>" for number in range(5000))
    with RawServer(lambda asked: [page_answer(page)]) as server:
        backend = mounted(server)
        with waiting.bounded_by(None, waiting.Allowance(1000, 1 << 30, 4000)):
            assert errno_of(lambda: list(backend.list(()))) is Errno.NOMEM
        backend.close()


def test_x8_a_page_that_takes_long_ends_with_the_run() -> None:
    with RawServer(lambda asked: [page_answer(b"<a " + b"a " * (7 * MIB))]) as server:
        started = time.monotonic()
        preopens = {"/d": a_mount(server)}
        with pytest.raises(vfswasi.GuestTimeoutError):
            vfswasi.run(compile_guest("liststat"), ["/d"], preopens=preopens, capture_output=True, timeout=1.0)
        assert time.monotonic() - started < 10


def test_what_is_no_page_has_no_links() -> None:
    with RawServer(lambda asked: [answer(200, b'<a href="x">', {"Content-Type": "text/plain"})]) as server:
        backend = mounted(server)
        assert list(backend.list(())) == []
        backend.close()


def test_a_compressed_page_is_a_page() -> None:
    page = gzip.compress(b'<a href="x">')
    with RawServer(lambda asked: [page_answer(page, {"Content-Encoding": "gzip"})]) as server:
        backend = mounted(server)
        assert [entry.name for entry in backend.list(())] == ["x"]
        backend.close()


def test_a_file_that_no_page_names_is_found_before_and_after_a_listing() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        if asked.path in ("/pub/", "/pub/sub/"):
            return [page_answer('<a href="listed">x</a><a href="sub/">x</a>')]
        if asked.path in ("/pub/listed", "/pub/unlisted", "/pub/sub/unlisted"):
            return [file_answer(asked, DATA)]
        return [answer(404)]

    with RawServer(answers) as server:
        backend = mounted(server)
        for _ in range(2):
            assert contents(backend, ("unlisted",)) == DATA
            assert contents(backend, ("sub", "unlisted")) == DATA
            assert backend.walk((), ("sub", "unlisted"))[0] == 2
            assert errno_of(backend.stat, ("missing",)) is Errno.NOENT
            assert {entry.name for entry in backend.list(())} == {"listed", "sub"}
            list(backend.list(("sub",)))
        backend.close()


@pytest.mark.parametrize("status", [403, 404, 405, 410])
def test_a_directory_without_a_page_is_mounted_and_its_files_are_read(status: int) -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        return [answer(status) if asked.path.endswith("/") else file_answer(asked, DATA)]

    with RawServer(answers) as server:
        backend = mounted(server)
        assert contents(backend, ("file",)) == DATA
        if status == 403:
            assert errno_of(lambda: list(backend.list(()))) is Errno.ACCES
        elif status == 405:
            assert errno_of(lambda: list(backend.list(()))) is Errno.IO
        else:
            assert list(backend.list(())) == []
        backend.close()


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_server_that_wants_something_else_is_not_mounted(status: int) -> None:
    with RawServer(lambda asked: [answer(status)]) as server, pytest.raises(MountError, match=str(status)):
        mounted(server)


# What a server says of a file


@pytest.mark.parametrize(
    ("headers", "size", "time_ns"),
    [
        ({"Content-Length": "5", "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"}, 5, 1_700_000_000 * 10**9),
        ({"Content-Length": "5", "Last-Modified": "yesterday"}, 5, None),
        ({"Content-Length": "5", "Last-Modified": "Tue, 14 Nov 99999999999 22:13:20 GMT"}, 5, None),
        ({"Content-Length": "5", "Last-Modified": "x" * 8000}, 5, None),
        ({"Content-Length": "5", "ETag": '"' + "x" * 5000 + '"'}, 5, None),
        ({"Content-Length": "5", "ETag": '"\xe9"'}, 5, None),
        ({"Content-Length": "5", "ETag": '"'}, 5, None),
    ],
)
def test_what_headers_say_is_checked(headers: dict[str, str], size: int, time_ns: int | None) -> None:
    with RawServer(serving(lambda asked: [answer(404)], headers)) as server:
        backend = mounted(server)
        stat = backend.stat(("file",))
        assert (stat.filetype, stat.size, stat.mtim_ns) == (FileType.REGULAR_FILE, size, time_ns)
        backend.close()


@pytest.mark.parametrize("length", ["-5", "abc", "1e3", str(1 << 64), "99999999999999999999999", "0x10", "٣", "5, 6"])
def test_a_length_that_is_none_is_an_error_or_unknown(length: str) -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        return [f"HTTP/1.1 200 X\r\nContent-Length: {length}\r\n\r\n".encode()]

    with RawServer(serving(answers, None)) as server:
        backend = mounted(server)
        assert errno_of(backend.stat, ("file",)) in (Errno.IO, Errno.SUCCESS)
        assert errno_of(lambda: contents(backend, ("file",))) in (Errno.IO, Errno.SUCCESS)
        backend.close()


def test_requests_of_redirects_are_charged() -> None:
    def answers(asked: Asked) -> Iterable[bytes]:
        if asked.path == "/pub/":
            return [page_answer("")]
        return [answer(302, b"", {"Location": f"/pub/{len(asked.path)}x{'y' * len(asked.path)}"})]

    with RawServer(answers) as server:
        backend = mounted(server)
        allowance = waiting.Allowance(3, 1 << 30, 1000)
        with waiting.bounded_by(None, allowance):
            assert errno_of(backend.stat, ("file",)) is Errno.DQUOT
        assert allowance.requests == 3
        assert len([asked for asked in server.asked if asked.path != "/pub/"]) == 3
        backend.close()
