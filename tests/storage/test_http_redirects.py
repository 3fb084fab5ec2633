"""Where a web server may send us, and what goes along."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pytest

from vfswasi import Errno, FsError, Mount, MountError, ReadCache, ZipBackend
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.remote.http.session import with_guard
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from .raw_server import Asked, RawServer, answer, file_answer, page_answer

SECRETS = {"Authorization": "Bearer hunter2", "Cookie": "session=hunter2", "X-Token": "hunter2"}
DATA = bytes(range(256)) * 300


class Origin:
    """A server whose files redirect as its table says. `/pub/` is mounted; `/private/data` is beside it."""

    def __init__(self) -> None:
        self.redirects: dict[str, str] = {}
        self.status = 302
        self.server = RawServer(self._answers)

    def _answers(self, asked: Asked) -> Iterable[bytes]:
        target = self.redirects.get(asked.path)
        if target is not None:
            yield answer(self.status, b"moved", {"Location": target} if target else {})
        elif asked.path.endswith("/"):
            yield page_answer('<a href="here">x</a>')
        elif "missing" in asked.path:
            yield answer(404)
        else:
            yield file_answer(asked, DATA)

    def targets(self) -> list[str]:
        return [asked.target for asked in self.server.asked]


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    with made.server:
        yield made


@pytest.fixture
def other() -> Iterator[RawServer]:
    """Somebody else's, who would like to know what we have."""
    with RawServer(lambda asked: [file_answer(asked, b"theirs")]) as made:
        yield made


def mounted(origin: Origin, **options: Any) -> Backend:
    options.setdefault("storage_options", {"headers": SECRETS})
    return sources.open_source(Mount(f"{origin.server.url}/pub", cache=ReadCache(), timeout=5, **options))


STATUSES = (301, 302, 303, 307, 308)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("path", ["/pub/file", "/pub/"])
def test_x4_another_origin_is_never_asked(origin: Origin, other: RawServer, status: int, path: str) -> None:
    backend = mounted(origin)
    origin.status = status
    origin.redirects[path] = f"{other.url}/pub/file"
    if path == "/pub/":
        assert errno_of(lambda: list(backend.list(()))) is Errno.ACCES
    else:
        assert errno_of(backend.stat, ("file",)) is Errno.ACCES
        assert errno_of(backend.open, ("file",), False) is Errno.ACCES
    assert other.asked == []
    backend.close()


def spellings(origin: Origin, other: RawServer) -> list[str]:
    port, theirs = origin.server.port, other.port
    return [
        f"//127.0.0.1:{theirs}/pub/file",  # the scheme is ours, the rest is not
        f"http://127.0.0.1:{theirs}/pub/file",
        f"http://localhost:{port}/pub/other",  # another name is another origin
        f"https://127.0.0.1:{port}/pub/other",
        f"http://127.0.0.1:{port}@127.0.0.1:{theirs}/pub/file",
        f"http://user:pw@127.0.0.1:{port}/pub/other",
        f"http://127.0.0.1:{theirs}\\@127.0.0.1:{port}/pub/other",
        f"\\\\127.0.0.1:{theirs}/pub/file",
        f"/\\127.0.0.1:{theirs}/pub/file",
        f"\t//127.0.0.1:{theirs}/pub/file",
        "ftp://127.0.0.1/pub/file",
        "file:///etc/passwd",
        "data:text/plain,x",
        "javascript:alert(1)",
        "/private/data",
        "../private/data",
        "/pub/../private/data",
        "/pub/%2e%2e/private/data",
        "/pub/%2E%2E%2Fprivate/data",
        "/pub/..%2fprivate/data",
        "/pub/..%5cprivate/data",
        "/publication",
        "/",
        "/pub/",  # the front page that stands for what is missing
        "http://[::1",
        f"http://127.0.0.1:{port}x/pub/other",
        f"http://127.0.0.1:99999/pub/other{port}",
        "",
    ]


def test_x4_what_is_not_below_the_root_of_the_same_origin_is_refused(origin: Origin, other: RawServer) -> None:
    for spelling in spellings(origin, other):
        backend = mounted(origin)
        before = len(origin.server.asked)
        origin.redirects["/pub/file"] = spelling
        assert errno_of(backend.stat, ("file",)) is Errno.ACCES, spelling
        assert {asked.path for asked in origin.server.asked[before:]} == {"/pub/file"}, spelling
        assert other.asked == [], spelling
        backend.close()


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "location",
    ["/pub/b", "b", "./b", "x/../b", "//HOST/pub/b", "http://HOST/pub/b", "/pub//b", "/pub/b#part", "/pub/%62"],
)
def test_a_redirect_within_the_mount_is_followed(origin: Origin, status: int, location: str) -> None:
    backend = mounted(origin)
    origin.status = status
    origin.redirects["/pub/a"] = location.replace("HOST", f"127.0.0.1:{origin.server.port}")
    assert contents(backend, ("a",)) == DATA
    assert all(asked.headers["authorization"] == "Bearer hunter2" for asked in origin.server.asked)
    backend.close()


