"""What is noted about a run while it goes on, if its caller asked for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from .asked import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...fs_backends.base import Backend
    from ...fs_backends.layers.timed import Account
    from ...kernel.process import Preopen
    from ...kernel.streams.stream import Stream
    from ...kernel.tracing import Tracer
    from ...mounts.dress import Layer
    from ...observe.accesses.accesses import Accesses
    from ...observe.accesses.gathering import Gathering
    from ...observe.trace.recorder import Recorder
    from ...observe.trace.trace import Trace as Calls
    from ..types import Trace
    from .witness import Witness


class Observed(NamedTuple):
    """tracer: is told of the guest's calls. lower: layers directly before the stores (see `mounts.dress`). gathering:
    what those have noted that look at what is asked of the stores. storage: guest directory -> what its store has taken
    so far, if that is measured."""

    tracer: Recorder | None = None
    lower: tuple[Layer, ...] = ()
    gathering: Gathering | None = None
    storage: Mapping[str, Account] | None = None
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

    def began(self, at_ns: int) -> None:
        """The run began then, in monotonic time; calls are told to have come so long after it."""
        if self.tracer is not None:
            self.tracer.began_ns = at_ns

    def ended(self) -> None:
        """The guest has ended; what is asked of the stores from now on is not for it."""
        if self.gathering is not None:
            self.gathering.ended()

    def accesses(self, preopens: Sequence[Preopen]) -> Accesses | None:
        """What the guest looked at; asked for when the run is over."""
        return None if self.gathering is None else self.gathering.accesses(preopens)

    def trace(self) -> Calls | None:
        """The calls that it made; asked for when the run is over."""
        return None if self.tracer is None else self.tracer.trace()


UNOBSERVED: Final = Observed()


def observed(asked: Asked) -> Observed:
    """For one run."""
    if not asked.accesses and asked.trace is None:
        return UNOBSERVED
    found = Observed(recorder_of(asked.trace))
    if found.tracer is not None:
        storage: dict[str, Account] = {}
        found = found._replace(lower=(_timed_by(storage),), storage=storage)
    if not asked.accesses:
        return found
    from ...observe.accesses.gathering import Gathering  # few runs are asked for it

    gathering = Gathering(asked.accesses == "digest")
    return found._replace(lower=(*found.lower, gathering.layer), gathering=gathering)


def _timed_by(storage: dict[str, Account]) -> Layer:
    from ...fs_backends.layers.timed import Account, Timed

    def timed(name: str, store: Backend) -> Backend:
        return Timed(store, storage.setdefault(name, Account()))

    return timed


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
