"""python -m tests.fuzz plans --minutes 30 --stores memory,local,zip,poor,faulty,wrapped,trusted,overlay --seed 1
python -m tests.fuzz archives --minutes 10
python -m tests.fuzz servers --minutes 10
python -m tests.fuzz modules --minutes 10"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from . import archives, modules, plans, servers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=("plans", "archives", "servers", "modules"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--stores", default=",".join(plans.STORES), help="for plans")
    parser.add_argument("--seed", type=int, default=1, help="the first one; the others follow it")
    parser.add_argument("--count", type=int, default=None, help="so many seeds at most")
    given = parser.parse_args()
    logging.getLogger("vfswasi").setLevel(logging.CRITICAL)  # it tells of every close that fails
    started = time.monotonic()
    until = started + 60 * given.minutes
    figures: plans.Figures | archives.Figures | servers.Figures | modules.Figures
    if given.what == "plans":
        figures = plans.campaign(given.stores.split(","), given.seed, until, given.count)
    elif given.what == "servers":
        figures = servers.campaign(given.seed, until, given.count)
    elif given.what == "modules":
        figures = modules.campaign(given.seed, until, given.count)
    else:
        figures = archives.campaign(given.seed, until, given.count)
    print(figures.text())
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
