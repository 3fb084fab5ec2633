"""The caller's ends of a guest's standard streams that are pipes.

They are pipes of the system's: a guest waits at a full one and keeps its deadline there, and what knows descriptors
(`select`, an event loop, another process) can be used with them. Who waits for a run instead of reading takes out what
is in the pipes meanwhile, so that the guest does not wait for a reader who waits for the guest.
"""

from __future__ import annotations

import io
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Any, Final, cast

from ..stdio import PIPE

_PIECE_BYTES: Final = 1 << 16
_SLICE_S: Final = 0.04


class _Reader(io.RawIOBase):
    """What the guest writes. Somebody who waits for the guest may have taken some of it out of the pipe already."""

    def __init__(self, fd: int, limit: int) -> None:
        """limit: bytes that are kept for whoever reads at last."""
        self._fd = fd
        self._kept: deque[bytes] = deque()
        self._room = limit
        self._turn = threading.Lock()  # whose turn it is to take bytes out: their order would be lost
        self.ended = False
        self.truncated = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._check()
        return self._fd

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view, view.cast("B") as target, self._turn:
            self._check()
            if self._kept:
                piece = self._kept.popleft()
                if len(piece) > len(target):
                    self._kept.appendleft(piece[len(target) :])
                    piece = piece[: len(target)]
                self._room += len(piece)
            else:
                try:
                    piece = b"" if self.ended else os.read(self._fd, len(target))
                finally:
                    if self.closed:
                        self._let_go()
            target[: len(piece)] = piece
            return len(piece)

    def try_turn(self) -> bool:
        """Whether `take` may be called, which ends with `give_turn`."""
        if self.closed or self.ended or not self._turn.acquire(blocking=False):
            return False
        if self.closed or self.ended:
            self.give_turn()
            return False
        return True

    def give_turn(self) -> None:
        if self.closed:
            self._let_go()
        self._turn.release()

    @property
    def descriptor(self) -> int:
        """The pipe, for whoever has the turn."""
        return self._fd

    def take(self) -> None:
        """Take out what is in the pipe, which is known to have something or to be at its end."""
        piece = os.read(self._fd, _PIECE_BYTES)
        if len(piece) > self._room:
            piece, self.truncated = piece[: self._room], True
        self.ended = not piece or self.truncated
        if piece:
            self._kept.append(piece)
            self._room -= len(piece)
        if self.truncated:
            self._let_go()

    def take_all(self) -> None:
        """Nobody will write any more: take out what is there."""
        if not self.try_turn():
            return
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            while not self.ended and poll.poll(0):
                self.take()
            self.ended = True
        finally:
            self.give_turn()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Whoever has the turn closes the descriptor: a number that is somebody else's by then must not be read."""
        if self.closed:
            return
        super().close()
        if self._turn.acquire(blocking=False):
            self.give_turn()

    def __del__(self) -> None:
        self.close()


class _Writer(io.FileIO):
    """What the guest reads. Everything is written at once: who is asked a question does not wait for a buffer."""

    def write(self, data: Any) -> int:
        with memoryview(data) as given, given.cast("B") as view:
            done = 0
            while done < len(view):
                written = super().write(view[done:])
                if written is None:  # `communicate` has made it non-blocking
                    poll = select.poll()
                    poll.register(self.fileno(), select.POLLOUT)
                    poll.poll(1000 * _SLICE_S)
                done += written or 0
            return done


