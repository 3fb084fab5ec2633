"""A module may be anywhere that can be mounted: paths, files, URLs, members of archives, objects of libraries."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from upath import UPath

import vfswasi
from vfswasi import Limits, Mount
from vfswasi.cli import main

from ..wat_programs import program
from .http_server import HttpServer
from .raw_server import RawServer, answer
from .servers import Server

WASM = program("(call $say (i32.const 1))")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory, the working one, with the module in it and in archives; and in a store of fsspec."""
    monkeypatch.chdir(tmp_path)
    Path("p.wasm").write_bytes(WASM)
    with zipfile.ZipFile("tools.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bin/p.wasm", WASM)
        archive.writestr("top.wasm", WASM)
    with tarfile.open("tools.tar.gz", "w:gz") as archive_file:
        archive_file.add("p.wasm", "bin/p.wasm")
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/lake/p.wasm", WASM)
    fs.pipe_file("/lake/tools.zip", Path("tools.zip").read_bytes())
    yield tmp_path
    fs.rm("/lake", recursive=True)


GIVEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "path": (lambda _: "p.wasm", "p.wasm"),
    "path-like": (lambda at: at / "p.wasm", "p.wasm"),
    "path that looks like a URL": (lambda _: _renamed("./zip::p.wasm"), "zip::p.wasm"),
    "file URL": (lambda at: f"file://{at}/p.wasm", "p.wasm"),
    "bytes": (lambda _: WASM, "module.wasm"),
    "bytearray": (lambda _: bytearray(WASM), "module.wasm"),
    "file": (lambda _: io.BytesIO(Path("p.wasm").read_bytes()), "module.wasm"),
    "named file": (lambda at: _named(at / "p.wasm"), "p.wasm"),
    "member of a zip archive": (lambda _: "zip://bin/p.wasm::tools.zip", "p.wasm"),
    "member at the top": (lambda _: "zip://top.wasm::tools.zip", "top.wasm"),
    "member of a tar archive": (lambda at: f"tar://bin/p.wasm::file://{at}/tools.tar.gz", "p.wasm"),
    "Mount of an archive": (lambda _: Mount("tools.zip", root="bin/p.wasm"), "p.wasm"),
    "URL of fsspec": (lambda _: "memory://lake/p.wasm", "p.wasm"),
    "URL behind a cache": (lambda _: "simplecache::memory://lake/p.wasm", "p.wasm"),
    "member of an archive by URL": (lambda _: "zip://bin/p.wasm::memory://lake/tools.zip", "p.wasm"),
    "file system of fsspec": (lambda _: Mount(fsspec.filesystem("memory"), root="/lake/p.wasm"), "p.wasm"),
    "fsspec.open": (lambda _: fsspec.open("memory://lake/p.wasm"), "p.wasm"),
    "UPath": (lambda _: UPath("memory://lake/p.wasm"), "p.wasm"),
    "UPath of this machine": (lambda at: UPath(at / "p.wasm"), "p.wasm"),
    "backend": (lambda _: Mount(vfswasi.MemoryBackend({"d": {"p.wasm": WASM}}), root="d/p.wasm"), "p.wasm"),
}


def _renamed(path: str) -> str:
    os.rename("p.wasm", path)
    return path


def _named(path: Path) -> io.BytesIO:
    """As `open` gives it."""

    class Named(io.BytesIO):
        name = str(path)

    return Named(path.read_bytes())


@pytest.mark.parametrize("given", GIVEN)
def test_a_module_from_here_runs_and_its_last_name_is_its_name(given: str, place: Path) -> None:
    module, name = GIVEN[given]
    result = vfswasi.run(module(place), capture_output=True)
    assert (result.args, result.stdout) == ([name], b"so fa")


def test_a_file_is_read_from_where_it_is(place: Path) -> None:
    file = io.BytesIO(b"before" + WASM)
    file.seek(6)
    assert vfswasi.run(file, capture_output=True).stdout == b"so fa"


