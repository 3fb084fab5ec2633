"""`Changes`: what differs between a mount and what it was mounted from, after a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..fs_backends.base import Backend
from ..fs_backends.layers.overlay.entries import Entry, Kind
from ..records import record


class Base(Protocol):
    """How to come to what changes were made on, again. text: for people, without secrets. source: what it would be
    mounted from; None: it was made for the run alone, so that nothing can be applied to it."""

    text: str
    source: Any

    def open(self) -> AbstractContextManager[Backend]:
        """It as it is now, for reading. Raises MountError."""
        ...


@record(frozen=True)
class Change:
    """One difference."""

    kind: Kind
    path: str
    file_type: str
    old_path: str | None = None
    size: int | None = None
    old_size: int | None = None


class Changes:
    """An immutable set of differences; iterating gives each `Change`, in the order of the paths."""

    def __init__(self, entries: Iterable[Entry], base: Base | None = None) -> None:
        self.entries = tuple(entries)
        self.base = base

    def __iter__(self) -> Iterator[Change]:
        raise NotImplementedError

    def apply(self, target: Any = None, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Make the same changes in `target`, as a whole as far as it can be done (docs/apply.md says how far, for each
        kind of target). Nothing is done if they are all there already.

        target: whatever can be mounted and written to; None: what the changes were made on. progress: called with what
        is done, and what is to be done in all.

        Raises ConflictError (the target is not what the changes were made on; its `conflicts` say where; nothing was
        written), ApplyError (it failed; its `done` and `left` say how far it came), MountError, TypeError.
        """
        from .applying.apply import apply

        apply(self, target, progress)
