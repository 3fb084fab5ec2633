"""An overlay that begins with changes: its tree is made what they say, without touching the base."""

from __future__ import annotations

from ....errors import Errno, FsError
from ...base import Backend, FileType, Key, Stat
from ...waiting import check_time
from .entries import Entry, Layer, Was
from .nodes import DirectoryNode, FileNode, LinkNode, Lower, Node
from .tree import Tree, was

_READ_BYTES = 1 << 20


def start(tree: Tree, changes: Layer) -> None:
    """Raises FsError: STALE, an entry was made on something else than the base has; INVAL, it makes no sense."""
    entries = changes.entries
    moving: dict[str, Node] = {}
    # Deepest first: what was taken out of a directory that was itself renamed or removed has a name in it no more.
    taken = [entry for entry in entries if entry.kind in ("removed", "renamed")]
    for entry in sorted(taken, key=lambda entry: -_old(entry).count("/")):
        node = _take_out(tree, entry)
        if entry.kind == "renamed":
            moving[entry.path] = node
    placed = [entry for entry in entries if entry.kind in ("renamed", "added")]
    for entry in sorted(placed, key=lambda entry: (entry.link_to is not None, entry.path.count("/"))):
        if entry.link_to is not None:
            continue
        node = moving[entry.path] if entry.kind == "renamed" else _made(tree, entry)
        _put(tree, entry.path, node)
    for entry in entries:
        if entry.kind == "modified":
            _modify(tree, entry)
    for entry in placed:
        if entry.link_to is not None:
            _link(tree, entry)
    for entry in sorted(entries, key=lambda entry: -entry.path.count("/")):
        if entry.kind != "removed" and entry.link_to is None:
            _date(tree, entry)


def _old(entry: Entry) -> str:
    return entry.path if entry.old_path is None else entry.old_path


def _key(path: str) -> Key:
    return tuple(path.split("/"))


def _take_out(tree: Tree, entry: Entry) -> Node:
    place = _key(_old(entry))
    found = _checked(tree, entry, place)
    # In base coordinates: nothing has been put in yet, so the directories on the way are where the base has them.
    directory = tree.directory(place[:-1])
    node = tree.node_at(place, found) if place[-1] not in directory.children else directory.children[place[-1]]
    if place[-1] in directory.children:
        tree.take_out(directory, place[-1], node)
    directory.gone[place[-1]] = was(found) if entry.was is None else entry.was
    if isinstance(node, DirectoryNode):
        directory.link(-1)
    if entry.kind == "removed":
        if isinstance(node, DirectoryNode):
            _remember_below(tree, place, entry.was)
        else:
            _lose_a_name(tree, node, found)
    directory.version = next(tree.versions)
    return node


def _lose_a_name(tree: Tree, node: Node, found: Stat) -> None:
    if not isinstance(node, FileNode):
        tree.relink(node.ident, found.nlink, -1)
        return
    if not node.relinked:  # or another name of it was taken out before
        node.nlink = found.nlink
        node.relinked = True
    node.nlink -= 1
    if node.nlink <= 0:
        tree.files.pop(node.ident, None)


def _remember_below(tree: Tree, place: Key, known: Was | None) -> None:
    for path, each in () if known is None else known.below.items():
        inner = (*place, *path.split("/"))
        tree.removed.setdefault(inner[:-1], {})[inner[-1]] = each
        if each.ident is not None and each.filetype is not FileType.DIRECTORY:  # elsewhere a file has one name only
            check_time("taking out what was removed")
            try:
                found = tree.base.stat(inner)
            except FsError:
                continue  # it has gone by itself
            if found.nlink > 1:
                _lose_a_name(tree, tree.node_at(inner, found), found)


