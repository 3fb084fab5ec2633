"""Guests that make host calls back to back, and what the rest of the process gets meanwhile.

Each storm is made of calls of one kind, short or long, that hold Python's lock while they work. `measure` runs one
beside a thread that sleeps a little again and again, a guest that only computes, an interruption and a signal.
"""

from __future__ import annotations

import gc
import io
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import vfswasi
from vfswasi.fs_backends.devices import DeviceBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend

_SIGNATURES = {
    "clock_time_get": "i32 i64 i32",
    "fd_close": "i32",
    "fd_filestat_get": "i32 i32",
    "fd_filestat_set_size": "i32 i64",
    "fd_pread": "i32 i32 i32 i64 i32",
    "fd_pwrite": "i32 i32 i32 i64 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_write": "i32 i32 i32 i32",
    "fd_readdir": "i32 i32 i32 i64 i32",
    "path_create_directory": "i32 i32 i32",
    "path_filestat_get": "i32 i32 i32 i32 i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_rename": "i32 i32 i32 i32 i32 i32",
    "path_symlink": "i32 i32 i32 i32 i32",
    "poll_oneoff": "i32 i32 i32 i32",
    "random_get": "i32 i32",
}
_PAGE = 65536
_FREE = 1 << 20  # where buffers begin

Preopens = dict[str, Any]


@dataclass(frozen=True)
class Storm:
    """`module` in the text format; `preopens` makes what it runs on, below an empty directory of the host's.
    `streams`: standard streams; a text is a file there, or anywhere."""

    module: bytes
    preopens: Callable[[Path], Preopens]
    limits: vfswasi.Limits | None = None
    streams: dict[str, Any] = field(default_factory=dict)


def _call(name: str, *arguments: str | int) -> str:
    types = _SIGNATURES[name].split()
    given = " ".join(
        argument if isinstance(argument, str) else f"({kind}.const {argument})"
        for kind, argument in zip(types, arguments, strict=True)
    )
    return f"(call ${name} {given})"


def _storm(first: str, again: str, data: str = "", memory_bytes: int = 0) -> bytes:
    """`first` once, then `again` for ever; a call in `again` that fails traps."""
    used = [name for name in _SIGNATURES if f"${name} " in first + again]
    imports = " ".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {_SIGNATURES[name]}) (result i32)))'
        for name in used
    )
    pages = (_FREE + memory_bytes) // _PAGE + 1
    return f"""(module {imports} (memory (export "memory") {pages}) {data}
      (func $must (param i32) (if (local.get 0) (then unreachable)))
      (func (export "_start") {first} (loop $more {again} (br $more))))""".encode()


def _must(name: str, *arguments: str | int) -> str:
    return f"(call $must {_call(name, *arguments)})"


def _name(at: int, text: str) -> str:
    return f'(data (i32.const {at}) "{text}")'


def _open(rights: int, oflags: int = 0) -> str:
    """The file "f"; its descriptor lies at 64 then."""
    return _must("path_open", 3, 0, 96, 1, oflags, rights, 0, 0, 64)


_F = _name(96, "f")
_FD = "(i32.load (i32.const 64))"
_READ, _WRITE, _SIZE, _SEEK = 2, 64, 1 << 22, 4


def _buffer(size: int) -> str:
    return f"(i32.store (i32.const 32) (i32.const {_FREE})) (i32.store (i32.const 36) (i32.const {size}))"


def _walk(pairs: int) -> bytes:
    """Looks up a path of so many `x/..`, through as many links as they need."""
    first, data = f"(drop {_call('path_create_directory', 3, 50, 1)})", _name(50, "x")
    for index, start in enumerate(range(0, pairs, 800)):
        last = start + 800 >= pairs
        target = "x/../" * min(800, pairs - start) + ("x" if last else f"l{index + 1:02}")
        at = 8192 + index * 4200
        data += _name(at, target) + _name(100 + 8 * index, f"l{index:02}")
        first += f"(drop {_call('path_symlink', at, len(target), 3, 100 + 8 * index, 3)})"
    return _storm(first, _must("path_filestat_get", 3, 1, 100, 3, 1024), data)


def _read(size: int) -> bytes:
    again = _must("fd_pread", _FD, 32, 1, 0, 40)
    return _storm(_open(_READ | _SEEK) + _buffer(size), again, _F, size)


