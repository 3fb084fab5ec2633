"""A backend that fails on purpose, for tests of what stands above it.

    faulty = Faulty(MemoryBackend(tree), {"handle.read_into": Errno.IO})         # every read
    faulty = Faulty(MemoryBackend(tree), {("create", 3): Errno.NOSPC})           # the third create
    faulty = Faulty(MemoryBackend(tree), {17: ConnectionResetError("gone")})     # the 17th call, whatever it is
    faulty = Faulty(MemoryBackend(tree), lambda call: Errno.ACCES if "secret" in call.key else None)
    faulty = Faulty(MemoryBackend(tree), delay_s=0.05)                           # a slow store

Every call of the backend and of its handles is counted, then delayed, then fails or reaches `inner`; a call that fails
has changed nothing there. The exceptions are `close`, `handle.close` and `handle.discard`: these reach `inner` first,
so that a failing close leaks nothing. Exceptions that the protocol forbids may be chosen too: a host has to survive
those that others wrote.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ...errors import Errno, FsError, Uncommitted
from ..base import Backend, Buffer, Device, DirEntry, Handle, Key, ReadableBuffer, Stat, Traffic

_BACKEND_CALLS = (
    "stat walk list listing_version device open create mkdir rmdir remove rename symlink readlink link set_times "
    "sync_directory finish close".split()
)
_HANDLE_CALLS = (
    "read_into write_from append truncate size stat ident set_times allocate reserve advise sync close discard".split()
)

CALL_NAMES = frozenset(_BACKEND_CALLS) | {f"handle.{name}" for name in _HANDLE_CALLS}


class Call(NamedTuple):
    """One call. `name`: one of CALL_NAMES. `key`: what it is about (for `rename` and `link` the old key, for `walk`
    the whole way, for handles the key they were opened under). `number`: its place among all calls, `nth`: among
    those of this name, both from 1."""

    name: str
    key: Key
    number: int
    nth: int


Fault = Errno | BaseException | type[BaseException] | None
Plan = Mapping[int | str | tuple[str, int], Fault]


class Faulty(Backend):
    """`inner`, with failures. `fail` and `delay_s` may be replaced between calls.

    total, counts: calls so far, in all and by name. open_handles: not yet closed.
    """

    def __init__(
        self,
        inner: Backend,
        fail: Plan | Callable[[Call], Fault] | None = None,
        *,
        delay_s: float | Callable[[Call], float] = 0.0,
    ) -> None:
        """`fail`: a plan (number, name, or (name, nth) to fault) or a function of the call; an Errno is raised as
        FsError, an exception as it is, None lets the call through. `delay_s`: seconds before each call.

        Raises ValueError for a plan with a name that no call has: it would test nothing.
        """
        self.inner = inner
        self.caps = inner.caps
        self.fail = fail
        self.delay_s = delay_s
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.open_handles = 0
        self._lock = threading.Lock()

    @property
    def fail(self) -> Plan | Callable[[Call], Fault] | None:
        return self._fail

    @fail.setter
    def fail(self, fail: Plan | Callable[[Call], Fault] | None) -> None:
        if isinstance(fail, Mapping):
            for when in fail:
                name, number = when if isinstance(when, tuple) else (when, 1) if isinstance(when, str) else ("", when)
                if name and name not in CALL_NAMES:
                    raise ValueError(f"no call is named {name!r}; there are {', '.join(sorted(CALL_NAMES))}")
                if number < 1:
                    raise ValueError(f"{when!r}: calls are counted from 1")
        self._fail = fail

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def before(self, name: str, key: Key) -> None:
        """Count a call; raise what is planned for it."""
        with self._lock:
            self.total += 1
            self.counts[name] += 1
            call = Call(name, key, self.total, self.counts[name])
        delay_s = self.delay_s(call) if callable(self.delay_s) else self.delay_s
        if delay_s:
            time.sleep(delay_s)
        fault = self._fault(call)
        if fault is not None:
            raise FsError(fault, f"planned: {call}") if isinstance(fault, Errno) else fault

    def _fault(self, call: Call) -> Fault:
        fail = self._fail
        if fail is None:
            return None
        if not isinstance(fail, Mapping):
            return fail(call)
        # The more precise entry wins, so that a plan can let one call through: {"stat": IO, ("stat", 3): None}.
        for when in (call.number, (call.name, call.nth), call.name):
            if when in fail:
                return fail[when]
        return None

    def opened(self, key: Key, inner: Handle) -> Handle:
        with self._lock:
            self.open_handles += 1
        return _FaultyHandle(self, key, inner)

    def closed(self) -> None:
        with self._lock:
            self.open_handles -= 1

    def stat(self, key: Key) -> Stat:
        self.before("stat", key)
        return self.inner.stat(key)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        self.before("walk", key + names)
        return self.inner.walk(key, names)

    def list(self, key: Key) -> Iterable[DirEntry]:
        self.before("list", key)
        return self.inner.list(key)

    def version(self, key: Key) -> str | None:
        return self.inner.version(key)

    def listing_version(self, key: Key) -> int | None:
        self.before("listing_version", key)
        return self.inner.listing_version(key)

    def device(self, key: Key) -> Device | None:
        self.before("device", key)
        return self.inner.device(key)

    def open(self, key: Key, write: bool) -> Handle:
        self.before("open", key)
        return self.opened(key, self.inner.open(key, write))

    def create(self, key: Key) -> Handle:
        self.before("create", key)
        return self.opened(key, self.inner.create(key))

    def mkdir(self, key: Key) -> None:
        self.before("mkdir", key)
        self.inner.mkdir(key)

    def rmdir(self, key: Key) -> None:
        self.before("rmdir", key)
        self.inner.rmdir(key)

    def remove(self, key: Key) -> None:
        self.before("remove", key)
        self.inner.remove(key)

    def rename(self, old: Key, new: Key) -> None:
        self.before("rename", old)
        self.inner.rename(old, new)

    def symlink(self, target: str, key: Key) -> None:
        self.before("symlink", key)
        self.inner.symlink(target, key)

    def readlink(self, key: Key) -> str:
        self.before("readlink", key)
        return self.inner.readlink(key)

    def link(self, old: Key, new: Key) -> None:
        self.before("link", old)
        self.inner.link(old, new)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self.before("set_times", key)
        self.inner.set_times(key, atim_ns, mtim_ns)

    def sync_directory(self, key: Key, data_only: bool) -> None:
        self.before("sync_directory", key)
        self.inner.sync_directory(key, data_only)

    def finish(self, keep: bool) -> None:
        self.before("finish", ())
        self.inner.finish(keep)

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        return self.inner.take_uncommitted()

    def traffic(self) -> Traffic | None:
        return self.inner.traffic()

    def close(self) -> None:
        self.inner.close()
        self.before("close", ())


class _FaultyHandle(Handle):
    __slots__ = ("_faulty", "_inner", "_key")

    def __init__(self, faulty: Faulty, key: Key, inner: Handle) -> None:
        self._faulty = faulty
        self._key = key
        self._inner = inner

    def read_into(self, offset: int, buf: Buffer) -> int:
        self._faulty.before("handle.read_into", self._key)
        return self._inner.read_into(offset, buf)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._faulty.before("handle.write_from", self._key)
        self._inner.write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        self._faulty.before("handle.append", self._key)
        return self._inner.append(buf)

    def truncate(self, size: int) -> None:
        self._faulty.before("handle.truncate", self._key)
        self._inner.truncate(size)

    def size(self) -> int:
        self._faulty.before("handle.size", self._key)
        return self._inner.size()

    def stat(self) -> Stat:
        self._faulty.before("handle.stat", self._key)
        return self._inner.stat()

    def ident(self) -> int | None:
        self._faulty.before("handle.ident", self._key)
        return self._inner.ident()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._faulty.before("handle.set_times", self._key)
        self._inner.set_times(atim_ns, mtim_ns)

    def allocate(self, offset: int, length: int) -> None:
        self._faulty.before("handle.allocate", self._key)
        self._inner.allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        self._faulty.before("handle.reserve", self._key)
        return self._inner.reserve(offset, length)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._faulty.before("handle.advise", self._key)
        self._inner.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self._faulty.before("handle.sync", self._key)
        self._inner.sync(data_only)

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._faulty.closed()
        self._faulty.before("handle.close", self._key)

    def discard(self) -> None:
        try:
            self._inner.discard()
        finally:
            self._faulty.closed()
        self._faulty.before("handle.discard", self._key)
