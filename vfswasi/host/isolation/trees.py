"""Trees in memory as bytes, for what comes back from a worker.

One record for each object, a directory before what is in it:

    u16 depth, 1 at the top | u8 kind: 0 directory, 1 file, 2 link | u8 length of the name | u64 length of the rest
    name in UTF-8 | contents of the file, or target of the link in UTF-8
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from ...fs_backends.memory.literal import Symlink, check_name, check_target
from .wire import NoAnswerError

_HEAD: Final = struct.Struct("<HBBQ")
_DIRECTORY, _FILE, _LINK = range(3)
RECORD_MAX_BYTES: Final = _HEAD.size + 255
"""Of one object, without contents and targets."""


def packed(tree: Mapping[str, Any]) -> bytearray:
    """A tree as `MemoryBackend.export` gives it."""
    made = bytearray()
    todo = [(1, iter(tree.items()))]  # not recursive: a guest makes trees deeper than Python's stack
    while todo:
        depth, entries = todo[-1]
        found = next(entries, None)
        if found is None:
            todo.pop()
            continue
        name, value = found
        raw = name.encode()
        if isinstance(value, Mapping):
            made += _HEAD.pack(depth, _DIRECTORY, len(raw), 0) + raw
            todo.append((depth + 1, iter(value.items())))
        else:
            rest = value.target.encode() if isinstance(value, Symlink) else value
            kind = _LINK if isinstance(value, Symlink) else _FILE
            made += _HEAD.pack(depth, kind, len(raw), len(rest)) + raw
            made += rest
    return made


def unpacked(raw: memoryview, count_max: int) -> dict[str, Any]:
    """The tree of at most `count_max` objects. Raises NoAnswerError."""
    top: dict[str, Any] = {}
    inside = [top]
    at = count = 0
    while at < len(raw):
        count += 1
        if count > count_max or len(raw) - at < _HEAD.size:
            raise NoAnswerError("it sent a tree that cannot be")
        depth, kind, name_len, size = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        if not 1 <= depth <= len(inside) or kind > _LINK or name_len + size > len(raw) - at:
            raise NoAnswerError("it sent a tree that cannot be")
        del inside[depth:]
        try:
            name = str(raw[at : at + name_len], "utf-8")
            check_name(name, "")
            rest = raw[at + name_len : at + name_len + size]
            value: Any = {} if kind == _DIRECTORY else bytes(rest)
            if kind == _LINK:
                value = Symlink(str(rest, "utf-8"))
                check_target(value.target, "")
        except ValueError:
            raise NoAnswerError("it sent a tree with names that cannot be") from None
        at += name_len + size
        if name in inside[-1] or (kind == _DIRECTORY and size):
            raise NoAnswerError("it sent a tree that cannot be")
        inside[-1][name] = value
        if kind == _DIRECTORY:
            inside.append(value)
    return top


def count_of(tree: Mapping[str, Any]) -> int:
    """How many objects are in a tree literal."""
    count, todo = 0, [tree]
    while todo:
        values = todo.pop().values()
        count += len(values)
        todo += [value for value in values if isinstance(value, Mapping)]
    return count


def bytes_of(tree: Mapping[str, Any]) -> int:
    """How many bytes the files and links of a tree literal have."""
    size, todo = 0, [tree]
    while todo:
        for value in todo.pop().values():
            if isinstance(value, Mapping):
                todo.append(value)
            elif isinstance(value, bytes):
                size += len(value)
            else:
                size += len(str(getattr(value, "target", value)).encode("utf-8", "surrogatepass"))
    return size