def _write(size: int) -> bytes:
    again = _must("fd_pwrite", _FD, 32, 1, 0, 40)
    return _storm(_open(_WRITE | _SEEK, 1) + _buffer(size), again, _F, size)


def _grow(size: int) -> bytes:
    again = _must("fd_filestat_set_size", _FD, size) + _must("fd_filestat_set_size", _FD, 0)
    return _storm(_open(_WRITE | _SIZE, 1), again, _F)


def _table(count: int, length: int = 1) -> str:
    """So many buffers at the same place."""
    return f"""(local $i i32) (loop $fill
      (i32.store (i32.add (i32.const {_FREE}) (i32.mul (local.get $i) (i32.const 8))) (i32.const 512))
      (i32.store (i32.add (i32.const {_FREE + 4}) (i32.mul (local.get $i) (i32.const 8))) (i32.const {length}))
      (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count}))))"""


def _buffers(count: int) -> bytes:
    """Reads into so many buffers of a byte each."""
    again = _must("fd_pread", _FD, _FREE, count, 0, 40)
    return _storm(_table(count) + _open(_READ | _SEEK), again, _F, 8 * count)


def _stream(call: str, fd: int, count: int, length: int = 1) -> bytes:
    return _storm(_table(count, length), _must(call, fd, _FREE, count, 40), "", 8 * count)


def _random_buffers(count: int) -> bytes:
    again = _must("fd_read", _FD, _FREE, count, 40)
    open_ = _must("path_open", 3, 0, 96, 6, 0, _READ, 0, 0, 64)
    return _storm(_table(count) + open_, again, _name(96, "random"), 8 * count)


def _poll(count: int) -> bytes:
    """Waits for so many clocks, which have all struck: subscriptions of zeros."""
    return _storm("", _must("poll_oneoff", _FREE, _FREE + 48 * count, count, 40), "", 80 * count)


_OPEN_CLOSE = _storm("", _open(_READ) + _must("fd_close", _FD), _F)
_RENAME = _storm(
    _open(_WRITE, 1),
    _must("path_rename", 3, 96, 1, 3, 98, 1) + _must("path_rename", 3, 98, 1, 3, 96, 1),
    _F + _name(98, "g"),
)
_FSTAT = _storm(_open(_READ | 1 << 21), _must("fd_filestat_get", _FD, 1024), _F)
_CLOCK = _storm("", _must("clock_time_get", 1, 0, 1024))


def _listing(size: int = 65536) -> bytes:
    return _storm("", _must("fd_readdir", 3, _FREE, size, 0, 40), "", size)


def _file(size: int) -> Callable[[Path], Preopens]:
    return lambda _: {"/d": MemoryBackend({"f": bytes(size)}, max_bytes=size)}


def _names(count: int, length: int) -> Callable[[Path], Preopens]:
    return lambda _: {"/d": MemoryBackend({f"{index:0{length}}": b"" for index in range(count)})}


def _local_file(size: int) -> Callable[[Path], Preopens]:
    def make(directory: Path) -> Preopens:
        (directory / "f").write_bytes(bytes(size))
        return {"/d": vfswasi.Mount(str(directory), rw=True)}

    return make


def _local_names(count: int) -> Callable[[Path], Preopens]:
    def make(directory: Path) -> Preopens:
        for index in range(count):
            (directory / f"{index}").touch()
        return {"/d": vfswasi.Mount(str(directory))}

    return make


