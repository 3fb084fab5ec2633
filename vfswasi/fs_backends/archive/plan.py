"""What every member of an archive becomes, and what is new: the same for all formats.

Nothing is listed for it. What was removed and what got another name is known by its path, and holds for all that is
below, so that a directory of any size costs one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...errors import Errno, FsError
from ..base import FileType
from ..layers.overlay.entries import Entry
from ..waiting import check_time
from .tree import MAX_PATH_BYTES, Directory, Entries, Node, is_path

_COPY_BYTES: Final = 256 << 10
_HEADS_MAX = 4096


class Plan:
    """`entries` applied to an archive whose tree is `top`. Paths have no slashes at their ends; "" is the top.

    members: of the archive, by their numbers. root: the directory of the archive that the paths of the entries start
    in.

    changed: path afterwards -> new contents, or a new time, of what was there before. new: path -> what is new; added:
    the same, parents first. needed: directories without a member of their own that would be lost without one.

    Raises FsError (NOENT, NOTDIR, EXIST, INVAL: the entries do not fit the archive; NAMETOOLONG).
    """

    def __init__(self, top: Directory, members: Entries, entries: Sequence[Entry], root: str = "") -> None:
        self.top = top
        self._members = members
        self._below = f"{root}/" if root else ""
        self._moves: dict[str, str | None] = {}
        self._heads: dict[str, str | None] = {}
        self._origins: dict[str, str] = {}
        self.new: dict[str, Entry] = {}
        self.changed: dict[str, Entry] = {}
        for entry in entries:
            self._take(entry)
        self.added = sorted(self.new.items(), key=lambda pair: pair[0].split("/"))
        self._check()
        self.needed = list(dict.fromkeys(self._emptied()))

    def _take(self, entry: Entry) -> None:
        path = self._path(entry.path)
        if entry.kind in ("removed", "renamed"):
            old = path if entry.kind == "removed" else self._path(entry.old_path or "")
            if not old or find(self.top, old) is None:
                raise FsError(Errno.NOENT, f"the archive has no {old!r}")
            self._moves[old] = None if entry.kind == "removed" else path
            if entry.kind == "renamed":
                self._only(path, self._origins)
                self._origins[path] = old
        elif entry.kind == "added":
            self._only(path, self.new)
            self.new[path] = entry
        else:
            # Contents say more than times.
            if path not in self.changed or entry.kind == "modified":
                self.changed[path] = entry

    def _path(self, path: str) -> str:
        whole = self._below + path if path else self._below[:-1]
        if whole and not is_path(whole):
            too_long = len(whole.encode(errors="replace")) > MAX_PATH_BYTES
            raise FsError(Errno.NAMETOOLONG if too_long else Errno.INVAL, f"no reader takes the name {whole[:200]!r}")
        return whole

    def _only(self, path: str, taken: dict[str, str] | dict[str, Entry]) -> None:
        if not path or path in taken:
            raise FsError(Errno.EXIST, f"{path!r} is made twice")

    def _check(self) -> None:
        for path in (*self._origins, *self.new):
            parent = path.rpartition("/")[0]
            if self.kind_after(parent) is not FileType.DIRECTORY:
                raise FsError(Errno.NOTDIR, f"the archive would have no directory {parent!r}")
        for path, entry in self.new.items():
            if path in self._origins or self.before(path) is not None:
                raise FsError(Errno.EXIST, f"the archive has a {path!r}")
            if entry.link_to is not None and self.kind_after(self._path(entry.link_to)) in (None, FileType.DIRECTORY):
                raise FsError(Errno.NOENT, f"the archive would have no file {entry.link_to!r}")
        for path, old in self._origins.items():
            head, _, name = path.rpartition("/")
            there = f"{self._origin(head)}/{name}" if head else name
            if there != old and find(self.top, there) is not None and self.after(there) == path:
                raise FsError(Errno.EXIST, f"the archive has a {path!r}")
        for path, entry in self.changed.items():
            kind = self.kind_after(path)
            if kind is None:
                raise FsError(Errno.NOENT, f"the archive has no {path!r}")
            if entry.kind == "modified" and (kind is not FileType.REGULAR_FILE or entry.content is None):
                raise FsError(Errno.INVAL, f"{path!r} is no file that could have other contents")

    def after(self, old: str) -> str | None:
        """The path afterwards of what stood at `old` before; None: it is gone."""
        if not self._moves or not old:
            return old
        if old in self._moves:
            return self._moves[old]
        head, slash, name = old.rpartition("/")
        below = self._head_after(head)
        return None if below is None else f"{below}{slash}{name}"

    def _head_after(self, path: str) -> str | None:
        """`after` of a directory, kept for its neighbours: not recursive, and quick where paths are deep."""
        head = path
        while head and head not in self._moves and head not in self._heads:
            head = head.rpartition("/")[0]
        new: str | None = ""
        if head:
            new = self._moves[head] if head in self._moves else self._heads[head]
        if new is not None:
            rest = path[len(head) :]
            new = new + rest if head else path
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        self._heads[path] = new
        return new

    def _origin(self, new: str) -> str:
        """Where what stands at a path afterwards must have been before, if it was there."""
        head = new
        while head:
            if head in self._origins:
                return self._origins[head] + new[len(head) :]
            head = head.rpartition("/")[0]
        return new

    def before(self, new: str) -> str | None:
        """The path before of what stands at `new` afterwards; None: nothing that was there before."""
        old = self._origin(new)
        return old if find(self.top, old) is not None and self.after(old) == new else None

    def kind_after(self, path: str) -> FileType | None:
        """What stands at a path afterwards."""
        if path in self.new:
            return self.new[path].filetype
        old = self.before(path)
        if old is None:
            return None
        node = find(self.top, old)
        return FileType.DIRECTORY if isinstance(node, Directory) else self._members.kind(node or 0)

    def _emptied(self) -> Iterator[str]:
        """Directories that nothing leads to any more but that are there: what was in them has gone elsewhere."""
        filled = {path.rpartition("/")[0] for path in (*self._origins, *self.new)}
        heads = {old.rpartition("/")[0] for old in self._moves}
        for head in sorted(heads):
            node, path = find(self.top, head), self.after(head)
            if not isinstance(node, Directory) or node.number or not path or path in filled:
                continue
            prefix = f"{head}/"
            if all((self.after(prefix + name) or "").rpartition("/")[0] != path for name in node.children):
                yield path
        for path in self.changed:
            old = self.before(path)
            node = None if old is None else find(self.top, old)
            if path and isinstance(node, Directory) and not node.number:
                yield path

    def link_target(self, entry: Entry) -> str:
        """The path in the archive of the file of which `entry` is one more name."""
        return self._path(entry.link_to or "")

    def expected(self) -> Iterator[tuple[str, FileType, int | None]]:
        """(path, kind, size) of all that is to be there; a size of None: any."""
        for old, node in nodes(self.top):
            path = self.after(old)
            if path is None:
                continue
            if isinstance(node, Directory):
                yield path, FileType.DIRECTORY, 0
            else:
                change = self.changed.get(path)
                status = self._members.stat(node)
                modified = change is not None and change.content is not None
                yield path, status.filetype, change.size if change is not None and modified else status.size
        for path, entry in self.added:
            yield path, entry.filetype, entry.size if entry.content is not None else None

    @property
    def new_bytes(self) -> int:
        """Bytes of all new contents."""
        changed = [entry for entry in (*self.new.values(), *self.changed.values()) if entry.content is not None]
        return sum(entry.size for entry in changed)


def pieces(entry: Entry, moved: Callable[[int], None]) -> Iterator[bytes]:
    """The new contents of a file; `moved` is told how many bytes went. Raises IO: they are not as long as they should
    be; STALE."""
    assert entry.content is not None
    handle = entry.content.open()
    try:
        buffer = bytearray(_COPY_BYTES)
        at = 0
        while at < entry.size:
            check_time("writing the archive")
            count = handle.read_into(at, memoryview(buffer)[: min(_COPY_BYTES, entry.size - at)])
            if not count:
                raise FsError(Errno.IO, f"the new contents of {entry.path!r} are shorter than they were")
            moved(count)
            yield bytes(memoryview(buffer)[:count])
            at += count
    finally:
        handle.close()


def find(top: Directory, path: str) -> Node | None:
    """What stands at a path, "" for the top; None: nothing."""
    node: Node = top
    for name in path.split("/") if path else ():
        if not isinstance(node, Directory) or name not in node.children:
            return None
        node = node.children[name]
    return node


def nodes(top: Directory) -> Iterator[tuple[str, Node]]:
    """(path, node) of everything below the top, a directory before what is in it. Not recursive: trees may be deeper
    than Python's stack."""
    todo = [("", top)]
    while todo:
        prefix, directory = todo.pop()
        for name, node in directory.children.items():
            yield prefix + name, node
            if isinstance(node, Directory):
                todo.append((f"{prefix}{name}/", node))
