"""Captured output that lies in vdso memory until somebody looks for it."""

from __future__ import annotations

from functools import partial
from typing import Final

from ...kernel.streams.ends import CaptureSink
from . import vdso

_BYTES: Final = 64 << 10


class OutputBuffers:
    """The buffers of one run, one for each sink."""

    def __init__(self, memory: vdso.Vdso) -> None:
        self._memory = memory
        self._of: dict[CaptureSink, tuple[int, int]] = {}  # -> addresses of its stream and of its buffer

    def stream_of(self, sink: CaptureSink) -> int | None:
        """The address of the stream that leads to `sink`; None if there is no room for another."""
        known = self._of.get(sink)
        if known is None:
            if len(self._of) == vdso.STREAMS_MAX:
                return None
            found = self._memory.regions.take(_BYTES)
            if found is None:
                return None
            known = self._of[sink] = vdso.STREAMS_AT + len(self._of) * vdso.STREAM.size, found[0]
            sink.upstream = partial(self._drain, sink)
        self.open(sink)
        return known[0]

    def open(self, sink: object) -> None:
        """Let the guest write as much as the sink would take. Whatever reaches Python drains the buffer first."""
        if isinstance(sink, CaptureSink) and sink in self._of:
            self._drain(sink)
            at, buffer = self._of[sink]
            vdso.STREAM.pack_into(self._memory.view, at, buffer, buffer + min(_BYTES, max(0, sink.room())))

    def _drain(self, sink: CaptureSink) -> None:
        """Move what is in the buffer to the sink, and close the buffer: how much fits now is seen afterwards."""
        at, buffer = self._of[sink]
        end, _ = vdso.STREAM.unpack_from(self._memory.view, at)
        if end > buffer:
            sink.take(self._memory.view[buffer:end])
        vdso.STREAM.pack_into(self._memory.view, at, buffer, buffer)

    def collect(self) -> None:
        """All of it is where it belongs, for now."""
        for sink in self._of:
            sink.collect()

    def finish(self) -> None:
        """All of it is where it belongs, for good."""
        self.collect()
        self.abandon()

    def abandon(self) -> None:
        """As `finish`, when vdso memory is gone already. What only it held is lost."""
        for sink in self._of:
            sink.upstream = None
        self._of.clear()
