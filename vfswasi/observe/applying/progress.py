"""How far it is, for whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]


class Steps:
    """`tell` is called with (done, total): bytes of contents, and one for each change."""

    def __init__(self, tell: Progress | None, total: int) -> None:
        self._tell = tell
        self._total = max(total, 1)
        self._done = 0

    def step(self, count: int = 1) -> None:
        self._done = min(self._done + count, self._total)
        if self._tell is not None:
            self._tell(self._done, self._total)

    def end(self) -> None:
        """All of it is done."""
        self.step(self._total - self._done)
