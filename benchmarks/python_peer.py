"""The peers that live in Python, each in a process of its own.

    python python_peer.py HOST guest MODULE SOURCE [ARGUMENT...]     run the benchmark program, which prints its rows
    python python_peer.py HOST start [--scale F]                     measure starting an empty program, print the rows
    python python_peer.py HOST threads MODULE [--scale F]            the same row in one guest and in two at once

HOST is `vfswasi` or `wasmtime`. SOURCE is what the program sees as /d: `mem:`, a directory (writable), or, for
vfswasi, a zip archive. Neither package is imported before it is needed: importing belongs to a cold start.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

# What a C program has at least: memory, and the two exports of a command.
EMPTY = b'(module (memory (export "memory") 1) (func (export "_start")))'

WARM_RUNS = 300

SMALL_READ = "read 16 B"
TWO = "read 16 B, two guests on two threads"

COLD, WARM = "cold start, empty program", "warm run, empty program"


def vfswasi_guest(module: str, source: str, args: list[str]) -> int:
    import vfswasi

    preopen = vfswasi.Mount(source, rw=True) if os.path.isdir(source) else source
    return vfswasi.run(module, args, preopens={"/d": preopen}).returncode


def wasmtime_guest(module: str, source: str, args: list[str]) -> int:
    import wasmtime

    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    config.argv = ["bench.wasm", *args]
    config.inherit_stdout()
    config.inherit_stderr()
    config.preopen_dir(source, "/d")  # writable by default
    store.set_wasi(config)
    instance = linker.instantiate(store, wasmtime.Module.from_file(engine, module))
    start = instance.exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as ending:
        return ending.code
    return 0


def vfswasi_start() -> Callable[[], object]:
    """A call that runs the empty program once; all that can be shared between runs is made here."""
    import vfswasi

    return vfswasi.Sandbox(EMPTY, preopens={"/d": {}}).run


def wasmtime_start() -> Callable[[], object]:
    """The same with wasmtime-py's own WASI: a store and an instance per run; the rest is shared, as in a Sandbox."""
    import wasmtime

    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, EMPTY)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    directory = os.path.dirname(os.path.abspath(__file__))

    def run() -> None:
        store = wasmtime.Store(engine)
        config = wasmtime.WasiConfig()
        config.argv = ["bench.wasm"]
        config.inherit_stdout()
        config.inherit_stderr()
        config.preopen_dir(directory, "/d")
        store.set_wasi(config)
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        start(store)

    return run


def measure_start(prepare: Callable[[], Callable[[], object]], runs: int) -> None:
    """Print the cold start (import to the end of the first run) and the median warm run, in microseconds."""
    begin = time.perf_counter_ns()
    run = prepare()
    run()
    print(f"{COLD}\t{(time.perf_counter_ns() - begin) / 1000:.1f}")
    taken_ns = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        run()
        taken_ns.append(time.perf_counter_ns() - begin)
    print(f"{WARM}\t{statistics.median(taken_ns) / 1000:.1f}")


def vfswasi_threads(module: str, scale: float) -> None:
    """Print what an operation takes when two guests read at once: wall time over the operations of both.

    Each counts its own time in a batch of at least 200 ms; both begin together, so nearly all of it overlaps.
    """
    import vfswasi

    sandbox = vfswasi.Sandbox(module, preopens={"/d": {}})
    begin = threading.Barrier(2)
    taken: list[float] = []

    def run() -> None:
        begin.wait()
        done = sandbox.run(["--scale", str(4 * scale), "--row", SMALL_READ, "/d"], capture_output=True, check=True)
        taken.append(float(done.stdout.decode().split("\t")[1]))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{TWO}\t{1 / sum(1 / microseconds for microseconds in taken):.5f}")


def main(host: str, task: str, *rest: str) -> int:
    if task == "guest":
        module, source, *args = rest
        return {"vfswasi": vfswasi_guest, "wasmtime": wasmtime_guest}[host](module, source, args)
    if task == "threads":
        module, *rest_ = rest
        vfswasi_threads(module, float(rest_[1]) if rest_[:1] == ["--scale"] else 1.0)
        return 0
    scale = float(rest[1]) if rest[:1] == ("--scale",) else 1.0
    measure_start({"vfswasi": vfswasi_start, "wasmtime": wasmtime_start}[host], max(10, int(WARM_RUNS * scale)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
