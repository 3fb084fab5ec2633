"""A zip archive on the local file system that can be written to.

Nothing in the archive changes before `commit`. What a program writes is staged: the tree in memory, the contents in
memory up to `staging_memory_bytes` and in one unnamed temporary file beyond. A member that is there already is read
from the archive until it is first written to, and copied to the staging then. `commit` writes a whole new archive
beside the old one, with its mode (0600 if there was none), and puts it in its place with one rename, so that at any
time there is either the old archive or the new one; a commit that fails leaves the old archive and the staged changes
as they are, so that it can be tried again. A process that is killed in the middle of one leaves the old archive, and a
file `.vfswasi-*.tmp` beside it.

The owner of the backend decides:

    backend.commit()      after a run that ended well
    backend.rollback()    after one that did not: the tree is again that of the last commit
    backend.close()       in the end: what was not committed is gone

Handles that are open go on through a commit. After a rollback they go on as those of files without a name.

What the new archive holds. Members that were not written to are copied as they stand: names as they are encoded, flags,
mode, extra fields, comments and compressed bytes (a name or times aside that were changed); so are those that cannot be
read, such as encrypted ones, and the archive's own comment. New members are
deflated (level 6; below 64 bytes stored), with mode 0600 (directories 0700, links 0777), the date in UTC and the
extended timestamp, which has whole seconds; members that were written to keep their mode. Every directory that had an
entry, is new or empty, or was changed has an entry.

What it loses. Names that `zip` calls invisible, and all but the last of several members of one name, are dropped. A
file that holds more than the archive, such as a program that unpacks itself, is not taken at all. A member whose
header is broken, or whose data overlap another's, can be neither read nor copied: `commit` fails with IO until it is
removed.

Costs. A commit reads and writes the whole archive, whatever was changed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import IO

from ....errors import Errno, FsError, MountError
from ....printing import shown
from ...base import Backend, Caps, DirEntry, Handle, Key, Stat
from ...budget import INDEX_BYTES, Budget, index_budget
from ...charge import Charge
from ...memory.file import Directory, Link, Node
from ...staging.replacing import one_at_a_time, sync_directory, take_after, translated, version_of
from ...staging.staged_file import ArchivedDirectory, ArchivedFile, ArchivedObject, Base
from ...staging.staged_tree import StagedTree
from ...staging.tree import Staged, StagingSpace
from ...waiting import check_time, indexes
from ..source import PathSource
from ..tree import Directory as Archived
from ..tree_backend import refused
from .archive import CACHE_BYTES, MAX_ENTRIES, ZipArchive
from .member import find_data
from .output import ZipOutput
from .tree import Member, ZipIndex

STAGING_MEMORY_BYTES = 64 << 20
MAX_STAGED_BYTES = 4 << 30
_COPY_BYTES = 256 << 10


class WritableZipBackend(Backend):
    """The archive at `path`, which is made by the first commit if there is none.

    root: directory inside the archive that becomes the root of the mount, with `/` between names.
    max_entries: an archive with more is a MountError, making more is NOSPC.
    cache_bytes: the most that is kept of inflated members.
    staging_memory_bytes: the most that is kept in memory of what was written.
    max_staged_bytes: the most that may have been written between two commits, holes included; beyond it NOSPC.

    Raises MountError (no such directory, not writable, corrupt, no such root), TypeError.
    """

    caps = (
        Caps.WRITE
        | Caps.RANDOM_WRITE
        | Caps.EMPTY_DIRS
        | Caps.SYMLINKS
        | Caps.SET_TIMES
        | Caps.ATOMIC_RENAME
        | Caps.HANDLE_SURVIVES_UNLINK
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        staging_memory_bytes: int = STAGING_MEMORY_BYTES,
        max_staged_bytes: int = MAX_STAGED_BYTES,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be a path, not {type(path).__name__}")
        self._name = shown(os.fspath(path))
        # The file itself is replaced, not a link that leads to it.
        self._path = _real(os.fspath(path), self._name)
        self._max_entries = max_entries
        self._cache_bytes = cache_bytes
        self._root_names = tuple(name for name in root.strip("/").split("/") if root.strip("/"))
        self._staging = StagingSpace(staging_memory_bytes, max_staged_bytes)
        self._closed = False
        self._rollbacks = 0
        self._status: os.stat_result | None = None
        self._base: Base | None = None
        self._indexes = indexes()
        self._charge = Charge(self._indexes)
        if os.path.lexists(self._path):
            self._base, self._status = self._open_archive(self._path, max_entries, self._indexes, whole=True)
        self._next_ident = 1
        try:
            self._tree = self._fresh_tree(self._charge)
        except FsError as error:
            self._release()
            if error.errno not in (Errno.NOENT, Errno.NOTDIR):
                raise refused("zip", self._name, error, "check that it can be read") from error
            reason = "no such directory" if error.errno is Errno.NOENT else "not a directory"
            raise MountError(
                f"cannot mount {root!r} of zip archive {self._name}: {reason} in the archive; "
                "give the name of a directory that it holds"
            ) from error

    @property
    def place(self) -> Key:
        return ("archive", self._path, *self._root_names)

    def _open_archive(
        self, path: str, max_entries: int, budget: Budget, *, whole: bool = False
    ) -> tuple[Base, os.stat_result]:
        source = PathSource(path)
        source.name = self._name
        archive = ZipArchive(source, max_entries, self._cache_bytes, whole=whole, budget=budget)
        return Base(archive), source.status

    def _fresh_tree(self, charge: Charge | None = None) -> StagedTree:
        tree = StagedTree(
            self._base,
            self._staging,
            first_ident=self._next_ident,
            time_ns=time.time_ns() if self._status is None else self._status.st_mtime_ns,
            max_entries=self._max_entries,
            charge=charge,
        )
        tree.enter(self._root_names)
        return tree

    # The owner's side

    @property
    def changed(self) -> bool:
        """Whether a commit would write anything."""
        return self._tree.changed

    def commit(self) -> None:
        """Make the archive hold what the tree holds. Does nothing if nothing was changed.

        Raises STALE (the file was changed, replaced, removed or made by somebody else), NOSPC, DQUOT, ACCES, ROFS, IO;
        the archive is the old one then, and the changes stay staged. Only where making the new name durable fails (IO)
        is the archive the new one already.
        """
        with self._staging.lock:
            if self._closed:
                raise FsError(Errno.IO, "the backend is closed")
            if not self._tree.changed:
                return
            self._check_unchanged()
            with translated(f"zip archive {self._name}"):
                descriptor, temporary = tempfile.mkstemp(".tmp", ".vfswasi-", os.path.dirname(self._path))
            try:
                with translated(f"zip archive {self._name}"), os.fdopen(descriptor, "w+b") as file:
                    self._write(file)
                new, status, pairs = self._checked(temporary)
                try:
                    self._replace(temporary)
                except BaseException:
                    new.archive.close()
                    raise
            except BaseException:
                try:
                    os.unlink(temporary)
                except OSError:  # the first error says more
                    pass
                raise
            old, self._base, self._status = self._base, new, status
            self._tree.adopt(new, pairs)
            if old is not None:
                old.retire()
            with translated(f"zip archive {self._name}"):
                sync_directory(os.path.dirname(self._path))

    def rollback(self) -> None:
        """Forget what was changed since the last commit."""
        with self._staging.lock:
            if self._closed or not self._tree.changed:
                return
            old = self._tree
            self._next_ident = old.next_ident
            self._rollbacks += 1
            self._tree = self._fresh_tree()
            old.detach()

    def finish(self, keep: bool) -> None:
        if keep:
            self.commit()
        else:
            self.rollback()

    def close(self) -> None:
        """Forget what was changed since the last commit, and release the archive."""
        with self._staging.lock:
            if not self._closed:
                self._tree.detach()
                self._release()

    def _release(self) -> None:
        self._closed = True
        if self._base is not None:
            self._base.archive.close()
        self._staging.close()
        self._charge.close()

    # The new archive

    def _write(self, file: IO[bytes]) -> None:
        comment = b"" if self._base is None else self._base.archive.index.ending.comment
        with ZipOutput(file, comment) as output:
            for path, node in self._tree.nodes():
                self._write_node(output, path, node)
        file.flush()
        if self._status is not None:
            take_after(file.fileno(), self._status)
        os.fsync(file.fileno())

    def _write_node(self, output: ZipOutput, path: str, node: Node) -> None:
        member = getattr(node, "member", None)
        old = member
        if isinstance(node, Directory):
            same = isinstance(node, ArchivedDirectory) and node.mtim == node.loaded_mtim
            if member is not None and same and self._copied(output, path, member):
                return
            if old is not None or not same or not node.entries:
                output.add_directory(path, node.mtim, old)
        elif isinstance(node, Link):
            output.add_link(path, node.target, node.mtim)
        elif isinstance(node, ArchivedFile) and node.staged is not None and (node.changed or member is None):
            output.add_file(path, node.staged.size, _pieces(node.staged), node.mtim, old)
        elif isinstance(node, ArchivedFile | ArchivedObject) and member is not None and self._base is not None:
            time_ns = None if node.mtim == node.loaded_mtim else node.mtim
            output.copy(path, self._base.archive.source, member, time_ns)

    def _copied(self, output: ZipOutput, path: str, member: Member) -> bool:
        """Whether the entry of a directory could be copied as it is; one that is broken is written anew."""
        assert self._base is not None
        try:
            find_data(self._base.archive.source, member)
        except FsError:
            return False
        output.copy(path, self._base.archive.source, member, None)
        return True

    def _checked(self, path: str) -> tuple[Base, os.stat_result, list[tuple[Node, Member | None]]]:
        """The new archive, read as everybody will read it, and the member of each node. Raises IO."""
        try:
            # What was let into the tree has been counted; the root of a directory may imply a few more.
            # For a moment there are two indexes.
            budget = index_budget(max(self._indexes.most, INDEX_BYTES))
            new, status = self._open_archive(path, self._max_entries + MAX_ENTRIES, budget)
        except MountError as error:
            raise FsError(Errno.IO, f"zip archive {self._name}: what was written cannot be read") from error
        try:
            return new, status, _matched(self._tree.nodes(), new.archive.index)
        except BaseException:
            new.archive.close()
            raise

    def _replace(self, temporary: str) -> None:
        directory = os.path.dirname(self._path)
        with translated(f"zip archive {self._name}"), one_at_a_time(directory):
            self._check_unchanged()
            os.replace(temporary, self._path)

    def _check_unchanged(self) -> None:
        """Raises STALE."""
        try:
            now: os.stat_result | None = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            now = None
        except OSError as error:
            raise FsError(Errno.IO, f"zip archive {self._name}: {error.strerror}") from error
        if version_of(now) != version_of(self._status):
            done = "removed" if now is None else "made" if self._status is None else "changed"
            raise FsError(Errno.STALE, f"zip archive {self._name} was {done} by somebody else")

    # The guest's side

    def stat(self, key: Key) -> Stat:
        return self._tree.stat(key)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        return self._tree.walk(key, names)

    def list(self, key: Key) -> Iterable[DirEntry]:
        return self._tree.list(key)

    def listing_version(self, key: Key) -> int:
        # Every tree counts anew.
        return (self._rollbacks << 64) + self._tree.listing_version(key)

    def open(self, key: Key, write: bool) -> Handle:
        return self._tree.open(key, write)

    def create(self, key: Key) -> Handle:
        return self._tree.create(key)

    def mkdir(self, key: Key) -> None:
        self._tree.mkdir(key)

    def rmdir(self, key: Key) -> None:
        self._tree.rmdir(key)

    def remove(self, key: Key) -> None:
        self._tree.remove(key)

    def rename(self, old: Key, new: Key) -> None:
        self._tree.rename(old, new)

    def symlink(self, target: str, key: Key) -> None:
        self._tree.symlink(target, key)

    def readlink(self, key: Key) -> str:
        return self._tree.readlink(key)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._tree.set_times(key, atim_ns, mtim_ns)


def _real(path: str, name: str) -> str:
    """The path of the file itself. Raises MountError: its directory is missing, or cannot be written to."""
    try:
        real = os.path.realpath(path)
        directory = os.path.dirname(real)
        if not os.path.isdir(directory):
            raise MountError(f"cannot mount zip archive {name}: no such directory; check the path")
    except ValueError as error:  # NUL
        raise MountError(f"cannot mount zip archive {name}: {error}; check the path") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise MountError(
            f"cannot mount zip archive {name} for writing: its directory cannot be written to; mount it read-only"
        )
    return real


def _pieces(staged: Staged) -> Iterator[bytes]:
    buffer = bytearray(_COPY_BYTES)
    at = 0
    while count := staged.read_into(at, buffer):
        check_time("writing the archive")
        yield bytes(buffer[:count])
        at += count


def _matched(nodes: Iterable[tuple[str, Node]], index: ZipIndex) -> list[tuple[Node, Member | None]]:
    """Each node with the member that was made of it. Raises IO: there is none, or another."""
    pairs = []
    directories = {"": index.root}
    for path, node in nodes:
        head, _, name = path.rpartition("/")
        found = directories[head].children.get(name)
        status = node.stat()
        then = None if found is None else found.stat if isinstance(found, Archived) else index.fresh_stat(found)
        if found is None or then is None or (then.filetype, then.size) != (status.filetype, status.size):
            raise FsError(Errno.IO, f"zip member {path!r} was not written as it should be")
        pairs.append((node, index.member(found)))
        if isinstance(found, Archived):
            directories[path] = found
    return pairs
