"""A recorded run, made again: what stands in the place of its mounts, its streams and its environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from ...fs_backends.base import Backend, Caps, FileType, Key, Stat
from ...kernel.clocks import Interrupted
from ...kernel.streams.stream import Stream
from ...kernel.tracing import Tracer
from .calls import CALL, Both, Following
from .difference import Difference, Differs
from .file.manifest import CALLS
from .recording import Recording
from .stores.answering import Answering
from .streams import ToldOutput, compared
from .told import EndingTold, ending_told


class Replayer:
    """One run of a recording; used as a `Recorder` is. Raises FsError: the recording is corrupt."""

    def __init__(self, recording: Recording) -> None:
        file = recording.opened
        self._recording = recording
        self.differs = Differs()
        self._mounts = {told.name: told for told in recording.mounts}
        self._identities: dict[int, object] = {}
        self._tracer = Following(
            recording.calls,
            file.texts,
            _whole(file.pieces(CALLS)),
            self.differs,
            any(told.manner == "rw" for told in recording.mounts),
            recording.ending.from_outside,
            recording.cut is None,
        )
        whole = recording.cut is None
        self._given = file.told("stdin")
        self._out = ToldOutput("stdout", file.told("stdout"), self.differs, whole)
        self._err = self._out if recording.joined else ToldOutput("stderr", file.told("stderr"), self.differs, whole)
        self.ending: EndingTold | None = None

    def tracer(self, callers: Tracer | None) -> Tracer:
        return self._tracer if callers is None else Both(callers, self._tracer)

    def layer(self, name: str, store: Backend) -> Backend:
        told = self._mounts[name]
        known = self._recording.opened.known[name]
        identity = self._identities.setdefault(told.identity, object())
        if told.manner == "rw":
            return Answering(name, known, Caps.IMMUTABLE, object(), True, self._never)
        return Answering(name, known, Caps(told.caps), identity, False, self._never)

    def _never(self, what: str) -> NoReturn:
        """The run ends with what the recording cannot answer."""
        cut = self._recording.cut
        if cut is None:
            self.differs.note("files", "nothing of it", f"{what}, which the recorded run did not")
        else:
            self.differs.note("files", f"not all of it, {cut}", f"{what}, of which nothing was kept")
        raise Interrupted

    def streams(self, streams: tuple[Stream, Stream, Stream]) -> tuple[Stream, Stream, Stream]:
        cut_off = self._recording.ending.from_outside
        return compared(streams, self._given, self._out, self._err, self.differs, cut_off)

    def ended(self, ending: Any) -> None:
        self.ending = ending_told(ending)
        if self.differs.first is None:
            self._compare_ends(self.ending)

    def close(self) -> None:
        pass

    def _compare_ends(self, ending: EndingTold) -> None:
        differs, was = self.differs, self._recording.ending
        differs.call, differs.name, differs.about = None, None, lambda: None
        if not self._tracer.all_made and not was.from_outside:
            count = self._tracer.number
            differs.note("call", f"{self._recording.calls:,} calls", f"the run ended after {count:,} calls")
        for output in {self._out, self._err}:
            output.end()
        if was.from_outside:  # how it would have gone on nobody knows
            if not self._tracer.all_made:
                differs.note("ending", in_words(was), in_words(ending))
        elif in_words(was) != in_words(ending):
            differs.note("ending", in_words(was), in_words(ending))

    @property
    def difference(self) -> Difference | None:
        return self.differs.first


def in_words(ending: EndingTold) -> str:
    """How a run ended."""
    if ending.failed is not None:
        return f"it failed: {ending.failed}"
    if ending.interrupted:
        return "it was interrupted"
    if ending.limit == "wall_seconds":
        return "its time was over"
    if ending.limit is not None and ending.returncode is None:
        return f"its {ending.limit} was used up"
    if ending.trap is not None:
        return f"trap: {ending.trap.splitlines()[0] if ending.trap else ''}"
    code = ending.returncode or 0
    return f"exit status {code}" if code >= 0 else f"signal {-code}"


def _whole(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of whole calls."""
    left = b""
    for piece in pieces:
        left += piece
        cut = len(left) - len(left) % CALL.size
        yield left[:cut]
        left = left[cut:]


class RecordedStore(Backend):
    """What is mounted where the store was: a directory of which only that is known. The layer before it answers."""

    caps = Caps.NONE

    def __init__(self, caps: Caps) -> None:
        self.caps = caps

    def stat(self, key: Key) -> Stat:
        return Stat(FileType.DIRECTORY, 0)
