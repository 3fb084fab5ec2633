"""Writes an archive anew: the old one with a list of differences, into the place of the old one.

The new archive is written beside the old one, made durable, read as everybody will read it, and put in its place with
one rename, so that at any time there is either the old archive or the new one. A process that is killed in the middle
leaves the old archive, and a file `.vfswasi-*.tmp` beside it. The new file has the mode of the old one (0600 if there
was none), and its owner as far as we may.

What stays: the order of the members, new ones behind; members that are not among the differences, as they stand, names,
modes, owners, extra fields or PAX records, comments and compressed bytes (in zip); the archive's comment, the volume's
label, records of PAX that hold for the whole archive. A member with another name or time keeps all but that. One with
other contents keeps its mode (without the bits that make a program run as its owner), owner, comment and place. New
ones have mode 0600 (directories 0700, links 0777).

What goes: names that the backends call invisible, and all but the last of several members of one name. A file that
holds more than the archive, such as a program that unpacks itself, is not taken at all. Compressed tars are compressed
anew.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, NoReturn, Self

from ...errors import Errno, FsError, MountError
from ...printing import shown
from ..base import Backend
from ..budget import INDEX_BYTES, Budget, index_budget
from ..layers.overlay.entries import Entry
from ..memory.backend import MemoryBackend
from ..staging.replacing import one_at_a_time, sync_directory, take_after, translated, version_of
from ..waiting import check_time, indexes
from .kind import ENDINGS, beginning_of, named
from .plan import Plan, find
from .source import PathSource
from .tar import output as tar_output
from .tar import packing
from .tar.backend import TarBackend
from .tree import Directory
from .tree_backend import TreeBackend
from .unpacked import needed_for
from .zip import output as zip_output
from .zip.archive import CACHE_BYTES, MAX_ENTRIES
from .zip.backend import ZipBackend

Progress = Callable[[int, int], None]


def rewrite(
    path: str | os.PathLike[str],
    entries: Sequence[Entry],
    *,
    check: Callable[[Backend], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Make the differences `entries` in the archive at `path`, a zip archive or a tar, compressed or not. One that is
    not there is made, of the kind that its name ends with.

    check: is called with what the archive holds before anything is written, and may raise. progress: (bytes that went,
    bytes in all), now and then.

    Raises MountError (no archive, or none that can be written), FsError: STALE (the file was changed, replaced, removed
    or made by somebody else), NOENT, NOTDIR, EXIST, INVAL (the entries do not fit the archive), NAMETOOLONG, NOSPC,
    DQUOT, ACCES, ROFS, IO; the archive is the old one then. Only where making the new name durable fails (IO) is it the
    new one already.
    """
    with ArchiveFile(path) as old:
        if check is not None:
            check(old.backend)
        if entries:
            with old.rewritten(entries, progress) as new:
                new.sync()


