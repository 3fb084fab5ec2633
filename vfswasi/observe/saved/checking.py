"""Whether entries fit each other: what comes out of a file may have been made by anybody.

Names are looked at in two trees: those of the base, where things were removed and moved away, and those afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...fs_backends.base import FileType
from ...fs_backends.charge import Charge
from ...fs_backends.layers.overlay.entries import Entry, Was
from ...fs_backends.waiting import check_time
from .fields import Wrong

PATH_MAX_BYTES: Final = 64 << 10
TARGET_MAX_BYTES: Final = 4096
_NAME_MAX_BYTES = 255
_NODE_COST_BYTES = 250  # with its place in its parent

_MADE = (FileType.DIRECTORY, FileType.REGULAR_FILE, FileType.SYMBOLIC_LINK)


class _Name:
    """born: what is new there, or has come there. changed: what has other contents or times. gone, moved: of the base's
    tree, what was removed, or has gone elsewhere."""

    __slots__ = ("born", "changed", "children", "gone", "moved")

    def __init__(self) -> None:
        self.children: dict[str, _Name] | None = None
        self.born: Entry | None = None
        self.changed: Entry | None = None
        self.gone: Entry | None = None
        self.moved: Entry | None = None


# Where something was in the base: the place of what holds it, and its name; or the whole path.
_Origin = tuple["_Origin | None", str] | str


def check(entries: Iterable[Entry], charge: Charge) -> None:
    """Raises Wrong, and FsError: NOMEM (`charge` has no more), CANCELED."""
    before, after = _Name(), _Name()
    links: list[Entry] = []
    for number, entry in enumerate(entries):
        if not number & 255:
            check_time("looking at changes")
        check_entry(entry)
        _put(entry, before, after, charge)
        if entry.link_to is not None:
            links.append(entry)
    _check_before(before)
    _check_after(before, after)
    for entry in links:
        _check_link(entry, before, after)


# One entry


def check_entry(entry: Entry) -> None:
    """Whether its own fields fit each other. Raises Wrong."""
    kind, filetype, was = entry.kind, entry.filetype, entry.was
    if entry.path or kind != "attributes":
        check_path(entry.path)
    for path in (entry.old_path, entry.link_to):
        if path is not None:
            check_path(path)
    if entry.target is not None:
        _check_target(entry.target, entry.path)
    if kind == "added":
        if was is not None or entry.old_path is not None:
            raise _wrong(entry, "is new and was there before")
        if filetype not in _MADE:
            raise _wrong(entry, "is new and neither a file, a directory nor a link")
    elif was is None:
        raise _wrong(entry, "does not say what was there")
    elif was.filetype is not filetype:
        raise _wrong(entry, "is of another type than what was there")
    else:
        _check_was(was, entry)
    if kind == "modified" and filetype is not FileType.REGULAR_FILE:
        raise _wrong(entry, "has other contents and is no file")
    if entry.old_path is not None and kind == "removed":
        raise _wrong(entry, "was removed and has an old name")
    if (kind == "renamed") and (entry.old_path is None or entry.old_path == entry.path):
        raise _wrong(entry, "was renamed and has no other old name")
    _check_contents(entry)


def _check_contents(entry: Entry) -> None:
    is_new, filetype = entry.kind == "added", entry.filetype
    if entry.link_to is not None and not (is_new and filetype is not FileType.DIRECTORY):
        raise _wrong(entry, "cannot be another name of a file")
    wants_content = entry.kind == "modified" or (is_new and filetype is FileType.REGULAR_FILE and entry.link_to is None)
    wants_target = is_new and filetype is FileType.SYMBOLIC_LINK and entry.link_to is None
    if (entry.content is not None) != wants_content:
        raise _wrong(entry, "has no contents" if wants_content else "has contents that it cannot have")
    if (entry.target is not None) != wants_target:
        raise _wrong(entry, "leads nowhere" if wants_target else "is no new link and has a target")
    if entry.content is not None and entry.content.size != entry.size:
        raise _wrong(entry, f"has {entry.content.size:,} bytes of contents and says {entry.size:,}")


def _check_was(was: Was, entry: Entry) -> None:
    if was.below and (entry.kind != "removed" or was.filetype is not FileType.DIRECTORY):
        raise _wrong(entry, "has something below it that was removed")
    for path, below in was.below.items():
        check_path(path)
        parent = path.rpartition("/")[0]
        if parent and (parent not in was.below or was.below[parent].filetype is not FileType.DIRECTORY):
            raise _wrong(entry, f"had {path!r} in what is no directory")
        if below.below:
            raise _wrong(entry, "says twice what was below it")


def check_path(path: str) -> None:
    """Names with `/` between them, each as a key has it (see `fs_backends.base`). Raises Wrong."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise Wrong(f"the path {_short(path)} is not valid Unicode") from None
    if size > PATH_MAX_BYTES:
        raise Wrong(f"the path {_short(path)} has more than {PATH_MAX_BYTES:,} bytes")
    for name in path.split("/"):
        if name in ("", ".", ".."):
            raise Wrong(f"the path {_short(path)} has a part {name!r}")
        if "\0" in name:
            raise Wrong(f"the path {_short(path)} has a NUL in it")
        if len(name) * 4 > _NAME_MAX_BYTES and len(name.encode()) > _NAME_MAX_BYTES:
            raise Wrong(f"the path {_short(path)} has a name of more than {_NAME_MAX_BYTES} bytes")


def _check_target(target: str, path: str) -> None:
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        raise Wrong(f"the target of the link {_short(path)} is not valid Unicode") from None
    if "\0" in target or not 0 < size <= TARGET_MAX_BYTES:
        raise Wrong(f"the target of the link {_short(path)} is empty, too long, or has a NUL in it")


