"""Whether a target is what changes were made on, wherever they touch it. Nothing is written."""

from __future__ import annotations

from ...errors import ConflictError, Errno, FsError, errno_of
from ...fs_backends.base import Backend, Caps, FileType, Handle, Key, Stat
from ...fs_backends.layers.overlay.entries import Content, Was
from ...fs_backends.waiting import check_time
from ...printing import shown
from .comparing import Original, opened, pieces
from .plan import Item, Plan, key_of

_WORDS = {
    FileType.DIRECTORY: "a directory",
    FileType.REGULAR_FILE: "a file",
    FileType.SYMBOLIC_LINK: "a link",
}
_NO_WAY = (Errno.NOENT, Errno.NOTDIR, Errno.LOOP)
_LISTED_MAX = 5


class Checked:
    """What was found: `versions` of files, and `names` of directories that are removed. Both by their names in the
    target."""

    def __init__(self) -> None:
        self.versions: dict[Key, str | None] = {}
        self.names: dict[Key, frozenset[str]] = {}


def check(plan: Plan, target: Backend, original: Original, below: Key = ()) -> Checked:
    """below: the directory in the target that stands for the root of the base. Raises ConflictError with all conflicts,
    and FsError: the target cannot be read."""
    look = _Look(plan, target, original, below)
    for item in plan.items:
        if item.base is not None:
            look.at(item)
    for item in plan.arriving.values():
        look.at_free_place(item)
    raise_if(look.conflicts)
    return look.checked


def raise_if(conflicts: dict[str, str]) -> None:
    """Raises ConflictError if there are any."""
    if not conflicts:
        return
    told = [f"{shown(path or '.')}: {why}" for path, why in list(conflicts.items())[:_LISTED_MAX]]
    more = len(conflicts) - len(told)
    raise ConflictError(
        "the target is not what the changes were made on; nothing was written: "
        + "; ".join(told)
        + (f"; and {more:,} more" if more else ""),
        conflicts,
    )


def check_again(target: Backend, checked: Checked) -> None:
    """As far as it costs little: nothing has changed since. Raises ConflictError."""
    conflicts: dict[str, str] = {}
    for key, version in checked.versions.items():
        check_time("changes")
        try:
            now = target.version(key)
        except FsError as error:
            if error.errno not in _NO_WAY:
                raise
            now = "gone"
        if now != version:
            conflicts["/".join(key)] = "it was changed at this very moment"
    for key, names in checked.names.items():
        try:
            found = frozenset(entry.name for entry in target.list(key))
        except FsError as error:
            if error.errno not in _NO_WAY:
                raise
            found = frozenset()
        if found != names:
            conflicts["/".join(key)] = "it was changed at this very moment"
    raise_if(conflicts)


class _Look:
    def __init__(self, plan: Plan, target: Backend, original: Original, below: Key) -> None:
        self.plan = plan
        self.target = target
        self.original = original
        self.below = below
        self.conflicts: dict[str, str] = {}
        self.checked = Checked()
        self._compared: set[Key] = set()
        self._directories: dict[Key, str | None] = {}

    def at(self, item: Item) -> None:
        """What is there now is what was there."""
        base, was = item.base, item.entry.was
        assert base is not None
        assert was is not None
        if item.is_directory and item.entry.kind == "removed":
            self._removed_directory(base, was)
        elif base not in self._compared or item.is_directory:
            self._same(base, was)

    def _same(self, base: Key, was: Was) -> bool:
        check_time("changes")
        self._compared.add(base)
        why = self._difference(base, was)
        if why is not None:
            self.conflicts.setdefault("/".join(base), why)
        return why is None

    def _difference(self, base: Key, was: Was) -> str | None:
        there = self.below + base
        found, why = self._stat(there)
        if found is None:
            return why
        if found.filetype is not was.filetype:
            return (
                f"it is {_WORDS.get(found.filetype, 'something else')} now, and was {_WORDS.get(was.filetype, 'not')}"
            )
        if found.filetype is FileType.DIRECTORY:
            return None
        if found.size != was.size:
            return f"it has {found.size:,} bytes now, and had {was.size:,}"
        if found.filetype is FileType.REGULAR_FILE:
            self.checked.versions[there] = self.target.version(there)
        return self.original.difference(self.target, there, found, base, was)

    def _stat(self, key: Key) -> tuple[Stat | None, str]:
        why = self._no_directory(key[:-1])
        if why is not None:
            return None, why
        try:
            return self.target.stat(key), ""
        except FsError as error:
            if error.errno not in _NO_WAY:
                raise
            return None, "it is not there any more"

    def _no_directory(self, key: Key) -> str | None:
        """Why nothing can be below `key`. Never through a link: each name on the way is looked at."""
        why: str | None = None
        for depth in range(len(self.below), len(key) + 1):
            at = key[:depth]
            if at in self._directories:
                why = self._directories[at]
            else:
                self._directories[at] = why = why or self._why_none(at)
        return why

    def _why_none(self, key: Key) -> str | None:
        shown_key = shown("/".join(key))
        try:
            found = self.target.stat(key)
        except FsError as error:
            if error.errno not in _NO_WAY:
                raise
            return f"the directory {shown_key}, which it is in, is not there"
        if found.filetype is FileType.DIRECTORY:
            return None
        kind = _WORDS.get(found.filetype, "something else")
        return f"{shown_key}, which it is in, is {kind} and no directory"

    def _removed_directory(self, base: Key, was: Was) -> None:
        """Exactly what was removed is in it."""
        if not self._same(base, was):
            return
        seen: set[str] = set()
        todo: list[tuple[Key, str]] = [(base, "")]
        while todo:
            key, prefix = todo.pop()
            names = [entry.name for entry in self.target.list(self.below + key)]
            self.checked.names[self.below + key] = frozenset(names)
            for name in names:
                child, path = (*key, name), prefix + name
                if child in self.plan.gone:
                    seen.add(path)
                    continue
                expected = was.below.get(path)
                if expected is None:
                    self.conflicts.setdefault("/".join(child), "it was not there when its directory was removed")
                    continue
                seen.add(path)
                if self._same(child, expected) and expected.filetype is FileType.DIRECTORY:
                    todo.append((child, path + "/"))
        for path in sorted(set(was.below) - seen):
            child = (*base, *key_of(path))
            above = [child[:depth] for depth in range(len(base), len(child) + 1)]
            if not any(key in self.plan.gone or "/".join(key) in self.conflicts for key in above[1:]):
                self.conflicts["/".join(child)] = "it is not there any more"

    def at_free_place(self, item: Item) -> None:
        """What arrives has a directory to come to, and nothing is there that would not be gone."""
        key, entry = item.key, item.entry
        if entry.kind == "added" and entry.filetype is FileType.SYMBOLIC_LINK and Caps.SYMLINKS not in self.target.caps:
            self.conflicts["/".join(key)] = "the target can have no symbolic links"
            return
        place = self.plan.before(key, itself=False)
        if place is None or place in self.plan.gone:
            return  # in a new directory, or what is there is looked at as what is gone
        there = self.below + place
        why = self._no_directory(there[:-1])
        if why is None:
            try:
                found = self.target.stat(there)
                why = f"{_WORDS.get(found.filetype, 'something')} is there, which was not there before"
            except FsError as error:
                if error.errno is not Errno.NOENT:
                    raise
        if why is not None:
            self.conflicts.setdefault("/".join(key), why)


