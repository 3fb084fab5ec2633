"""The directory in a local target in which changes wait until all of them are there, and its journal.

.vfswasi-apply-ID/          ID: of these changes, whoever applies them
    n3, n7, ..              what comes: contents of files, empty directories, links, by the numbers of the changes
    journal                 all of it is there, and on disk: from here on the changes will be made
    o1, o4, ..              what has left its place
    out                     everything has that has to
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import ConflictError, Errno, FsError
from ...fs_backends.base import FileType, Key
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.waiting import check_time
from ...printing import shown
from .plan import STAGING

_JOURNAL, _NEW_JOURNAL, _OUT = "journal", "journal.new", "out"
_JOURNAL_MAX_BYTES = 256 << 20


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
        self.discard()
        self.backend.sync_directory((), False)

    def discard(self) -> None:
        remove_all(self.backend, self.key)


def left_over(backend: LocalBackend, ident: str) -> bool:
    """Whether the changes `ident` were left half made. What others left before they changed anything is removed. Raises
    ConflictError: other changes were left half made."""
    found = False
    for entry in list(backend.list(())):
        if not entry.name.startswith(STAGING):
            continue
        key = (entry.name,)
        names = {other.name for other in backend.list(key)} if entry.filetype is FileType.DIRECTORY else {_JOURNAL}
        if _JOURNAL not in names:
            remove_all(backend, key)
        elif entry.name == STAGING + ident and entry.filetype is FileType.DIRECTORY:
            found = True
        else:
            raise _not_ours(entry.name)
    return found


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
        check_time("changes")
        at, emptied = todo.pop()
        if emptied:
            backend.rmdir(at)
            continue
        todo.append((at, True))
        for entry in backend.list(at):
            if entry.filetype is FileType.DIRECTORY:
                todo.append(((*at, entry.name), False))
            else:
                backend.remove((*at, entry.name))


def sync_directories(backend: LocalBackend, keys: set[Key]) -> None:
    for key in keys:
        check_time("changes")
        try:
            backend.sync_directory(key, False)
        except FsError as error:
            if error.errno not in (Errno.NOENT, Errno.NOTDIR, Errno.LOOP, Errno.ACCES):
                raise
