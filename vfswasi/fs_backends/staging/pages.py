"""Pages of staged contents: their size, and numbers."""

from __future__ import annotations

from typing import Final

from ..waiting import check_time

PAGE_BYTES: Final = 32 << 10
SHIFT: Final = 15
MASK: Final = PAGE_BYTES - 1
ZEROS: Final = bytes(PAGE_BYTES)
PAGES_AT_ONCE: Final = 64  # between two looks at the time


def pages_of(size: int) -> int:
    return (size + MASK) >> SHIFT


def part(number: int, offset: int, end: int) -> tuple[int, int]:
    """What of a page lies between two offsets."""
    base = number << SHIFT
    return max(offset - base, 0), min(end - base, PAGE_BYTES)


def clear(piece: memoryview) -> None:
    for start in range(0, len(piece), PAGE_BYTES):
        some = piece[start : start + PAGE_BYTES]
        some[:] = ZEROS[: len(some)]
        if not (start + PAGE_BYTES) % (PAGES_AT_ONCE * PAGE_BYTES):
            check_time("reading what was never written")