def is_there_already(plan: Plan, target: Backend, original: Original, below: Key = ()) -> bool:
    """Whether the target is what the changes lead to, as after `apply`. What cannot be known is not so."""
    there = _There(plan, target, original, below)
    try:
        return all(map(there.is_gone, plan.gone.values())) and all(
            there.has_come(item) for item in plan.items if item.entry.kind != "removed"
        )
    except FsError as error:
        if errno_of(error) in (Errno.CANCELED, Errno.DQUOT):
            raise
        return False


class _There:
    def __init__(self, plan: Plan, target: Backend, original: Original, below: Key) -> None:
        self.plan = plan
        self.target = target
        self.original = original
        self.below = below

    def is_gone(self, item: Item) -> bool:
        assert item.base is not None
        if any(item.base[:depth] in self.plan.arriving for depth in range(1, len(item.base) + 1)):
            return True  # something else has come to this name, which is looked at
        try:
            self.target.stat(self.below + item.base)
        except FsError as error:
            return error.errno in _NO_WAY
        return False

    def has_come(self, item: Item) -> bool:
        check_time("changes")
        entry, there = item.entry, self.below + item.key
        found = self.target.stat(there)
        if found.filetype is not entry.filetype:
            return False
        if entry.kind == "added" and entry.filetype is FileType.SYMBOLIC_LINK and entry.target is not None:
            return self.target.readlink(there) == entry.target
        if entry.filetype is FileType.DIRECTORY:
            return entry.kind != "renamed" or self._is_same_directory(found, entry.was)
        if item.is_name:
            return self._is_name_of(there, found, self.below + self.plan.has_contents(item))
        if entry.content is not None:
            return found.size == entry.content.size and self._has(there, entry.content)
        if item.key in self.plan.rewritten:
            return True  # another entry says what it has
        return self._is_as_it_was(item, there, found)

    def _is_same_directory(self, found: Stat, was: Was | None) -> bool:
        """As far as the store numbers them."""
        if not self.original.is_target or was is None or None in (was.ident, found.ident):
            return True
        return was.ident == found.ident

    def _is_name_of(self, there: Key, found: Stat, source: Key) -> bool:
        other = self.target.stat(source)
        if other.filetype is not found.filetype:
            return False
        if found.ident is not None and found.ident == other.ident:
            return True
        if found.filetype is FileType.SYMBOLIC_LINK:
            return self.target.readlink(there) == self.target.readlink(source)
        with opened(self.target, source) as handle:
            return found.size == other.size and self._are_equal(there, handle)

    def _has(self, there: Key, content: Content) -> bool:
        mine = content.open()
        try:
            return self._are_equal(there, mine)
        finally:
            mine.close()

    def _are_equal(self, there: Key, mine: Handle) -> bool:
        """Of two of one size."""
        with opened(self.target, there) as handle:
            return all(first == second for first, second in zip(pieces(mine), pieces(handle), strict=False))

    def _is_as_it_was(self, item: Item, there: Key, found: Stat) -> bool:
        """But for its name and its times, which are as the changes leave them."""
        entry, was, base = item.entry, item.entry.was, item.base
        if was is None or base is None or found.size != was.size:
            return False
        if was.digest is not None or not self.original.is_target:
            return self.original.difference(self.target, there, found, base, was) is None
        if was.version is not None and self.target.version(there) == was.version:
            return True  # of stores whose versions are those of contents
        mtim_ns = was.mtim_ns if entry.mtim_ns is None else entry.mtim_ns
        return None not in (was.ident, mtim_ns) and (was.ident, mtim_ns) == (found.ident, found.mtim_ns)
