"""What is noted about a run while it goes on, if its caller asked for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .asked import Asked

if TYPE_CHECKING:
    from ...kernel.tracing import Tracer
    from ...mounts.dress import Layer
    from ...observe.accesses.accesses import Accesses
    from ...observe.trace.trace import Trace


class Observed(NamedTuple):
    """tracer: is told of the guest's calls. lower: layers directly before the stores (see `mounts.dress`)."""

    tracer: Tracer | None = None
    lower: tuple[Layer, ...] = ()

    def accesses(self) -> Accesses | None:
        """What the guest looked at; asked for when the run is over."""
        return None

    def trace(self) -> Trace | None:
        """The calls that it made; asked for when the run is over."""
        return None


UNOBSERVED: Final = Observed()


def observed(asked: Asked) -> Observed:
    """For one run."""
    if not asked.accesses and asked.trace is None:
        return UNOBSERVED
    return Observed()
