"""`run()` and `Sandbox`: run a WASI command with the manners of `subprocess.run`."""

from __future__ import annotations

import codecs
import math
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from .closing import finish, traffic_of, traffic_since, uncommitted
from .engine import fastpath, modules
from .engine.runner import Ending, Program, UserImports
from .errors import GuestExitError, GuestTimeoutError, GuestTrapError, InvalidModuleError
from .fs_backends.base import Backend, Traffic
from .fs_backends.memory import MemoryBackend
from .fs_backends.readonly import ReadOnly
from .fs_backends.waiting import bounded_by
from .kernel.clocks import Deadline
from .kernel.entropy import SeededEntropy
from .kernel.process import Preopen, Process
from .limits import Limits
from .mounts import MountTable
from .sources import Source
from .stdio import PIPE, STDOUT, capture_of, input_stream, output_stream

Module = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class Result:
    """A finished run.

    args: the guest's argv. returncode: its exit status (u32), or -N if signal N ended it; a trap counts as
    SIGABRT (-6). stdout, stderr: what was captured, bytes or str, or None. trap: the message of a trap with the
    guest's backtrace, or None. fast_calls: function -> calls that were answered inside wasm, without Python, and
    "bytes_read", "bytes_written" by them; empty if the fast path was off. traffic: guest directory -> requests and
    bytes that the run cost, for mounts whose files are far away (what other runs of the same mount did meanwhile is in
    it).
    """

    args: list[str]
    returncode: int
    stdout: Any = None
    stderr: Any = None
    trap: str | None = None
    fast_calls: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    traffic: Mapping[str, Traffic] = field(default_factory=dict, repr=False, compare=False)
    _trees: Mapping[str, MemoryBackend] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def files(self) -> dict[str, dict[str, Any]]:
        """Guest directory -> tree, for every memory mount: files as bytes, directories as dicts, links as Symlink."""
        return {name: tree.export() for name, tree in self._trees.items()}

    def check_returncode(self) -> None:
        """Raises GuestTrapError or GuestExitError if the guest did not end with status 0."""
        if self.returncode == 0:
            return
        name = self.args[0] if self.args else "guest"
        given: dict[str, Any] = {
            "argv": self.args,
            "returncode": self.returncode,
            "stdout": self.stdout,
            "stderr": self.stderr,
        }
        if self.trap is not None:
            raise GuestTrapError(f"{name} trapped: {self.trap}", **given)
        if self.returncode < 0:
            raise GuestTrapError(f"{name} was ended by signal {-self.returncode}", **given)
        raise GuestExitError(f"{name} ended with exit status {self.returncode}", **given)


def run(
    module: Module,
    args: Iterable[str] = (),
    *,
    preopens: Mapping[str, Source] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str = "utf-8",
    errors: str = "replace",
    check: bool = False,
    timeout: float | None = None,
    seed: int | None = None,
    argv0: str | None = None,
    imports: UserImports | None = None,
    limits: Limits | None = None,
    vdso: bool | None = None,
) -> Result:
    """Run a WASI command once.

    module: a path, or the module itself as bytes (binary or text format).
    args: the arguments behind the program's name; `argv0` replaces the name (default: the file's).
    preopens: guest directory -> source (see `vfswasi.sources`). The guest sees nothing else.
    env: the guest's whole environment; by default it has none.
    stdin: bytes, str, a file, a descriptor; by default nothing.
    stdout, stderr: PIPE, DEVNULL, STDOUT (stderr), a file, a descriptor, a callable; by default inherited.
    capture_output: both are PIPE. text: captured output is decoded with `encoding` and `errors`.
    check: raise GuestExitError or GuestTrapError unless the guest ends with status 0.
    seed: the guest's random bytes are the same in every run of the same seed; by default the system's generator.
    timeout: seconds; when they are over the guest ends and GuestTimeoutError is raised, with the output so far.
    imports: module -> name -> callable(memory, *numbers) for what the guest imports beside WASI.
    vdso: whether calls on open files may be answered inside wasm; by default unless VFSWASI_VDSO=0 is set.

    Raises ModuleError, MountError, GuestError, UncommittedError (the guest ended, and files of it could not be stored),
    FileNotFoundError (the module), ValueError and TypeError, and unchanged whatever a callable of the caller raised.
    """
    with Sandbox(module, preopens=preopens, env=env, argv0=argv0, imports=imports, limits=limits, vdso=vdso) as sandbox:
        return sandbox.run(
            args,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
            timeout=timeout,
            seed=seed,
        )