class ArchiveFile:
    """The archive at a path as it is when it is opened, or an empty one if there is none; `backend` shows it.

    kind: "zip", "tar", None: what the file, or for a new one its name, says. root: the directory that `backend` shows,
    and that differences are counted from. budget: for what is known of its entries; None: that of what is being
    mounted.

    Raises MountError (no such directory, not writable, corrupt, no such root, no encoder in this Python), TypeError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kind: str | None = None,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        budget: Budget | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be a path, not {type(path).__name__}")
        given = os.fspath(path)
        self._shown = shown(given) if name is None else name
        self._budget = indexes() if budget is None else budget
        self._max_entries = max_entries
        self._cache_bytes = cache_bytes
        self.root = "/".join(part for part in root.split("/") if part)
        self.status: os.stat_result | None = None
        self.compression: str | None = None
        # The file itself is replaced, not a link that leads to it.
        self.path = _real(given, f"{kind or 'zip or tar'} archive {self._shown}")
        self.backend: Backend
        if os.path.lexists(self.path):
            self._open(kind)
        else:
            self.kind = self._kind_of_new(given, kind)
            self.backend = MemoryBackend()
            if self.root:
                raise MountError(
                    f"cannot mount {root!r} of {self.name}: no such directory in the archive; it is a new one"
                )
        self._check_encoder()

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind} archive {self._shown}"

    def _open(self, kind: str | None) -> None:
        source = PathSource(self.path, kind or "zip or tar")
        source.name = self._shown
        self.status = source.status
        try:
            found = beginning_of(source)
        except FsError as error:
            source.close()
            raise MountError(
                f"cannot mount {kind or 'zip or tar'} archive {self._shown}: {error}; try again"
            ) from error
        self.kind = kind or ("zip" if found in ("zip", None) else "tar")
        if self.kind == "zip":
            self.backend = ZipBackend(
                source,
                root=self.root,
                max_entries=self._max_entries,
                cache_bytes=self._cache_bytes,
                whole=True,
                budget=self._budget,
            )
        else:
            tar = TarBackend(source, root=self.root, max_entries=self._max_entries, whole=True, budget=self._budget)
            self.backend, self.compression = tar, tar.compression

    def _kind_of_new(self, path: str, kind: str | None) -> str:
        found = named(path)
        if kind == "zip" or (found is None and kind is not None):
            return kind
        if found is None or (kind is not None and found[0] != kind):
            raise MountError(f"cannot make an archive {self._shown}: its name must end in {ENDINGS}")
        self.compression = found[1]
        return found[0]

    def _check_encoder(self) -> None:
        try:
            packing.check(self.compression)
        except ImportError as error:
            self.close()
            raise MountError(f"cannot mount {self.name} for writing: {needed_for(self.compression or '')}") from error

    def rewritten(
        self, entries: Sequence[Entry], progress: Progress | None = None, most_new_bytes: int | None = None
    ) -> ArchiveFile:
        """The archive that has taken the place of this one, which stays open; `sync` makes it durable. most_new_bytes:
        beyond what there is already.

        Raises what `rewrite` raises.
        """
        self._check_unchanged()
        plan = self._plan(entries)
        backend = self.backend
        # A sparse file that is written to gets all of its holes.
        there = backend.source.size if isinstance(backend, TarBackend) else plan.new_bytes
        if most_new_bytes is not None and plan.new_bytes > there + most_new_bytes:
            raise FsError(Errno.NOSPC, f"{self.name}: {plan.new_bytes:,} bytes are too many")
        with translated(self.name):
            descriptor, temporary = tempfile.mkstemp(".tmp", ".vfswasi-", os.path.dirname(self.path))
        try:
            with translated(self.name), os.fdopen(descriptor, "w+b") as file:
                self._write(file, plan, _Progress(plan, self.status, progress))
            new = self._checked(temporary, plan)
            try:
                self._replace(temporary)
            except BaseException:
                new.close()
                raise
        except BaseException:
            try:
                os.unlink(temporary)
            except OSError:  # the first error says more
                pass
            raise
        new.path = self.path
        return new

    def sync(self) -> None:
        """Make the name durable. Raises IO."""
        with translated(self.name):
            sync_directory(os.path.dirname(self.path))

    def _plan(self, entries: Sequence[Entry]) -> Plan:
        backend = self.backend
        if isinstance(backend, TreeBackend):
            return Plan(backend.top, backend.entries, entries, self.root)
        return Plan(Directory(backend.stat(())), _NoEntries(), entries)

    def _write(self, file: IO[bytes], plan: Plan, progress: _Progress) -> None:
        backend = self.backend
        if self.kind == "zip":
            zip_output.write(file, backend.archive if isinstance(backend, ZipBackend) else None, plan, progress.moved)
        else:
            with packing.packed(file, self.compression) as stream:
                tar_output.write(stream, backend if isinstance(backend, TarBackend) else None, plan, progress.moved)
        file.flush()
        if self.status is not None:
            take_after(file.fileno(), self.status)
        os.fsync(file.fileno())
        progress.end()

    def _checked(self, path: str, plan: Plan) -> ArchiveFile:
        """The new archive, read as everybody will read it. Raises IO."""
        try:
            # What was let into the tree has been counted; the root of a directory may imply a few more.
            # For a moment there are two indexes.
            budget = index_budget(max(self._budget.most, INDEX_BYTES))
            new = ArchiveFile(
                path,
                kind=self.kind,
                root=self.root,
                max_entries=self._max_entries + MAX_ENTRIES,
                cache_bytes=self._cache_bytes,
                budget=budget,
                name=self._shown,
            )
        except MountError as error:
            raise FsError(Errno.IO, f"{self.name}: what was written cannot be read") from error
        try:
            _compare(plan, new)
        except BaseException:
            new.close()
            raise
        new._max_entries, new._budget = self._max_entries, self._budget
        return new

    def _replace(self, temporary: str) -> None:
        with translated(self.name), one_at_a_time(os.path.dirname(self.path)):
            self._check_unchanged()
            os.replace(temporary, self.path)

    def _check_unchanged(self) -> None:
        """Raises STALE."""
        try:
            now: os.stat_result | None = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            now = None
        except OSError as error:
            raise FsError(Errno.IO, f"{self.name}: {error.strerror}") from error
        if version_of(now) != version_of(self.status):
            done = "removed" if now is None else "made" if self.status is None else "changed"
            raise FsError(Errno.STALE, f"{self.name} was {done} by somebody else")

    def close(self) -> None:
        """Release the archive."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NoEntries:
    """The members of an archive that is not there."""

    def stat(self, number: int) -> NoReturn:
        raise FsError(Errno.NOENT)

    kind = stat


class _Progress:
    """Tells how far it is, at most ten times a second."""

    def __init__(self, plan: Plan, status: os.stat_result | None, tell: Progress | None) -> None:
        self._all = plan.new_bytes + (0 if status is None else status.st_size)
        self._tell = tell
        self._done = 0
        self._next = 0.0

    def moved(self, count: int) -> None:
        self._done += count
        if self._tell is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            self._tell(min(self._done, self._all), self._all)

    def end(self) -> None:
        if self._tell is not None:
            self._tell(self._all, self._all)


def _compare(plan: Plan, new: ArchiveFile) -> None:
    """Whether an archive holds what it is to hold. Raises IO."""
    backend = new.backend
    assert isinstance(backend, TreeBackend)
    for number, (path, kind, size) in enumerate(plan.expected()):
        if not number & 255:
            check_time("reading the archive back")
        node = find(backend.top, path)
        status = None if node is None else node.stat if isinstance(node, Directory) else backend.entries.stat(node)
        if status is None or status.filetype != kind or (size is not None and status.size != size):
            raise FsError(Errno.IO, f"{new.kind} member {path!r} was not written as it should be")


def _real(path: str, name: str) -> str:
    """The path of the file itself. Raises MountError: its directory is missing, or cannot be written to."""
    try:
        real = os.path.realpath(path)
        directory = os.path.dirname(real)
        if not os.path.isdir(directory):
            raise MountError(f"cannot mount {name}: no such directory; check the path")
    except ValueError as error:  # NUL
        raise MountError(f"cannot mount {name}: {error}; check the path") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise MountError(f"cannot mount {name} for writing: its directory cannot be written to; mount it read-only")
    return real
