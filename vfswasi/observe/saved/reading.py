"""Reads changes from a file that may have been made by anybody.

The archive is read by our own reader, with all its limits. The manifest is read line by line, and what it makes is
counted while it is made. Contents are looked at when they are opened: their digest is checked before a byte is handed
out, once, and the file must not have changed since it was loaded.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from typing import IO, Final

from ...errors import Errno, FsError, MountError, errno_of
from ...fs_backends.archive.source import ArchiveSource, PathSource, source_of
from ...fs_backends.archive.tree import Directory
from ...fs_backends.archive.zip.archive import ZipArchive
from ...fs_backends.archive.zip.tree import Member
from ...fs_backends.base import Buffer, FileType, Handle, Stat
from ...fs_backends.budget import Budget
from ...fs_backends.charge import Charge
from ...fs_backends.layers.overlay.entries import Entry
from ...fs_backends.waiting import check_time
from ...printing import printable, shown, without_secrets
from ..bases import ToldBase
from ..contents import digest_of_handle, remember
from . import checking, manifest
from .manifest import CONTENTS, MANIFEST, Wrong

ENTRIES_MAX: Final = 1_000_000  # what was below directories that were removed counts too
MEMORY_MAX_BYTES: Final = 512 << 20
_MANIFEST_MAX_BYTES = 512 << 20
_LINE_MAX_BYTES = 2 << 20
_PIECE_BYTES = 256 << 10
_LINE_COST_BYTES = 640  # an entry with its numbers, beside its texts
_WIDE_BYTES = 4  # of one character in a text that has others than ASCII
_CONTENT_COST_BYTES = 320
_CACHE_BYTES = 8 << 20


def load(file: str | os.PathLike[str] | IO[bytes]) -> tuple[tuple[Entry, ...], ToldBase | None]:
    """(entries, what the file says of their base). Raises OSError, TypeError, MountError."""
    if isinstance(file, str | os.PathLike):
        kind = os.stat(file).st_mode  # raises what `open` would
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(file))
        if not stat.S_ISREG(kind):
            raise MountError(f"cannot read the saved changes {shown(os.fspath(file))}: it is no regular file")
    source = source_of(file, "saved changes")
    try:
        budget = Budget("the memory that saved changes may take", MEMORY_MAX_BYTES)
        # Closes the source if it raises.
        archive = ZipArchive(source, ENTRIES_MAX + 2, _CACHE_BYTES, budget=budget)
        try:
            return _load(SavedFile(archive, budget))
        except BaseException:
            archive.close()
            raise
    except MountError as error:
        reason = str(error).removeprefix(f"cannot mount zip archive {source.name}: ")
        raise _refused(source, reason.partition("; mount it")[0]) from error
    except Wrong as error:
        raise _refused(source, str(error)) from error
    except FsError as error:
        if errno_of(error) is Errno.CANCELED:
            raise
        raise _refused(source, error.detail or errno_of(error).name) from error


def _refused(source: ArchiveSource, reason: str) -> MountError:
    return MountError(f"cannot read the saved changes {source.name}: {printable(without_secrets(reason))}")


def _load(saved: SavedFile) -> tuple[tuple[Entry, ...], ToldBase | None]:
    contents = _Contents(saved)
    text, found = manifest.read(_lines(saved, contents.manifest), contents.of)
    entries = tuple(found)
    # The names are looked at in trees that go afterwards.
    checking.check(entries, Charge(saved.charge.budget))
    contents.check_all_used()
    return entries, None if text is None else ToldBase(text)


def _lines(saved: SavedFile, member: Member) -> Iterator[bytes]:
    """Without their ends. At most as many as there may be entries; each is charged for what it may become."""
    size = member.stat.size
    if size > _MANIFEST_MAX_BYTES:
        raise Wrong(f"its manifest has {size:,} bytes, more than {_MANIFEST_MAX_BYTES:,}")
    handle = saved.archive.open(member)
    try:
        left = b""
        count = offset = 0
        while offset < size:
            check_time("reading saved changes")
            piece = bytearray(min(_PIECE_BYTES, size - offset))
            if handle.read_into(offset, piece) != len(piece):
                raise Wrong("its manifest is cut short")
            offset += len(piece)
            *whole, left = (left + piece).split(b"\n")
            if len(left) > _LINE_MAX_BYTES or any(len(line) > _LINE_MAX_BYTES for line in whole):
                raise Wrong(f"a line of its manifest has more than {_LINE_MAX_BYTES:,} bytes")
            count += len(whole)
            if count > ENTRIES_MAX + 1:
                raise Wrong(f"it has more than {ENTRIES_MAX:,} entries")
            for line in whole:
                plain = line.isascii() and b"\\u" not in line
                saved.charge.take(_LINE_COST_BYTES + len(line) * (1 if plain else _WIDE_BYTES))
                yield line
        if left:
            raise Wrong("its manifest is cut short")
    finally:
        handle.close()


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
            number = self._members.get(digest) if manifest.is_digest(digest) else None
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