class Sandbox:
    """A compiled module and its preopens, for many runs; a context manager that closes the preopens.

    Runs are independent and may happen at once on several threads. A dict given as a preopen is copied for each
    run; a `MemoryBackend` (or a directory) given as one is shared by them.
    """

    def __init__(
        self,
        module: Module,
        *,
        preopens: Mapping[str, Source] | None = None,
        env: Mapping[str, str] | None = None,
        argv0: str | None = None,
        imports: UserImports | None = None,
        limits: Limits | None = None,
        vdso: bool | None = None,
    ) -> None:
        """Compiles the module (or takes it from the cache) and opens the preopens; see `run` for the arguments."""
        wasm, name = read_module(module)
        self._argv0 = name if argv0 is None else argv0
        self._limits = Limits() if limits is None else limits
        if not isinstance(self._limits, Limits):
            raise TypeError(f"limits must be a vfswasi.Limits, not {type(limits).__name__}")
        self._fast = fastpath.wanted(vdso)
        self._environ = encode_environ(env)
        encode_argv([self._argv0])
        self._program = Program(modules.load(wasm, name), name, imports)
        self._program.check_command()
        self._mounts = MountTable(preopens)
        weakref.finalize(self, self._mounts.close)
        self._running: set[Deadline] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self,
        args: Iterable[str] = (),
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        capture_output: bool = False,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        check: bool = False,
        timeout: float | None = None,
        seed: int | None = None,
    ) -> Result:
        """Run the module once more; see the function `run` for the arguments and errors."""
        if self._closed:
            raise ValueError("this Sandbox is closed")
        if capture_output:
            if stdout is not None or stderr is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            stdout = stderr = PIPE
        if text:
            codecs.lookup(encoding)  # a mistake here must not cost the output of a finished run
            codecs.lookup_error(errors)
        if isinstance(args, str | bytes):
            raise TypeError("args must be a sequence of str, not one string")
        entropy = os.urandom if seed is None else SeededEntropy(_checked_seed(seed))
        argv = [self._argv0, *args]
        deadline = Deadline(_checked_timeout(timeout))
        out = output_stream(1, stdout, self._limits.output_bytes)
        err = output_stream(2, None if stderr is STDOUT else stderr, self._limits.output_bytes)
        if isinstance(stderr, int) and stderr == STDOUT:
            err.sink, err.filetype = out.sink, out.filetype
        preopens = self._mounts.instantiate()
        process = Process(
            argv=encode_argv(argv),
            environ=self._environ,
            preopens=preopens,
            streams=(input_stream(stdin), out, err),
            descriptor_limit=self._limits.descriptors,
            entropy=entropy,
        )
        process.deadline = deadline
        with self._lock:
            self._running.add(deadline)
        before = traffic_of(preopens)
        lost = None
        try:
            ending = self._program.run(process, self._limits, self._fast)
            keep = ending.returncode is not None and ending.trap is None
            with bounded_by(deadline):
                lost = finish(process, preopens, keep, keep and ending.returncode == 0)
        finally:
            with self._lock:
                self._running.discard(deadline)
            if lost is None:  # an exception: what is still open is given up
                finish(process, preopens, False, False)
        traffic = traffic_since(preopens, before)
        captured = [capture_of(out), None if err.sink is out.sink else capture_of(err)]
        if text:
            captured = [None if raw is None else raw.decode(encoding, errors) for raw in captured]  # type: ignore[misc]
        if ending.error is not None:
            try:
                raise ending.error
            finally:
                del ending  # the error's traceback refers to this frame: together they would wait for a collection
        result = _result(argv, ending, captured, preopens, timeout, traffic)
        if lost:
            raise uncommitted(lost, result)
        if check:
            result.check_returncode()
        return result

    def traffic(self) -> dict[str, Traffic]:
        """Guest directory -> requests and bytes so far, of all runs, for mounts whose files are far away."""
        return self._mounts.traffic()

    def interrupt(self) -> None:
        """End all runs that are going on now; they raise `HostCallError`. Any thread may call this."""
        with self._lock:
            for deadline in self._running:
                deadline.interrupt()
        modules.engine().increment_epoch()

    def close(self) -> None:
        """Close the preopens. Runs that are going on must have ended."""
        self._closed = True
        self._mounts.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _result(
    argv: list[str],
    ending: Ending,
    captured: Sequence[Any],
    preopens: Sequence[Preopen],
    timeout: float | None,
    traffic: Mapping[str, Traffic],
) -> Result:
    stdout, stderr = captured
    if ending.timed_out:
        raise GuestTimeoutError(
            f"{argv[0]} was still running after {timeout} seconds", argv=argv, stdout=stdout, stderr=stderr
        )
    assert ending.returncode is not None
    trees = {
        preopen.name: backend
        for preopen in preopens
        if isinstance(backend := _unwrapped(preopen.backend), MemoryBackend)
    }
    return Result(argv, ending.returncode, stdout, stderr, ending.trap, ending.fast_calls, traffic, trees)


def _unwrapped(backend: Backend) -> Backend:
    return backend.inner if isinstance(backend, ReadOnly) else backend


def read_module(module: Module) -> tuple[bytes, str]:
    """(the module's bytes, a name for messages and argv[0]). Raises OSError, TypeError, InvalidModuleError."""
    if isinstance(module, bytes | bytearray | memoryview):
        return bytes(module), "module.wasm"
    if not isinstance(module, str | os.PathLike):
        raise TypeError(f"module must be a path or bytes, not {type(module).__name__}")
    path = Path(module)
    if path.is_dir():
        raise InvalidModuleError(f"{os.fspath(module)}: is a directory, not a WebAssembly module")
    return path.read_bytes(), path.name


def encode_argv(args: Iterable[str]) -> list[bytes]:
    """Arguments as the guest gets them. Raises TypeError, ValueError (NUL)."""
    encoded = []
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"args must be str, not {type(arg).__name__}: {arg!r}")
        if "\0" in arg:
            raise ValueError(f"an argument contains a NUL character: {arg!r}")
        encoded.append(arg.encode("utf-8", "surrogateescape"))
    return encoded


def encode_environ(env: Mapping[str, str] | None) -> list[bytes]:
    """ "NAME=value" strings. Raises TypeError, ValueError (NUL, an empty name, "=" in a name)."""
    if env is None:
        return []
    if not isinstance(env, Mapping):
        raise TypeError(f"env must map str to str, not {type(env).__name__}")
    encoded = []
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env must map str to str: {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"env: {name!r} is not a name, or it or its value contains a NUL character")
        encoded.append(f"{name}={value}".encode("utf-8", "surrogateescape"))
    return encoded


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, not {type(seed).__name__}")
    return seed


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds as a number, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")
    return None if timeout > 1e9 else max(float(timeout), 0.0)
