"""What compiling in a process of its own costs, and what may be compiled without one:
python benchmarks/compiling.py [FILE ...]

For each file, seconds of the clock and MiB at the peak: compiled here, compiled in a process of its own, and what that
spent beside compiling. Then, for each shape of `tests/slow_modules.py`, the largest module of it that counts as small:
seconds of the processor's time on all cores, and MiB, for both ways of interruption. Everything is compiled in a fresh
process each time, and nothing is taken from the cache.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.slow_modules import SHAPES  # noqa: E402
from vfswasi.engine.compiling import costs, modules  # noqa: E402
from vfswasi.engine.compiling.features import NONE  # noqa: E402
from vfswasi.engine.interruption.ways import EPOCH, PAGE, Way  # noqa: E402
from vfswasi.limits import Limits  # noqa: E402

ROUNDS = 3


def largest_small(shape: str) -> int:
    """The size up to which a module of that shape is small, to 64 bytes; 0: never."""
    least, most = 0, 2 * costs.BYTES_MAX
    while most - least > 64:
        size = (least + most) // 2
        least, most = (size, most) if costs.is_small(SHAPES[shape](size)) else (least, size)
    return least


def peak_mib(who: int) -> int:
    return resource.getrusage(who).ru_maxrss >> 10


def measure(what: str, name: str, *more: str) -> None:
    """In this process, which was started for it: prints numbers."""
    if what == "shape":
        size, way = int(more[0]), PAGE if more[1] == PAGE else EPOCH
        wasm, used = SHAPES[name](size), peak_mib(resource.RUSAGE_SELF)
        settings: tuple[bool, frozenset[str], int, Way] = (False, NONE, modules.STACK_BYTES, way)
        started = time.process_time()
        modules.compiled_here(wasm, name, settings)
        print(f"{time.process_time() - started:.2f}", peak_mib(resource.RUSAGE_SELF) - used)
        return
    wasm, settings = Path(name).read_bytes(), (False, NONE, modules.STACK_BYTES, PAGE)
    started = time.monotonic()
    if what == "here":
        modules.compiled_here(wasm, name, settings)
        print(f"{time.monotonic() - started:.2f}", peak_mib(resource.RUSAGE_SELF))
    else:
        _, _, seconds = modules._made(wasm, name, hashlib.sha256(wasm), settings, Limits(compile_seconds=None))
        took = time.monotonic() - started
        print(f"{took:.2f}", peak_mib(resource.RUSAGE_CHILDREN), f"{took - seconds:.2f}")


def measured(*what: str) -> list[float]:
    """The best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, __file__, "--measure", *what], env=dict(os.environ), capture_output=True, check=True
        )
        found.append([float(number) for number in done.stdout.split()])
    return min(found)


def main() -> None:
    print(f"{'program':32} {'here s':>8} {'MiB':>6} {'apart s':>8} {'MiB':>6} {'beside s':>8}")
    for name in sys.argv[1:]:
        here, apart = measured("here", name), measured("apart", name)
        print(f"{Path(name).name:32} {here[0]:8.2f} {here[1]:6.0f} {apart[0]:8.2f} {apart[1]:6.0f} {apart[2]:8.2f}")
    print(f"\n{'shape':32} {'bytes':>8} {'page s':>8} {'MiB':>6} {'epoch s':>8} {'MiB':>6}")
    for shape in SHAPES:
        size = largest_small(shape)
        if size < 100:
            print(f"{shape:32} {'never':>8}")
            continue
        page, epoch = (measured("shape", shape, str(size), way) for way in (PAGE, EPOCH))
        print(f"{shape:32} {size:8} {page[0]:8.2f} {page[1]:6.0f} {epoch[0]:8.2f} {epoch[1]:6.0f}")


if __name__ == "__main__":
    measure(*sys.argv[2:]) if sys.argv[1:2] == ["--measure"] else main()
