"""Trees of files as flat tables, from what runs leave and from directories of this machine.

A table has every file, link and empty directory by its path; other directories are there because of what is in them.
On disk some names are written otherwise, because git would leave such files out or act on them: the dot of what begins
with `.git` is `%2E`, and `%` is `%25` where two digits follow that would be read so. An empty directory has a file
`.gitkeep`, since git knows no empty ones.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from vfswasi import Directory, File, Symlink

EMPTY: Final = None  # a directory with nothing in it
KEEPER: Final = ".gitkeep"
_ESCAPED: Final = re.compile("%([0-9A-Fa-f]{2})")
_DEPTH_MAX: Final = 300

Node: TypeAlias = bytes | Symlink | None
Table: TypeAlias = dict[str, Node]


def table_of(tree: Mapping[Any, Any]) -> Table:
    """Of a literal, or of `Result.files`, whose guest directories become one tree. Raises TypeError, ValueError."""
    made: Table = {}
    for name, value in tree.items():
        if isinstance(name, str) and isinstance(value, Mapping):
            # It may be a directory of the guest's, such as "/out" or ".."; dots lead nowhere here.
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            _add(made, "/".join(parts), value, 0)
        else:
            _add(made, "", {name: value}, 0)
    for path in list(made):
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            made.pop(above, None)  # an empty directory, or what a mount of the guest's hides
    return made


def _add(made: Table, above: str, tree: Mapping[Any, Any], depth: int) -> None:
    if above and not tree:
        made.setdefault(above, EMPTY)
    if depth > _DEPTH_MAX:
        raise ValueError(f"a tree has more than {_DEPTH_MAX} directories within each other")
    for name, value in tree.items():
        if not isinstance(name, str):
            raise TypeError(f"a name of a file must be a str, not {type(name).__name__}")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or (not parts and "/" not in name) or "\0" in name:
            raise ValueError(f"{name!r} is no name of a file")
        path = "/".join([above, *parts] if above else parts)
        if isinstance(value, Directory):
            value = value.tree
        elif isinstance(value, File):
            value = value.contents
        if isinstance(value, Mapping):
            _add(made, path, value, depth + 1)
        elif isinstance(value, str):
            made[path] = value.encode("utf-8", "surrogatepass")
        elif isinstance(value, bytes | bytearray | memoryview):
            made[path] = bytes(value)
        elif isinstance(value, Symlink):
            made[path] = Symlink(value.target)
        else:
            raise TypeError(f"{path}: a tree holds bytes, str, dicts and Symlink, not {type(value).__name__}")


def name_on_disk(name: str) -> str:
    """Of a file of the guest's."""
    name = _ESCAPED.sub(lambda found: f"%25{found[1]}", name)
    return f"%2E{name[1:]}" if name[:4].lower() == ".git" else name


def _name_in_tree(name: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1].upper() in ("2E", "25") else found[0], name)


class _Found(NamedTuple):
    path: str  # in the tree
    place: Path
    status: os.stat_result


class FromDisk:
    """A directory of this machine. No link in it is followed."""

    def __init__(self, place: Path, escaped: bool = False) -> None:
        """escaped: names in it are as `name_on_disk` makes them."""
        self._place, self._escaped = place, escaped

    def table(self) -> Table:
        """Raises OSError, ValueError: there is what is neither a file, a link nor a directory."""
        made: Table = {}
        for path, place, status in self._walk("", self._place):
            if stat.S_ISLNK(status.st_mode):
                made[path] = Symlink(os.readlink(place))
            elif stat.S_ISREG(status.st_mode):
                made[path] = place.read_bytes()
            elif stat.S_ISDIR(status.st_mode):
                made[path] = EMPTY
            else:
                raise ValueError(f"{place} is neither a file, a link nor a directory")
        return made

    def literal(self) -> dict[str, Any]:
        """As `vfswasi.run` takes it. Raises as `table`."""
        made: dict[str, Any] = {}
        for path, node in self.table().items():
            *above, name = path.split("/")
            tree = made
            for part in above:
                tree = tree.setdefault(part, {})
            tree[name] = {} if node is EMPTY else node
        return made

    def modes(self) -> dict[str, int]:
        """Permissions of its files."""
        walk = self._walk("", self._place)
        return {path: stat.S_IMODE(status.st_mode) for path, _, status in walk if stat.S_ISREG(status.st_mode)}

    def _walk(self, above: str, place: Path) -> Iterator[_Found]:
        """Files, links, empty directories, and whatever else there is, but no other directories."""
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if self._escaped and entry.name == KEEPER:
                continue
            name = _name_in_tree(entry.name) if self._escaped else entry.name
            path = f"{above}/{name}" if above else name
            if entry.is_dir(follow_symlinks=False):
                below = list(self._walk(path, Path(entry.path)))
                yield from below or [_Found(path, Path(entry.path), entry.stat(follow_symlinks=False))]
            else:
                yield _Found(path, Path(entry.path), entry.stat(follow_symlinks=False))