def test_a_pipe_is_read_to_its_end(place: Path) -> None:
    reading, writing = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writing, WASM), os.close(writing)))
    thread.start()
    try:
        assert vfswasi.run(f"/dev/fd/{reading}", capture_output=True).stdout == b"so fa"
    finally:
        thread.join()
        os.close(reading)


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        ("no.wasm", FileNotFoundError, "no.wasm"),
        ("zip://bin/no.wasm::tools.zip", FileNotFoundError, "zip://bin/no.wasm::tools.zip"),
        ("zip://p.wasm::no.zip", FileNotFoundError, "no.zip"),
        ("memory://lake/no.wasm", FileNotFoundError, "memory://lake/no.wasm"),
        (Mount("tools.zip", root="bin/no.wasm"), FileNotFoundError, "bin/no.wasm"),
        ("zip://no/no.wasm::tools.zip", vfswasi.ModuleError, "no such directory"),
        ("zip::tools.zip", vfswasi.ModuleError, "names no file"),
        ("zip://*::tools.zip", vfswasi.ModuleError, "names no file"),
        ("zip:///tools.zip", vfswasi.ModuleError, "names no file"),
        ("zip://bin::tools.zip", vfswasi.ModuleError, "ISDIR"),
        ("unheard://of/p.wasm", vfswasi.ModuleError, "not a kind of source"),
        (".", vfswasi.InvalidModuleError, "is a directory"),
        ("tools.zip", vfswasi.InvalidModuleError, "tools.zip"),
        (io.StringIO("text"), TypeError, "binary file"),
        (Mount({"p.wasm": b""}), TypeError, "needs its name"),
        (5, TypeError, "a path, a URL"),
        (open, TypeError, "a path, a URL"),
        (io.BytesIO, TypeError, "a path, a URL"),
    ],
)
def test_what_cannot_be_read_is_named(module: Any, error: type[Exception], words: str, place: Path) -> None:
    with pytest.raises(error) as caught:
        vfswasi.run(module)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_on_a_web_server(place: Path) -> None:
    with HttpServer({"bin/p.wasm": WASM, "tools.zip": Path("tools.zip").read_bytes()}) as server:
        for url in ("bin/p.wasm", "bin/p.wasm?signature=secret"):
            result = vfswasi.run(f"{server.endpoint}/{url}", capture_output=True)
            assert (result.args, result.stdout) == (["p.wasm"], b"so fa")
        assert vfswasi.run(f"zip://bin/p.wasm::{server.endpoint}/tools.zip", capture_output=True).stdout == b"so fa"
        with pytest.raises(FileNotFoundError, match=r"no\.wasm"):
            vfswasi.run(f"{server.endpoint}/bin/no.wasm")


def test_no_message_has_the_secrets_of_a_url(place: Path) -> None:
    with HttpServer() as server:
        url = f"http://user:pass-word@127.0.0.1:{server.port}/no.wasm?signature=pass-word"
        for status in (0, 403, 500):
            server.status = status
            with pytest.raises((vfswasi.ModuleError, FileNotFoundError)) as caught:
                vfswasi.run(url)
            error: BaseException | None = caught.value
            while error is not None:
                assert "pass-word" not in repr(error) + str(error)
                error = error.__cause__


def test_a_module_in_a_bucket(s3_server: Server, place: Path) -> None:
    bucket = s3_server.new_bucket()
    s3_server.file_system().pipe_file(f"{bucket}/bin/p.wasm", WASM)
    module = Mount(f"s3://{bucket}/bin/p.wasm", endpoint=s3_server.endpoint)
    result = vfswasi.run(module, capture_output=True)
    assert (result.args, result.stdout) == (["p.wasm"], b"so fa")
    with pytest.raises(FileNotFoundError, match=r"no\.wasm"):
        vfswasi.run(Mount(f"s3://{bucket}/bin/no.wasm", endpoint=s3_server.endpoint))


def test_a_module_that_is_too_large_is_not_fetched() -> None:
    def huge(asked: Any) -> Iterator[bytes]:
        size = 1 << 40
        headers = {"ETag": '"v"', "Content-Length": str(size), "Accept-Ranges": "bytes"}
        yield answer(200, b"", headers, length=False)

    with RawServer(huge) as server, pytest.raises(vfswasi.ModuleError, match=r"Limits\.module_bytes"):
        vfswasi.run(f"{server.url}/p.wasm")


def test_a_server_that_never_answers_costs_the_time_of_the_run() -> None:
    def silent(asked: Any) -> Iterator[bytes]:
        time.sleep(3)
        yield b""

    started = time.monotonic()
    with RawServer(silent) as server, pytest.raises(vfswasi.GuestTimeoutError, match="the module") as caught:
        vfswasi.run(f"{server.url}/p.wasm", timeout=0.3)
    assert time.monotonic() - started < 10
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_a_file_object_that_never_ends_costs_the_time_of_the_run(place: Path) -> None:
    class Slow(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            time.sleep(0.01)
            return b"\0"

    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(Slow(), timeout=0.2)
    with pytest.raises(vfswasi.ModuleError, match="module_bytes"):
        vfswasi.run(Slow(), limits=Limits(module_bytes=5))


def test_the_command_line_takes_them_too(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "zip://bin/p.wasm::tools.zip"]) == 0
    assert capfd.readouterr().out == "so fa"
    assert main(["inspect", "zip://bin/p.wasm::tools.zip"]) == 0
    assert capfd.readouterr().out.startswith("p.wasm: command")
    for command in ("run", "inspect"):
        assert main([command, "zip://bin/no.wasm::tools.zip"]) == 125
        assert capfd.readouterr().err == "vfswasi: zip://bin/no.wasm::tools.zip: no such file\n"