# All of them together


def _put(entry: Entry, before: _Name, after: _Name, charge: Charge) -> None:
    if entry.kind == "removed":
        node = _node(before, entry.path, charge)
        if node.gone or node.moved:
            raise _wrong(entry, "stands twice among what was removed or renamed")
        node.gone = entry
        return
    node = _node(after, entry.path, charge)
    if entry.kind in ("added", "renamed"):
        if node.born:
            raise _wrong(entry, "stands twice among what is new")
        node.born = entry
    else:
        if node.changed:
            raise _wrong(entry, "stands twice among what has changed")
        node.changed = entry
    if entry.kind == "renamed" and entry.old_path is not None:
        old = _node(before, entry.old_path, charge)
        if old.gone or old.moved:
            raise _wrong(entry, "comes from where something was removed or renamed already")
        old.moved = entry


def _node(tree: _Name, path: str, charge: Charge) -> _Name:
    for name in path.split("/") if path else ():
        if tree.children is None:
            tree.children = {}
        found = tree.children.get(name)
        if found is None:
            charge.take(_NODE_COST_BYTES)
            found = tree.children[name] = _Name()
        tree = found
    return tree


def _check_before(before: _Name) -> None:
    """What was removed or has moved has something below it only where it was a directory; what went with a directory
    that was removed is not removed a second time."""
    todo: list[tuple[_Name, Entry | None]] = [(before, None)]
    while todo:
        node, within = todo.pop()
        for child in (node.children or {}).values():
            here = child.gone or child.moved
            if child.gone and within:
                raise _wrong(child.gone, f"was removed with {_short(within.path)} already")
            if here and child.children and here.filetype is not FileType.DIRECTORY:
                raise _wrong(here, "was no directory, and something below it has changed")
            todo.append((child, child.gone or (None if child.moved else within)))


def _check_after(before: _Name, after: _Name) -> None:
    if after.changed and after.changed.filetype is not FileType.DIRECTORY:
        raise Wrong("the mount itself is no directory")
    todo: list[tuple[_Name, _Name | None, _Origin | None, bool]] = [(after, before, None, False)]
    seen = 0
    while todo:
        node, base, origin, is_new = todo.pop()
        seen += 1
        if not seen & 255:
            check_time("looking at changes")
        for name, child in (node.children or {}).items():
            state = _below(name, child, before, base, origin, is_new)
            if isinstance(state, str):
                raise Wrong(f"{_short(_first_path(child))}: {state}")
            _check_changed(child, state[1], state[2])
            known = child.born or child.changed
            if child.children and known and known.filetype is not FileType.DIRECTORY:
                raise _wrong(known, "is no directory, and something below it has changed")
            todo.append((child, *state))


def _below(
    name: str, child: _Name | None, before: _Name, base: _Name | None, origin: _Origin | None, is_new: bool
) -> tuple[_Name | None, _Origin | None, bool] | str:
    """(its place in the base's tree, where it was there, whether it is new) of one name in a directory; why there
    cannot be such a name."""
    born = child.born if child else None
    if born is not None:
        if born.kind == "added" or born.old_path is None:
            return None, None, True
        return _found(before, born.old_path), born.old_path, False
    if is_new:
        return "the directory in which it lies is new, and it is not"
    below = base.children.get(name) if base and base.children else None
    if below and (below.gone or below.moved):
        return "what it is, or lies in, was removed or renamed"
    return below, (origin, name), False


def _check_changed(child: _Name, origin: _Origin | None, is_new: bool) -> None:
    changed = child.changed
    if changed is None:
        return
    if is_new:
        raise _wrong(changed, "is new and has changed")
    if child.born and child.born.filetype is not changed.filetype:
        raise _wrong(changed, "is of two types")
    if (changed.old_path or changed.path) != _spelled(origin):
        raise _wrong(changed, "had another name than it says")


def _check_link(entry: Entry, before: _Name, after: _Name) -> None:
    """`link_to` leads to something that can be there and is no such link itself."""
    node: _Name | None = after
    base: _Name | None = before
    origin: _Origin | None = None
    is_new = False
    known: Entry | None = None
    assert entry.link_to is not None
    for name in entry.link_to.split("/"):
        node = node.children.get(name) if node and node.children else None
        state = _below(name, node, before, base, origin, is_new)
        if isinstance(state, str):
            raise _wrong(entry, f"is another name of {_short(entry.link_to)}, which is not there")
        if known and known.filetype is not FileType.DIRECTORY:
            raise _wrong(entry, f"is another name of {_short(entry.link_to)}, which lies in what is no directory")
        base, origin, is_new = state
        known = (node.born or node.changed) if node else None
    if known and (known.filetype is not entry.filetype or known.link_to is not None):
        raise _wrong(entry, f"cannot be another name of {_short(entry.link_to)}")


def _found(tree: _Name, path: str) -> _Name | None:
    node: _Name | None = tree
    for name in path.split("/"):
        node = node.children.get(name) if node and node.children else None
    return node


def _spelled(origin: _Origin | None) -> str:
    names: list[str] = []
    while isinstance(origin, tuple):
        origin, name = origin
        names.append(name)
    if origin is not None:
        names.append(origin)
    return "/".join(reversed(names))


def _first_path(node: _Name) -> str:
    """Of something that made us look at a name."""
    while node.changed is None and node.born is None and node.children:
        node = next(iter(node.children.values()))
    found = node.changed or node.born
    return "" if found is None else found.path


def _wrong(entry: Entry, what: str) -> Wrong:
    return Wrong(f"{_short(entry.path)} {what}")


def _short(path: str) -> str:
    return repr(path if len(path) <= 120 else path[:120] + "...")
