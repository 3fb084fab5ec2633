"""Many runs on several threads, each ended at a random moment: by its deadline, by an interruption, or by itself."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import vfswasi
from tests.wat_programs import ENDLESS, program
from vfswasi.engine import guests, runner
from vfswasi.engine.interruption import page

_OUT_OF_BOUNDS = "out of bounds memory access"
# A loop of so many rounds as fit into the time that most runs have, more or less.
_FOR_A_WHILE = """(local $n i32) (loop $again (local.set $n (i32.add (local.get $n) (i32.const 1)))
  (br_if $again (i32.lt_u (local.get $n) (i32.const 100000))))"""
_FIB = """(func $fib (param i32) (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return)))
  (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2))))"""
# What a guest does -> what its run comes to: an exit status, or the cause of a trap. None: it has no end.
GUESTS: dict[str, tuple[bytes, int | str | None]] = {
    "computing": (program(ENDLESS), None),
    "calling itself": (program("(loop $again (call $fib (i32.const 20)) (br $again))", functions=_FIB), None),
    "calling the host": (program("(loop $again (drop (call $raise (i32.const 0))) (br $again))"), None),
    "writing": (program("(loop $again (call $say (i32.const 1)) (br $again))"), None),
    "filling memory": (
        program("(loop $again (memory.fill (i32.const 0) (i32.const 0) (i32.const 60000)) (br $again))"),
        None,
    ),
    "returning": (program(_FOR_A_WHILE), 0),
    "exiting": (program(_FOR_A_WHILE + "(call $exit (i32.const 7))"), 7),
    "reaching too far": (program(_FOR_A_WHILE + "(drop (i32.load (i32.const 70000)))"), _OUT_OF_BOUNDS),
    "trapping": (program(_FOR_A_WHILE + "unreachable"), "unreachable"),
}


@dataclass
class Tally:
    """What was seen: `ended` counts (guest, how it ended), `wrong` has a line for each thing that must not be."""

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class _Target:
    """One guest of one thread, and how often it was interrupted."""

    def __init__(self, name: str) -> None:
        self.name = name
        wasm, self.end = GUESTS[name]
        self.sandbox = vfswasi.Sandbox(wasm, argv0=name)
        self.interruptions = 0

    def interrupt(self) -> None:
        self.interruptions += 1
        self.sandbox.interrupt()

    def run(self, timeout_s: float) -> str:
        """How it ended. Raises AssertionError: not as it may."""
        before, started = self.interruptions, time.monotonic()
        try:
            result = self.sandbox.run(stdout=vfswasi.DEVNULL, timeout=timeout_s)
        except vfswasi.GuestTimeoutError:
            assert time.monotonic() - started >= timeout_s, "its time was not over"
            return "by its deadline"
        except vfswasi.GuestInterruptedError as error:
            if self.interruptions == before:
                raise AssertionError(f"nobody interrupted it: {error}") from error
            return "by an interruption"
        if isinstance(self.end, int):
            assert (result.returncode, result.trap) == (self.end, None), result
        else:
            assert self.end is not None, result
            assert result.returncode == -6, result
            assert self.end in (result.trap or ""), result
        return "by itself"


def ended_at_random(runs: int, threads: int = 8, seed: int = 0) -> Tally:
    """So many runs, all together, and what they left."""
    tally = Tally()
    targets = [[_Target(name) for name in GUESTS] for _ in range(threads)]
    for target in targets[0]:  # what is kept for each module is there then
        target.run(0.05)
    before = _held()
    over = threading.Event()
    lock = threading.Lock()

    def work(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        for _ in range(runs // threads):
            target = rng.choice(targets[number])
            try:
                how = target.run(rng.choice((0.0, 0.001, 0.003, 0.01, 0.03)) * rng.random())
                with lock:
                    tally.ended[target.name, how] += 1
            except BaseException as error:
                with lock:
                    tally.wrong.append(f"{target.name}: {error!r}")

    def interrupt() -> None:
        rng = random.Random(f"{seed} interruptions")
        while not over.wait(rng.random() * 0.0003):
            rng.choice(rng.choice(targets)).interrupt()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    interrupter = threading.Thread(target=interrupt)
    for each in (*workers, interrupter):
        each.start()
    for each in workers:
        each.join()
    over.set()
    interrupter.join()
    for of_thread in targets:
        for target in of_thread:
            target.sandbox.close()
    tally.wrong += _left(before)
    return tally


def _held() -> dict[str, int]:
    return {
        "guests": len(guests.live),
        "pages": len(page._registered),
        "deadlines": len(runner._watchdog._watched),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
    }


def _left(before: dict[str, int]) -> list[str]:
    """What is there that was not, once the guests that were left behind have ended."""
    room = dict.fromkeys(before, 0) | {"descriptors": 8, "mappings": 200}  # threads that stay, heaps of the C library
    until = time.monotonic() + 10
    while True:
        after = _held()
        left = [f"{after[name] - before[name]} {name}" for name in before if after[name] - before[name] > room[name]]
        if not left or time.monotonic() > until:
            return [f"left: {', '.join(left)}"] if left else []
        time.sleep(0.02)
