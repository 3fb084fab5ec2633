"""S4: no password, key or token of a source is in anything that comes out: every source by every way out."""

from __future__ import annotations

import contextlib
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import vfswasi
from vfswasi import Mount, MountError, cli
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.backend import FsspecBackend, client_for
from vfswasi.fs_backends.remote.translate import StoreError, stand_in, translated
from vfswasi.fs_backends.trust.fsspec import Store, resolved
from vfswasi.mounts.finding.sources import open_source
from vfswasi.mounts.options import parse_mount, parse_source
from vfswasi.mounts.table import MountTable
from vfswasi.printing import printable, redacted, shown, without_secrets

from ..rawguest import RawGuest
from ..storage.http_server import HttpServer

SECRET = "Hush7Hush"
HOST = "127.0.0.1:9"  # where nobody listens
SOURCES = [
    f"https://user:{SECRET}@{HOST}/x",
    f"http://user:{SECRET}@{HOST}/x",
    f"http://{SECRET}@{HOST}/x",
    f"http://user:a/{SECRET}@{HOST}/x",
    f"http://user:a@{SECRET}@{HOST}/x",
    f"http://user:a::{SECRET}@{HOST}/x",
    f"http://user:a?{SECRET}@{HOST}/x",
    f"http://{HOST}/x?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
    f"http://{HOST}/x?sig={SECRET}",
    f"http://{HOST}/x?a=b::{SECRET}",
    f"http://{HOST}/x#{SECRET}",
    f"http://{HOST}/x;jsessionid={SECRET}",
    f"http://{HOST}/x;jsessionid={SECRET}/below",
    f"http://{HOST};{SECRET}/x",
    f"http://{HOST}/x%3Btoken={SECRET}",
    f"http://{HOST}/x;a=b?c;d={SECRET}",
    f"http://{HOST}/x;token=a/{SECRET};b",
    f"http://user;auth={SECRET}@{HOST}/x",
    f"http://user:{SECRET};x@{HOST}/x",
    f"http://user:a@{HOST}:{SECRET}/x",
    f"http://user:a@[{SECRET}/x",
    f"http://user:a@[x::{SECRET}/x",
    f"simplecache::http://{HOST}/x;token={SECRET}",
    f"zip://*::http://{HOST}/a.zip;sig={SECRET}",
    f"zip://*::http://{HOST}/b;sig={SECRET}/a.zip",
    f"ftp://{HOST}/x;type={SECRET}",
    f"nothing://{HOST}/x;key={SECRET}",
    f"pyfs+ftp://{HOST}/x;type={SECRET}",
    f"simplecache::http://user:{SECRET}@{HOST}/x",
    f"simplecache::http://{HOST}/x?token={SECRET}",
    f"filecache::simplecache::http://user:{SECRET}@{HOST}/x",
    f"s3://key:{SECRET}@bucket",
    f"s3://key:{SECRET}@bucket/prefix",
    f"s3://{SECRET}@bucket/prefix",
    f"s3://key:a/{SECRET}@bucket/prefix",
    f"file://user:{SECRET}@host/x",
    f"file://{SECRET}@host/x",
    f"ftp://user:{SECRET}@{HOST}/",
    f"sftp://user:{SECRET}@{HOST}/",
    f"nothing://user:{SECRET}@{HOST}/",
    f"nothing:///?token={SECRET}",
    f"http:/user:{SECRET}@{HOST}/x",
    f"user:{SECRET}@host:/dir",
    f"zip://*::http://user:{SECRET}@{HOST}/a.zip",
    f"zip://*::http://{HOST}/a.zip?sig={SECRET}",
    f"tar://inner::simplecache::http://user:{SECRET}@{HOST}/a.tar",
    f"zip://*::s3://key:{SECRET}@bucket/a.zip",
    f"zip://user:{SECRET}@host/x",
    f"tar://*::file://user:{SECRET}@host/x",
    f"pyfs+ftp://user:{SECRET}@{HOST}/",
    f"pyfs+nothing://user:{SECRET}@{HOST}/",
]