def _checked(tree: Tree, entry: Entry, place: Key) -> Stat:
    """What the base has there. Raises STALE."""
    try:
        found = tree.base.stat(place)
    except FsError as error:
        if error.errno not in (Errno.NOENT, Errno.NOTDIR):
            raise
        raise FsError(Errno.STALE, f"{'/'.join(place)} is not there, and the changes were made on it") from error
    before = entry.was
    if before is not None:
        now = was(found)
        same = (now.filetype, now.size) == (before.filetype, before.size)
        timed = now.filetype is not FileType.DIRECTORY and now.mtim_ns != before.mtim_ns and not tree.made_anew
        if same and timed:
            same = before.digest is not None and before.digest == _digest(tree.base, place, now.filetype)
        if not same:
            raise FsError(Errno.STALE, f"{'/'.join(place)} is not what the changes were made on")
    return found


def _digest(base: Backend, place: Key, kind: FileType) -> str | None:
    if kind is not FileType.REGULAR_FILE:
        return None
    import hashlib

    digest, at, buffer = hashlib.sha256(), 0, bytearray(_READ_BYTES)
    handle = base.open(place, False)
    try:
        while count := handle.read_into(at, buffer):
            check_time("comparing a file with what changes were made on")
            digest.update(memoryview(buffer)[:count])
            at += count
    finally:
        handle.close()
    return digest.hexdigest()


def _made(tree: Tree, entry: Entry) -> Node:
    if entry.filetype is FileType.DIRECTORY:
        return tree.new_directory()
    if entry.filetype is FileType.SYMBOLIC_LINK and entry.target is not None:
        return LinkNode(tree.new_ident(), None, None, entry.target, tree.now_ns())
    if entry.filetype is FileType.REGULAR_FILE and entry.content is not None:
        file = FileNode(tree.new_ident(), None, None, entry.content, tree.now_ns())
        file.lower = Lower(entry.content.open, None)
        return file
    raise FsError(Errno.INVAL, f"{entry.path} cannot be made of nothing")


def _put(tree: Tree, path: str, node: Node) -> None:
    key = _key(path)
    directory = tree.directory(key[:-1])
    if tree.existing(directory, key[-1]) != (None, None):
        raise FsError(Errno.STALE, f"{path} is there already")
    tree.put_in(directory, key[-1], node)
    directory.link(isinstance(node, DirectoryNode))
    directory.version = next(tree.versions)
    if isinstance(node, FileNode) and node.base is not None:
        tree.files[node.ident] = node


def _modify(tree: Tree, entry: Entry) -> None:
    if entry.content is None:
        raise FsError(Errno.INVAL, f"{entry.path} has no contents")
    key = _key(entry.path)
    node, place = tree.locate(key)
    if node is None:
        node = tree.node_at(place, _checked(tree, entry, place))
    if not isinstance(node, FileNode):
        raise FsError(Errno.STALE, f"{entry.path} is no file")
    tree.touch(node)
    node.content = entry.content
    node.lower = Lower(entry.content.open, None)


def _link(tree: Tree, entry: Entry) -> None:
    assert entry.link_to is not None
    key = _key(entry.link_to)
    node, place = tree.locate(key)
    if node is None:
        node = tree.node_at(place, tree.base.stat(place))
    if not isinstance(node, FileNode):
        raise FsError(Errno.STALE, f"{entry.link_to} is no file")
    if not node.relinked:
        node.nlink = tree.stat_of(node).nlink
        node.relinked = True
    node.nlink += 1
    tree.files[node.ident] = node
    _put(tree, entry.path, node)


def _date(tree: Tree, entry: Entry) -> None:
    """Its times, whatever was done to it or in it before."""
    key = _key(entry.path)
    node, place = tree.locate(key)
    if node is None:
        found = tree.base.stat(place)
        if found.filetype is FileType.DIRECTORY:
            node = tree.directory(key)
        else:
            node = tree.node_at(place, found)
            if isinstance(node, FileNode):
                tree.files[node.ident] = node
            else:
                tree.directory(key[:-1]).children[key[-1]] = node
    node.atim, node.mtim = entry.atim_ns, entry.mtim_ns
    if entry.kind == "attributes":
        node.dated = True
