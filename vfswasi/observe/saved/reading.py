"""Reads changes from a file that may have been made by anybody.

The archive is read by our own reader, with all its limits. The manifest is read line by line, and what it makes is
counted while it is made. Contents are looked at when they are opened: their digest is checked before a byte is handed
out, once, and the file must not have changed since it was loaded.
"""

from __future__ import annotations

import os
import weakref
from typing import IO, Final

from ...errors import Errno, FsError
from ...fs_backends.archive.source import PathSource
from ...fs_backends.archive.tree import Directory
from ...fs_backends.archive.zip.archive import ZipArchive
from ...fs_backends.archive.zip.tree import Member
from ...fs_backends.base import Buffer, FileType, Handle, Stat
from ...fs_backends.budget import Budget
from ...fs_backends.charge import Charge
from ...fs_backends.layers.overlay.entries import Entry
from ..bases import ToldBase
from ..contents import digest_of_handle, remember
from . import checking, manifest
from .archived import lines, opened
from .fields import Wrong, is_digest
from .manifest import CONTENTS, MANIFEST

ENTRIES_MAX: Final = 1_000_000  # what was below directories that were removed counts too
MEMORY_MAX_BYTES: Final = 512 << 20
_CONTENT_COST_BYTES = 320
_CACHE_BYTES = 8 << 20


def load(file: str | os.PathLike[str] | IO[bytes]) -> tuple[tuple[Entry, ...], ToldBase | None]:
    """(entries, what the file says of their base). Raises OSError, TypeError, MountError."""
    budget = Budget("the memory that saved changes may take", MEMORY_MAX_BYTES)
    return opened(
        file, "saved changes", ENTRIES_MAX + 2, budget, lambda archive: _load(SavedFile(archive, budget)), _CACHE_BYTES
    )


def _load(saved: SavedFile) -> tuple[tuple[Entry, ...], ToldBase | None]:
    contents = _Contents(saved)
    told = lines(saved.archive, contents.manifest, saved.charge, ENTRIES_MAX, "entries")
    text, found = manifest.read(told, contents.of)
    entries = tuple(found)
    # The names are looked at in trees that go afterwards.
    checking.check(entries, Charge(saved.charge.budget))
    contents.check_all_used()
    return entries, None if text is None else ToldBase(text)


class SavedFile:
    """The archive, as long as any of its contents are needed."""

    def __init__(self, archive: ZipArchive, budget: Budget) -> None:
        self.archive = archive
        self.charge = Charge(budget)
        self.name = archive.source.name
        weakref.finalize(self, archive.close)

    def check_unchanged(self) -> None:
        """Raises STALE: somebody has written to the file since it was loaded."""
        source = self.archive.source
        if isinstance(source, PathSource) and not source.is_unchanged():
            raise FsError(Errno.STALE, f"{self.name}: the file was changed since the changes were loaded from it")


class _Contents:
    """What there is in the archive, which has to be the manifest and what it names, and nothing else."""

    def __init__(self, saved: SavedFile) -> None:
        self._saved = saved
        self._found: dict[str, SavedContent] = {}
        index = saved.archive.index
        top = dict(index.root.children)
        found, held = top.pop(MANIFEST, None), top.pop(CONTENTS, None)
        if not isinstance(found, int) or index.kind(found) is not FileType.REGULAR_FILE:
            raise Wrong(f"it has no {MANIFEST}")
        self.manifest = Member(index, found)
        self._members = held.children if isinstance(held, Directory) else {}
        if top or not (held is None or isinstance(held, Directory)):
            raise Wrong("it has other members than a file of changes has")

    def of(self, digest: str) -> SavedContent:
        content = self._found.get(digest)
        if content is None:
            number = self._members.get(digest) if is_digest(digest) else None
            if not isinstance(number, int) or self._saved.archive.index.kind(number) is not FileType.REGULAR_FILE:
                raise Wrong(f"it has no contents {digest[:80]!r}")
            self._saved.charge.take(_CONTENT_COST_BYTES)
            content = self._found[digest] = SavedContent(self._saved, Member(self._saved.archive.index, number), digest)
        return content

    def check_all_used(self) -> None:
        if len(self._found) != len(self._members):
            raise Wrong("it has contents that its manifest does not name")
        if self._saved.archive.index.seen != 1 + len(self._found):
            raise Wrong("it has members twice, or that are not shown")


class SavedContent:
    """Contents in a file of changes."""

    def __init__(self, saved: SavedFile, member: Member, digest: str) -> None:
        self.size = member.stat.size
        self._saved = saved
        self._member = member
        self._digest = digest
        self._verified = False

    def open(self) -> Handle:
        """Raises IO (the contents are not those of their digest, corrupt), STALE (the file has changed)."""
        self._saved.check_unchanged()
        handle = self._saved.archive.open(self._member)
        try:
            if not self._verified:
                if digest_of_handle(handle, self.size) != self._digest:
                    raise FsError(Errno.IO, f"{self._saved.name}: contents are not what their digest says")
                self._saved.check_unchanged()
                self._verified = True
                remember(self, self._digest)
        except BaseException:
            handle.close()
            raise
        return _SavedHandle(handle, self._saved, self.size)


class _SavedHandle(Handle):
    def __init__(self, inner: Handle, saved: SavedFile, size: int) -> None:
        self._inner = inner
        self._saved = saved
        self._stat = Stat(FileType.REGULAR_FILE, size)

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = self._inner.read_into(offset, buf)
        self._saved.check_unchanged()
        return count

    def size(self) -> int:
        return self._stat.size

    def stat(self) -> Stat:
        return self._stat

    def close(self) -> None:
        self._inner.close()
