"""What other threads get while a guest makes host calls back to back: for each kind of call, how late what had to
happen was, in milliseconds. On a machine that does nothing else the deadline, a neighbour's deadline, an interruption
and a signal are to be at most 100 ms late, and another thread is to run every 30 ms.

usage: python benchmarks/lock.py [--seconds S] [--only PART]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import describe

from tests.storms import STORMS, measure

LATE_S = 0.1
GAP_S = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="how long each of three runs takes")
    parser.add_argument("--only", default="", metavar="PART", help="only storms with this in their names")
    options = parser.parse_args()
    kept = True
    for name, storm in STORMS.items():
        if options.only in name:
            numbers = measure(storm, options.seconds)
            good = numbers.within(LATE_S, GAP_S)
            kept &= good
            print(f"{name:40}  {numbers}{'' if good else '  !'}", flush=True)
    print()
    for about, value in describe(Path(tempfile.gettempdir())).items():
        if about in ("CPU", "system", "Python"):
            print(f"{about}: {value}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
