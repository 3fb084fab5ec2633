"""Random bytes that are the same in every run of the same seed."""

from __future__ import annotations

import random

_BLOCK_BYTES = 4096


class SeededEntropy:
    """A stream of bytes: how it is cut into requests makes no difference. Not for secrets."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._rest = b""

    def __call__(self, count: int) -> bytes:
        """The next `count` bytes."""
        pieces = [self._rest]
        have = len(self._rest)
        while have < count:
            pieces.append(self._random.randbytes(_BLOCK_BYTES))
            have += _BLOCK_BYTES
        data = b"".join(pieces)
        self._rest = data[count:]
        return data[:count]

    def put_back(self, data: bytes) -> None:
        """The next bytes are these again, which were taken last."""
        self._rest = data + self._rest

    def copy(self) -> SeededEntropy:
        """Another one, whose next bytes are the same."""
        made = SeededEntropy(0)
        made._random.setstate(self._random.getstate())
        made._rest = self._rest
        return made
