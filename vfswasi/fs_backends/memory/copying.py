"""A copy of a whole tree in memory."""

from __future__ import annotations

from ..waiting import check_time
from .file import Directory, File, Link, Node, Space, copied


def copy_tree(root: Directory, into: Directory, space: Space) -> None:
    """Put copies of all that is below `root` into another one, whose store has nothing else; hard links stay hard
    links. Both stores are locked by the caller, or nobody else's. Raises FsError (CANCELED)."""
    _copy_attributes(root, into)
    linked: dict[int, Node] = {}
    todo = [(root, into)]  # not recursive: a guest makes trees deeper than Python's stack
    for directory, made in todo:
        for name, node in directory.entries.items():
            check_time("a tree is copied")
            space.inodes += 1
            new = linked.get(id(node))
            if new is None:
                new = _copy(node, space)
                if node.nlink > 1:
                    linked[id(node)] = new
            made.entries[name] = new
            if isinstance(node, Directory) and isinstance(new, Directory):
                todo.append((node, new))


def _copy(node: Node, space: Space) -> Node:
    made: Node
    if isinstance(node, File):
        made = File(node.ident, 0, copied(node.data))
        space.used += len(made.data)
    elif isinstance(node, Link):
        made = Link(node.ident, 0, node.target)
        space.used += made.size
    else:
        made = Directory(node.ident, 0)
    _copy_attributes(node, made)
    return made


def _copy_attributes(node: Node, into: Node) -> None:
    into.nlink = node.nlink
    into.atim, into.mtim, into.ctim = node.atim, node.mtim, node.ctim
    if isinstance(node, Directory) and isinstance(into, Directory):
        into.version = node.version
