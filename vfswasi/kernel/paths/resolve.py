"""Path resolution: from guest text below a directory descriptor to a key without links.

The path is walked, never edited as text. A stack holds the names between the descriptor's directory and the
current one; `..` pops it, and popping an empty stack is NOTCAPABLE: a path that leaves the directory *of the
descriptor that was used* is refused even if it would come back, and so is an absolute path or link target.
Since links are replaced by what they name as they are met, popping is what `..` means physically.

Each run of plain names goes to `Backend.walk` in one call, so a store that answers deep keys at once pays
one request, and a path without dots and links costs one call.

Source: POSIX.1-2017 4.13 "Pathname Resolution"; path_resolution(7).
"""

from __future__ import annotations

from itertools import count
from typing import Final, NamedTuple

from ...errors import Errno, FsError
from ...fs_backends.base import FileType, Key, Stat
from ...fs_backends.waiting import check_time
from ..descriptor import Mount, OpenDirectory

LINKS_MAX: Final = 40
# Links of 4096 bytes, 40 of them, are 80,000 steps. After so many the run's time is looked at.
_STEPS: Final = 128

# What to do with a symbolic link as the last component:
FOLLOW: Final = 0  # follow it
NOFOLLOW: Final = 1  # follow it only if a slash comes after it
PARENT: Final = 2  # never: the caller adds or removes the name itself

_DOTS: Final = frozenset({"", ".", ".."})

# What a store says to a key that does not lead straight to where it was expected to: ask again, with a walk.
NOT_STRAIGHT: Final = frozenset(
    {Errno.NOENT, Errno.NOTDIR, Errno.LOOP, Errno.EXIST, Errno.ISDIR, Errno.NAMETOOLONG, Errno.ACCES, Errno.PERM}
)
# A member of an enumeration takes as long to look up as the rest of a comparison (Python 3.11).
_LINK: Final = FileType.SYMBOLIC_LINK
_DIRECTORY: Final = FileType.DIRECTORY

Found = tuple[Key, Stat | None, bool, str]  # the fields of a `Lookup`


class Lookup(NamedTuple):
    """Where a path leads. `stat` is None if nothing is there but its parent directory is.

    `slash`: a trailing slash (or `/.`) demands a directory; with PARENT the caller judges that.
    `dots`: the last component as written, if it was `.` or `..`, else "".
    """

    key: Key
    stat: Stat | None
    slash: bool
    dots: str


def lookup(directory: OpenDirectory, path: str, last: int) -> Lookup:
    """Resolve `path` below `directory`; `last` is FOLLOW, NOFOLLOW or PARENT.

    Raises, as the walk meets them: NOENT (empty path, a missing parent, a removed directory), NOTDIR,
    NOTCAPABLE, LOOP, NAMETOOLONG, INVAL, ILSEQ, ACCES, IO.
    """
    return Lookup._make(find(directory, path, last))


def find(directory: OpenDirectory, path: str, last: int) -> Found:
    """`lookup`, for the calls that programs make most: a `Lookup` costs 0.1 us of their 1 to 2."""
    base = directory.inode.key
    mount = directory.mount
    if "/" in path:
        names = tuple(path.split("/"))
        plain = _DOTS.isdisjoint(names)
    else:
        names = (path,)
        plain = path not in _DOTS  # nor is it empty
    if plain and base is not None:
        if len(path) > mount.short:
            _check_names(mount, names)
        if len(base) + len(names) > mount.depth:
            raise FsError(Errno.NAMETOOLONG, "Limits.depth")
        found, stat = mount.backend.walk(base, names)
        if found == len(names):
            if last or stat is None or stat.filetype is not _LINK:
                return base + names, stat, False, ""
        elif found == len(names) - 1 and (stat is None or stat.filetype is _DIRECTORY):
            return base + names, None, False, ""
    if base is None or not path:
        raise FsError(Errno.NOENT)
    return _Walk(directory, base, last).run(path)


