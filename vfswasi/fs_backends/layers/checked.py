"""The border between the kernel and stores that others wrote: what a store says is looked at where it comes in.

The kernel counts, packs and compares what a backend answers. A size of -5, a name of bytes or a handle that read more
than it was asked for must not end a run with an error of struct's: an answer that no store can mean is IO, and an entry
of a directory that no key can name is left out. What a method raises is passed on as it is.

The stores of this package are not wrapped: what *they* are told is checked where it comes in to them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn

from ...errors import Errno, FsError, Uncommitted
from ..base import Backend, Buffer, Caps, Device, DirEntry, FileType, Handle, Key, ReadableBuffer, Stat, Traffic
from ..waiting import check_time

SIZE_MAX: Final = (1 << 63) - 1
_U64_MAX: Final = (1 << 64) - 1
_NAME_MAX_BYTES: Final = 255
_LISTED_AT_ONCE: Final = 256
_TYPES: Final = frozenset(FileType)


def checked(backend: Backend) -> Backend:
    """The backend, or what stands before it if it is not one of ours."""
    return backend if _is_ours(backend) else Checked(backend)


def _is_ours(backend: Backend) -> bool:
    inner = getattr(backend, "inner", None)
    return type(backend).__module__.startswith("vfswasi.") and (not isinstance(inner, Backend) or _is_ours(inner))


def _sound_entries(entries: Iterator[Any]) -> Iterator[DirEntry]:
    seen: set[str] = set()
    for count, entry in enumerate(entries):
        if count % _LISTED_AT_ONCE == 0:  # whoever takes the names sees none of what is left out
            check_time("a listing")
        if not isinstance(entry, tuple) or len(entry) != 3:
            continue
        name, filetype, ident = entry
        kind = _filetype(filetype)
        number = None if ident is None else whole_number(ident, 1, _U64_MAX)
        if kind is None or (number is None and ident is not None) or not fits_a_key(name) or name in seen:
            continue
        seen.add(name)
        yield DirEntry(str(name), kind, number)


def check_attributes(backend: Backend) -> None:
    """What is asked of a backend when it is mounted, and has to be right before anything is. Raises TypeError, and what
    the attributes raise."""
    kind = type(backend).__name__
    caps, place, identity = backend.caps, backend.place, backend.identity
    if not isinstance(caps, Caps):
        raise TypeError(f"{kind}.caps must be a Caps, not {type(caps).__name__}")
    if place is not None and not (isinstance(place, tuple) and place and all(map(_fits_a_place, place))):
        raise TypeError(f"{kind}.place must be None or a tuple of names, such as ('local', 'srv', 'data')")
    try:
        hash(identity)
    except TypeError:
        raise TypeError(f"{kind}.identity must be hashable, and {type(identity).__name__} is not") from None


def _fits_a_place(name: object) -> bool:
    return isinstance(name, str) and "\0" not in name


def whole_number(value: object, least: int, most: int) -> int | None:
    """The number, or None if it is none, or beyond the bounds. True is no number."""
    if isinstance(value, bool):
        return None
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except Exception:
        return None
    return number if least <= number <= most else None


def fits_a_key(name: object) -> bool:
    """Whether a name from a store can be one component of a key."""
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= _NAME_MAX_BYTES
    except UnicodeEncodeError:
        return False


def _lie(what: str) -> NoReturn:
    raise FsError(Errno.IO, f"the store answered {what}")


def _sound(stat: object) -> Stat:
    """A Stat whose every number can be one. Raises IO."""
    if not isinstance(stat, Stat):
        _lie(f"no Stat but {type(stat).__name__}")
    filetype, size, atim, mtim, ctim, nlink, ident = stat
    if type(filetype) is FileType and type(size) is int and 0 <= size <= SIZE_MAX and type(nlink) is int:
        plain = all(time is None or type(time) is int for time in (atim, mtim, ctim))
        if plain and 0 <= nlink <= _U64_MAX and (ident is None or (type(ident) is int and 0 < ident <= _U64_MAX)):
            return stat
    kind = _filetype(filetype)
    number = whole_number(size, 0, SIZE_MAX)
    links = whole_number(nlink, 0, _U64_MAX)
    own = None if ident is None else whole_number(ident, 1, _U64_MAX)
    if kind is None or number is None or links is None or (own is None and ident is not None):
        _lie("a Stat of impossible numbers")
    times = [None if time is None else whole_number(time, -(1 << 127), 1 << 127) for time in (atim, mtim, ctim)]
    return Stat(kind, number, times[0], times[1], times[2], links, own)


def _filetype(value: object) -> FileType | None:
    number = whole_number(value, 0, max(_TYPES))
    return None if number is None else FileType(number)


# Methods of a backend that answer nothing.
_FORWARDED = "mkdir rmdir remove rename symlink link set_times sync_directory finish close".split()


class Checked(Backend):
    """`inner`, whose answers are looked at."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        for name in _FORWARDED:
            setattr(self, name, getattr(inner, name))

    @property
    def caps(self) -> Caps:  # type: ignore[override]
        return self.inner.caps

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def stat(self, key: Key) -> Stat:
        return _sound(self.inner.stat(key))

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        if type(self.inner).walk is Backend.walk:
            return super().walk(key, names)
        found: Any = self.inner.walk(key, names)
        if not isinstance(found, tuple) or len(found) != 2:
            _lie(f"a walk with {type(found).__name__}")
        count = whole_number(found[0], 0, len(names))
        if count is None or (found[1] is None) != (count == 0):
            _lie("a walk of impossible length")
        return count, None if found[1] is None else _sound(found[1])

    def list(self, key: Key) -> Iterable[DirEntry]:
        found: Any = self.inner.list(key)
        try:
            entries = iter(found)
        except TypeError:
            _lie(f"a directory with {type(found).__name__}")
        return _sound_entries(entries)

    def listing_version(self, key: Key) -> int | None:
        version: Any = self.inner.listing_version(key)
        return version if type(version) is int else None

    def version(self, key: Key) -> str | None:
        if type(self.inner).version is Backend.version:
            return super().version(key)
        version: Any = self.inner.version(key)
        return version if type(version) is str else None

    def readlink(self, key: Key) -> str:
        target: Any = self.inner.readlink(key)
        try:
            if isinstance(target, str) and target.encode("utf-8", "surrogateescape") is not None:
                return str(target)
        except UnicodeEncodeError:
            pass
        return _lie("a link to what is no text")

    def device(self, key: Key) -> Device | None:
        device: Any = self.inner.device(key)
        return device if isinstance(device, Device) else None

    def open(self, key: Key, write: bool) -> Handle:
        return _handle(self.inner.open(key, write))

    def create(self, key: Key) -> Handle:
        return _handle(self.inner.create(key))

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        found: Any = self.inner.take_uncommitted()
        return [file for file in found if isinstance(file, Uncommitted)] if isinstance(found, Sequence) else ()

    def traffic(self) -> Traffic | None:
        found: Any = self.inner.traffic()
        if not isinstance(found, Traffic):
            return None
        counts = (found.requests, found.bytes_received, found.bytes_sent)
        return found if all(type(count) is int and count >= 0 for count in counts) else None


