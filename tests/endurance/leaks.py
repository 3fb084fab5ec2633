"""Thousands of runs with one ending each, and what they leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vfswasi
from tests.wat_programs import ENDLESS, OPEN, POLL_STDIN, SLEEP
from tests.wat_programs import program as wat
from vfswasi.engine import host
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.kernel.files import sharing
from vfswasi.mounts.sources import open_mount

RUNS_OF_A_SANDBOX = 100
_MORE_MEMORY = "KiB more memory"
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
    "interrupt in wasm": Ending("(call $f)" + ENDLESS, vfswasi.HostCallError, imports={}),
    "interrupt in a sleep": Ending("(call $f)" + SLEEP, vfswasi.HostCallError, imports={}),
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
            "guests": len(host._live),
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
    collector would find does not count. A step in the process's memory that no further runs repeat, like the heap of
    a thread that took over from a busy one, is no leak: what grew is looked at up to three times."""
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
                wrong = compared(before, uncollected, after, times)
                if not wrong or any(_MORE_MEMORY not in text for text in wrong):
                    break
    finally:
        runs.close()
    return wrong


def compared(before: Held, uncollected: Held, after: Held, times: int, spare: int = 512 << 10) -> list[str]:
    """`uncollected`: what was held before the garbage collector ran, which must not be needed. `spare`: bytes that the
    process may grow by, however many `times`."""
    wrong = []
    if uncollected.rest != before.rest:
        wrong.append(f"{before.rest} before, {uncollected.rest} after")
    grown = uncollected.kinds - before.kinds
    if grown:
        wrong.append(f"objects that nobody let go: {grown.most_common(5)}")
    if uncollected.objects - before.objects > 100:
        wrong.append(f"{uncollected.objects - before.objects} more objects before a collection")
    if after.objects - before.objects > 50:
        wrong.append(f"{after.objects - before.objects} more objects after a collection")
    allowed = spare + 30 * times
    if after.rss - before.rss > allowed:
        wrong.append(f"{(after.rss - before.rss) >> 10} {_MORE_MEMORY}, {allowed >> 10} are allowed")
    return wrong
