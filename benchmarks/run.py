"""Measure system calls side by side: `python benchmarks/run.py [--repeat N] [--only PEER] [--json FILE] [--markdown]`.

Every round runs all peers one after the other, so that a busy machine slows all of them; the table shows the median of the
rounds in microseconds, and how many times as long as the first peer each of the others takes. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import wasmtime
from peers import Table, available, machine

import vfswasi

_EMPTY = b'(module (memory (export "memory") 1) (func (export "_start")))'


def _each(function: object, count: int) -> float:
    """Microseconds for one call."""
    assert callable(function)
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count * 1e6


def runs() -> Table:
    """What one run of a module with an empty `_start` costs, in microseconds."""
    table: Table = {}
    with vfswasi.Sandbox(_EMPTY, preopens={"/d": {}}) as sandbox:
        sandbox.run()
        table["warm Sandbox.run, main thread"] = _each(sandbox.run, 300)

        def work() -> None:
            sandbox.run()
            table["warm Sandbox.run, other thread"] = _each(sandbox.run, 300)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    table["vfswasi.run, module known"] = _each(lambda: vfswasi.run(_EMPTY, preopens={"/d": {}}), 100)

    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, _EMPTY)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()

    def peer() -> None:
        store = wasmtime.Store(engine)
        store.set_wasi(wasmtime.WasiConfig())
        linker.instantiate(store, module).exports(store)["_start"](store)

    table["wasmtime-py: store, instance, call"] = _each(peer, 300)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--only", action="append", help="run only this peer (repeatable)")
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    options = parser.parse_args()

    peers = {name: peer for name, peer in available().items() if not options.only or name in options.only}
    if not peers:
        parser.error(f"no such peer; there are: {', '.join(available())}")
    rounds: list[dict[str, Table]] = []
    starts: list[Table] = []
    for _ in range(options.repeat):
        rounds.append({name: peer() for name, peer in peers.items()})
        starts.append(runs())
    print(machine())
    print(f"median of {options.repeat} rounds, microseconds; in brackets: times the first column\n")
    _print_calls(list(peers), rounds, options.markdown)
    print()
    for name in starts[0]:
        value = statistics.median(table[name] for table in starts)
        print(f"| {name} | {value:.0f} |" if options.markdown else f"{name:40} {value:8.0f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine(), "calls": rounds, "runs": starts}, indent=1))


def _print_calls(names: list[str], rounds: list[dict[str, Table]], markdown: bool) -> None:
    rows = max((rounds[0][name] for name in names), key=len)
    if markdown:
        print("| |" + "".join(f" {name} |" for name in names))
        print("|---|" + "---|" * len(names))
    else:
        print(f"{'':24}" + "".join(f"{name:>20}" for name in names))
    for row in rows:
        cells: list[str] = []
        first: float | None = None
        for name in names:
            if row not in rounds[0][name]:
                cells.append("-")
                continue
            value = statistics.median(table[name][row] for table in rounds)
            if first is None:
                first = value
                cells.append(_figure(value))
            else:
                cells.append(f"{_figure(value)} ({value / first:.2g}x)")
        if markdown:
            print(f"| {row} |" + "".join(f" {cell} |" for cell in cells))
        else:
            print(f"{row:24}" + "".join(f"{cell:>20}" for cell in cells))


def _figure(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


if __name__ == "__main__":
    main()
