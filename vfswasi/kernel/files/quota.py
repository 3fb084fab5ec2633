"""What a run may add to the stores, charged to objects: names are no way around it.

Every byte that a file grows by is charged before the store hears of it, holes included, and is given back when the file
shrinks or when nothing is left of it: no name and no descriptor. What was there before the run is nobody's charge, so
to remove it gives nothing back. A file that has several names keeps its charge to the end of the run, since whoever
removes one of them cannot tell whether it is the last.
"""

from __future__ import annotations

from typing import Final

from ...errors import Errno, FsError
from ...fs_backends.base import Buffer, Handle, Key, ReadableBuffer, Stat
from ...limits import Limits


class RunQuota:
    """What one run may add to all its stores together. `inodes`: names added so far."""

    __slots__ = ("_peak_bytes", "_quotas", "highest_inodes", "inodes", "max_bytes", "max_inodes")

    def __init__(self, limits: Limits) -> None:
        self.max_bytes = limits.stored_bytes
        self.max_inodes = limits.inodes
        self.inodes = self._peak_bytes = 0
        self.highest_inodes = 0  # the most, up to when one was last given back
        self._quotas: list[Quota] = []

    @property
    def bytes(self) -> int:
        """Bytes charged now."""
        return sum(quota.bytes for quota in self._quotas)

    @property
    def peak_inodes(self) -> int:
        """The most names added at one time."""
        return max(self.highest_inodes, self.inodes)

    @property
    def peak_bytes(self) -> int:
        """The most bytes charged at one time."""
        quotas = self._quotas
        if len(quotas) == 1:
            return max(quotas[0].peak, quotas[0].bytes)
        return max(self._peak_bytes, self.bytes)

    def close(self) -> None:
        """The run is over; only what it had at most is remembered."""
        self._peak_bytes = self.peak_bytes
        self._quotas.clear()

    def become(self, other: RunQuota) -> None:
        """Have charged what `other` has, which has as many stores in the same order."""
        self.inodes, self.highest_inodes, self._peak_bytes = other.inodes, other.highest_inodes, other._peak_bytes
        for quota, old in zip(self._quotas, other._quotas, strict=True):
            quota.bytes, quota.peak, quota.charges = old.bytes, old.peak, dict(old.charges)

    def note_peak(self) -> None:
        """One of several stores is about to give something back."""
        self._peak_bytes = max(self._peak_bytes, self.bytes)

    def share(self, limits: Limits) -> Quota:
        """One more store that the run may add to."""
        quota = Quota(self, min(limits.mount_bytes, limits.stored_bytes), limits)
        self._quotas.append(quota)
        if len(self._quotas) > 1:
            for each in self._quotas:
                each.limit = -1
        return quota

    def check_room_for_a_name(self) -> None:
        """A name is about to be made. Raises DQUOT."""
        if self.inodes >= self.max_inodes:
            raise FsError(Errno.DQUOT, "Limits.inodes")


class Quota:
    """One store's part in a run's quota.

    bytes: charged now. peak: the most of that, up to now, where this is the only store. limit: how many may be charged
    without a look at the other stores, -1 if there are any. charges: bytes of files and links that are not open and
    have one name.
    """

    __slots__ = ("_max_bytes", "bytes", "charges", "file_bytes", "limit", "peak", "run")

    def __init__(self, run: RunQuota, limit: int, limits: Limits) -> None:
        self.run = run
        self.limit = limit
        self._max_bytes = limits.mount_bytes
        self.file_bytes = limits.file_bytes
        self.bytes = self.peak = 0
        self.charges: dict[Key, int] = {}

    def charge(self, count: int) -> None:
        """Raises DQUOT, and has charged nothing then."""
        used = self.bytes + count
        if used > self.limit:
            run = self.run
            if used > self._max_bytes:
                raise FsError(Errno.DQUOT, "Limits.mount_bytes")
            if run.bytes + count > run.max_bytes:
                raise FsError(Errno.DQUOT, "Limits.stored_bytes")
        self.bytes = used

    def credit(self, count: int) -> None:
        used = self.bytes
        if used > self.peak:
            self.peak = used
        if self.limit < 0:
            self.run.note_peak()
        self.bytes = used - count

    def renamed(self, old: Key, new: Key, is_directory: bool) -> None:
        """Everything at or below `old` is at or below `new` now."""
        charges = self.charges
        if not is_directory:
            if old in charges:
                charges[new] = charges.pop(old)
            return
        depth = len(old)
        for key in [key for key in charges if key[:depth] == old]:
            charges[new + key[depth:]] = charges.pop(key)


