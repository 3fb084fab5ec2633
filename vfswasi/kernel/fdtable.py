"""The descriptor table: the only way from a guest's number to anything."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from ..errors import Errno, FsError
from .descriptor import Descriptor, OpenDirectory, OpenFile
from .streams.devices import OpenDevice

_FIRST_FREE = 3  # 0 to 2 are the standard streams; closing them does not make their numbers free


class FdTable:
    """Numbers to descriptors. New ones get the lowest free number above 2."""

    def __init__(self, limit: int) -> None:
        """`limit`: how many descriptors may be open at once."""
        self._open: dict[int, Descriptor] = {}
        self._limit = limit
        self._next = _FIRST_FREE
        self._free: list[int] = []  # heap of numbers below _next that were closed
        # Numbers that the engine answers for, and what it wants to hear before such a descriptor goes, moves, or
        # changes its rights or flags.
        self.published: set[int] = set()
        self.take_back: Callable[[int], None] = self.published.discard

    @property
    def peak(self) -> int:
        """How many were open at one time, at most: new ones get the lowest free number."""
        return self._next

    def __len__(self) -> int:
        return len(self._open)

    def get(self, fd: int, need: int) -> Descriptor:
        """The descriptor behind `fd`, if it has all rights in `need`.

        Raises BADF, or what the descriptor says about missing rights (`Descriptor.refuse`).
        """
        descriptor = self._open.get(fd)
        if descriptor is None:
            raise FsError(Errno.BADF)
        missing = need & ~descriptor.rights
        if missing:
            raise descriptor.refuse(missing)
        return descriptor

    def look(self, fd: int) -> Descriptor | None:
        """What stands behind `fd`, for no use that needs a right."""
        return self._open.get(fd)

    def to_change(self, fd: int, need: int) -> Descriptor:
        """As `get`, for a call that changes the descriptor's own rights or flags."""
        if fd in self.published:
            self.take_back(fd)
        return self.get(fd, need)

    def replace(self, fd: int, descriptor: Descriptor) -> None:
        """Let another object stand for the same open description; nothing is closed."""
        self._open[fd] = descriptor

    def file(self, fd: int, need: int) -> OpenFile:
        """As `get`, for calls that only regular files answer; streams lack the rights for them."""
        descriptor = self.get(fd, need)
        if not isinstance(descriptor, OpenFile):
            raise FsError(Errno.BADF)
        return descriptor

    def positioned(self, fd: int, need: int) -> OpenFile | OpenDevice:
        """As `get`, for calls with an offset, which devices answer too."""
        descriptor = self.get(fd, need)
        if not isinstance(descriptor, (OpenFile, OpenDevice)):
            raise FsError(Errno.BADF)
        return descriptor

    def directory(self, fd: int, need: int) -> OpenDirectory:
        """As `get`, for the base of a path. Raises NOTDIR for anything but a directory."""
        descriptor = self._open.get(fd)
        if type(descriptor) is OpenDirectory and not need & ~descriptor.rights:
            return descriptor
        if descriptor is None:
            raise FsError(Errno.BADF)
        if not isinstance(descriptor, OpenDirectory):
            raise FsError(Errno.NOTDIR)
        missing = need & ~descriptor.rights
        if missing:
            raise descriptor.refuse(missing)
        return descriptor

    def check_room(self) -> None:
        """Raises MFILE if no descriptor can be added; called before anything is created or opened."""
        if len(self._open) >= self._limit:
            raise FsError(Errno.MFILE)

    def add(self, descriptor: Descriptor) -> int:
        """Give a descriptor the lowest free number."""
        if self._free:
            fd = heappop(self._free)
        else:
            fd = self._next
            self._next += 1
        self._open[fd] = descriptor
        return fd

    def set_standard(self, fd: int, descriptor: Descriptor) -> None:
        """Put a standard stream at 0, 1 or 2."""
        self._open[fd] = descriptor

    def descriptors(self) -> dict[int, Descriptor]:
        """What is open, by its number."""
        return dict(self._open)

    def become(self, other: FdTable, descriptors: dict[int, Descriptor]) -> None:
        """Have these under their numbers, and give the numbers to others that `other` would; nothing is closed."""
        self._open = descriptors
        self._next = other._next
        self._free = list(other._free)

    def close(self, fd: int, keep: bool = True) -> None:
        """Raises BADF, and whatever closing what is behind it raises; the number is free in any case. `keep`: see
        `Descriptor.close`."""
        if fd in self.published:
            self.take_back(fd)
        descriptor = self._open.pop(fd, None)
        if descriptor is None:
            raise FsError(Errno.BADF)
        if fd >= _FIRST_FREE:
            heappush(self._free, fd)
        descriptor.close(keep)

    def renumber(self, fd: int, to: int) -> None:
        """Move `fd` onto the open number `to`, releasing what was there. Raises BADF for either.

        Everything moves along, the name of a preopen too. An error of closing the old one comes last.
        """
        for number in (fd, to):
            if number in self.published:
                self.take_back(number)
        descriptor, old = self._open.get(fd), self._open.get(to)
        if descriptor is None or old is None:
            raise FsError(Errno.BADF)
        if fd == to:
            return
        del self._open[fd]
        if fd >= _FIRST_FREE:
            heappush(self._free, fd)
        self._open[to] = descriptor
        old.close()

    def close_all(self, keep: bool) -> list[BaseException]:
        """Close everything; returns what went wrong instead of stopping at it."""
        errors: list[BaseException] = []
        for fd in list(self._open):
            try:
                self.close(fd, keep)
            except BaseException as error:
                errors.append(error.with_traceback(None))  # which leads to what is being closed
        return errors
