"""What a deterministic run knows of the objects of one store: their numbers, and when it changed them.

The number of an object is made from the name under which the run found it, so that a walk over millions of objects
leaves nothing in memory, and it is the same whatever was looked at before. What a name cannot tell has a `Record`: that
of an object that the run made, renamed, gave a second name or changed, and of every file that is open. They are charged
to `Limits.buffer_bytes`. No two objects that are there at once have the same number: who would get one that is taken
gets another.

What lies below a directory that was renamed keeps its numbers too: such a directory is remembered by the name that it
had (`_moved`), and whatever comes under its old name begins with a name that nothing ever had.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Final

from ....errors import Errno, FsError
from ... import waiting
from ...base import Key
from ...charge import Charge

_MASK: Final = (1 << 63) - 1
_RECORD_BYTES: Final = 400  # measured with tracemalloc: 300 to 373, with its places in two dicts
_PREPAID: Final = 4  # a rename changes one object, and two directories
_MOVED_MAX: Final = 65_536
_SPENT_MAX: Final = 16_384


class Record:
    """Of one object. opens: handles. lasts: it is kept when the last of them is closed. gone: it has no name any more.
    A time is None as long as the run has not changed it."""

    __slots__ = ("atim", "ctim", "gone", "lasts", "mtim", "number", "opens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.opens = 0
        self.lasts = self.gone = False
        self.atim: int | None = None
        self.mtim: int | None = None
        self.ctim: int | None = None

    def made(self, now_ns: int) -> None:
        self.atim = self.mtim = self.ctim = now_ns
        self.lasts = True

    def changed(self, now_ns: int) -> None:
        """Its contents, or the names in it."""
        self.mtim = self.ctim = now_ns
        self.lasts = True

    def attributes_changed(self, now_ns: int) -> None:
        self.ctim = now_ns
        self.lasts = True

    def dated(self, atim_ns: int | None, mtim_ns: int | None, now_ns: int) -> None:
        self.atim = self.atim if atim_ns is None else atim_ns
        self.mtim = self.mtim if mtim_ns is None else mtim_ns
        self.attributes_changed(now_ns)

    def copy(self) -> Record:
        """Without its handles."""
        made = Record(self.number)
        made.lasts, made.gone = self.lasts, self.gone
        made.atim, made.mtim, made.ctim = self.atim, self.mtim, self.ctim
        return made


class Objects:
    """name: the guest's directory that shows the store; of several, the first. writes: one of them can be changed."""

    def __init__(self, name: str, now: Callable[[], int]) -> None:
        """now: nanoseconds of the run's clock, which does not move for it."""
        self.name = name
        self.now = now
        self.writes = False
        self._records: dict[Hashable, Record] = {}
        self._taken: dict[int, Hashable] = {}  # number -> whose
        self._moved: dict[Key, Key] = {}  # where something is now -> the name that numbers below are made from
        self._spent: dict[Key, int] = {}  # names that objects have lost -> the next number made from each
        self._moves = 0
        self._nameless = False  # there are records of objects that the store has no numbers for
        self._charge: Charge | None = None
        self._prepaid = 0

    def become(self, other: Objects) -> None:
        """Know what `other` does, in a copy of the run that has nothing open yet. Raises NOMEM."""
        self.name, self.writes = other.name, other.writes
        self._take(len(other._records) - len(self._records))
        self._records = {slot: record.copy() for slot, record in other._records.items() if not record.gone}
        self._taken = dict(other._taken)
        self._moved, self._spent, self._moves = dict(other._moved), dict(other._spent), other._moves
        self._nameless = other._nameless

    def slot(self, key: Key, ident: int | None) -> Hashable:
        """What tells the object at `key` from all others. Where nothing changes it is the name, so that hard links
        from outside of the mount or within are nothing that could be seen."""
        return ident if self.writes and ident is not None else (key, ident)

    def known(self, key: Key, ident: int | None) -> Record | None:
        return self._records.get(self.slot(key, ident))

    def number(self, key: Key, ident: int | None) -> int:
        """Of the object at `key`, which the store calls `ident`."""
        slot = self.slot(key, ident)
        record = self._records.get(slot)
        if record is not None:
            return record.number
        number, tries = self._free_number(key, slot, 0)
        if tries and self.writes:
            self._remember(slot, number).lasts = True  # the one that it is taken by may go
        return number

    def prepare(self) -> None:
        """Before something that will have records, which cannot fail then. Raises NOMEM."""
        if self._prepaid < _PREPAID:
            self._take(_PREPAID - self._prepaid)
            self._prepaid = _PREPAID

    def has_room(self, key: Key, ident: int | None) -> bool:
        """Whether `record` can be had for nothing."""
        return self._prepaid > 0 or self.known(key, ident) is not None

    def record(self, key: Key, ident: int | None) -> Record:
        """That of the object at `key`, made if there is none. Raises NOMEM."""
        slot = self.slot(key, ident)
        record = self._records.get(slot)
        return self._remember(slot, self._free_number(key, slot, 0)[0]) if record is None else record

    def born(self, key: Key, ident: int | None) -> Record:
        """That of an object that was made there just now, and has a number that nothing had under this name."""
        slot = self.slot(key, ident)
        if slot in self._records:  # the store gave the number of something that others removed
            self._forget(slot)
        number, tries = self._free_number(key, slot, self._spent.get(key, 0))
        if tries:
            self._spend(key, tries + 1)
        record = self._remember(slot, number)
        record.made(self.now())
        return record

    def opened(self, key: Key, ident: int | None) -> Record:
        """As `record`, for one handle more, until it is `closed`."""
        record = self.record(key, ident)
        record.opens += 1
        return record

    def closed(self, record: Record, survives: bool) -> None:
        """survives: nobody has a file without a name but through its handles. Else the kernel has a copy of it by now,
        for which its number stays taken."""
        record.opens -= 1
        if record.opens:
            return
        slot = self._taken.get(record.number)
        if record.gone:
            if survives:
                self._taken.pop(record.number, None)
                self._prepaid += 1
        elif not record.lasts and slot is not None and self._records.get(slot) is record:
            self._forget(slot)

    def unnamed(self, key: Key, ident: int | None, last: bool) -> None:
        """The object has lost that name. last: and has no other."""
        self._spend(key, 1)
        slot = self.slot(key, ident)
        record = self._records.get(slot)
        if record is None:
            return
        if not last:
            record.attributes_changed(self.now())
        elif record.opens:
            record.gone = True
            record.ctim = self.now()
            del self._records[slot]
            self._taken[record.number] = record  # the store may call another object so
        else:
            self._forget(slot)

    def check_move(self, is_directory: bool) -> None:
        """Before a rename. Raises NOMEM."""
        self.prepare()
        if is_directory:
            if len(self._moved) > _MOVED_MAX:
                raise FsError(Errno.NOMEM, "more directories were renamed than a deterministic run remembers")
            self._take(2)  # for `_moved`, which forgets nothing

    def moved(self, old: Key, new: Key, ident: int | None, is_directory: bool) -> None:
        """Everything at or below `old` is at or below `new` now; what was at `new` is `unnamed`."""
        slot = self.slot(old, ident)
        record = self._records.get(slot) or self._remember(slot, self._free_number(old, slot, 0)[0])
        record.attributes_changed(self.now())
        self._rekey(old, new, is_directory)
        self._spend(old, 1)
        if not is_directory:
            return
        origin, depth = self._origin(old), len(old)
        below = [key for key in self._moved if key[: len(new)] == new]
        for key in below:
            del self._moved[key]
        for key in [key for key in self._moved if key[:depth] == old]:
            self._moved[new + key[depth:]] = self._moved.pop(key)
        self._moved[new] = origin
        self._moves += 1
        self._moved[old] = (f"{'/'.join(old)}\0{self._moves}",)

    def _rekey(self, old: Key, new: Key, is_directory: bool) -> None:
        """Records of objects that nothing but their name tells apart."""
        records, depth = self._records, len(old)
        slots: list[tuple[Key, None]] = [(old, None)] if (old, None) in records else []
        if is_directory and self._nameless:
            slots = [slot for slot in records if isinstance(slot, tuple) and slot[0][:depth] == old]
        for slot in slots:
            record = records.pop(slot)
            made = (new + slot[0][depth:], None)
            records[made] = record
            self._taken[record.number] = made

    def _free_number(self, key: Key, slot: Hashable, tries: int) -> tuple[int, int]:
        """(a number that is nobody else's, how many others were made from this name)."""
        origin = self._origin(key)
        while True:
            number = _number_of(self.name, origin, tries)
            if self._taken.get(number, slot) == slot:
                return number, tries
            tries += 1

    def _origin(self, key: Key) -> Key:
        if self._moved:
            for count in range(len(key), 0, -1):
                origin = self._moved.get(key[:count])
                if origin is not None:
                    return origin + key[count:]
        return key

    def _spend(self, key: Key, count: int) -> None:
        count = max(count, self._spent.pop(key, 0))
        self._spent[key] = count
        if len(self._spent) > _SPENT_MAX:
            del self._spent[next(iter(self._spent))]

    def _remember(self, slot: Hashable, number: int) -> Record:
        if self._prepaid:
            self._prepaid -= 1
        else:
            self._take(1)
        self._nameless = self._nameless or isinstance(slot, tuple)
        record = self._records[slot] = Record(number)
        self._taken[number] = slot
        return record

    def _forget(self, slot: Hashable) -> None:
        record = self._records.pop(slot)
        self._taken.pop(record.number, None)
        self._prepaid += 1

    def _take(self, count: int) -> None:
        if count > 0:
            if self._charge is None:
                self._charge = Charge(waiting.buffers())
            self._charge.take(count * _RECORD_BYTES)


def _number_of(name: str, key: Key, tries: int) -> int:
    text = f"{name}\0{'/'.join(key)}\0{tries}" if tries else f"{name}\0{'/'.join(key)}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") & _MASK or 1
