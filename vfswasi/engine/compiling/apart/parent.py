"""Compiling in a process of its own, which can be ended: by time, by memory, by Ctrl-C.

wasmtime's compiler cannot be interrupted, and what it takes grows faster than the module. So what is not small
(`costs`) is compiled by a new interpreter (`child`), which knows nothing of ours: no environment but what the loader
needs, no variable of Python's, no site, the root as its working directory, and of our directories two, behind those of
the standard library. It is in a session of its own, so that Ctrl-C at a terminal is ours to act upon.

The two talk through pipes, a line of JSON each: a request, then "ready", then the outcome. Module and compiled code
pass through files without names, so that nothing is left whoever is killed when. The code is signed, with a key that
is made for this one request, and checked as what comes from the cache is: a copy, of which every byte was hashed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import wasmtime

from ....errors import CompileError, CompileLimitError, CompileTimeoutError, InvalidModuleError
from ....limits import Limits
from ....printing import counted, printable
from ..cache import Unusable
from .answers import INVALID, MADE, NO_MEMORY, READY
from .watching import watcher

if TYPE_CHECKING:
    from ...interruption.ways import Way

_BEGIN: Final = "import sys; sys.path += sys.argv[1:]; from vfswasi.engine.compiling.apart.child import main; main()"
_NO_INTERPRETER: Final = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR})
# What the system's loader needs to find libraries, and how many threads wasmtime may use.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "RAYON_NUM_THREADS")
_SLICE_S: Final = 0.1  # between two looks at the clock
_START_S: Final = 2.0  # for the system to start a process
_END_S: Final = 2.0  # for the end of a process that has closed its output
_ANSWER_MAX_BYTES: Final = 1 << 20
_WORDS_MAX_BYTES: Final = 4096  # of what it says on standard error
_WORDS_OF_NO_MEMORY: Final = (b"memory allocation of", b"annot allocate memory", b"MemoryError", b"out of memory")
_THREADS_BYTES: Final = 1 << 30  # for stacks, at most
_HINT: Final = "if you trust it, raise Limits.{0} (--limit {0}=...)"


class UnavailableError(Exception):
    """No process can be started here that compiles; the text says why."""


class Asked(NamedTuple):
    """How a module is to be compiled. `key`: what compiled code is called, for its signature."""

    key: str
    fuel: bool
    features: frozenset[str]
    way: Way


def compiled(
    wasm: bytes, name: str, asked: Asked, limits: Limits, load: Callable[[Way, int, bytes], wasmtime.Module]
) -> tuple[wasmtime.Module, Way, float]:
    """A module, the way in which it is interrupted, and the seconds of compiling. `load`: makes a module of an open
    file, given that way and the key of its signature.

    Raises InvalidModuleError, CompileError, UnavailableError.
    """
    secret = os.urandom(32)
    request = {
        "name": asked.key,
        "fuel": asked.fuel,
        "features": sorted(asked.features),
        "way": asked.way,
        "secret": secret.hex(),
    }
    with _answer(wasm, name, request, limits) as (made, output):
        try:
            way, seconds = made["way"], float(made["seconds"])
            if way not in ("page", "epoch"):
                raise ValueError(way)
        except (TypeError, KeyError, ValueError) as error:
            raise _garbage(name) from error
        try:
            return load(way, output, secret), way, seconds
        except (OSError, RuntimeError, wasmtime.WasmtimeError, Unusable) as error:
            raise CompileError(
                f"compiling {name}: what came from the compiler is not what it signed ({type(error).__name__})"
            ) from error


def from_text(text: bytes, name: str, limits: Limits) -> bytes:
    """The binary format of a module in the text format. Raises as `compiled` does."""
    with _answer(text, name, {}, limits) as (_, output), open(output, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


@contextlib.contextmanager
def _answer(given: bytes, name: str, request: dict[str, Any], limits: Limits) -> Iterator[tuple[Any, int]]:
    """What the process says that it has made, and the file with it."""
    _check_interpreter()
    with _unnamed() as source, _unnamed() as output:
        source.write(given)
        source.flush()
        request |= {
            "text": not request,
            "label": name[:1000],
            "input": source.fileno(),
            "output": output.fileno(),
            "seconds": limits.compile_seconds,
            "memory": limits.compile_memory_bytes,
        }
        yield _outcome(request, name, limits), output.fileno()


def _check_interpreter() -> None:
    """Raises UnavailableError where there is no interpreter that could be started: what is called so in a frozen
    program is the program."""
    if os.name != "posix" or not hasattr(select, "poll") or not hasattr(os, "preadv"):
        raise UnavailableError("this system has none of what that needs")
    if getattr(sys, "frozen", False) or not sys.executable:
        raise UnavailableError("this program has no interpreter beside it")
    if not os.path.basename(os.path.realpath(sys.executable)).lower().startswith(("python", "pypy")):
        raise UnavailableError(f"{sys.executable} does not look like a Python interpreter")


def _unnamed() -> IO[bytes]:
    """A file for this process and its children alone."""
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("vfswasi-compiling", os.MFD_CLOEXEC), "w+b")
        os.fchmod(file.fileno(), 0o600)
        return file
    import tempfile

    return tempfile.TemporaryFile()


def _command() -> list[str]:
    ours = [str(Path(module.__file__ or "").resolve().parents[1]) for module in (sys.modules["vfswasi"], wasmtime)]
    return [sys.executable, "-I", "-S", "-B", "-c", _BEGIN, *dict.fromkeys(ours)]


def _outcome(request: dict[str, Any], name: str, limits: Limits) -> Any:
    """Start a process, and wait for what it says; it is gone when this returns or raises."""
    import json

    began = time.monotonic()
    start = _Start(request, name)
    try:
        talk = _Talk(start.process(), name, limits, began)
        assert talk.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            talk.process.stdin.write(json.dumps(request).encode() + b"\n")
        lines = talk.lines()
    finally:
        start.end()
        tell = watcher.get()
        if tell is not None:
            tell(name, None)
    return _judged(lines, talk, name, limits)


class _Start:
    """Of a process. It happens on another thread: an exception that a signal handler raises, at any moment, cannot make
    us forget that there is one."""

    def __init__(self, request: dict[str, Any], name: str) -> None:
        self._files = (request["input"], request["output"])
        self._name = name
        self._outcome: list[subprocess.Popen[bytes] | BaseException] = []
        self._unwanted = False
        self._done: threading.Event | None = None

    def process(self) -> subprocess.Popen[bytes]:
        """Raises UnavailableError, CompileError."""
        done = self._done = threading.Event()

        def work() -> None:
            try:
                self._outcome.append(self._started())
            except BaseException as error:
                self._outcome.append(error)
            done.set()
            if self._unwanted:
                self.end()

        try:
            threading.Thread(target=work, name="vfswasi-compiling", daemon=True).start()
        except RuntimeError as error:
            raise CompileError(f"compiling {self._name}: no thread could be started for it") from error
        done.wait()
        outcome = self._outcome[0]
        if isinstance(outcome, subprocess.Popen):
            return outcome
        if not isinstance(outcome, OSError):
            raise outcome
        if outcome.errno in _NO_INTERPRETER:
            raise UnavailableError(f"{sys.executable}: {outcome.strerror}") from outcome
        raise CompileError(
            f"compiling {self._name}: no process could be started for it: {outcome.strerror}"
        ) from outcome

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=self._files,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            cwd="/",
            start_new_session=True,
        )

    def end(self) -> None:
        """See to it that the process is gone, also one that is only being started."""
        self._unwanted = True
        if self._done is not None:  # where the thread had no time to begin, nobody ever will be done
            self._done.wait(_START_S)
        for process in self._outcome:
            if isinstance(process, subprocess.Popen):
                if process.poll() is None:
                    process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()


class _Talk:
    """With a process. `words`: what it said on standard error. `status`: of its end, if it ended by itself."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, limits: Limits, began: float) -> None:
        self.process, self._name, self._limits, self._began = process, name, limits, began
        self._tell = watcher.get()
        self.words = b""
        self.status: int | None = None

    def lines(self) -> list[bytes]:
        """All that it answers. Raises CompileTimeoutError, CompileError."""
        out, err = self.process.stdout, self.process.stderr
        assert out is not None
        assert err is not None
        poll = select.poll()
        for stream in (out, err):
            poll.register(stream, select.POLLIN | select.POLLHUP)
        said = b""
        while True:
            ready = poll.poll(self._left_s() * 1000)
            for number, _ in ready:
                piece = os.read(number, 1 << 16)
                if number == err.fileno():
                    self.words = (self.words + piece)[-_WORDS_MAX_BYTES:]
                    if not piece:
                        poll.unregister(err)
                elif piece and len(said) < _ANSWER_MAX_BYTES:
                    said += piece
                else:
                    self._settle(err.fileno())
                    return said.splitlines()
            # Somebody who was forked meanwhile may hold the other ends of the pipes.
            if not ready and self.process.poll() is not None:
                self._settle(err.fileno())
                return said.splitlines()

    def _left_s(self) -> float:
        """How long to wait before looking again."""
        now = time.monotonic()
        if self._tell is not None:
            self._tell(self._name, now - self._began)
        if not threading.main_thread().is_alive():
            raise CompileError(f"compiling {self._name}: the program ends")
        seconds = self._limits.compile_seconds
        if seconds is None:
            return _SLICE_S
        if now - self._began >= seconds:
            raise timeout(self._name, self._limits)
        return min(_SLICE_S, seconds - (now - self._began))

    def _settle(self, err: int) -> None:
        """It has nothing more to answer: see how it ended, and what it said of that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)
        self.status = self.process.poll()
        poll = select.poll()
        poll.register(err, select.POLLIN | select.POLLHUP)
        while poll.poll(0) and (piece := os.read(err, 1 << 16)):
            self.words = (self.words + piece)[-_WORDS_MAX_BYTES:]


def timeout(name: str, limits: Limits) -> CompileTimeoutError:
    return CompileTimeoutError(
        f"compiling {name} took longer than compile_seconds ({limits.compile_seconds:g} s); "
        + _HINT.format("compile_seconds")
    )


def _judged(lines: list[bytes], talk: _Talk, name: str, limits: Limits) -> Any:
    import json

    answers: list[Any] = []
    for line in lines:
        try:
            answers.append(json.loads(line))
        except ValueError:
            raise _garbage(name) from None
    last_words = printable(talk.words.decode("utf-8", "replace").strip().rpartition("\n")[2][:300])
    if not answers and talk.status is not None:
        # No limit of ours holds before it is ready, so none of them is to blame. There is an interpreter, though, and
        # what it has too little of may be missing here too: this is no reason to compile in this process.
        if talk.status < 0:
            raise _crashed(-talk.status, name)
        last_words = last_words or f"{sys.executable}: exit status {talk.status}"
        raise CompileError(f"compiling {name}: the compiler did not begin: {last_words}")
    if answers[:1] != [{READY: None}] and answers:
        raise _garbage(name)
    if len(answers) < 2:
        raise _ended_badly(talk, last_words, name, limits)
    if len(answers) > 2 or not isinstance(answers[1], dict) or len(answers[1]) != 1:
        raise _garbage(name)
    ((kind, value),) = answers[1].items()
    if kind == INVALID and isinstance(value, str):
        raise InvalidModuleError(value)
    if kind == NO_MEMORY:
        raise _no_memory(name, limits)
    if kind != MADE:
        raise _garbage(name)
    return value


def _ended_badly(talk: _Talk, last_words: str, name: str, limits: Limits) -> CompileError:
    status = talk.status
    if any(words in talk.words for words in _WORDS_OF_NO_MEMORY):
        return _no_memory(name, limits)
    most = limits.compile_memory_bytes
    if b"ThreadPoolBuildError" in talk.words and most is not None and most < _THREADS_BYTES:
        return _no_memory(name, limits)
    if status is None:
        return _garbage(name)
    if status >= 0:
        return CompileError(f"compiling {name}: the compiler failed: {last_words or f'exit status {status}'}")
    return _crashed(-status, name)


def _crashed(number: int, name: str) -> CompileError:
    """`number`: of the signal that ended it."""
    with contextlib.suppress(ValueError):
        if signal.Signals(number) == signal.SIGKILL:
            return CompileError(
                f"compiling {name}: the compiler was killed (SIGKILL), as a system does that is out of memory"
            )
        return CompileError(f"compiling {name}: the compiler crashed ({signal.Signals(number).name})")
    return CompileError(f"compiling {name}: the compiler crashed (signal {number})")


def _no_memory(name: str, limits: Limits) -> CompileError:
    if limits.compile_memory_bytes is None:
        return CompileError(f"compiling {name} needs more memory than the system gives")
    most = counted(limits.compile_memory_bytes, "byte")
    return CompileLimitError(
        f"compiling {name} needs more memory than compile_memory_bytes ({most}); "
        + _HINT.format("compile_memory_bytes")
    )


def _garbage(name: str) -> CompileError:
    return CompileError(f"compiling {name}: the compiler's answer makes no sense")
