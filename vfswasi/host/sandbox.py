"""`run()` and `Sandbox`: run a WASI command with the manners of `subprocess.run`."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..engine.compiling import modules
from ..engine.compiling.features import checked as checked_features
from ..engine.fast_path import publishing as fastpath
from ..engine.interruption import ways
from ..engine.runner import Program, end_what_is_over
from ..engine.threads import stacks
from ..engine.user_functions import UserImports
from ..fs_backends.base import Traffic
from ..kernel.clocks import Deadline
from ..kernel.process import Process
from ..limits import Limits
from .arguments import Module, check_args_bytes, checked_args, encode_argv, encode_environ, read_module
from .mounting import Bounds, open_mounts
from .result import Result
from .run import Asked, Run
from .stdio import standard_streams

if TYPE_CHECKING:
    from ..mounts.sources import Source
    from .sessions.origin import Origin
    from .sessions.session import Session, Snapshot


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
    features: Iterable[str] = (),
) -> Result:
    """Run a WASI command once.

    module: a path, or the module itself as bytes (binary or text format).
    args: the arguments behind the program's name; `argv0` replaces the name (default: the file's).
    preopens: guest directory -> source (see `vfswasi.mounts.sources`). The guest sees nothing else.
    env: the guest's whole environment; by default it has none.
    stdin: bytes, str, a file, a descriptor; by default nothing.
    stdout, stderr: PIPE, DEVNULL, STDOUT (stderr), a file, a descriptor, a callable; by default inherited.
    capture_output: both are PIPE. text: captured output is decoded with `encoding` and `errors`.
    check: raise GuestExitError or GuestTrapError unless the guest ends with status 0.
    seed: the guest's random bytes are the same in every run of the same seed; by default the system's generator.
    timeout: seconds, in place of `limits.wall_seconds`; when they are over the guest ends and GuestTimeoutError is
        raised, with the output so far.
    imports: module -> name -> callable(memory, *numbers) for what the guest imports beside WASI.
    limits: what the guest may use up.
    vdso: whether calls on open files may be answered inside wasm; by default unless VFSWASI_VDSO=0 is set.
    features: features of WebAssembly that are off unless asked for ("gc", "relaxed-simd", "tail-call"), or that are to
        be off ("no-exceptions").

    Raises ModuleError, MountError, GuestLimitError, GuestError, UncommittedError (the guest ended, and files of it
    could not be stored), FileNotFoundError (the module), ValueError and TypeError, and unchanged whatever a callable
    of the caller raised.
    """
    with Sandbox(
        module,
        preopens=preopens,
        env=env,
        argv0=argv0,
        imports=imports,
        limits=limits,
        vdso=vdso,
        features=features,
        timeout=timeout,
    ) as sandbox:
        return sandbox._run_once(
            args,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
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
        features: Iterable[str] = (),
        timeout: float | None = None,
    ) -> None:
        """Compiles the module (or takes it from the cache) and opens the preopens; see `run` for the arguments.

        timeout: seconds for opening the preopens, in place of `limits.wall_seconds`; when they are over it is a
            GuestTimeoutError. `limits` hold for what mounting asks of stores as they do for a run.
        """
        wasm, name = read_module(module)
        self._argv0 = name if argv0 is None else argv0
        self._limits = Limits() if limits is None else limits
        if not isinstance(self._limits, Limits):
            raise TypeError(f"limits must be a vfswasi.Limits, not {type(limits).__name__}")
        self._fast = fastpath.wanted(vdso)
        self._environ = encode_environ(env)
        encode_argv([self._argv0])
        on = checked_features(features)
        stack_bytes = stacks.rounded(self._limits.stack_bytes)
        way = ways.wanted(self._limits)
        load = partial(modules.load, wasm, name, self._limits.fuel is not None, on, stack_bytes, way)
        self._program = Program(load(None), name, imports)
        self._program.check_counts(self._limits)
        self._kept_program = cache(lambda: Program(load(True), name, imports))
        self._opening = self._bounds(timeout)
        self._mounts = open_mounts(preopens, modules.trusted_directories(), self._opening)
        weakref.finalize(self, self._mounts.close)
        self._running: set[Deadline] = set()  # also of runs that are inside some host call after their time
        self._lock = threading.RLock()  # a signal handler may interrupt the runs
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
        bounds = self._bounds(timeout)
        before = self._mounts.traffic()
        return self._run(
            bounds,
            before,
            args,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
            seed=seed,
        )

    def _bounds(self, timeout: float | None) -> Bounds:
        """Of something that begins now."""
        return Bounds.of(self._limits, _checked_timeout(self._limits.wall_seconds if timeout is None else timeout))

    def _run_once(self, args: Iterable[str] = (), **options: Any) -> Result:
        """`run` as one piece of work with the mounting: within the time that began there, and counting what it cost."""
        return self._run(self._opening, {}, args, **options)

    def _run(self, bounds: Bounds, before: Mapping[str, Traffic], args: Iterable[str], **options: Any) -> Result:
        """options: of `Asked.of`. `before`: what the mounts had cost when it began."""
        if self._closed:
            raise ValueError("this Sandbox is closed")
        self._program.check_command()
        asked = Asked.of(**options)
        argv = [self._argv0, *checked_args(args)]
        encoded = encode_argv(argv)
        check_args_bytes(encoded, self._environ, self._limits)
        streams = standard_streams(asked.stdin, asked.stdout, asked.stderr, self._limits.output_bytes)
        preopens = self._mounts.instantiate(self._limits)
        process = Process(
            argv=encoded,
            environ=self._environ,
            preopens=preopens,
            streams=streams,
            limits=self._limits,
            deadline=bounds.deadline,
            allowance=bounds.allowance,
            entropy=asked.entropy,
        )
        run = Run(self._program, process, preopens, streams, self._fast, partial(self._is_over, bounds.deadline))
        with self._lock:
            self._running.add(bounds.deadline)
        ending, lost = run.to_its_end(bounds, self._argv0)
        try:
            return run.result(argv, asked, ending, lost, before)
        finally:
            del ending  # it may have an error whose traceback refers to this frame

    def _is_over(self, deadline: Deadline) -> None:
        """Nothing of a run is left; also of one that was left behind."""
        with self._lock:
            self._running.discard(deadline)
            last = self._closed and not self._running
        if last:
            self._mounts.close()

    def session(self, args: Iterable[str] = (), *, command: bool = False, **options: Any) -> Session:
        """One instance of the module that stays, for calls of its exported functions; a context manager.

        The module is a reactor, or a library without an entry point: `_initialize` is called once, if it exports that.
        command: it is a command, and `_start` is not called; `call("_start")` does so, and if that ends with exit
        status 0 what it has set up is there for further calls. options: stdin, stdout,
        stderr, capture_output, text, encoding, errors, timeout (of opening it), seed, as in `run`.

        Raises as `Session.call` does, and MissingExportError: the module is a command.
        """
        from .sessions.opening import open_session

        return open_session(self._origin(), [self._argv0, *checked_args(args)], command, options)

    def snapshot(
        self, after: str | tuple[Any, ...] | Callable[[Session], object] | None = None, **options: Any
    ) -> Snapshot:
        """An initialised instance, from which `Snapshot.session` makes sessions in milliseconds.

        after: what happens before it is taken: a function to call, or a tuple of it and its arguments, or a callable
        that gets the session. options: of `session`. Raises as `Session.snapshot` does.
        """
        from .sessions.opening import taken_after

        return taken_after(self.session(**options), after)

    def _origin(self) -> Origin:
        from .sessions.origin import Origin

        stack_bytes = stacks.rounded(self._limits.stack_bytes)
        program = self._kept_program() if self._program.compiled.inside is None else self._program
        return Origin(
            program, self._mounts, self._limits, self._environ, self._fast, stack_bytes, self._begun, self._is_over
        )

    def _begun(self, deadline: Deadline) -> None:
        with self._lock:
            if self._closed:
                raise ValueError("this Sandbox is closed")
            self._running.add(deadline)

    def traffic(self) -> dict[str, Traffic]:
        """Guest directory -> requests and bytes so far, of all runs, for mounts whose files are far away."""
        return self._mounts.traffic()

    def interrupt(self) -> None:
        """End all runs that are going on now; they raise `HostCallError`. Any thread may call this, and a signal
        handler."""
        with self._lock:
            for deadline in self._running:
                deadline.interrupt()
        end_what_is_over()

    def close(self) -> None:
        """Close the preopens, or if there are runs going on, when the last of them has ended: nothing is closed under a
        call that uses it, also of one that was left behind because it hangs in a store."""
        with self._lock:
            self._closed = True
            if self._running:
                return
        self._mounts.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds as a number, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")
    return None if timeout > 1e9 else max(float(timeout), 0.0)
