"""What a `Sandbox` has in place of a program and mounts when its guests are in worker processes."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...engine.threads import stacks, workers
from ...errors import GuestCrashError, GuestInterruptedError, GuestTimeoutError
from ...fs_backends.base import Traffic
from ...kernel.clocks import Deadline
from ...limits import Limits, Usage
from ...mounts.options import Mount, guest_name
from ...mounts.prepared import what
from ...printing import counted
from ..module_source import read_module
from ..preparing.mounting import Bounds
from ..results.result import Result
from . import trees
from .answers import Expected, MemoryOverError, error_of, traffic_of
from .pool import POOL, Owner
from .process import Answer, Stop, StoppedError, TimeOverError, Worker, WorkerGoneError
from .travel import refuse_imports, sent_environ, sent_preopens, text
from .wire import NoAnswerError

if TYPE_CHECKING:
    from ..types import Module
    from .overlays import CallersBase

# Measured: a worker that has run something has 47 MiB, and compiling takes 12 to 17 times the module's size.
_BASE_BYTES: Final = 256 << 20
_PER_MODULE_BYTE: Final = 32
_PER_OVERLAY_BYTES: Final = 128 << 20  # what it keeps in memory, and what saving it takes
# An interpreter that does not come up in this time never will.
_START_S: Final = 60.0
STACK_BYTES: Final = stacks.rounded(Limits().stack_bytes)
"""Of the threads here that wait for workers: those of other runs, which there are already."""


class Trees(NamedTuple):
    """What is known of mounts before they are opened. of: guest directory -> (objects, bytes) of each tree in memory.
    spills: whether there is a mount whose files may turn out not to be storable."""

    names: tuple[str, ...]
    of: dict[str, tuple[int, int]]
    spills: bool

    @classmethod
    def in_preopens(cls, preopens: dict[str, Any] | None) -> Trees:
        """preopens: as they are sent."""
        names, found, spills = [], {}, False
        for given, each in (preopens or {}).items():
            name = guest_name(given)
            names.append(name)
            mount = each if isinstance(each, Mount) else Mount(each)
            source = {} if mount.source == "mem:" else mount.source
            if isinstance(source, dict):
                found[name] = trees.count_of(source), trees.bytes_of(source)
            else:
                spills = spills or bool(mount.rw)
        return cls(tuple(names), found, spills)

    def with_those_of(self, other: Trees) -> Trees:
        return Trees(tuple({*self.names, *other.names}), {**self.of, **other.of}, self.spills or other.spills)


def isolated(module: Module, preopens: object, imports: object, options: dict[str, Any], bounds: Bounds) -> Isolated:
    """bounds: of reading the module and opening the preopens. Raises what `Sandbox` raises, GuestCrashError."""
    limits: Limits = options["limits"]
    wasm, name = read_module(module, bounds, limits.module_bytes)
    return Isolated(wasm, name, preopens, imports, options, bounds.deadline.timeout_s)


class Isolated:
    """A module and preopens as data, and the workers that have been told of them."""

    def __init__(
        self,
        wasm: bytes,
        name: str,
        preopens: object,
        imports: object,
        options: dict[str, Any],
        timeout_s: float | None,
    ) -> None:
        """options: of `Sandbox`, as they are sent. timeout_s: for opening the preopens.

        Raises what `Sandbox` raises, GuestCrashError.
        """
        refuse_imports(imports)
        self._preopens = sent_preopens(preopens)
        self._mountings = 0  # how often what was mounted has become another, so that it has to be mounted anew
        self.overlays = overlays_in(preopens, self._mount_anew)
        self.trees = Trees.in_preopens(self._preopens)
        self.name = name
        argv0 = options["argv0"]
        self._options = {
            **options,
            "env": sent_environ(options["env"]),
            "argv0": argv0 if argv0 is None else text(argv0),
            "features": [text(feature) for feature in options["features"]],
        }
        self.limits: Limits = options["limits"]
        self._wasm_bytes = len(wasm)
        self.timeout_s = timeout_s
        self._module = _sealed(wasm)
        self.owner = Owner()
        self._end = weakref.finalize(self, _let_go, self.owner, self._module)
        self._lock = threading.RLock()
        self._stops: set[Stop] = set()
        self._traffic: dict[str, Traffic] = {}
        self._closed = False
        self._until: float | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Have one worker that is ready, so that what is wrong shows now."""
        stop = self.begun()
        deadline = Deadline()
        deadline.on_interrupt = lambda: stop.ask(at_once=True)

        def work() -> None:
            with self.worker(self.limits, stop, opening=True) as lent:
                lent.keep = True

        try:
            workers.call(work, deadline, _nothing, _nothing, STACK_BYTES)
        except StoppedError:
            raise GuestInterruptedError("mounting was interrupted") from None
        except WorkerGoneError as gone:
            raise crash_error(self.name, gone, Result([], -gone.signal or -9)) from None
        finally:
            self.over(stop)

    def worker(self, limits: Limits, stop: Stop, opening: bool = False) -> Lent:
        """A worker that is ready to run guests within `limits`. opening: in what is left of the time for mounting.

        Raises StoppedError, WorkerGoneError, GuestTimeoutError, and what `Sandbox` raises.
        """
        need = self._data_bytes(limits)
        worker = POOL.take(self.owner, need, stop)
        try:
            if not worker.loaded:
                self._load(worker, need, stop)
            mounts = f"mounts {self._mountings}"
            if mounts not in worker.loaded:
                left_s = self.left_s() if opening else self.timeout_s
                request = {"do": "mount", "here": here(), "preopens": self._preopens, "timeout": left_s}
                answer = self._asked(worker, request, [], stop, left_s, "mounting")
                self.add_traffic(traffic_of(answer.content.get("traffic"), self.trees.names))
                worker.loaded.add(mounts)
        except NoAnswerError as error:
            POOL.discard(worker)
            raise WorkerGoneError(f"its worker process was ended, because {error}") from None
        except BaseException:
            POOL.discard(worker)
            raise
        return Lent(self.owner, worker)

    def _mount_anew(self) -> None:
        self._mountings += 1

    def _load(self, worker: Worker, need: int, stop: Stop) -> None:
        self._asked(worker, {"do": "hello"}, [], stop, _START_S, "starting a worker process")
        request = {"do": "compile", "here": here(), "data_bytes": need, "name": self.name, "options": self._options}
        seconds = getattr(self.limits, "compile_seconds", self.limits.wall_seconds)
        self._asked(worker, request, [self._module], stop, seconds, "compiling")
        worker.data_bytes = need
        worker.loaded.add("module")

    def _asked(
        self, worker: Worker, request: dict[str, Any], fds: list[int], stop: Stop, seconds: float | None, what: str
    ) -> Answer:
        """Raises what the request ended with; GuestTimeoutError."""
        try:
            answer = worker.ask(request, fds, stop=stop, seconds=seconds)
            error = error_of(answer, Result([], -9))
        except TimeOverError:
            time = counted(seconds or 0, "second")
            message = f"{self.name}: {what} was not done after {time}; its worker process was ended"
            raise GuestTimeoutError(message, result=Result([], -9, usage=Usage(seconds or 0.0))) from None
        if isinstance(error, MemoryOverError):
            raise self.memory_over(worker)
        if error is not None:
            raise error
        return answer

    @staticmethod
    def memory_over(worker: Worker) -> WorkerGoneError:
        return WorkerGoneError(
            f"its worker process needed more than the {worker.data_bytes >> 20:,} MiB that it may have"
        )

    def _data_bytes(self, limits: Limits) -> int:
        """How much memory a worker may have for itself (RLIMIT_DATA): what the limits allow in sum, twice where what is
        there is copied to be sent, and what Python, wasmtime and compiling need."""
        fixed = _BASE_BYTES + _PER_MODULE_BYTE * self._wasm_bytes + 2 * limits.stack_bytes
        stores = limits.index_bytes + limits.buffer_bytes + limits.window_bytes
        given = sum(size for _, size in self.trees.of.values())
        files = max(1, len(self.trees.of)) * limits.memory_files_bytes
        staged = _PER_OVERLAY_BYTES * len(self.overlays)
        return fixed + stores + limits.memory_bytes + 4 * limits.output_bytes + 3 * (files + given) + staged

    def left_s(self) -> float | None:
        """Of the time for mounting, which begins when somebody first asks: then there is a process to do it."""
        if self._until is None and self.timeout_s is not None:
            self._until = time.monotonic() + self.timeout_s
            return self.timeout_s
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    def expected(
        self,
        argv: list[str],
        found: Trees,
        limits: Limits,
        captured: tuple[bool, bool],
        codec: tuple[str, str] | None,
        timeout_s: float | None,
    ) -> tuple[Expected, int]:
        """(what the answer to a run may say, bytes of its blobs at most)."""
        counts = {name: count + limits.inodes for name, (count, _) in found.of.items()}
        blobs = 2 * limits.output_bytes + sum(counts.values()) * trees.RECORD_MAX_BYTES
        blobs += sum(size + limits.memory_files_bytes for _, size in found.of.values())
        return Expected(argv, found.names, counts, captured, codec, timeout_s, limits.output_bytes), blobs

    def begun(self) -> Stop:
        """Something that `interrupt` ends, until it is `over`. Raises ValueError."""
        stop = Stop()
        with self._lock:
            if self._closed:
                raise ValueError("this Sandbox is closed")
            self._stops.add(stop)
        return stop

    def over(self, stop: Stop) -> None:
        with self._lock:
            self._stops.discard(stop)
            last = self._closed and not self._stops
        if last:
            self._end()

    def add_traffic(self, traffic: dict[str, Traffic]) -> None:
        with self._lock:
            for name in traffic.keys() & set(self.trees.names):
                old, new = self._traffic.get(name, Traffic()), traffic[name]
                self._traffic[name] = Traffic(
                    old.requests + new.requests,
                    old.bytes_received + new.bytes_received,
                    old.bytes_sent + new.bytes_sent,
                )

    def traffic(self) -> dict[str, Traffic]:
        """As far as workers have said."""
        with self._lock:
            return dict(self._traffic)

    def told(self) -> list[tuple[str, str, str]]:
        """As `MountTable.told`, of what was given."""
        found = []
        for given, source in (self._preopens or {}).items():
            name = guest_name(given)
            mount = source if isinstance(source, Mount) else Mount(source)
            base = self.overlays.get(name)
            tree = isinstance(mount.source, Mapping) or mount.source == "mem:"
            way = "overlay" if base else "rw" if mount.rw or (tree and mount.rw is None) else "ro"
            source_text = "a tree in memory, new for each run" if tree else what(mount)
            found.append((name, way, f"{base.text}, overlay" if base else source_text))
        return found

    def interrupt(self) -> None:
        with self._lock:
            for stop in self._stops:
                stop.ask()

    def close(self) -> None:
        """End the workers, or if there are runs going on, when the last of them has ended."""
        with self._lock:
            self._closed = True
            if self._stops:
                return
        self._end()


