"""Runs that are awaited, under asyncio or trio.

A guest runs on a thread of its own, whatever awaits it; here nothing waits on a thread. So that thousands of runs can
be asked for at once, each takes one of a number of places before anything of it exists, and waits its turn.
"""

from __future__ import annotations

import codecs
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, AnyStr, Final, Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from ...limits import Usage
from ..results.result import Result
from .async_streams import AsyncReader, AsyncWriter
from .run import Run

T = TypeVar("T")

# As many threads as `concurrent.futures` would take: guests that compute would keep the event loop from its processor.
_PLACES: Final = min(32, (os.cpu_count() or 1) + 4)
# Of runs that are held, which mostly wait for their callers, and perhaps for each other.
_HELD_PLACES: Final = 64
_own_places: Final[anyio.lowlevel.RunVar[dict[int, anyio.CapacityLimiter]]] = anyio.lowlevel.RunVar("vfswasi-places")


def places(limiter: anyio.CapacityLimiter | None, count: int = _PLACES) -> anyio.CapacityLimiter:
    """How many runs may go on at once: what the caller says, or `count` in each event loop."""
    if limiter is not None:
        return limiter
    try:
        own = _own_places.get()
    except LookupError:
        own = {}
        _own_places.set(own)
    return own.setdefault(count, anyio.CapacityLimiter(count))


Prepare = Callable[[], Run[Any]]


async def awaited(prepare: Prepare, limiter: anyio.CapacityLimiter | None, long: bool) -> Result[Any]:
    """What the run that `prepare` makes comes to; when the task is cancelled, so is the run. long: making it may take
    long."""
    async with places(limiter):
        return await to_its_end(await _made(prepare, long))


async def _made(prepare: Prepare, long: bool) -> Run[Any]:
    return await in_thread(prepare, Run.give_up) if long else prepare()


async def in_thread(make: Callable[[], T], discard: Callable[[T], None]) -> T:
    """What `make` returns; if nobody waits for it any more, it is discarded."""
    lock, abandoned, kept = threading.Lock(), False, []

    def work() -> None:
        made = make()
        with lock:
            if not abandoned:
                kept.append(made)
                return
        discard(made)

    try:
        await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except BaseException:
        with lock:
            abandoned = True
        if kept:
            discard(kept.pop())
        raise
    return kept.pop()


async def to_its_end(run: Run[AnyStr]) -> Result[AnyStr]:
    """As `Run.to_its_end`; when the task is cancelled the guest ends, and that is waited for."""
    run.begin()
    await _to_its_end(run)
    return run.answer()


async def _settled(run: Run[Any]) -> None:
    """Wait until it has ended."""
    soon = _soon()
    changed = anyio.Event()

    def wake() -> None:
        changed.set()

    def tell() -> None:
        soon(wake)

    run.tell(tell)
    try:
        while not run.settled:
            with anyio.move_on_after(run.seconds_to_look()):
                await changed.wait()
            if changed.is_set():
                changed = anyio.Event()
    finally:
        run.tell_no_more(tell)


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
    schedule: Callable[[Callable[[], None]], object]
    trio = sys.modules.get("trio")  # who runs under it has imported it
    try:
        if trio is None:
            raise RuntimeError
        schedule, gone = trio.lowlevel.current_trio_token().run_sync_soon, trio.RunFinishedError
    except RuntimeError:  # not in this task
        import asyncio

        schedule, gone = asyncio.get_running_loop().call_soon_threadsafe, RuntimeError

    def soon(function: Callable[[], None]) -> None:
        try:
            schedule(function)
        except gone:
            pass

    return soon


class AsyncRun(Generic[AnyStr]):
    """A `Run` that is awaited: `async with sandbox.start_async(...) as run`.

    args, returncode, usage, poll, kill: as those of `Run`. stdin, stdout, stderr: an `AsyncWriter` and `AsyncReader`s
    for each stream that is PIPE, else None. When the block ends stdin is closed and the end is waited for; when it
    raises, or the task is cancelled, the guest is killed first.
    """

    def __init__(self, prepare: Prepare, limiter: anyio.CapacityLimiter | None, long: bool) -> None:
        self._prepare, self._long = prepare, long
        self._limiter = limiter
        self._places: anyio.CapacityLimiter | None = None
        self._run: Run[AnyStr] | None = None
        self.stdin: AsyncWriter[AnyStr] | None = None
        self.stdout: AsyncReader[AnyStr] | None = None
        self.stderr: AsyncReader[AnyStr] | None = None

    async def __aenter__(self) -> AsyncRun[AnyStr]:
        if self._run is not None:
            raise RuntimeError("this run was started already")
        self._places = places(self._limiter, _HELD_PLACES)
        await self._places.acquire_on_behalf_of(self)
        try:
            self._run = run = await _made(self._prepare, self._long)
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
            if self._run is not None:
                self._run.close_pipes()
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
            await self._drained(_to_its_end, shield=error is not None)
            run.poll()
        finally:
            held.release_on_behalf_of(self)
            for reader in self._readers():
                reader.close()
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
        await self._drained(_settled)
        readers = {"stdout": self.stdout, "stderr": self.stderr}
        rest = {name: reader.rest() for name, reader in readers.items() if reader is not None}
        truncated = any(reader.truncated for reader in self._readers())
        return self._begun.answer(check, rest, truncated)

    def _readers(self) -> list[AsyncReader[AnyStr]]:
        return [reader for reader in (self.stdout, self.stderr) if reader is not None]

    async def _drained(self, waiting: Callable[[Run[Any]], Awaitable[None]], shield: bool = False) -> None:
        """Wait for the end; what the guest writes meanwhile is kept."""
        run = self._begun
        with anyio.CancelScope(shield=shield):
            async with anyio.create_task_group() as tasks:
                for reader in self._readers():
                    tasks.start_soon(reader.collect, run.output_bytes)
                await waiting(run)
                tasks.cancel_scope.cancel()
        for reader in self._readers():
            reader.finish(run.output_bytes)
