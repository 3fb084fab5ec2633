"""From what the user passed as stdin, stdout and stderr to the guest's streams.

The rules are those of `subprocess`: an object with a working `fileno()` is used through its descriptor,
`PIPE` captures, `DEVNULL` is nothing, `STDOUT` joins stderr to stdout. Beyond it: bytes and str as stdin,
any object with `read` or `write`, and callables as outputs.
"""

from __future__ import annotations

import io
import os
import sys
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from .kernel import streams
from .kernel.streams import Stream


def input_stream(stdin: Any) -> Stream:
    """The guest's descriptor 0. None is nothing: reading gives the end at once. Raises TypeError, ValueError,
    OSError."""
    return Stream(0, _source(stdin), None)


def _source(stdin: Any) -> streams.Source:
    if stdin is None:
        return streams.Source()
    if isinstance(stdin, str):
        return streams.BytesSource(stdin.encode())
    if isinstance(stdin, bytes | bytearray | memoryview):
        return streams.BytesSource(bytes(stdin))
    if isinstance(stdin, int) and not isinstance(stdin, bool):
        if stdin == DEVNULL:
            return streams.Source()
        if stdin < 0:
            raise ValueError(f"stdin={stdin} is not a file descriptor; pass the bytes themselves, or a file")
        return streams.DescriptorSource(_checked(stdin, "stdin"))
    descriptor = _fileno(stdin)
    if descriptor is not None:
        return streams.DescriptorSource(descriptor)
    if hasattr(stdin, "read"):
        return streams.FileSource(stdin)
    raise TypeError(f"stdin must be bytes, str, a file or a file descriptor, not {type(stdin).__name__}")


def output_stream(fd: int, target: Any, limit: int) -> Stream:
    """The guest's descriptor 1 or 2. None is inherited; with PIPE the stream's sink is a CaptureSink of at most
    `limit` bytes. Raises TypeError, ValueError, OSError."""
    return Stream(fd, None, _sink(fd, target, limit))


def _sink(fd: int, target: Any, limit: int) -> streams.Sink:
    name = "stdout" if fd == 1 else "stderr"
    if target is None:
        target = sys.stdout if fd == 1 else sys.stderr
        if target is None:
            return streams.Sink()
    if isinstance(target, int) and not isinstance(target, bool):
        if target == PIPE:
            return streams.CaptureSink(limit)
        if target == DEVNULL:
            return streams.Sink()
        if target < 0:
            raise ValueError(f"{name}={target} is not a file descriptor")
        return streams.DescriptorSink(_checked(target, name))
    if hasattr(target, "write"):
        flush = getattr(target, "flush", None)
        if flush is not None:
            flush()
        descriptor = _fileno(target)
        if descriptor is not None:
            return streams.DescriptorSink(descriptor)
        return streams.CallableSink(target.write, text=_wants_text(target))
    if callable(target):
        return streams.CallableSink(target)
    raise TypeError(
        f"{name} must be PIPE, DEVNULL, a file, a file descriptor or a callable, not {type(target).__name__}"
    )


def _checked(fd: int, name: str) -> int:
    try:
        os.fstat(fd)
    except OSError as error:
        raise ValueError(f"{name}={fd} is not an open file descriptor") from error
    return fd


def _fileno(file: Any) -> int | None:
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return descriptor if isinstance(descriptor, int) and descriptor >= 0 else None


def _wants_text(file: Any) -> bool:
    return isinstance(file, io.TextIOBase) or (hasattr(file, "encoding") and not hasattr(file, "readinto"))


def capture_of(stream: Stream) -> bytes | None:
    """What was captured, or None if the stream went elsewhere."""
    return stream.sink.getvalue() if isinstance(stream.sink, streams.CaptureSink) else None


__all__ = ["DEVNULL", "PIPE", "STDOUT", "capture_of", "input_stream", "output_stream"]