def _handle(found: object) -> Handle:
    if not isinstance(found, Handle):
        _lie(f"an open with {type(found).__name__}")
    return CheckedHandle(found)


class CheckedHandle(Handle):
    """`inner`, whose answers are looked at."""

    def __init__(self, inner: Handle) -> None:
        self.inner = inner
        for name in ("write_from", "truncate", "set_times", "advise", "sync", "close", "discard"):
            setattr(self, name, getattr(inner, name))

    def _overrides(self, name: str) -> bool:
        """What is left to `Handle` must not see the answers of `inner` before they are looked at."""
        own = name in getattr(self.inner, "__dict__", ())  # an attribute of the object, as wrappers have them
        return own or getattr(type(self.inner), name) is not getattr(Handle, name)

    def read_into(self, offset: int, buf: Buffer) -> int:
        count: Any = self.inner.read_into(offset, buf)
        if type(count) is int and 0 <= count <= len(buf):
            return count
        number = whole_number(count, 0, len(buf))
        return _lie("another number of bytes than it was asked for") if number is None else number

    def append(self, buf: ReadableBuffer) -> int:
        if not self._overrides("append"):
            return super().append(buf)
        end = whole_number(self.inner.append(buf), len(buf), SIZE_MAX)
        return _lie("an impossible end of what was appended") if end is None else end

    def size(self) -> int:
        if not self._overrides("size"):
            return self.stat().size
        size = whole_number(self.inner.size(), 0, SIZE_MAX)
        return _lie("an impossible size") if size is None else size

    def stat(self) -> Stat:
        return _sound(self.inner.stat())

    def ident(self) -> int | None:
        if not self._overrides("ident"):
            return self.stat().ident
        told: Any = self.inner.ident()
        ident = None if told is None else whole_number(told, 1, _U64_MAX)
        return _lie("an impossible number of a file") if ident is None and told is not None else ident

    def allocate(self, offset: int, length: int) -> None:
        if self._overrides("allocate"):
            self.inner.allocate(offset, length)
        else:
            super().allocate(offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        return self.inner.reserve(offset, length) is True
