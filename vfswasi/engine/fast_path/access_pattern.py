"""How a guest goes through files, and which part of one a window should take in next."""

from __future__ import annotations

from typing import Final

LARGE_BYTES: Final = 32 << 10  # from here on a copy into a window costs more than the call it saves
FIRST_BYTES: Final = 16 << 10
LAST_BYTES: Final = 256 << 10
SMALL_FILE_BYTES: Final = 64 << 10  # taken in as a whole at once
EARNED_BYTES: Final = 64 << 10  # of a whole file, by each scattered miss
PAID_CALLS: Final = 4  # a window that answered so many calls was worth filling
PATIENCE: Final = 3  # windows in a row that were not, until misses stop moving them
RETRY_MISSES: Final = 32  # and how often one does all the same


PATIENCE_FILES: Final = 3  # published files in a row that were closed before it paid, until no more are
RETRY_FILES: Final = 8  # and how often one is all the same


class Payback:
    """Whether it pays to publish files of this run. To publish one and take it back costs about as much as five calls,
    and many programs read a file as a whole in a few and close it."""

    __slots__ = ("_asked", "_unpaid")

    def __init__(self) -> None:
        self._unpaid = self._asked = 0

    def seen(self, calls: int) -> None:
        """So many calls were answered for a file that was published."""
        self._unpaid = 0 if calls > PAID_CALLS else self._unpaid + 1

    def is_likely(self) -> bool:
        """For one more file."""
        if self._unpaid < PATIENCE_FILES:
            return True
        self._asked += 1
        return self._asked % RETRY_FILES == 0


class AccessPattern:
    """What the misses of one file tell.

    length: bytes of the next window in order. next: where the last access ended. scattered: accesses out of order.
    """

    __slots__ = ("_bypassed", "_unpaid", "length", "next", "scattered")

    def __init__(self) -> None:
        self.length = FIRST_BYTES
        self.next = 0
        self.scattered = self._unpaid = self._bypassed = 0

    def plan(
        self, offset: int, wanted: int, size: int, start: int, valid: int, calls: int, whole: bool
    ) -> tuple[int, int] | None:
        """(start, length) of the window to fill for a read, or None for none.

        start, valid, calls: where the last window was, what it had, what it answered. whole: the file would fit.
        """
        if whole and size <= SMALL_FILE_BYTES:
            return 0, size
        if offset == self.next or (valid and start + valid - wanted <= offset <= start + valid):
            if wanted >= LARGE_BYTES:
                self._bypassed += wanted
                return (0, size) if whole and self._bypassed > size else None
            self.grow(calls)
            return offset, min(max(self.length, 4 * wanted), size - offset)
        self.scattered += 1
        if whole and self.scattered * EARNED_BYTES >= size:
            return 0, size
        if wanted >= LARGE_BYTES or self.is_hopeless(calls):
            return None
        return offset & ~0xFFF, min(max(4096, wanted + (offset & 0xFFF)), size - (offset & ~0xFFF))

    def grow(self, calls: int) -> None:
        """The next window in order is larger, if the last one paid."""
        if calls >= PAID_CALLS:
            self.length = min(self.length * 2, LAST_BYTES)

    def is_hopeless(self, calls: int) -> bool:
        """Whether the last windows answered too little to fill another one for a scattered access."""
        self._unpaid = 0 if calls >= PAID_CALLS else self._unpaid + 1
        return self._unpaid > PATIENCE and self._unpaid % RETRY_MISSES != 0
