"""What stands around a bucket is unwrapped to the bucket."""

from __future__ import annotations

import pytest
from fsspec.implementations.dirfs import DirFileSystem

from vfswasi import Mount, MountError
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import FileType
from vfswasi.fs_backends.remote.s3.client import S3Client
from vfswasi.mounts.finding import sources
from vfswasi.testing.ground import contents, errno_of

from ..rawguest import RawGuest
from .servers import Server


@pytest.mark.parametrize("what", ["simplecache", "filecache", "blockcache", "dir"])
def test_a_bucket_behind_a_wrapper_is_the_bucket(what: str, s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    s3_server.file_system().pipe_file(f"{bucket}/in/a", b"old")
    url = f"dir://in::s3://{bucket}" if what == "dir" else f"{what}::s3://{bucket}/in"
    backend = sources.open_source(Mount(url, rw=True, endpoint=s3_server.endpoint))
    assert isinstance(backend.client, S3Client)  # type: ignore[attr-defined]
    assert contents(backend, ("a",)) == b"old"
    backend.mkdir(("empty",))
    handle = backend.open(("a",), True)
    handle.append(b"+")
    handle.close()
    backend.rename(("a",), ("b",))
    backend.close()
    again = sources.open_source(Mount(f"s3://{bucket}/in", endpoint=s3_server.endpoint))
    assert again.stat(("empty",)).filetype is FileType.DIRECTORY
    assert contents(again, ("b",)) == b"old+"
    assert errno_of(again.stat, ("a",)) is Errno.NOENT
    again.close()


def test_overlaps_of_a_bucket_are_seen_through_wrappers(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    s3_server.file_system().pipe_file(f"{bucket}/in/d/a", b"old")
    view = DirFileSystem(f"{bucket}/in", s3_server.file_system())
    plain = Mount(s3_server.file_system(), root=f"{bucket}/in/d", rw=True)
    for other in (view, Mount(s3_server.file_system(), root=bucket)):
        with pytest.raises(MountError, match="overlap"):
            RawGuest({"/a": plain, "/b": other})


def test_root_narrows_a_bucket(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    for name in ("in/public/x", "in/private/k", "in/publicity/k", "in/we?ird#1/y"):
        s3_server.file_system().call_s3("put_object", Bucket=bucket, Key=name, Body=b"x")
    mount = {"endpoint": s3_server.endpoint}
    for root, name in (("public", "x"), ("we?ird#1", "y")):
        backend = sources.open_source(Mount(f"s3://{bucket}/in", root=root, **mount))
        assert [entry.name for entry in backend.list(())] == [name]
        assert contents(backend, (name,)) == b"x"
        backend.close()
    for root in ("..", "../in", "/public", "public/../private"):
        with pytest.raises(MountError, match="root="):
            sources.open_source(Mount(f"s3://{bucket}/in", root=root, **mount))
