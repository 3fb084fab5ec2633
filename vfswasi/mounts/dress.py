"""How one run sees what is mounted: layers that are put around the stores for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from ..clock import Clock
from ..fs_backends.base import Backend

if TYPE_CHECKING:
    from ..fs_backends.layers.hermetic.objects import Objects

# (guest directory, store) -> a layer before the store.
Layer = Callable[[str, Backend], Backend]


class Dress(NamedTuple):
    """clock: that the run was given; None: the system's. hermetic: what depends on the day, the machine or the kind of
    store is not shown. lower: layers that stand directly before each store, below its overlay if it has one. now_ns:
    where stores that are made for the run take their times from, as that clock goes on; None: `time.time_ns`. objects:
    for one hermetic run, what it knows of each store, by its identity."""

    clock: Clock | None = None
    hermetic: bool = False
    lower: tuple[Layer, ...] = ()
    now_ns: Callable[[], int] | None = None
    objects: dict[object, Objects] | None = None

    def for_one_run(self) -> Dress:
        """With room for what is of one run alone."""
        return self._replace(objects={}) if self.hermetic else self

    def below(self, name: str, store: Backend) -> Backend:
        """The store with what stands directly before it."""
        for layer in self.lower:
            store = layer(name, store)
        return store

    def shown(self, name: str, backend: Backend, times: str | None, readonly: bool) -> Backend | None:
        """What the guest gets to see in place of `backend`, if that is something else. times: `Mount.times`."""
        if self.objects is None:
            return None
        from ..fs_backends.layers.hermetic.backend import Hermetic, mounted_ns
        from ..fs_backends.layers.hermetic.objects import Objects

        objects = self.objects.setdefault(backend.identity, Objects(name, self.now_ns or time.time_ns))
        keep_times, then_ns = times == "keep", mounted_ns(self.clock)
        return Hermetic(backend, objects, keep_times=keep_times, readonly=readonly, then_ns=then_ns)


PLAIN: Final = Dress()
