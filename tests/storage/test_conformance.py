"""The conformance kit over file systems of fsspec: in memory, local, and on two real S3 servers."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.memory.backend import Symlink
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.backend import FsspecBackend, FsspecClient
from vfswasi.fs_backends.remote.reader import ReadOptions
from vfswasi.fs_backends.trust import UNKNOWN
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import AWKWARD_NAMES, TREE, errno_of

from .servers import Server

_numbers = itertools.count()


class TestFsspecMemory(BackendConformance):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        fs = MemoryFileSystem()  # one store for the whole process
        root = f"/conformance-{next(_numbers)}"

        def fill(where: str, below: dict[str, Any]) -> None:
            fs.mkdir(where)
            for name, value in below.items():
                if isinstance(value, dict):
                    fill(f"{where}/{name}", value)
                else:
                    fs.pipe_file(f"{where}/{name}", value)

        fill(root, tree)
        return FsspecBackend(fs, root)


class TestFsspecWithLinks(BackendConformance):
    """What is done with a store that is trusted and may have links, on one that has: nobody mounts a directory so."""

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def make(self, tree: dict[str, Any]) -> Backend:
        root = self.directory / "root"
        shutil.rmtree(root, ignore_errors=True)

        def fill(where: Path, below: dict[str, Any]) -> None:
            where.mkdir()
            for name, value in below.items():
                if isinstance(value, dict):
                    fill(where / name, value)
                elif isinstance(value, Symlink):
                    (where / name).symlink_to(value.target)
                else:
                    (where / name).write_bytes(value)

        fill(root, tree)
        nature = replace(UNKNOWN, in_process=True)
        return RemoteBackend(FsspecClient(LocalFileSystem(), str(root), nature=nature), ReadOptions(readahead=0))


def fill_bucket(server: Server, bucket: str, tree: dict[str, Any], prefix: str = "") -> None:
    """Objects below `prefix`; an empty directory is a marker."""
    fs = server.file_system()
    for name, value in tree.items():
        if isinstance(value, dict):
            if not value:
                fs.call_s3("put_object", Bucket=bucket, Key=f"{prefix}{name}/", Body=b"")
            fill_bucket(server, bucket, value, f"{prefix}{name}/")
        else:
            fs.call_s3("put_object", Bucket=bucket, Key=f"{prefix}{name}", Body=value)


class _S3(BackendConformance):
    symlinks_in_tree = False
    server: Server

    def make(self, tree: dict[str, Any]) -> Backend:
        bucket = self.server.new_bucket()
        fill_bucket(self.server, bucket, tree, "pre/fix/")
        return FsspecBackend(self.server.file_system(), f"{bucket}/pre/fix", rename_directories=True)


class TestSeaweedFS(_S3):
    names = tuple(name for name in AWKWARD_NAMES if "\\" not in name)  # the server makes "/" of it

    @pytest.fixture(autouse=True)
    def _server(self, seaweed: Server) -> None:
        self.server = seaweed


class TestMoto(_S3):
    names = tuple(name for name in AWKWARD_NAMES if "\n" not in name)  # the server answers 404

    @pytest.fixture(autouse=True)
    def _server(self, moto: Server) -> None:
        self.server = moto


def test_directories_of_a_bucket_are_not_renamed_unasked(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    fill_bucket(s3_server, bucket, TREE)
    backend = FsspecBackend(s3_server.file_system(), bucket)
    assert errno_of(backend.rename, ("dir",), ("new",)) is Errno.NOTSUP
    assert errno_of(backend.symlink, "target", ("link",)) is Errno.NOTSUP
    assert errno_of(backend.link, ("file",), ("second",)) is Errno.NOTSUP
    assert errno_of(backend.set_times, ("file",), 1, 1) is Errno.NOTSUP
    assert {entry.name for entry in backend.list(())} == set(TREE)
    backend.close()


class _OverlayOverS3(_S3):
    symlinks_in_tree = False

    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(super().make(tree), close_base=True)


class TestOverlayOverSeaweedFS(_OverlayOverS3):
    names = TestSeaweedFS.names

    @pytest.fixture(autouse=True)
    def _server(self, seaweed: Server) -> None:
        self.server = seaweed


class TestOverlayOverMoto(_OverlayOverS3):
    names = TestMoto.names

    @pytest.fixture(autouse=True)
    def _server(self, moto: Server) -> None:
        self.server = moto


class TestOverlayOverFsspecWithoutNumbers(TestFsspecMemory):
    """A store whose objects have no numbers: those of the overlay are made of names."""

    def make(self, tree: dict[str, Any]) -> Backend:
        base = super().make(tree)
        assert base.stat(()).ident is None
        return OverlayBackend(base, close_base=True)


class TestOverlayOverFsspecWithLinks(TestFsspecWithLinks):
    def make(self, tree: dict[str, Any]) -> Backend:
        return OverlayBackend(super().make(tree), close_base=True)
