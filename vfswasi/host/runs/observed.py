"""What is noted about a run while it goes on, if its caller asked for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .asked import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...kernel.process import Preopen
    from ...kernel.tracing import Tracer
    from ...mounts.dress import Layer
    from ...observe.accesses.accesses import Accesses
    from ...observe.accesses.gathering import Gathering
    from ...observe.trace.trace import Trace


class Observed(NamedTuple):
    """tracer: is told of the guest's calls. lower: layers directly before the stores (see `mounts.dress`). gathering:
    what those have noted that look at what is asked of the stores."""

    tracer: Tracer | None = None
    lower: tuple[Layer, ...] = ()
    gathering: Gathering | None = None

    def ended(self) -> None:
        """The guest has ended; what is asked of the stores from now on is not for it."""
        if self.gathering is not None:
            self.gathering.ended()

    def accesses(self, preopens: Sequence[Preopen]) -> Accesses | None:
        """What the guest looked at; asked for when the run is over."""
        return None if self.gathering is None else self.gathering.accesses(preopens)

    def trace(self) -> Trace | None:
        """The calls that it made; asked for when the run is over."""
        return None


UNOBSERVED: Final = Observed()


def observed(asked: Asked) -> Observed:
    """For one run."""
    if not asked.accesses and asked.trace is None:
        return UNOBSERVED
    if not asked.accesses:
        return Observed()
    from ...observe.accesses.gathering import Gathering  # few runs are asked for it

    gathering = Gathering(asked.accesses == "digest")
    return Observed(lower=(gathering.layer,), gathering=gathering)
