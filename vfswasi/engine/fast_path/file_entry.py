"""The entry of one file in vdso memory: the words that `vdso.wat` reads and writes, as Python sees them."""

from __future__ import annotations

from typing import Final

from . import vdso

LEASE: Final = (1 << 32) - 1
SHARED_LEASE: Final = 1000  # calls after which a file that others may change is looked at again


class FileEntry:
    """`address`: where it is. `shared`: others may change the file at any time."""

    __slots__ = ("_answered", "_dirty_index", "_lease", "_longs", "_place", "_view", "_words", "address", "shared")

    def __init__(self, made: vdso.Vdso, at: int, shared: bool) -> None:
        self._view, self._longs, self._words = made.view, made.longs, made.words
        self._dirty_index = (at >> 3) + 5
        self.address = at
        self.shared = shared
        self._lease = SHARED_LEASE if shared else LEASE
        self._place = self._answered = 0

    def _begin(self, size: int) -> None:
        """A file of so many bytes, without a window."""
        flags = vdso.DIRTY_BYTES_TOUCH | vdso.PYTHON_KNOWS_THE_END if self.shared else 0
        vdso.FILE.pack_into(self._view, self.address, size, 0, 0, 0, 0, 0, 0, self._lease, flags, 0)

    def _load(self) -> tuple[int, ...]:
        return vdso.FILE.unpack_from(self._view, self.address)

    def _set_size(self, size: int) -> None:
        self._longs[self.address >> 3] = size

    def _set_window(self, start: int, valid: int, room: int) -> None:
        longs, at = self._longs, self.address >> 3
        longs[at + 1], longs[at + 2], longs[at + 3] = start, valid, room
        self._words[(self.address >> 2) + 12] = self._place
        if not self.shared:  # the lease of a shared file ends, whatever window it has
            self._renew_lease()

    def _empty(self) -> None:
        self._set_window(0, 0, 0)

    def _renew_lease(self) -> None:
        words, at = self._words, (self.address >> 2) + 13
        self._answered += self._lease - words[at]
        words[at] = self._lease

    def answered(self) -> int:
        """Calls on this file that did not reach Python."""
        return self._answered + self._lease - self._words[(self.address >> 2) + 13]

    def _set_dirty(self, start: int, end: int) -> None:
        longs, at = self._longs, self.address >> 3
        longs[at + 4], longs[at + 5] = start, end

    def forget_attributes(self) -> None:
        self._words[(self.address >> 2) + 15] = 0
