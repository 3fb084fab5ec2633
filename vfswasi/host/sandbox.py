"""`Sandbox`: a module and its preopens, ready for many runs.

Longer than other files: half of it is signatures, for those who read them and for type checkers.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from ..clock import Clock
from ..engine.compiling import modules
from ..engine.compiling.features import checked as checked_features
from ..engine.fast_path import publishing as fastpath
from ..engine.runner import end_what_is_over
from ..engine.threads import stacks
from ..fs_backends.base import Traffic
from ..kernel.clocks import Deadline
from ..limits import Limits
from ..mounts.table import MountTable
from .arguments import check_args_bytes, checked_args, checked_isolation, encode_argv, encode_environ
from .preparing.assembling import Ground, assembled
from .preparing.mounting import Bounds, open_mounts
from .preparing.programs import Programs
from .results.result import Result
from .runs.asked import Asked, Own, check_deterministic, checked_limits, checked_timeout
from .runs.pipes import NO_PIPES, Pipes
from .runs.run import Run

if TYPE_CHECKING:
    import anyio

    from ..mounts.finding.source_types import Source
    from .isolation.sandbox import Isolated
    from .runs.asynchronous import AsyncRun
    from .sessions.origin import Origin
    from .sessions.session import Session, Snapshot
    from .types import Args, HostFunctions, Isolation, Module, RecordTo, RunOptions, StartOptions, Stdin, Stdout, Trace


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
        imports: HostFunctions | None = None,
        limits: Limits | None = None,
        vdso: bool | None = None,
        features: Iterable[str] = (),
        timeout: float | None = None,
        isolation: Isolation | None = None,
        deterministic: bool = False,
    ) -> None:
        """Compiles the module (or takes it from the cache) and opens the preopens; see `run` for the arguments.

        deterministic: all runs are, unless they are told otherwise.
        timeout: seconds for opening the preopens, in place of `limits.wall_seconds`; when they are over it is a
            GuestTimeoutError. `limits` hold for what mounting asks of stores as they do for a run.
        """
        self._limits = checked_limits(limits)
        self._fast = fastpath.wanted(vdso)
        self._environ = encode_environ(env)
        self._env = None if env is None else dict(env)
        self._closed = False
        self._features = features = tuple(sorted(checked_features(features)))
        check_deterministic(deterministic)
        self._deterministic = deterministic
        self._isolated: Isolated | None = None
        if checked_isolation(isolation):
            from .isolation.sandbox import isolated  # few programs ask for it

            asked = {"env": self._env, "argv0": argv0, "limits": self._limits, "vdso": vdso, "features": list(features)}
            asked["deterministic"] = deterministic
            self._isolated = isolated(module, preopens, imports, asked, self._bounds(self._limits, timeout))
            self._argv0 = self._isolated.name if argv0 is None else argv0
            encode_argv([self._argv0])
            return
        self._programs = Programs(
            module, self._bounds(self._limits, timeout), self._limits, features, imports, deterministic
        )
        self._argv0 = self._programs.name if argv0 is None else argv0
        encode_argv([self._argv0])
        self._opening = self._bounds(self._limits, timeout)
        self._mounts = open_mounts(preopens, modules.trusted_directories(), self._opening)
        weakref.finalize(self, self._mounts.close)
        self._running: set[Deadline] = set()  # also of runs that are inside some host call after their time
        self._lock = threading.RLock()  # a signal handler may interrupt the runs

    @overload
    def run(self, args: Args = (), *, text: Literal[True], **options: Unpack[RunOptions]) -> Result[str]: ...
    @overload
    def run(self, args: Args = (), *, text: Literal[False] = ..., **options: Unpack[RunOptions]) -> Result[bytes]: ...
    @overload
    def run(self, args: Args = (), *, text: bool = ..., **options: Unpack[RunOptions]) -> Result[Any]: ...
    def run(
        self,
        args: Args = (),
        *,
        stdin: Stdin = None,
        stdout: Stdout = None,
        stderr: Stdout = None,
        input: str | bytes | bytearray | memoryview | None = None,
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
        imports: HostFunctions | None = None,
        cwd: str | None = None,
        clock: Clock | None = None,
        deterministic: bool | None = None,
        accesses: bool | Literal["digest"] = False,
        trace: Trace = None,
        record: RecordTo = None,
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
            clock=clock,
            deterministic=self._deterministic if deterministic is None else deterministic,
            accesses=accesses,
            trace=trace,
            record=record,
        )
        own = Own(env, preopens, limits, imports, cwd)
        return self._prepared(args, asked, own, timeout).to_its_end()

    @overload
    def start(self, args: Args = (), *, text: Literal[True], **options: Unpack[StartOptions]) -> Run[str]: ...
    @overload
    def start(self, args: Args = (), *, text: Literal[False] = ..., **options: Unpack[StartOptions]) -> Run[bytes]: ...
    @overload
    def start(self, args: Args = (), *, text: bool = ..., **options: Unpack[StartOptions]) -> Run[Any]: ...
    def start(
        self,
        args: Args = (),
        *,
        stdin: Stdin = None,
        stdout: Stdout = None,
        stderr: Stdout = None,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        timeout: float | None = None,
        seed: int | None = None,
        env: Mapping[str, str] | None = None,
        preopens: Mapping[str, Source] | None = None,
        limits: Limits | None = None,
        imports: HostFunctions | None = None,
        cwd: str | None = None,
        clock: Clock | None = None,
        deterministic: bool | None = None,
        accesses: bool | Literal["digest"] = False,
        trace: Trace = None,
        record: RecordTo = None,
    ) -> Run[Any]:
        """Begin a run and return at once, as `subprocess.Popen` does; see `Run`, and `run` for the arguments.

        stdin, stdout, stderr: with PIPE, `Run.stdin`, `Run.stdout` and `Run.stderr` are files at the other ends.
        Opening `preopens` of the run's own is waited for.
        """
        asked = Asked.of(
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            encoding=encoding,
            errors=errors,
            seed=seed,
            clock=clock,
            deterministic=self._deterministic if deterministic is None else deterministic,
            accesses=accesses,
            trace=trace,
            record=record,
        )
        run = self._prepared(args, asked, Own(env, preopens, limits, imports, cwd), timeout, Pipes())
        run.begin()
        return run

    def _bounds(self, limits: Limits, timeout: float | None) -> Bounds:
        """Of something that begins now."""
        return Bounds.of(limits, checked_timeout(limits.wall_seconds if timeout is None else timeout))

    def _run_once(self, args: Args = (), *, cwd: str | None = None, **options: Any) -> Result[Any]:
        """`run` as one piece of work with the mounting: within the time that began there, and counting what it cost.
        options: of `Asked.of`."""
        return self._prepared_once(args, cwd=cwd, **options).to_its_end()

    def _prepared_once(self, args: Args = (), *, cwd: str | None = None, **options: Any) -> Run[Any]:
        """The run of `_run_once`, not begun."""
        asked = Asked.of(deterministic=self._deterministic, **options)
        return self._prepared(args, asked, Own(cwd=cwd), None, opening=True)

    @overload
    async def run_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: Literal[True],
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def run_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: Literal[False] = ...,
        **options: Unpack[RunOptions],
    ) -> Result[bytes]: ...
    @overload
    async def run_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: bool = ...,
        **options: Unpack[RunOptions],
    ) -> Result[Any]: ...
    async def run_async(
        self, args: Args = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
    ) -> Result[Any]:
        """`run`, awaited, under asyncio or trio; options: as those of `run`. Cancelling the task ends the guest.

        Thousands may be asked for at once; as many go on as `limiter` has places, by default one for each processor
        and four more, at most 32, in each event loop. `timeout` begins when the run does.
        """
        from .runs.asynchronous import awaited  # few programs are asynchronous

        return await awaited(partial(self._prepared_with, args, NO_PIPES, **options), limiter, Own.is_long(options))

    @overload
    def start_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: Literal[True],
        **options: Unpack[StartOptions],
    ) -> AsyncRun[str]: ...
    @overload
    def start_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: Literal[False] = ...,
        **options: Unpack[StartOptions],
    ) -> AsyncRun[bytes]: ...
    @overload
    def start_async(
        self,
        args: Args = (),
        *,
        limiter: anyio.CapacityLimiter | None = ...,
        text: bool = ...,
        **options: Unpack[StartOptions],
    ) -> AsyncRun[Any]: ...
    def start_async(
        self, args: Args = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
    ) -> AsyncRun[Any]:
        """`start` for `async with sandbox.start_async(...) as run`, which waits for a place (by default there are 64);
        see `run_async` and `AsyncRun`. options: as those of `start`."""
        from .runs.asynchronous import AsyncRun

        return AsyncRun(lambda: self._prepared_with(args, Pipes(), **options), limiter, Own.is_long(options))

    def _prepared_with(self, args: Args, pipes: Pipes, **options: Any) -> Run[Any]:
        """A run that has not begun. options: of `Asked.of`, the fields of `Own`, `timeout`."""
        own = Own(**{name: options.pop(name) for name in Own._fields if name in options})
        timeout = options.pop("timeout", None)
        if options.get("deterministic") is None:
            options["deterministic"] = self._deterministic
        return self._prepared(args, Asked.of(**options), own, timeout, pipes)

    def _prepared(
        self,
        args: Args,
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
        program = self._programs.wanted(limits, own.imports, asked.deterministic)
        program.check_command()
        before = {} if opening else own.without_replaced(self._mounts.traffic())
        ground = Ground(self._mounts, self._programs, self._features, self._fast, self._begun, self._is_over)
        return assembled(ground, program, (argv, encoded, environ), limits, asked, own, bounds, before, pipes)

    def _is_over(self, deadline: Deadline, mounts: MountTable | None = None) -> None:
        """Nothing of a run is left; also of one that was left behind. `mounts`: of that run alone."""
        try:
            if mounts is not None:
                mounts.close()
        finally:
            with self._lock:
                self._running.discard(deadline)
                last = self._closed and not self._running
            if last:
                self._mounts.close()

    def session(self, args: Args = (), *, command: bool = False, **options: Any) -> Session:
        """One instance of the module that stays, for calls of its exported functions; a context manager.

        The module is a reactor, or a library without an entry point: `_initialize` is called once, if it exports that.
        command: it is a command, and `_start` is not called; `call("_start")` does so, and if that ends with exit
        status 0 what it has set up is there for further calls. options: stdin, stdout, stderr, capture_output, text,
        encoding, errors, timeout (of opening it), seed, clock, deterministic, trace, as in `run`.

        Raises as `Session.call` does, and MissingExportError: the module is a command.
        """
        from .sessions.opening import open_session

        if options.get("deterministic") is None:
            options["deterministic"] = self._deterministic
        check_deterministic(options["deterministic"])
        origin = self._origin(options["deterministic"])
        return open_session(origin, [self._argv0, *checked_args(args)], command, options)

    def snapshot(
        self, after: str | tuple[Any, ...] | Callable[[Session], object] | None = None, **options: Any
    ) -> Snapshot:
        """An initialised instance, from which `Snapshot.session` makes sessions in milliseconds.

        after: what happens before it is taken: a function to call, or a tuple of it and its arguments, or a callable
        that gets the session. options: of `session`. Raises as `Session.snapshot` does.
        """
        from .sessions.opening import taken_after

        return taken_after(self.session(**options), after)

    def _origin(self, deterministic: bool) -> Origin:
        if self._isolated is not None:
            raise ValueError("a session is kept in this process: make its Sandbox without isolation")
        from .sessions.origin import Origin

        stack_bytes, program = stacks.rounded(self._limits.stack_bytes), self._programs.kept(deterministic)
        shared = self._mounts, self._limits, self._environ, self._fast, stack_bytes
        return Origin(program, *shared, self._begun, self._is_over)

    def _begun(self, deadline: Deadline) -> None:
        with self._lock:
            if self._closed:
                raise ValueError("this Sandbox is closed")
            self._running.add(deadline)

    def traffic(self) -> dict[str, Traffic]:
        """Guest directory -> requests and bytes so far, of all runs, for mounts whose files are far away."""
        return self._mounts.traffic() if self._isolated is None else self._isolated.traffic()

    def interrupt(self) -> None:
        """End all runs and sessions that are going on now; they raise GuestInterruptedError. Any thread may call this,
        and a signal handler. `Run.kill` ends one."""
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

    def __repr__(self) -> str:
        from .results.views import sandbox_text

        return sandbox_text(self._argv0, self._told(), self._closed)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from .results.views import sandbox_html

        return sandbox_html(repr(self), self._told(), self._limits)

    def _told(self) -> list[tuple[str, str, str]]:
        return self._mounts.told() if self._isolated is None else self._isolated.told()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
