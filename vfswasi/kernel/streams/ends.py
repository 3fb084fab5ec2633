"""What standard streams are connected to: sources and sinks.

What is connected to a host descriptor is waited for within the run's deadline, or with NONBLOCK not at all; Python
objects and callables are called directly, so whether they wait is theirs to say, and NONBLOCK cannot be set for them.
"""

from __future__ import annotations

import codecs
import contextlib
import copy
import io
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final

from ...errors import Errno, FsError
from ...fs_backends.turns import STEP_BYTES, give_way
from ...printing import counted
from ..clocks import Deadline
from .host_descriptor import HostDescriptor

# What a pipe or terminal that poll(2) calls writable takes without blocking (POSIX PIPE_BUF).
_PIPE_CHUNK: Final = 4096
READ_CHUNK: Final = 1 << 20


class _End:
    """What sources and sinks have in common.

    `tty`: a terminal. `may_wait`: nobody can say whether it waits for somebody, so NONBLOCK cannot be kept.
    """

    tty = False
    may_wait = False

    def waited_for(self) -> HostDescriptor | None:
        """The host descriptor to wait for, or None if there is nothing that poll(2) could wait for."""
        return None

    def close(self) -> None:
        """The run is over: release what belongs to the stream alone. May be called more than once."""


class Source(_End):
    """Where standard input comes from."""

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        """Up to `size` bytes; b"" at the end. Raises AGAIN without `wait`, if there is nothing yet."""
        return b""

    def available(self) -> int:
        """Bytes that the next read surely gives."""
        return 0

    def copy(self) -> Source:
        """One that gives what this one would give; what lies outside, such as a pipe, is shared. Raises OSError,
        FsError."""
        return Source()


