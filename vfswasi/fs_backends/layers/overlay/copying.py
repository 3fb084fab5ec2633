"""A copy of an overlay's tree, with everything that was written, over the same base."""

from __future__ import annotations

from ...staging.space import StagingSpace
from .nodes import DirectoryNode, FileNode, LinkNode, Lower, Node, ObjectNode
from .tree import Tree


def copy_tree(old: Tree, made: Tree, space: StagingSpace) -> None:
    """`made`: a tree that is new. Files without a name are left out. Raises NOSPC, IO, CANCELED."""
    made.removed = {place: dict(gone) for place, gone in old.removed.items()}
    known: dict[int, Node] = {id(old.root): made.root}
    _same(old.root, made.root)
    todo: list[tuple[DirectoryNode, DirectoryNode]] = [(old.root, made.root)]
    while todo:
        directory, copy = todo.pop()
        copy.gone, copy.version = dict(directory.gone), directory.version
        for name, node in directory.children.items():
            below = known.get(id(node))
            if below is None:
                below = known[id(node)] = _copied(node, made, space)
            copy.children[name] = below
            if isinstance(node, DirectoryNode) and isinstance(below, DirectoryNode):
                todo.append((node, below))
    for ident, file in old.files.items():
        if file.touched and file.nlink > 0:
            found = known.get(id(file))
            if found is None:
                found = known[id(file)] = _copied(file, made, space)
            assert isinstance(found, FileNode)
            made.files[ident] = found


def _copied(node: Node, made: Tree, space: StagingSpace) -> Node:
    copy: Node
    if isinstance(node, DirectoryNode):
        copy = DirectoryNode(node.ident, node.base, node.origin, node.version)
    elif isinstance(node, LinkNode):
        copy = LinkNode(node.ident, node.base, node.origin, node.target)
    elif isinstance(node, FileNode):
        copy = _copied_file(node, made, space)
    else:
        assert isinstance(node, ObjectNode)
        assert node.base is not None
        assert node.origin is not None
        copy = ObjectNode(node.ident, node.base, node.origin)
    _same(node, copy)
    return copy


def _same(node: Node, copy: Node) -> None:
    copy.atim, copy.mtim, copy.ctim = node.atim, node.mtim, node.ctim
    copy.nlink, copy.dated = node.nlink, node.dated


def _copied_file(file: FileNode, made: Tree, space: StagingSpace) -> FileNode:
    copy = FileNode(file.ident, file.base, file.origin, file.content)
    copy.places, copy.before = dict(file.places), file.before
    copy.in_tree, copy.relinked = file.in_tree, file.relinked
    if file.content is not None:
        copy.lower = Lower(file.content.open, None)
    elif file.lower is not None:
        copy.lower = file.lower.copy(made.opener(copy) if file.lower.of_base else None)
    if file.staged is not None:
        copy.staged = file.staged.copy(space, None if copy.lower is None else copy.lower.fill)
    return copy
