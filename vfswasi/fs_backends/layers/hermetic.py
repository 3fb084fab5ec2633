"""What a store shows in a deterministic run: nothing that depends on the day, the machine or the kind of store."""

from __future__ import annotations

from ...clock import Clock
from ..base import Backend


class Hermetic(Backend):
    """`inner` with sorted listings, numbers made from names, and times that are one instant.

    name: the guest's directory. keep_times: times of files are shown as they are. clock: of the run.
    """

    def __init__(self, inner: Backend, name: str, *, keep_times: bool, clock: Clock | None) -> None:
        self.inner = inner
