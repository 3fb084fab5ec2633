"""`run()` and `run_async()`: one run of a module, with the manners of `subprocess.run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack, overload

from ..clock import Clock
from ..limits import Limits
from .results.result import Result
from .sandbox import Sandbox

if TYPE_CHECKING:
    import anyio

    from ..mounts.finding.source_types import Source
    from .types import Args, HostFunctions, Isolation, Module, OnceOptions, RecordTo, Stdin, Stdout, Trace

# What is given to the Sandbox of a single run; the rest is the run's.
_OF_SANDBOXES: Final = (
    *("preopens", "env", "argv0", "imports", "limits", "vdso", "features", "timeout", "isolation"),
    *("deterministic",),
)


@overload
def run(
    module: Module,
    args: Args = (),
    *,
    text: Literal[True],
    **options: Unpack[OnceOptions],
) -> Result[str]: ...
@overload
def run(
    module: Module,
    args: Args = (),
    *,
    text: Literal[False] = ...,
    **options: Unpack[OnceOptions],
) -> Result[bytes]: ...
@overload
def run(
    module: Module,
    args: Args = (),
    *,
    text: bool = ...,
    **options: Unpack[OnceOptions],
) -> Result[Any]: ...
def run(
    module: Module,
    args: Args = (),
    *,
    preopens: Mapping[str, Source] | None = None,
    env: Mapping[str, str] | None = None,
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
    cwd: str | None = None,
    clock: Clock | None = None,
    deterministic: bool = False,
    accesses: bool | Literal["digest"] = False,
    trace: Trace = None,
    record: RecordTo = None,
    argv0: str | None = None,
    imports: HostFunctions | None = None,
    limits: Limits | None = None,
    vdso: bool | None = None,
    features: Iterable[str] = (),
    isolation: Isolation | None = None,
) -> Result[Any]:
    """Run a WASI command once.

    module: a path, the module itself as bytes (binary or text format), a binary file, a URL such as
        `https://host/prog.wasm`, `s3://bucket/prog.wasm` or `zip://bin/prog.wasm::tools.zip`, or a `Mount` of one, for
        its options (see `vfswasi.host.module_source`).
    args: the arguments behind the program's name; `argv0` replaces the name (default: the file's).
    preopens: guest directory -> source (see `vfswasi.mounts.finding.sources`). The guest sees nothing else.
    env: the guest's whole environment; by default it has none.
    stdin: bytes, str, a file, a descriptor; by default nothing. input: bytes or str, as in `subprocess.run`.
    stdout, stderr: PIPE, DEVNULL, STDOUT (stderr), a file, a descriptor, a callable; by default inherited.
    capture_output: both are PIPE. text: captured output is decoded with `encoding` and `errors`.
    check: raise GuestExitError or GuestTrapError unless the guest ends with status 0.
    cwd: an absolute directory of the guest's, where relative paths begin: it is in the environment as PWD, and a
        further preopen "." leads there, which is what C libraries look at (see docs/python.md).
    seed: the guest's random bytes are the same in every run of the same seed; by default the system's generator.
    clock: what the guest's clocks say; by default those of this machine.
    deterministic: the run gives the same bytes on any day and machine: a clock that starts at noon of 2000-01-01 and
        takes no real time, a seed, sorted listings, numbers and times of files that depend on nothing else (see
        docs/hermetic.md). clock and seed may still be given.
    accesses: keep account of what the guest looked at, in `Result.accesses`; "digest": with digests of what it read.
    trace: keep account of its calls, in `Result.trace`. A callable is called with each `Call` before it is made, and
        may return an errno (or its name) that the guest gets instead; afterwards the `Call` says how it went.
    record: a file, or a `vfswasi.Record`, that the run is recorded in: what it was given, and all that it read. It is
        deterministic then, with a clock that begins now and a seed of its own unless they are given. `vfswasi.replay`
        runs it again anywhere (see docs/replay.md).
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
        deterministic=deterministic,
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
            clock=clock,
            accesses=accesses,
            trace=trace,
            record=record,
        )


@overload
async def run_async(
    module: Module,
    args: Args = (),
    *,
    limiter: anyio.CapacityLimiter | None = ...,
    text: Literal[True],
    **options: Unpack[OnceOptions],
) -> Result[str]: ...
@overload
async def run_async(
    module: Module,
    args: Args = (),
    *,
    limiter: anyio.CapacityLimiter | None = ...,
    text: Literal[False] = ...,
    **options: Unpack[OnceOptions],
) -> Result[bytes]: ...
@overload
async def run_async(
    module: Module,
    args: Args = (),
    *,
    limiter: anyio.CapacityLimiter | None = ...,
    text: bool = ...,
    **options: Unpack[OnceOptions],
) -> Result[Any]: ...
async def run_async(
    module: Module, args: Args = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
) -> Result[Any]:
    """`run`, awaited, under asyncio or trio. When the task is cancelled the guest ends, and so does what comes before
    it.

    limiter: as many runs as it has places go on at once, see `Sandbox.run_async`. options: those of `run`.
    """
    from .runs.asynchronous import in_thread, places, to_its_end  # few programs are asynchronous

    making = {name: options.pop(name) for name in _OF_SANDBOXES if name in options}
    async with places(limiter):
        sandbox = await in_thread(lambda: Sandbox(module, **making), Sandbox.close)
        with sandbox:
            return await to_its_end(sandbox._prepared_once(args, **options))
