"""Standard input, output and error, and what they are connected to.

A `Stream` is the descriptor; behind it is a `Source` or a `Sink`. What is connected to a host descriptor is
waited for within the run's deadline; Python objects and callables are called directly.
"""

from __future__ import annotations

import io
import os
import select
import stat as stat_module
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..abi import constants as c
from ..errors import Errno, FsError
from ..fs_backends.base import FileType, Stat
from ..fs_backends.turns import STEP_BYTES, give_way
from . import rights
from .clocks import Deadline
from .descriptor import Descriptor

# What a pipe or terminal that poll(2) calls writable takes without blocking (POSIX PIPE_BUF).
_PIPE_CHUNK: Final = 4096
_READ_CHUNK: Final = 1 << 20
_STREAM_STAT: Final = Stat(FileType.UNKNOWN, 0, 0, 0, 0)


class Source:
    """Where standard input comes from."""

    tty = False

    def read(self, size: int, deadline: Deadline) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        return b""

    def fileno(self) -> int | None:
        """A host descriptor to wait for, or None if a read never waits."""
        return None

    def available(self) -> int:
        """Bytes that the next read surely gives."""
        return 0


class BytesSource(Source):
    """Bytes given beforehand."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, size: int, deadline: Deadline) -> bytes:
        piece = bytes(self._data[:size])
        self._data = self._data[len(piece) :]
        return piece

    def available(self) -> int:
        return len(self._data)


class DescriptorSource(Source):
    """A host file descriptor; the caller owns it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.tty = os.isatty(fd)
        self._waits = not stat_module.S_ISREG(os.fstat(fd).st_mode)

    def read(self, size: int, deadline: Deadline) -> bytes:
        try:
            while True:
                if self._waits:
                    deadline.wait_ready({self._fd: select.POLLIN}, None)
                try:
                    return os.read(self._fd, min(size, _READ_CHUNK))
                except BlockingIOError:
                    continue
        except OSError as error:
            raise FsError(Errno.IO, "standard input") from error

    def fileno(self) -> int | None:
        return self._fd if self._waits else None

    def available(self) -> int:
        if self._waits:
            return 0
        try:
            return max(0, os.fstat(self._fd).st_size - os.lseek(self._fd, 0, os.SEEK_CUR))
        except OSError:
            return 0


class FileSource(Source):
    """A Python object with `read(size)` that gives bytes or str (encoded as UTF-8)."""

    def __init__(self, file: Any) -> None:
        self._read = getattr(file, "read1", None) or file.read
        self._rest = b""

    def read(self, size: int, deadline: Deadline) -> bytes:
        data = self._rest or self._read(size)
        if isinstance(data, str):
            data = data.encode()
        data = bytes(data or b"")
        self._rest = data[size:]
        return data[:size]

    def available(self) -> int:
        return len(self._rest)


class Sink:
    """Where output goes."""

    tty = False

    def write(self, data: memoryview, deadline: Deadline) -> int:
        """Take all of `data`, or as much as fits before an error; bytes taken (at least one)."""
        return len(data)

    def fileno(self) -> int | None:
        """A host descriptor to wait for, or None if a write never waits."""
        return None


class CaptureSink(Sink):
    """Bytes kept in memory, at most `limit` of them; then NOSPC."""

    def __init__(self, limit: int) -> None:
        self._data = io.BytesIO()  # its contents are not copied to be given out
        self._limit = limit
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

    def write(self, data: memoryview, deadline: Deadline) -> int:
        self.collect()
        room = self.room()
        if room <= 0 and len(data):
            raise FsError(Errno.NOSPC, "captured output limit")
        data = data[:room]
        for start in range(0, len(data), STEP_BYTES):
            if start:
                give_way()
            self._data.write(data[start : start + STEP_BYTES])
        return len(data)

    def getvalue(self) -> bytes:
        return self._data.getvalue()


