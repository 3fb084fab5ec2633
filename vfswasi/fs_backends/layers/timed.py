"""How long a store was asked: calls of it and its open files, and the time in them.

Time that a store spends on threads of its own, such as reading ahead, is in none of its calls. The clock is this
machine's, whatever the guest's is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns
from typing import Any, Final

from ..base import Backend, Caps, DirEntry, Handle, Key, Traffic

_OF_STORES: Final = (
    "stat walk listing_version device mkdir rmdir remove rename symlink readlink link set_times note_times "
    "sync_directory finish"
).split()
_OF_FILES: Final = "read_into write_from append truncate size stat set_times allocate reserve advise sync".split()


class Account:
    """Of one store. calls: of it and its open files. ns: nanoseconds in them."""

    def __init__(self) -> None:
        self.calls = self.ns = 0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same, and it is counted, also if it raises."""

        def counted(*args: Any) -> Any:
            start = perf_counter_ns()
            try:
                return call(*args)
            finally:
                self.ns += perf_counter_ns() - start
                self.calls += 1

        return counted


class Timed(Backend):
    """`inner`, and an account of the time that it takes."""

    only_watches = True

    def __init__(self, inner: Backend, account: Account) -> None:
        self.inner, self.account = inner, account
        for name in _OF_STORES:
            setattr(self, name, account.timed(getattr(inner, name)))
        self._open = account.timed(inner.open)
        self._create = account.timed(inner.create)
        self._list = account.timed(inner.list)
        self._version = account.timed(inner.version)
        self.take_uncommitted = inner.take_uncommitted  # type: ignore[method-assign]
        self.close = inner.close  # type: ignore[method-assign]

    @property
    def caps(self) -> Caps:  # type: ignore[override]
        return self.inner.caps

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def traffic(self) -> Traffic | None:
        return self.inner.traffic()

    def version(self, key: Key) -> str | None:
        found: str | None = self._version(key)
        return found

    def list(self, key: Key) -> Iterable[DirEntry]:
        found = self._list(key)
        return found if isinstance(found, list | tuple) else self._each(iter(found))

    def _each(self, entries: Iterator[DirEntry]) -> Iterator[DirEntry]:
        """What is found while it is taken."""
        while True:
            start = perf_counter_ns()
            try:
                entry = next(entries, None)
            finally:
                self.account.ns += perf_counter_ns() - start
            if entry is None:
                return
            yield entry

    def open(self, key: Key, write: bool) -> Handle:
        return _TimedHandle(self._open(key, write), self.account)

    def create(self, key: Key) -> Handle:
        return _TimedHandle(self._create(key), self.account)


class _TimedHandle(Handle):
    def __init__(self, inner: Handle, account: Account) -> None:
        for name in _OF_FILES:
            setattr(self, name, account.timed(getattr(inner, name)))
        self.close = account.timed(inner.close)  # type: ignore[method-assign]
        self.discard = account.timed(inner.discard)  # type: ignore[method-assign]
        self.ident = inner.ident  # type: ignore[method-assign]
