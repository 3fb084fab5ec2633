"""Random plans of calls through a real guest on real stores, and what must hold after each call.

    examine(Setup.of("memory", 7))                    makes the plan of a seed, runs it every way: what went wrong
    examine(Setup.of("memory", 7), [Step("fd_close", (3,))])     the same for a given plan

A plan is made while it runs for the first time, without the fast path, since good descriptors are known only then; it
runs again with the fast path, and both must have answered alike. Every plan follows from its seed and its store.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfswasi.abi.layouts import ABIS
from vfswasi.errors import HostCallError

from .calls import Maker, Step
from .runs import Outcome, Setup, difference, once

STORES = ("memory", "local", "zip", "poor", "faulty", "wrapped", "trusted", "overlay")
# How a plan is run again after it was made: fast path on, and whether the stores are brought up to date at each step.
_AGAIN = ((True, False), (True, True))


def _compare(setup: Setup, made: Outcome, again: Outcome) -> list[str]:
    """Where a second run answered otherwise than the first."""
    if setup.kind == "faulty":
        return []  # which call of the store fails depends on how many there were
    for number, (one, other) in enumerate(zip(made.answers, again.answers, strict=False)):
        step = made.plan[number]
        if HostCallError.__name__ in (one[0], other[0]):
            return []  # a poll met the deadline, in one of the runs perhaps a little earlier
        if one[0] != other[0]:
            return [f"{step.name}: {one[0]} at first, {other[0]} now (call {number})"]
        if one[1] != other[1]:
            at = next(index for index in range(len(one[1])) if one[1][index] != other[1][index])
            pair = f"(call {number}): {one[1][at : at + 16]!r}, {other[1][at : at + 16]!r}"
            return [f"{step.name}: other bytes now at {at:#x} {pair}"]
    if made.shape != again.shape:
        return [f"end: other files now: {difference(made.shape, again.shape)}"]
    if made.printed != again.printed:
        return [f"end: printed otherwise now: {made.printed!r:.200}, {again.printed!r:.200}"]
    return []


@dataclass
class Report:
    """What was found for one seed."""

    setup: Setup
    plan: list[Step]
    problems: list[str]
    outcome: Outcome


def examine(setup: Setup, plan: Sequence[Step] | None = None, place: Path | None = None) -> Report:
    """Run the plan of a seed, or a given one, every way."""
    with _Place(place) as root:
        chance = random.Random(f"plan {setup.kind} {setup.seed}")
        maker = Maker(chance, ABIS[setup.version], setup.about_data)
        made = once(setup, maker if plan is None else plan, root, False, True)
        problems = [f"python: {text}" for text in made.problems]
        for vdso, strict in _AGAIN:
            if not problems and (not strict or setup.seed % 3 == 0):
                again = once(setup, made.plan, root, vdso, strict)
                how = "settled" if strict else "fast"
                problems = [f"{how}: {text}" for text in again.problems or _compare(setup, made, again)]
        if setup.everywhere and not setup.tight and not problems:
            again = once(replace(setup, kind="local", layout=setup.layout & 7), made.plan, root, False, False)
            problems = [f"on disk: {text}" for text in again.problems or _compare(setup, made, again)]
    return Report(setup, made.plan, problems, made)


class _Place:
    """A directory of its own, always of the same name where it is given."""

    def __init__(self, given: Path | None) -> None:
        self._made = Path(tempfile.mkdtemp(prefix="vfswasi-fuzz-")) if given is None else None
        self._path = given if given is not None else Path(str(self._made)) / "place"

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


def _kind_of(problem: str) -> str:
    """A problem without its numbers, so that a smaller plan is taken only if it shows the same one."""
    return "".join(letter for letter in problem.split("(call")[0] if not letter.isdigit())[:60]


def minimised(report: Report, place: Path, seconds: float = 20.0) -> list[Step]:
    """The plan with calls left out, and memory that need not be set, as long as it still fails in the same way."""
    wanted = _kind_of(report.problems[0])

    def fails(plan: list[Step]) -> bool:
        found = examine(report.setup, plan, place).problems
        return bool(found) and _kind_of(found[0]) == wanted

    return shrink(report.plan, fails, time.monotonic() + seconds)


def shrink(plan: list[Step], fails: Callable[[list[Step]], bool], until: float) -> list[Step]:
    """Leave out ever smaller parts of the plan while it fails; then the memory that single calls set."""
    size = max(len(plan) // 2, 1)
    while size and time.monotonic() < until:
        at, smaller = 0, False
        while at < len(plan) and time.monotonic() < until:
            tried = plan[:at] + plan[at + size :]
            if tried and fails(tried):
                plan, smaller = tried, True
            else:
                at += size
        if not smaller or size > 1:
            size //= 2
    for at, step in enumerate(plan):
        for poke in step.pokes if time.monotonic() < until else ():
            tried = [*plan]
            tried[at] = plan[at]._replace(pokes=tuple(kept for kept in plan[at].pokes if kept != poke))
            if fails(tried):
                plan = tried
    return plan


def as_literal(setup: Setup, plan: Sequence[Step]) -> str:
    """Python that shows the failure again."""
    steps = "".join(f"    Step{tuple(step)!r},\n" for step in plan)
    return f"plan = [\n{steps}]\nassert not examine({setup!r}, plan).problems"


@dataclass
class Figures:
    """What a campaign did."""

    plans: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    errnos: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.plans += 1
        for step, (answer, _) in zip(report.plan, report.outcome.answers, strict=False):
            self.calls[step.name] += 1
            self.errnos.setdefault(step.name, Counter())[answer] += 1

    def text(self) -> str:
        lines = [f"{self.plans} plans, {sum(self.calls.values())} calls (each made two or three times)"]
        for name, count in sorted(self.calls.items()):
            answers = " ".join(f"{answer}:{times}" for answer, times in self.errnos[name].most_common())
            lines.append(f"  {name:24} {count:8}  {answers}")
        return "\n".join([*lines, f"{len(self.failures)} failures"])


def campaign(
    stores: Sequence[str], first_seed: int, until: float, most: int | None = None, failures_max: int = 20
) -> Figures:
    """Plans of the seeds from `first_seed` on, on each store in turn, to the monotonic time `until`."""
    figures = Figures()
    base = Path(tempfile.mkdtemp(prefix="vfswasi-fuzz-"))
    seen: Counter[str] = Counter()
    started = told = time.monotonic()
    seed = first_seed
    try:
        while time.monotonic() < until and (most is None or seed < first_seed + most):
            for kind in stores:
                report = examine(Setup.of(kind, seed), None, base / "place")
                figures.add(report)
                if report.problems:
                    what = _kind_of(report.problems[0])
                    seen[what] += 1
                    if seen[what] <= 2 and len(figures.failures) < failures_max:
                        small = minimised(report, base / "place")
                        text = f"seed {seed}, {kind}: {report.problems[0]}\n{as_literal(report.setup, small)}"
                        figures.failures.append(text)
                        print(f"FAILURE {text}\n", flush=True)
            seed += 1
            if time.monotonic() > told + 30:
                told = time.monotonic()
                rate = figures.plans / (told - started)
                print(f"seed {seed}: {figures.plans} plans, {rate:.0f}/s, {dict(seen)}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if seen:
        print(f"all problems: {dict(seen)}", flush=True)
    return figures
