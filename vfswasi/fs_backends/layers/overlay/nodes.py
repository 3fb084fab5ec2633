"""The nodes of an overlay: what is known of the objects that differ from those of the base, or may.

Whatever no node speaks of is as the base has it. A directory's node knows the names that differ: `children` are ours,
`gone` are those that the base has and that are not shown. So a directory that was renamed or removed costs one node,
whatever is below it. A file's node is found by its number as well, since several names of the base may be one file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ....errors import Errno, FsError
from ...base import Backend, Device, FileType, Handle, Key, Stat
from ...staging.space import Staged, StagingSpace
from ...waiting import check_time
from .entries import Content, Was

_new_tuple = tuple.__new__
COPIED_WHOLE_BYTES = 1 << 20  # of a larger file only the pages that are written to are copied
_COPY_BYTES = 256 << 10
_REGULAR_FILE: Final = FileType.REGULAR_FILE  # members take long to look up (0.14 us, Python 3.11)


class Node:
    """base: its key in the base, None if it is new. origin: what the base said of it when it became ours. dated: its
    times were set. Times are None as long as they are those of the base. A new one has the time `now`."""

    __slots__ = ("atim", "base", "ctim", "dated", "ident", "mtim", "nlink", "origin")

    filetype: FileType
    children: dict[str, Node] | None = None  # a dict in directories only, so that a walk need not ask for the class

    def __init__(self, ident: int, base: Key | None, origin: Stat | None, now: int = 0) -> None:
        self.ident = ident
        self.base = base
        self.origin = origin
        self.dated = False
        self.atim: int | None
        self.mtim: int | None
        self.ctim: int | None
        if origin is None:
            self.nlink = 1
            self.atim = self.mtim = self.ctim = now
        else:
            self.nlink = origin.nlink
            self.atim, self.mtim, self.ctim = origin.atim_ns, origin.mtim_ns, origin.ctim_ns

    @property
    def size(self) -> int:
        return 0 if self.origin is None else self.origin.size

    def stat(self) -> Stat:
        return _new_tuple(Stat, (self.filetype, self.size, self.atim, self.mtim, self.ctim, self.nlink, self.ident))

    def set_times(self, atim_ns: int | None, mtim_ns: int | None, now: int) -> None:
        if atim_ns is not None:
            self.atim = atim_ns
        if mtim_ns is not None:
            self.mtim = mtim_ns
        self.ctim = now
        self.dated = True

    def device(self, base: Backend) -> Device | None:
        return None if self.base is None else base.device(self.base)


class DirectoryNode(Node):
    """base: the directory whose names show where nothing of ours is said; None: it has only ours. version: another
    number after each change of its names, unique within the overlay."""

    __slots__ = ("children", "gone", "version")

    filetype = FileType.DIRECTORY
    children: dict[str, Node]

    def __init__(self, ident: int, base: Key | None, origin: Stat | None, version: int, now: int = 0) -> None:
        super().__init__(ident, base, origin, now)
        if origin is None:
            self.nlink = 2
        self.children = {}
        self.gone: dict[str, Was] = {}
        self.version = version

    def place_of(self, name: str) -> Key | None:
        """Where the base has what it shows under `name`."""
        return None if self.base is None else (*self.base, name)

    def changed(self, version: int, now: int) -> None:
        self.mtim = self.ctim = now
        self.version = version

    def link(self, count: int) -> None:
        """So many directories more in it. Stores that do not count them say 1."""
        if self.nlink > 1:
            self.nlink += count


class LinkNode(Node):
    """A symbolic link. target: None as long as it is that of the base."""

    __slots__ = ("target",)

    filetype = FileType.SYMBOLIC_LINK

    def __init__(
        self, ident: int, base: Key | None, origin: Stat | None, target: str | None = None, now: int = 0
    ) -> None:
        super().__init__(ident, base, origin, now)
        self.target = target

    @property
    def size(self) -> int:
        return super().size if self.target is None else len(self.target.encode())


class ObjectNode(Node):
    """A device, FIFO or socket of the base, which can only be moved, removed and dated."""

    __slots__ = ("filetype",)

    filetype: FileType

    def __init__(self, ident: int, base: Key, origin: Stat) -> None:
        super().__init__(ident, base, origin)
        self.filetype = origin.filetype


class Lower:
    """Where the bytes of a file come from that nobody has written to: a file of the base, opened while it is needed."""

    __slots__ = ("_open", "_origin", "of_base", "opened")

    def __init__(self, open_base: Callable[[], Handle], origin: Stat | None, of_base: bool = False) -> None:
        """`origin`: what it must still be like; None: it cannot change, or may. of_base: it is a file of the overlay's
        base."""
        self._open = open_base
        self._origin = origin
        self.of_base = of_base
        self.opened: Handle | None = None

    def copy(self, open_base: Callable[[], Handle] | None) -> Lower:
        """The same, opened once more. `open_base`: in place of its own."""
        return Lower(open_base or self._open, self._origin, self.of_base)

    def handle(self) -> Handle:
        """Raises what `Backend.open` raises, and STALE."""
        if self.opened is None:
            try:
                handle = self._open()
            except FsError as error:
                if error.errno in (Errno.NOENT, Errno.NOTDIR, Errno.ISDIR, Errno.LOOP):
                    raise FsError(Errno.STALE, "the file is not in the base any more") from error
                raise
            try:
                self.check(handle)
            except BaseException:
                handle.close()
                raise
            self.opened = handle
        return self.opened

    def expect(self, origin: Stat) -> None:
        self._origin = origin

    def check(self, handle: Handle) -> None:
        """Raises STALE: somebody else has changed the file since it was first written to here."""
        origin = self._origin
        if origin is not None:
            now = handle.stat()
            if (now.size, now.mtim_ns) != (origin.size, origin.mtim_ns):
                raise FsError(Errno.STALE, "the file was changed in the base after a part of it was written here")

    def fill(self, offset: int, view: memoryview) -> None:
        """As `Under`."""
        handle = self.handle()
        count = handle.read_into(offset, view)
        self.check(handle)
        if count != len(view):
            raise FsError(Errno.STALE, "the file became shorter in the base after a part of it was written here")

    def close(self) -> None:
        handle, self.opened = self.opened, None
        if handle is not None:
            handle.close()


class FileNode(Node):
    """A regular file.

    content: what it has, if it was not read from the base and has not been written to. lower: where its bytes come from
    until all of them were written. staged: what was written, None: nothing. places: its names in the base, as far as
    they are known. in_tree: how many names of ours it has in directories. handles: open ones. before: what the base had
    when it became ours. known: its last `stat`, if its bytes are ours; it holds as long as `ctim` is the very object in
    it, as in `memory.file.File`, and the size and the number of links are the same.
    """

    __slots__ = ("before", "content", "handles", "in_tree", "known", "lower", "places", "relinked", "staged")

    filetype = FileType.REGULAR_FILE
    places: dict[Key, None]

    def __init__(
        self, ident: int, base: Key | None, origin: Stat | None, content: Content | None = None, now: int = 0
    ) -> None:
        # Not by way of the class above: programs make and open more files than anything else.
        self.ident = ident
        self.base = base
        self.origin = origin
        self.dated = False
        if origin is None:
            self.nlink = 1
            self.atim = self.mtim = self.ctim = now
            self.places = _NO_PLACES
        else:
            _, _, self.atim, self.mtim, self.ctim, self.nlink, _ = origin
            self.places = {} if base is None else {base: None}
        self.content = content
        self.staged: Staged | None = None
        self.lower: Lower | None = None
        self.in_tree = 0
        self.relinked = False
        self.before: Was | None = None
        self.known: Stat | None = None
        self.handles: list[OpenFile] = []

    def stat(self) -> Stat:
        ctim = self.ctim  # before anything else is looked at: not everybody who asks has the lock
        staged = self.staged
        size = self.size if staged is None else staged.size
        known = self.known
        if known is not None and known[4] is ctim and known[1] == size and known[5] == self.nlink:
            return known
        known = _new_tuple(Stat, (_REGULAR_FILE, size, self.atim, self.mtim, ctim, self.nlink, self.ident))
        self.known = known
        return known

    @property
    def touched(self) -> bool:
        """Whether it is not simply what the base has at its place."""
        ours = self.staged is not None or self.content is not None
        return ours or self.dated or self.relinked or self.in_tree > 0

    @property
    def written(self) -> bool:
        """Whether its bytes are ours."""
        return self.staged is not None or self.content is not None

    @property
    def size(self) -> int:
        if self.staged is not None:
            return self.staged.size
        if self.content is not None:
            return self.content.size
        return super().size

    def stage(self, space: StagingSpace, keep: bool, fixed: bool) -> Staged:
        """Its contents where they can be written to; without `keep` they may be empty. `fixed`: nobody else changes the
        base. Raises NOSPC, IO, STALE, and what reading the base raises."""
        if self.staged is not None:
            return self.staged
        lower = self.lower
        if not keep or lower is None:
            if lower is not None and self.content is None:
                self._note(lower.handle().stat())
            staged = Staged(space)
        else:
            handle = lower.handle()
            now = handle.stat()
            if self.content is None:
                self._note(now)
                if not fixed:
                    lower.expect(now)
            if now.size > COPIED_WHOLE_BYTES:
                staged = Staged(space, lower.fill, now.size)
            else:
                staged = _copied(space, handle, now.size)
                try:
                    lower.check(handle)
                except BaseException:
                    staged.release()
                    raise
        self.staged = staged
        self.content = self.known = None
        return staged

    def _note(self, now: Stat) -> None:
        """What the base says of it, at the moment from which it is ours."""
        if not self.dated:
            self.atim, self.mtim, self.ctim = now.atim_ns, now.mtim_ns, now.ctim_ns
        if not self.relinked:
            self.nlink = max(now.nlink, 1)  # somebody may have taken its name in the base: here it has it
        self.origin = now

    def become(self, base: Key, found: Stat) -> None:
        """What it is now is in a new base: nothing of it is ours any more, but that it is open. What was staged stays
        for those who have it still."""
        if self.lower is not None:
            self.lower.close()
        self.base, self.origin = base, found
        self.places = {base: None}
        self.staged = self.content = self.before = self.known = None
        self.dated = self.relinked = False
        self.nlink = found.nlink


_NO_PLACES: Final[dict[Key, None]] = {}  # of all new files; nothing is put there


class OpenFile:
    """What a file's node knows of its handles."""

    def moved(self) -> None:
        """Its bytes are somewhere else now."""
        raise NotImplementedError


def now_at(shown: dict[Key, tuple[Key, DirectoryNode]], place: Key) -> Key | None:
    """Where an object of the base is shown that is in no directory of ours; None: nowhere. `shown`: directories of ours
    by what they show of the base, with where they are."""
    for depth in range(len(place) - 1, -1, -1):
        found = shown.get(place[:depth])
        if found is not None:
            where, directory = found
            name = place[depth]
            hidden = name in directory.gone or name in directory.children
            return None if hidden else where + place[depth:]
    return None


def _copied(space: StagingSpace, handle: Handle, size: int) -> Staged:
    staged = Staged(space)
    try:
        buffer = bytearray(min(_COPY_BYTES, max(size, 1)))
        while count := handle.read_into(staged.size, buffer):
            check_time("copying a file before it is changed")
            staged.write(staged.size, memoryview(buffer)[:count])
            if staged.size >= size:
                break
    except BaseException:
        staged.release()
        raise
    return staged
