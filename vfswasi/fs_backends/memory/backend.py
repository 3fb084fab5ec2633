"""Files in memory: a tree of nodes, one store per instance.

Times follow POSIX, except that reading sets none (as with the mount option noatime). Space is charged to objects: a
hard link costs no more than a name, and an unlinked file that is still open costs until its last handle is closed.

One lock per store: several sandboxes on several threads may share it, and a `bytearray` cannot be resized while another
thread copies out of it through a memoryview. Only lookups and small reads go without it (entering it costs as much as
they do): each of their steps is one operation on a dict or a bytearray, which the GIL keeps whole, and they hold no
view. Changes keep to an order in which such a reader meets no gap: a rename shows the new name before it takes the old
one away.

Longer than other files: the class is a store whose methods share one lock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count, islice
from typing import Any, TypeVar

from ...errors import Errno, FsError
from ...printing import counted
from ..base import Caps, DirEntry, FileType, Handle, Key, Stat
from ..turns import give_way
from .by_path import TreeByPath
from .copying import copy_tree
from .file import Directory, File, Link, MemoryHandle, Node, Space, set_node_times
from .filling import fill
from .literal import Symlink as Symlink
from .literal import TooLargeError

_new_tuple = tuple.__new__
_GATHERED_AT_ONCE = 1 << 16
_MADE_ANEW = frozenset({"_space", "_lock", "_root", "_versions"})
T = TypeVar("T")


def _gathered(some: Iterable[T]) -> list[T]:
    left, gathered, before = iter(some), list[T](), -1
    while len(gathered) > before:
        give_way()
        before = len(gathered)
        gathered.extend(islice(left, _GATHERED_AT_ONCE))
    return gathered


class MemoryBackend(TreeByPath):
    """A tree in memory. Give the object to several runs, or mount it twice, and all see the same files.

    Beside what every backend has, its files can be had by path: `tree["a/b"]`, `read_bytes`, `write_bytes`, iteration
    (see `TreeByPath`). It can be pickled and copied, with what it holds at that moment; open files do not go along.
    """

    caps = (
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

    # When it was made for one run or mount, which is the time of all that has none of its own.
    made_ns: int | None = None

    def __init__(
        self, tree: Mapping[str, Any] | None = None, *, max_bytes: int = 128 << 20, max_inodes: int = 1 << 20
    ) -> None:
        """`tree`: names to contents: bytes-like, str (as UTF-8), a mapping (a directory), a `Symlink`; with a time a
        `File`, a `Directory`.

        `max_bytes`: contents of all files, and targets of links, together; `max_inodes`: names, of whatever kind;
        beyond them NOSPC. Raises TypeError and ValueError, naming the path within the tree.
        """
        for name, value in (("max_bytes", max_bytes), ("max_inodes", max_inodes)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"{name} must not be negative")
        if tree is not None and not isinstance(tree, Mapping):
            raise TypeError(f"a tree must be a mapping, not {type(tree).__name__}")
        self._space = Space(max_bytes, max_inodes)
        self._lock = self._space.lock
        self._next = 1
        self._versions = count(1)
        self._root = Directory(self._ident(), self._space.now_ns())
        if tree is not None:
            self._fill(tree)

    def _fill(self, tree: Mapping[str, Any]) -> None:
        try:
            fill(self._root, tree, "", self._root.ctim, self._space, self._ident)
        except RecursionError:
            raise ValueError("the tree is nested too deeply, or contains itself") from None

    @classmethod
    def with_room(cls, tree: Mapping[str, Any], room_bytes: int, made_ns: int | None = None) -> MemoryBackend:
        """The tree, of whatever size, and room for so many bytes more. made_ns: the time of what has none of its own;
        None: now."""
        backend = cls(max_bytes=sys.maxsize, max_inodes=sys.maxsize)
        root = backend._root
        if made_ns is not None:
            root.atim = root.mtim = root.ctim = made_ns
        backend.made_ns = root.ctim
        backend._fill(tree)
        backend.max_bytes = backend.used_bytes + room_bytes
        return backend

    def copy(self) -> MemoryBackend:
        """Another store with the same files, times, links, inode numbers and room. What has no name any more, and is
        only open, is left out. Raises FsError (CANCELED: the time of the run is over)."""
        with self._lock:
            made = MemoryBackend(max_bytes=self._space.max_bytes, max_inodes=self._space.max_inodes)
            made._next, made._versions = self._next, count(next(self._versions))
            copy_tree(self._root, made._root, made._space)
        return made

    def take_times_from(self, now_ns: Callable[[], int]) -> None:
        """Where its times come from, in nanoseconds since 1970, from now on. A copy, and what is unpickled, has those
        of this machine. `now_ns`: gives another object each time, see `File`."""
        self._space.now_ns = now_ns

    @property
    def has_times_of_its_own(self) -> bool:
        """Whether they come from elsewhere than this machine's clock, so that two may be the same."""
        return self._space.now_ns is not time.time_ns

    @property
    def used_bytes(self) -> int:
        """Bytes that count towards `max_bytes`."""
        return self._space.used

    @property
    def max_bytes(self) -> int:
        """Contents of all files, and targets of links, together; may be set."""
        return self._space.max_bytes

    @max_bytes.setter
    def max_bytes(self, count: int) -> None:
        self._space.max_bytes = count

    def _ident(self) -> int:
        ident = self._next
        self._next += 1
        return ident

    def export(self, *, times: bool = False) -> dict[str, Any]:
        """The tree as a literal: files as bytes, directories as dicts, links as `Symlink`; with `times` files as
        `File`, directories as `Directory`."""
        from .snapshot import literal_of

        with self._lock:
            return literal_of(self._root, times)

    def _literal(self, key: Key) -> dict[str, Any]:
        from .snapshot import literal_of

        return literal_of(self._directory(key), False)

    def _graft(self, key: Key, value: Any) -> None:
        where, space = self._directory(key[:-1]), self._space
        now = self._space.now_ns()
        apart = Directory(0, now)
        before = space.used, space.inodes
        try:
            fill(apart, {key[-1]: value}, "".join(f"/{name}" for name in key[:-1]), now, space, self._ident)
        except BaseException as error:
            space.used, space.inodes = before
            if isinstance(error, TooLargeError):
                raise FsError(Errno.NOSPC, str(error)) from None
            if isinstance(error, RecursionError):
                raise ValueError("the tree is nested too deeply, or contains itself") from None
            raise
        if key[-1] in where.entries:
            self._remove_all(key)
        made = where.entries[key[-1]] = apart.entries[key[-1]]
        where.nlink += isinstance(made, Directory)
        where.mtim = where.ctim = now
        where.version = next(self._versions)

    def __getstate__(self) -> dict[str, Any]:
        from .snapshot import nodes_of

        with self._lock:
            kept = {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}
            return {**kept, "tree": nodes_of(self._root), "room": (self._space.max_bytes, self._space.max_inodes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from .snapshot import grown_from

        vars(self).update({name: value for name, value in state.items() if name not in ("tree", "room")})
        self._space = Space(*state["room"])
        self._lock = self._space.lock
        self._versions = count(1)
        self._root = grown_from(state["tree"], self._space, self._versions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {counted(self._space.inodes, 'name')}, {counted(self._space.used, 'byte')}>"

    def _repr_html_(self) -> str:
        """For notebooks: the tree, or its beginning."""
        from .view import html_of

        with self._lock:
            return html_of(repr(self), self._root)

    def _find(self, key: Key) -> Node:
        node: Node = self._root
        for name in key:
            entries = node.entries
            if entries is None:
                raise FsError(Errno.NOTDIR)
            below = entries.get(name)
            if below is None:
                raise FsError(Errno.NOENT)
            node = below
        return node

    def _directory(self, key: Key) -> Directory:
        node: Node | None = self._root
        for name in key:
            assert node is not None
            entries = node.entries
            if entries is None:
                raise FsError(Errno.NOTDIR)
            node = entries.get(name)
            if node is None:
                raise FsError(Errno.NOENT)
        if not isinstance(node, Directory):
            raise FsError(Errno.NOTDIR)
        return node

    def _add(self, key: Key, node: Node) -> Directory:
        directory = self._directory(key[:-1]) if len(key) > 1 else self._root
        if key[-1] in directory.entries:
            raise FsError(Errno.EXIST)
        space = self._space
        if space.inodes >= space.max_inodes:
            raise FsError(Errno.NOSPC, f"more than {counted(space.max_inodes, 'name')} in memory")
        space.inodes += 1
        directory.entries[key[-1]] = node
        directory.mtim = directory.ctim = node.ctim
        directory.version = next(self._versions)
        return directory

    def stat(self, key: Key) -> Stat:
        return self._find(key).stat()

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        node: Node = self._root
        if key:
            try:
                node = self._find(key)
            except FsError as error:
                if error.errno is Errno.NOENT:
                    return 0, None
                raise
        entries = node.entries
        if entries is None:
            raise FsError(Errno.NOTDIR)
        found = 0
        for name in names:
            below = entries.get(name)
            if below is None:
                break
            node = below
            found += 1
            entries = node.entries
            if entries is None:
                break
        return found, node.stat() if found else None

    def list(self, key: Key) -> Iterable[DirEntry]:
        with self._lock:
            entries = self._directory(key).entries
            names, nodes = _gathered(entries), _gathered(entries.values())
        return (
            _new_tuple(DirEntry, (name, node.filetype, node.ident)) for name, node in zip(names, nodes, strict=True)
        )

    def listing_version(self, key: Key) -> int:
        return self._directory(key).version

    def open(self, key: Key, write: bool) -> Handle:
        with self._lock:
            node = self._find(key)
            if isinstance(node, File):
                return MemoryHandle(self._space, node, write)
        raise FsError(Errno.ISDIR if node.filetype is FileType.DIRECTORY else Errno.LOOP)

    def create(self, key: Key) -> Handle:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            ident = self._next
            self._next = ident + 1
            space = self._space
            now_ns = space.now_ns  # a call of what a local name has is quicker than one of an attribute
            file = File(ident, now_ns(), bytearray())
            self._add(key, file)
            return MemoryHandle(space, file, True)

    def mkdir(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.EXIST)
        with self._lock:
            self._add(key, Directory(self._ident(), self._space.now_ns())).nlink += 1

    def symlink(self, target: str, key: Key) -> None:
        if not key:
            raise FsError(Errno.EXIST)
        if "\0" in target:
            raise FsError(Errno.INVAL)
        with self._lock:
            try:
                link = Link(self._ident(), self._space.now_ns(), target)
            except UnicodeEncodeError as error:
                raise FsError(Errno.ILSEQ) from error
            if self._space.used + link.size > self._space.max_bytes:
                raise FsError(Errno.NOSPC, f"more than {counted(self._space.max_bytes, 'byte')} in memory")
            self._add(key, link)
            self._space.used += link.size

    def readlink(self, key: Key) -> str:
        node = self._find(key)
        if not isinstance(node, Link):
            raise FsError(Errno.INVAL)
        return node.target

    def link(self, old: Key, new: Key) -> None:
        with self._lock:
            node = self._find(old)
            if isinstance(node, Directory):
                raise FsError(Errno.PERM)
            if not new:
                raise FsError(Errno.EXIST)
            directory = self._add(new, node)
            node.nlink += 1
            directory.mtim = directory.ctim = node.ctim = self._space.now_ns()

    def rmdir(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.BUSY)
        with self._lock:
            directory = self._directory(key[:-1])
            node = directory.entries.get(key[-1])
            if node is None:
                raise FsError(Errno.NOENT)
            if node.entries is None:
                raise FsError(Errno.NOTDIR)
            if node.entries:
                raise FsError(Errno.NOTEMPTY)
            del directory.entries[key[-1]]
            self._dropped(node, directory)

    def remove(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.ISDIR)
        with self._lock:
            directory = self._directory(key[:-1]) if len(key) > 1 else self._root
            node = directory.entries.get(key[-1])
            if node is None:
                raise FsError(Errno.NOENT)
            if node.entries is not None:
                raise FsError(Errno.ISDIR)
            del directory.entries[key[-1]]
            self._dropped(node, directory)

    def _dropped(self, node: Node, directory: Directory) -> None:
        """Account for `node`, which has just lost its name in `directory`. Every removal comes here; subclasses add."""
        space = self._space
        now_ns = space.now_ns
        now = now_ns()
        directory.mtim = directory.ctim = now
        directory.version = next(self._versions)
        space.inodes -= 1
        if isinstance(node, File):
            node.nlink -= 1
            node.ctim = now
            if not node.handles:
                space.release(node)
            return
        node.ctim = now
        if isinstance(node, Directory):
            directory.nlink -= 1
            node.nlink = 0
            node.mtim = now
        else:
            node.nlink -= 1
            if not node.nlink:
                space.used -= node.size

    def rename(self, old: Key, new: Key) -> None:
        if not old or not new:
            raise FsError(Errno.BUSY)
        with self._lock:
            source = self._directory(old[:-1])
            node = source.entries.get(old[-1])
            if node is None:
                raise FsError(Errno.NOENT)
            into = self._directory(new[:-1])
            replaced = into.entries.get(new[-1])
            if replaced is node:
                return
            if new[: len(old)] == old:
                raise FsError(Errno.INVAL)
            if replaced is not None:
                if isinstance(node, Directory) and not isinstance(replaced, Directory):
                    raise FsError(Errno.NOTDIR)
                if isinstance(replaced, Directory) and not isinstance(node, Directory):
                    raise FsError(Errno.ISDIR)
                if replaced.entries:
                    raise FsError(Errno.NOTEMPTY)
            into.entries[new[-1]] = node
            del source.entries[old[-1]]
            if replaced is not None:
                self._dropped(replaced, into)
            if isinstance(node, Directory):
                source.nlink -= 1
                into.nlink += 1
            now = node.ctim = self._space.now_ns()
            for directory in (source, into):
                directory.mtim = directory.ctim = now
                directory.version = next(self._versions)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            set_node_times(self._find(key), atim_ns, mtim_ns, self._space.now_ns())
