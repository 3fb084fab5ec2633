"""The descriptor of a standard stream: a `Source` or a `Sink` is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import FileType, Stat
from .. import rights
from ..buffers import in_turns
from ..clocks import Deadline
from ..descriptor import Descriptor
from .ends import READ_CHUNK, CallableSink, DescriptorSink, DescriptorSource, FileSink, FileSource, Sink, Source

_STREAM_STAT: Final = Stat(FileType.UNKNOWN, 0, 0, 0, 0)


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
        if kind in (FileSource, CallableSink, FileSink):
            return 2
        return 1 if kind in (DescriptorSource, DescriptorSink) else 0

    def check_flags(self, flags: int) -> None:
        """Raises NOTSUP for NONBLOCK on what may wait without anybody knowing."""
        if flags & c.FDFLAG_NONBLOCK & ~self.flags and any(end is not None and end.may_wait for end in self.ends()):
            raise FsError(Errno.NOTSUP, "NONBLOCK on a stream that is a Python object")

    def set_flags(self, flags: int) -> None:
        self.check_flags(flags)
        super().set_flags(flags)

    def ends(self) -> tuple[Source | None, Sink | None]:
        """What it is connected to. Several streams may share one, so closing a stream closes none."""
        return self.source, self.sink

    def copy(self, ends: Mapping[Source | Sink | None, Source | Sink | None]) -> Stream:
        """The same in a copy of the process, where others stand for what it is connected to. Raises KeyError."""
        source = None if self.source is None else ends[self.source]
        sink = None if self.sink is None else ends[self.sink]
        assert source is None or isinstance(source, Source)
        assert sink is None or isinstance(sink, Sink)
        made = Stream(self.serial, source, sink)
        made.rights, made.inheriting, made.flags = self.rights, self.inheriting, self.flags
        return made

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
        wait = not self.flags & c.FDFLAG_NONBLOCK
        total = 0
        for buffer in in_turns(buffers, deadline, READ_CHUNK):
            if total and not self.source.available():
                break  # what is there already must not wait for more
            data = self.source.read(len(buffer), deadline, wait)
            buffer[: len(data)] = data
            total += len(data)
            if len(data) < len(buffer):
                break
        return total

    def write(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        assert self.sink is not None
        wait = not self.flags & c.FDFLAG_NONBLOCK
        total = 0
        for buffer in in_turns(buffers, deadline, READ_CHUNK):
            try:
                count = self.sink.write(buffer, deadline, wait)
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
