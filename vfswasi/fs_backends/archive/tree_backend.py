"""What every read-only archive answers from its tree alone."""

from __future__ import annotations

from typing import Generic

from ...errors import Errno, FsError, MountError
from ..base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat
from .tree import N


class TreeBackend(Backend, Generic[N]):
    """The tree below `_root`. Nothing ever changes, so it needs no lock."""

    caps = Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK

    _root: N

    def _find(self, key: Key) -> N:
        node = self._root
        for name in key:
            children = node.children
            if children is None:
                raise FsError(Errno.NOTDIR)
            found = children.get(name)
            if found is None:
                raise FsError(Errno.NOENT)
            node = found
        return node

    def stat(self, key: Key) -> Stat:
        return self._find(key).stat

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        if not names:
            return 0, None
        children = self._find(key).children
        if children is None:
            raise FsError(Errno.NOTDIR)
        count = 0
        found: Stat | None = None
        for name in names:
            node = children.get(name)
            if node is None:
                break
            count += 1
            found = node.stat
            children = node.children
            if children is None:
                break
        return count, found

    def listing_version(self, key: Key) -> int:
        return 0

    def list(self, key: Key) -> tuple[DirEntry, ...]:
        node = self._find(key)
        if node.children is None:
            raise FsError(Errno.NOTDIR)
        return node.list()

    def open(self, key: Key, write: bool) -> Handle:
        node = self._find(key)
        kind = node.stat.filetype
        if kind is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        if kind is FileType.SYMBOLIC_LINK:
            raise FsError(Errno.LOOP)
        if write:
            raise FsError(Errno.ROFS)
        if kind is not FileType.REGULAR_FILE:
            raise FsError(Errno.ACCES, "not a file or directory")
        return self._open_member(node)

    def _open_member(self, node: N) -> Handle:
        """A handle of a regular file. Raises IO."""
        raise NotImplementedError


def rooted(node: N, root: str, archive: str) -> N:
    """The directory `root`, names with `/` between, below `node`. `archive`: for messages. Raises MountError."""
    path = root.strip("/")
    for name in path.split("/") if path else ():
        child = (node.children or {}).get(name)
        if child is None or child.children is None:
            reason = "no such directory" if child is None else "not a directory"
            raise MountError(
                f"cannot mount {root!r} of {archive}: {reason} in the archive; "
                "give the name of a directory that it holds"
            )
        node = child
    return node


def link_target(data: bytes | bytearray) -> str:
    """The target of a symbolic link as text. Raises ILSEQ (no UTF-8, or NUL)."""
    try:
        target = data.decode()
    except UnicodeDecodeError as error:
        raise FsError(Errno.ILSEQ, "link target is not UTF-8") from error
    if "\0" in target:
        raise FsError(Errno.ILSEQ, "link target holds NUL")
    return target
