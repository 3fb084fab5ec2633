"""Standard streams of a run that is recorded, and of one that is made again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from ...errors import Errno, FsError, errno_of
from ...kernel.clocks import Deadline, Interrupted
from ...kernel.streams.ends import Sink, Source
from ...kernel.streams.host_descriptor import HostDescriptor
from ...kernel.streams.stream import Stream
from .difference import Differs, Kind
from .spool import Room
from .spool import Stream as Spooled

_COUNTS_MAX: Final = 4_000_000  # answers of one stream


class NotedSource(Source):
    """`inner`, with what it gave. counts: of each read, how many bytes came, or -errno. available_counts: what
    `available` said."""

    def __init__(self, inner: Source, room: Room) -> None:
        self.inner = inner
        self.tty, self.may_wait = inner.tty, inner.may_wait
        self.data = Spooled(room)
        self.counts = array("q")
        self.available_counts = array("q")
        self._room = room

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        try:
            data = self.inner.read(size, deadline, wait)
        except FsError as error:
            if errno_of(error) is not Errno.CANCELED:
                self._count(self.counts, -int(errno_of(error)))
            raise
        if self.data.add(data):
            self._count(self.counts, len(data))
        return data

    def available(self) -> int:
        found = self.inner.available()
        self._count(self.available_counts, found)
        return found

    def _count(self, counts: array[int], value: int) -> None:
        if len(counts) < _COUNTS_MAX:
            counts.append(value)
        elif self._room.cut is None:
            self._room.cut = f"standard input was read more than {_COUNTS_MAX:,} times"

    def waited_for(self) -> HostDescriptor | None:
        return self.inner.waited_for()

    def close(self) -> None:
        self.inner.close()


class NotedSink(Sink):
    """`inner`, with what it took. partial: number of a write -> bytes taken, or -errno, where it was not all."""

    def __init__(self, inner: Sink, room: Room) -> None:
        self.inner = inner
        self.tty, self.may_wait = inner.tty, inner.may_wait
        self.data = Spooled(room)
        self.partial: dict[int, int] = {}
        self._writes = 0
        self._room = room

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        number, self._writes = self._writes, self._writes + 1
        try:
            count = self.inner.write(data, deadline, wait)
        except FsError as error:
            if errno_of(error) is not Errno.CANCELED:
                self._note(number, -int(errno_of(error)))
            raise
        if count != len(data):
            self._note(number, count)
        self.data.add(data[:count])
        return count

    def _note(self, number: int, value: int) -> None:
        if self._room.take_memory(120):
            self.partial[number] = value

    def waited_for(self) -> HostDescriptor | None:
        return self.inner.waited_for()

    def close(self) -> None:
        self.inner.close()


class Told:
    """What a recording knows of one stream. pieces: its bytes, from the beginning. counts: see `NotedSource`."""

    def __init__(
        self,
        pieces: Iterator[bytes],
        size: int,
        tty: bool,
        may_wait: bool,
        counts: Sequence[Sequence[int]] = (),
        available: Sequence[Sequence[int]] = (),
        partial: Sequence[Sequence[int]] = (),
    ) -> None:
        self.size, self.tty, self.may_wait = size, tty, may_wait
        self.counts = _each(counts)
        self.available = _each(available)
        self.partial = {number: value for number, value in partial}  # noqa: C416 - of pairs that are lists
        self._pieces = pieces
        self._rest = b""

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        while len(self._rest) < count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        found, self._rest = self._rest[:count], self._rest[count:]
        return found


def _each(runs: Sequence[Sequence[int]]) -> Iterator[int]:
    for count, value in runs:
        for _ in range(count):
            yield value


class ToldSource(Source):
    """Gives what the recorded run was given, in the same pieces."""

    def __init__(self, told: Told, differs: Differs, cut_off: bool) -> None:
        """cut_off: the recorded run was ended from outside, maybe while it waited for more."""
        self.tty, self.may_wait = told.tty, told.may_wait
        self._told, self._differs, self._cut_off = told, differs, cut_off

    def read(self, size: int, deadline: Deadline, wait: bool = True) -> bytes:
        count = next(self._told.counts, None)
        if count is None and self._cut_off:
            raise Interrupted
        if count is None or count > size:
            less = "nothing more was read" if count is None else f"{count:,} bytes were read"
            self._differs.note("stdin", less, f"{size:,} bytes of standard input are asked for")
            raise Interrupted
        if count < 0:
            raise FsError(Errno(-count), "standard input")
        return self._told.take(count)

    def available(self) -> int:
        return next(self._told.available, 0)


class ComparedSink(Sink):
    """`inner`, which takes what the recorded one took; that is compared with what it took then."""

    def __init__(self, inner: Sink, told: ToldOutput) -> None:
        self.tty, self.may_wait = told.told.tty, told.told.may_wait
        self._inner, self._told = inner, told

    def write(self, data: memoryview, deadline: Deadline, wait: bool = True) -> int:
        told = self._told
        partial = told.next_partial()
        if partial is not None and partial < 0:
            raise FsError(Errno(-partial), told.name)
        if partial is not None:
            data = data[:partial]
        told.compare(bytes(data))
        done = 0
        while done < len(data) and not told.closed:
            try:
                done += self._inner.write(data[done:], deadline)
            except FsError as error:
                if errno_of(error) is Errno.CANCELED:
                    raise
                told.closed = True  # nobody reads what is shown here; the run goes on as it did
        return len(data)

    def close(self) -> None:
        self._inner.close()


class ToldOutput:
    """One output of the recorded run, which two descriptors may share. name: "stdout", "stderr"."""

    def __init__(self, name: Kind, told: Told, differs: Differs, whole: bool) -> None:
        self.name, self.told = name, told
        self.closed = False
        self._differs, self._whole = differs, whole
        self._at = self._writes = 0
        self._same = True

    def next_partial(self) -> int | None:
        number, self._writes = self._writes, self._writes + 1
        return self.told.partial.get(number) if self._same else None

    def compare(self, data: bytes) -> None:
        if not self._same:
            return
        expected = self.told.take(len(data))
        if expected == data:
            self._at += len(data)
            return
        same = next((at for at, (one, other) in enumerate(zip(expected, data, strict=False)) if one != other), None)
        at = min(len(expected), len(data)) if same is None else same
        self._same = False
        if same is not None or self._whole:
            self._note(self._at + at, expected[at : at + 20], data[at : at + 20])

    def end(self) -> None:
        """The run is over."""
        if self._same and self._at < self.told.size:
            self._note(self._at, self.told.take(20), b"")

    def _note(self, at: int, expected: bytes, got: bytes) -> None:
        self._differs.note(self.name, repr(expected) if expected else "its end", repr(got) if got else "its end", at)


def noted(
    streams: tuple[Stream, Stream, Stream], room: Room
) -> tuple[tuple[Stream, Stream, Stream], NotedSource, NotedSink, NotedSink]:
    """The streams for the guest; what notes them."""
    source, out, err = streams
    assert source.source is not None
    assert out.sink is not None
    assert err.sink is not None
    given = NotedSource(source.source, room)
    first = NotedSink(out.sink, room)
    second = first if err.sink is out.sink else NotedSink(err.sink, room)
    return (Stream(0, given, None), Stream(1, None, first), Stream(2, None, second)), given, first, second


def compared(
    streams: tuple[Stream, Stream, Stream],
    given: Told,
    out: ToldOutput,
    err: ToldOutput,
    differs: Differs,
    cut_off: bool,
) -> tuple[Stream, Stream, Stream]:
    """The streams for a guest that is run again."""
    given_here, out_here, err_here = streams[0].source, streams[1].sink, streams[2].sink
    assert given_here is not None
    assert out_here is not None
    assert err_here is not None
    given_here.close()
    first = ComparedSink(out_here, out)
    second = first if err_here is out_here and out is err else ComparedSink(err_here, err)
    return Stream(0, ToldSource(given, differs, cut_off), None), Stream(1, None, first), Stream(2, None, second)
