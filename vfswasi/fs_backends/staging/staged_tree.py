"""The tree of an archive that can be changed: names and times in memory, contents where `staged_file` keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import Errno, FsError
from ...printing import counted
from ..archive.tree import MAX_PATH_BYTES
from ..archive.tree import Directory as Archived
from ..archive.tree import Node as ArchivedNode
from ..archive.zip.tree import Member
from ..base import Backend, FileType, Handle, Key
from ..charge import Charge
from ..memory.backend import MemoryBackend
from ..memory.file import Directory, Node, now_ns
from ..waiting import check_time
from .staged_file import ArchivedDirectory, ArchivedFile, ArchivedObject, Base, StagedHandle
from .tree import Staged, StagingSpace

_NODE_COST_BYTES = 560  # of an object of the archive, beside what the archive's own index takes


class StagedTree(MemoryBackend):
    """What `base` holds, with the changes since.

    first_ident: idents start here. time_ns: of what has no time in the archive. max_entries: beyond it NOSPC. charge:
    what the objects are taken from, None if that was done before; its NOMEM goes through.
    """

    link = Backend.link

    def __init__(
        self,
        base: Base | None,
        staging: StagingSpace,
        *,
        first_ident: int,
        time_ns: int,
        max_entries: int,
        charge: Charge | None,
    ) -> None:
        super().__init__()
        self.staging = staging
        self.base = base
        self.changed = False
        self._space.lock = self._lock = staging.lock
        self._next = first_ident
        self._max_entries = max_entries
        self._count = 0
        self._prefix_bytes = 0
        self.top = self._root = Directory(self._ident(), time_ns)
        if base is not None:
            self._load(base, time_ns, charge)

    @property
    def next_ident(self) -> int:
        return self._next

    def _load(self, base: Base, time_ns: int, charge: Charge | None) -> None:
        todo: list[tuple[Directory, Archived]] = [(self.top, base.archive.index.root)]
        while todo:
            directory, archived = todo.pop()
            for name, child in archived.children.items():
                if charge is not None:
                    charge.take(_NODE_COST_BYTES)
                if not self._count & 255:
                    check_time("mounting")
                node = self._loaded(base, child, time_ns)
                directory.entries[name] = node
                self._count += 1
                if isinstance(child, Archived) and isinstance(node, Directory):
                    directory.nlink += 1
                    todo.append((node, child))

    def _loaded(self, base: Base, child: ArchivedNode, time_ns: int) -> Node:
        ident = self._ident()
        index = base.archive.index
        if isinstance(child, Archived):
            mtim = child.stat.mtim_ns
            return ArchivedDirectory(ident, time_ns if mtim is None else mtim, index.member(child))
        member = Member(index, child)
        status = index.fresh_stat(child)
        mtim = status.mtim_ns
        if status.filetype is FileType.REGULAR_FILE:
            file = ArchivedFile(ident, time_ns if mtim is None else mtim)
            file.base, file.member = base, member
            return file
        return ArchivedObject(ident, time_ns if mtim is None else mtim, member)

    def enter(self, names: Key) -> None:
        """Make a directory of the archive the root of all keys. Raises NOENT, NOTDIR."""
        self._root = self._directory(names)
        self._prefix_bytes = sum(len(name.encode()) + 1 for name in names)

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """(path in the archive, node) of everything, a directory before what is in it. Not recursive: trees may be
        deeper than Python's stack."""
        todo = [("", iter(list(self.top.entries.items())))]
        while todo:
            prefix, entries = todo[-1]
            for name, node in entries:
                yield prefix + name, node
                if isinstance(node, Directory):
                    todo.append((f"{prefix}{name}/", iter(list(node.entries.items()))))
                    break
            else:
                todo.pop()

    def detach(self) -> None:
        """Give up the tree: what is still open goes on without a name."""
        for _, node in self.nodes():
            node.nlink = 0
            if isinstance(node, ArchivedFile):
                node.release()

    def adopt(self, base: Base, pairs: list[tuple[Node, Member | None]]) -> None:
        """From now on `base` holds all this, each node in its member."""
        for node, member in pairs:
            if isinstance(node, ArchivedFile) and member is not None:
                node.adopt(base, member)
            elif isinstance(node, ArchivedDirectory) or (isinstance(node, ArchivedObject) and member is not None):
                node.member = member
                node.loaded_mtim = node.mtim
        self.base = base
        self.changed = False

    def open(self, key: Key, write: bool) -> Handle:
        with self._lock:
            node = self._find(key)
            if isinstance(node, ArchivedFile):
                return StagedHandle(self, node, write)
        if node.filetype is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        raise FsError(Errno.LOOP if node.filetype is FileType.SYMBOLIC_LINK else Errno.ACCES)

    def create(self, key: Key) -> Handle:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            file = ArchivedFile(self._ident(), now_ns())
            file.staged = Staged(self.staging)
            file.changed = True
            self._add(key, file)
            return StagedHandle(self, file, True)

    def symlink(self, target: str, key: Key) -> None:
        if len(target.encode(errors="replace")) > MAX_PATH_BYTES:
            raise FsError(Errno.NAMETOOLONG, "no reader takes a longer target")
        super().symlink(target, key)

    def readlink(self, key: Key) -> str:
        with self._lock:
            node = self._find(key)
            if isinstance(node, ArchivedObject) and node.filetype is FileType.SYMBOLIC_LINK and self.base is not None:
                return self.base.archive.readlink(node.member)
        return super().readlink(key)

    def rename(self, old: Key, new: Key) -> None:
        with self._lock:
            grown = _path_bytes(new) - _path_bytes(old)
            if grown > 0 and self._longest_below(old) + grown > MAX_PATH_BYTES:
                raise FsError(Errno.NAMETOOLONG, "no reader takes a longer name")
            super().rename(old, new)
            self.changed = True

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            super().set_times(key, atim_ns, mtim_ns)
            self.changed = True

    def _add(self, key: Key, node: Node) -> Directory:
        parent = self._directory(key[:-1])
        if key[-1] not in parent.entries:
            if self._prefix_bytes + _path_bytes(key) > MAX_PATH_BYTES:
                raise FsError(Errno.NAMETOOLONG, "no reader takes a longer name")
            if self._count >= self._max_entries:
                raise FsError(Errno.NOSPC, f"more than {counted(self._max_entries, 'entry')}")
        directory = super()._add(key, node)
        self._count += 1
        self.changed = True
        return directory

    def _dropped(self, node: Node, directory: Directory) -> None:
        super()._dropped(node, directory)
        self._count -= 1
        self.changed = True
        if isinstance(node, ArchivedFile):
            node.release()

    def _longest_below(self, key: Key) -> int:
        """Bytes of the longest path of all that is at `key` and below."""
        longest = 0
        todo = [(self._prefix_bytes + _path_bytes(key), self._find(key))]
        while todo:
            length, node = todo.pop()
            longest = max(longest, length)
            for name, child in (node.entries or {}).items():
                todo.append((length + 1 + len(name.encode()), child))
        return longest


def _path_bytes(key: Key) -> int:
    return sum(len(name.encode()) + 1 for name in key) - 1
