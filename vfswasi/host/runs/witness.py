"""`Witness`: what stands between one run and everything outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...engine.runner import Ending
    from ...fs_backends.base import Backend
    from ...kernel.streams.stream import Stream
    from ...kernel.tracing import Tracer


class Witness(Protocol):
    """What stands between one run and everything outside, to note it or to take its place."""

    def tracer(self, callers: Tracer | None) -> Tracer:
        """Of the guest. callers: what its caller has asked for."""

    def layer(self, name: str, store: Backend) -> Backend:
        """See `mounts.dress.Layer`."""

    def streams(self, streams: tuple[Stream, Stream, Stream]) -> tuple[Stream, Stream, Stream]:
        """What the guest gets for its standard streams."""

    def ended(self, ending: Ending | None) -> None:
        """The run is over; None: it was none, or an exception. Raises OSError."""

    def close(self) -> None:
        """Nothing more comes. May be called more than once."""
