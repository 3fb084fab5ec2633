"""Sizes that a store does not tell: a file is read to its end to be known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..base import Key
from .client import Client, Data, Info
from .listings import Listings

_SIZES_MAX = 65536
_KEPT_BYTES = 8 << 20  # of the last file, whole


class Sizes:
    """What was learned of the files of one client. Whoever looks at a size is likely to open the file next, so the
    last one that was small is kept."""

    def __init__(self, client: Client, listings: Listings) -> None:
        self._client = client
        self._listings = listings
        self._sizes: dict[Key, tuple[Info, int, float]] = {}
        self._whole: tuple[Key, Info, Data, float] | None = None
        self._lock = threading.Lock()

    def of(self, key: Key, info: Info) -> int:
        """The size of a file that is described so. Raises what reading raises."""
        with self._lock:
            known = self._sizes.get(key)
        if known is not None and known[0] == info and self._believed(info, known[2]):
            return known[1]
        size = self._measured(key, info)
        self.learned(key, info, size)
        return size

    def learned(self, key: Key, info: Info, size: int) -> None:
        """So much there was to read of a file that is described so."""
        with self._lock:
            self._sizes[key] = info, size, time.monotonic()
            if len(self._sizes) > _SIZES_MAX:
                del self._sizes[next(iter(self._sizes))]

    def read_all(self, key: Key, info: Info, write: Callable[[Data], None]) -> None:
        """All of a file, in order, given to `write` piece by piece."""
        with self._lock:
            kept, self._whole = self._whole, None
        if kept is not None and kept[:2] == (key, info) and self._believed(info, kept[3]):
            write(kept[2])
        else:
            self._client.download(key, info, write)

    def _believed(self, info: Info, at: float) -> bool:
        """Whether what was learned of a file then holds now."""
        seconds = self._listings.seconds
        return info.version is not None or info.mtim_ns is not None or time.monotonic() - at < seconds

    def _measured(self, key: Key, info: Info) -> int:
        kept = bytearray()
        size = 0

        def write(data: Data) -> None:
            nonlocal size
            size += len(data)
            if size <= _KEPT_BYTES:
                kept.extend(data)

        self._client.download(key, info, write)
        if size <= _KEPT_BYTES:
            with self._lock:
                self._whole = key, info, bytes(kept), time.monotonic()
        return size
