"""A zip archive or a tar on the local file system that can be written to: an overlay over the archive as it is.

Nothing in the archive changes before `commit`, which writes it anew with what differs (`rewriting`); a commit that
fails leaves the old archive and the differences as they are, so that it can be tried again. The owner of the backend
decides:

    backend.commit()      after a run that ended well
    backend.rollback()    after one that did not: the tree is again that of the last commit
    backend.close()       in the end: what was not committed is gone

Handles that are open go on through a commit. After a rollback they go on as those of files without a name.

Costs. A commit reads and writes the whole archive, whatever was changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final

from ...errors import Errno, FsError
from ..base import Backend, Buffer, Caps, DirEntry, FileType, Handle, Key, Stat
from ..layers.overlay.backend import OverlayBackend
from ..layers.overlay.entries import Entry
from ..layers.overlay.handle import OverlayHandle
from ..layers.overlay.nodes import DirectoryNode, Lower, Node
from ..layers.overlay.tree import Tree
from ..staging.space import MAX_BYTES, MEMORY_BYTES, StagingSpace
from ..waiting import check_time
from .rewriting import ArchiveFile, Progress
from .tar.backend import TarBackend
from .tree import MAX_PATH_BYTES
from .zip.archive import CACHE_BYTES, MAX_ENTRIES

_NUMBERS: Final = 32  # bits of the numbers of one archive's objects


class _Handle(OverlayHandle):
    """Everything under the lock: a commit of another thread replaces what it reads from."""

    def _read_lower(self, lower: Lower) -> None:
        lower.handle()

    def read_into(self, offset: int, buf: Buffer) -> int:
        with self._lock:
            file = self._file
            if file.staged is None and file.lower is not None:
                return file.lower.handle().read_into(offset, buf)
            return super().read_into(offset, buf)

    def size(self) -> int:
        with self._lock:
            return super().size()

    def stat(self) -> Stat:
        with self._lock:
            return super().stat()


class WritableArchive(OverlayBackend):
    """The archive at `path`, which is made by the first commit if there is none.

    root: directory inside the archive that becomes the root of the mount, with `/` between names.
    max_entries: an archive with more is a MountError, making more is NOSPC.
    cache_bytes: the most that is kept of inflated members of a zip archive.
    staging_memory_bytes: the most that is kept in memory of what was written.
    max_staged_bytes: the most that may have been written between two commits, holes included; beyond it NOSPC.
    kind: "zip", "tar"; None: what the file, or for a new one its name, says.

    Raises MountError (no such directory, not writable, corrupt, no such root), TypeError.
    """

    handles = _Handle

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        staging_memory_bytes: int = MEMORY_BYTES,
        max_staged_bytes: int = MAX_BYTES,
        kind: str | None = None,
    ) -> None:
        self._archive = ArchiveFile(path, kind=kind, root=root, max_entries=max_entries, cache_bytes=cache_bytes)
        self._holder = _Holder(self._archive)
        self._generations = count()
        self._max_entries = max_entries
        self._count: int | None = None  # objects there are; None: not counted yet
        self._longest = 0  # bytes of the longest path
        self._closed = False
        self._prefix_bytes = len(f"{self._archive.root}/".encode()) if self._archive.root else 0
        base = self._new_base()
        new = self._archive.status is None
        super().__init__(base, memory_bytes=staging_memory_bytes, max_bytes=max_staged_bytes, private=new)
        self.caps &= ~Caps.DURABLE_WRITES
        if self._archive.kind == "zip":
            self.caps &= ~Caps.HARDLINKS

    @property
    def place(self) -> Key:
        return ("archive", self._archive.path, *(name for name in self._archive.root.split("/") if name))

    def _new_base(self) -> _Base:
        return _Base(self._holder, next(self._generations) << _NUMBERS)

    # The owner's side

    def commit(self, progress: Progress | None = None) -> None:
        """Make the archive hold what the tree holds. Does nothing if nothing was changed.

        Raises what `rewriting.rewrite` raises; the archive is the old one then, and the changes stay staged.
        """
        with self._lock:
            if self._closed:
                raise FsError(Errno.IO, "the backend is closed")
            if not self.changed:
                return
            self._find_names()
            entries = (*self.entries(), *self._changed_directories())
            old, self._archive = self._holder, self._archive.rewritten(entries, progress, self.space.max_bytes)
            self._holder = _Holder(self._archive)
            self.rebase(self._new_base())
            self._forget()
            old.retire()
            self._archive.sync()

    def rollback(self) -> None:
        """Forget what was changed since the last commit."""
        with self._lock:
            tree = self._tree
            if self._closed or not (tree.files or tree.root.children or tree.root.gone):
                return
            for _, file in tree.open_files():
                file.relinked, file.nlink = True, 0
            self.base = self._new_base()
            self._tree = Tree(self.base, tree.fixed, tree.made_anew)
            self._tree.versions, self._tree._idents = tree.versions, tree._idents
            self._tree.root.version = next(tree.versions)
            self._count = None
            self._forget()

    def _forget(self) -> None:
        """What was staged goes with the last who has it: an open file without a name, or a value of changes."""
        space = StagingSpace(self.space.memory_bytes, self.space.max_bytes)
        space.lock = self._lock
        self.space = space

    def finish(self, keep: bool) -> None:
        if keep:
            self.commit()
        else:
            self.rollback()

    def close(self) -> None:
        """Forget what was changed since the last commit, and release the archive."""
        with self._lock:
            if not self._closed:
                self._closed = True
                super().close()
                self._archive.close()

    def _find_names(self) -> None:
        """All names of a file see what was changed through one of them, also those that nobody has looked at."""
        backend, tree = self._archive.backend, self._tree
        if not isinstance(backend, TarBackend) or backend.members is None or not backend.members.linked:
            return
        numbers = {ident & (1 << _NUMBERS) - 1 for ident, file in tree.files.items() if file.touched}
        if not numbers & backend.members.linked:
            return
        for number, group in backend.members.groups().items():
            for index in group if number in numbers else ():
                path = backend.members[index].path or ""
                below = path.encode()[self._prefix_bytes :].decode()
                if path and (not self._prefix_bytes or path.startswith(f"{self._archive.root}/")):
                    place = tuple(below.split("/"))
                    try:
                        tree.shown(self.base.stat(place), place)
                    except FsError:  # another member has the name
                        continue

    def _changed_directories(self) -> Iterator[Entry]:
        """Directories of the archive in which names came and went: their times."""
        todo: list[tuple[str, Node]] = [("", self._tree.root)]
        while todo:
            path, node = todo.pop()
            if not isinstance(node, DirectoryNode):
                continue
            if node.origin is not None and not node.dated and node.mtim != node.origin.mtim_ns:
                yield Entry("attributes", path, FileType.DIRECTORY, mtim_ns=node.mtim)
            todo += [(f"{path}/{name}" if path else name, child) for name, child in node.children.items()]

    # The guest's side: what the format, and those who read it, do not take

    def _room_for(self, key: Key) -> tuple[DirectoryNode, str]:
        found = super()._room_for(key)
        if self._prefix_bytes + _path_bytes(key) > MAX_PATH_BYTES:
            raise FsError(Errno.NAMETOOLONG, "no reader takes a longer name")
        if self._counted() >= self._max_entries:
            raise FsError(Errno.NOSPC, f"more than {self._max_entries} entries")
        self._longest = max(self._longest, _path_bytes(key))
        return found

    def create(self, key: Key) -> Handle:
        with self._lock:
            handle = super().create(key)
            self._count = self._counted() + 1
        return handle

    def _put(self, directory: DirectoryNode, name: str, node: Node) -> None:
        super()._put(directory, name, node)
        self._count = self._counted() + 1

    def _drop(self, directory: DirectoryNode, name: str, node: Node | None, found: Stat | None) -> None:
        before = self._counted()
        super()._drop(directory, name, node, found)
        self._count = before - 1

    def _counted(self) -> int:
        if self._count is None:
            self._count, self._longest = 0, 0
            for length, _ in self._below((), 0):
                self._count += 1
                self._longest = max(self._longest, length)
        return self._count

    def _below(self, key: Key, length: int) -> Iterator[tuple[int, DirEntry]]:
        """(bytes of the path, entry) of everything below a directory whose path has `length` bytes."""
        todo = [(key, length)]
        steps = 0
        while todo:
            at, length = todo.pop()
            for entry in self.list(at):
                steps += 1
                if not steps & 1023:
                    check_time("counting entries")
                inner = length + bool(at) + len(entry.name.encode())
                yield inner, entry
                if entry.filetype is FileType.DIRECTORY:
                    todo.append(((*at, entry.name), inner))

    def symlink(self, target: str, key: Key) -> None:
        if len(target.encode(errors="replace")) > MAX_PATH_BYTES:
            raise FsError(Errno.NAMETOOLONG, "no reader takes a longer target")
        super().symlink(target, key)

    def link(self, old: Key, new: Key) -> None:
        if Caps.HARDLINKS not in self.caps:
            raise FsError(Errno.NOTSUP)
        super().link(old, new)

    def rename(self, old: Key, new: Key) -> None:
        with self._lock:
            grown = _path_bytes(new) - _path_bytes(old)
            self._counted()
            if grown > 0 and self._prefix_bytes + self._longest + grown > MAX_PATH_BYTES:
                longest = _path_bytes(old)
                if self.stat(old).filetype is FileType.DIRECTORY:
                    longest = max((length for length, _ in self._below(old, longest)), default=longest)
                if self._prefix_bytes + longest + grown > MAX_PATH_BYTES:
                    raise FsError(Errno.NAMETOOLONG, "no reader takes a longer name")
            super().rename(old, new)
            self._longest += max(grown, 0)


class WritableZipBackend(WritableArchive):
    """The zip archive at `path`, which is made by the first commit if there is none; otherwise as `WritableArchive`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        staging_memory_bytes: int = MEMORY_BYTES,
        max_staged_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            path,
            root=root,
            max_entries=max_entries,
            cache_bytes=cache_bytes,
            staging_memory_bytes=staging_memory_bytes,
            max_staged_bytes=max_staged_bytes,
            kind="zip",
        )


