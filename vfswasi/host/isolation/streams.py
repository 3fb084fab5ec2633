"""A guest's standard streams, when the guest is in another process: descriptors go there, and so do bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from ...kernel.clocks import Deadline
from ...kernel.streams import ends
from ..stdio import DEVNULL, PIPE, STDOUT, standard_streams

_PIECE_BYTES: Final = 1 << 16


class Streams:
    """What a request says of the standard streams, the descriptors that go with it, and a pump for what the guest
    writes to a `sys.stdout` or `sys.stderr` that is an object of this process, as in a notebook.

    told: for each of the three what `Sandbox.run` takes, a tuple in place of a descriptor, with its place among those
    that are sent.
    """

    def __init__(self, stdin: Any, stdout: Any, stderr: Any, limit: int) -> None:
        """Raises TypeError, ValueError, OSError."""
        self._sent: list[ends.DescriptorSource | ends.DescriptorSink] = []
        self._pumped: dict[int, ends.Sink] = {}
        self._writing: list[int] = []
        self._forever = Deadline()
        self._fds: list[int] = []
        source, out, err = standard_streams(stdin, stdout, stderr, limit)
        try:
            assert source.source is not None
            assert out.sink is not None
            assert err.sink is not None
            joined = err.sink is out.sink
            self.told: tuple[Any, Any, Any] = (
                self._source(source.source),
                self._sink("stdout", out.sink, stdout is None),
                STDOUT if joined else self._sink("stderr", err.sink, stderr is None),
            )
            self.captured = self.told[1] == PIPE, self.told[2] == PIPE
        except BaseException:
            for end in (source.source, out.sink, err.sink):
                if end is not None:
                    end.close()
            self.close()
            raise

    def _source(self, source: ends.Source) -> Any:
        if isinstance(source, ends.BytesSource):
            return source.read(sys.maxsize, self._forever)
        if isinstance(source, ends.DescriptorSource):
            return self._passed(source)
        if type(source) is ends.Source:
            return DEVNULL
        raise TypeError(
            "stdin with isolation='process' must be bytes, str, PIPE, a descriptor or a plain file: an object with "
            "read() is in this process, and the guest is not; read it before, or start() with stdin=PIPE"
        )

    def _sink(self, name: str, sink: ends.Sink, inherited: bool) -> Any:
        if isinstance(sink, ends.CaptureSink):
            return PIPE
        if isinstance(sink, ends.DescriptorSink):
            return self._passed(sink)
        if type(sink) is ends.Sink:
            return DEVNULL
        if not inherited:
            raise TypeError(
                f"{name} with isolation='process' must be PIPE, DEVNULL, a descriptor or a plain file: callables and "
                "objects with write() are in this process, and the guest is not; use start() with PIPE and read it"
            )
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pumped[reading] = sink
        self._writing.append(writing)
        self._fds.append(writing)
        return (len(self._fds) - 1,)

    def _passed(self, end: ends.DescriptorSource | ends.DescriptorSink) -> tuple[int]:
        self._sent.append(end)
        with end.descriptor as fd:
            self._fds.append(fd)
        return (len(self._fds) - 1,)

    @property
    def fds(self) -> list[int]:
        """Those to be sent, until `sent`."""
        return list(self._fds)

    def sent(self) -> None:
        """The worker has duplicates: whoever is at the other ends must see the guest close them."""
        while self._sent:
            self._sent.pop().close()
        while self._writing:
            os.close(self._writing.pop())
        self._fds.clear()

    def close(self) -> None:
        self.sent()
        for fd, sink in self._pumped.items():
            os.close(fd)
            sink.close()
        self._pumped = {}

    # As a Pump.

    def descriptors(self) -> Sequence[int]:
        return list(self._pumped)

    def take(self, fd: int) -> None:
        sink = self._pumped[fd]
        piece = os.read(fd, _PIECE_BYTES)
        if not piece:
            del self._pumped[fd]
            os.close(fd)
            sink.close()
        left = memoryview(piece)
        while left:
            left = left[sink.write(left, self._forever) :]
