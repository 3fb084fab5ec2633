"""One run of a plan: a guest on its ground, and what must hold after each call and at the end."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import Abi
from vfswasi.engine import capi
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import GuestExitError, GuestTrapError, HostCallError
from vfswasi.fs_backends.base import FileType
from vfswasi.kernel.descriptor import OpenFile

from ..rawguest import RawGuest
from .calls import Maker, Step, outputs, vectors, words
from .stores import Ground, open_host_fds

STEPS = 50
_WAIT_NS = 50_000_000  # the longest that a poll may wait; then the run ends
_SLOW_S = 20.0
_MOVES_CURSOR = frozenset({"fd_read", "fd_write", "fd_seek"})
_ENDED = (GuestExitError, GuestTrapError, HostCallError)


@dataclass(frozen=True)
class Setup:
    """All that a seed decides but the plan itself."""

    kind: str
    seed: int
    version: str = "preview1"
    layout: int = 0
    tight: bool = False
    heat: int = 1
    window_bytes: int = 1 << 25
    about_data: bool = False
    second_from: int = STEPS  # the call from which a second guest takes part
    everywhere: bool = False  # whether a plan for memory runs on a disk too

    @classmethod
    def of(cls, kind: str, seed: int) -> Setup:
        draw = random.Random(f"setup {kind} {seed}")
        second_from = draw.choice((STEPS, STEPS, STEPS, 0, 20)) if kind != "poor" else STEPS
        return cls(
            kind,
            seed,
            version=draw.choice(("preview1", "preview1", "unstable")),
            layout=draw.randrange(16),
            tight=draw.random() < 0.35,
            heat=draw.choice((1, 1, 2, 4)),
            window_bytes=draw.choice((1 << 25, 1 << 25, 1 << 20, 150_000)),
            about_data=second_from < STEPS or draw.random() < 0.3,
            second_from=second_from,
            everywhere=kind == "memory" and draw.random() < 0.5,
        )

    def limits(self) -> vfswasi.Limits:
        # `call_bytes` stays as it is: below a megabyte it makes windows smaller, which is not what is looked for here.
        common = {"window_bytes": self.window_bytes, "output_bytes": 2000, "subscriptions": 64, "iovecs": 1024}
        if self.tight:
            small = {"file_bytes": 9000, "mount_bytes": 11_000, "stored_bytes": 11_500, "inodes": 3, "depth": 4}
            return vfswasi.Limits(**common, **small, descriptors=10, name_bytes=32, path_bytes=128)
        large = {"file_bytes": 1 << 20, "mount_bytes": 3 << 20, "stored_bytes": 4 << 20, "inodes": 500}
        return vfswasi.Limits(**common, **large, descriptors=40)


@dataclass
class Outcome:
    """What one run of a plan showed. `answers`: for each call its errno, or how the guest ended, and the memory."""

    plan: list[Step] = field(default_factory=list)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    shape: dict[str, Any] = field(default_factory=dict)
    printed: tuple[bytes, ...] = ()


class _Run:
    """One guest on one ground. `strict`: everything is looked at after every call, behind the guest's back."""

    def __init__(self, setup: Setup, ground: Ground, vdso: bool, strict: bool, outcome: Outcome) -> None:
        self.setup, self.ground, self.strict = setup, ground, strict
        self.settles = vdso and strict
        self.outcome = outcome
        options = {"args": ["program", "", "é"], "env": {"HOME": "/d", "X": ""}, "stdin": b"input" * 20}
        self.guest = RawGuest(
            ground.preopens,
            version=setup.version,
            vdso=vdso,
            limits=setup.limits(),
            **options,  # type: ignore[arg-type]
        )
        self.process = self.guest.wasi._process
        self.sinks = [self.process.fds.look(fd).sink for fd in (1, 2)]  # type: ignore[union-attr]
        self.fds = set(range(3 + len(ground.preopens)))
        self.abi: Abi = self.guest.abi
        self._take_view()
        ground.known = ground.inside()
        self.facts = self._facts()

    def _take_view(self) -> None:
        memory, store = self.guest.memory, self.guest.store
        address = capi.address_of(memory.data_ptr(store))
        self.view = capi.view_of(address, memory.data_len(store))

    def wrong(self, text: str) -> None:
        number = len(self.outcome.plan) - 1
        name = self.outcome.plan[-1].name if self.outcome.plan else "start"
        self.outcome.problems.append(f"{name}: {text} (call {number})")

    def printed(self) -> Iterator[bytes]:
        for sink in self.sinks:
            sink.collect()
            yield bytes(sink.getvalue())

    def step(self, step: Step) -> bool:
        """Make a call and look at what it did; whether the guest goes on."""
        for at, data in step.pokes:
            self.view[at : at + len(data)] = data
        before = bytes(self.view)
        started = time.monotonic()
        try:
            answer = self._call(step)
        except _ENDED as end:
            expected = step.name in ("proc_exit", "proc_raise", "poll_oneoff")
            if not expected:
                self.wrong(f"ended the guest: {end!r}")
            self.outcome.answers.append((type(end).__name__, before))
            return False
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.wrong(f"{type(error).__name__} reached the host: {error}")
            self.outcome.answers.append((repr(error), before))
            return False
        if time.monotonic() - started > _SLOW_S:
            self.wrong("took too long")
        after = bytes(self.view)
        self._check_memory(step, answer, before, after)
        self._check_fds(step, answer)
        if self.strict and not self.outcome.problems:
            self._check_store(step, answer)
        self.outcome.answers.append((answer, bytes(self.view) if self._level(step, answer, before) else after))
        return True

    def _call(self, step: Step) -> str:
        if step.name == "grow":
            self.guest.grow()
            self._take_view()
            return "SUCCESS"
        self.process.deadline.at_ns = time.monotonic_ns() + _WAIT_NS if step.name == "poll_oneoff" else None
        try:
            return self.guest.call(step.name, *step.args).name
        finally:
            self.process.deadline.at_ns = None
            if self.settles:
                self.guest.wasi.settle()

    def _check_memory(self, step: Step, answer: str, before: bytes, after: bytes) -> None:
        if step.name == "grow":
            return
        if answer != "SUCCESS":
            if before != after:
                self.wrong(f"failed with {answer} and changed the guest's memory")
            return
        left = bytearray(after)
        for start, length in outputs(step, self.abi, before, self.process) if after != before else ():
            left[start : start + length] = before[start : start + length]
        if left != before:
            at = next(index for index in range(len(before)) if left[index] != before[index])
            self.wrong(f"changed memory at {at:#x}, where it has no result")
        asked = dict(words(step))
        if step.args and "r4" in asked:
            (at,) = asked["r4"]
            count = int.from_bytes(after[at : at + 4], "little")
            if "iovs" in asked:
                most = sum(length for _, length in vectors(before, *asked["iovs"]))
                if count > most and not _overlap(step, self.abi, before, self.process):
                    self.wrong(f"{count} bytes were moved, {most} were asked for")
            elif "buffer" in asked and count > asked["buffer"][1]:
                self.wrong(f"{count} bytes for a buffer of {asked['buffer'][1]}")

    def _check_fds(self, step: Step, answer: str) -> None:
        """The numbers that are open are those that the calls so far leave open."""
        if step.name == "path_open" and answer == "SUCCESS":
            expected = next(fd for fd in range(3, len(self.fds) + 4) if fd not in self.fds)
            opened = int.from_bytes(self.view[step.args[-1] : step.args[-1] + 4], "little")
            if opened != expected:
                self.wrong(f"gave descriptor {opened} where {expected} is the lowest free one")
            self.fds.add(opened)
        elif step.name in ("fd_close", "fd_renumber") and answer != "BADF" and step.args != step.args[:1] * 2:
            self.fds.discard(step.args[0])
        found = set(self.process.fds._open)
        if found != self.fds:
            self.wrong(f"{answer}: {sorted(found)} are open, expected {sorted(self.fds)}")

    def _facts(self) -> dict[int, tuple[int, int, int, int, int]]:
        """Of each descriptor: rights, inheriting rights, cursor, flags, kind."""
        return {
            fd: (
                found.rights,
                found.inheriting,
                found.cursor if isinstance(found, OpenFile) else 0,
                found.flags,
                found.filetype,
            )
            for fd, found in self.process.fds._open.items()
        }

    def _check_store(self, step: Step, answer: str) -> None:
        facts, inside = self._facts(), self.ground.inside()
        if answer != "SUCCESS" and not self._may_have_effect(step, answer):
            if facts != self.facts:
                self.wrong(f"failed with {answer} and changed a descriptor: {difference(self.facts, facts)}")
            if inside != self.ground.known:
                self.wrong(f"failed with {answer} and changed the store: {difference(self.ground.known, inside)}")
        if step.name not in ("fd_renumber", "fd_close", "path_open"):
            for fd, (base, inheriting, cursor, _, kind) in facts.items():
                old = self.facts[fd]
                if base & ~old[0] or inheriting & ~old[1] or kind != old[4]:
                    self.wrong(f"descriptor {fd} got rights: {old} became {facts[fd]}")
                if cursor != old[2] and not (step.name in _MOVES_CURSOR and fd == step.args[0]):
                    self.wrong(f"moved the cursor of descriptor {fd} from {old[2]} to {cursor}")
        elif step.name == "path_open" and answer == "SUCCESS":
            (opened,) = facts.keys() - self.facts.keys()
            parent = self.facts[step.args[0]]
            if facts[opened][0] & ~(parent[0] | parent[1]) or facts[opened][1] & ~parent[1]:
                self.wrong(f"gave more rights than the directory's: {facts[opened]} below {parent}")
        self._check_accounts()
        self.facts, self.ground.known = facts, inside

    def _may_have_effect(self, step: Step, answer: str) -> bool:
        """Whether a call that fails may do something: a close does, and a write that cannot be synced stays written."""
        if step.name in ("fd_close", "fd_renumber"):
            return answer != "BADF"
        known = self.facts.get(step.args[0]) if step.name in ("fd_write", "fd_pwrite") else None
        return known is not None and self.setup.kind == "faulty" and bool(known[3] & c.FDFLAGS_SYNC)

    def _check_accounts(self) -> None:
        text = self.ground.accounts()
        if text:
            self.wrong(text)
        quota, (names, used) = self.process.quota, self.ground.charged()
        added = names - self.ground.at_start[0], used - self.ground.at_start[1]
        if self.ground.on_disk or self.setup.second_from < STEPS:  # nobody knows who added what
            added = quota.inodes, 0
        if quota.inodes < added[0] or quota.bytes < max(added[1], 0):
            self.wrong(f"{added} names and bytes were added, {quota.inodes} and {quota.bytes} are charged")
        if quota.inodes > quota.max_inodes or quota.bytes > quota.max_bytes:
            self.wrong(f"{quota.inodes} names and {quota.bytes} bytes are more than the limits")

    def _level(self, step: Step, answer: str, before: bytes) -> bool:
        """Overwrite what differs from run to run: times, random bytes, and between stores inode numbers, listings and
        sizes of directories. Whether there was any."""
        if answer != "SUCCESS":
            return False
        numbers = self.ground.numbered_anew or self.setup.everywhere
        if step.name in ("random_get", "clock_time_get", "poll_oneoff") or (numbers and step.name == "fd_readdir"):
            for start, length in outputs(step, self.abi, before, self.process):
                self.view[start : start + length] = bytes(len(self.view[start : start + length]))
        elif step.name.endswith("filestat_get"):
            at = step.args[-1]
            end = at + self.abi.filestat.size
            self.view[end - 24 : end] = bytes(24)
            if numbers:
                self.view[at + 8 : at + 16] = bytes(8)
                if self.view[at + 16] == FileType.DIRECTORY:
                    self.view[end - 32 : end - 24] = bytes(8)
        else:
            return False
        return True


