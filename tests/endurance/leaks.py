"""Thousands of runs with one ending each, and what they leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vfswasi
from tests.wat_programs import ENDLESS, OPEN, POLL_STDIN, SLEEP
from tests.wat_programs import program as wat
from vfswasi.engine import guests
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.kernel.files import sharing
from vfswasi.mounts.finding.sources import open_mount

RUNS_OF_A_SANDBOX = 100
_FUNCTION = '(import "env" "f" (func $f))'
# What each guest does before it ends: a file is made, written to and left open, and a directory.
_BEFORE = (
    OPEN
    + "(call $say (i32.const 4)) " * 4
    + """(drop (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 1) (i32.const 2) (i64.const 0)
  (i64.const 0) (i32.const 0) (i32.const 64)))"""
)
_DATA = '(data (i32.const 200) ".")'
# opens "so", which the store refuses in its own way
_OPEN_SO = OPEN.replace("(i32.const 16) (i32.const 1)", "(i32.const 16) (i32.const 2)")


class Refused(Exception):
    """What callables and stores of these tests raise."""


class Ended(BaseException):
    """The same, of the kind that nobody catches."""


def _refuse(*_: Any) -> None:
    raise Refused


def _end(*_: Any) -> None:
    raise Ended


@dataclass(frozen=True)
class Ending:
    """body: what the guest does at last. expected: the status, or what `run` raises. fail: what the store does.
    waits: a run takes as long as its timeout."""

    body: str
    expected: int | type[BaseException]
    options: dict[str, Any] = field(default_factory=dict)
    imports: dict[str, Any] | None = None
    fail: dict[Any, Any] | None = None
    more: str = ""
    waits: bool = False


TIMEOUT = {"timeout": 0.0015}
ENDINGS = {
    "return": Ending("", 0),
    "exit 0": Ending("(call $exit (i32.const 0))", 0),
    "exit 3": Ending("(call $exit (i32.const 3))", 3),
    "trap": Ending("unreachable", -6),
    "trap, checked": Ending("unreachable", vfswasi.GuestTrapError, {"check": True}),
    "stack overflow": Ending("(call $deep)", -6, more="(func $deep (call $deep))"),
    "bad start": Ending("", -6, more="(start $begin) (func $begin unreachable)"),
    "bad data": Ending("", -6, more='(data (i32.const -1) "x")'),
    "timeout in wasm": Ending(ENDLESS, vfswasi.GuestTimeoutError, TIMEOUT, waits=True),
    "timeout in a sleep": Ending(SLEEP, vfswasi.GuestTimeoutError, TIMEOUT, waits=True),
    "timeout in a poll": Ending(POLL_STDIN, vfswasi.GuestTimeoutError, TIMEOUT, waits=True),
    "timeout before the start": Ending("", vfswasi.GuestTimeoutError, {"timeout": 0}),
    "interrupt in wasm": Ending("(call $f)" + ENDLESS, vfswasi.GuestInterruptedError, imports={}),
    "interrupt in a sleep": Ending("(call $f)" + SLEEP, vfswasi.GuestInterruptedError, imports={}),
    "import raises": Ending("(call $f)", Refused, imports={"env": {"f": _refuse}}),
    "import ends": Ending("(call $f)", Ended, imports={"env": {"f": _end}}),
    "stdout raises": Ending("(call $say (i32.const 1))", Refused, {"stdout": _refuse}),
    "store raises": Ending(_OPEN_SO, Refused, fail={"so": Refused}),
    "store ends": Ending(_OPEN_SO, Ended, fail={"so": Ended}),
    "store fails": Ending(_OPEN_SO, 0, fail={"so": Errno.IO}),
    "uncommitted": Ending("", vfswasi.UncommittedError, fail={"finish": Errno.NOSPC}),
    "close fails": Ending("", 0, fail={"handle.close": Errno.IO}),
}


def store(kind: str, place: Path) -> Backend:
    """An empty store that can be written to."""
    if kind == "memory":
        return vfswasi.MemoryBackend({})
    if kind == "local":
        return open_mount(vfswasi.Mount(place, rw=True))
    return open_mount(vfswasi.Mount(place / "store.zip", rw=True))


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


def _trim() -> None:
    """Have the C library give free memory back, which a leak could be put into unseen: malloc_trim(3)."""
    if _malloc_trim is not None:
        _malloc_trim(0)


@dataclass
class Held:
    """What the process holds. `kinds`: objects of ours and of wasmtime's, by type."""

    rss: int
    objects: int
    kinds: Counter[str]
    rest: dict[str, int]

    @classmethod
    def now(cls, collect: bool) -> Held:
        if collect:
            gc.collect()
        objects = gc.get_objects()
        kinds = Counter(
            f"{type(thing).__module__}.{type(thing).__name__}"
            for thing in objects
            if str(type(thing).__module__).partition(".")[0] in ("vfswasi", "wasmtime")
        )
        rest = {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "guests": len(guests.live),
            "stores in use": len(sharing._shares),
        }
        _trim()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGESIZE"), len(objects), kinds, rest)


