"""From what the user passed as stdin, stdout and stderr to the guest's streams.

The rules are those of `subprocess`: a file of the system's is used through its descriptor, `PIPE` captures, `DEVNULL`
is nothing, `STDOUT` joins stderr to stdout. Beyond it: bytes and str as stdin, any object with `read` or `write`, and
callables as outputs.

Which file is one of the system's is told by its type, not by whether it has a `fileno()`: that of a `gzip` file, of a
TLS socket or of a response of a web server leads to something else than what the object reads and writes. Whatever is
not known to be plain is used through its own `read` and `write`.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable
from typing import Any, Final

from ..fs_backends.base import FileType
from ..kernel.streams import ends
from ..kernel.streams.stream import Stream

# Those of `subprocess`, which is slow to import.
PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3

_BUFFERED: Final = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
# Wrappers of the standard library that hand everything to one file: (module, type) -> the attribute with that file.
_WRAPPERS: Final = {("tempfile", "_TemporaryFileWrapper"): "file", ("os", "_wrap_close"): "_stream"}
# What a file must not have been given in place of its own, to be used without it.
_METHODS: Final = frozenset({"read", "read1", "readinto", "write", "fileno", "buffer", "raw"})


def standard_streams(stdin: Any, stdout: Any, stderr: Any, limit: int) -> tuple[Stream, Stream, Stream]:
    """The guest's descriptors 0, 1 and 2. Captured output is at most `limit` bytes of each.

    Every descriptor is duplicated, so it is the run's until `Process.close` has closed the streams, whatever becomes of
    the caller's. Raises TypeError, ValueError, OSError.
    """
    made: list[Stream] = []
    try:
        made.append(output_stream(1, stdout, limit))
        joined = isinstance(stderr, int) and stderr == STDOUT
        made.append(Stream(2, None, made[0].sink) if joined else output_stream(2, stderr, limit))
        made.append(input_stream(stdin))
    except BaseException:
        for stream in made:
            for end in stream.ends():
                if end is not None:
                    end.close()
        raise
    out, err, source = made
    return source, out, err


def input_stream(stdin: Any) -> Stream:
    """The guest's descriptor 0. None is nothing: reading gives the end at once. Raises TypeError, ValueError,
    OSError."""
    return Stream(0, _source(stdin), None)


def _source(stdin: Any) -> ends.Source:
    if stdin is None:
        return ends.Source()
    if isinstance(stdin, str):
        return ends.BytesSource(stdin.encode())
    if isinstance(stdin, bytes | bytearray | memoryview):
        return ends.BytesSource(bytes(stdin))
    if isinstance(stdin, int) and not isinstance(stdin, bool):
        if stdin == DEVNULL:
            return ends.Source()
        if stdin == PIPE:
            raise ValueError("stdin=PIPE is for Sandbox.start, which gives the other end; pass the bytes as input=")
        if stdin < 0:
            raise ValueError(f"stdin={stdin} is not a file descriptor; pass the bytes themselves, or a file")
        return ends.DescriptorSource(_checked(stdin, "stdin"))
    _check_open(stdin, "stdin")
    descriptor = _plain_descriptor(stdin)
    if descriptor is not None:
        source = ends.DescriptorSource(descriptor)
        if source.regular:
            _give_back_what_was_read_ahead(stdin, descriptor)
        return source
    if hasattr(stdin, "read"):
        return ends.FileSource(stdin)
    raise TypeError(f"stdin must be bytes, str, a file or a file descriptor, not {type(stdin).__name__}")


def output_stream(fd: int, target: Any, limit: int) -> Stream:
    """The guest's descriptor 1 or 2. None is inherited; with PIPE the stream's sink is a CaptureSink of at most
    `limit` bytes. Raises TypeError, ValueError, OSError."""
    return Stream(fd, None, _sink(fd, target, limit))


def _sink(fd: int, target: Any, limit: int) -> ends.Sink:
    name = "stdout" if fd == 1 else "stderr"
    if target is None:
        target = sys.stdout if fd == 1 else sys.stderr
        if target is None:
            return ends.Sink()
    if isinstance(target, int) and not isinstance(target, bool):
        if target == PIPE:
            return ends.CaptureSink(limit)
        if target == DEVNULL:
            return ends.Sink()
        if target < 0:
            raise ValueError(f"{name}={target} is not a file descriptor")
        return ends.DescriptorSink(_checked(target, name))
    _check_open(target, name)
    descriptor = _plain_descriptor(target)
    if descriptor is not None:
        if hasattr(target, "flush"):
            target.flush()
        sink = ends.DescriptorSink(descriptor)
        if sink.regular:
            _give_back_what_was_read_ahead(target, descriptor)
        return sink
    if hasattr(target, "write"):
        flush = getattr(target, "flush", None)
        if flush is not None:
            flush()
        return ends.FileSink(target, _wants_text(target), _may_take_less(target))
    if callable(target):
        return ends.CallableSink(target)
    raise TypeError(
        f"{name} must be PIPE, DEVNULL, a file, a file descriptor or a callable, not {type(target).__name__}"
    )


def _checked(fd: int, name: str) -> int:
    try:
        os.fstat(fd)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{name}={fd} is not an open file descriptor") from error
    return fd


def _check_open(file: Any, name: str) -> None:
    if getattr(file, "closed", False) is True:
        raise ValueError(f"{name} is a closed file")


def _plain_descriptor(file: Any) -> int | None:
    """The descriptor of a file that reads and writes it, and nothing else; None for every other object."""
    try:
        plain = _plain(file)
        return None if plain is None else plain.fileno()
    except (AttributeError, OSError, ValueError):  # closed, detached, or without a descriptor after all
        return None


def _plain(file: Any) -> Any:
    """What has the descriptor of `file`, if `file` is of a type that is known to add nothing to it; else None.

    Types are compared exactly: a subclass, or an object that was given a method of its own, may do anything.
    """
    kind = type(file)
    own = _METHODS.intersection(getattr(file, "__dict__", ()))
    attribute = _WRAPPERS.get((kind.__module__, kind.__name__))
    if attribute is not None and kind is getattr(sys.modules.get(kind.__module__), kind.__name__, None):
        inner = vars(file)[attribute]
        # It keeps those methods of the inner file that were asked for once.
        kept = [getattr(getattr(vars(file)[name], "__wrapped__", None), "__self__", None) is inner for name in own]
        return _plain(inner) if all(kept) else None
    if own:
        return None
    if kind is io.FileIO:
        return file
    if kind in _BUFFERED:
        return _plain(file.raw)
    if kind is io.TextIOWrapper:
        return _plain(file.buffer)
    socket = sys.modules.get("socket")  # who has a socket has imported it
    if socket is not None:
        if kind is socket.socket:
            return file
        if kind is socket.SocketIO and type(getattr(file, "_sock", None)) is socket.socket:
            return file
    return None


def _give_back_what_was_read_ahead(file: Any, descriptor: int) -> None:
    """Let the descriptor of a regular file stand where `file` does: its buffer may hold more than was taken out of it.

    A pipe or a terminal cannot take anything back; what is in the buffer stays with the file, as with `subprocess`. So
    it is in the middle of a loop over lines, where a text file does not know its position.
    """
    try:
        position = file.tell()
        if not isinstance(position, int) or not 0 <= position < 1 << 63:  # of a text file: more than a position
            return
        if position != os.lseek(descriptor, 0, os.SEEK_CUR):
            file.seek(0, os.SEEK_END)  # which empties the buffer
            file.seek(position)
    except (AttributeError, OSError, ValueError):
        return


def _wants_text(file: Any) -> bool:
    if isinstance(file, io.TextIOBase | codecs.StreamWriter | codecs.StreamReaderWriter):
        return True
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        return False
    # Those that are not made with `io` say so by having an encoding, such as a temporary file in text mode.
    return isinstance(getattr(file, "encoding", None), str)


def _may_take_less(file: Any) -> bool:
    """Whether `write` may take a part, and returns how much."""
    socket = sys.modules.get("socket")
    return isinstance(file, io.RawIOBase) or (socket is not None and isinstance(file, socket.socket))


def hide_terminals(streams: Iterable[Stream]) -> None:
    """Programs find no terminal behind them, nor behind a device that leads to one of them: what they write there does
    not depend on where that goes."""
    for stream in streams:
        for end in stream.ends():
            if end is not None:
                end.tty = False
        stream.filetype = FileType.UNKNOWN


def capture_of(stream: Stream) -> bytes | None:
    """What was captured, or None if the stream went elsewhere."""
    return stream.sink.getvalue() if isinstance(stream.sink, ends.CaptureSink) else None


def was_cut(stream: Stream) -> bool:
    """Whether the guest wrote more than was captured."""
    return isinstance(stream.sink, ends.CaptureSink) and stream.sink.refused


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "capture_of",
    "hide_terminals",
    "input_stream",
    "output_stream",
    "standard_streams",
    "was_cut",
]
