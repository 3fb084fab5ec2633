"""Runs that are awaited: `run_async`, `Sandbox.run_async`, `Sandbox.start_async`, under asyncio or trio.

A guest runs on a thread of its own, whatever awaits it; here nothing waits on a thread. So that thousands of runs can
be asked for at once, each takes one of a number of places before anything of it exists, and waits its turn.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, AnyStr, Final, Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import sniffio

from ..limits import Usage
from .arguments import Module
from .result import Result
from .run import Run

if TYPE_CHECKING:
    from .sandbox import Sandbox

T = TypeVar("T")

_PLACES: Final = max(32, 4 * (os.cpu_count() or 1))
_PIECE_BYTES: Final = 1 << 16
# What is given to the Sandbox of a single run; the rest is the run's.
_OF_SANDBOXES: Final = ("preopens", "env", "argv0", "imports", "limits", "vdso", "features", "timeout", "isolation")
_own_places: Final[anyio.lowlevel.RunVar[anyio.CapacityLimiter]] = anyio.lowlevel.RunVar("vfswasi-places")


def places(limiter: anyio.CapacityLimiter | None) -> anyio.CapacityLimiter:
    """How many runs may go on at once: what the caller says, or 32 (four for each processor, if that is more) in each
    event loop."""
    if limiter is not None:
        return limiter
    try:
        return _own_places.get()
    except LookupError:
        made = anyio.CapacityLimiter(_PLACES)
        _own_places.set(made)
        return made


async def run_async(
    module: Module, args: Iterable[str] = (), *, limiter: anyio.CapacityLimiter | None = None, **options: Any
) -> Result[Any]:
    """`vfswasi.run`, awaited. Cancelling ends the guest, and what had begun before it: mounting, compiling.

    limiter: at most as many runs as it has places go on at once; by default see `places`. options: those of
    `vfswasi.run`.
    """
    from .sandbox import Sandbox

    making = {name: options.pop(name) for name in _OF_SANDBOXES if name in options}
    async with places(limiter):
        sandbox = await _in_thread(lambda: Sandbox(module, **making), lambda made: made.close())
        with sandbox:
            return await _result(sandbox._prepared_once(args, **options))


async def sandbox_run_async(
    sandbox: Sandbox, args: Iterable[str], limiter: anyio.CapacityLimiter | None, options: dict[str, Any]
) -> Result[Any]:
    """`Sandbox.run`, awaited."""
    async with places(limiter):
        return await _result(await _prepared(sandbox, args, options, False))


async def _prepared(sandbox: Sandbox, args: Iterable[str], options: dict[str, Any], piped: bool) -> Run[Any]:
    def prepare() -> Run[Any]:
        return sandbox._prepared_with(args, piped, **options)

    if options.get("preopens") is None and options.get("limits") is None and options.get("imports") is None:
        return prepare()
    return await _in_thread(prepare, lambda run: run.give_up())  # opening may take long


async def _in_thread(make: Callable[[], T], discard: Callable[[T], None]) -> T:
    """What `make` returns; if nobody waits for it any more, it is discarded."""
    abandoned = False

    def work() -> T:
        made = make()
        if abandoned:
            discard(made)
        return made

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except BaseException:
        abandoned = True
        raise


async def _result(run: Run[AnyStr]) -> Result[AnyStr]:
    """Run it to its end; as `Run.to_its_end`."""
    run.begin()
    await _to_its_end(run)
    return run.answer()


async def _settled(run: Run[Any]) -> None:
    """Wait until it has ended."""
    soon = _soon()
    changed = anyio.Event()

    def wake() -> None:
        changed.set()

    run.on_change = lambda: soon(wake)
    while not run.settled:
        with anyio.move_on_after(run.seconds_to_look()):
            await changed.wait()
        if changed.is_set():
            changed = anyio.Event()


async def _to_its_end(run: Run[Any]) -> None:
    """As `_settled`; when the task is cancelled, so is the run, and its end is waited for all the same."""
    try:
        await _settled(run)
    except BaseException:
        run.kill()
        with anyio.CancelScope(shield=True):
            await _settled(run)
        raise


def _soon() -> Callable[[Callable[[], None]], None]:
    """What lets the event loop of this task call something, from any thread; nothing happens when it is gone."""
    if sniffio.current_async_library() == "trio":
        import trio

        token = trio.lowlevel.current_trio_token()
        schedule: Callable[[Callable[[], None]], object] = token.run_sync_soon
        gone: tuple[type[BaseException], ...] = (trio.RunFinishedError,)
    else:
        import asyncio

        schedule, gone = asyncio.get_running_loop().call_soon_threadsafe, (RuntimeError,)

    def soon(function: Callable[[], None]) -> None:
        try:
            schedule(function)
        except gone:
            pass

    return soon


class AsyncReader(Generic[AnyStr]):
    """What a guest writes to a pipe. An asynchronous iterable of lines."""

    def __init__(self, file: Any, decoder: codecs.IncrementalDecoder | None) -> None:
        self._fd: int = file.fileno()
        self._file = file
        self._decoder = decoder
        self._kept: Any = b"" if decoder is None else ""
        self._ended = False
        os.set_blocking(self._fd, False)

    async def receive(self, max_bytes: int = _PIECE_BYTES) -> AnyStr:
        """What is there, at least one byte or character; empty at the end."""
        while not self._kept and not self._ended:
            await self._more(max_bytes)
        return self._cut(max_bytes)

    def _cut(self, count: int) -> AnyStr:
        first: AnyStr = self._kept[:count]
        self._kept = self._kept[count:]
        return first

    async def read(self, size: int = -1) -> AnyStr:
        """`size` bytes or characters, less at the end; all for -1."""
        pieces, have = [self._kept], len(self._kept)
        self._kept = self._kept[:0]
        while (size < 0 or have < size) and not self._ended:
            await self._more(_PIECE_BYTES)
            pieces.append(self._kept)
            have += len(self._kept)
            self._kept = self._kept[:0]
        empty: Any = b"" if self._decoder is None else ""
        self._kept = empty.join(pieces)
        return self._cut(have if size < 0 else size)

    async def readline(self) -> AnyStr:
        """A line with its end; empty at the end of the stream."""
        end: Any = b"\n" if self._decoder is None else "\n"
        looked = 0
        while (at := self._kept.find(end, looked)) < 0 and not self._ended:
            looked = len(self._kept)
            await self._more(_PIECE_BYTES)
        return self._cut(at + 1 if at >= 0 else len(self._kept))

    async def _more(self, count: int) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                piece = os.read(self._fd, count)
                break
            except BlockingIOError:
                await anyio.wait_readable(self._fd)
        self._ended = not piece
        self._kept += piece if self._decoder is None else self._decoder.decode(piece, self._ended)

    async def __aiter__(self) -> AsyncIterator[AnyStr]:
        while line := await self.readline():
            yield line

    async def skip(self) -> None:
        """Let the guest write as much as it likes."""
        while await self.receive():
            pass

    async def aclose(self) -> None:
        """Read no more; the guest sees that."""
        self._file.close()


class AsyncWriter(Generic[AnyStr]):
    """The pipe that a guest reads as its standard input."""

    def __init__(self, file: Any, codec: tuple[str, str] | None) -> None:
        self._file = file
        self._codec = codec
        os.set_blocking(file.fileno(), False)

    async def write(self, data: AnyStr) -> None:
        """All of it. Raises BrokenPipeError: the guest does not read any more; TypeError."""
        if isinstance(data, str) != (self._codec is not None):
            raise TypeError(f"this stream takes {'bytes' if self._codec is None else 'str'}")
        raw: Any = data.encode(*(self._codec or ())) if isinstance(data, str) else data
        await anyio.lowlevel.checkpoint_if_cancelled()
        with memoryview(raw) as view:
            done = 0
            while done < len(view):
                try:
                    done += os.write(self._file.fileno(), view[done : done + _PIECE_BYTES])
                except BlockingIOError:
                    await anyio.wait_writable(self._file.fileno())

    send = write

    def close(self) -> None:
        """The guest's input ends here."""
        self._file.close()

    async def aclose(self) -> None:
        """`close`."""
        self.close()


