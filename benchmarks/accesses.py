"""What it costs to note what a compiler looks at: GCC's cc1 on a real firmware, with and without `accesses`.

    python benchmarks/accesses.py [--rounds 15]

The headers lie in a directory and the rest in memory. Each round runs it without, with `accesses=True` and with
`accesses="digest"`, in turns, in one process; of each the quickest round counts, and the median is told too. Then how
long `hold` takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vfswasi
from tests import avr_build

WAYS: tuple[Any, ...] = (False, True, "digest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    name, arguments = avr_build.STEPS[0]
    with tempfile.TemporaryDirectory() as include, vfswasi.Sandbox(avr_build.program(name)) as sandbox:
        for path, data in avr_build.headers().items():
            (Path(include) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(include) / path).write_bytes(data)
        time.sleep(2.1)  # so that versions can be relied on
        source = {path.name: path.read_bytes() for path in avr_build.SOURCE.iterdir() if path.is_file()}
        preopens = {"/inc": Path(include), "/src": source, "/lib": {}, "/out": {}}
        seconds: dict[Any, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                begun = time.process_time()
                result = sandbox.run(arguments, preopens=preopens, accesses=way, capture_output=True)
                if number:  # the first warms up
                    seconds[way].append(time.process_time() - begun)
                assert result.returncode == 0
        least = min(seconds[False])
        middle = statistics.median(seconds[False])
        for way, each in seconds.items():
            more, of_median = min(each) / least - 1, statistics.median(each) / middle - 1
            print(
                f"accesses={way!r:9} {min(each) * 1000:8.1f} ms of CPU, {more:+.1%}; "
                f"median {statistics.median(each) * 1000:8.1f} ms, {of_median:+.1%}"
            )
        for way in WAYS[1:]:
            accesses = sandbox.run(arguments, preopens=preopens, accesses=way).accesses
            assert accesses is not None
            begun = time.perf_counter()
            assert accesses.hold(preopens)
            names = sum(map(len, accesses.values()))
            print(f"hold after accesses={way!r}: {(time.perf_counter() - begun) * 1000:.1f} ms for {names} names")


if __name__ == "__main__":
    main()
