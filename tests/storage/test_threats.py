"""S1 to S4 as a guest meets them, P2 and P6 on object stores, and E5 in requests: against real servers.

Faults of the network, one by one, are in test_s3_faults.py; keys that are no names in test_s3_hostile_keys.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import zipfile
from collections import Counter
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, Limits, Mount, ReadCache
from vfswasi.abi import constants as c

from ..rawguest import ALL_FILE_RIGHTS, GuestErrno, RawGuest
from .proxy import Proxy
from .servers import Server

MIB = 1 << 20
SECRET = b"of somebody else"
OUTSIDE = {"secret": SECRET, "mm/f": SECRET, "m-evil/f": SECRET, "m": SECRET, "other/m/f": SECRET}
INSIDE = {"m/f": b"content", "m/d/g": b"below", "m/d/e/h": b"deep"}


def put(server: Server, bucket: str, key: str, data: bytes) -> bool:
    """Whether the server takes such a key."""
    try:
        server.file_system().call_s3("put_object", Bucket=bucket, Key=key, Body=data)
    except OSError:
        return False
    return True


def objects(server: Server, bucket: str) -> dict[str, str]:
    """Every object of a bucket: key -> ETag, which is a hash of the contents."""
    listed = server.file_system().call_s3("list_objects_v2", Bucket=bucket)
    assert not listed.get("IsTruncated")
    return {entry["Key"]: entry["ETag"].strip('"') for entry in listed.get("Contents", [])}


def etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def bucket(s3_server: Server) -> str:
    """INSIDE below "m/", and OUTSIDE around it, of which SeaweedFS cannot have the object "m"."""
    name = s3_server.new_bucket()
    for key, data in (INSIDE | OUTSIDE).items():
        assert put(s3_server, name, key, data) or key == "m"
    return name


def a_mount(where: str, endpoint: str, **options: Any) -> Mount:
    return Mount(f"s3://{where}", **{"rw": True, "endpoint": endpoint, "cache": ReadCache(), **options})


def outside(server: Server, bucket: str) -> dict[str, str]:
    return {key: data for key, data in objects(server, bucket).items() if not key.startswith("m/")}


# S2, P2: the bucket and the prefix.

WAYS_OUT = [
    "../secret", "..", "../m-evil/f", "../mm/f", "d/../../secret", "d/../../../other/m/f", "/secret", "//secret",
    "./../secret", "d/e/../../../secret", "/m/f", "../m/f",
]  # fmt: skip
LOOK_LIKE_WAYS = [
    "..%2fsecret", "%2e%2e%2fsecret", "\uff0e\uff0e\uff0fsecret", "..\u2215secret", "-evil", "m-evil",
    "s3:", "*", "?versionId=1", "#x", "a b", "+", "&x=1", "%", "~", "$HOME", "f::f", "\u00e9", "e\u0301", "F",
]  # fmt: skip


def test_s2_nothing_that_a_guest_names_reaches_another_prefix(s3_server: Server, bucket: str) -> None:
    before = outside(s3_server, bucket)
    with RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint)}) as guest:
        for path in WAYS_OUT:
            assert guest.try_open(path)[0] is Errno.NOTCAPABLE
            assert guest.try_open(path, oflags=c.OFLAG_CREAT | c.OFLAG_TRUNC, base=64)[0] is Errno.NOTCAPABLE
            assert guest.mkdir(path) is guest.unlink(path) is guest.rmdir(path) is Errno.NOTCAPABLE
            assert guest.rename("f", path) is guest.rename(path, "new") is Errno.NOTCAPABLE
            assert guest.link("f", path) is Errno.NOTCAPABLE
        assert b"secret" not in guest.names()
    assert outside(s3_server, bucket) == before


def test_p6_an_odd_name_touches_exactly_one_object(s3_server: Server, bucket: str) -> None:
    """Made, listed, read, written again, moved and removed."""
    before = objects(s3_server, bucket)
    with RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint, listing=0)}) as guest:
        for name in LOOK_LIKE_WAYS[:: 1 if type(s3_server).__name__ == "SeaweedFS" else 2]:
            assert guest.try_open(name)[0] is Errno.NOENT
            guest.close_fd(guest.create(name, b"odd"))
            assert objects(s3_server, bucket) == before | {f"m/{name}": etag(b"odd")}
            assert name.encode() in guest.names()
            assert guest.contents(name) == b"odd"
            guest.close_fd(guest.create(name, b"again"))
            assert guest.rename(name, f"d/{name}") is Errno.SUCCESS
            assert objects(s3_server, bucket) == before | {f"m/d/{name}": etag(b"again")}
            assert guest.unlink(f"d/{name}") is Errno.SUCCESS
            assert objects(s3_server, bucket) == before


@pytest.mark.parametrize("name", ["..\\secret", "..\\..\\secret", "d\\..\\..\\secret", "\\secret", "back\\slash"])
def test_p6_a_backslash_leads_nowhere_even_where_a_server_makes_a_slash_of_it(
    s3_server: Server, bucket: str, name: str
) -> None:
    """SeaweedFS does: there such a name is refused or is one below the mount, and nothing outside is touched."""
    before = outside(s3_server, bucket)
    inside = objects(s3_server, bucket)
    guest = RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint, listing=0)})
    try:
        guest.try_open(name)
        try:
            guest.close_fd(guest.create(name, b"odd"))
        except GuestErrno as error:
            met = error.errno
        else:
            met = Errno.SUCCESS
        assert met is Errno.SUCCESS or type(s3_server).__name__ == "SeaweedFS"
        after = objects(s3_server, bucket)
        assert outside(s3_server, bucket) == before
        assert {key: value for key, value in after.items() if key in inside} == inside
        assert len(set(after) - set(inside)) == (met is Errno.SUCCESS)
        guest.unlink(name)
        assert outside(s3_server, bucket) == before
        for lost in guest.wasi._process.fds.get(3, 0).mount.backend.take_uncommitted():  # type: ignore[attr-defined]
            lost.close()
    finally:
        guest.close()


# S1: keys that are no names.


def test_s1_hostile_keys_break_no_listing_and_nothing_is_listed_twice(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    hostile = ["m/../x", "m/./x", "m//x", "m/d//x", "m//", "m/..", "m/.", "m/d/..", "m/d/./x", "m/" + "n" * 300, "m/d/"]
    assert put(s3_server, bucket, "m/d/g", b"below")
    assert put(s3_server, bucket, "m/f", b"content")
    taken = [key for key in hostile if put(s3_server, bucket, key, b"hostile")]
    assert taken
    with RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint, rw=False)}) as guest:
        for path in (".", "d"):
            fd = guest.opendir(path)
            names = [entry.name for entry in guest.readdir(fd)]
            assert len(set(names)) == len(names)
            assert names.count(b".") == names.count(b"..") == 1
            assert b"" not in names
        assert guest.contents("f") == b"content"
        assert guest.contents("d/g") == b"below"
        for path in ("../x", "d/../../x"):
            assert guest.try_open(path)[0] is Errno.NOTCAPABLE
        for path in ("./x", "//x", "d//x", "d/./x"):
            assert guest.try_open(path)[0] is not Errno.SUCCESS or type(s3_server).__name__ == "SeaweedFS"


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
@pytest.mark.parametrize("first", ["list", "stat", "open", "below"])
def test_s1_a_key_that_is_file_and_prefix_is_a_directory_however_it_is_met(s3_server: Server, first: str) -> None:
    bucket = s3_server.new_bucket()
    for key in ("m/both", "m/both/inner", "m/both.txt", "m/bot"):
        assert put(s3_server, bucket, key, key.encode())
    with RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint)}) as guest:
        {
            "list": lambda: guest.names(),
            "stat": lambda: guest.stat("both"),
            "open": lambda: guest.try_open("both"),
            "below": lambda: guest.contents("both/inner"),
        }[first]()
        assert guest.names() == [b"bot", b"both", b"both.txt"]
        assert guest.stat("both").filetype == 3
        assert guest.try_open("both", base=64)[0] is Errno.ISDIR
        assert guest.unlink("both") is Errno.ISDIR
        assert guest.contents("both/inner") == b"m/both/inner"
        assert guest.contents("both.txt") == b"m/both.txt"


# S3: never a partial object, never a hang.


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize("how", [403, 404, 429, 500, 503, "refuse", "cut in body", "short body"])
def test_s3_every_failure_is_an_errno_after_a_bounded_number_of_requests(
    s3_server: Server, proxy: Proxy, bucket: str, how: int | str
) -> None:
    s3_server.file_system().pipe_file(f"{bucket}/m/large", bytes(2 * MIB))
    with RawGuest({"/d": a_mount(f"{bucket}/m", proxy.endpoint, timeout=5)}) as guest:
        fd = guest.open("large")
        proxy.reset()
        proxy.fail(how, method="GET", times=1000)
        started = time.monotonic()
        errno = guest.call("fd_pread", fd, *guest.iovs((0x10000, 4096)), MIB, 0x3000)
        assert errno in (Errno.IO, Errno.ACCES, Errno.NOENT, Errno.STALE), errno
        assert errno is Errno.ACCES or how != 403
        assert time.monotonic() - started < 10
        tried = Counter((request.method, request.range) for request in proxy.requests())
        # Three times, and the library's own repetitions of what a dropped connection may have lost.
        assert all(count <= 8 for count in tried.values()), tried
        proxy.heal()
        assert guest.pread(fd, 4, MIB) == bytes(4), "it passes"


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_s3_wrong_credentials_are_told_at_the_mount_and_in_time(s3_server: Server, bucket: str) -> None:
    started = time.monotonic()
    options = {"key": "AKIAWRONG", "secret": "wrong-secret"}
    with pytest.raises(vfswasi.MountError) as caught:
        RawGuest({"/d": a_mount(f"{bucket}/m", s3_server.endpoint, storage_options=options)}).close()
    assert time.monotonic() - started < 10
    assert "wrong-secret" not in str(caught.value)


# S4: nothing of the host's reaches the guest or a message.


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize("how", [403, "hang"])
def test_s4_secrets_are_in_no_log_and_in_nothing_that_a_guest_sees(
    s3_server: Server, proxy: Proxy, bucket: str, how: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"key": s3_server.key, "secret": s3_server.secret}
    mount = a_mount(f"{bucket}/m", proxy.endpoint, storage_options=options, timeout=5)
    assert s3_server.secret not in repr(mount)
    told: list[str] = []
    with caplog.at_level(logging.DEBUG, "vfswasi"):
        with RawGuest({"/d": mount}, env={"A": "1"}) as guest:
            fd = guest.create("new", b"x" * 1000)
            proxy.fail(how, times=1000)
            for name, args in (("fd_sync", (fd,)), ("fd_close", (fd,))):
                guest.call(name, *args)
            guest.try_open("d/g")
            guest.try_open("missing/x")
            memory = guest.peek(0, 4 * 65536)
            for lost in guest.wasi._process.fds.get(3, 0).mount.backend.take_uncommitted():  # type: ignore[attr-defined]
                told.append(f"{lost.path} {lost.error}")
                lost.close()
            proxy.heal()
        told += [record.getMessage() for record in caplog.records if record.name.startswith("vfswasi")]
    for secret in (s3_server.secret, str(proxy.port), "Signature=", "X-Amz-"):
        assert secret.encode() not in memory
        assert not [text for text in told if secret in text and secret != str(proxy.port)]


# E5: what calls cost in requests and bytes.


def test_e5_listing_again_asks_for_nothing(s3_server: Server, proxy: Proxy) -> None:
    bucket = s3_server.new_bucket()
    for number in range(50):
        assert put(s3_server, bucket, f"d/f{number}", b"x")
    with RawGuest({"/d": a_mount(bucket, proxy.endpoint)}) as guest:
        guest.names("d")
        proxy.reset()
        for _ in range(50):
            fd = guest.opendir("d")
            guest.readdir(fd, 256)
            guest.close_fd(fd)
            for number in range(10):
                guest.stat(f"d/f{number}")
                guest.try_open(f"d/missing{number}")
        assert proxy.count() == 0


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_e5_a_thousand_small_appends_store_one_object_once(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    with RawGuest({"/d": a_mount(f"{bucket}/m", proxy.endpoint)}) as guest:
        fd = guest.create("log", fdflags=c.FDFLAG_APPEND)
        proxy.reset()
        for _ in range(1000):
            guest.write(fd, b"line\n")
        assert proxy.totals().sent == 0
        guest.close_fd(fd)
        assert [request.kind for request in proxy.requests() if request.method != "GET"] == ["PutObject"]
        assert proxy.totals().sent <= 5000 + 2000
        assert guest.stat("log").size == 5000


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
@pytest.mark.parametrize("how", ["sync", "open and close"])
def test_e5_rewriting_an_object_for_each_append_ends_at_the_limit(
    s3_server: Server, proxy: Proxy, bucket: str, how: str
) -> None:
    """Objects cannot be appended to: each commit sends all of it. So it is paid for, and ends."""
    s3_server.file_system().pipe_file(f"{bucket}/m/large", bytes(MIB))
    limits = Limits(remote_bytes=20 * MIB)
    with RawGuest({"/d": a_mount(f"{bucket}/m", proxy.endpoint)}, limits=limits) as guest:
        met = Counter[Errno]()
        fd = -1
        for _ in range(100):
            try:
                if fd < 0 or how != "sync":
                    fd = guest.open("large", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
                guest.write(fd, b"y")
                guest.must("fd_sync" if how == "sync" else "fd_close", fd)
                met[Errno.SUCCESS] += 1
            except GuestErrno as error:
                met[error.errno] += 1
        assert met[Errno.DQUOT] > 50, met
        assert 5 <= met[Errno.SUCCESS] <= 20
        totals = proxy.totals()
        assert totals.sent + totals.received <= 21 * MIB
        for lost in guest.wasi._process.fds.get(3, 0).mount.backend.take_uncommitted():  # type: ignore[attr-defined]
            lost.close()


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_e5_opening_looking_and_truncating_fetch_no_contents(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    s3_server.file_system().pipe_file(f"{bucket}/m/large", bytes(8 * MIB))
    with RawGuest({"/d": a_mount(f"{bucket}/m", proxy.endpoint)}) as guest:
        guest.names()
        proxy.reset()
        for _ in range(20):
            fd = guest.open("large", base=ALL_FILE_RIGHTS)
            guest.fstat(fd)
            guest.seek(fd, 0, 2)
            guest.close_fd(fd)
        assert proxy.totals().received <= 64 << 10
        guest.close_fd(guest.open("large", base=ALL_FILE_RIGHTS, oflags=c.OFLAG_TRUNC))
        assert proxy.totals().received <= 128 << 10
        assert guest.stat("large").size == 0


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_e5_renaming_and_removing_move_no_bytes_through_us(s3_server: Server, proxy: Proxy, bucket: str) -> None:
    s3_server.file_system().pipe_file(f"{bucket}/m/large", bytes(8 * MIB))
    with RawGuest({"/d": a_mount(f"{bucket}/m", proxy.endpoint)}) as guest:
        proxy.reset()
        assert guest.rename("large", "d/moved") is Errno.SUCCESS
        assert guest.unlink("d/moved") is Errno.SUCCESS
        totals = proxy.totals()
        assert totals.sent + totals.received <= 64 << 10
        assert totals.requests <= 12


@pytest.mark.parametrize("s3_server", ["seaweed"], indirect=True)
def test_e5_seeking_back_in_an_archive_far_away_fetches_nothing_twice(s3_server: Server, proxy: Proxy) -> None:
    bucket = s3_server.new_bucket()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("big", json.dumps(list(range(700_000))).encode())
    s3_server.file_system().pipe_file(f"{bucket}/a.zip", file.getvalue())
    source = Mount(f"zip://*::s3://{bucket}/a.zip", endpoint=proxy.endpoint, cache=ReadCache())
    with RawGuest({"/z": source}) as guest:
        fd = guest.open("big")
        size = guest.fstat(fd).size
        proxy.reset()
        for _ in range(10):
            for offset in (size - 100, 0, size // 2, 17):
                guest.pread(fd, 10, offset)
        assert proxy.totals().received <= 2 * len(file.getvalue())
