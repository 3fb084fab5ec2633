"""A store as a deterministic run sees it: nothing that depends on the day, the machine or the kind of store.

| what                          | what is shown                                                                    |
|-------------------------------|----------------------------------------------------------------------------------|
| listings                      | in the order of the names' bytes                                                 |
| numbers of objects            | made from their names (see `objects`)                                            |
| times                         | one instant, `mounted_ns`; of what the run changed, when its clock said that     |
| size and links of a directory | 0 and 1                                                                          |
| links of a file               | 1 on a mount that can only be read, since others may have given it more          |
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from ....clock import Clock
from ....errors import Errno, FsError
from ... import waiting
from ...base import Backend, Buffer, Caps, Device, DirEntry, FileType, Handle, Key, ReadableBuffer, Stat
from ..passing import Passing
from .objects import Objects, Record

MOUNTED_NS: Final = 315_532_800 * 10**9
"""The beginning of 1980, UTC: the first moment that a zip archive can say, so that nothing that packs files minds it;
and long before the clock of a deterministic run begins, so that what the run writes is newer than what was mounted."""

_DIRECTORY: Final = FileType.DIRECTORY
_LOOK_EVERY: Final = 4096
_new_tuple = tuple.__new__


def mounted_ns(clock: Clock | None) -> int:
    """What the files of mounts have as their times: never later than the run begins."""
    return MOUNTED_NS if clock is None or clock.kind == "system" else min(MOUNTED_NS, clock.start_ns)


class Hermetic(Passing):
    """`inner` as it is shown. objects: what the run knows of it, together with all mounts that show the same store.

    keep_times: times that the run did not change are the files' own. readonly: no mount that it is for changes it.
    """

    def __init__(self, inner: Backend, objects: Objects, *, keep_times: bool, readonly: bool, then_ns: int) -> None:
        """then_ns: the times of everything that the run did not change."""
        super().__init__(inner)
        self._objects = objects
        self.then_ns = None if keep_times else then_ns
        self._readonly = readonly
        self._survives = Caps.HANDLE_SURVIVES_UNLINK in inner.caps
        if not readonly:
            objects.writes = True

    def become(self, other: Hermetic) -> None:
        """Show a copy of the store as `other` shows the original. Raises FsError: NOMEM."""
        self._objects.become(other._objects)

    def dressed(self, key: Key, stat: Stat) -> Stat:
        """`stat` of the object at `key`, as it is shown. Raises NOMEM."""
        objects = self._objects
        ident = stat.ident
        record = objects.known(key, ident)
        if record is None and stat.nlink > 1 and objects.writes and stat.filetype is not _DIRECTORY:
            # Its other names have to lead to the same number.
            record = objects.record(key, ident)
            record.lasts = True
        return self.shown(stat, objects.number(key, ident) if record is None else record.number, record)

    def shown(self, stat: Stat, number: int, record: Record | None) -> Stat:
        filetype, size, atim, mtim, ctim, nlink, _ = stat
        then = self.then_ns
        if then is not None:
            atim = mtim = ctim = then
        if record is not None and record.ctim is not None:
            atim = atim if record.atim is None else record.atim
            mtim = mtim if record.mtim is None else record.mtim
            ctim = record.ctim
        if filetype is _DIRECTORY:
            size, nlink = 0, 1
        elif self._readonly and nlink:
            nlink = 1
        return _new_tuple(Stat, (filetype, size, atim, mtim, ctim, nlink, number))

    def stat(self, key: Key) -> Stat:
        return self.dressed(key, self.inner.stat(key))

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, stat = self.inner.walk(key, names)
        return count, stat if stat is None else self.dressed((*key, *names[:count]), stat)

    def list(self, key: Key) -> Iterable[DirEntry]:
        entries: list[DirEntry] = []
        for entry in self.inner.list(key):
            entries.append(entry)
            if not len(entries) % _LOOK_EVERY:
                waiting.check_time("a listing")
                waiting.check_entries(len(entries))
        entries.sort(key=attrgetter("name"))  # by characters is by bytes in UTF-8
        number = self._objects.number
        return (DirEntry(name, filetype, number((*key, name), ident)) for name, filetype, ident in entries)

    def listing_version(self, key: Key) -> int | None:
        return self.inner.listing_version(key)

    def version(self, key: Key) -> str | None:
        return self.inner.version(key)

    def readlink(self, key: Key) -> str:
        return self.inner.readlink(key)

    def device(self, key: Key) -> Device | None:
        return self.inner.device(key)

    def open(self, key: Key, write: bool) -> Handle:
        handle = self.inner.open(key, write)
        try:
            record = self._objects.opened(key, handle.ident())
        except BaseException:
            handle.discard()
            raise
        return _HermeticHandle(handle, self, record)

    def create(self, key: Key) -> Handle:
        parent = self._ident_above(key)
        handle = self.inner.create(key)
        try:
            ident = handle.ident()
        except BaseException:
            handle.discard()
            raise
        record = self._objects.born(key, ident)
        record.opens += 1
        self._changed(key, parent)
        return _HermeticHandle(handle, self, record)

    def mkdir(self, key: Key) -> None:
        self._make(key, self.inner.mkdir, key)

    def symlink(self, target: str, key: Key) -> None:
        self._make(key, self.inner.symlink, target, key)

    def _make(self, key: Key, make: Callable[..., None], *args: Key | str) -> None:
        parent = self._ident_above(key)
        make(*args)
        made = self._look(key)
        if made is not None:
            self._objects.born(key, made.ident)
        self._changed(key, parent)

    def rmdir(self, key: Key) -> None:
        self._take_away(key, self.inner.rmdir)

    def remove(self, key: Key) -> None:
        self._take_away(key, self.inner.remove)

    def _take_away(self, key: Key, take: Callable[[Key], None]) -> None:
        with contextlib.suppress(FsError):  # who has no room left has to be able to make some
            self._objects.prepare()
        above, found = self._look(key[:-1]), self._look(key)
        take(key)
        if found is not None:
            self._objects.unnamed(key, found.ident, _is_last(found))
        if above is not None and self._objects.has_room(key[:-1], above.ident):
            self._changed(key, above.ident)

    def rename(self, old: Key, new: Key) -> None:
        objects = self._objects
        here, there, found, over = self._ident_above(old), self._ident_above(new), self._look(old), self._look(new)
        objects.check_move(found is not None and found.filetype is _DIRECTORY)
        self.inner.rename(old, new)
        if found is None or old == new or (over is not None and over.ident is not None and over.ident == found.ident):
            return
        if over is not None:
            objects.unnamed(new, over.ident, _is_last(over))
        objects.moved(old, new, found.ident, found.filetype is _DIRECTORY)
        self._changed(old, here)
        self._changed(new, there)

    def link(self, old: Key, new: Key) -> None:
        parent, found = self._ident_above(new), self._look(old)
        self.inner.link(old, new)
        if found is not None:
            self._objects.record(old, found.ident).attributes_changed(self._objects.now())
        self._changed(new, parent)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._objects.prepare()
        self.inner.set_times(key, atim_ns, mtim_ns)
        found = self._look(key)
        if found is not None:
            self._objects.record(key, found.ident).dated(atim_ns, mtim_ns, self._objects.now())

    def note_times(self, key: Key) -> None:
        self.inner.note_times(key)

    def _look(self, key: Key) -> Stat | None:
        """What is there; None: nothing, or the store will say why not."""
        try:
            return self.inner.stat(key)
        except FsError as error:
            if error.errno is Errno.CANCELED:
                raise
            return None

    def _ident_above(self, key: Key) -> int | None:
        """What the store calls the directory in which a name is about to change. Raises NOMEM."""
        self._objects.prepare()
        found = self._look(key[:-1])
        return None if found is None else found.ident

    def _changed(self, key: Key, parent: int | None) -> None:
        """What is in the directory of `key`, which the store calls `parent`."""
        self._objects.record(key[:-1], parent).changed(self._objects.now())


def _is_last(found: Stat) -> bool:
    """Whether an object is gone with the name that is taken from it."""
    return found.nlink <= 1 or found.filetype is _DIRECTORY


class _HermeticHandle(Handle):
    __slots__ = ("_backend", "_inner", "_objects", "_record")

    def __init__(self, inner: Handle, backend: Hermetic, record: Record) -> None:
        self._inner, self._backend, self._record = inner, backend, record
        self._objects = backend._objects

    # Asked for at each call: what is open in an overlay reads another file once it is written to.

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._inner.read_into(offset, buf)

    def size(self) -> int:
        return self._inner.size()

    def stat(self) -> Stat:
        record = self._record
        return self._backend.shown(self._inner.stat(), record.number, record)

    def true_stat(self) -> Stat:
        return self._inner.true_stat()

    def ident(self) -> int | None:
        return self._record.number

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        self._inner.write_from(offset, buf)
        if len(buf):
            self._record.changed(self._objects.now())

    def append(self, buf: ReadableBuffer) -> int:
        end = self._inner.append(buf)
        if len(buf):
            self._record.changed(self._objects.now())
        return end

    def truncate(self, size: int) -> None:
        self._inner.truncate(size)
        self._record.changed(self._objects.now())

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._inner.set_times(atim_ns, mtim_ns)
        self._record.dated(atim_ns, mtim_ns, self._objects.now())

    def allocate(self, offset: int, length: int) -> None:
        before = self._inner.size()
        self._inner.allocate(offset, length)
        if offset + length > before:
            self._record.changed(self._objects.now())

    def reserve(self, offset: int, length: int) -> bool:
        return self._inner.reserve(offset, length)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._inner.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self._inner.sync(data_only)

    def close(self) -> None:
        self._objects.closed(self._record, self._backend._survives)
        self._inner.close()

    def discard(self) -> None:
        self._objects.closed(self._record, self._backend._survives)
        self._inner.discard()