class _Interrupter:
    """Interrupts a sandbox each time that its guest says so, from a thread of its own."""

    def __init__(self) -> None:
        self.sandbox: vfswasi.Sandbox | None = None
        self._wanted = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ready(self, _memory: object) -> None:
        self._wanted.release()

    def _work(self) -> None:
        while self._wanted.acquire() and not self._ended:
            if self.sandbox is not None:
                self.sandbox.interrupt()

    def close(self) -> None:
        self._ended = True
        self._wanted.release()
        self._thread.join()


def _module(ending: Ending) -> bytes:
    """The guest: imports come first in a module, other parts before its entry point."""
    imports, parts = (_FUNCTION, "") if ending.imports is not None else ("", ending.more)
    text = wat(_BEFORE + ending.body, imports).decode()
    return text.replace('(func (export "_start")', f'{_DATA} {parts} (func (export "_start")').encode()


class Runs:
    """Runs of one ending on one store."""

    def __init__(self, ending: str, kind: str, vdso: bool, place: Path) -> None:
        self.ending = ENDINGS[ending]
        self._kind, self._place, self._vdso = kind, place, vdso
        self._module = _module(self.ending)
        self._interrupter = _Interrupter() if self.ending.imports == {} else None
        self._pipe = os.pipe()
        options: dict[str, Any] = {"stdin": self._pipe[0], "stdout": vfswasi.PIPE, "stderr": vfswasi.PIPE}
        self._options = options | self.ending.options

    def close(self) -> None:
        if self._interrupter is not None:
            self._interrupter.close()
        for end in self._pipe:
            os.close(end)

    def __call__(self, times: int) -> None:
        """So many runs. Raises AssertionError if one ends otherwise."""
        for done in range(0, times, RUNS_OF_A_SANDBOX):
            backend = store(self._kind, self._place)
            faulty = Faulty(backend, self._fault) if self.ending.fail else None
            imports = self.ending.imports
            if self._interrupter is not None:
                imports = {"env": {"f": self._interrupter.ready}}
            preopens = {"/d": vfswasi.Mount(backend if faulty is None else faulty, rw=True)}
            with vfswasi.Sandbox(self._module, preopens=preopens, imports=imports, vdso=self._vdso) as sandbox:
                if self._interrupter is not None:
                    self._interrupter.sandbox = sandbox
                for _ in range(min(RUNS_OF_A_SANDBOX, times - done)):
                    self._once(sandbox)
            if self._interrupter is not None:
                self._interrupter.sandbox = None
            assert faulty is None or faulty.open_handles == 0
            backend.close()

    def _fault(self, call: Call) -> Any:
        wanted = self.ending.fail
        assert wanted is not None
        return wanted.get(call.name) or (wanted.get("so") if call.key == ("so",) else None)

    def _once(self, sandbox: vfswasi.Sandbox) -> None:
        expected = self.ending.expected
        try:
            result = sandbox.run(**self._options)
        except BaseException as error:
            if type(error) is not expected:
                raise
        else:
            assert result.returncode == expected, result


@contextlib.contextmanager
def quiet(collecting: bool = False) -> Iterator[None]:
    """Without the warnings about closing, and without the garbage collector unless `collecting`."""
    logger = logging.getLogger("vfswasi")
    level = logger.level
    logger.setLevel(logging.ERROR)
    gc.collect()
    if not collecting:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logger.setLevel(level)


