"""What layers cost a guest: the rows of `run.py` on memory, and on an overlay over memory, as ratios.

    python benchmarks/layers.py [--rounds 40] [--scale 0.02] [--row NAME]... [--markdown]

One process runs the guest on each store in turn, in many short rounds; of each row the quickest round counts, so that
what else the machine does is left out. "files below" are files that the overlay's base has and that nobody has written
to; "own files" were made through the overlay. The rows that change something are measured with the guest's own files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from machine import describe  # noqa: E402
from peers import ENTRIES, content  # noqa: E402
from run import SOURCE, positive_float, positive_int, three_digits  # noqa: E402

from tests.guest_programs import compile_c  # noqa: E402
from vfswasi import MemoryBackend, Mount, Sandbox  # noqa: E402

PLAIN = "memory"


def prepared() -> dict[str, Any]:
    """What the guest wants to find with --readonly."""
    entries = {f"entry-{number:04}": b"" for number in range(ENTRIES)}
    return {"bench-1m": content(1 << 20), "bench-16m": content(16 << 20), "bench-dir": entries}


def tables(module: Path) -> dict[str, tuple[dict[str, Sandbox], list[str]]]:
    """Headings, each with sandboxes by the names of their columns, the plain one first, and the guest's arguments."""

    def on(source: object) -> Sandbox:
        return Sandbox(module, preopens={"/d": source})

    below = MemoryBackend(prepared())
    return {
        "own files": ({PLAIN: on({}), "overlay": on(Mount({}, overlay=True))}, []),
        "files below": (
            {
                PLAIN: on(below),
                "overlay of a tree": on(Mount(prepared(), overlay=True)),
                "overlay of a MemoryBackend": on(Mount(below, overlay=True)),
            },
            ["--readonly"],
        ),
    }


def measure(sandboxes: dict[str, Sandbox], args: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Row -> column -> microseconds per operation, the least of all rounds."""
    least: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for column, sandbox in sandboxes.items():
            done = sandbox.run([*args, "/d"], capture_output=True, check=True)
            for line in done.stdout.decode().splitlines():
                row, _, microseconds = line.partition("\t")
                by_column = least.setdefault(row, {})
                by_column[column] = min(by_column.get(column, float("inf")), float(microseconds))
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive_int, default=40, help="of each the quickest counts")
    parser.add_argument("--scale", type=positive_float, default=0.02, metavar="F", help="length of a row, 1 = 50 ms")
    parser.add_argument("--row", dest="rows", action="append", default=[], metavar="NAME", help="only this row; repeat")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    chosen = parser.parse_args()
    options = ["--scale", str(chosen.scale), *(part for row in chosen.rows for part in ("--row", row))]
    for heading, (sandboxes, args) in tables(compile_c(SOURCE)).items():
        print(f"\n{heading}: microseconds per operation, the least of {chosen.rounds} rounds (times {PLAIN})\n")
        print(line(["operation", *sandboxes], chosen.markdown))
        if chosen.markdown:
            print("|---|" + "---:|" * len(sandboxes))
        for row, found in measure(sandboxes, options + args, chosen.rounds).items():
            cells = [f"{three_digits(value)} ({value / found[PLAIN]:.2f})" for value in found.values()]
            print(line([row, *cells], chosen.markdown), flush=True)
    print()
    for name in ("CPU", "system", "Python", "vfswasi"):
        print(f"{'- ' if chosen.markdown else ''}{name}: {describe(HERE)[name]}")


def line(cells: list[str], markdown: bool) -> str:
    if markdown:
        return "| " + " | ".join(cells) + " |"
    return cells[0].ljust(28) + "".join(cell.rjust(28) for cell in cells[1:])


if __name__ == "__main__":
    main()
