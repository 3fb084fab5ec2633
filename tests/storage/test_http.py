"""Files of a web server, whatever it leaves out."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest

import vfswasi
from vfswasi import Errno, FsError, Mount, MountError, ReadCache
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from ..guest_programs import compile_guest
from .http_server import HttpServer

LARGE = bytes(range(256)) * 4096
FILES = {
    "pub/hello.txt": b"hello\n",
    "pub/large": LARGE,
    "pub/empty": b"",
    "pub/sub dir/100%.txt": b"percent",
    "pub/sub dir/a#b?c": b"odd",
    "secret": b"secret",
}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer(FILES) as made:
        yield made


def mounted(server: HttpServer, **options: object) -> Backend:
    source = Mount(f"{server.endpoint}/pub", cache=ReadCache(), timeout=5, **options)  # type: ignore[arg-type]
    return sources.open_source(source)


def test_a_tree_of_pages(server: HttpServer) -> None:
    backend = mounted(server)
    assert {entry.name: entry.filetype for entry in backend.list(())} == {
        "hello.txt": FileType.REGULAR_FILE,
        "large": FileType.REGULAR_FILE,
        "empty": FileType.REGULAR_FILE,
        "sub dir": FileType.DIRECTORY,
    }
    assert {entry.name for entry in backend.list(("sub dir",))} == {"100%.txt", "a#b?c"}
    assert backend.stat(("sub dir",)).filetype is FileType.DIRECTORY
    stat = backend.stat(("large",))
    assert (stat.size, stat.mtim_ns) == (len(LARGE), 1_700_000_000 * 10**9)
    for path, data in FILES.items():
        if path.startswith("pub/"):
            assert contents(backend, tuple(path.split("/")[1:])) == data
    for missing in (("nothing",), ("sub dir", "x"), ("hello.txt", "x"), ("..", "secret")[1:]):
        assert errno_of(backend.open, missing, False) in (Errno.NOENT, Errno.NOTDIR)
    assert errno_of(backend.create, ("new",)) is Errno.ROFS
    assert errno_of(backend.remove, ("hello.txt",)) is Errno.ROFS
    backend.close()


def test_a_program_reads_what_it_needs(server: HttpServer) -> None:
    result = vfswasi.run(
        compile_guest("randread"),
        ["/d/large", "3"],
        preopens={"/d": Mount(f"{server.endpoint}/pub", cache=ReadCache(), block=16 << 10)},
        capture_output=True,
        check=True,
    )
    assert result.traffic["/d"].bytes_received <= 6 * (16 << 10)
    got = [request for request in server.requests if request.method == "GET" and request.path.endswith("large")]
    assert all(request.range for request in got)


@pytest.mark.parametrize("switch", ["ignore_range", "no_length", "no_etag", "no_modified", "no_index", "etag_weak"])
def test_what_a_server_may_leave_out(server: HttpServer, switch: str) -> None:
    setattr(server, switch, True)
    backend = mounted(server)
    assert contents(backend, ("hello.txt",)) == b"hello\n"
    assert contents(backend, ("large",)) == LARGE
    assert contents(backend, ("sub dir", "100%.txt")) == b"percent"
    if switch == "no_index":
        assert list(backend.list(())) == []
    backend.close()


def test_a_file_that_is_replaced_while_it_is_open(server: HttpServer) -> None:
    backend = mounted(server)
    handle = backend.open(("large",), False)
    buffer = bytearray(100)
    handle.read_into(0, buffer)
    server.put("pub/large", b"n" * len(LARGE), 1_800_000_000.0)
    with pytest.raises(FsError) as caught:
        handle.read_into(900_000, buffer)
    assert caught.value.errno is Errno.IO
    handle.close()
    backend.close()


@pytest.mark.parametrize(
    ("status", "errno"), [(403, Errno.ACCES), (401, Errno.ACCES), (500, Errno.IO), (503, Errno.IO)]
)
def test_answers_that_are_errors(server: HttpServer, status: int, errno: Errno) -> None:
    backend = mounted(server)
    server.status = status
    assert errno_of(backend.open, ("hello.txt",), False) is errno
    backend.close()
    if status != 403:
        with pytest.raises(MountError):
            mounted(server).close()


def test_a_server_that_is_gone(server: HttpServer) -> None:
    backend = mounted(server)
    server.stop()
    assert errno_of(backend.open, ("hello.txt",), False) is Errno.IO
    backend.close()
    with pytest.raises(MountError, match="check the URL and the connection"):
        mounted(server)


def test_an_archive_on_a_web_server(server: HttpServer) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("padding", bytes(4 << 20))
        writer.writestr("data/small", b"in the archive")
    server.put("pub/a.zip", archive.getvalue())
    source = Mount(f"zip://data::{server.endpoint}/pub/a.zip", cache=ReadCache())
    result = vfswasi.run(compile_guest("seqread"), ["/z/small", "512"], preopens={"/z": source}, capture_output=True)
    assert result.stdout.startswith(b"14 ")
    backend = sources.open_source(source)
    assert contents(backend, ("small",)) == b"in the archive"
    traffic = backend.traffic()
    assert traffic is not None
    assert traffic.bytes_received < 300_000
    backend.close()