def _overlap(step: Step, abi: Abi, memory: bytes, process: Any) -> bool:
    """Whether results of the call lie over each other, or over the iovecs."""
    regions = sorted(region for region in outputs(step, abi, memory, process) if region[1])
    asked = dict(words(step))
    if "iovs" in asked:
        regions.append((asked["iovs"][0], 8 * asked["iovs"][1]))
        regions.sort()
    return any(one[0] + one[1] > other[0] for one, other in itertools.pairwise(regions))


def difference(old: dict[Any, Any], new: dict[Any, Any]) -> str:
    keys = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    return "; ".join(
        f"{key!r}: {old.get(key)!r:.200} became {new.get(key)!r:.200}" for key in sorted(keys, key=repr)[:3]
    )


class _Guests:
    """The guests of one ground, each made when its first call comes."""

    def __init__(self, setup: Setup, ground: Ground, vdso: bool, strict: bool) -> None:
        self._kind = setup, ground, vdso, strict
        self._second_from = setup.second_from
        self.outcome = Outcome()
        self.runs: list[_Run] = []

    def _of(self, who: int) -> _Run:
        while who >= len(self.runs):
            for run in self.runs:
                run.guest.wasi.settle()  # what they keep may otherwise come after what the new one writes
            self.runs.append(_Run(*self._kind, self.outcome))
        return self.runs[who]

    def run(self, plan: Sequence[Step] | Maker) -> None:
        for number in range(len(plan) if not isinstance(plan, Maker) else STEPS):
            if isinstance(plan, Maker):
                who = plan.who() if number >= self._second_from else 0
                run = self._of(who)
                step = plan.step(run.process, len(run.view))._replace(who=who)
            else:
                step = plan[number]
                run = self._of(step.who)
            self.outcome.plan.append(step)
            if not run.step(step) or self.outcome.problems:
                break
        self.outcome.printed = tuple(printed for run in self.runs for printed in run.printed())

    def close(self) -> None:
        for run in self.runs:
            try:
                run.guest.close()
            except BaseException as error:
                run.wrong(f"closing raised {error!r}")


def once(setup: Setup, plan: Sequence[Step] | Maker, place: Path, vdso: bool, strict: bool) -> Outcome:
    """One run in a ground of its own, with everything that must hold at its end."""
    host_fds = open_host_fds()
    ground = Ground(setup.kind, setup.layout, setup.tight, place, setup.seed)
    outside = ground.outside()
    usual, fastpath.HEAT, fastpath.WARMTH = (fastpath.HEAT, fastpath.WARMTH), setup.heat, setup.heat
    try:
        guests = _Guests(setup, ground, vdso, strict)
        guests.run(plan)
        guests.close()
    finally:
        fastpath.HEAT, fastpath.WARMTH = usual
    outcome = guests.outcome
    outcome.shape = ground.shape()
    for text in (
        f"{ground.live()} handles are open after the end" if ground.live() else "",
        ground.accounts(),
        _changed(outside, ground.outside()),
    ):
        if text:
            outcome.problems.append(f"end: {text}")
    ground.close()
    if open_host_fds() > host_fds:  # what other tests left to the garbage collector may go meanwhile
        outcome.problems.append(f"end: host descriptors: {host_fds} before, {open_host_fds()} after")
    return outcome


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    return "" if before == after else f"what the guest may not change has changed: {difference(before, after)}"
