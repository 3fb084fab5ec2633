"""What programs cost in requests and bytes, counted by a proxy in front of a real server."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Mount, ReadCache
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.mounts.finding.sources import open_source
from vfswasi.testing.ground import contents

from ..guest_programs import compile_guest
from .proxy import Proxy, Request
from .servers import Server

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def put_many(server: Server, bucket: str, objects: dict[str, bytes]) -> None:
    fs = server.file_system()

    async def all_of_them() -> None:
        limit = asyncio.Semaphore(32)

        async def put(key: str, data: bytes) -> None:
            async with limit:
                await fs._call_s3("put_object", Bucket=bucket, Key=key, Body=data)

        await asyncio.gather(*(put(key, data) for key, data in objects.items()))

    asyncio.run_coroutine_threadsafe(all_of_them(), fs.loop).result()


def reads(proxy: Proxy) -> list[Request]:
    return [request for request in proxy.requests() if request.method == "GET" and request.range]


def a_mount(proxy: Proxy, where: str, **options: Any) -> Mount:
    options.setdefault("cache", ReadCache())
    return Mount(f"s3://{where}", endpoint=proxy.endpoint, **options)


@pytest.fixture(scope="session")
def large(seaweed: Server) -> str:
    """bucket of an object `large` of 256 MiB."""
    bucket = seaweed.new_bucket()
    piece = os.urandom(MIB)
    seaweed.file_system().pipe_file(f"{bucket}/large", b"".join(bytes([n]) + piece[1:] for n in range(256)))
    return bucket


MEASURED = """
import sys, vfswasi
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
mount = vfswasi.Mount(sys.argv[1], endpoint=sys.argv[2])
with vfswasi.Sandbox(sys.argv[3], preopens={"/d": mount}) as sandbox:
    sandbox.run(["/d/small", "65536"], capture_output=True, check=True)
    before = resident()
    result = sandbox.run(sys.argv[4:], capture_output=True, text=True, check=True)
    print(resident() - before, result.stdout.split()[0], result.traffic["/d"].bytes_received)
"""


def test_a_large_object_read_in_order(seaweed: Server, seaweed_proxy: Proxy, large: str) -> None:
    seaweed.file_system().pipe_file(f"{large}/small", b"x" * 100_000)
    program = [sys.executable, "-c", MEASURED, f"s3://{large}", seaweed_proxy.endpoint, str(compile_guest("seqread"))]
    done = subprocess.run(
        [*program, "/d/large", "65536"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    grown_kib, total, received = map(int, done.stdout.split())
    assert total == 256 * MIB
    assert total <= received <= total * 1.01
    fetched = sum(request.received for request in reads(seaweed_proxy) if request.path.endswith("/large"))
    assert total <= fetched <= total * 1.01
    assert grown_kib < 64 * 1024


def test_random_reads_fetch_little_and_nothing_twice(seaweed_proxy: Proxy, large: str) -> None:
    result = vfswasi.run(
        compile_guest("randread"),
        ["/d/large", "1000"],
        preopens={"/d": a_mount(seaweed_proxy, large)},
        capture_output=True,
        check=True,
    )
    found = reads(seaweed_proxy)
    assert sum(request.received for request in found) <= 20 * 1000 * 4096
    assert len({request.range for request in found}) == len(found) <= 2000
    ranges = sorted(tuple(map(int, re.findall(r"\d+", request.range))) for request in found)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
    everything = sum(request.received for request in seaweed_proxy.requests() if request.method == "GET")
    of_reads = sum(request.received for request in found)
    assert of_reads < result.traffic["/d"].bytes_received <= everything  # the mount's own listing came before the run


def test_a_file_eight_directories_deep(seaweed: Server, seaweed_proxy: Proxy) -> None:
    bucket = seaweed.new_bucket()
    put_many(seaweed, bucket, {"a/b/c/d/e/f/g/h/file": b"deep down"})
    arguments = ["/d/a/b/c/d/e/f/g/h/file", "4096"]
    with vfswasi.Sandbox(compile_guest("seqread"), preopens={"/d": a_mount(seaweed_proxy, bucket)}) as sandbox:
        seaweed_proxy.reset()
        cold = sandbox.run(arguments, capture_output=True, check=True)
        assert cold.stdout.startswith(b"9 ")
        assert len(seaweed_proxy.requests()) <= 2
        seaweed_proxy.reset()
        sandbox.run(arguments, capture_output=True, check=True)
        assert seaweed_proxy.requests() == []
        # What is not there costs a few requests once, and then none.
        missing = ["/d/a/b/c/d/e/f/x/y/z/file", "4096"]
        assert sandbox.run(missing, capture_output=True).returncode == 1
        assert len(seaweed_proxy.requests()) <= 5
        seaweed_proxy.reset()
        assert sandbox.run(missing, capture_output=True).returncode == 1
        assert seaweed_proxy.requests() == []


def test_thousands_of_files_are_listed_once(seaweed: Server, seaweed_proxy: Proxy) -> None:
    bucket = seaweed.new_bucket()
    put_many(seaweed, bucket, {f"many/file-{number:05}": b"x" * (number % 7) for number in range(3_000)})
    with vfswasi.Sandbox(compile_guest("liststat"), preopens={"/d": a_mount(seaweed_proxy, bucket)}) as sandbox:
        seaweed_proxy.reset()
        result = sandbox.run(["/d/many"], capture_output=True, text=True, check=True)
        assert result.stdout == f"3000 entries, {sum(number % 7 for number in range(3_000))} bytes\n"
        assert len(seaweed_proxy.requests()) <= 4
        assert {request.method for request in seaweed_proxy.requests()} == {"GET"}
        assert result.traffic["/d"].requests == len(seaweed_proxy.requests())


def test_small_files_cost_one_request_each(seaweed: Server, seaweed_proxy: Proxy) -> None:
    bucket = seaweed.new_bucket()
    put_many(seaweed, bucket, {f"d/{number}": b"x" * 1000 for number in range(20)})
    with vfswasi.Sandbox(compile_guest("seqread"), preopens={"/d": a_mount(seaweed_proxy, bucket)}) as sandbox:
        seaweed_proxy.reset()
        for number in range(20):
            sandbox.run([f"/d/d/{number}", "1024"], capture_output=True, check=True)
        assert len(seaweed_proxy.requests()) <= 21


WRITING = """
import sys, vfswasi
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
mount = vfswasi.Mount(sys.argv[1], endpoint=sys.argv[2], rw=True)
with vfswasi.Sandbox(sys.argv[3], preopens={"/d": mount}) as sandbox:
    sandbox.run(["/d/small", "65536"], capture_output=True, check=True)
    before = resident()
    sandbox.run(["/d/large", sys.argv[4]], capture_output=True, text=True, check=True)
    print(resident() - before)
