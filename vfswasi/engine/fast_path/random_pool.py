"""Random bytes that lie ready in vdso memory."""

from __future__ import annotations

from collections.abc import Callable

from . import vdso


class RandomPool:
    """The pool of one run. `source`: gives so many random bytes; what wasm takes from the pool came from it."""

    def __init__(self, memory: vdso.Vdso, source: Callable[[int], bytes]) -> None:
        self._memory = memory
        self.source = source

    def fill(self) -> None:
        """Fill it again, if it is empty."""
        words, at = self._memory.words, vdso.RANDOM_AT // 4
        if words[at] != words[at + 1]:
            return
        start = vdso.RANDOM_POOL_AT
        self._memory.view[start : start + vdso.RANDOM_POOL_BYTES] = self.source(vdso.RANDOM_POOL_BYTES)
        words[at] = start
        words[at + 1] = start + vdso.RANDOM_POOL_BYTES

    def take(self, count: int) -> bytes:
        """What the pool still has comes first, so that a seeded run gives the same bytes either way."""
        words, at = self._memory.words, vdso.RANDOM_AT // 4
        start = words[at]
        taken = min(count, words[at + 1] - start)
        data = bytes(self._memory.view[start : start + taken])
        self._memory.view[start : start + taken] = bytes(taken)
        words[at] = start + taken
        return data + self.source(count - taken) if count > taken else data

    def rest(self) -> bytes:
        """What is left of it, which is taken out."""
        words, at = self._memory.words, vdso.RANDOM_AT // 4
        return self.take(words[at + 1] - words[at])

    def empty(self) -> None:
        """Nothing is answered from it any more."""
        words, at = self._memory.words, vdso.RANDOM_AT // 4
        words[at + 1] = words[at]
