"""Overlays of guests in worker processes.

A worker is asked for what has changed in a file of its own, in the format of saved changes, which is copied to where no
worker can write and looked at before it is believed. What lies below is changed by the caller alone: a worker is never
told that changes are to be applied.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any, Final

from ...engine.compiling.modules import trusted_directories
from ...errors import Errno, FsError, MountError, Uncommitted
from ...fs_backends.archive.source import ArchiveSource, read_file_into
from ...fs_backends.base import Backend
from ...fs_backends.layers.checked import checked
from ...fs_backends.staging.space import MAX_BYTES
from ...fs_backends.waiting import bounded_by
from ...limits import Limits
from ...mounts.finding.source_text import local_path
from ...mounts.finding.sources import open_source
from ...mounts.layered import MADE_ANEW, check_root, root_of, settled
from ...mounts.options import Mount, guest_name
from ...mounts.prepared import what
from ...mounts.table import check_trusted
from ...observe.changes import Changes
from ...observe.saved.writing import saved_bytes, write
from ..closing import nothing_of
from ..preparing.mounting import Bounds
from ..publishing import publish_all
from .process import Answer, Stop, TimeOverError, Worker
from .wire import NoAnswerError

# All contents of an overlay, and of each of a million entries a line.
_SAVED_MAX_BYTES: Final = MAX_BYTES + (1 << 30)
_COPY_BYTES: Final = 1 << 20


class CallersBase:
    """What lies below an overlay, as the caller's process comes to it: `observe.changes.Base`, and what `publish_all`
    asks of `mounts.layered.Layered`."""

    def __init__(self, mount: Mount, applied: Callable[[], None]) -> None:
        """applied: called when changes have been made in it."""
        tree = mount.source == "mem:" or isinstance(mount.source, Mapping)
        self._mount = replace(mount, rw=None, overlay=False, apply=None)
        self.source: Any = None if tree else self._mount
        self.root: object = None
        self.text = "a tree in memory" if tree else what(mount)
        self.apply = mount.apply
        self.applying = threading.Lock()
        self.renew = applied
        if self.source is not None and self._is_path():
            with contextlib.suppress(MountError), self.open() as backend:  # or the worker says what is wrong
                self.root = root_of(backend)

    def _is_path(self) -> bool:
        """Whether somebody could put something else in its place."""
        path = self._mount.source
        return isinstance(path, os.PathLike) or (isinstance(path, str) and local_path(path) is not None)

    @contextmanager
    def open(self) -> Iterator[Backend]:
        """Raises MountError."""
        backend = open_source(self._mount)
        try:
            check_root(self, backend)
            yield checked(backend)
        finally:
            backend.close()


# The caller's side


def sent_overlay(name: str, mount: Mount) -> Mount:
    """The mount as a worker gets it, but for its source. Raises MountError, TypeError."""
    begin: Any = mount.overlay
    if not isinstance(begin, bool):
        try:
            changes = Changes(begin.entries, getattr(begin, "base", None))
            begin = Changes.load(BytesIO(saved_bytes(changes.entries, changes.base)))
        except (FsError, ValueError) as error:
            raise MountError(f"mount {name!r}: the changes cannot be sent to another process: {error}") from error
    return replace(settled(mount), overlay=begin, apply=None)


def bases_of(preopens: object, applied: Callable[[], None]) -> dict[str, CallersBase]:
    """Guest directory -> what lies below, of all mounts with an overlay. Raises MountError: changes are to be applied
    where they may not."""
    found = {}
    if isinstance(preopens, Mapping):
        for name, mount in preopens.items():
            if isinstance(mount, Mount) and mount.overlay is not False:
                base = CallersBase(settled(mount), applied)
                if mount.apply is not None:
                    _check_target(guest_name(name), base)
                found[guest_name(name)] = base
    return found


def _check_target(name: str, base: CallersBase) -> None:
    """What a worker, which does not know that anything will be written there, does not look at."""
    if base.source is None:
        raise MountError(f"mount {name!r}: {MADE_ANEW}")
    path = base.source.source
    if isinstance(path, str) and os.path.isdir(path):
        with base.open() as backend:
            check_trusted(name, backend, [os.path.abspath(each) for each in trusted_directories()])


def changed_in(answer: Answer, bases: Mapping[str, CallersBase]) -> dict[str, bool]:
    """Guest directory -> whether anything has changed there, as far as it is known. Raises NoAnswerError."""
    told = answer.content.get("result")
    found = told.get("changed", {}) if isinstance(told, dict) else {}
    if not isinstance(found, dict) or not all(name in bases and isinstance(some, bool) for name, some in found.items()):
        raise NoAnswerError("it sent changes of something else")
    return found


def fetched(
    worker: Worker, changed: Mapping[str, bool], bases: Mapping[str, CallersBase], limits: Limits, seconds: float | None
) -> dict[str, Changes]:
    """Guest directory -> what has changed there. seconds: for each to be sent, and for all to be looked at.

    Raises NoAnswerError, WorkerGoneError (the worker has ended then), OSError.
    """
    found = {}
    bounds = Bounds.of(limits, seconds)
    with bounded_by(bounds.deadline, bounds.allowance):
        for name, some in changed.items():
            found[name] = Changes(_asked(worker, name, seconds).entries if some else (), bases[name])
    return found


def _asked(worker: Worker, name: str, seconds: float | None) -> Changes:
    with tempfile.TemporaryFile(prefix="vfswasi-") as passed:
        try:
            answer = worker.ask({"do": "changes", "mount": name}, [passed.fileno()], stop=Stop(), seconds=seconds)
        except TimeOverError:
            raise NoAnswerError("it did not say in time what has changed") from None
        if answer.content.get("error") is not None:
            raise NoAnswerError("it could not say what has changed")
        if os.fstat(passed.fileno()).st_size > _SAVED_MAX_BYTES:
            raise NoAnswerError("it sent more changes than there can be")
        own: Any = _Own(passed.fileno())
    try:
        return Changes.load(own)
    except (MountError, FsError) as error:
        raise NoAnswerError(f"it sent changes that cannot be: {error}") from error


class _Own(ArchiveSource):
    """What is in a file now, in one that nobody else has: who wrote it could go on."""

    name = "of a worker"

    def __init__(self, fd: int) -> None:
        """Raises OSError, NoAnswerError."""
        with tempfile.TemporaryFile(prefix="vfswasi-") as file:
            self.size = 0
            while piece := os.pread(fd, _COPY_BYTES, self.size):
                self.size += len(piece)
                if self.size > _SAVED_MAX_BYTES:
                    raise NoAnswerError("it sent more changes than there can be")
                file.write(piece)
            file.flush()
            self._fd = os.dup(file.fileno())
        self.close = weakref.finalize(self, os.close, self._fd)  # type: ignore[method-assign]

    def read_into(self, offset: int, view: memoryview) -> None:
        read_file_into(self._fd, offset, view, self.name)


def published(changes: Mapping[str, Changes], limits: Limits, seconds: float | None) -> list[Uncommitted]:
    """Apply them where the mount says so; which could not be."""
    if not any(getattr(each.base, "apply", None) for each in changes.values()):
        return []
    bounds = Bounds.of(limits, seconds)
    with bounded_by(bounds.deadline, bounds.allowance):
        return [nothing_of(name, error) for name, error in publish_all(changes)]


# The worker's side


def save_into(changes: Changes, fd: int) -> None:
    """Raises FsError, OSError."""
    with open(os.dup(fd), "wb") as file:
        # Where nothing else tells whether the caller's base is what it was, its contents have to.
        timeless = any(entry.was is not None and entry.was.mtim_ns is None for entry in changes.entries)
        timeless = timeless or changes.base is None or changes.base.source is None  # a tree that is made anew
        try:
            write(changes.entries, changes.base, file, old_digests=timeless)
        except ValueError as error:
            raise FsError(Errno.IO, str(error)) from error
