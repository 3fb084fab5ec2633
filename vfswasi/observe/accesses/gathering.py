"""From what a run's layers have noted to `Accesses`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...fs_backends.base import Backend, FileType, Key
from ...fs_backends.layers.accessed.backend import Accessed
from ...fs_backends.layers.accessed.looked import Looked
from ...fs_backends.layers.accessed.note import Note, found_as
from ...fs_backends.layers.accessed.versions import looked_at
from ...kernel.process import Preopen
from .access import Access, Mounted
from .accesses import Accesses
from .telling import caps_of, clock_apart, digest_of, kind_of, shares_of, start_of, target_digest, times_of, way_of

_FULL: Final = "the program looked at more names than are kept"
_LOST: Final = "it was read in more pieces than are kept"


class Gathering:
    """Of one run. digests: see `looked_at`."""

    def __init__(self, digests: bool) -> None:
        self._digests = digests
        self._looked: dict[object, Looked] = {}
        self._of: dict[str, Looked] = {}
        self._stores: list[tuple[str, Backend]] = []  # all are kept, so that nothing else gets the identity of one

    def layer(self, name: str, store: Backend) -> Backend:
        """As `mounts.dress.Layer`."""
        looked = self._looked.get(store.identity)
        if looked is None:
            looked = self._looked[store.identity] = looked_at(store, self._digests)
        self._of[name] = looked
        self._stores.append((name, store))
        return Accessed(store, looked)

    def ended(self) -> None:
        """The guest makes no more calls: what is asked of the stores from now on is not for it."""
        for looked in self._looked.values():
            looked.settle()
            looked.over = True

    def accesses(self, preopens: Iterable[Preopen]) -> Accesses:
        """preopens: of the run."""
        self.ended()
        found = [preopen for preopen in preopens if preopen.name in self._of]
        shared = shares_of(found, dict(self._stores))
        return Accesses({preopen.name: self._mounted(preopen, shared.get(preopen.name)) for preopen in found})

    def _mounted(self, preopen: Preopen, shares: str | None) -> Mounted:
        looked, times = self._of[preopen.name], times_of(preopen)
        hidden = times == "hidden"
        start, unsure = start_of(preopen)
        full = _FULL if looked.full else None
        return Mounted(
            way_of(preopen),
            caps_of(preopen),
            times,
            start,
            shares,
            looked.unsure or full or unsure,
            tuple(_access(looked, key, note, hidden, preopen.readonly) for key, note in sorted(looked.notes.items())),
        )


def _access(looked: Looked, key: Key, note: Note, hidden: bool, readonly: bool) -> Access:
    """hidden: the run was shielded from times, numbers and order, but not from how many names a file has where that can
    change."""
    found: Any = "missing" if note.filetype is None else found_as(note.filetype)
    is_directory = note.filetype is FileType.DIRECTORY
    read, digest, unsure = _contents(note)
    if note.names is not None:
        digest = note.names
    if note.target is not None:
        digest = target_digest(note.target)
    if unsure is None and note.strange and not hidden:
        unsure = "its attributes were changed by somebody else while the program ran"
    attributes: Any = None
    if note.attributes is not None:
        mtim, ctim, nlink, ident = note.attributes
        if not hidden:
            attributes = clock_apart(looked, mtim), clock_apart(looked, ctim), nlink, ident
        elif not readonly and not is_directory:
            attributes = None, None, nlink, None
    elif note.changed and note.was is not None and not readonly:
        attributes = None, None, note.was.nlink, None
    version = note.version if read else None
    if found == "other" and note.filetype is not None:
        version = kind_of(note.filetype, note.kind)
    return Access(
        "/".join(key),
        found,
        note.names is not None,
        read,
        note.written,
        note.size if note.sized and not (is_directory and hidden) else None,
        version,
        digest,
        attributes,
        None if hidden else note.shown,
        () if hidden else note.but,
        unsure,
    )


def _contents(note: Note) -> tuple[Any, str | None, str | None]:
    """(what was read, its digest, why nobody can say)"""
    if note.read is None or not len(note.read):
        return (), None, note.unsure
    ranges: list[tuple[int, int]] = note.read.all()
    digest, unsure = None, note.unsure
    if note.hashed and note.lost:
        unsure = unsure or (_LOST if note.version is None else None)
    elif note.hashed:
        pieces = sorted((start, end, digest.digest()) for start, end, digest in note.pieces)
        ranges = [(start, end) for start, end, _ in pieces]
        digest = digest_of([each for _, _, each in pieces])
    whole = note.sized and ranges == [(0, note.size)]
    return "whole" if whole else tuple(ranges), digest, unsure