def test_a_name_that_gets_a_slash_is_a_directory(origin: Origin) -> None:
    backend = mounted(origin)
    origin.redirects["/pub/dir"] = "/pub/dir/"
    assert backend.stat(("dir",)).filetype is FileType.DIRECTORY
    assert [entry.name for entry in backend.list(("dir",))] == ["here"]
    backend.close()


def test_circles_of_redirects_end(origin: Origin) -> None:
    backend = mounted(origin)
    origin.redirects |= {"/pub/a": "/pub/b", "/pub/b": "/pub/a"}
    before = len(origin.server.asked)
    assert errno_of(backend.stat, ("a",)) is Errno.IO
    assert len(origin.server.asked) - before <= 12
    backend.close()


def test_a_redirect_that_comes_later_is_looked_at_too(origin: Origin, other: RawServer) -> None:
    backend = mounted(origin)
    handle = backend.open(("file",), False)
    origin.redirects["/pub/file"] = f"{other.url}/pub/file"
    assert errno_of(handle.read_into, 0, bytearray(10)) is Errno.ACCES
    assert other.asked == []
    handle.close()
    backend.close()


def test_a_page_that_asks_a_browser_to_go_elsewhere_is_a_page(origin: Origin, other: RawServer) -> None:
    with RawServer(
        lambda asked: [page_answer(f'<meta http-equiv="refresh" content="0; url={other.url}/"><a href="x">x</a>')]
    ) as server:
        backend = sources.open_source(Mount(f"{server.url}/pub", cache=ReadCache()))
        assert [entry.name for entry in backend.list(())] == ["x"]
        backend.close()
    assert other.asked == []


def test_the_mount_itself_redirects_elsewhere(origin: Origin, other: RawServer) -> None:
    origin.redirects["/pub/"] = f"http://me:hunter2@127.0.0.1:{other.port}/pub/?sig=hunter2"
    with pytest.raises(
        MountError, match=f"redirects to http://127.0.0.1:{other.port}/pub/, .*mount that URL"
    ) as caught:
        mounted(origin)
    assert "hunter2" not in str(caught.value)
    assert other.asked == []


def test_an_archive_that_is_elsewhere(origin: Origin, other: RawServer) -> None:
    origin.redirects["/pub/a.zip"] = f"{other.url}/pub/a.zip"
    url = f"{origin.server.url}/pub/a.zip"
    for source in (f"zip://*::{url}", f"tar://*::{url}?x=1", f"zip://*::simplecache::{url}"):
        with pytest.raises(MountError) as caught:
            sources.open_source(Mount(source, cache=ReadCache()))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(MountError, match="redirects to"):
        ZipBackend.open_url(url, storage_options={"headers": SECRETS})
    with pytest.raises(MountError):
        ZipBackend.open_url(f"simplecache::{url}", storage_options={"http": {"headers": SECRETS}})
    assert other.asked == []


def test_x4_a_file_system_that_asks_by_itself_follows_nothing_either(origin: Origin, other: RawServer) -> None:
    fs = fsspec.filesystem("http", skip_instance_cache=True, **with_guard("http://h", {"headers": SECRETS}))
    assert fs.cat_file(f"{origin.server.url}/pub/file") == DATA
    for target in (f"{other.url}/pub/file", "/private/data", f"//127.0.0.1:{other.port}/pub/file/"):
        origin.redirects["/pub/file"] = target
        with pytest.raises(FsError):
            fs.cat_file(f"{origin.server.url}/pub/file")
    assert other.asked == []
    assert "/private/data" not in origin.targets()
    fs.close_session(fs.loop, fs._session)


# Mount(redirects=True)


def test_files_from_elsewhere_are_asked_for_without_what_is_ours(origin: Origin, other: RawServer) -> None:
    backend = mounted(origin, redirects=True)
    origin.redirects["/pub/file"] = f"{other.url}/bucket/file?signed=1"
    assert contents(backend, ("file",)) == b"theirs"
    assert {asked.target for asked in other.asked} == {"/bucket/file?signed=1"}
    for asked in other.asked:
        assert "hunter2" not in repr(asked.headers)
        assert set(asked.headers) <= {"host", "accept", "accept-encoding", "user-agent", "range", "if-match"}
    backend.close()


def test_an_archive_from_elsewhere(origin: Origin) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("inside", b"in the archive")
    with RawServer(lambda asked: [file_answer(asked, archive.getvalue())]) as other:
        origin.redirects["/pub/latest"] = f"{other.url}/a-1.zip"
        source = Mount(f"zip://*::{origin.server.url}/pub/latest", redirects=True, cache=ReadCache())
        backend = sources.open_source(source)
        assert contents(backend, ("inside",)) == b"in the archive"
        backend.close()


def test_elsewhere_is_a_web_server_and_only_for_files(origin: Origin, other: RawServer) -> None:
    backend = mounted(origin, redirects=True)
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", f"http://a:b@127.0.0.1:{other.port}/x", ""):
        origin.redirects["/pub/file"] = target
        assert errno_of(backend.stat, ("file",)) is Errno.ACCES, target
    origin.redirects["/pub/dir/"] = f"{other.url}/dir/"
    assert errno_of(lambda: list(backend.list(("dir",)))) in (Errno.ACCES, Errno.NOTDIR)
    assert other.asked == []
    backend.close()
