"""Memory that stores take because of what an archive, a server or a guest says, counted in bytes where it is taken.

A `Budget` is for one purpose, such as the indexes of archives. It may lie within a larger one: a run's within the
process's. Whoever takes from it gives back the same number when the memory goes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final

from ..errors import Errno, FsError
from ..printing import counted


class Budget:
    """So many bytes at one time. Any thread may take and give, a finalizer too.

    name: for messages, such as `Limits.index_bytes`. most: bytes. within: a larger budget that is charged as well.
    """

    __slots__ = ("_given", "_lock", "_taken", "most", "name", "within")

    def __init__(self, name: str, most: int, within: Budget | None = None) -> None:
        self.name = name
        self.most = most
        self.within = within
        self._taken = 0
        # A finalizer may run in the middle of `try_take` of its own thread, which holds the lock.
        self._given: deque[int] = deque()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        with self._lock:
            self._settle()
            return self._taken

    def _settle(self) -> None:
        while self._given:
            self._taken -= self._given.popleft()

    def take(self, count: int) -> None:
        """Before the memory is taken. Raises NOMEM with the budget's name, and then nothing was charged."""
        if not self.try_take(count):
            full = self if self.within is None or self.used + count > self.most else self.within
            raise FsError(Errno.NOMEM, f"{full.name} ({counted(full.most, 'byte')})")

    def try_take(self, count: int) -> bool:
        """`take` for those who can do with less; False: there is not so much."""
        with self._lock:
            self._settle()
            if self._taken + count > self.most:
                return False
            self._taken += count
        if self.within is not None and not self.within.try_take(count):
            self._given.append(count)
            return False
        return True

    def give(self, count: int) -> None:
        """When the memory has gone."""
        self._given.append(count)
        if self.within is not None:
            self.within.give(count)


# The defaults of `Limits.index_bytes` and `Limits.buffer_bytes`, and for what is opened outside of any run.
INDEX_BYTES: Final = 128 << 20
BUFFER_BYTES: Final = 64 << 20

# For all sandboxes of the process together.
PROCESS_INDEX_BYTES: Final = 1 << 30
PROCESS_BUFFER_BYTES: Final = 512 << 20

_indexes = Budget("the indexes of all archives of this process", PROCESS_INDEX_BYTES)
_buffers = Budget("decoders and read-ahead of this process", PROCESS_BUFFER_BYTES)


def _renew_locks() -> None:
    for budget in (_indexes, _buffers):
        budget._lock = threading.Lock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_renew_locks)


def index_budget(most: int) -> Budget:
    """A budget for what is known of archives while they are mounted: names, places, targets of links, headers."""
    return Budget("Limits.index_bytes", most, _indexes)


def buffer_budget(most: int) -> Budget:
    """A budget for what open files need beside their contents: decoders, read-ahead, answers of servers."""
    return Budget("Limits.buffer_bytes", most, _buffers)
