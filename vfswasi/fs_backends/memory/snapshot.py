"""A tree in memory as plain values: as a literal, and as what is pickled and copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..turns import give_way
from . import literal
from .file import Directory, File, Link, Node, Space, copied


def literal_of(root: Directory, times: bool) -> dict[str, Any]:
    """`times`: with the time of the last change of everything but the root."""
    tree: dict[str, Any] = {}
    # Not recursive: a guest makes trees deeper than Python's stack.
    todo = [(root, tree)]
    for directory, made in todo:
        give_way()
        for name, node in directory.entries.items():
            if isinstance(node, Directory):
                below: dict[str, Any] = {}
                made[name] = literal.Directory(below, _seconds(node)) if times else below
                todo.append((node, below))
            elif isinstance(node, File):
                made[name] = literal.File(bytes(node.data), _seconds(node)) if times else bytes(node.data)
            elif isinstance(node, Link):
                made[name] = literal.Symlink(node.target, _seconds(node) if times else None)
    return tree


def _seconds(node: Node) -> float:
    whole, rest = divmod(node.mtim, 1_000_000_000)
    return whole + rest / 1e9 if rest else whole


def nodes_of(root: Directory) -> list[tuple[str, int, int, int, int, Any]]:
    """Every node once, however many names it has: (kind, ident, atim, mtim, ctim, contents), the root first. A
    directory has names and the places of its nodes. The list is flat: a nested one would end pickle's recursion."""
    nodes: list[Node] = [root]
    places = {id(root): 0}
    values: list[tuple[str, int, int, int, int, Any]] = []
    for node in nodes:
        give_way()
        value: Any
        if isinstance(node, Directory):
            value = {}
            for name, below in node.entries.items():
                if id(below) not in places:
                    places[id(below)] = len(nodes)
                    nodes.append(below)
                value[name] = places[id(below)]
        elif isinstance(node, File):
            value = bytes(node.data)
        else:
            assert isinstance(node, Link)
            value = node.target
        values.append((type(node).__name__, node.ident, node.atim, node.mtim, node.ctim, value))
    return values


def grown_from(values: list[tuple[str, int, int, int, int, Any]], space: Space, versions: Iterator[int]) -> Directory:
    """The root of a tree that is what `nodes_of` has told of another one; what it takes is charged to `space`."""
    nodes: list[Node] = []
    for kind, ident, _, _, ctim, value in values:
        if kind == "Directory":
            nodes.append(Directory(ident, ctim))
        elif kind == "File":
            nodes.append(File(ident, ctim, copied(value)))
            space.used += len(value)
        else:
            link = Link(ident, ctim, value)
            nodes.append(link)
            space.used += link.size
    names = [0] * len(nodes)
    for node, (_, _, atim, mtim, _, value) in zip(nodes, values, strict=True):
        node.atim, node.mtim = atim, mtim
        if not isinstance(node, Directory):
            continue
        node.version = next(versions)
        for name, place in value.items():
            below = node.entries[name] = nodes[place]
            names[place] += 1
            node.nlink += isinstance(below, Directory)
        space.inodes += len(value)
    for node, count in zip(nodes, names, strict=True):
        if not isinstance(node, Directory):
            node.nlink = count
    root = nodes[0]
    assert isinstance(root, Directory)
    return root