def _zip(size: int) -> Callable[[Path], Preopens]:
    def make(directory: Path) -> Preopens:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("f", bytes(range(256)) * (size // 256))
        (directory / "a.zip").write_bytes(made.getvalue())
        return {"/d": f"zip://{directory / 'a.zip'}"}

    return make


def _empty(_: Path) -> Preopens:
    return {"/d": {}}


def _local(directory: Path) -> Preopens:
    return {"/d": vfswasi.Mount(str(directory), rw=True)}


def _sparse(directory: Path) -> Preopens:
    with (directory / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    return {"/d": {}}


class _Endless:
    """Gives more than it is asked for."""

    _data = bytes(1 << 20)

    def read(self, _size: int) -> bytes:
        return self._data


class _Text:
    def write(self, text: str) -> int:
        return len(text)


_MIB = 1 << 20
_SLOW_PATH = vfswasi.Limits(window_bytes=0)
_ROOM = vfswasi.Limits(memory_files_bytes=1 << 30)

STORMS = {
    "clock_time_get": Storm(_CLOCK, _empty),
    "a path of 60 pairs, memory": Storm(_walk(60), _empty),
    "a path of 60 pairs, local": Storm(_walk(60), _local),
    "links of 1200 pairs, memory": Storm(_walk(1200), _empty),
    "links of 20,000 pairs, memory": Storm(_walk(20_000), _empty),
    "links of 20,000 pairs, local": Storm(_walk(20_000), _local),
    "fd_pread of 8 MiB, memory": Storm(_read(8 * _MIB), _file(8 * _MIB)),
    "fd_pread of 200 MiB, memory": Storm(_read(200 * _MIB), _file(200 * _MIB)),
    "fd_pread of 8 MiB, local": Storm(_read(8 * _MIB), _local_file(8 * _MIB)),
    "fd_pread of 4 MiB, zip": Storm(_read(4 * _MIB), _zip(4 * _MIB)),
    "fd_pread into 65,536 buffers, memory": Storm(_buffers(65_536), _file(65_536)),
    "fd_pread into 65,536 buffers, local": Storm(_buffers(65_536), _local_file(65_536)),
    "fd_pwrite of 8 MiB, memory": Storm(_write(8 * _MIB), _empty),
    "fd_pwrite of 100 MiB, memory": Storm(_write(100 * _MIB), _empty),
    "fd_filestat_set_size to 100 MiB, memory": Storm(_grow(100 * _MIB), _empty),
    "fd_filestat_set_size to 1 GiB, memory": Storm(_grow(1 << 30), _empty, _ROOM),
    "fd_readdir of 300,000 names, memory": Storm(_listing(), _names(300_000, 24)),
    "fd_readdir into 32 MiB, memory": Storm(_listing(32 * _MIB), _names(130_000, 200)),
    "fd_readdir of 5,000 names, local": Storm(_listing(), _local_names(5_000)),
    "poll_oneoff of 4,096 clocks": Storm(_poll(4_096), _empty),
    "random_get of 1 MiB": Storm(_storm("", _must("random_get", _FREE, _MIB), "", _MIB), _empty),
    "random_get of 200 MiB": Storm(_storm("", _must("random_get", _FREE, 200 * _MIB), "", 200 * _MIB), _empty),
    "path_open and fd_close, memory": Storm(_OPEN_CLOSE, _file(1)),
    "path_open and fd_close, local": Storm(_OPEN_CLOSE, _local_file(1)),
    "path_rename, memory": Storm(_RENAME, _empty),
    "fd_filestat_get, without the fast path": Storm(_FSTAT, _file(1), _SLOW_PATH),
}

_MANY = 65_536
STORMS |= {
    "fd_read into 65,536 buffers, a file": Storm(_stream("fd_read", 0, _MANY), _sparse, streams={"stdin": "sparse"}),
    "fd_read into 65,536 buffers, an object": Storm(
        _stream("fd_read", 0, _MANY), _empty, streams={"stdin": _Endless()}
    ),
    "fd_read into 65,536 empty buffers": Storm(_stream("fd_read", 0, _MANY, 0), _empty, streams={"stdin": _Endless()}),
    "fd_read into 65,536 buffers, random": Storm(_random_buffers(_MANY), lambda _: {"/d": DeviceBackend()}),
    "fd_write of 65,536 buffers, /dev/null": Storm(
        _stream("fd_write", 1, _MANY), _empty, streams={"stdout": "/dev/null"}
    ),
    "fd_write of 65,536 buffers, a callable": Storm(
        _stream("fd_write", 1, _MANY), _empty, streams={"stdout": lambda _: None}
    ),
    "fd_write of 65,536 buffers, an object": Storm(_stream("fd_write", 1, _MANY), _empty, streams={"stdout": _Text()}),
    "fd_write of 65,536 buffers, nowhere": Storm(
        _stream("fd_write", 1, _MANY), _empty, streams={"stdout": vfswasi.DEVNULL}
    ),
    "fd_write of 200 MiB, /dev/null": Storm(
        _storm(_buffer(200 * _MIB), _must("fd_write", 1, 32, 1, 40), "", 200 * _MIB),
        _empty,
        streams={"stdout": "/dev/null"},
    ),
}

_COMPUTES = b'(module (func (export "_start") (loop $again (br $again))))'
_NAP_S = 0.005


@dataclass(frozen=True)
class Numbers:
    """Seconds beyond what was asked for. late: the storm's own deadline. gap: the longest time in which a thread that
    sleeps again and again did not run. neighbour: the deadline of a guest that only computes. interrupt, signal: until
    the run had ended."""

    late: float
    gap: float
    neighbour: float
    interrupt: float
    signal: float

    def within(self, late: float, gap: float) -> bool:
        """Whether other threads wait no longer than `gap`, and what has to end does so within `late`."""
        return self.gap <= gap and max(self.late, self.neighbour, self.interrupt, self.signal) <= late

    def __str__(self) -> str:
        return "  ".join(f"{name} {1000 * value:4.0f} ms" for name, value in vars(self).items())


def measure(storm: Storm, seconds: float) -> Numbers:
    """Runs it three times, each for so long. On the main thread."""
    with _nothing_to_collect():
        return _measure(storm, seconds)


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """A storm makes garbage. With what thousands of tests have left, a collection of it would stop every thread for
    half a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _measure(storm: Storm, seconds: float) -> Numbers:
    vfswasi.run(b'(module (func (export "_start")))')  # everything is imported, and what is compiled is kept
    with tempfile.TemporaryDirectory() as name:
        preopens = storm.preopens(Path(name))
        with _streams(storm, Path(name)) as streams:

            def sandbox() -> vfswasi.Sandbox:
                return vfswasi.Sandbox(storm.module, preopens=preopens, limits=storm.limits)

            late, gap, neighbour = _beside_others(sandbox(), streams, seconds)
            interrupted = _interrupted(sandbox(), streams, seconds)
            return Numbers(late, gap, neighbour, interrupted, _signalled(sandbox(), streams, seconds))


@contextmanager
def _streams(storm: Storm, directory: Path) -> Iterator[dict[str, Any]]:
    with ExitStack() as files:
        yield {
            name: files.enter_context(open(directory / value, "r+b")) if isinstance(value, str) else value
            for name, value in storm.streams.items()
        }


def _late(run: Callable[[], object], seconds: float, ending: type[BaseException]) -> float:
    """How long after `seconds` it ended with `ending`."""
    begun = time.monotonic()
    try:
        run()
    except ending:
        return time.monotonic() - begun - seconds
    raise AssertionError("the storm ended by itself")


def _beside_others(sandbox: vfswasi.Sandbox, streams: dict[str, Any], seconds: float) -> tuple[float, float, float]:
    neighbours: list[float] = []
    computes = vfswasi.Sandbox(_COMPUTES)

    def compute() -> None:
        allowed = seconds * 0.6
        neighbours.append(_late(lambda: computes.run(timeout=allowed), allowed, vfswasi.GuestTimeoutError))

    neighbour = threading.Thread(target=compute)
    with _naps() as naps:
        neighbour.start()
        late = _late(lambda: sandbox.run(timeout=seconds, **streams), seconds, vfswasi.GuestTimeoutError)
        neighbour.join()
    return late, max(naps), neighbours[0]


@contextmanager
def _naps() -> Iterator[list[float]]:
    """How much longer than meant a thread sleeps that does so again and again."""
    naps: list[float] = []
    over = False

    def sleep() -> None:
        last = time.monotonic()
        while not over:
            time.sleep(_NAP_S)
            now = time.monotonic()
            naps.append(now - last - _NAP_S)
            last = now

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    try:
        yield naps
    finally:
        over = True
        sleeper.join()


def _interrupted(sandbox: vfswasi.Sandbox, streams: dict[str, Any], seconds: float) -> float:

    def interrupt() -> None:
        time.sleep(seconds)
        sandbox.interrupt()

    other = threading.Thread(target=interrupt)
    other.start()
    try:
        return _late(lambda: sandbox.run(timeout=30, **streams), seconds, vfswasi.HostCallError)
    finally:
        other.join()


class _Signalled(Exception):
    pass


def _signalled(sandbox: vfswasi.Sandbox, streams: dict[str, Any], seconds: float) -> float:
    """As Ctrl-C, by an alarm: it needs no thread of ours to come."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise _Signalled

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return _late(lambda: sandbox.run(timeout=30, **streams), seconds, _Signalled)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