def left_behind(
    ending: str, kind: str, vdso: bool, place: Path, warm: int, times: int, collecting: bool = False
) -> list[str]:
    """What `times` runs after `warm` others left behind: nothing, if all is well. `collecting`: what the garbage
    collector would find does not count.

    A step that no further runs repeat is no leak, in the process's memory or in the mere number of its objects: the
    heap of a thread that took over from a busy one, or what a library makes at its first error. What grew in these
    is looked at up to three times, and has to grow each time."""
    runs = Runs(ending, kind, vdso, place)
    try:
        with quiet(collecting):
            runs(warm)
            after = Held.now(collect=True)
            for _ in range(3):
                before = after
                runs(times)
                uncollected = Held.now(collect=collecting)
                after = Held.now(collect=True)
                left, grown = not_let_go(before, uncollected), grown_by(before, uncollected, after, times)
                if left or not grown:
                    break
    finally:
        runs.close()
    return left + grown


def not_let_go(before: Held, uncollected: Held) -> list[str]:
    """What only we can have left. `uncollected`: what was held before the garbage collector ran, which must not be
    needed."""
    wrong = []
    if any(count > before.rest[name] for name, count in uncollected.rest.items()):
        wrong.append(f"{before.rest} before, {uncollected.rest} after")
    grown = uncollected.kinds - before.kinds
    if grown:
        wrong.append(f"objects that nobody let go: {grown.most_common(20)}")
    return wrong


def grown_by(before: Held, uncollected: Held, after: Held, times: int, spare: int = 512 << 10) -> list[str]:
    """What others may have a part in: fewer than one object in two of `times` runs, and `spare` bytes, are allowed."""
    wrong = []
    objects = min(50, times // 2)
    if uncollected.objects - before.objects > 2 * objects:
        wrong.append(f"{uncollected.objects - before.objects} more objects before a collection")
    if after.objects - before.objects > objects:
        wrong.append(f"{after.objects - before.objects} more objects after a collection")
    allowed = spare + 30 * times
    if after.rss - before.rss > allowed:
        wrong.append(f"{(after.rss - before.rss) >> 10} KiB more memory, {allowed >> 10} are allowed")
    return wrong


# The tests' own places for 2,000 runs of each ending; those that wait take 2 ms and are fewer.
PLACES = [(kind, vdso) for kind in ("memory", "local", "zip") for vdso in (True, False)]
RUNS, RUNS_ELSEWHERE, WARM = 1000, 200, 50
WAITING, WAITING_ELSEWHERE = 400, 60


def thousands(ending: str, place: str) -> list[str]:
    """What runs of one ending left behind, in all places."""
    wrong = []
    for kind, vdso in PLACES:
        first = (kind, vdso) == PLACES[0]
        if ENDINGS[ending].waits:
            times = WAITING if first else WAITING_ELSEWHERE
        else:
            times = RUNS if first else RUNS_ELSEWHERE
        for text in left_behind(ending, kind, vdso, Path(place), WARM, times):
            wrong.append(f"{kind}, {'fast' if vdso else 'plain'}: {text}")
    return wrong


def on_other_threads(place: str) -> list[str]:
    """What runs on threads that end left behind."""
    wrong: list[str] = []

    def work() -> None:
        try:
            wrong.extend(left_behind("trap", "memory", True, Path(place), WARM, RUNS_ELSEWHERE))
        except BaseException as error:
            wrong.append(repr(error))

    def one_after_the_other(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    one_after_the_other(2)
    before = Held.now(collect=True)
    one_after_the_other(3)
    after = Held.now(collect=True)
    spare = 4 << 20  # the C library's heaps, one for a thread
    return wrong + not_let_go(before, after) + grown_by(before, after, after, 3 * RUNS_ELSEWHERE, spare)


def main() -> None:
    """Call the function that is named, with the other arguments; print what it found, in JSON."""
    fastpath.HEAT = fastpath.WARMTH = 1  # as in the tests
    name, *arguments = sys.argv[1:]
    print(json.dumps({"thousands": thousands, "on_other_threads": on_other_threads}[name](*arguments)))


if __name__ == "__main__":
    main()