def plain_key(directory: OpenDirectory, path: str) -> Key | None:
    """What `path` would name if none of its names is a link; None where it has dots or empty names, and below a
    directory that was removed. Raises NAMETOOLONG."""
    base = directory.inode.key
    if base is None:
        return None
    if "/" in path:
        names = tuple(path.split("/"))
        if not _DOTS.isdisjoint(names):
            return None
    elif path in _DOTS:
        return None
    else:
        names = (path,)
    mount = directory.mount
    if len(path) > mount.short:
        _check_names(mount, names)
    if len(base) + len(names) > mount.depth:
        raise FsError(Errno.NAMETOOLONG, "Limits.depth")
    return base + names


def _check_names(mount: Mount, names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        if len(name) > mount.short and len(name.encode("utf-8", "surrogatepass")) > mount.name_bytes:
            raise FsError(Errno.NAMETOOLONG)


class _Walk:
    """One resolution: `todo` is a stack of names to go, `done` the names already below the base."""

    def __init__(self, directory: OpenDirectory, base: Key, last: int) -> None:
        self.mount = directory.mount
        self.backend = directory.mount.backend
        self.base = base
        self.last = last
        self.done: list[str] = []
        self.todo: list[str] = []
        self.slash = False
        self.links = 0

    def run(self, path: str) -> Lookup:
        dots = self._push(path)
        if dots:
            self.last = FOLLOW  # what comes before the dots is not the last component
        stat: Stat | None = None
        for steps in count():
            if not self.todo:
                break
            if steps % _STEPS == _STEPS - 1:
                check_time("a path")
            if self.todo[-1] == "..":
                self.todo.pop()
                if not self.done:
                    raise FsError(Errno.NOTCAPABLE, "path leaves its directory")
                self.done.pop()
                stat = None
                continue
            run: list[str] = []
            while self.todo and self.todo[-1] != "..":
                run.append(self.todo.pop())
            if len(self.base) + len(self.done) + len(run) > self.mount.depth:
                raise FsError(Errno.NAMETOOLONG, "Limits.depth")
            found, stat = self.backend.walk((*self.base, *self.done), tuple(run))
            if found < len(run) and (stat is None or stat.filetype is FileType.DIRECTORY):
                if found < len(run) - 1 or self.todo or dots:
                    raise FsError(Errno.NOENT)
                return Lookup((*self.base, *self.done, *run), None, self.slash, "")
            self.todo.extend(reversed(run[found:]))
            self.done += run[:found]
            assert stat is not None
            if stat.filetype is FileType.SYMBOLIC_LINK and self._follows():
                self._expand()
                stat = None
            elif stat.filetype is not FileType.DIRECTORY and self.todo:
                raise FsError(Errno.NOTDIR)
        key = (*self.base, *self.done)
        if stat is None:
            stat = self.backend.stat(key)
        if self.slash and self.last != PARENT and stat.filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        return Lookup(key, stat, self.slash, dots)

    def _follows(self) -> bool:
        return bool(self.todo) or self.last == FOLLOW or (self.last == NOFOLLOW and self.slash)

    def _push(self, text: str) -> str:
        """Put the names of a path or link target on the stack; returns its last token if that is dots."""
        tokens = text.split("/")
        if not tokens[0] and len(text):
            raise FsError(Errno.NOTCAPABLE, "absolute path")
        _check_names(self.mount, tokens)
        if not self.todo and tokens[-1] in _DOTS:
            self.slash = True
        self.todo.extend(token for token in reversed(tokens) if token and token != ".")
        written = [token for token in tokens if token]
        return written[-1] if written[-1] in _DOTS else ""

    def _expand(self) -> None:
        """Replace the link on top of `done` by its target."""
        self.links += 1
        if self.links > LINKS_MAX:
            raise FsError(Errno.LOOP)
        target = self.backend.readlink((*self.base, *self.done))
        if not target:
            raise FsError(Errno.NOENT, "empty link target")
        if "\0" in target:
            raise FsError(Errno.INVAL, "NUL in a link target")
        limit = self.mount.path_bytes
        if len(target) > limit or (len(target) > limit // 4 and len(target.encode("utf-8", "surrogatepass")) > limit):
            raise FsError(Errno.NAMETOOLONG)
        self.done.pop()
        self._push(target)
