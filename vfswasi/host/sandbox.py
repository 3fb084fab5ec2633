"""`run()` and `Sandbox`: run a WASI command with the manners of `subprocess.run`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.compiling import modules
from ..engine.compiling.features import checked as checked_features
from ..engine.fast_path import publishing as fastpath
from ..engine.interruption import ways
from ..engine.runner import Program, end_what_is_over
from ..engine.threads import stacks
from ..engine.user_functions import UserImports, checked_imports
from ..fs_backends.base import Traffic
from ..kernel.clocks import Deadline
from ..kernel.process import Process
from ..limits import Limits
from ..mounts.table import MountTable
from .arguments import (
    Again,
    Isolation,
    Module,
    check_args_bytes,
    checked_args,
    checked_cwd,
    checked_isolation,
    checked_limits,
    checked_timeout,
    encode_argv,
    encode_environ,
    read_module,
)
from .mounting import Bounds, open_mounts
from .pipes import NO_PIPES, Pipes
from .result import Result
from .run import Asked, Run, Setting
from .stdio import standard_streams

if TYPE_CHECKING:
    import anyio

    from ..mounts.sources import Source
    from .asynchronous import AsyncRun
    from .isolation.sandbox import Isolated


def run(
    module: Module,
    args: Iterable[str] = (),
    *,
    preopens: Mapping[str, Source] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    input: Any = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str = "utf-8",
    errors: str = "replace",
    check: bool = False,
    timeout: float | None = None,
    seed: int | None = None,
    cwd: str | None = None,
    argv0: str | None = None,
    imports: UserImports | None = None,
    limits: Limits | None = None,
    vdso: bool | None = None,
    features: Iterable[str] = (),
    isolation: Isolation | None = None,
) -> Result[Any]:
    """Run a WASI command once.

    module: a path, or the module itself as bytes (binary or text format).
    args: the arguments behind the program's name; `argv0` replaces the name (default: the file's).
    preopens: guest directory -> source (see `vfswasi.mounts.sources`). The guest sees nothing else.
    env: the guest's whole environment; by default it has none.
    stdin: bytes, str, a file, a descriptor; by default nothing. input: bytes or str, as in `subprocess.run`.
    stdout, stderr: PIPE, DEVNULL, STDOUT (stderr), a file, a descriptor, a callable; by default inherited.
    capture_output: both are PIPE. text: captured output is decoded with `encoding` and `errors`.
    check: raise GuestExitError or GuestTrapError unless the guest ends with status 0.
    cwd: an absolute directory of the guest's, where relative paths begin: it is in the environment as PWD, and a
        further preopen "." leads there, which is what C libraries look at (see docs/python.md).
    seed: the guest's random bytes are the same in every run of the same seed; by default the system's generator.
    timeout: seconds, in place of `limits.wall_seconds`; when they are over the guest ends and GuestTimeoutError is
        raised, with the output so far.
    imports: module -> name -> callable(memory, *numbers) for what the guest imports beside WASI.
    limits: what the guest may use up.
    vdso: whether calls on open files may be answered inside wasm; by default unless VFSWASI_VDSO=0 is set.
    features: features of WebAssembly that are off unless asked for ("gc", "relaxed-simd", "tail-call"), or that are to
        be off ("no-exceptions").
    isolation: "process" runs the guest, and opens the preopens, in a worker process: a crash of it is a
        GuestCrashError of this run alone. What is given must be plain data then (see docs/isolation.md). None, "none":
        in this process.

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
        isolation=isolation,
    ) as sandbox:
        return sandbox._run_once(
            args,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            input=input,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
            seed=seed,
        )


