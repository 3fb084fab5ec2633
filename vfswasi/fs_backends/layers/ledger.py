"""Where things are that were somewhere else before: a tree of nodes as an overlay has it, for a store that is changed
in place.

The nodes mean what those of an overlay do, the base being the store as it was when each thing was first touched. Only
what they know of what is there *now* comes from the store, once, when all is over (`settle`). Other programs, and other
runs, may change the store as well: what they did is taken for something that was always there, and what contradicts
the ledger is believed to be the store's way.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import AbstractContextManager
from typing import Final, Protocol

from ...errors import Errno, FsError, MountError
from ..base import Backend, Buffer, FileType, Handle, Key, Stat
from ..memory.backend import MemoryBackend
from ..waiting import check_time
from .overlay.nodes import DirectoryNode, FileNode, LinkNode, Node, now_at
from .overlay.numbers import ident_of
from .overlay.tree import Tree, was

# A file that was written to so short a time before it was opened may have the same times with other contents: of stores
# that count whole seconds, or two, and of those that look at the clock at each tick.
_WHOLE_SECONDS_NS: Final = 2_000_000_000
_TICK_NS: Final = 20_000_000
_SECOND_NS: Final = 1_000_000_000
_MISSING: Final = frozenset({Errno.NOENT, Errno.NOTDIR})
_CHECKED_AT_ONCE: Final = 64
_PIECE_BYTES: Final = 1 << 20
_UNKNOWN: Final = Stat(FileType.REGULAR_FILE, 0)  # what the store would not tell of something before it was changed


class Again(Protocol):
    """How to come to the store when the run is over, maybe closed."""

    def at(self, key: Key) -> AbstractContextManager[tuple[Backend, Key]]:
        """The store, for reading, and the key there. Raises MountError."""
        ...


class Here:
    """A store that is not closed."""

    def __init__(self, store: Backend) -> None:
        self._store = store

    def at(self, key: Key) -> AbstractContextManager[tuple[Backend, Key]]:
        return contextlib.nullcontext((self._store, key))


class _File(FileNode):
    """opened: what it was like when it was first opened for writing."""

    __slots__ = ("opened", "opened_ns")

    def __init__(self, ident: int, base: Key | None, origin: Stat | None) -> None:
        super().__init__(ident, base, origin)
        self.opened: Stat | None = None
        self.opened_ns = 0


class Ledger(Tree):
    """Keys are names at the time of the call. `found`: what the store said of what is there, before the change; None:
    it was not to be had."""

    def __init__(self, store: Backend) -> None:
        super().__init__(store, True)
        # Such times are never the same by chance, or at least not the same object.
        innermost = _innermost(store)
        self._exact = type(innermost) is MemoryBackend
        self._by_object = isinstance(innermost, MemoryBackend) and innermost.has_times_of_its_own
        self._looks = 0

    # Finding nodes.

    def directory(self, key: Key) -> DirectoryNode:
        node = self.root
        for name in key:
            below = node.children.get(name)
            if not isinstance(below, DirectoryNode):
                if below is not None:
                    self._forget(node, name)
                place = node.place_of(name)
                if place is None or name in node.gone:
                    below = self.new_directory()  # somebody else made it
                else:
                    below = DirectoryNode(ident_of(place), place, None, 0)
                node.children[name] = below
            node = below
        return node

    def file_at(self, place: Key, found: Stat) -> FileNode:
        ident = ident_of(place) if found.ident is None else found.ident
        file = self.files.get(ident)
        if file is None:
            file = self.files[ident] = _File(ident, place, found)
        file.places[place] = None
        return file

    def _node(self, key: Key, found: Stat) -> tuple[DirectoryNode, str, Node]:
        """What is at `key`: of what was there before it is not said where it stands, unless that was known."""
        directory, name = self.directory(key[:-1]), key[-1]
        node = directory.children.get(name)
        if node is not None and node.filetype is not found.filetype:
            self._forget(directory, name)
            node = None
        place = directory.place_of(name)
        if node is None and (place is None or name in directory.gone):
            node = self._new(found)  # somebody else made it
            self.put_in(directory, name, node)
        elif node is None:
            assert place is not None
            node = self.node_at(place, _plain(found))
        elif node.base is not None and node.origin is None:
            node.origin = _plain(found)
        return directory, name, node

    def _new(self, found: Stat) -> Node:
        if found.filetype is FileType.DIRECTORY:
            return self.new_directory()
        if found.filetype is FileType.SYMBOLIC_LINK:
            return LinkNode(self.new_ident(), None, None)
        return _File(self.new_ident(), None, None)

    def _forget(self, directory: DirectoryNode, name: str) -> None:
        """It is not there any more, and nobody told us."""
        node = directory.children[name]
        if node.origin is None and node.base is not None:
            node.origin = Stat(node.filetype, 0)
        self.take_out(directory, name, node)

    def _add(self, key: Key, node: Node) -> None:
        directory, name = self.directory(key[:-1]), key[-1]
        if name in directory.children:
            self._forget(directory, name)
        self.put_in(directory, name, node)

    # What was done.

    def add_file(self, key: Key) -> None:
        self._add(key, _File(self.new_ident(), None, None))

    def add_directory(self, key: Key) -> None:
        self._add(key, self.new_directory())

    def add_link(self, target: str, key: Key) -> None:
        self._add(key, LinkNode(self.new_ident(), None, None, target))

    def add_name(self, old: Key, new: Key, found: Stat | None) -> None:
        """A hard link."""
        directory, name, node = self._node(old, found or _UNKNOWN)
        if isinstance(node, FileNode):
            node.relinked = True
        else:
            directory.children[name] = node  # there is no other way to come from one name to the other
        self._add(new, node)

    def open_file(self, key: Key, found: Stat) -> None:
        """It is open for writing; `found`: what it was like."""
        node = self._node(key, found)[2]
        if isinstance(node, _File) and node.base is not None and node.opened is None:
            node.opened, node.opened_ns = found, time.time_ns()

    def take_away(self, key: Key, found: Stat | None) -> None:
        """A name was removed, or something else is going to stand there."""
        found = found or _UNKNOWN
        directory, name = self.directory(key[:-1]), key[-1]
        node = directory.children.get(name)
        if node is not None:
            if node.base is not None and node.origin is None:
                node.origin = _plain(found)
            self.take_out(directory, name, node)
        else:
            place = directory.place_of(name)
            if place is None or name in directory.gone:
                return  # it was somebody else's
            if found.filetype is FileType.REGULAR_FILE:
                node = self.files.get(ident_of(place) if found.ident is None else found.ident)
            known = None if node is None else node.origin
            directory.gone[name] = was(_plain(found) if known is None else known)
        if isinstance(node, DirectoryNode) and node.base is not None:
            self.removed[node.base] = node.gone
        if isinstance(node, FileNode) and found.nlink <= 1:
            self.files.pop(node.ident, None)  # another file may get its number

    def move(self, old: Key, new: Key, found: Stat | None, over: Stat | None) -> None:
        """over: what was there in the place of which it is now."""
        source, old_name, node = self._node(old, found or _UNKNOWN)
        into, new_name = self.directory(new[:-1]), new[-1]
        if over is not None or new_name in into.children:
            self.take_away(new, over)
        if source.children.get(old_name) is node:
            self.take_out(source, old_name, node)
        else:
            assert node.origin is not None
            source.gone[old_name] = was(node.origin)
        self.put_in(into, new_name, node)

    def date(self, key: Key, found: Stat | None) -> None:
        """Its times were set."""
        if not key or found is None:
            return
        directory, name, node = self._node(key, found)
        if not isinstance(node, FileNode):
            directory.children[name] = node
        node.dated = True

    # When all is over.

    def settle(self, again: Again) -> None:
        """See what is there now. Raises FsError (CANCELED)."""
        shown: dict[Key, tuple[Key, DirectoryNode]] = {}
        todo: list[tuple[Key, DirectoryNode]] = [((), self.root)]
        while todo:
            where, directory = todo.pop()
            if directory.base is not None:
                shown[directory.base] = where, directory
            for name, node in list(directory.children.items()):
                path = (*where, name)
                is_way = isinstance(node, DirectoryNode) and not node.dated and node.base == directory.place_of(name)
                if (is_way and node.base is not None) or self._see(node, path, again):
                    if isinstance(node, DirectoryNode):
                        todo.append((path, node))
                else:
                    self._forget(directory, name)
        for file in list(self.files.values()):
            if isinstance(file, _File) and (file.opened is not None or file.dated):
                for place in file.places:
                    now = now_at(shown, place)
                    if now is not None and self._see(file, now, again):
                        break

    def _see(self, node: Node, path: Key, again: Again) -> bool:
        """Whether it is there. Raises FsError (CANCELED)."""
        self._looks += 1
        if not self._looks % _CHECKED_AT_ONCE:
            check_time("looking at what was changed")
        try:
            found = self.base.stat(path)
            if isinstance(node, LinkNode) and node.target is None and found.filetype is FileType.SYMBOLIC_LINK:
                node.target = self.base.readlink(path)
        except FsError as error:
            if error.errno is Errno.CANCELED:
                raise
            if error.errno in _MISSING:
                return False
            found = None
        if found is not None:
            if found.filetype is not node.filetype:
                return False
            node.atim, node.mtim = found.atim_ns, found.mtim_ns
        if isinstance(node, _File):
            self._compare(node, path, found, again)
        return True

    def _compare(self, file: _File, path: Key, found: Stat | None, again: Again) -> None:
        """found: what it is like now, None: nobody can tell."""
        if file.content is not None:
            return
        if file.base is None or (file.opened is not None and self._differs(file, file.opened, found)):
            file.content = InStore(again, path, found)
        elif file.dated and found is not None and file.origin is not None:
            file.dated = (found.atim_ns, found.mtim_ns) != (file.origin.atim_ns, file.origin.mtim_ns)

    def _differs(self, file: _File, before: Stat, now: Stat | None) -> bool:
        if now is None or file.dated or _version(before) != _version(now):
            return True  # who sets times may set them back
        if self._exact:
            return self._by_object and before.ctim_ns is not now.ctim_ns
        times = [time for time in (before.mtim_ns, before.ctim_ns) if time is not None]
        if not times:
            return True  # nothing would tell
        latest = max(times)
        return file.opened_ns - latest < (_WHOLE_SECONDS_NS if latest % _SECOND_NS == 0 else _TICK_NS)

    def stat_of(self, file: FileNode, found: Stat | None = None) -> Stat:
        return file.stat()


class InStore:
    """The contents of a file that are where the run has put them, as long as they stay there."""

    def __init__(self, again: Again, key: Key, seen: Stat | None) -> None:
        self.size = 0 if seen is None else seen.size
        self._again = again
        self._key = key
        self._seen = seen

    def open(self) -> Handle:
        """Raises STALE, and what opening it in the store raises."""
        with contextlib.ExitStack() as stack:
            try:
                store, key = stack.enter_context(self._again.at(self._key))
            except MountError as error:
                raise FsError(Errno.IO, f"the store cannot be opened once more: {error}") from error
            try:
                handle = store.open(key, False)
            except FsError as error:
                if error.errno in (Errno.NOENT, Errno.NOTDIR, Errno.ISDIR, Errno.LOOP):
                    raise _stale() from error
                raise
            made = _Reader(handle, self._seen, stack)
            try:
                made.check()
            except BaseException:
                handle.close()
                raise
            made.until = stack.pop_all()
            return made

    def __reduce__(self) -> tuple[type[_Travelled], tuple[bytes]]:
        handle = self.open()
        try:
            data = bytearray(self.size)
            done = 0
            with memoryview(data) as view:
                while done < self.size and (count := handle.read_into(done, view[done : done + _PIECE_BYTES])):
                    done += count
        finally:
            handle.close()
        return _Travelled, (bytes(data),)


class _Reader(Handle):
    """A file that must stay what it was. until: what is to be closed with it."""

    def __init__(self, inner: Handle, seen: Stat | None, until: contextlib.ExitStack) -> None:
        self._inner = inner
        self._seen = seen
        self.until = until

    def check(self) -> None:
        """Raises STALE."""
        seen, now = self._seen, self._inner.stat()
        if seen is None or seen.size != now.size or not _same_time(seen.mtim_ns, now.mtim_ns):
            raise _stale()

    def read_into(self, offset: int, buf: Buffer) -> int:
        count = self._inner.read_into(offset, buf)
        self.check()
        return count

    def stat(self) -> Stat:
        return self._inner.stat()

    def close(self) -> None:
        with self.until:
            self._inner.close()


class _Travelled:
    """Contents that went along when they were pickled."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def open(self) -> Handle:
        store = MemoryBackend({"data": self._data}, max_bytes=self.size)
        return store.open(("data",), False)


def _stale() -> FsError:
    return FsError(Errno.STALE, "the file was changed in its store after the run")


def _same_time(seen: int | None, now: int | None) -> bool:
    """An archive that was written and opened once more has whole seconds."""
    if seen == now:
        return True
    if seen is None or now is None:
        return False
    return now % _SECOND_NS == 0 and abs(now - seen) < _WHOLE_SECONDS_NS


def _version(stat: Stat) -> tuple[int | None, ...]:
    return stat.size, stat.mtim_ns, stat.ctim_ns, stat.ident


def _plain(found: Stat) -> Stat:
    """Without what says nothing: the time of a directory is that of what the run has done in it before."""
    return found._replace(mtim_ns=None) if found.filetype is FileType.DIRECTORY else found


def _innermost(store: Backend) -> Backend:
    while isinstance(inner := getattr(store, "inner", None), Backend):
        store = inner
    return store