class BytesSource(Source):
    """Bytes given beforehand."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        piece = bytes(self._data[:size])
        self._data = self._data[len(piece) :]
        return piece

    def available(self) -> int:
        return len(self._data)

    def copy(self) -> Source:
        return BytesSource(bytes(self._data))


class DescriptorSource(Source):
    """A duplicate of a host file descriptor (see `HostDescriptor`)."""

    def __init__(self, fd: int) -> None:
        """Raises OSError."""
        self.descriptor = HostDescriptor(fd)
        self.tty = self.descriptor.terminal
        self.regular = self.descriptor.regular
        self._waits = not self.regular

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        with self.descriptor as fd:
            try:
                while True:
                    if self._waits:
                        _wait(fd, select.POLLIN, deadline, wait)
                    try:
                        return os.read(fd, min(size, READ_CHUNK))
                    except BlockingIOError as error:
                        if not wait:
                            raise FsError(Errno.AGAIN, "standard input") from error
            except OSError as error:
                raise FsError(Errno.IO, "standard input") from error

    def waited_for(self) -> HostDescriptor | None:
        return self.descriptor if self._waits else None

    def available(self) -> int:
        if self._waits:
            return 0
        try:
            with self.descriptor as fd:
                return max(0, os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR))
        except (OSError, FsError):
            return 0

    def copy(self) -> Source:
        with self.descriptor as fd:
            return DescriptorSource(fd)

    def close(self) -> None:
        self.descriptor.close()


class FileSource(Source):
    """A Python object with `read(size)` that gives bytes or str (encoded as UTF-8)."""

    may_wait = True

    def __init__(self, file: Any) -> None:
        self._read = _reader(file)
        self._rest = memoryview(b"")  # of what it gave beyond what it was asked for
        self._none_is_not_the_end = isinstance(file, io.IOBase)

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        if not self._rest:
            data = self._read(size)
            if data is None and self._none_is_not_the_end:
                raise FsError(Errno.AGAIN, "standard input")
            if isinstance(data, str):
                data = data.encode()
            data = bytes(data or b"")
            if len(data) <= size:
                return data
            self._rest = memoryview(data)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return piece

    def available(self) -> int:
        return len(self._rest)

    def copy(self) -> Source:
        made = copy.copy(self)
        made._rest = memoryview(bytes(self._rest))
        return made


def _reader(file: Any) -> Callable[[int], Any]:
    """`read1` if it is there, since that does not wait for more than there is; but not if it is inherited and `read` is
    not, or handed through to a file below: then only `read` knows what the object makes of it."""
    if "read" not in getattr(file, "__dict__", ()):
        for kind in type(file).__mro__:
            if "read1" in vars(kind):
                return file.read1  # type: ignore[no-any-return]
            if "read" in vars(kind):
                break
    return file.read  # type: ignore[no-any-return]


class Sink(_End):
    """Where output goes."""

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        """Take all of `data`, or as much as fits before an error; bytes taken (at least one). Raises AGAIN without
        `wait`, if nothing can be taken yet."""
        return len(data)

    def copy(self) -> Sink:
        """One that leads to the same place; what is captured begins empty. Raises OSError, FsError."""
        return Sink()


class CaptureSink(Sink):
    """Bytes kept in memory, at most `limit` of them; then NOSPC."""

    def __init__(self, limit: int) -> None:
        self._data = io.BytesIO()  # its contents are not copied to be given out
        self._limit = limit
        self.refused = False
        """Whether something was written that did not fit."""
        # Calls `take` with what was written before and lies elsewhere; `room` has allowed it.
        self.upstream: Callable[[], None] | None = None

    def room(self) -> int:
        """How many bytes more it takes."""
        return self._limit - self._data.tell()

    def collect(self) -> None:
        """See to it that everything written so far is here."""
        if self.upstream is not None:
            self.upstream()

    def take(self, data: memoryview) -> None:
        self._data.write(data)

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        self.collect()
        room = self.room()
        if len(data) > room:
            self.refused = True
            if room <= 0:
                raise FsError(Errno.NOSPC, "captured output limit")
            data = data[:room]
        for start in range(0, len(data), STEP_BYTES):
            if start:
                give_way()
            self._data.write(data[start : start + STEP_BYTES])
        return len(data)

    def getvalue(self) -> bytes:
        return self._data.getvalue()

    def take_out(self) -> bytes:
        """What was captured, which makes room for as much again."""
        data, self._data = self._data.getvalue(), io.BytesIO()
        return data

    def copy(self) -> Sink:
        return CaptureSink(self._limit)


class DescriptorSink(Sink):
    """A duplicate of a host file descriptor (see `HostDescriptor`)."""

    def __init__(self, fd: int) -> None:
        """Raises OSError."""
        self.descriptor = HostDescriptor(fd)
        self.tty = self.descriptor.terminal
        self.regular = self.descriptor.regular
        self._waits = not self.regular

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        done = 0
        with self.descriptor as fd:
            try:
                while done < len(data):
                    if done:
                        give_way()
                    try:
                        if self._waits:
                            _wait(fd, select.POLLOUT, deadline, wait)
                            done += os.write(fd, data[done : done + _PIPE_CHUNK])
                        else:
                            done += os.write(fd, data[done:])
                    except BlockingIOError as error:
                        if not wait:
                            raise FsError(Errno.AGAIN, "standard output") from error
            except BrokenPipeError as error:
                if not done:
                    raise FsError(Errno.PIPE) from error
            except OSError as error:
                if not done:
                    raise FsError(Errno.IO, "standard output") from error
            except FsError:
                if not done:
                    raise
        return done

    def waited_for(self) -> HostDescriptor | None:
        return self.descriptor if self._waits else None

    def copy(self) -> Sink:
        with self.descriptor as fd:
            return DescriptorSink(fd)

    def close(self) -> None:
        self.descriptor.close()


def _wait(fd: int, mask: int, deadline: Deadline, wait: bool) -> None:
    """Until poll(2) says that one of `mask` is possible, or the end of the run. Without `wait`: AGAIN if it is not."""
    if not deadline.wait_ready({fd: mask}, None if wait else time.monotonic_ns()):
        raise FsError(Errno.AGAIN)


class CallableSink(Sink):
    """A callable that takes bytes."""

    may_wait = True

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        self._function(bytes(data))
        return len(data)

    def copy(self) -> Sink:
        return CallableSink(self._function)


class FileSink(Sink):
    """A Python object with `write(data)` that takes bytes, or with `text` str (decoded with replacement)."""

    may_wait = True

    def __init__(self, file: Any, text: bool, partial: bool) -> None:
        """`partial`: it may take less than it is given, and says how much (as `io.RawIOBase.write` does)."""
        self._write = file.write
        self._partial = partial
        # A character may come in two writes.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        if self._decoder is not None:
            text = self._decoder.decode(data)
            if text:
                self._write(text)
            return len(data)
        piece = bytes(data)
        taken = self._write(piece)
        if not self._partial or not piece:
            return len(piece)
        if not isinstance(taken, int) or not 0 < taken <= len(piece):
            raise FsError(Errno.IO, f"standard output: write() returned {taken!r} for {counted(len(piece), 'byte')}")
        return taken

    def copy(self) -> Sink:
        made = copy.copy(self)
        if self._decoder is not None:
            made._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return made

    def close(self) -> None:
        if self._decoder is None:
            return
        text = self._decoder.decode(b"", final=True)  # half a character
        if text:
            with contextlib.suppress(Exception):  # nobody is left to be told
                self._write(text)