class Own(NamedTuple):
    """What one run has for itself."""

    env: Mapping[str, str] | None = None
    preopens: Mapping[str, Source] | None = None
    limits: Limits | None = None
    imports: UserImports | None = None
    cwd: str | None = None

    def environ(self, env: Mapping[str, str] | None) -> list[bytes]:
        """The guest's environment, with that of the sandbox. Raises TypeError, ValueError."""
        encode_environ(self.env)
        every = {**(env or {}), **(self.env or {})}
        if self.cwd is not None:
            every["PWD"] = checked_cwd(self.cwd)
        return encode_environ(every)


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
        isolation: Isolation | None = None,
    ) -> None:
        """Compiles the module (or takes it from the cache) and opens the preopens; see `run` for the arguments.

        timeout: seconds for opening the preopens, in place of `limits.wall_seconds`; when they are over it is a
            GuestTimeoutError. `limits` hold for what mounting asks of stores as they do for a run.
        """
        wasm, name = read_module(module)
        self._name, self._again = name, Again(module, wasm)
        self._argv0 = name if argv0 is None else argv0
        self._limits = checked_limits(limits)
        self._fast = fastpath.wanted(vdso)
        self._environ = encode_environ(env)
        self._env = None if env is None else dict(env)
        encode_argv([self._argv0])
        asked = list(features)
        self._features = checked_features(asked)
        self._imports = imports
        self._closed = False
        self._isolated: Isolated | None = None
        if checked_isolation(isolation):
            from .isolation.sandbox import Isolated  # few programs ask for it

            options = {"env": self._env, "argv0": argv0, "limits": self._limits, "vdso": vdso, "features": asked}
            timeout_s = checked_timeout(self._limits.wall_seconds if timeout is None else timeout)
            self._isolated = Isolated(wasm, name, preopens, imports, options, timeout_s)
            return
        self._program = self._program_for(wasm, self._limits, imports)
        self._opening = self._bounds(self._limits, timeout)
        self._mounts = open_mounts(preopens, modules.trusted_directories(), self._opening)
        weakref.finalize(self, self._mounts.close)
        self._running: set[Deadline] = set()  # also of runs that are inside some host call after their time
        self._lock = threading.RLock()  # a signal handler may interrupt the runs

    def run(
        self,
        args: Iterable[str] = (),
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        input: Any = None,
        capture_output: bool = False,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        check: bool = False,
        timeout: float | None = None,
        seed: int | None = None,
        env: Mapping[str, str] | None = None,
        preopens: Mapping[str, Source] | None = None,
        limits: Limits | None = None,
        imports: UserImports | None = None,
        cwd: str | None = None,
    ) -> Result[Any]:
        """Run the module once more; see the function `run` for the arguments and errors.

        For this run alone: `env` and `imports` are added to what the Sandbox has, or replace what has the same name;
        so are `preopens`, which are opened for it and closed after it; `limits` are used in place of the Sandbox's.
        """
        asked = Asked.of(
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            input=input,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
            seed=seed,
        )
        own = Own(env, preopens, limits, imports, cwd)
        return self._prepared(args, asked, own, timeout).to_its_end()

    def start(
        self,
        args: Iterable[str] = (),
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        timeout: float | None = None,
        seed: int | None = None,
        env: Mapping[str, str] | None = None,
        preopens: Mapping[str, Source] | None = None,
        limits: Limits | None = None,
        imports: UserImports | None = None,
        cwd: str | None = None,
    ) -> Run[Any]:
        """Begin a run and return at once, as `subprocess.Popen` does; see `Run`, and `run` for the arguments.

        stdin, stdout, stderr: with PIPE, `Run.stdin`, `Run.stdout` and `Run.stderr` are files at the other ends.
        Opening `preopens` of the run's own is waited for.
        """
        asked = Asked.of(
            stdin=stdin, stdout=stdout, stderr=stderr, text=text, encoding=encoding, errors=errors, seed=seed
        )
        run = self._prepared(args, asked, Own(env, preopens, limits, imports, cwd), timeout, Pipes())
        run.begin()
        return run

    def _bounds(self, limits: Limits, timeout: float | None) -> Bounds:
        """Of something that begins now."""
        return Bounds.of(limits, checked_timeout(limits.wall_seconds if timeout is None else timeout))

    def _run_once(self, args: Iterable[str] = (), *, cwd: str | None = None, **options: Any) -> Result[Any]:
        """`run` as one piece of work with the mounting: within the time that began there, and counting what it cost.
        options: of `Asked.of`."""
        return self._prepared_once(args, cwd=cwd, **options).to_its_end()

    def _prepared_once(self, args: Iterable[str] = (), *, cwd: str | None = None, **options: Any) -> Run[Any]:
        """The run of `_run_once`, not begun."""
        return self._prepared(args, Asked.of(**options), Own(cwd=cwd), None, opening=True)

    def _prepared_with(
        self,
        args: Iterable[str],
        piped: bool,
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        preopens: Mapping[str, Source] | None = None,
        limits: Limits | None = None,
        imports: UserImports | None = None,
        cwd: str | None = None,
        **options: Any,
    ) -> Run[Any]:
        """A run that has not begun. piped: PIPE gives files, else what is written is captured. options: of
        `Asked.of`."""
        own = Own(env, preopens, limits, imports, cwd)
        return self._prepared(args, Asked.of(**options), own, timeout, Pipes() if piped else NO_PIPES)

    async def run_async(
        self, args: Iterable[str] = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
    ) -> Result[Any]:
        """`run`, awaited, under asyncio or trio; options: as those of `run`. Cancelling the task ends the guest.

        Thousands may be asked for at once; as many go on as `limiter` has places, by default 32 in each event loop, or
        four for each processor if that is more. `timeout` begins when the run does.
        """
        from .asynchronous import sandbox_run_async  # few programs are asynchronous

        return await sandbox_run_async(self, args, limiter, options)

    def start_async(
        self, args: Iterable[str] = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
    ) -> AsyncRun[Any]:
        """`start` for `async with sandbox.start_async(...) as run`, which waits for a place; see `run_async` and
        `AsyncRun`. options: as those of `start`."""
        from .asynchronous import AsyncRun

        return AsyncRun(self, args, limiter, options)

    def _prepared(
        self,
        args: Iterable[str],
        asked: Asked,
        own: Own,
        timeout: float | None,
        pipes: Pipes = NO_PIPES,
        opening: bool = False,
    ) -> Run[Any]:
        """A run that has not begun. opening: within the bounds of the mounting."""
        if self._closed:
            raise ValueError("this Sandbox is closed")
        argv = [self._argv0, *checked_args(args)]
        encoded = encode_argv(argv)
        environ = self._environ if own.env is None and own.cwd is None else own.environ(self._env)
        limits = self._limits if own.limits is None else checked_limits(own.limits)
        check_args_bytes(encoded, environ, limits)
        if self._isolated is not None:
            from .isolation.run import IsolatedRun, Order

            timeout_s = checked_timeout(limits.wall_seconds if timeout is None else timeout)
            timeout_s = self._isolated.timeout_s if opening else timeout_s
            return IsolatedRun(self._isolated, Order(argv, own, limits, timeout_s, opening), asked, pipes)
        bounds = self._opening if opening else self._bounds(limits, timeout)
        program = self._program
        if own.limits is not None or own.imports is not None:
            program = self._changed_program(limits, own.imports)
        before = {} if opening else self._mounts.traffic()
        mounts = self._mounts
        if own.preopens is not None:
            mounts = open_mounts(own.preopens, modules.trusted_directories(), bounds, self._mounts)
        mine = None if mounts is self._mounts else mounts
        try:
            preopens = mounts.instantiate(limits)
            stdio = asked.stdin, asked.stdout, asked.stderr
            if pipes is not NO_PIPES:  # else PIPE means to capture
                stdio = pipes.open(*stdio, asked.codec, limits.output_bytes)
            streams = standard_streams(*stdio, limits.output_bytes)
            pipes.opened()
        except BaseException:
            pipes.close()
            if mine is not None:
                mine.close()
            raise
        process = Process(
            argv=encoded,
            environ=environ,
            preopens=preopens,
            streams=streams,
            limits=limits,
            deadline=bounds.deadline,
            allowance=bounds.allowance,
            entropy=asked.entropy,
        )
        over = partial(self._is_over, bounds.deadline, mine)
        with self._lock:
            self._running.add(bounds.deadline)
        setting = Setting(argv, program, process, preopens, streams, pipes, self._fast, own.cwd, bounds, before, over)
        return Run(setting, asked)

    def _program_for(self, wasm: bytes, limits: Limits, imports: UserImports | None) -> Program:
        stack_bytes = stacks.rounded(limits.stack_bytes)
        fuel, way = limits.fuel is not None, ways.wanted(limits)
        compiled = modules.load(wasm, self._name, fuel, self._features, stack_bytes, way)
        program = Program(compiled, self._name, imports)
        program.check_command()
        program.check_counts(limits)
        return program

    def _changed_program(self, limits: Limits, imports: UserImports | None) -> Program:
        """The same module with other limits, and functions of the host added."""
        every = {name: dict(functions) for name, functions in checked_imports(self._imports).items()}
        for name, functions in checked_imports(imports).items():
            every.setdefault(name, {}).update(functions)
        mine = self._limits
        same = (limits.fuel is None, stacks.rounded(limits.stack_bytes), ways.wanted(limits)) == (
            mine.fuel is None,
            stacks.rounded(mine.stack_bytes),
            ways.wanted(mine),
        )
        if same:
            program = self._program if imports is None else Program(self._program.compiled, self._name, every)
            program.check_counts(limits)
            return program
        return self._program_for(self._again.read(), limits, every)

    def _is_over(self, deadline: Deadline, mounts: MountTable | None) -> None:
        """Nothing of a run is left; also of one that was left behind. `mounts`: of that run alone."""
        if mounts is not None:
            mounts.close()
        with self._lock:
            self._running.discard(deadline)
            last = self._closed and not self._running
        if last:
            self._mounts.close()

    def traffic(self) -> dict[str, Traffic]:
        """Guest directory -> requests and bytes so far, of all runs, for mounts whose files are far away."""
        return self._mounts.traffic() if self._isolated is None else self._isolated.traffic()

    def interrupt(self) -> None:
        """End all runs that are going on now; they raise GuestInterruptedError. Any thread may call this, and a signal
        handler. `Run.kill` ends one."""
        if self._isolated is not None:
            self._isolated.interrupt()
            return
        with self._lock:
            for deadline in self._running:
                deadline.interrupt()
        end_what_is_over()

    def close(self) -> None:
        """Close the preopens, or if there are runs going on, when the last of them has ended: nothing is closed under a
        call that uses it, also of one that was left behind because it hangs in a store."""
        if self._isolated is not None:
            self._closed = True
            self._isolated.close()
            return
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
