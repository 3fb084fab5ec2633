"""python -m tests.wasi_testsuite DIR [--store memory,local] [--vdso on,off] [--skip FILE] [--timeout SECONDS]

Runs the programs of a checkout of WebAssembly's wasi-testsuite that are for preview1, on each store, with the fast path
and without it. DIR is the checkout or any directory in it. Each program gets fresh copies of its directories. Prints
what fails and a score for each suite; the status is 1 if anything fails, and 2 if there is nothing to run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .suite import read_case, read_skips, run_case, suites_in


def _choice(*allowed: str) -> object:
    def parse(text: str) -> list[str]:
        values = text.split(",")
        for value in values:
            if value not in allowed:
                raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(allowed)}")
        return values

    return parse


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wasi_testsuite", description="Run a wasi-testsuite.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a checkout, or a directory in it")
    parser.add_argument("--store", type=_choice("memory", "local"), default=["memory", "local"])  # type: ignore[arg-type]
    parser.add_argument("--vdso", type=_choice("on", "off"), default=["on", "off"])  # type: ignore[arg-type]
    parser.add_argument("--skip", type=Path, metavar="FILE", help="JSON or TOML: {suite: {test: reason}}")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="of each program")
    options = parser.parse_args(argv)
    try:
        skips = read_skips(options.skip) if options.skip is not None else {}
    except (OSError, ValueError) as error:
        parser.error(f"--skip: {error}")
    ran = failed = 0
    for suite in suites_in(options.directory):
        if suite.other:
            print(f"{suite.name}: {len(suite.cases)} programs for another version of WASI")
            continue
        cases = [read_case(wasm) for wasm in suite.cases]
        left_out = [case for case in cases if (suite.name, case.name) in skips]
        for case in left_out:
            print(f"{suite.name}: {case.name}: left out: {skips.pop((suite.name, case.name))}")
        for store in options.store:
            for vdso in options.vdso:
                passed = 0
                for case in cases:
                    if case in left_out:
                        continue
                    wrong = run_case(case, store, vdso == "on", options.timeout)
                    passed += not wrong
                    for what in wrong:
                        print(f"{suite.name}: {case.name} ({store}, fast path {vdso}): {what}", flush=True)
                total = len(cases) - len(left_out)
                ran, failed = ran + total, failed + total - passed
                print(f"{suite.name}: {store}, fast path {vdso}: {passed} of {total}", flush=True)
    for name, test in skips:
        print(f"{name}: {test}: to be left out, but there is no such test")
        failed += 1
    if not ran:
        print(f"{options.directory}: no programs for preview1 here", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
