"""What a run may add to the stores, charged to objects: names are no way around it.

Every byte that a file grows by is charged before the store hears of it, holes included, and is given back when the file
shrinks or when nothing is left of it: no name and no descriptor. What was there before the run is nobody's charge, so
to remove it gives nothing back. A file that has several names keeps its charge to the end of the run, since whoever
removes one of them cannot tell whether it is the last.
"""

from __future__ import annotations

from ..errors import Errno, FsError
from ..fs_backends.base import Buffer, Handle, Key, ReadableBuffer, Stat
from ..limits import Limits


class RunQuota:
    """What one run may add to all its stores together, and the most that it had added at one time."""

    __slots__ = ("bytes", "inodes", "max_bytes", "max_inodes", "peak_bytes", "peak_inodes")

    def __init__(self, limits: Limits) -> None:
        self.max_bytes = limits.stored_bytes
        self.max_inodes = limits.inodes
        self.bytes = self.inodes = self.peak_bytes = self.peak_inodes = 0


class Charge:
    """What was charged for one object. `last`: its name is its only one."""

    __slots__ = ("bytes", "last")

    def __init__(self, count: int = 0, last: bool = True) -> None:
        self.bytes = count
        self.last = last


class Quota:
    """One store's part in a run's quota: `charges` of its objects that are not open, by directory and name."""

    __slots__ = ("bytes", "charges", "file_bytes", "max_bytes", "run")

    def __init__(self, run: RunQuota, limits: Limits) -> None:
        self.run = run
        self.max_bytes = limits.mount_bytes
        self.file_bytes = limits.file_bytes
        self.bytes = 0
        self.charges: dict[Key, dict[str, Charge]] = {}

    def charge(self, count: int) -> None:
        """Raises DQUOT, and has charged nothing then."""
        run = self.run
        used, total = self.bytes + count, run.bytes + count
        if used > self.max_bytes or total > run.max_bytes:
            raise FsError(Errno.DQUOT, "Limits.mount_bytes or Limits.stored_bytes")
        self.bytes, run.bytes = used, total
        if total > run.peak_bytes:
            run.peak_bytes = total

    def credit(self, count: int) -> None:
        self.bytes -= count
        self.run.bytes -= count

    def add_name(self) -> None:
        """A name is about to be made. Raises DQUOT."""
        run = self.run
        inodes = run.inodes
        if inodes >= run.max_inodes:
            raise FsError(Errno.DQUOT, "Limits.inodes")
        run.inodes = inodes + 1
        if inodes >= run.peak_inodes:
            run.peak_inodes = inodes + 1

    def drop_name(self) -> None:
        """A name was not made after all, or is gone."""
        self.run.inodes -= 1

    def keep(self, key: Key, charge: Charge) -> None:
        """What lies at `key` is not open any more, and its charge goes with the name."""
        self.charges.setdefault(key[:-1], {})[key[-1]] = charge

    def take(self, key: Key) -> Charge | None:
        """The charge of what lies at `key`, which is the caller's affair now."""
        found = self.charges.get(key[:-1])
        return None if found is None else found.pop(key[-1], None)

    def removed(self, charge: Charge) -> None:
        """Nothing is left of an object, unless it has other names."""
        if charge.last:
            self.credit(charge.bytes)

    def linked(self, key: Key) -> None:
        """What lies at `key` and is not open got another name."""
        found = self.charges.get(key[:-1])
        if found is not None and key[-1] in found:
            found[key[-1]].last = False

    def renamed(self, old: Key, new: Key, is_directory: bool) -> None:
        """Everything at or below `old` is at or below `new` now."""
        charge = self.take(old)
        if charge is not None:
            self.keep(new, charge)
        if is_directory and self.charges:
            depth = len(old)
            for key in [key for key in self.charges if key[:depth] == old]:
                self.charges[new + key[depth:]] = self.charges.pop(key)


class ChargedHandle(Handle):
    """`inner`, a handle that writes, with everything it grows by charged."""

    __slots__ = ("_charge", "_end", "_inner", "_quota", "_reserved", "_steady")

    def __init__(self, inner: Handle, quota: Quota, charge: Charge, steady: bool) -> None:
        """`steady`: nothing but this handle changes the file's size."""
        self._inner = inner
        self._quota = quota
        self._charge = charge
        self._steady = steady
        self._end = 0  # up to here the file was charged, or was there before
        self._reserved = 0  # charged for writes to come

    def _pay(self, end: int) -> int:
        """Charge for a file that is to have `end` bytes at least; how many bytes it grows by. Raises DQUOT, FBIG."""
        growth = end - self._inner.size()
        if growth <= 0:
            return 0
        quota = self._quota
        if end > quota.file_bytes:
            raise FsError(Errno.FBIG, "Limits.file_bytes")
        reserved = self._reserved
        if growth > reserved:
            quota.charge(growth - reserved)
            self._reserved = 0
        else:
            self._reserved = reserved - growth
        self._charge.bytes += growth
        return growth

    def _refund(self, growth: int) -> None:
        self._charge.bytes -= growth
        self._quota.credit(growth)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        end = offset + len(buf)
        if end <= self._end or end == offset:
            self._inner.write_from(offset, buf)
            return
        growth = self._pay(end)
        try:
            self._inner.write_from(offset, buf)
        except BaseException:
            self._refund(growth)
            raise
        if self._steady:
            self._end = end

    def append(self, buf: ReadableBuffer) -> int:
        growth = self._pay(self._inner.size() + len(buf))
        try:
            end = self._inner.append(buf)
        except BaseException:
            self._refund(growth)
            raise
        if self._steady:
            self._end = end
        return end

    def truncate(self, size: int) -> None:
        self._give_back()
        before = self._inner.size()
        growth = self._pay(size) if size > before else 0
        try:
            self._inner.truncate(size)
        except BaseException:
            self._refund(growth)
            raise
        self._end = size if self._steady else 0
        if size < before:
            self._refund(min(before - size, self._charge.bytes))

    def allocate(self, offset: int, length: int) -> None:
        growth = self._pay(offset + length)
        try:
            self._inner.allocate(offset, length)
        except BaseException:
            self._refund(growth)
            raise

    def reserve(self, offset: int, length: int) -> bool:
        self._give_back()
        if not length:
            return self._inner.reserve(offset, length)
        end = offset + length
        if end > self._quota.file_bytes:
            return False
        growth = max(0, end - self._inner.size())
        try:
            self._quota.charge(growth)
        except FsError:
            return False
        self._reserved = growth
        if self._inner.reserve(offset, length):
            return True
        self._give_back()
        return False

    def _give_back(self) -> None:
        if self._reserved:
            self._quota.credit(self._reserved)
            self._reserved = 0

    def read_into(self, offset: int, buf: Buffer) -> int:
        return self._inner.read_into(offset, buf)

    def size(self) -> int:
        return self._inner.size()

    def stat(self) -> Stat:
        return self._inner.stat()

    def ident(self) -> int | None:
        return self._inner.ident()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._inner.set_times(atim_ns, mtim_ns)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._inner.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self._inner.sync(data_only)

    def close(self) -> None:
        self._give_back()
        self._inner.close()

    def discard(self) -> None:
        self._give_back()
        self._inner.discard()
