"""How one run sees what is mounted: layers that are put around the stores for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..clock import Clock
from ..fs_backends.base import Backend

# (guest directory, store) -> a layer before the store.
Layer = Callable[[str, Backend], Backend]


class Dress(NamedTuple):
    """clock: that the run was given; None: the system's. hermetic: what depends on the day, the machine or the kind of
    store is not shown. lower: layers that stand directly before each store, below its overlay if it has one. now_ns:
    where stores that are made for the run take their times from, as that clock goes on; None: `time.time_ns`."""

    clock: Clock | None = None
    hermetic: bool = False
    lower: tuple[Layer, ...] = ()
    now_ns: Callable[[], int] | None = None

    def below(self, name: str, store: Backend) -> Backend:
        """The store with what stands directly before it."""
        for layer in self.lower:
            store = layer(name, store)
        return store

    def shown(self, name: str, backend: Backend, times: str | None) -> Backend | None:
        """What the guest gets to see in place of `backend`, if that is something else. times: `Mount.times`."""
        if not self.hermetic:
            return None
        from ..fs_backends.layers.hermetic import Hermetic

        return Hermetic(backend, name, keep_times=times == "keep", clock=self.clock)


PLAIN: Final = Dress()
