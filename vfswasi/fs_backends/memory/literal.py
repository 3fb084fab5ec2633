"""What a tree literal may hold: names, links, text and times, each checked where it stands in the tree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...records import record

if TYPE_CHECKING:
    from datetime import datetime

_NAME_MAX_BYTES = 255
_SHOWN = 60  # of a file's contents, in a repr
_TIME_END_NS = 1 << 64  # a guest reads times as u64


@record(frozen=True)
class Symlink:
    """A symbolic link in a tree literal. mtime: as for `File`."""

    target: str
    mtime: float | datetime | None = None

    def __post_init__(self) -> None:
        time_ns(self.mtime)

    def __repr__(self) -> str:
        return f"Symlink({self.target!r}{_and(self.mtime)})"


@record(frozen=True)
class File:
    """A file in a tree literal, with the time of its last change.

    contents: bytes-like, or str (as UTF-8). mtime: seconds since 1970, in UTC, or a `datetime` (a naive one is in local
    time, as everywhere in Python); None: when the tree was made. The time of the last access is the same.

    Raises TypeError and ValueError (before 1970, or after 2554).
    """

    contents: bytes | bytearray | memoryview | str
    mtime: float | datetime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.contents, bytes | bytearray | memoryview | str):
            raise TypeError(f"File(contents) must be bytes or str, not {type(self.contents).__name__}")
        time_ns(self.mtime)

    def __repr__(self) -> str:
        contents = self.contents
        cut = f"... {len(contents):,}" if len(contents) > _SHOWN else ""
        return f"File({contents[:_SHOWN]!r}{cut}{_and(self.mtime)})"


@record(frozen=True)
class Directory:
    """A directory in a tree literal, with the time of its last change. tree: what is in it. mtime: as for `File`."""

    tree: Mapping[str, Any]
    mtime: float | datetime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tree, Mapping):
            raise TypeError(f"Directory(tree) must be a mapping, not {type(self.tree).__name__}")
        time_ns(self.mtime)

    def __repr__(self) -> str:
        return f"Directory({self.tree!r}{_and(self.mtime)})"


def _and(mtime: object) -> str:
    return "" if mtime is None else f", mtime={mtime!r}"


def time_ns(mtime: object) -> int | None:
    """Nanoseconds since 1970. Raises TypeError, ValueError."""
    if mtime is None:
        return None
    if hasattr(mtime, "timestamp"):
        mtime = mtime.timestamp()
    if isinstance(mtime, bool) or not isinstance(mtime, int | float):
        raise TypeError(f"mtime must be seconds as a number, or a datetime, not {type(mtime).__name__}")
    if not math.isfinite(mtime) or not 0 <= (found := round(mtime * 1_000_000_000)) < _TIME_END_NS:
        raise ValueError(f"mtime must be a number of seconds from 1970 to 2554, not {mtime!r}")
    return found


_FOR_EVER = frozenset({bytes, str, Symlink})


def frozen(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tree as it is now, whatever becomes of it: directories are copied, and bytes that can be changed. What no
    tree can hold is left as it is, for whoever fills one with it."""
    try:
        return _frozen_names(tree)
    except RecursionError:  # it contains itself
        return tree


def _frozen_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    if _FOR_EVER.issuperset(map(type, tree.values())):  # a third of the time of the loop
        return dict(tree)
    return {name: value if type(value) in _FOR_EVER else _frozen(value) for name, value in tree.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, File):
        return File(_frozen(value.contents), value.mtime)
    if isinstance(value, Directory):
        return Directory(_frozen_names(value.tree), value.mtime)
    return _frozen_names(value) if isinstance(value, Mapping) else value


class TooLargeError(ValueError):
    """A literal has more than its tree has room for."""


def check_name(name: object, path: str) -> None:
    """`path` is for the message. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"{path}: a name must be a str, not {type(name).__name__}")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{path}: {name!r} is not a file name; use nested dicts for directories")
    size = len(encoded(name, path))
    if size > _NAME_MAX_BYTES:
        raise ValueError(f"{path}: a name may have {_NAME_MAX_BYTES} bytes, not {size}")


def check_target(target: object, path: str) -> None:
    """The target of a link. Raises TypeError, ValueError."""
    if not isinstance(target, str):
        raise TypeError(f"{path}: the target of a link must be a str, not {type(target).__name__}")
    if "\0" in target:
        raise ValueError(f"{path}: the target of a link cannot hold a NUL")
    encoded(target, path)


def encoded(text: str, path: str) -> bytes:
    """`text` as UTF-8. Raises ValueError (it holds surrogates)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r}: {text!r} is not valid Unicode") from None
