"""`Result.files`: the trees that a run left in memory, by directory and by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from ...fs_backends.memory.backend import MemoryBackend
from ...fs_backends.memory.literal import Symlink

_LINKS_MAX: Final = 40  # as Linux


class Files(dict[str, Any]):
    """Guest directory -> tree: files as bytes, directories as dicts, links as `Symlink`.

    A path of the guest's is a key too, and gives what is there: `files["/out/report.txt"]` is
    `files["/out"]["report.txt"]`; where there is a "/", a relative path begins there. On the way, and at its end,
    links are followed within their tree. Iterating and `len` know the directories alone. Looking up raises KeyError: no
    such file, or a link that leads to nothing.
    """

    def __missing__(self, path: object) -> Any:
        if isinstance(path, str | os.PathLike):
            try:
                return self._found(os.fspath(path))
            except LookupError:
                pass
        raise KeyError(path)

    def __contains__(self, path: object) -> bool:
        try:
            self[path]  # type: ignore[index]
        except (KeyError, TypeError):
            return False
        return True

    def get(self, path: Any, default: Any = None) -> Any:
        """As of a dict, for paths too."""
        try:
            return self[path]
        except KeyError:
            return default

    def _found(self, path: str) -> Any:
        """Raises LookupError."""
        names = _names(path)
        mounts = self._mounts(names)
        if not mounts and dict.__contains__(self, "/") and names:
            names = ("/", *names)  # where relative paths begin then, if no other directory says otherwise
            mounts = self._mounts(names)
        if not mounts:
            raise LookupError
        known, tree = max(mounts, key=lambda mount: len(mount[0]))
        return _below(tree, names[len(known) :])

    def _mounts(self, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
        """Those that the path may lie in, by their names."""
        known = ((_names(name), tree) for name, tree in self.items())
        return [(above, tree) for above, tree in known if names[: len(above)] == above]


def _names(path: str) -> tuple[str, ...]:
    """What leads there; a path from the root begins with "/"."""
    root = ("/",) if path.startswith("/") else ()
    return (*root, *(name for name in path.split("/") if name not in ("", ".")))


def _below(tree: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Raises LookupError: nothing is there."""
    here: list[Any] = [tree]
    todo = list(reversed(names))
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            here.pop()
            if not here:
                raise LookupError
            continue
        if not isinstance(here[-1], dict):
            raise LookupError
        found = here[-1][name]
        if isinstance(found, Symlink):
            links += 1
            if links > _LINKS_MAX or found.target.startswith("/"):
                raise LookupError
            todo.extend(part for part in reversed(found.target.split("/")) if part not in ("", "."))
        else:
            here.append(found)
    return here[-1]


def files_of(trees: Mapping[str, MemoryBackend]) -> Files:
    """What is in the trees now."""
    return Files({name: tree.export() for name, tree in trees.items()})
