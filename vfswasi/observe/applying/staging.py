"""The directory in a local target in which changes wait until all of them are there, and its journal.

.vfswasi-apply-ID/          ID: of these changes, whoever applies them
    n3, n7, ..              what comes: contents of files, empty directories, links, by the numbers of the changes
    journal                 all of it is there, and on disk: from here on the changes will be made
    o1, o4, ..              what has left its place
    out                     everything has that has to
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ...errors import ConflictError, Errno, FsError
from ...fs_backends.base import DirEntry, FileType, Key
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.waiting import unbounded
from ...logs import logger
from ...printing import shown
from .plan import STAGING

_JOURNAL, _NEW_JOURNAL, _OUT = "journal", "journal.new", "out"
_JOURNAL_MAX_BYTES = 256 << 20
_IS_STAGING: Final = re.compile(re.escape(STAGING) + r"[0-9a-f]{24}").fullmatch
_IS_OURS: Final = re.compile(rf"[no]\d+|{_JOURNAL}|{re.escape(_NEW_JOURNAL)}|{_OUT}", re.ASCII).fullmatch
_log = logger(__name__)


class Staging:
    """The directory of the changes `ident`; there may be none yet."""

    def __init__(self, backend: LocalBackend, ident: str) -> None:
        self.backend = backend
        self.key: Key = (STAGING + ident,)
        self._ident = ident

    def make(self) -> None:
        self.backend.mkdir(self.key)

    def names(self) -> set[str]:
        return {entry.name for entry in self.backend.list(self.key)}

    def at(self, name: str) -> Key:
        return (*self.key, name)

    def write_journal(self, digests: Mapping[str, str]) -> None:
        """From here on the changes will be made. digests: SHA-256 of contents, by name in here."""
        text = json.dumps({"version": 1, "changes": self._ident, "digests": dict(digests)}).encode()
        handle = self.backend.create(self.at(_NEW_JOURNAL))
        try:
            handle.write_from(0, text)
            handle.sync(False)
        finally:
            handle.close()
        self.backend.sync_directory(self.key, False)
        self.backend.sync_directory((), False)
        self.backend.rename(self.at(_NEW_JOURNAL), self.at(_JOURNAL))
        self.backend.sync_directory(self.key, False)

    def digests(self) -> dict[str, str]:
        """Of the journal. Raises ConflictError: it is none of these changes."""
        try:
            handle = self.backend.open(self.at(_JOURNAL), False)
            try:
                size = handle.size()
                if size > _JOURNAL_MAX_BYTES:
                    raise ValueError
                text = bytearray(size)
                handle.read_into(0, text)
            finally:
                handle.close()
            told: Any = json.loads(text)
            digests = told["digests"]
            if (told["version"], told["changes"]) != (1, self._ident) or not isinstance(digests, dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError, FsError) as error:
            raise _not_ours(self.key[0]) from error
        return digests

    def has_left(self) -> bool:
        """Everything that has to leave its place has."""
        return _OUT in self.names()

    def note_left(self) -> None:
        self.backend.create(self.at(_OUT)).close()
        self.backend.sync_directory(self.key, False)

    def end(self) -> None:
        """The changes were made, and are on disk."""
        self.backend.remove(self.at(_JOURNAL))
        self.backend.sync_directory(self.key, False)
        try:
            self.discard()
        except FsError as error:
            _log.warning("%s has something that cannot be removed: %s", self.key[0], error)
        self.backend.sync_directory((), False)

    def discard(self) -> None:
        """However little time is left. The journal goes first: without it nobody has to finish anything."""
        with unbounded():
            try:
                self.backend.remove(self.at(_JOURNAL))
            except FsError as error:
                if error.errno is not Errno.NOENT:
                    raise
            remove_all(self.backend, self.key)


def left_over(backend: LocalBackend, ident: str) -> bool:
    """Whether the changes `ident` were left half made. What others left before they changed anything, or when all of it
    was made, is removed. Raises ConflictError: other changes were left half made, or nobody knows what it is."""
    found = False
    for entry in list(backend.list(())):
        if not _IS_STAGING(entry.name):
            continue  # somebody else's
        key = (entry.name,)
        inside = list(backend.list(key)) if entry.filetype is FileType.DIRECTORY else []
        names = {other.name for other in inside}
        if entry.filetype is not FileType.DIRECTORY or not all(map(_IS_OURS, names)):
            raise _unknown(entry.name)
        if _JOURNAL in names:
            if entry.name != STAGING + ident:
                raise _not_ours(entry.name)
            found = True
        elif _OUT in names:
            _tidy_up(backend, key, entry.name == STAGING + ident)
        elif any(name.startswith("o") for name in names) or not all(_is_new(backend, key, other) for other in inside):
            raise _unknown(entry.name)
        else:
            _tidy_up(backend, key, entry.name == STAGING + ident)
    return found


def _is_new(backend: LocalBackend, key: Key, entry: DirEntry) -> bool:
    """A directory that waits has nothing in it."""
    return entry.filetype is not FileType.DIRECTORY or not any(True for _ in backend.list((*key, entry.name)))


def _tidy_up(backend: LocalBackend, key: Key, is_needed: bool) -> None:
    """is_needed: the name is. Raises ConflictError."""
    try:
        with unbounded():
            remove_all(backend, key)
    except FsError as error:
        if is_needed:
            raise _unknown(key[0]) from error
        _log.warning("%s has something that cannot be removed: %s", key[0], error)


def _unknown(name: str) -> ConflictError:
    return ConflictError(
        f"{shown(name)} has a name that is kept for applying changes, and cannot be thrown away: it has no journal, or "
        "something in it that is not of changes; look at it, and remove or rename it",
        {name: "it may be what other changes moved away"},
    )


def _not_ours(name: str) -> ConflictError:
    return ConflictError(
        f"other changes were being applied to this directory and did not come to their end; apply those again, or, if "
        f"they are lost, look at {shown(name)} in it, which has what they moved away, and remove it",
        {name: "other changes that were left half made"},
    )


def remove_all(backend: LocalBackend, key: Key) -> None:
    """What is at `key`, with all that is in it; never through a link."""
    todo: list[tuple[Key, bool]] = [(key, False)]
    while todo:
        at, emptied = todo.pop()
        if emptied:
            if at == key:  # what says that all has been done goes last
                for entry in backend.list(at):
                    backend.remove((*at, entry.name))
            backend.rmdir(at)
            continue
        todo.append((at, True))
        for entry in backend.list(at):
            if entry.filetype is FileType.DIRECTORY:
                todo.append(((*at, entry.name), False))
            elif at != key or entry.name != _OUT:
                backend.remove((*at, entry.name))


def sync_directories(backend: LocalBackend, keys: set[Key]) -> None:
    for key in keys:
        try:
            backend.sync_directory(key, False)
        except FsError as error:
            if error.errno not in (Errno.NOENT, Errno.NOTDIR, Errno.LOOP, Errno.ACCES):
                raise
