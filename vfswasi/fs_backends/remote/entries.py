"""What entries of fsspec say of files, as far as a store can mean it: numbers, times and names that others chose."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import math
import os
import stat
from typing import Any

from ...errors import Errno, FsError
from ..base import FileType
from ..layers.checked import SIZE_MAX, whole_number
from .client import Info, sound

_VERSION_FIELDS = ("ETag", "etag", "generation", "md5Hash", "content_hash", "sha", "sha256", "Content-MD5", "checksum")
_TIME_FIELDS = (
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "modified",
    "Last-Modified",
    "date_time",
    "created",
)

_TIME_MAX_NS = 1 << 63


def info_of(entry: Any, name: str, timed: bool, named: bool = False) -> Info:
    """What an entry says. name: of the store, for messages. timed: times and sizes tell versions apart where nothing
    else does. named: what has a `linkname` is a link. Raises IO: nothing that a store can mean."""
    info: Info | None = None
    with contextlib.suppress(Exception):
        info = _info_of(entry, timed, named)
    if info is None:
        raise FsError(Errno.IO, f"{name}: an entry that cannot be understood")
    if not sound(info):
        raise FsError(Errno.IO, f"{name}: an entry with an impossible size")
    return info


def _info_of(entry: dict[str, Any], timed: bool, named: bool) -> Info:
    kind = entry.get("type")
    time_ns = next((ns for name in _TIME_FIELDS if (ns := nanoseconds(entry.get(name))) is not None), None)
    linked = entry.get("linkname") if named else None  # of tar, which reads what it leads to
    if entry.get("islink") or kind in ("link", "symlink") or _is_link(entry.get("mode")) or linked:
        target = entry.get("destination", linked)
        text = os.fsdecode(target) if isinstance(target, str | bytes) else None
        return Info(FileType.SYMBOLIC_LINK, len(os.fsencode(text or "")), time_ns, None, text)
    if kind == "directory":
        return Info(FileType.DIRECTORY, 0, time_ns)
    if kind is not None and not (isinstance(kind, str) and kind == "file"):
        return Info(FileType.UNKNOWN, 0, time_ns)
    size = entry.get("size")
    told = (entry.get(name) for name in _VERSION_FIELDS)
    versions = [str(value) for value in told if isinstance(value, str | bytes | int) and value]
    version = versions[0] if versions else None
    if version is None and timed and time_ns is not None:
        version = f"{time_ns}-{size}"
    return Info(FileType.REGULAR_FILE, _size(size), time_ns, version)


def _is_link(mode: object) -> bool:
    """Whether the mode in an entry, a number or as git writes it, is that of a link."""
    if isinstance(mode, str):
        return mode == "120000"
    return isinstance(mode, int) and stat.S_ISLNK(mode)


def nanoseconds(value: object) -> int | None:
    """A time of any of the kinds that file systems give, in nanoseconds since 1970; None for what is no time."""
    try:
        found = _nanoseconds(value)
    except Exception:  # a datetime brings a time zone of its own along
        return None
    return found if found is not None and -_TIME_MAX_NS < found < _TIME_MAX_NS else None


def _nanoseconds(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value * 1e9) if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    return None


def _size(value: object) -> int | None:
    """None where the store does not tell. Raises ValueError for what is no size."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    number = whole_number(value, 0, SIZE_MAX)
    if number is None:
        raise ValueError("no size")
    return number


def http_date(value: object) -> int | None:
    """`Last-Modified` in nanoseconds since 1970, or None."""
    if not isinstance(value, str):
        return None
    try:
        return nanoseconds(email.utils.parsedate_to_datetime(value))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
