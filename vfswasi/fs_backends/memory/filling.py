"""From the literal of a tree to nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .file import Directory, File, Link, Node, Space, copied
from .literal import Directory as DirectoryLiteral
from .literal import File as FileLiteral
from .literal import Symlink, TooLargeError, check_name, check_target, encoded, time_ns


def fill(
    directory: Directory, tree: Mapping[str, Any], where: str, now: int, space: Space, next_ident: Callable[[], int]
) -> None:
    """Put what `tree` holds into a directory. where: its path, for messages. now: the time for what has none.

    Raises TypeError and ValueError, naming the path within the tree; RecursionError.
    """
    for name, value in tree.items():
        path = f"{where}/{name}"
        check_name(name, path)
        space.inodes += 1
        if space.inodes > space.max_inodes:
            raise TooLargeError(f"{path}: the tree has more names than max_inodes={space.max_inodes}")
        mtim = None
        if isinstance(value, FileLiteral):
            mtim, value = time_ns(value.mtime), value.contents
        elif isinstance(value, DirectoryLiteral):
            mtim, value = time_ns(value.mtime), value.tree
        if isinstance(value, str):
            value = encoded(value, path)
        made: Node
        if isinstance(value, bytes | bytearray | memoryview):
            space.used += value.nbytes if isinstance(value, memoryview) else len(value)
            if space.used > space.max_bytes:
                raise TooLargeError(f"{path}: the tree is larger than max_bytes={space.max_bytes}")
            made = File(next_ident(), now, copied(value))
        elif isinstance(value, Symlink):
            check_target(value.target, path)
            made = link = Link(next_ident(), now, value.target)
            space.used += link.size
            mtim = time_ns(value.mtime)
        elif isinstance(value, Mapping):
            made = below = Directory(next_ident(), now)
            directory.nlink += 1
            fill(below, value, path, now, space, next_ident)
        else:
            raise TypeError(f"{path}: a file must be bytes or str, a directory a dict, not {type(value).__name__}")
        if mtim is not None:
            made.atim = made.mtim = mtim
        directory.entries[name] = made
