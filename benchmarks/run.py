"""Measure every file operation in vfswasi and its peers, and print one table: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from machine import describe  # noqa: E402
from peers import BASELINE, Peer, Workplace, make_archive, peers  # noqa: E402

from tests.guest_programs import compile_c  # noqa: E402

SOURCE = HERE / "guest" / "bench.c"
COMMAND_TIMEOUT_S = 600

Samples = dict[str, dict[str, list[float]]]  # peer -> row -> microseconds per operation, one for each round


class PeerFailed(Exception):
    """A peer could not run the benchmark program; says which and why."""


def main() -> int:
    options = parse_arguments()
    with workplace() as place:
        taking_part = [peer for peer in peers(place, options.rows, options.scale) if is_chosen(peer, options.only)]
        if not taking_part:
            names = ", ".join(peer.name for peer in peers(place, [], 1))
            sys.exit(f"--only {options.only}: no such peer; there are: {names}")
        about = describe(place.directory)
        samples, failed = measure(taking_part, options.repeat, place.directory)
    medians = {
        peer: {row: statistics.median(values) for row, values in by_row.items()} for peer, by_row in samples.items()
    }
    if medians:
        print_report(medians, about, options)
    report_noise(samples)
    for peer in taking_part:
        if peer.lacks:
            print(f"{peer.name}: left out, there is no `{peer.lacks}` on this machine", file=sys.stderr)
    for message in failed.values():
        print(message, file=sys.stderr)
    if options.json is not None:
        record = {"machine": about, "rounds": options.repeat, "scale": options.scale, "median_us": medians}
        options.json.write_text(json.dumps({**record, "samples_us": samples, "failed": failed}, indent=1) + "\n")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=positive_int, default=5, metavar="N", help="rounds; the median counts")
    parser.add_argument("--scale", type=positive_float, default=1.0, metavar="F", help="length of each row, 1 = 50 ms")
    parser.add_argument("--only", metavar="NAMES", help="peers to run, as parts of their names: vfswasi,node")
    parser.add_argument("--row", dest="rows", action="append", default=[], metavar="NAME", help="only this row; repeat")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write machine, medians and all samples")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    return parser.parse_args()


def positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def is_chosen(peer: Peer, only: str | None) -> bool:
    return only is None or any(part.strip() in peer.name for part in only.split(",") if part.strip())


# --- preparing ---------------------------------------------------------------------------------------------------


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Programs, archive and an empty directory, on tmpfs where there is one, removed afterwards."""
    guest = compile_c(SOURCE)
    shm = Path("/dev/shm")
    where = shm if os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vfswasi-bench-", dir=where) as name:
        base = Path(name)
        directory, archive = base / "files", base / "bench.zip"
        directory.mkdir()
        make_archive(archive)
        yield Workplace(guest, compile_native(base / "bench"), directory, archive)


def compile_native(target: Path) -> Path | None:
    if shutil.which("cc") is None:
        return None
    subprocess.run(["cc", "-O2", "-o", str(target), str(SOURCE)], check=True)
    return target


# --- measuring ---------------------------------------------------------------------------------------------------


def measure(taking_part: list[Peer], rounds: int, directory: Path) -> tuple[Samples, dict[str, str]]:
    """(samples, peer -> why it failed). Each round runs every peer once, so a slow minute hits all of them.

    A peer that fails is dropped, and so is what it had measured; the others go on.
    """
    samples: Samples = {}
    failed: dict[str, str] = {}
    running = [peer for peer in taking_part if peer.commands]
    for number in range(rounds):
        for peer in [peer for peer in running if peer.name not in failed]:
            progress(f"round {number + 1} of {rounds}: {peer.name}")
            try:
                for row, microseconds in one_round(peer, directory).items():
                    samples.setdefault(peer.name, {}).setdefault(row, []).append(microseconds)
            except PeerFailed as error:
                failed[peer.name] = str(error)
                samples.pop(peer.name, None)
                empty(directory)
    progress("")
    return samples, failed


def one_round(peer: Peer, directory: Path) -> dict[str, float]:
    """Row -> microseconds per operation. Raises PeerFailed."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    found: dict[str, float] = {}
    for command in peer.commands:
        try:
            done = subprocess.run(
                command, cwd=directory, env=environ, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"{peer.name}: no end after {COMMAND_TIMEOUT_S} s") from None
        if done.returncode:
            raise PeerFailed(f"{peer.name}: exit status {done.returncode}: {done.stderr.strip()}")
        for line in done.stdout.splitlines():
            row, _, microseconds = line.partition("\t")
            found[row] = float(microseconds)
    return found


def empty(directory: Path) -> None:
    """What a failed peer left behind would be in the way of the next."""
    shutil.rmtree(directory)
    directory.mkdir()


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# --- reporting ---------------------------------------------------------------------------------------------------


def print_report(medians: dict[str, dict[str, float]], about: dict[str, str], options: argparse.Namespace) -> None:
    rounds = "one round" if options.repeat == 1 else f"median of {options.repeat} rounds"
    compared = f"; in brackets: times {BASELINE}" if BASELINE in medians else ""
    bullet = "- " if options.markdown else ""
    print(f"Microseconds per operation, {rounds}{compared}.\n")
    for line in table(medians, options.markdown):
        print(line)
    print()
    for name, value in about.items():
        print(f"{bullet}{name}: {value}")


def table(medians: dict[str, dict[str, float]], markdown: bool) -> Iterator[str]:
    """The lines of the table: rows x peers."""
    rows = list(dict.fromkeys(row for by_row in medians.values() for row in by_row))
    cells = [["operation", *medians]]
    for row in rows:
        baseline = None if row == "empty" else medians.get(BASELINE, {}).get(row)  # a loop says nothing about a host
        cells.append([row, *(cell(by_row.get(row), baseline, peer) for peer, by_row in medians.items())])
    if markdown:
        yield "| " + " | ".join(cells[0]) + " |"
        yield "|---|" + "---:|" * len(medians)
        yield from ("| " + " | ".join(line) + " |" for line in cells[1:])
        return
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for first, *others in cells:
        numbers = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *numbers])


def cell(microseconds: float | None, baseline: float | None, peer: str) -> str:
    if microseconds is None:
        return "-"
    if not baseline or peer == BASELINE:
        return three_digits(microseconds)
    return f"{three_digits(microseconds)} ({three_digits(microseconds / baseline)})"


def three_digits(number: float) -> str:
    for bound, decimals in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if number >= bound:
            return f"{number:.{decimals}f}"
    return f"{number:.4f}"


def report_noise(samples: Samples) -> None:
    """Say how far the rounds lie apart, so that nobody reads more into a number than is in it."""
    spreads = [
        (max(values) / min(values), peer, row)
        for peer, by_row in samples.items()
        for row, values in by_row.items()
        if len(values) > 1 and min(values) > 0 and row != "empty"
    ]
    if spreads:
        middle = statistics.median(spread for spread, _, _ in spreads)
        worst, peer, row = max(spreads)
        print(f"\nSlowest over fastest round: {middle:.2f} in the middle, {worst:.2f} at worst ({peer}, {row}).")


if __name__ == "__main__":
    sys.exit(main())