class AsyncRun(Generic[AnyStr]):
    """A `Run` that is awaited: `async with sandbox.start_async(...) as run`.

    args, returncode, usage, poll, kill: as those of `Run`. stdin, stdout, stderr: an `AsyncWriter` and `AsyncReader`s
    for each stream that is PIPE, else None. When the block ends stdin is closed and the end is waited for; when it
    raises, or the task is cancelled, the guest is killed first.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        args: Iterable[str],
        limiter: anyio.CapacityLimiter | None,
        options: dict[str, Any],
    ) -> None:
        self._sandbox, self._given, self._options = sandbox, args, options
        self._limiter = limiter
        self._places: anyio.CapacityLimiter | None = None
        self._run: Run[AnyStr] | None = None
        self.stdin: AsyncWriter[AnyStr] | None = None
        self.stdout: AsyncReader[AnyStr] | None = None
        self.stderr: AsyncReader[AnyStr] | None = None

    async def __aenter__(self) -> AsyncRun[AnyStr]:
        if self._run is not None:
            raise RuntimeError("this run was started already")
        self._places = places(self._limiter)
        await self._places.acquire_on_behalf_of(self)
        try:
            self._run = run = await _prepared(self._sandbox, self._given, self._options, True)
            codec = run.codec
            if run.stdin is not None:
                self.stdin = AsyncWriter(run.pipe("stdin"), codec)
            for name in ("stdout", "stderr"):
                if getattr(run, name) is not None:
                    decoder = None if codec is None else codecs.getincrementaldecoder(codec[0])(codec[1])
                    setattr(self, name, AsyncReader(run.pipe(name), decoder))
            run.begin()
        except BaseException:
            self._places.release_on_behalf_of(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, held = self._begun, self._places
        assert held is not None
        try:
            if error is not None:
                run.kill()
            if self.stdin is not None:
                self.stdin.close()
            async with anyio.create_task_group() as tasks:
                with anyio.CancelScope(shield=error is not None):
                    for reader in (self.stdout, self.stderr):
                        if reader is not None and error is None:
                            tasks.start_soon(reader.skip)
                    await _to_its_end(run)
                tasks.cancel_scope.cancel()
            run.poll()
        finally:
            held.release_on_behalf_of(self)
            run.close_pipes()
        if error is None:
            run.wait()  # raises what a callable of the caller's has raised

    @property
    def _begun(self) -> Run[AnyStr]:
        if self._run is None:
            raise RuntimeError("this run is not started; use it as `async with sandbox.start_async(...) as run`")
        return self._run

    @property
    def args(self) -> list[str]:
        return self._begun.args

    @property
    def returncode(self) -> int | None:
        return self._begun.returncode

    @property
    def usage(self) -> Usage:
        """What it has used so far; see `Run.usage`."""
        return self._begun.usage

    def poll(self) -> int | None:
        """The return code if it has ended, else None."""
        return self._begun.poll()

    def kill(self) -> None:
        """End this run and no other."""
        self._begun.kill()

    terminate = kill

    async def wait(self) -> int:
        """Wait for the end; the return code. A guest that writes to a full pipe waits for somebody to read."""
        await _settled(self._begun)
        return self._begun.wait()

    async def result(self, *, check: bool = False) -> Result[AnyStr]:
        """Close stdin, wait for the end; as `Run.result`."""
        if self.stdin is not None:
            self.stdin.close()
        rest: dict[str, AnyStr] = {}

        async def collect(name: str, reader: AsyncReader[AnyStr]) -> None:
            rest[name] = await reader.read()

        async with anyio.create_task_group() as tasks:
            for name, reader in (("stdout", self.stdout), ("stderr", self.stderr)):
                if reader is not None:
                    tasks.start_soon(collect, name, reader)
            await _settled(self._begun)
        return self._begun.answer(check, rest)
