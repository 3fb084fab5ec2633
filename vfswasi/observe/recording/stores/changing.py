"""The same for a store that the guest changes in place: noted is what was there before it changed anything, which is
what an overlay has to find below it when the run is made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from ....errors import Errno, FsError, errno_of
from ....fs_backends.base import Backend, Buffer, DirEntry, FileType, Handle, Key, ReadableBuffer, Stat
from ....fs_backends.layers.overlay.nodes import COPIED_WHOLE_BYTES
from ....fs_backends.staging.pages import PAGE_BYTES
from ..facts import Content, Facts, of_error, of_stat
from .noting import Noted, entry_text, read_noted
from .places import Places

_MISSING = (Errno.NOENT, Errno.NOTDIR, Errno.LOOP)  # the last two of what lies below a link


class NotedBelow(Noted):
    """Keys that `facts` hear of are those before the first change."""

    def __init__(self, inner: Backend, facts: Facts) -> None:
        super().__init__(inner, facts)
        self._places = Places()
        self.changed: set[Key] = set()  # of what the store had: its attributes are not what they were
        for name in _OWN:
            self.__dict__.pop(name, None)
        self._look(())

    # What is asked.

    def _note_stat(self, key: Key, found: Stat | None, error: FsError | None = None) -> None:
        base = self._places.base_of(key)
        if self.is_over or base is None or base in self.changed:
            return
        if found is not None:
            self.facts.note_first(("stat", base, ()), {"stat": of_stat(found)})
        elif error is None or errno_of(error) in _MISSING:
            told = Errno.NOENT if error is None else errno_of(error)
            self.facts.note_first(("stat", base, ()), {"errno": told.name})

    def stat(self, key: Key) -> Stat:
        try:
            found = self.inner.stat(key)
        except FsError as error:
            self._note_stat(key, None, error)
            raise
        self._note_stat(key, found)
        return found

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, found = told = self.inner.walk(key, names)
        if found is not None:
            self._note_stat(key + names[:count], found)
        if count < len(names) and (found is None or found.filetype is FileType.DIRECTORY):
            self._note_stat(key + names[: count + 1], None)
        return told

    def list(self, key: Key) -> Iterable[DirEntry]:
        found = self.inner.list(key)
        return found if self.is_over or self._places.base_of(key) is None else self._listed(key, found)

    def _listed(self, key: Key, entries: Iterable[DirEntry]) -> Iterator[DirEntry]:
        seen: list[DirEntry] = []
        for entry in entries:
            seen.append(entry)
            yield entry
        base = self._places.base_of(key)
        if base is not None and not self.is_over:
            self.facts.note_list(
                ("list", base, ()), map(entry_text, self._places.before(key, seen)), whole=True, first=True
            )

    def listing_version(self, key: Key) -> int | None:
        return self.inner.listing_version(key)

    def readlink(self, key: Key) -> str:
        base = self._places.base_of(key)
        try:
            target = self.inner.readlink(key)
        except FsError as error:
            if base is not None and not self.is_over:
                self.facts.note_first(("readlink", base, ()), of_error(error))
            raise
        if base is not None and not self.is_over:
            self.facts.note_first(("readlink", base, ()), {"target": target})
        return target

    def open(self, key: Key, write: bool) -> Handle:
        handle = self.inner.open(key, write)
        base = self._places.base_of(key)
        if base is None or self.is_over:
            return handle
        return NotedBelowHandle(handle, self, base)

    # What is done.

    def _look(self, key: Key) -> DirEntry | None:
        """What the store had at `key` of its own; asked for before something is done to it."""
        base = self._places.base_of(key)
        if base is None or self.is_over:
            return None
        try:
            found = self.inner.stat(key)
        except FsError as error:
            self._note_stat(key, None, error)
            return None
        self._note_stat(key, found)
        if found.filetype is FileType.SYMBOLIC_LINK:
            try:
                target = {"target": self.inner.readlink(key)}
            except FsError as error:
                target = of_error(error)
            self.facts.note_first(("readlink", base, ()), target)
        above = self._places.base_of(key[:-1])
        if not key or above is None or base != (*above, key[-1]):
            return None  # it has come there
        return DirEntry(key[-1], found.filetype, found.ident)

    def _look_inside(self, key: Key) -> None:
        """That a directory is empty an overlay finds out by listing what it shows of the store."""
        if self._places.base_of(key) is not None and not self.is_over:
            with suppress(FsError):
                if self.inner.stat(key).filetype is FileType.DIRECTORY:
                    for _ in self.list(key):
                        pass

    def _touch(self, *keys: Key) -> None:
        for key in keys:
            base = self._places.base_of(key)
            if base is not None:
                self.changed.add(base)

    @contextmanager
    def _making(self, key: Key, base: Key | None = None) -> Iterator[None]:
        """Something new at `key`. base: what it is another name of."""
        self._look(key[:-1])
        try:
            yield
        except FsError:
            self._look(key)
            raise
        self._note_stat(key, None)
        self._places.put(key, None, base)
        self._touch(key[:-1])

    def create(self, key: Key) -> Handle:
        with self._making(key):
            return self.inner.create(key)

    def mkdir(self, key: Key) -> None:
        with self._making(key):
            self.inner.mkdir(key)

    def symlink(self, target: str, key: Key) -> None:
        with self._making(key):
            self.inner.symlink(target, key)

    def remove(self, key: Key) -> None:
        self._look(key[:-1])
        was = self._look(key)
        self.inner.remove(key)
        self._places.put(key, was)
        self._touch(key[:-1])

    def rmdir(self, key: Key) -> None:
        self._look(key[:-1])
        was = self._look(key)
        self._look_inside(key)
        self.inner.rmdir(key)
        self._places.put(key, was)
        self._touch(key[:-1])

    def rename(self, old: Key, new: Key) -> None:
        self._look(old[:-1])
        self._look(new[:-1])
        was_old, was_new = self._look(old), self._look(new)
        self._look_inside(new)
        self.inner.rename(old, new)
        if old != new:
            self._places.move(old, new, was_old, was_new)
        self._touch(old[:-1], new[:-1], new)

    def link(self, old: Key, new: Key) -> None:
        self._look(old)
        with self._making(new, self._places.base_of(old)):
            self.inner.link(old, new)
        self._touch(old)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._look(key)
        self.inner.set_times(key, atim_ns, mtim_ns)
        self._touch(key)

    def note_times(self, key: Key) -> None:
        self._look(key)
        self.inner.note_times(key)


class NotedBelowHandle(Handle):
    """An open file that the store had before. What the guest has written to it may be read as well: an overlay has
    that in front of what is noted here."""

    def __init__(self, inner: Handle, owner: NotedBelow, base: Key) -> None:
        self._inner, self._owner, self._base = inner, owner, base
        facts = self._facts = owner.facts
        self._content: Content = facts.opened(base)[1]
        for name in ("advise", "sync", "reserve", "size", "ident"):
            setattr(self, name, getattr(inner, name))

    @property
    def _is_noted(self) -> bool:
        return not self._owner.is_over and not self._content.settled and self._facts.room.cut is None

    def read_into(self, offset: int, buf: Buffer) -> int:
        if not self._is_noted:
            return self._inner.read_into(offset, buf)
        return read_noted(self._inner, offset, buf, self._page, self._exactly)

    def _page(self, number: int, data: memoryview) -> None:
        if number not in self._content.pages:
            self._facts.note_page(self._content, number, data)

    def _exactly(self, offset: int, found: memoryview | FsError, length: int) -> None:
        self._facts.note_exactly(self._content, offset, found, length)

    def stat(self) -> Stat:
        found = self._inner.stat()
        if self._is_noted and self._base not in self._owner.changed:
            self._facts.note_first(("fstat", self._base, ()), {"stat": of_stat(found)})
        return found

    def _keep(self, offset: int, length: int) -> None:
        """What an overlay copies of the store when so much is written."""
        if not self._is_noted:
            return
        size = self.stat().size
        if size <= COPIED_WHOLE_BYTES:
            pages = range(-(-size // PAGE_BYTES) + 1)
        else:
            pages = range(offset // PAGE_BYTES, (offset + max(length, 1) - 1) // PAGE_BYTES + 1)
        page = bytearray(PAGE_BYTES)
        for number in {*pages[:1], *pages[-1:]} if size > COPIED_WHOLE_BYTES else pages:
            if number not in self._content.pages and number * PAGE_BYTES <= size:
                count = self._inner.read_into(number * PAGE_BYTES, page)
                self._facts.note_page(self._content, number, memoryview(page)[:count])
        if size <= COPIED_WHOLE_BYTES:
            self._content.settled = True
        self._owner.changed.add(self._base)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._keep(offset, len(buf))
        self._inner.write_from(offset, buf)

    def append(self, buf: ReadableBuffer) -> int:
        self._keep(self._inner.size(), len(buf))
        return self._inner.append(buf)

    def truncate(self, size: int) -> None:
        if size:
            self._keep(size, 1)
        elif self._is_noted:
            self.stat()
            self._owner.changed.add(self._base)
            self._content.settled = True
        self._inner.truncate(size)

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        if self._is_noted:
            self.stat()
            self._owner.changed.add(self._base)
        self._inner.set_times(atim_ns, mtim_ns)

    def allocate(self, offset: int, length: int) -> None:
        self._keep(max(offset + length - 1, 0), 1)
        self._inner.allocate(offset, length)

    def close(self) -> None:
        self._inner.close()

    def discard(self) -> None:
        self._inner.discard()


# What `Noted` hands on as the store's own, and this does not.
_OWN = "create mkdir rmdir remove rename symlink link set_times note_times".split()
__all__ = ["NotedBelow", "entry_text"]