class DescriptorSink(Sink):
    """A host file descriptor; the caller owns it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.tty = os.isatty(fd)
        self._waits = not stat_module.S_ISREG(os.fstat(fd).st_mode)

    def write(self, data: memoryview, deadline: Deadline) -> int:
        done = 0
        try:
            while done < len(data):
                try:
                    if self._waits:
                        deadline.wait_ready({self._fd: select.POLLOUT}, None)
                        done += os.write(self._fd, data[done : done + _PIPE_CHUNK])
                    else:
                        done += os.write(self._fd, data[done:])
                except BlockingIOError:
                    continue
        except BrokenPipeError as error:
            if not done:
                raise FsError(Errno.PIPE) from error
        except OSError as error:
            if not done:
                raise FsError(Errno.IO, "standard output") from error
        return done

    def fileno(self) -> int | None:
        return self._fd if self._waits else None


class CallableSink(Sink):
    """A callable that takes bytes, such as `file.write`, or str (decoded with replacement)."""

    def __init__(self, function: Callable[[Any], object], text: bool = False) -> None:
        self._function = function
        self._text = text

    def write(self, data: memoryview, deadline: Deadline) -> int:
        piece = bytes(data)
        self._function(piece.decode("utf-8", "replace") if self._text else piece)
        return len(piece)


class Stream(Descriptor):
    """A standard stream: it has no position, no size and no times.

    It is a character device only when it is a terminal, since that is how programs tell.
    """

    __slots__ = ("filetype", "serial", "sink", "source")

    filetype: FileType

    def __init__(self, serial: int, source: Source | None, sink: Sink | None) -> None:
        base = rights.STREAM
        base |= c.RIGHT_FD_READ if source is not None else 0
        base |= c.RIGHT_FD_WRITE if sink is not None else 0
        super().__init__(base, 0)
        self.serial = serial
        self.source = source
        self.sink = sink
        tty = (source is not None and source.tty) or (sink is not None and sink.tty)
        self.filetype = FileType.CHARACTER_DEVICE if tty else FileType.UNKNOWN

    @property
    def outside(self) -> int:  # type: ignore[override]
        kind = type(self.source if self.sink is None else self.sink)
        if kind in (FileSource, CallableSink):
            return 2
        return 1 if kind in (DescriptorSource, DescriptorSink) else 0

    def refuse(self, missing: int) -> FsError:
        if missing & rights.POSITIONED:
            return FsError(Errno.SPIPE)
        if missing & rights.DIRECTORY_ONLY:
            return FsError(Errno.NOTDIR)
        if missing & c.RIGHT_FD_READ and self.source is None:
            return FsError(Errno.BADF)
        if missing & c.RIGHT_FD_WRITE and self.sink is None:
            return FsError(Errno.BADF)
        if missing & (c.RIGHT_FD_SYNC | c.RIGHT_FD_DATASYNC):
            return FsError(Errno.INVAL)  # fsync(2) on a pipe or terminal
        return FsError(Errno.NOTCAPABLE)

    def read(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        assert self.source is not None
        total = 0
        for buffer in buffers:
            if not len(buffer):
                continue
            if total and not self.source.available():
                break  # what is there already must not wait for more
            if len(buffer) > _READ_CHUNK:
                deadline.check()
                give_way()
            data = self.source.read(len(buffer), deadline)
            buffer[: len(data)] = data
            total += len(data)
            if len(data) < len(buffer):
                break
        return total

    def write(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        assert self.sink is not None
        total = 0
        for buffer in buffers:
            if not len(buffer):
                continue
            if len(buffer) > _READ_CHUNK:
                deadline.check()
                give_way()
            try:
                count = self.sink.write(buffer, deadline)
            except FsError:
                if total:
                    break
                raise
            total += count
            if count < len(buffer):
                break
        return total

    def stat(self) -> tuple[int, int, Stat]:
        return 0, self.serial, _STREAM_STAT._replace(filetype=self.filetype)


def null_stream(serial: int, *, reads: bool) -> Stream:
    """A stream that is always at its end, or that takes everything."""
    return Stream(serial, Source() if reads else None, None if reads else Sink())
