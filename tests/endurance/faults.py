"""One fault, or one lie, at one call of a store, during a real program's run; and everything that must hold then.

`Bench` is a program on a store; `Bench.strike` makes one run and gives what was wrong with it, as text.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vfswasi
from tests import avr_build
from tests.guest_programs import compile_c, compile_guest
from vfswasi.engine import guests
from vfswasi.errors import Errno, FsError
from vfswasi.kernel.files import sharing

from . import ledger
from .stores import STORES
from .watched import Liar


class Strange(Exception):
    """Of a kind that nobody knows."""


class StrangeEnd(BaseException):
    """Nor this one."""


# Class of faults -> name -> what is raised. What a run may do differs by class: see `_outcome`.
KINDS: dict[str, dict[str, Callable[[], BaseException]]] = {
    "errno": {
        name: lambda name=name: FsError(Errno[name], "planned")  # type: ignore[misc]
        for name in "IO NOSPC DQUOT ACCES STALE PERM ROFS NOENT EXIST NOTDIR LOOP NOMEM INTR AGAIN CANCELED".split()
    },
    "memory": {"MemoryError": MemoryError},
    "foreign": {
        "OSError": OSError,
        "OSError 5": lambda: OSError(5, "Input/output error"),
        "OSError 28": lambda: OSError(28, "No space left on device"),
        "FileNotFoundError": lambda: FileNotFoundError(2, "No such file or directory"),
        "TimeoutError": TimeoutError,
        **{kind.__name__: kind for kind in (ValueError, TypeError, KeyError, RuntimeError, RecursionError, EOFError)},
        **{kind.__name__: kind for kind in (AssertionError, StopIteration, NotImplementedError, UnicodeDecodeError)},
        "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        "zlib.error": lambda: zlib.error("planned"),
        "Strange": Strange,
    },
    "base": {
        "KeyboardInterrupt": KeyboardInterrupt,
        "SystemExit": lambda: SystemExit(0),
        "GeneratorExit": GeneratorExit,
        "StrangeEnd": StrangeEnd,
    },
}
FIRST = {"errno": "IO", "memory": "MemoryError", "foreign": "ValueError", "base": "KeyboardInterrupt"}


def class_of(kind: str) -> str:
    return next(name for name, kinds in KINDS.items() if kind in kinds)


# Programs


@dataclass(frozen=True)
class Program:
    """args: of the run that is struck; again: of the run after it. tree: what the store holds at first. makes: the
    files that the program leaves, which are the same in every run that ends with 0."""

    wasm: Path
    args: list[str]
    again: list[str]
    tree: dict[str, Any]
    makes: tuple[str, ...] = ()
    script: str = ""  # of the ledger


AGAIN = """
o 0 /d/in/big r
r 0 100000
r 0 1
c 0
o 1 /d/again/f cwt
w 1 70000 1
v 1 90 2
w 1 10 3
l 1 0 0
r 1 70100
y 1
c 1
n /d/again/f /d/again/g
s /d/again/g
u /d/again/g
m /d/again/d
d /d/again/d
L /d/again
e 0
""".strip()
UNTOUCHED = {"f": bytes(range(256)) * 30, "d": {}}
ASM = ".text\n.global main\nmain:\n ldi r24, 1\n ret\n.data\n.byte 1, 2, 3\n"


@cache
def program(name: str) -> Program:
    """tree, stdio; as, ld, objcopy (GNU's, as other people compiled them); steps-exit, steps-status, steps-trap."""
    if name.startswith("steps-"):
        script = f"{ledger.BODY}\n{ledger.ENDINGS[name.removeprefix('steps-')]}"
        wasm = compile_c(Path(__file__).parent / "steps.c")
        return Program(wasm, [script, "/j/log"], [AGAIN, "/j/log"], ledger.TREE | {"again": {}}, script=script)
    if name == "tree":
        trees = {"one": {}, "two": {}, "untouched": UNTOUCHED}
        return Program(compile_guest("tree"), ["/d/one"], ["/d/two"], trees)
    if name == "stdio":
        return Program(compile_guest("stdio"), ["/d/w"], ["/d/w"], {"w": {}, "untouched": UNTOUCHED})
    tree: dict[str, Any] = {"firmware.s": ASM.encode(), "untouched": UNTOUCHED}
    tree["link.ld"] = (avr_build.SOURCE / "link.ld").read_bytes()
    tools = {
        "as": ("o", ["-mmcu=avr5", "-o", "/d/firmware.o", "/d/firmware.s"]),
        "ld": ("elf", ["-T", "/d/link.ld", "-o", "/d/firmware.elf", "/d/firmware.o", "-e", "main"]),
        "objcopy": ("hex", ["-O", "ihex", "/d/firmware.elf", "/d/firmware.hex"]),
    }
    for tool, (ending, args) in tools.items():
        if tool == name:
            return Program(avr_build.program(f"avr-{tool}"), args, args, tree, (f"firmware.{ending}",))
        done = vfswasi.run(avr_build.program(f"avr-{tool}"), args, preopens={"/d": tree}, check=True)
        tree = done.files["/d"]
    raise ValueError(name)


# Runs


@dataclass
class Outcome:
    result: vfswasi.Result | None
    error: BaseException | None
    warnings: list[str]


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """The messages that the library logs meanwhile."""
    logger = logging.getLogger("vfswasi")
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def resources() -> dict[str, int]:
    """What a run must give back."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "guests": len(guests.live),
        "stores in use": len(sharing._shares),
    }


def taken_since(before: dict[str, int]) -> dict[str, int]:
    """How much more there is of what. What others have given back meanwhile does not matter."""
    return {name: count - before[name] for name, count in resources().items() if count > before[name]}


class Bench:
    """A program on a store of one kind, run again and again."""

    def __init__(self, name: str, store: str, vdso: bool, place: Path) -> None:
        self.name, self.store_name, self.vdso, self._place = name, store, vdso, place
        self.lasting, self.struck = False, None
        self.program, self.kind = program(name), STORES[store]
        self._journal = vfswasi.MemoryBackend()
        backend, self._export = self.kind.make(self.program.tree, place)
        self.store = Liar(backend)
        preopens: dict[str, Any] = {"/d": vfswasi.Mount(self.store, rw=True)}
        if self.program.script:
            preopens["/j"] = vfswasi.Mount(self._journal, rw=True)
        self._sandbox = vfswasi.Sandbox(self.program.wasm, preopens=preopens, vdso=vdso)
        clean = self._run(self.program.args)
        assert clean.error is None, clean.error
        assert not clean.warnings
        self.names, self.result = list(self.store.names), clean.result
        self.made = {name: self._export()[name] for name in self.program.makes}
        wrong = [*self._after(), *self._ledger(clean)]
        self._fresh()
        wrong += self._again()
        assert not wrong, wrong

    def _fresh(self) -> None:
        self.store.books.inner.close()
        backend, self._export = self.kind.make(self.program.tree, self._place)
        self.store.put(backend)

    def _run(self, args: list[str]) -> Outcome:
        result = error = None
        with _warnings() as warnings:
            try:
                result = self._sandbox.run(args, capture_output=True, timeout=30)
            except BaseException as raised:
                error = raised
        return Outcome(result, error, warnings)

    @property
    def calls(self) -> int:
        """How many calls the program makes of its store."""
        return len(self.names)

    def strike(
        self,
        number: int,
        fault: BaseException | None,
        lie: Callable[[Any], Any] | None = None,
        lasting: bool = False,
    ) -> list[str]:
        """What was wrong with a run whose call `number` fails, or lies, and with the run after it. `lasting`: all calls
        from there on fail."""
        self._fresh()
        before = resources()
        if fault is not None:
            self.store.fail(number, fault, lasting)
        else:
            self.store.at, self.store.lie = number, lie
        self.lasting = lasting
        outcome = self._run(self.program.args)
        self.struck = self.store.struck
        if self.struck is None:  # an answer that was an error cannot be a lie
            return ["nothing was struck"] if fault is not None else []
        wrong = self._outcome(outcome, fault)
        if isinstance(outcome.error, vfswasi.UncommittedError):
            for file in outcome.error.files:
                file.close()
        wrong += self._ledger(outcome) if fault is not None else self._counts(outcome)
        if outcome.error is not None:
            outcome.error.__traceback__ = None  # its frames hold the run's objects
        wrong += self._after()
        if fault is not None and outcome.result is not None and outcome.result.returncode == 0:
            made = self._export()
            wrong += [f"{name} is another file" for name, data in self.made.items() if made.get(name) != data]
        self.store.be_good()
        wrong += self._again()
        more = taken_since(before)
        if more:
            wrong.append(f"{before} before, {more} more after")
        return wrong

    def _outcome(self, outcome: Outcome, fault: BaseException | None) -> list[str]:
        """The run ended in one of the ways that are documented."""
        error = outcome.error
        logged = any("closing a file" in text for text in outcome.warnings)
        if fault is None:  # a lie: whatever Python makes of it
            steady = self.program.script and "trap" not in self.name  # other programs may trap over what they read
            trap = outcome.result.trap if outcome.result is not None and steady else None
            fine = isinstance(error, Exception | None) and not isinstance(error, vfswasi.HostCallError) and not trap
        elif isinstance(fault, FsError):
            fine = error is None
            if self.struck == "finish" or self.lasting:
                fine = isinstance(error, vfswasi.UncommittedError) and error.files[0].error.args == fault.args
        elif isinstance(fault, MemoryError):
            fine = error is (fault if self.struck == "finish" or self.lasting else None)
        elif isinstance(fault, Exception):
            # Closing after the guest's end logs what fails; a window that cannot be made is done without.
            fine = error is fault or (error is None and (logged or (self.vdso and self.struck == "handle.size")))
        else:
            fine = error is fault
        return [] if fine else [f"ended with {outcome.error!r}, {outcome.result}, {outcome.warnings}"]

    def _ledger(self, outcome: Outcome) -> list[str]:
        """What the guest saw was true, and what it was promised is in the store."""
        if not self.program.script:
            return []
        log = self._journal.export()["log"]
        ended = not isinstance(outcome.error, Exception | None)  # by what is raised when the run is over
        late = bool(outcome.warnings) or ended or (self.lasting and outcome.error is not None)
        published = outcome.result is not None and outcome.result.returncode == 0
        given_up = self.kind.when_closed and (outcome.result is None or outcome.result.trap is not None)
        complaints = []
        try:
            for state in ledger.Ledger(self.program.tree).follow(self.program.script, log):
                if self.kind.at_end and not published:
                    state = ledger.Ledger(self.program.tree)
                try:
                    state.check(self._export(), late, given_up)
                    return []
                except ledger.Impossible as error:
                    complaints.append(f"store: {error}")
        except ledger.Impossible as error:
            complaints.append(f"guest: {error}")
        if self.lasting and self.struck == "handle.ident":  # a new file whose number is asked for in vain stays there
            complaints = [text for text in complaints if "nobody made" not in text]
        return complaints

    def _counts(self, outcome: Outcome) -> list[str]:
        """Whatever a store says, a guest is never told of more bytes than it asked for."""
        wrong = []
        if self.program.script:
            log = self._journal.export()["log"].decode().splitlines()
            for step, line in zip(self.program.script.splitlines(), log, strict=False):
                result = int(line.split()[0])
                if step[0] in "rRwWv" and result > int(step.split()[2]):
                    wrong.append(f"{step!r} gave {result}")
        return wrong

    def _after(self) -> list[str]:
        wrong = self.store.books.complaints()
        if self._export().get("untouched") != self.program.tree["untouched"]:
            wrong.append("files that the program does not name were changed")
        return wrong

    def _again(self) -> list[str]:
        """The next run, without a fault, is right."""
        outcome = self._run(self.program.again)
        wrong = [f"again: {text}" for text in self._after()]
        if outcome.error is not None or outcome.warnings:
            wrong.append(f"again: ended with {outcome.error!r}, {outcome.warnings}")
        elif self.program.script:
            log = self._journal.export()["log"].decode()
            if "-1" in log or len(log.splitlines()) != len(AGAIN.splitlines()) - 1:
                wrong.append(f"again: a step failed: {log.split()}")
            else:
                try:
                    ledger.Ledger(self.program.tree).follow(AGAIN, log.encode())
                except ledger.Impossible as error:
                    wrong.append(f"again: {error}")
        else:
            assert outcome.result is not None
            assert self.result is not None
            seen = (outcome.result.returncode, outcome.result.stdout, outcome.result.stderr)
            if seen != (self.result.returncode, self.result.stdout, self.result.stderr):
                wrong.append(f"again: {outcome.result}")
        made = self._export()
        wrong += [f"again: {name} is another file" for name, data in self.made.items() if made.get(name) != data]
        return wrong
