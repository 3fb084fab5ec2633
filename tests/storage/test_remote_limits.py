"""E1, S3: what a run may ask of stores that are far away, counted by a proxy in front of real servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

import vfswasi
from vfswasi import Errno, Limits, Mount, ReadCache

from ..guest_programs import compile_guest
from .proxy import Proxy
from .servers import Server

MIB = 1 << 20


@contextlib.contextmanager
def mounts_without_quota() -> Iterator[list[vfswasi.MountError]]:
    """The errors of mounts for which the requests of the run did not suffice."""
    refused: list[vfswasi.MountError] = []
    try:
        yield refused
    except vfswasi.MountError as error:
        if "Limits.remote_requests" not in str(error):
            raise
        refused.append(error)


@pytest.fixture
def bucket(s3_server: Server) -> str:
    name = s3_server.new_bucket()
    s3_server.file_system().pipe_file(f"{name}/large", bytes(20 * MIB))
    for number in range(30):
        s3_server.file_system().pipe_file(f"{name}/d/{number}", b"x" * 100)
    return name


def mount(proxy: Proxy, where: str, **options: bool) -> Mount:
    return Mount(f"s3://{where}", endpoint=proxy.endpoint, cache=ReadCache(), **options)


def test_bytes_that_are_read(proxy: Proxy, bucket: str) -> None:
    result = vfswasi.run(
        compile_guest("seqread"),
        ["/d/large", "65536"],
        preopens={"/d": mount(proxy, bucket)},
        limits=Limits(remote_bytes=4 * MIB),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "quota" in result.stderr.lower()
    assert result.usage.remote_bytes <= 4 * MIB
    assert result.traffic["/d"].bytes_received <= 4 * MIB
    assert sum(request.received for request in proxy.requests() if request.path.endswith("large")) <= 4 * MIB


def test_read_ahead_takes_nothing_away_from_what_the_guest_asks_for(proxy: Proxy, bucket: str) -> None:
    """What it asks for in all, answers to listings included, is exactly enough, whatever was fetched ahead."""
    asked = vfswasi.run(
        compile_guest("seqread"),
        ["/d/large", "65536"],
        preopens={"/d": mount(proxy, bucket)},
        capture_output=True,
        check=True,
    ).usage.remote_bytes
    assert 20 * MIB <= asked <= 20 * MIB + 64 * 1024
    for limit, returncode in ((asked, 0), (20 * MIB - 1, 2)):
        result = vfswasi.run(
            compile_guest("seqread"),
            ["/d/large", "65536"],
            preopens={"/d": mount(proxy, bucket)},
            limits=Limits(remote_bytes=limit),
            capture_output=True,
        )
        assert result.returncode == returncode


def test_requests(proxy: Proxy, bucket: str) -> None:
    with vfswasi.Sandbox(
        compile_guest("liststat"), preopens={"/d": mount(proxy, bucket)}, limits=Limits(remote_requests=3)
    ) as sandbox:
        proxy.reset()  # the mount was looked at
        result = sandbox.run(["/d/d"], capture_output=True, check=True)
        assert len(proxy.requests()) == result.usage.remote_requests <= 3
        assert result.traffic["/d"].requests == result.usage.remote_requests


def test_mounting_is_counted_with_the_run_that_it_is_for(proxy: Proxy, bucket: str) -> None:
    result = vfswasi.run(
        compile_guest("liststat"), ["/d/d"], preopens={"/d": mount(proxy, bucket)}, capture_output=True, check=True
    )
    assert len(proxy.requests()) == result.usage.remote_requests == result.traffic["/d"].requests
    enough = result.usage.remote_requests
    assert enough > 1
    for limit in range(enough):
        proxy.reset()
        with mounts_without_quota() as refused:
            short = vfswasi.run(
                compile_guest("liststat"),
                ["/d/d"],
                preopens={"/d": mount(proxy, bucket)},
                limits=Limits(remote_requests=limit),
                capture_output=True,
            )
            assert short.returncode != 0
        assert refused or limit
        assert len(proxy.requests()) <= limit


@pytest.mark.parametrize("size", [2 * MIB, 40 * MIB])
def test_bytes_that_are_written(proxy: Proxy, bucket: str, s3_server: Server, size: int) -> None:
    """The guest hears of it, nothing of the file is left on the server, and the caller has what was written."""
    with pytest.raises(vfswasi.UncommittedError) as caught:
        vfswasi.run(
            compile_guest("seqwrite"),
            ["/d/new", str(size), "ignore"],
            preopens={"/d": mount(proxy, bucket, rw=True)},
            limits=Limits(remote_bytes=MIB),
            capture_output=True,
        )
    (lost,) = caught.value.files
    assert lost.error.errno is Errno.DQUOT
    assert lost.size <= size
    assert lost.read(0, 4) == bytes(4)
    lost.close()
    fs = s3_server.file_system()
    fs.invalidate_cache()
    assert not fs.exists(f"{bucket}/new")
    assert sum(request.sent for request in proxy.requests()) < 2 * MIB


def test_each_run_has_its_own(proxy: Proxy, bucket: str) -> None:
    store = Mount(f"s3://{bucket}", endpoint=proxy.endpoint, cache=0)
    with vfswasi.Sandbox(
        compile_guest("seqread"), preopens={"/d": store}, limits=Limits(remote_bytes=25 * MIB)
    ) as sandbox:
        for _ in range(2):
            assert sandbox.run(["/d/large", "65536"], capture_output=True).returncode == 0
