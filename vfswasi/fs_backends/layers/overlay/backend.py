"""`OverlayBackend`: copy-on-write over any store, which is never touched.

A directory that is renamed or removed costs one node, whatever is below it. A file is copied when it is first written
to, one of more than 1 MiB only in the pages that are written to; until then it is read through the base's own handle.
Numbers of objects are those of the base, also after they were written to; where the base has none they are made of the
names that the objects had in it.

What somebody else changes in the base meanwhile shows through where nothing was changed here. A file of which a part
was copied, and that is another one in the base now (by its size and time), can be read no longer: STALE, never a
mixture of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ....errors import Errno, FsError
from ...base import Backend, Caps, FileType, Handle, Key, Traffic
from ...staging.space import MAX_BYTES, MEMORY_BYTES, Staged, StagingSpace
from .copying import copy_tree
from .entries import Entry, Layer
from .handle import OverlayHandle, Reader
from .naming import Naming
from .nodes import FileNode
from .tree import Tree

# Members of an enumeration take as long to look up as a call (0.14 us, Python 3.11).
_DIRECTORY: Final = FileType.DIRECTORY
_SYMBOLIC_LINK: Final = FileType.SYMBOLIC_LINK
_OWN: Final = (
    Caps.WRITE
    | Caps.RANDOM_WRITE
    | Caps.EMPTY_DIRS
    | Caps.SYMLINKS
    | Caps.HARDLINKS
    | Caps.SET_TIMES
    | Caps.ATOMIC_RENAME
    | Caps.HANDLE_SURVIVES_UNLINK
    | Caps.DURABLE_WRITES
)


class OverlayBackend(Naming):
    """`base`, as if it could be written to.

    changes: what is to be different from the beginning. memory_bytes, max_bytes: the most that is kept in memory of
    what is written, and of it at all; beyond the one in an unnamed file (in `directory`, None: where the system has
    such files), beyond the other NOSPC. private: the base was made for this overlay, nobody else has it. close_base:
    `close` closes it too. now_ns: where the times of what is changed come from.

    Raises FsError: STALE, `changes` do not fit what is there; and what `base` raises.
    """

    handles = OverlayHandle

    def __init__(
        self,
        base: Backend,
        changes: Layer | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        max_bytes: int = MAX_BYTES,
        directory: str | None = None,
        private: bool = False,
        close_base: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.now_ns = now_ns
        self.base = base
        self.fixed = private or Caps.IMMUTABLE in base.caps
        self.caps = _OWN | (base.caps & Caps.DEVICES) | (Caps.NONE if self.fixed else Caps.SHARED)
        self.space = StagingSpace(memory_bytes, max_bytes, directory)
        self._lock = self.space.lock
        self._readers = self.handles is OverlayHandle
        self._close_base = close_base
        self._tree = Tree(base, self.fixed, private, now_ns)
        if changes is not None:
            from .starting import start

            start(self._tree, changes)

    @property
    def depth(self) -> int:
        """How many overlays lie below this one."""
        return self._tree.depth

    @property
    def place(self) -> Key | None:
        return self.base.place

    def entries(self) -> tuple[Entry, ...]:
        """What differs from the base now, in the order of the paths. Contents are those of this moment only as long as
        nothing more is written: of a file that got another size since they are STALE."""
        from .difference import difference

        with self._lock:
            return tuple(difference(self._tree))

    @property
    def changed(self) -> bool:
        """Whether anything differs from the base."""
        tree = self._tree
        touched = tree.root.children or tree.root.gone or any(file.touched for file in tree.files.values())
        return bool(touched and self.entries())

    # Files.

    def open(self, key: Key, write: bool) -> Handle:
        with self._lock:
            node, place = self._tree.locate(key)
            if node is None:
                return self._open_base(place, write)
            if isinstance(node, FileNode):
                try:
                    return self.handles(self, node, write)
                except BaseException:
                    self.closed(node)
                    raise
            kind = node.filetype
        if kind is _DIRECTORY:
            raise FsError(Errno.ISDIR)
        raise FsError(Errno.LOOP if kind is _SYMBOLIC_LINK else Errno.ACCES)

    def _open_base(self, place: Key, write: bool) -> Handle:
        """A file that no directory of ours has. Its own handle says which one it is, so nobody can put another there
        in between."""
        tree = self._tree
        handle: Handle | None
        handle = opened = tree.base.open(place, False)
        try:
            found = opened.stat()
            ident = found.ident
            if not (write or ident is None or ident in tree.files or ident in tree.readers or not self._readers):
                handle = None
                reader = tree.readers[ident] = Reader(self, place, found, opened)
                return reader
            file = tree.file_at(place, found)
            lower = file.lower
            if lower is not None and lower.opened is None and not file.written and file.base == place:
                lower.opened, handle = handle, None
            try:
                return self.handles(self, file, write)
            except BaseException:
                self.closed(file)
                raise
        finally:
            if handle is not None:  # it was open already, or is not needed
                handle.close()

    def create(self, key: Key) -> Handle:
        with self._lock:
            tree = self._tree
            directory, name = self._room_for(key)
            file = FileNode(tree.new_ident(), None, None, None, self.now_ns())
            file.staged = Staged(self.space)
            file.in_tree = 1
            directory.children[name] = file
            directory.mtim = directory.ctim = file.ctim
            directory.version = next(tree.versions)
            return self.handles(self, file, True)

    # Copies, and the end.

    def take_times_from(self, now_ns: Callable[[], int]) -> None:
        """Where the times of what is changed come from, from now on. A copy has those of this machine."""
        self.now_ns = self._tree.now_ns = now_ns

    def copy(self) -> OverlayBackend:
        """Another overlay of the same base, with the same changes, numbers and room. What has no name any more, and is
        only open, is left out. Raises FsError: NOSPC, IO, CANCELED."""
        made = self._empty_copy()
        with self._lock:
            try:
                copy_tree(self._tree, made._tree, made.space)
            except BaseException:
                made.close()
                raise
            made._tree.continues(self._tree)
        return made

    def _empty_copy(self) -> OverlayBackend:
        space = self.space
        return OverlayBackend(
            self.base,
            memory_bytes=space.memory_bytes,
            max_bytes=space.max_bytes,
            directory=space.directory,
            private=self._tree.made_anew,
        )

    def rebase(self, base: Backend) -> None:
        """From now on `base` is what lies below, and it has all that was changed. What is open goes on; what lay below
        before is not closed, since it may be needed for that."""
        with self._lock:
            self._tree = self._tree.over(base)
            self.base = base

    def traffic(self) -> Traffic | None:
        return self.base.traffic()

    def close(self) -> None:
        with self._lock:
            self._tree.adopt_all()
            for file in self._tree.files.values():
                if file.lower is not None:
                    file.lower.close()
        if self._close_base:
            self.base.close()
