"""The layer directly before a store that notes each of its answers; of one that the guest does not change itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from ....errors import Errno, FsError, errno_of
from ....fs_backends.base import Backend, Buffer, Caps, Device, DirEntry, Handle, Key, Stat
from ....fs_backends.staging.pages import PAGE_BYTES
from ..facts import Facts, of_error, of_stat

_STEP_BYTES: Final = 32 * PAGE_BYTES


class Noted(Backend):
    """`inner`, and `facts` hear what it says until `over` is called."""

    only_watches = True  # what the guest has is in `inner`

    def __init__(self, inner: Backend, facts: Facts) -> None:
        self.inner = inner
        self.caps = inner.caps
        self.facts = facts
        self.is_over = False
        self.__dict__.update(zip(_PASSED, _methods_of(inner), strict=True))

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def _note(self, what: str, key: Key, answer: dict[str, Any], names: Key = ()) -> None:
        if not self.is_over:
            self.facts.note((what, key, names), answer)

    def _failed(self, what: str, key: Key, error: FsError, names: Key = ()) -> None:
        if errno_of(error) is not Errno.CANCELED:  # which is the run's answer, not the store's
            self._note(what, key, of_error(error), names)

    def stat(self, key: Key) -> Stat:
        try:
            found = self.inner.stat(key)
        except FsError as error:
            self._failed("stat", key, error)
            raise
        self._note("stat", key, {"stat": of_stat(found)})
        return found

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        try:
            found = self.inner.walk(key, names)
        except FsError as error:
            self._failed("walk", key, error, names)
            raise
        self._note("walk", key, {"walk": [found[0], of_stat(found[1])]}, names)
        return found

    def list(self, key: Key) -> Iterable[DirEntry]:
        try:
            found = self.inner.list(key)
        except FsError as error:
            self._failed("list", key, error)
            raise
        return found if self.is_over else self._listed(key, found)

    def _listed(self, key: Key, entries: Iterable[DirEntry]) -> Iterator[DirEntry]:
        noted: list[bytes] = []
        whole = False
        try:
            for entry in entries:
                noted.append(entry_text(entry))
                yield entry
            whole = True
        except FsError as error:
            if not noted:
                self._failed("list", key, error)
            raise
        finally:
            if not self.is_over and (whole or noted):
                self.facts.note_list(("list", key, ()), noted, whole)

    def listing_version(self, key: Key) -> int | None:
        try:
            version = self.inner.listing_version(key)
        except FsError as error:
            self._failed("listing_version", key, error)
            raise
        self._note("listing_version", key, {"version": version})
        return version

    def readlink(self, key: Key) -> str:
        try:
            target = self.inner.readlink(key)
        except FsError as error:
            self._failed("readlink", key, error)
            raise
        self._note("readlink", key, {"target": target})
        return target

    def device(self, key: Key) -> Device | None:
        try:
            found = self.inner.device(key)
        except FsError as error:
            self._failed("device", key, error)
            raise
        self._note("device", key, {"device": None if found is None else found.name})
        return found

    def open(self, key: Key, write: bool) -> Handle:
        if self.is_over:
            return self.inner.open(key, write)
        try:
            handle = self.inner.open(key, write)
        except FsError as error:
            if errno_of(error) is not Errno.CANCELED:
                self.facts.open_failed(key, error)
            raise
        return NotedHandle(handle, self, key)


def entry_text(entry: DirEntry) -> bytes:
    return json.dumps([entry.name, int(entry.filetype), entry.ident], separators=(",", ":")).encode()


class NotedHandle(Handle):
    """An open file, of which whole pages are read."""

    def __init__(self, inner: Handle, owner: Noted, key: Key) -> None:
        self._inner, self._owner, self._key = inner, owner, key
        self._facts = owner.facts
        self._number, self._content = self._facts.opened(key)
        self._has_read = False
        self._fixed = Caps.IMMUTABLE in owner.caps
        for name in ("advise", "sync", "write_from", "append", "truncate", "set_times", "allocate", "reserve"):
            setattr(self, name, getattr(inner, name))

    def read_into(self, offset: int, buf: Buffer) -> int:
        if self._owner.is_over or self._facts.room.cut is not None:
            return self._inner.read_into(offset, buf)
        return read_noted(self._inner, offset, buf, self._page, self._exactly)

    def _page(self, number: int, data: memoryview) -> None:
        content = self._content
        if not (self._fixed and number in content.pages) and not self._facts.note_page(content, number, data):
            self._content = self._facts.changed(self._key, self._number, self._has_read)
            self._facts.note_page(self._content, number, data)
        self._has_read = True

    def _exactly(self, offset: int, found: memoryview | FsError, length: int) -> None:
        self._facts.note_exactly(self._content, offset, found, length)

    def stat(self) -> Stat:
        found = self._inner.stat()
        self._owner._note("fstat", self._key, {"stat": of_stat(found)})
        return found

    def size(self) -> int:
        found = self._inner.size()
        self._owner._note("size", self._key, {"size": found})
        return found

    def ident(self) -> int | None:
        found = self._inner.ident()
        self._owner._note("ident", self._key, {"ident": found})
        return found

    def close(self) -> None:
        self._inner.close()

    def discard(self) -> None:
        self._inner.discard()


def read_noted(
    inner: Handle,
    offset: int,
    buf: Buffer,
    page: Callable[[int, memoryview], None],
    exactly: Callable[[int, memoryview | FsError, int], None],
) -> int:
    """As `Handle.read_into`, by whole pages. `page` is told of each. Where only more than was asked for cannot be read,
    what was asked for is, and `exactly` is told (offset, bytes or the error, length asked for)."""
    done, wanted = 0, len(buf)
    with memoryview(buf) as view:
        while done < wanted:
            start = (offset + done) // PAGE_BYTES * PAGE_BYTES
            end = min(-(-(offset + wanted) // PAGE_BYTES) * PAGE_BYTES, start + _STEP_BYTES)
            pages = bytearray(end - start)
            try:
                count = inner.read_into(start, pages)
            except FsError as first:
                if errno_of(first) is Errno.CANCELED:
                    raise
                return _read_exactly(inner, offset, view, exactly)
            with memoryview(pages) as whole:
                for at in range(0, count + 1 if count < len(pages) else count, PAGE_BYTES):
                    page((start + at) // PAGE_BYTES, whole[at : min(at + PAGE_BYTES, count)])
                skip = offset + done - start
                piece = whole[skip : min(count, skip + wanted - done)] if skip < count else whole[:0]
                view[done : done + len(piece)] = piece
                done += len(piece)
            if count < len(pages):
                break
    return done


def _read_exactly(
    inner: Handle, offset: int, view: memoryview, exactly: Callable[[int, memoryview | FsError, int], None]
) -> int:
    try:
        count = inner.read_into(offset, view)
    except FsError as error:
        if errno_of(error) is not Errno.CANCELED:
            exactly(offset, error, len(view))
        raise
    exactly(offset, view[:count], len(view))
    return count


# What a layer does not know of, it hands on.
_PASSED = [name for name in vars(Backend) if not name.startswith("_") and name not in {*vars(Noted), "caps", "is_over"}]
_methods_of: Callable[[Backend], tuple[Any, ...]] = attrgetter(*_PASSED)