UNKNOWN: Final = -1


class ChargedHandle(Handle):
    """`inner`, a handle that writes, with everything it grows by charged.

    charged: how many bytes. alone: the file has one name, so that with it the bytes go. steady: nothing else in this
    run changes its size.
    """

    charged = 0
    alone = True
    steady = True
    _reserved = 0  # charged for writes to come

    def __init__(self, inner: Handle, quota: Quota, end: int) -> None:
        """`end`: the file's size, if this handle alone changes it; else UNKNOWN."""
        self._inner = inner
        self._quota = quota
        self._end = end
        if end < 0:
            self.steady = False

    def _pay(self, end: int) -> int:
        """Charge for a file that is to have `end` bytes at least; how many bytes it grows by. Raises DQUOT, FBIG."""
        size = self._end
        if size < 0:
            size = self._inner.size()
            if self.steady:
                self._end = size
        growth = end - size
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
        self.charged += growth
        return growth

    def _refund(self, growth: int) -> None:
        self.charged -= growth
        self._quota.credit(growth)

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        length = len(buf)
        end, size = offset + length, self._end
        if not length or end <= size:
            self._inner.write_from(offset, buf)
            return
        quota = self._quota
        if size >= 0 and not self._reserved:
            used = quota.bytes + end - size
            if used <= quota.limit and end <= quota.file_bytes:  # the usual case, which cannot fail any more
                self._inner.write_from(offset, buf)
                quota.bytes = used
                self.charged += end - size
                self._end = end
                return
        growth = self._pay(end)
        try:
            self._inner.write_from(offset, buf)
        except BaseException:
            self._refund(growth)
            raise
        if growth and self.steady:
            self._end = end

    def append(self, buf: ReadableBuffer) -> int:
        self._end = UNKNOWN  # the store knows where its end is
        growth = self._pay(self._inner.size() + len(buf))
        try:
            end = self._inner.append(buf)
        except BaseException:
            self._refund(growth)
            raise
        if self.steady:
            self._end = end
        return end

    def truncate(self, size: int) -> None:
        self._give_back()
        self._end = UNKNOWN
        before = self._inner.size()
        growth = self._pay(size)
        self._end = UNKNOWN
        try:
            self._inner.truncate(size)
        except BaseException:
            self._refund(growth)
            raise
        if self.steady:
            self._end = size
        if size < before:
            self._refund(min(before - size, self.charged))

    def allocate(self, offset: int, length: int) -> None:
        growth = self._pay(offset + length)
        try:
            self._inner.allocate(offset, length)
        except BaseException:
            self._refund(growth)
            raise
        finally:
            self._end = UNKNOWN

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
        promised = False
        try:
            promised = self._inner.reserve(offset, length)
        finally:
            if not promised:
                self._give_back()
        return promised

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

    def true_stat(self) -> Stat:
        return self._inner.true_stat()

    def ident(self) -> int | None:
        return self._inner.ident()

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._inner.set_times(atim_ns, mtim_ns)

    def advise(self, offset: int, length: int, advice: int) -> None:
        self._inner.advise(offset, length, advice)

    def sync(self, data_only: bool) -> None:
        self._inner.sync(data_only)

    def close(self) -> None:
        if self._reserved:
            self._give_back()
        self._inner.close()

    def discard(self) -> None:
        self._give_back()
        self._inner.discard()