"""


def test_a_gibibyte_is_written_with_little_memory(seaweed: Server, seaweed_proxy: Proxy) -> None:
    bucket = seaweed.new_bucket()
    size = 1 << 30
    program = [sys.executable, "-c", WRITING, f"s3://{bucket}", seaweed_proxy.endpoint, str(compile_guest("seqwrite"))]
    done = subprocess.run([*program, str(size)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 128 * 1024  # an eighth
    assert seaweed.file_system().info(f"{bucket}/large")["size"] == size
    parts = [request for request in seaweed_proxy.requests() if "partNumber" in request.query]
    assert 64 <= len(parts) <= 128
    # The pattern of the guest: words that count up.
    end = seaweed.file_system().cat_file(f"{bucket}/large", start=size - 8, end=size)
    words = [number * 2654435761 % 2**32 for number in (size // 4 - 2, size // 4 - 1)]
    assert end == b"".join(word.to_bytes(4, "little") for word in words)
    seaweed.file_system().rm_file(f"{bucket}/large")


def test_a_directory_on_an_overlay_is_renamed_without_a_request(seaweed: Server, seaweed_proxy: Proxy) -> None:
    bucket = seaweed.new_bucket()
    put_many(seaweed, bucket, {f"pre/many/{number}": b"x" for number in range(3000)} | {"pre/d/only": b"y"})
    base = open_source(a_mount(seaweed_proxy, f"{bucket}/pre"))
    listed: list[tuple[str, ...]] = []
    list_of = base.list

    def noted(key: tuple[str, ...]) -> Any:
        listed.append(key)
        return list_of(key)

    base.list = noted  # type: ignore[method-assign]
    overlay = OverlayBackend(base, close_base=True)
    assert overlay.walk((), ("many",))[0] == overlay.walk((), ("d", "only"))[0] - 1 == 1  # with which renaming begins
    seaweed_proxy.reset()
    overlay.rename(("many",), ("moved",))
    overlay.rename(("moved",), ("d", "below"))
    overlay.rename(("d",), ("e",))
    assert seaweed_proxy.requests() == []
    assert listed == []
    assert contents(overlay, ("e", "below", "2999")) == b"x"
    kinds = [(entry.kind, entry.path, entry.old_path) for entry in overlay.entries()]
    assert kinds == [("renamed", "e", "d"), ("renamed", "e/below", "many")]
    overlay.close()
