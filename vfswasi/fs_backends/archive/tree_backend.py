"""What every read-only archive answers from its tree alone."""

from __future__ import annotations

from ...errors import Errno, FsError, MountError
from ..base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat
from ..charge import Charge
from .tree import LISTED_COST_BYTES, Directory, Entries, Node


class TreeBackend(Backend):
    """The tree below `_root`, whose leaves are numbers of `entries`. Nothing ever changes, so it needs no lock.

    top: of the archive. _place: of the root. _charge: what the tree was taken from, and listings that are kept.
    """

    caps = Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK

    top: Directory
    entries: Entries
    _root: Directory
    _place: Key | None
    _charge: Charge

    @property
    def place(self) -> Key | None:
        return self._place

    def _find(self, key: Key) -> Node:
        node: Node = self._root
        for name in key:
            if not isinstance(node, Directory):
                raise FsError(Errno.NOTDIR)
            found = node.children.get(name)
            if found is None:
                raise FsError(Errno.NOENT)
            node = found
        return node

    def _stat(self, node: Node) -> Stat:
        return node.stat if isinstance(node, Directory) else self.entries.stat(node)

    def stat(self, key: Key) -> Stat:
        return self._stat(self._find(key))

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        if not names:
            return 0, None
        node = self._find(key)
        if not isinstance(node, Directory):
            raise FsError(Errno.NOTDIR)
        count = 0
        found: Node | None = None
        for name in names:
            child = node.children.get(name)
            if child is None:
                break
            count += 1
            found = child
            if not isinstance(child, Directory):
                break
            node = child
        return count, None if found is None else self._stat(found)

    def listing_version(self, key: Key) -> int:
        return 0

    def list(self, key: Key) -> tuple[DirEntry, ...]:
        node = self._find(key)
        if not isinstance(node, Directory):
            raise FsError(Errno.NOTDIR)
        if node.entries is not None:
            return node.entries
        kind = self.entries.kind
        entries = tuple(
            DirEntry(name, FileType.DIRECTORY, child.stat.ident)
            if isinstance(child, Directory)
            else DirEntry(name, kind(child), child)
            for name, child in node.children.items()
        )
        if self._charge.try_take(LISTED_COST_BYTES * len(entries)):
            node.entries = entries
        return entries

    def open(self, key: Key, write: bool) -> Handle:
        node = self._find(key)
        kind = FileType.DIRECTORY if isinstance(node, Directory) else self.entries.kind(node)
        if isinstance(node, Directory) or kind is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        if kind is FileType.SYMBOLIC_LINK:
            raise FsError(Errno.LOOP)
        if write:
            raise FsError(Errno.ROFS)
        if kind is not FileType.REGULAR_FILE:
            raise FsError(Errno.ACCES, "not a file or directory")
        return self._open_member(node)

    def readlink(self, key: Key) -> str:
        """Raises INVAL (not a link), NAMETOOLONG (over 4096 bytes), ILSEQ (no UTF-8, or NUL), IO."""
        node = self._find(key)
        if isinstance(node, Directory) or self.entries.kind(node) is not FileType.SYMBOLIC_LINK:
            raise FsError(Errno.INVAL)
        return self._read_target(node)

    def _open_member(self, number: int) -> Handle:
        """A handle of a regular file. Raises IO, NOMEM."""
        raise NotImplementedError

    def _read_target(self, number: int) -> str:
        """The target of a symbolic link. Raises NAMETOOLONG, ILSEQ, IO."""
        raise NotImplementedError


def rooted(node: Directory, root: str, archive: str) -> Directory:
    """The directory `root`, names with `/` between, below `node`. `archive`: for messages. Raises MountError."""
    path = root.strip("/")
    for name in path.split("/") if path else ():
        child = node.children.get(name)
        if not isinstance(child, Directory):
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


def refused(kind: str, name: str, error: Exception, advice: str) -> Exception:
    """What a failure to read an archive at its mount is for the user: a MountError, or the same error where the run's
    time is over."""
    if isinstance(error, FsError) and error.errno is Errno.CANCELED:
        return error
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FsError) and error.errno is Errno.NOMEM:
        reason = f"what is known of its entries would take more than {error.detail}"
        advice = "raise the limit, or mount a smaller archive"
    return MountError(f"cannot mount {kind} archive {name}: {reason}; {advice}")