class _Holder:
    """An archive that is closed with the last file that needs it, once another one has taken its place."""

    def __init__(self, archive: ArchiveFile) -> None:
        self.archive = archive
        self._users = 0
        self._retired = False

    def hold(self, number: int) -> None:
        self._users += number
        if self._retired and not self._users:
            self.archive.close()

    def retire(self) -> None:
        self._retired = True
        self.hold(0)


class _Base(Backend):
    """An archive as what lies below. first: is added to the numbers of its objects, so that no two archives that were
    at the path one after the other have one in common."""

    def __init__(self, holder: _Holder, first: int) -> None:
        self._holder = holder
        self._inner = holder.archive.backend
        self._first = first
        self.caps = self._inner.caps
        self.readlink = self._inner.readlink  # type: ignore[method-assign]
        self.listing_version = self._inner.listing_version  # type: ignore[method-assign]
        if not first:
            self.stat = self._inner.stat  # type: ignore[method-assign]
            self.walk = self._inner.walk  # type: ignore[method-assign]
            self.list = self._inner.list  # type: ignore[method-assign]

    def _numbered(self, found: Stat) -> Stat:
        return found._replace(ident=(found.ident or 0) + self._first)

    def stat(self, key: Key) -> Stat:
        return self._numbered(self._inner.stat(key))

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        number, found = self._inner.walk(key, names)
        return number, None if found is None else self._numbered(found)

    def list(self, key: Key) -> Iterable[DirEntry]:
        first = self._first
        return [entry._replace(ident=(entry.ident or 0) + first) for entry in self._inner.list(key)]

    def open(self, key: Key, write: bool) -> Handle:
        handle = self._inner.open(key, write)
        if self._first:
            status = self._numbered(handle.stat())  # of a member, which stays as it is
            handle.stat = lambda: status  # type: ignore[method-assign]
        handle.close = _counting(handle, self._holder)  # type: ignore[method-assign]
        self._holder.hold(1)
        return handle


def _counting(handle: Handle, holder: _Holder) -> Callable[[], None]:
    def closed() -> None:
        del handle.close  # or it would refer to itself
        try:
            handle.close()
        finally:
            holder.hold(-1)

    return closed


def _path_bytes(key: Key) -> int:
    return sum(len(name.encode()) + 1 for name in key) - 1
