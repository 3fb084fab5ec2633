"""The caller's ends of the streams of a run that is awaited."""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, AnyStr, Final, Generic

import anyio
import anyio.lowlevel

_PIECE_BYTES: Final = 1 << 16


class AsyncReader(Generic[AnyStr]):
    """What a guest writes to a pipe. An asynchronous iterable of lines. Tasks that read it take turns, and one that is
    cancelled loses nothing."""

    def __init__(self, file: Any, decoder: codecs.IncrementalDecoder | None) -> None:
        self._file = file
        self._decoder = decoder
        self._raw: deque[bytes] = deque()  # not decoded yet: who decodes is told of what is wrong
        self._raw_bytes = 0
        self._kept: Any = b"" if decoder is None else ""
        self._at = 0  # what is kept before it was given out
        self._ended = False
        self._turn = anyio.Lock()
        self.truncated = False
        os.set_blocking(file.fileno(), False)

    async def receive(self, max_bytes: int = _PIECE_BYTES) -> AnyStr:
        """What is there, at least one byte or character; empty at the end."""
        while not self._have() and await self._fill():
            pass
        return self._take(max_bytes)

    async def read(self, size: int = -1) -> AnyStr:
        """`size` bytes or characters, less at the end; all for -1."""
        while (size < 0 or self._have() < size) and await self._fill():
            pass
        return self._take(self._have() if size < 0 else size)

    async def readline(self) -> AnyStr:
        """A line with its end; empty at the end of the stream."""
        end: Any = b"\n" if self._decoder is None else "\n"
        looked = 0
        while True:
            have = self._have()
            at = self._kept.find(end, self._at + looked)
            if at >= 0:
                return self._take(at + 1 - self._at)
            looked = have
            if not await self._fill():
                return self._take(self._have())

    async def __aiter__(self) -> AsyncIterator[AnyStr]:
        while line := await self.readline():
            yield line

    async def aclose(self) -> None:
        """Read no more; the guest sees that. What was read from the pipe before is there still."""
        self.close()

    def close(self) -> None:
        """`aclose`."""
        self._ended = True
        _close(self._file)

    async def collect(self, most: int) -> None:
        """Take what the guest writes out of the pipe, whoever reads it: `most` bytes, and then no more."""
        while self._unread() <= most and await self._fill():
            pass
        if self._unread() > most:
            self.truncated = True
            self.close()

    def finish(self, most: int) -> None:
        """The guest has ended: what is in the pipe is all that will come."""
        while not self._ended and self._unread() <= most:
            try:
                self._note(os.read(self._file.fileno(), _PIECE_BYTES))
            except BlockingIOError:  # somebody else has the other end too, and is not waited for
                break
        self._ended = True

    def rest(self) -> AnyStr:
        """All that nobody has read. Raises UnicodeDecodeError."""
        return self._take(self._have())

    async def _fill(self) -> bool:
        """Get more, or wait for it; False: there is no more."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        seen = self._raw_bytes
        async with self._turn:
            while not self._ended and self._raw_bytes == seen:
                try:
                    self._note(os.read(self._file.fileno(), _PIECE_BYTES))
                except BlockingIOError:
                    try:
                        await anyio.wait_readable(self._file.fileno())
                    except (anyio.ClosedResourceError, ValueError):  # it was closed meanwhile
                        self._ended = True
        return self._raw_bytes != seen

    def _note(self, piece: bytes) -> None:
        self._ended = not piece
        if piece:
            self._raw.append(piece)
            self._raw_bytes += len(piece)

    def _unread(self) -> int:
        return sum(map(len, self._raw)) + len(self._kept) - self._at

    def _have(self) -> int:
        """How much can be taken. Raises UnicodeDecodeError."""
        if self._raw or (self._ended and self._decoder is not None):
            pieces = [self._kept[self._at :]]
            self._at = 0
            while self._raw:
                piece = self._raw.popleft()
                pieces.append(piece if self._decoder is None else self._decoder.decode(piece))
            if self._ended and self._decoder is not None:
                pieces.append(self._decoder.decode(b"", True))
            empty: Any = b"" if self._decoder is None else ""
            self._kept = empty.join(pieces)
        return len(self._kept) - self._at

    def _take(self, count: int) -> AnyStr:
        taken: AnyStr = self._kept[self._at : self._at + count]
        self._at += len(taken)
        if self._at == len(self._kept):
            self._kept, self._at = self._kept[:0], 0
        return taken


def _close(file: Any) -> None:
    """Close a file with a descriptor that tasks may be waiting for."""
    if not file.closed:
        anyio.notify_closing(file.fileno())
        file.close()


class AsyncWriter(Generic[AnyStr]):
    """The pipe that a guest reads as its standard input. Tasks that write to it take turns."""

    def __init__(self, file: Any, codec: tuple[str, str] | None) -> None:
        self._file = file
        self._codec = codec
        self._turn = anyio.Lock()
        os.set_blocking(file.fileno(), False)

    async def write(self, data: AnyStr) -> None:
        """All of it. Raises BrokenPipeError: the guest does not read any more, or it was closed; TypeError."""
        if isinstance(data, str) != (self._codec is not None):
            raise TypeError(f"this stream takes {'bytes' if self._codec is None else 'str'}")
        raw: Any = data.encode(*(self._codec or ())) if isinstance(data, str) else data
        await anyio.lowlevel.checkpoint_if_cancelled()
        async with self._turn:
            with memoryview(raw) as view:
                done = 0
                while done < len(view):
                    if self._file.closed:
                        raise BrokenPipeError("the guest's standard input was closed")
                    try:
                        done += os.write(self._file.fileno(), view[done : done + _PIECE_BYTES])
                    except BlockingIOError:
                        try:
                            await anyio.wait_writable(self._file.fileno())
                        except anyio.ClosedResourceError:
                            raise BrokenPipeError("the guest's standard input was closed") from None

    send = write

    def close(self) -> None:
        """The guest's input ends here."""
        _close(self._file)

    async def aclose(self) -> None:
        """`close`."""
        self.close()