class Lent:
    """A worker that somebody has. keep: whether it can be asked again, when the block ends."""

    def __init__(self, owner: Owner, worker: Worker) -> None:
        self._owner = owner
        self.worker = worker
        self.keep = False

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.keep and error is None:
            self.worker.hush()
            POOL.give_back(self._owner, self.worker)
        else:
            POOL.discard(self.worker)


def crash_error(name: str, gone: WorkerGoneError, result: Result[Any]) -> GuestCrashError:
    return GuestCrashError(f"{name} did not end: {gone}", result=result)


def here() -> str | None:
    """Where relative paths begin."""
    try:
        return os.getcwd()
    except OSError:
        return None


def overlays_in(preopens: object, applied: Callable[[], None]) -> dict[str, CallersBase]:
    """Guest directory -> what lies below, of all mounts with an overlay. applied: called when it has been changed."""
    values = preopens.values() if isinstance(preopens, Mapping) else ()
    if not any(isinstance(mount, Mount) and mount.overlay is not False for mount in values):
        return {}
    from .overlays import bases_of  # few programs have one

    return bases_of(preopens, applied)


def _sealed(wasm: bytes) -> int:
    """A descriptor of a file without a name that has these bytes; who gets it cannot change them."""
    if not hasattr(os, "memfd_create"):
        fd, path = tempfile.mkstemp(prefix="vfswasi-")
        try:
            with open(fd, "wb") as file:
                file.write(wasm)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.unlink(path)
    import fcntl

    fd = os.memfd_create("vfswasi-module", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(wasm)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _let_go(owner: Owner, module: int) -> None:
    POOL.forget(owner)
    os.close(module)


def _nothing() -> None:
    pass
