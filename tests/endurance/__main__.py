"""python -m tests.endurance faults [--all] [--program NAME] [--store NAME]
python -m tests.endurance leaks [--runs COUNT] [--store NAME]
python -m tests.endurance endings [--runs COUNT]
python -m tests.endurance model [--steps COUNT] [--seed FIRST]
python -m tests.endurance applying [--runs COUNT]

faults: every call of every program fails with one kind of fault of each class; with --all with every kind, once and for
good, and lies. leaks: so many runs (2,000) of every ending, with the fast path and without, on each store.
endings: so many runs (10,000) on eight threads, each ended at a random moment, interrupted by page and by epoch.
model: so many random calls (100,000) on overlays three deep, which give what a model in Python gives.
applying: changes are applied to a directory and killed at so many random moments (200), and before each step.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from vfswasi.engine.fast_path import publishing as fastpath

from ..observe.applying import killing
from .endings import ended_at_random
from .faults import FIRST, KINDS, Bench, class_of
from .leaks import ENDINGS, left_behind
from .lies import lies_of
from .model import play
from .stores import STORES

PROGRAMS = ("steps-exit", "steps-status", "steps-trap", "as", "ld", "objcopy", "stdio", "tree")


def _strike_all(bench: Bench, everything: bool) -> tuple[int, int]:
    """(runs, complaints); the latter are printed."""
    runs = found = 0
    kinds = [
        (kind, lasting) for lasting in (False, True)[: 1 + everything] for kinds in KINDS.values() for kind in kinds
    ]
    for kind, lasting in kinds:
        if not everything and kind not in FIRST.values():
            continue
        for call in range(1, bench.calls + 1):
            fault = KINDS[class_of(kind)][kind]()
            wrong = bench.strike(call, fault, lasting=lasting)
            runs, found = runs + 1, found + len(wrong)
            for text in wrong:
                print(f"  {kind}{' from' * lasting} at call {call} ({bench.struck}): {text}", flush=True)
    for call, name in enumerate(bench.names, 1) if everything else ():
        for label, lie in lies_of(name).items():
            wrong = bench.strike(call, None, lie)
            runs, found = runs + 1, found + len(wrong)
            for text in wrong:
                print(f"  {label} at call {call} ({name}): {text}", flush=True)
    return runs, found


def _leaks(runs: int, stores: list[str] | None) -> int:
    found = 0
    for ending in ENDINGS:
        for store in stores or ("memory", "local", "zip"):
            for vdso in (True, False):
                started = time.monotonic()
                with tempfile.TemporaryDirectory() as place:
                    wrong = left_behind(ending, store, vdso, Path(place), 200, runs)
                found += len(wrong)
                seconds = time.monotonic() - started
                print(
                    f"{ending} on {store}, {'fast' if vdso else 'plain'}: {seconds:.1f} s",
                    *wrong,
                    sep="\n  ",
                    flush=True,
                )
    return 1 if found else 0


def _endings(runs: int) -> int:
    found = 0
    for way in ("page", "epoch"):
        os.environ["VFSWASI_INTERRUPT"] = way
        started = time.monotonic()
        tally = ended_at_random(runs, seed=time.time_ns())
        found += len(tally.wrong)
        print(
            f"by {way}: {tally.ended.total()} runs, {len(tally.wrong)} complaints, {time.monotonic() - started:.0f} s"
        )
        for (guest, how), count in sorted(tally.ended.items()):
            print(f"  {guest}, ended {how}: {count}")
        print(*tally.wrong, sep="\n", flush=True)
    return 1 if found else 0


def _model(steps: int, seed: int) -> int:
    done = found = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        while done < steps:
            try:
                done += play(seed, 500, Path(place) / "root")
            except AssertionError as error:
                print(error, flush=True)
                found += 1
                done += 500
            seed += 1
    print(f"{done} calls, {found} complaints, {time.monotonic() - started:.0f} s", flush=True)
    return 1 if found else 0


def main() -> int:
    """1 if anything was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["faults", "leaks", "endings", "model", "applying"])
    parser.add_argument("--runs", type=int)
    parser.add_argument("--steps", type=int, default=100_000, help="for model")
    parser.add_argument("--seed", type=int, default=0, help="for model: the first one")
    parser.add_argument("--all", action="store_true", help="all kinds of faults, and lies")
    parser.add_argument("--program", choices=PROGRAMS, action="append")
    parser.add_argument("--store", choices=list(STORES), action="append")
    chosen = parser.parse_args()
    fastpath.HEAT = fastpath.WARMTH = 1  # as in the tests
    found = 0
    if chosen.what == "model":
        return _model(chosen.steps, chosen.seed)
    if chosen.what == "leaks":
        return _leaks(chosen.runs or 2000, chosen.store)
    if chosen.what == "endings":
        return _endings(chosen.runs or 10_000)
    if chosen.what == "applying":
        return killing.told(chosen.runs or 200, time.time_ns())
    with tempfile.TemporaryDirectory() as place:
        for name in chosen.program or PROGRAMS:
            for store in chosen.store or STORES:
                if name == "tree" and store != "memory":
                    continue  # its links, and its thousand calls
                for vdso in (True, False):
                    started = time.monotonic()
                    runs, wrong = _strike_all(Bench(name, store, vdso, Path(place)), chosen.all)
                    found += wrong
                    print(
                        f"{name} on {store}, {'fast' if vdso else 'plain'}: {runs} runs, {wrong} complaints, "
                        f"{time.monotonic() - started:.0f} s",
                        flush=True,
                    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