class Pipes:
    """stdin, stdout, stderr: files of the caller's, or None."""

    def __init__(self) -> None:
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self._readers: dict[str, _Reader] = {}
        self._writer: _Writer | None = None
        self.limit = 0
        self._pending: memoryview | None = None
        self._feeding = threading.Lock()
        self._guest_ends: list[int] = []

    def open(
        self, stdin: Any, stdout: Any, stderr: Any, codec: tuple[str, str] | None, limit: int
    ) -> tuple[Any, Any, Any]:
        """Make a pipe for each that is PIPE; what the guest gets in their place. `opened` has to follow. Raises
        OSError."""
        self.limit = limit
        if _is_pipe(stdin):
            stdin, writing = self._pipe()
            self._writer = _Writer(writing, "wb")
            self.stdin = cast(IO[Any], self._writer if codec is None else _text(self._writer, codec, write=True))
        given = []
        for name, target in (("stdout", stdout), ("stderr", stderr)):
            if _is_pipe(target):
                reading, target = self._pipe(guest_reads=False)
                self._readers[name] = reader = _Reader(reading, limit)
                buffered = io.BufferedReader(reader)
                setattr(self, name, buffered if codec is None else _text(buffered, codec))
            given.append(target)
        return stdin, given[0], given[1]

    def _pipe(self, guest_reads: bool = True) -> tuple[int, int]:
        ends = os.pipe()
        self._guest_ends.append(ends[0 if guest_reads else 1])
        return ends

    @property
    def wanted(self) -> bool:
        """Whether PIPE means a pipe; else it means to capture."""
        return self is not NO_PIPES

    def opened(self) -> None:
        """The guest has duplicates of its ends."""
        while self._guest_ends:
            os.close(self._guest_ends.pop())

    def feed(self, data: Any, codec: tuple[str, str] | None, until: float | None, settled: Callable[[], bool]) -> None:
        """Write to the guest's stdin and close it, and `drain` meanwhile. What was not written at `until` is written
        by the next call. Raises TypeError, ValueError (there is no such pipe)."""
        with self._feeding:
            if data is not None and self._pending is None:
                if self.stdin is None:
                    raise ValueError("input needs stdin=PIPE")
                if isinstance(data, str) != (codec is not None):
                    raise TypeError(
                        f"input must be {'bytes' if codec is None else 'str'}, as the streams of this run are"
                    )
                self._pending = memoryview(data.encode(*codec) if codec is not None else bytes(data))
            if self._pending is not None and self._writer is not None and not self._writer.closed:
                os.set_blocking(self._writer.fileno(), False)
                self._work(until, settled, self._writer)
            if not self._pending or settled():
                self.close_stdin()

    def drain(self, until: float | None, settled: Callable[[], bool]) -> None:
        """Keep what the guest writes until it has ended, or until `until` (`time.monotonic`). Of a reader who has
        enough, the guest sees that nobody reads any more."""
        self._work(until, settled, None)

    def _work(self, until: float | None, settled: Callable[[], bool], writer: _Writer | None) -> None:
        while not settled():
            left_s = _SLICE_S if until is None else min(_SLICE_S, until - time.monotonic())
            readers = [reader for reader in self._readers.values() if not reader.ended and not reader.closed]
            if left_s < 0 or not (readers if writer is None else self._pending):
                return
            mine: dict[int, _Reader] = {}
            try:
                for reader in readers:
                    if reader.try_turn():
                        mine[reader.descriptor] = reader
                poll = select.poll()
                for fd in mine:
                    poll.register(fd, select.POLLIN)
                if writer is not None:
                    poll.register(writer.fileno(), select.POLLOUT)
                for fd, _ in poll.poll(1000 * left_s):
                    if fd in mine:
                        mine[fd].take()
                    elif writer is not None:
                        self._write(writer)
            finally:
                for reader in mine.values():
                    reader.give_turn()

    def _write(self, writer: _Writer) -> None:
        assert self._pending is not None
        try:
            self._pending = self._pending[os.write(writer.fileno(), self._pending[:_PIECE_BYTES]) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # the guest does not want it, which is no error of its caller's
            self._pending = memoryview(b"")

    def rest(self, name: str) -> Any:
        """What of the guest's "stdout" or "stderr" nobody has read; None: it is no pipe. It has ended."""
        file: IO[Any] | None = getattr(self, name)
        if file is None:
            return None
        self._readers[name].take_all()
        return file.read() if not file.closed else None

    def raw(self, name: str) -> Any:
        """The file with the descriptor of "stdin", "stdout" or "stderr"."""
        return self._writer if name == "stdin" else self._readers[name]

    @property
    def truncated(self) -> bool:
        """Whether something of the guest's output was not kept."""
        return any(reader.truncated for reader in self._readers.values())

    def close_stdin(self) -> None:
        if self.stdin is not None:
            try:
                self.stdin.close()
            except BrokenPipeError:
                pass

    def close(self) -> None:
        """Close the caller's ends, and the guest's if it has none yet."""
        self.close_stdin()
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.opened()


def _is_pipe(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given == PIPE


def _text(file: Any, codec: tuple[str, str], write: bool = False) -> io.TextIOWrapper:
    """Nothing is translated: a guest knows one end of a line."""
    encoding, errors = codec
    return io.TextIOWrapper(file, encoding, errors, newline="\n", write_through=write)


NO_PIPES: Final = Pipes()
"""Of a run whose output is captured instead."""
