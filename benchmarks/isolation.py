"""What a worker process costs: time of a warm run beside one in this process, time of a cold one, memory.

python benchmarks/isolation.py [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import vfswasi
from vfswasi.host.isolation.pool import POOL

EMPTY = b'(module (memory (export "memory") 1) (func (export "_start")))'
MIB = 1 << 20


def took(function: Callable[[], object], runs: int) -> list[float]:
    """Microseconds of each."""
    found = []
    for _ in range(runs):
        begun = time.perf_counter()
        function()
        found.append((time.perf_counter() - begun) * 1e6)
    return found


def told(what: str, found: list[float]) -> None:
    print(f"{what:44} median {statistics.median(found):9,.0f} us   least {min(found):9,.0f} us")


def memory(pid: int) -> None:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    parts = {name: int(lines[name].split()[0]) // 1024 for name in ("Rss", "Pss", "Private_Dirty")}
    print(f"{'memory of a worker that has run it':44} {', '.join(f'{name} {mib} MiB' for name, mib in parts.items())}")


def main(runs: int) -> None:
    files = {f"f{number}": bytes(MIB) for number in range(4)}
    for name, options in (("empty program", {}), ("with 4 MiB of files in memory", {"preopens": {"/d": files}})):
        for isolation in ("none", "process"):
            with vfswasi.Sandbox(EMPTY, isolation=isolation, **options) as sandbox:  # type: ignore[arg-type]
                took(lambda sandbox=sandbox: sandbox.run(capture_output=True), 10)  # type: ignore[misc]
                told(f"{name}, isolation={isolation}", took(lambda: sandbox.run(capture_output=True), runs))
                if isolation == "process" and not options:
                    memory(POOL.pids[0])
    told("a sandbox with a new worker, and one run", took(lambda: vfswasi.run(EMPTY, isolation="process"), 10))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
