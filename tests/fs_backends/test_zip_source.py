"""ZipBackend: where archives come from, and what is said when they do not."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.fs_backends.zip_forge import archive, errno_of, mount, noise, read, read_all, tree
from vfswasi.errors import Errno, MountError
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.printing import redacted


def test_root_inside_the_archive() -> None:
    data = archive({"a/b/f": b"1", "a/g": b"2"})
    assert tree(mount(data, root="a/b")) == {"f": b"1"}
    assert tree(mount(data, root="/a/")) == {"b": {"f": b"1"}, "g": b"2"}
    for root, reason in {
        "none": "no such directory",
        "a/g": "not a directory",
        "../a": "no such",
        "a//b": "no such",
    }.items():
        with pytest.raises(MountError, match=reason) as caught:
            mount(data, root=root)
        assert repr(root) in str(caught.value)


def test_an_archive_with_something_in_front_and_a_comment() -> None:
    file = io.BytesIO(b"#!/bin/sh\n" * 9)
    file.seek(0, 2)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as target:
        target.writestr("f", b"data")
        target.comment = b"PK\1\2" * 20
    assert tree(mount(file.getvalue(), max_entries=1)) == {"f": b"data"}


class ReadOnlyObject:
    """The least that a file object can be."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.seek = self._file.seek
        self.read = self._file.read


@pytest.mark.parametrize("kind", [io.BytesIO, ReadOnlyObject, type("Sub", (io.BytesIO,), {})])
def test_file_objects(kind: type) -> None:
    backend = ZipBackend(kind(archive({"f": b"data"})))
    assert tree(backend) == {"f": b"data"}
    backend.close()


def test_a_file_object_that_fails_later_is_io() -> None:
    class Flaky(ReadOnlyObject):
        def fail(self, *_: object) -> bytes:
            raise ConnectionResetError("a client's own exception")

    file = Flaky(archive({"f": b"data", "s": b"d"}))
    backend = ZipBackend(file)
    file.read = file.fail
    assert errno_of(backend.open, ("f",), False) is Errno.IO


@pytest.mark.parametrize("source", [7, None, b"name.zip", io.StringIO("text"), object()])
def test_what_is_no_source_is_a_type_error(source: object) -> None:
    with pytest.raises(TypeError, match="path or a seekable binary file"):
        ZipBackend(source)  # type: ignore[arg-type]


def test_a_file_object_that_cannot_seek_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe, pytest.raises(MountError, match="cannot seek"):
        ZipBackend(pipe)


def test_fsspec_urls(tmp_path: Path) -> None:
    data = archive({"a/f": b"data", "a/big": noise(200_000)})
    (tmp_path / "outer.zip").write_bytes(archive({"inner.zip": data}, zipfile.ZIP_STORED))
    memory = fsspec.filesystem("memory")
    memory.pipe("/test_zip/a.zip", data)
    try:
        for url in ("memory://test_zip/a.zip", f"zip://inner.zip::{tmp_path}/outer.zip"):
            backend = ZipBackend.open_url(url, root="a")
            assert tree(backend) == {"f": b"data", "big": noise(200_000)}
            backend.close()
        second = ZipBackend.open_url("memory://test_zip/a.zip")
        # One object for everybody: our reads must depend on its position as little as they move it.
        shared = memory.open("/test_zip/a.zip")
        shared.seek(3)
        assert read_all(second, "a", "f") == b"data"
        assert shared.tell() == 3
        with pytest.raises(MountError, match=r"memory://test_zip/none.zip.*FileNotFoundError"):
            ZipBackend.open_url("memory://test_zip/none.zip")
    finally:
        memory.rm("/test_zip", recursive=True)


def test_secrets_of_a_url_do_not_reach_messages() -> None:
    assert redacted("zip://a::https://me:pw@host/a.zip?sig=1#f") == "zip://a::https://***@host/a.zip?***"
    with pytest.raises(MountError) as caught:
        ZipBackend.open_url("nosuchprotocol://user:hunter2@host/a.zip?token=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_mount_error_is_one_line_that_names_the_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    os.mkfifo(tmp_path / "fifo.zip")
    for name in ("none.zip", "bad.zip", "fifo.zip", "", "nul\0.zip"):
        with pytest.raises(MountError, match=r"^cannot mount zip archive [^\n]*; [^\n]*$") as caught:
            ZipBackend(tmp_path / name)
        assert repr(os.fspath(tmp_path / name)) in str(caught.value)


def test_a_closed_backend_and_a_shortened_archive_read_as_io(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive({"f": noise(500_000)}, zipfile.ZIP_STORED))
    backend = ZipBackend(path)
    handle = backend.open(("f",), False)
    os.truncate(path, 1000)
    assert errno_of(read, handle, 5000, 100) is Errno.IO
    assert errno_of(read, handle, 0, 100_000) is Errno.IO
    backend.close()
    assert errno_of(read, handle, 0, 10) is Errno.IO
