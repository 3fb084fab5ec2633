"""What is noted about a run while it goes on, if its caller asked for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .asked import Asked

if TYPE_CHECKING:
    from ...kernel.streams.stream import Stream
    from ...kernel.tracing import Tracer
    from ...mounts.dress import Layer
    from ...observe.accesses.accesses import Accesses
    from ...observe.trace.recorder import Recorder
    from ...observe.trace.trace import Trace as Calls
    from ..types import Trace
    from .witness import Witness


class Observed(NamedTuple):
    """tracer: is told of the guest's calls. lower: layers directly before the stores (see `mounts.dress`)."""

    tracer: Recorder | None = None
    lower: tuple[Layer, ...] = ()
    witness: Witness | None = None

    @property
    def told(self) -> Tracer | None:
        """The tracer of the guest."""
        return self.tracer if self.witness is None else self.witness.tracer(self.tracer)

    def seen_by(self, witness: Witness | None) -> Observed:
        """With a witness. It stands directly behind what the guest asks, before all other layers."""
        return self if witness is None else self._replace(lower=(*self.lower, witness.layer), witness=witness)

    def streams(self, streams: tuple[Stream, Stream, Stream]) -> tuple[Stream, Stream, Stream]:
        """What the guest gets."""
        return streams if self.witness is None else self.witness.streams(streams)

    def accesses(self) -> Accesses | None:
        """What the guest looked at; asked for when the run is over."""
        return None

    def trace(self) -> Calls | None:
        """The calls that it made; asked for when the run is over."""
        return None if self.tracer is None else self.tracer.trace()


UNOBSERVED: Final = Observed()


def observed(asked: Asked) -> Observed:
    """For one run."""
    if not asked.accesses and asked.trace is None:
        return UNOBSERVED
    return Observed(recorder_of(asked.trace))


def observed_by(tracer: Tracer | None) -> Observed:
    """What is noted about a guest that has this one."""
    if tracer is None:
        return UNOBSERVED
    from ...observe.trace.recorder import Recorder

    return Observed(tracer) if isinstance(tracer, Recorder) else UNOBSERVED


def recorder_of(trace: Trace) -> Recorder | None:
    """For one guest, of what its caller has given as `trace`."""
    if not trace and not callable(trace):
        return None
    from ...observe.trace.recorder import Recorder  # few runs are traced

    return Recorder(trace if callable(trace) else None)
