"""`Mount` and its spelling on the command line; what a source string becomes."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import Mount, MountError, ReadCache, cli
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.backend import FsspecBackend
from vfswasi.mounts.amounts import parse_size
from vfswasi.mounts.finding import sources
from vfswasi.mounts.options import parse_mount, parse_source
from vfswasi.testing.ground import contents

from ..guest_programs import compile_guest


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("./corpus", Mount("./corpus")),
        ("./corpus,rw", Mount("./corpus", rw=True)),
        ("a,,b,ro", Mount("a,b", rw=False)),
        ("s3://b/p,rw,endpoint=http://h:1,anon", Mount("s3://b/p", rw=True, endpoint="http://h:1", anon=True)),
        ("s3://b,cache=64M,disk=1GiB,block=64K,readahead=off", Mount("s3://b", cache=64 << 20, disk=1 << 30,
                                                                     block=65536, readahead=0)),
        ("s3://b,timeout=2.5,listing=0", Mount("s3://b", timeout=2.5, listing=0.0)),
        ("ftp://h/d,trust,rw", Mount("ftp://h/d", trust=True, rw=True)),
        ("s3://b,rename-directories,reference,overlap", Mount("s3://b", rename_directories=True, reference=True,
                                                              overlap=True)),
        ("zip://*::s3://b/a.zip", Mount("zip://*::s3://b/a.zip")),
        ("https://h/d,redirects", Mount("https://h/d", redirects=True)),
    ],
)  # fmt: skip
def test_options_on_the_command_line(text: str, mount: Mount) -> None:
    assert parse_source(text) == mount
    assert parse_mount(f"/data/={text}") == ("/data", mount)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,rx", "there is no option 'rx'"),
        ("x,rw=1", "there is no option 'rw='"),
        ("x,token=hunter2", "there is no option 'token='"),
        ("x,cache", "there is no option 'cache'"),
        ("x,cache=many", "option cache: 'many' is not a size"),
        ("x,block=1", "too small"),
        ("x,timeout=soon", "option timeout: 'soon' is not a number of seconds"),
        ("x,timeout=0", "timeout"),
        ("s3://key:secret@bucket", "password"),
        ("zip://*::https://me:pw@host/a.zip", "password"),
    ],
)
def test_mistakes_on_the_command_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_mount(f"/data={text}")
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("0", "512", "1k", "2KiB", "3MB", "1T", "off")] == [
        0, 512, 1024, 2048, 3 << 20, 1 << 40, 0,
    ]  # fmt: skip
    for text in ("", "K", "1.5M", "-1", "1 M", "0x10", "٣"):
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(text)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rw": 1}, TypeError),
        ({"block": "64K"}, TypeError),
        ({"block": 1}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"listing": -1}, ValueError),
        ({"cache": -1}, ValueError),
        ({"cache": True}, ValueError),
        ({"anon": "yes"}, TypeError),
        ({"root": b"x"}, TypeError),
        ({"trust": 1}, TypeError),
    ],
)
def test_mistakes_in_python(options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=rf"Mount\({name}="):
        Mount("s3://bucket", **options)


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as writer:
        writer.writestr("dir/file", b"zipped")
    return path


def tarred(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as writer:
        info = tarfile.TarInfo("dir/file")
        info.size = 6
        writer.addfile(info, io.BytesIO(b"tarred"))
    return path


@pytest.mark.parametrize(
    ("make", "source", "expected"),
    [
        (zipped, "{}", b"zipped"),
        (zipped, "zip://{}", b"zipped"),
        (zipped, "zip://dir::{}", b"zipped"),
        (zipped, "zip://*::file://{}", b"zipped"),
        (tarred, "{}", b"tarred"),
        (tarred, "tar://{}", b"tarred"),
        (tarred, "tar://dir::{}", b"tarred"),
        (tarred, "tar://*::file://{}", b"tarred"),
    ],
)
def test_archives_by_path_and_url(tmp_path: Path, make: Callable[[Path], Path], source: str, expected: bytes) -> None:
    backend = sources.open_source(source.format(make(tmp_path / "archive")))
    key = ("file",) if "dir" in source else ("dir", "file")
    assert contents(backend, key) == expected
    backend.close()


def memory_url() -> str:
    fs = fsspec.filesystem("memory")
    root = f"/sources-{os.urandom(4).hex()}"
    fs.pipe_file(f"{root}/dir/file", b"remembered")
    return f"memory:/{root}"


def test_urls_and_objects_of_fsspec(tmp_path: Path) -> None:
    url = memory_url()
    fs = fsspec.filesystem("memory")
    for source in (url, Mount(fs, root=url), Mount(fs, root=url.removeprefix("memory:/"))):
        backend = sources.open_source(source)
        assert isinstance(backend, RemoteBackend)
        assert contents(backend, ("dir", "file")) == b"remembered"
        backend.close()
    (tmp_path / "file").write_bytes(b"local")
    backend = sources.open_source(Mount(fsspec.filesystem("file"), root=str(tmp_path)))
    assert isinstance(backend, LocalBackend)
    assert contents(backend, ("file",)) == b"local"
    backend.close()


def test_an_archive_in_another_file_system() -> None:
    url = memory_url()
    fs = fsspec.filesystem("memory")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("dir/file", b"zipped")
    fs.pipe_file(f"{url}/a.zip", archive.getvalue())
    backend = sources.open_source(f"zip://*::{url}/a.zip")
    assert contents(backend, ("dir", "file")) == b"zipped"
    backend.close()


class Pathish:
    """As UPath looks."""

    def __init__(self, url: str) -> None:
        self.fs = fsspec.filesystem("memory")
        self.path = url.removeprefix("memory:/")
        self.protocol = "memory"


def test_an_object_like_upath() -> None:
    backend = sources.open_source(Pathish(memory_url()))
    assert contents(backend, ("dir", "file")) == b"remembered"
    backend.close()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("nonsense://x", "'nonsense' is not a kind of source"),
        ("memory://no/such/place", "does not exist"),
        ("zip://", "names no archive"),
        ("tar://missing.tar", "missing.tar"),
        ("zip://*::memory://no/such.zip", "no such file"),
        ("reference://::memory://index.json", "option reference"),
        ("https://user:pw@[bad", r"\*\*\*"),
        (Mount("memory://x", endpoint="http://h"), "are for S3"),
        (Mount(fsspec.filesystem("file")), "root=DIRECTORY"),
    ],
)
def test_sources_that_cannot_be_mounted(source: Any, message: str) -> None:
    with pytest.raises(MountError, match=message):
        sources.open_source(source)


def test_a_file_of_fsspec_is_no_directory() -> None:
    with pytest.raises(MountError, match=r"is a file, not a directory; an archive is mounted as zip://"):
        sources.open_source(memory_url() + "/dir/file")


def test_an_object_that_is_no_source() -> None:
    with pytest.raises(TypeError, match="not int"):
        sources.open_source(7)


def test_a_file_system_that_only_answers_coroutines() -> None:
    class Asynchronous:
        protocol = "x"
        asynchronous = True

    with pytest.raises(MountError, match="asynchronous=True"):
        FsspecBackend(Asynchronous())


# Caches


def test_a_read_cache_keeps_what_was_used_last() -> None:
    cache = ReadCache(100)
    for index in range(10):
        cache.put("file", index, bytes(20))
    assert len(cache) == 100
    assert [index for index in range(10) if cache.get("file", index) is not None] == [5, 6, 7, 8, 9]
    cache.get("file", 5)
    cache.put("other", 0, bytes(20))
    assert cache.get("file", 5) is not None
    assert cache.get("file", 6) is None
    cache.drop("file", 7, 8)
    assert len(cache) == 60
    cache.clear()
    assert len(cache) == 0


def test_a_read_cache_on_disk(tmp_path: Path) -> None:
    cache = ReadCache(100, disk_bytes=200, directory=tmp_path)
    (private,) = tmp_path.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    for index in range(30):
        cache.put("file", index, bytes([index]) * 20)
    found = {index for index in range(30) if cache.get("file", index) == bytes([index]) * 20}
    assert 10 <= len(found) <= 15
    assert sum(path.stat().st_size for path in private.rglob("*") if path.is_file()) <= 200
    del cache
    assert list(tmp_path.iterdir()) == []


def test_mistakes_about_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (-1, True, "64M"):
        with pytest.raises((TypeError, ValueError), match="memory_bytes"):
            ReadCache(wrong)  # type: ignore[arg-type]
    with pytest.raises(MountError, match="no directory for the cache"):
        ReadCache(disk_bytes=1, directory=tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "zict", None)
    with pytest.raises(MountError, match="disk-cache"):
        ReadCache(disk_bytes=1)


# Zip archives that are written to


def test_a_run_that_ends_well_writes_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "new.zip"
    result = vfswasi.run(
        compile_guest("seqwrite"), ["/z/file", "1000"], preopens={"/z": Mount(path, rw=True)}, capture_output=True
    )
    assert result.returncode == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.read("file")) == 1000


@pytest.mark.parametrize("end", ["trap", "status"])
def test_a_run_that_fails_leaves_the_archive_alone(tmp_path: Path, end: str) -> None:
    path = zipped(tmp_path / "old.zip")
    before = path.read_bytes()
    with vfswasi.Sandbox(compile_guest("seqwrite"), preopens={"/z": Mount(path, rw=True)}) as sandbox:
        arguments = ["/z/dir/file", "1000", "trap"] if end == "trap" else ["/z/dir", "1"]
        assert sandbox.run(arguments, capture_output=True).returncode != 0
        assert path.read_bytes() == before
        # What it did is gone for the next run as well.
        assert sandbox.run(["/z/dir/new", "10"], capture_output=True).returncode == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.read("dir/file") == b"zipped"
        assert len(archive.read("dir/new")) == 10


def test_an_archive_that_somebody_else_changed_is_not_overwritten(tmp_path: Path) -> None:
    path = zipped(tmp_path / "old.zip")
    with vfswasi.Sandbox(compile_guest("seqwrite"), preopens={"/z": Mount(path, rw=True)}) as sandbox:
        zipped(tmp_path / "theirs.zip").replace(path)
        before = path.read_bytes()
        with pytest.raises(vfswasi.UncommittedError, match="/z") as caught:
            sandbox.run(["/z/file", "10"], capture_output=True)
        assert caught.value.result.returncode == 0
        assert path.read_bytes() == before


# The command line


def test_tmp_and_dev_in_one_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = str(compile_guest("seqwrite"))
    assert cli.main(["run", "--tmp", program, "/tmp/file", "10"]) == 0
    assert cli.main(["run", program, "/tmp/file", "10"]) == 1
    assert cli.main(["run", "--dev", str(compile_guest("seqread")), "/dev/null", "16"]) == 0
    assert capfd.readouterr().out == "written\n0 0000000000000000\n"
    assert cli.main(["run", "--tmp", "--mount", "/tmp=mem:", program]) == 125
    assert "given twice" in capfd.readouterr().err


def test_the_mounts_command_takes_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mounts", memory_url() + ",block=64K"]) == 0
    assert "file  10" in capsys.readouterr().out
    assert cli.main(["mounts", "x,nonsense"]) == 125
    assert "there is no option 'nonsense'" in capsys.readouterr().err