@pytest.fixture(autouse=True)
def _no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def everything_of(error: BaseException) -> Iterator[str]:
    """All that somebody could print of an error, of its causes and of what it arose in."""
    yield "".join(traceback.format_exception(error))
    todo, seen = [error], set()
    while todo:
        here = todo.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        yield from (str(here), repr(here), repr(here.args), repr(vars(here)), repr(getattr(here, "__notes__", "")))
        todo += [link for link in (here.__cause__, here.__context__) if link is not None]
    yield pickle.dumps(error).decode("latin-1")


def error_of(call: Callable[[], Any]) -> Iterator[str]:
    try:
        made = call()
    except Exception as error:
        yield from everything_of(error)
    else:
        yield repr(made)
        if hasattr(made, "close"):
            made.close()


def commands(argv: list[str], capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    with contextlib.suppress(SystemExit):
        cli.main(argv)
    captured = capsys.readouterr()
    yield captured.out + captured.err


def ways_out(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    wasm = tmp_path / "x.wasm"
    wasm.write_bytes(b"\0asm\1\0\0\0")

    def named(name: str, texts: Iterator[str]) -> Iterator[tuple[str, str]]:
        return ((name, text) for text in texts)

    for rw in (None, True):
        mount = Mount(source, rw=rw, timeout=2)
        yield from named("mount", error_of(lambda mount=mount: MountTable({"/d": mount})))
        yield from named("repr", iter([repr(mount), str(mount), f"{mount}", repr({"/d": mount}), repr([mount])]))
    yield from named("guest", error_of(lambda: RawGuest({"/d": source})))
    yield from named("open_source", error_of(lambda: open_source(source)))
    yield from named("two mounts", error_of(lambda: MountTable({"/d": {}, "/e": source})))
    yield from named("parse_source", error_of(lambda: parse_source(source)))
    yield from named("parse_source", error_of(lambda: parse_source(source + ",rwx")))
    yield from named("parse_source", error_of(lambda: parse_source(source.replace(SECRET, "a," + SECRET))))
    yield from named("parse_mount", error_of(lambda: parse_mount(source)))
    yield from named("parse_mount", error_of(lambda: parse_mount(f"/d={source},rwx")))
    yield from named("option", error_of(lambda: Mount({}, rw=source)))  # type: ignore[arg-type]
    yield from named("option", iter([repr(Mount("s3://b", endpoint=source)), repr(Mount("s3://b", root=source))]))
    yield from named("mounts", commands(["mounts", source], capsys))
    yield from named("mounts", commands(["mounts", "--depth", "1", source + ",timeout=2"], capsys))
    yield from named("mounts", commands(["mounts", "mem:", source], capsys))
    yield from named("run", commands(["run", "--mount", f"/d={source}", str(wasm)], capsys))
    yield from named("run", commands(["run", "--mount", source, str(wasm)], capsys))
    yield from named("run", commands(["run", source], capsys))
    yield from named("inspect", commands(["inspect", source], capsys))


@pytest.mark.parametrize("source", SOURCES)
def test_s4_no_way_out_tells_a_secret_of_a_source(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vfswasi")
    seen = 0
    for way, text in ways_out(source, tmp_path, capsys):
        seen += 1
        assert SECRET not in text, f"{way}: {text}"
    assert seen > 30
    for record in caplog.records:
        if record.name.startswith("vfswasi"):
            assert SECRET not in record.getMessage()


OPTIONS: list[dict[str, Any]] = [
    {"storage_options": {"key": "a", "secret": SECRET}},
    {"storage_options": {"key": SECRET, "secret": SECRET, "token": SECRET}},
    {"storage_options": {"s3": {"secret": SECRET, "key": "a"}}},
    {"endpoint": f"http://user:{SECRET}@{HOST}"},
    {"endpoint": f"http://{HOST}/?key={SECRET}"},
    {"storage_options": {"nonsense": SECRET}},
    {"storage_options": {"config_kwargs": {"proxies": {"http": f"http://u:{SECRET}@{HOST}"}}}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("source", ["s3://bucket/p", "zip://*::s3://bucket/a.zip"])
def test_s4_no_way_out_tells_a_secret_of_an_option(source: str, options: dict[str, Any]) -> None:
    mount = Mount(source, timeout=5, **options)
    assert SECRET not in repr(mount)
    with pytest.raises(MountError) as caught:
        MountTable({"/d": mount})
    for text in everything_of(caught.value):
        assert SECRET not in text


class Talkative(MemoryFileSystem):  # type: ignore[misc]
    """It tells its password whenever anything is wrong."""

    protocol = "talkative"

    def _fail(self, *_: Any, **__: Any) -> Any:
        try:
            raise ConnectionError(f"https://user:{SECRET}@host/")
        except ConnectionError as error:
            raise RuntimeError(f"Authorization: {SECRET}") from error

    info = ls = cat_file = pipe_file = put_file = cp_file = rm_file = mkdir = rmdir = _fail

    def __repr__(self) -> str:
        return f"Talkative({SECRET})"


def test_s4_what_a_library_says_stays_inside() -> None:
    fs = Talkative(skip_instance_cache=True)
    store = resolved(fs, f"u:{SECRET}@host/x", trust=True)
    assert isinstance(store, Store)
    backend = RemoteBackend(client_for(store))
    calls: list[Callable[[], Any]] = [
        lambda: backend.stat(("f",)),
        lambda: backend.list(()),
        lambda: backend.open(("f",), False),
        lambda: backend.create(("f",)),
        lambda: backend.mkdir(("f",)),
        lambda: backend.rmdir(("f",)),
        lambda: backend.remove(("f",)),
        lambda: backend.rename(("f",), ("g",)),
        lambda: FsspecBackend(fs, f"u:{SECRET}@host/x", trust=True),
        lambda: FsspecBackend(fs, f"http://u:{SECRET}@[host/x", trust=True),
        lambda: MountTable({"/d": Mount(fs, root="x", trust=True)}),
        lambda: MountTable({"/d": Mount(fs, root=f"talkative://user:{SECRET}@host", trust=True)}),
    ]
    for call in calls:
        with pytest.raises((FsError, MountError)) as caught:
            call()
        for text in everything_of(caught.value):
            assert SECRET not in text
    for thing in (
        backend,
        backend.client,
        Mount(fs),
        backend.client.name,
    ):
        assert SECRET not in repr(thing)


def test_s4_the_end_of_a_run_tells_nothing_of_a_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vfswasi")

    class Late(MemoryFileSystem):  # type: ignore[misc]
        protocol = "late"

        def pipe_file(self, *_: Any, **__: Any) -> Any:
            raise PermissionError(f"https://user:{SECRET}@host/")

    MemoryFileSystem().makedirs("/late", exist_ok=True)
    guest = RawGuest({"/d": Mount(Late(skip_instance_cache=True), root="/late", rw=True, trust=True)})
    guest.create("f", b"lost")
    with pytest.raises(vfswasi.UncommittedError) as caught:
        guest.close()
    lost = caught.value.files[0]
    assert lost.read() == b"lost"
    assert lost.error.errno is Errno.ACCES
    texts = [
        repr(lost),
        *everything_of(lost.error),
        str(caught.value),
        "".join(traceback.format_exception(caught.value)),
    ]
    for text in [*texts, *(record.getMessage() for record in caplog.records if record.name.startswith("vfswasi"))]:
        assert SECRET not in text
    lost.close()


def test_s4_openers_of_pyfilesystem_tell_nothing() -> None:
    pytest.importorskip("fs")
    for url in (f"ftp://user:{SECRET}@{HOST}/", f"nothing://{SECRET}", SECRET):
        with pytest.raises(MountError) as caught:
            PyFilesystemBackend(url)
        for text in everything_of(caught.value):
            assert SECRET not in text


def test_a_path_object_is_a_path_and_shown_as_it_is() -> None:
    path = Path(f"a:{SECRET}@b")
    assert repr(Mount(path)) == f"Mount('a:{SECRET}@b')"
    upath = type("UPath", (type(path),), {"__module__": "upath.core"})("x")
    assert repr(Mount(upath)) == "Mount(UPath)"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("./data#1", "./data#1"),
        ("/srv/me@home:x@y", "/srv/me@home:x@y"),
        ("data", "data"),
        ("mem:", "mem:"),
        ("s3://bucket/user@example.org/x", "s3://bucket/user@example.org/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://host:443/x/y", "https://host:443/x/y"),
        ("zip://*::https://host/a.zip", "zip://*::https://host/a.zip"),
        ("zip://in/ner::/abs/a.zip", "zip://in/ner::/abs/a.zip"),
        ("zip:///abs/a.zip", "zip:///abs/a.zip"),
        ("https://u:p@host/x?y#z", "https://***@host/x?***"),
        ("simplecache::https://u:p@host/x", "simplecache::https://***@host/x"),
        ("https://host/x;y/z", "https://host/x;***"),
        ("https://host/x;y/z?q", "https://host/x;***?***"),
        ("https://u:p@host/x;y", "https://***@host/x;***"),
        ("simplecache::https://host/x%3by", "simplecache::https://host/x;***"),
        ("https://u:p@host:443/x", "https://***@host:443/x"),
        ("https://u:p@host:p/x", "https://***@***/x"),
        ("https://u:p@[::1]:443/x", "https://***@[::1]:443/x"),
        ("s3://bucket/a;b/c", "s3://bucket/a;b/c"),
        ("zip://in;ner::/abs/a;b.zip", "zip://in;ner::/abs/a;b.zip"),
        ("file:///a;b", "file:///a;b"),
        ("./a;b", "./a;b"),
    ],
)
def test_what_is_no_secret_is_shown(source: str, text: str) -> None:
    assert redacted(source) == text
    assert shown(source) == repr(text)
    assert without_secrets(f"cannot open '{source}'") == f"cannot open '{text}'"
    assert printable(text) == text


@pytest.mark.parametrize("page", ["x", f"x;token={SECRET}/y", f"x;token={SECRET}"])
def test_s4_errors_of_a_mounted_server_tell_no_parameters(page: str) -> None:
    with HttpServer({f"{page}/f": b"x", f"{page}/a.zip;k={SECRET}": b"no archive"}) as server:
        backend = open_source(f"{server.endpoint}/{page}")
        assert SECRET not in repr(backend.client.name)  # type: ignore[attr-defined]
        server.status = 500
        calls: list[Callable[[], Any]] = [
            lambda: backend.list(("d",)),
            lambda: backend.open(("f",), False),
            lambda: open_source(f"{server.endpoint}/{page}"),
        ]
        for call in calls:
            with pytest.raises((FsError, MountError)) as caught:
                call()
            assert not any(SECRET in text for text in everything_of(caught.value))
        server.status = 0
        with pytest.raises(MountError) as refused:
            open_source(f"zip://*::{server.endpoint}/{page}/a.zip;k={SECRET}")
        assert not any(SECRET in text for text in everything_of(refused.value))
        backend.close()


def test_an_error_of_others_keeps_what_helps() -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": "NoSuchBucket", "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    try:
        raise FileNotFoundError(SECRET) from ClientError(answer, "ListObjectsV2")  # type: ignore[arg-type]
    except FileNotFoundError as error:
        made = translated(error, "s3://b: list")
    assert str(made) == "NOENT: s3://b: list: FileNotFoundError, NoSuchBucket, HTTP status 404"
    assert str(made.__cause__) == "FileNotFoundError (HTTP status 404, NoSuchBucket)"
    assert str(stand_in(OSError(28, SECRET))) == "OSError (No space left on device)"
    copy = pickle.loads(pickle.dumps(made.__cause__))
    assert isinstance(copy, StoreError)
    assert (copy.kind, copy.status, copy.code) == ("FileNotFoundError", 404, "NoSuchBucket")


def test_file_systems_are_shown_by_their_kind() -> None:
    assert repr(Mount(fsspec.filesystem("memory"))) == "Mount(MemoryFileSystem)"
