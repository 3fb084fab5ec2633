"""What one user has read, another who may not read it does not get from the cache: with users of a real server."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, Mount, ReadCache

from ..rawguest import GuestErrno, RawGuest
from .servers import Server

PATIENT = b"a patient's name" * 1000


@pytest.fixture(scope="module")
def bucket(seaweed: Server) -> str:
    name = seaweed.new_bucket()
    seaweed.file_system().call_s3("put_object", Bucket=name, Key="records/secret", Body=PATIENT)
    return name


def as_user(server: Server, bucket: str, user: str | None, cache: ReadCache | None = None, **options: Any) -> Mount:
    """`user`: None for whom the environment names."""
    keys = {} if user is None else {"key": user, "secret": f"{user}-secret"}
    return Mount(f"s3://{bucket}/records", endpoint=server.endpoint, cache=cache, storage_options={**keys, **options})


def read(mount: Mount) -> Errno | bytes:
    with RawGuest({"/d": mount}) as guest:
        try:
            return guest.contents("secret")
        except GuestErrno as error:
            return error.errno


@pytest.mark.parametrize("disk", [0, 1 << 20], ids=["memory", "disk"])
def test_who_may_only_list_does_not_read_what_another_has_read(seaweed: Server, bucket: str, disk: int) -> None:
    cache = ReadCache(1 << 20 if not disk else 1, disk_bytes=disk)
    assert read(as_user(seaweed, bucket, None, cache)) == PATIENT
    assert read(as_user(seaweed, bucket, "lister", cache)) is Errno.ACCES
    assert read(as_user(seaweed, bucket, "looker", cache)) == PATIENT


def test_it_is_so_for_the_cache_that_all_mounts_share(seaweed: Server, bucket: str) -> None:
    assert read(as_user(seaweed, bucket, None)) == PATIENT
    assert read(as_user(seaweed, bucket, "lister")) is Errno.ACCES


def test_it_is_so_for_archives(seaweed: Server, bucket: str) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("secret", PATIENT)
    seaweed.file_system().call_s3("put_object", Bucket=bucket, Key="archive.zip", Body=made.getvalue())
    cache = ReadCache()

    def mount(user: str) -> Mount:
        keys = {"key": user, "secret": f"{user}-secret"}
        url = f"zip://*::s3://{bucket}/archive.zip"
        return Mount(url, endpoint=seaweed.endpoint, cache=cache, storage_options=keys)

    assert read(mount("looker")) == PATIENT
    with pytest.raises(vfswasi.MountError, match="403"):
        RawGuest({"/d": mount("lister")}).close()


def test_it_is_so_for_file_system_objects(seaweed: Server, bucket: str) -> None:
    import s3fs

    cache = ReadCache()

    def mount(user: str) -> Mount:
        fs = s3fs.S3FileSystem(
            key=user, secret=f"{user}-secret", endpoint_url=seaweed.endpoint, skip_instance_cache=True
        )
        return Mount(fs, root=f"{bucket}/records", cache=cache)

    assert read(mount("looker")) == PATIENT
    assert read(mount("lister")) is Errno.ACCES


def test_it_is_so_when_the_environment_changes(seaweed: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReadCache()
    assert read(as_user(seaweed, bucket, None, cache)) == PATIENT
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lister")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lister-secret")
    assert read(as_user(seaweed, bucket, None, cache)) is Errno.ACCES


def test_the_same_user_finds_what_it_has_read(seaweed: Server, bucket: str) -> None:
    """Through another mount, and wherever its keys come from."""
    cache = ReadCache()
    assert read(as_user(seaweed, bucket, None, cache)) == PATIENT
    for keys in ({}, {"key": seaweed.key, "secret": seaweed.secret}):
        mount = as_user(seaweed, bucket, None, cache, **keys)
        with RawGuest({"/d": mount}) as guest:
            before = guest.wasi._process.fds.get(3, 0).mount.backend.traffic()  # type: ignore[attr-defined]
            assert guest.contents("secret") == PATIENT
            after = guest.wasi._process.fds.get(3, 0).mount.backend.traffic()  # type: ignore[attr-defined]
        assert (after - before).bytes_received < min(len(PATIENT), 1024), "what a listing takes"


def test_mounts_with_other_credentials_are_one_place(seaweed: Server, bucket: str) -> None:
    preopens = {
        "/ro": as_user(seaweed, bucket, "looker"),
        "/rw": Mount(f"s3://{bucket}", rw=True, endpoint=seaweed.endpoint),
    }
    with pytest.raises(vfswasi.MountError, match="other permissions"):
        RawGuest(preopens).close()
