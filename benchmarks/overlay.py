"""What an overlay costs: system calls on an overlay over memory beside the same on plain memory, as ratios.

    python benchmarks/overlay.py [--rounds 100]

Both are measured in one process, in turns; of each the quickest round counts. Then what a program copies that rewrites
the first block of a large file, and how long it takes to rename a directory of 100,000 names.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vfswasi import MemoryBackend
from vfswasi.abi import constants as c
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.kernel import rights
from vfswasi.kernel.clocks import Deadline
from vfswasi.kernel.paths import change, stat
from vfswasi.kernel.paths.open import open_at
from vfswasi.kernel.process import Preopen, Process

COUNT = 50  # so few that a round is seldom interrupted
ROOT = 3  # the descriptor of the preopen
BIG = 1 << 20
_READ = c.RIGHT_FD_READ | c.RIGHT_FD_SEEK
Row = Callable[["Bench"], Callable[[], None]]


class Bench:
    """A process on one of the stores, with the same tree."""

    def __init__(self, wrap: Callable[[MemoryBackend], Backend]) -> None:
        tree = {f"f{number}": bytes(4096) for number in range(COUNT)}
        self.backend = wrap(MemoryBackend({"d": tree, "big": bytes(BIG), "w": {}}))
        self.process = Process(preopens=[Preopen("/d", self.backend, False)])
        self.serial = 0

    def open(self, path: str, oflags: int = 0, base: int = _READ) -> int:
        return open_at(self.process, ROOT, True, path, oflags, base, 0, 0)

    def close(self, fd: int) -> None:
        self.process.fds.close(fd)

    def fresh(self) -> list[str]:
        self.serial += 1
        return [f"w/{self.serial}-{number}" for number in range(COUNT)]

    def make(self, path: str, data: bytearray) -> None:
        fd = self.open(path, c.OFLAG_CREAT, rights.FILE)
        self.process.fds.file(fd, c.RIGHT_FD_WRITE).write([memoryview(data)], Deadline())
        self.close(fd)


def _stat(bench: Bench) -> Callable[[], None]:
    paths = [f"d/f{number}" for number in range(COUNT)]

    def run() -> None:
        for path in paths:
            stat.stat_at(bench.process, ROOT, True, path)

    return run


def _open_close(bench: Bench) -> Callable[[], None]:
    paths = [f"d/f{number}" for number in range(COUNT)]

    def run() -> None:
        for path in paths:
            bench.close(bench.open(path))

    return run


def _read(size: int, positioned: bool) -> Row:
    def row(bench: Bench) -> Callable[[], None]:
        file = bench.process.fds.file(bench.open("big"), c.RIGHT_FD_READ)
        buffers, deadline = [memoryview(bytearray(size))], Deadline()
        offsets = [number * size % BIG for number in range(COUNT)]

        def run() -> None:
            file.cursor = 0
            for offset in offsets:
                if positioned:
                    file.pread(buffers, offset)
                else:
                    file.read(buffers, deadline)

        return run

    return row


def _readdir(bench: Bench) -> Callable[[], None]:
    fd = open_at(bench.process, ROOT, True, "d", c.OFLAG_DIRECTORY, 0, 0, 0)

    def run() -> None:
        bench.process.mounts[0].volume.listings.clear()  # or nobody asks the store
        bench.process.fds.directory(fd, 0).read_entries(0, 1 << 20)

    return run


def _create(bench: Bench) -> Callable[[], None]:
    data = bytearray(100)

    def run() -> None:
        for path in bench.fresh():
            bench.make(path, data)

    return run


def _unlink(bench: Bench) -> Callable[[], None]:
    _create(bench)()
    paths = [f"w/{bench.serial}-{number}" for number in range(COUNT)]

    def run() -> None:
        for path in paths:
            change.unlink_at(bench.process, ROOT, path)

    return run


def _rename(bench: Bench) -> Callable[[], None]:
    _create(bench)()
    paths = [f"w/{bench.serial}-{number}" for number in range(COUNT)]

    def run() -> None:
        for path in paths:
            change.rename_at(bench.process, ROOT, path, ROOT, path + "r")

    return run


def _first_write(bench: Bench) -> Callable[[], None]:
    """To a file of 4 KiB that nobody has written to: plain memory has nothing to copy."""
    paths, data = [f"d/f{number}" for number in range(COUNT)], [memoryview(bytearray(16))]

    def run() -> None:
        for path in paths:
            fd = bench.open(path, 0, rights.FILE)
            bench.process.fds.file(fd, c.RIGHT_FD_WRITE).write(data, Deadline())
            bench.close(fd)

    return run


ROWS: dict[str, tuple[Row, int]] = {  # and how many operations there are in a round
    "stat": (_stat, COUNT),
    "open, close": (_open_close, COUNT),
    "read 16 B": (_read(16, False), COUNT),
    "pread 16 B": (_read(16, True), COUNT),
    "read 64 KiB": (_read(65536, False), COUNT),
    "pread 64 KiB": (_read(65536, True), COUNT),
    "readdir, 50 names": (_readdir, 1),
    "create, write 100 B, close": (_create, COUNT),
    "unlink": (_unlink, COUNT),
    "rename": (_rename, COUNT),
    "first write, 4 KiB file": (_first_write, COUNT),
}
ANEW = frozenset({"create, write 100 B, close", "unlink", "rename", "first write, 4 KiB file"})  # the store, each round
STORES: dict[str, Callable[[MemoryBackend], Backend]] = {
    "memory": lambda memory: memory,
    "private overlay": lambda memory: OverlayBackend(memory, private=True),
    "overlay": OverlayBackend,
}


def measure(name: str, rounds: int) -> dict[str, float]:
    """Microseconds per operation: the quickest round on each store."""
    row, count = ROWS[name]
    best = dict.fromkeys(STORES, float("inf"))
    kept = {store: row(Bench(wrap)) for store, wrap in STORES.items()} if name not in ANEW else {}
    for _ in range(rounds):
        for store, wrap in STORES.items():
            run = kept.get(store) or row(Bench(wrap))
            started = time.perf_counter()
            run()
            best[store] = min(best[store], (time.perf_counter() - started) / count * 1e6)
    return best


def copied(size: int = 200 << 20) -> int:
    """Bytes that a program copies which rewrites the first 64 KiB of a file of 200 MB."""
    overlay = OverlayBackend(MemoryBackend({"f": bytes(size)}, max_bytes=2 * size))
    process = Process(preopens=[Preopen("/d", overlay, False)])
    fd = open_at(process, ROOT, True, "f", 0, rights.FILE, 0, 0)
    process.fds.file(fd, c.RIGHT_FD_WRITE).write([memoryview(bytearray(1 << 16))], Deadline())
    process.fds.close(fd)
    assert overlay.stat(("f",)).size == size
    return overlay.space.used_memory_bytes


def renamed(names: int = 100_000) -> dict[str, float]:
    """Microseconds for renaming a directory of so many names, and for looking it up, on an overlay over a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(names):
            archive.writestr(f"d/{number}", b"")
    overlay = OverlayBackend(ZipBackend(file))
    started = time.perf_counter()
    overlay.walk((), ("d",))
    looked = time.perf_counter()
    overlay.rename(("d",), ("e",))
    done = time.perf_counter()
    return {"lookup": (looked - started) * 1e6, "rename": (done - looked) * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--row", action="append", choices=list(ROWS))
    chosen = parser.parse_args()
    print(f"{'microseconds':28}" + "".join(f"{store:>26}" for store in STORES))
    for name in chosen.row or ROWS:
        best = measure(name, chosen.rounds)
        cells = "".join(f"{value:15.2f} ({value / best['memory']:5.2f} x)" for value in best.values())
        print(f"{name:28}{cells}", flush=True)
    if not chosen.row:
        print(f"bytes copied for the first block of a 200 MB file: {copied():,}")
        times = renamed()
        found, done = times["lookup"], times["rename"]
        print(f"a directory of 100,000 names over a zip: found in {found:.0f} us, renamed in {done:.0f} us")


if __name__ == "__main__":
    main()
