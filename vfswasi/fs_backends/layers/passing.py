"""What most layers leave to the store behind them."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import Uncommitted
from ..base import Backend, Key, Traffic


class Passing(Backend):
    """Hands on what concerns a store as a whole: which it is, and its end. What becomes of names and contents, a layer
    says itself."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.caps = inner.caps

    @property
    def identity(self) -> object:
        return self.inner.identity

    @property
    def place(self) -> Key | None:
        return self.inner.place

    def sync_directory(self, key: Key, data_only: bool) -> None:
        self.inner.sync_directory(key, data_only)

    def finish(self, keep: bool) -> None:
        self.inner.finish(keep)

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        return self.inner.take_uncommitted()

    def traffic(self) -> Traffic | None:
        return self.inner.traffic()

    def close(self) -> None:
        self.inner.close()
