"""Reading one version of a remote object in pieces: from the cache, from what was read ahead, from the store.

- Here and there: one block is fetched for each that is missing, and kept in the cache.
- In order: what comes next is fetched before it is asked for, in pieces that several requests bring at once; the
  window doubles with each piece that was used, up to `readahead` bytes. Of a file that is larger than half of
  the cache nothing is kept behind: a scan shall not drive out what others use.
- Large: a read of several blocks that are not there is one request for each `PIECE_MAX_BYTES`.

All that is fetched and not read yet is charged to the buffers of the run for which it is fetched: what comes ahead
takes at most half of them, since others cannot do without. Where there is no room, blocks are fetched one by one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ...errors import Errno, FsError
from ...printing import counted
from .. import waiting
from ..base import Buffer
from ..budget import Budget
from ..charge import Charge
from .cache import ReadCache
from .client import Data

PIECE_MAX_BYTES = 4 << 20
_STREAK = 2  # reads in order before anything is read ahead
_PIECES = 6  # into which the window is divided, so that requests overlap


@dataclass(frozen=True)
class ReadOptions:
    """How to read a store. block: bytes that are fetched at least. readahead: bytes that may be on their way before
    they are asked for. cache: where blocks are kept, None: nowhere. timeout_s: for one request."""

    block: int = 32 << 10
    readahead: int = 24 << 20
    cache: ReadCache | None = None
    timeout_s: float = 30.0


Fetched = Future[Data]


class _Piece:
    """A range that was asked for: dropped by whoever has read it, or when it is collected."""

    __slots__ = ("_charge", "end", "future", "start")

    def __init__(self, start: int, end: int, future: Fetched, charge: Charge) -> None:
        self.start = start
        self.end = end
        self.future = future
        self._charge: Charge | None = charge

    def drop(self) -> None:
        """It is not needed any more. What is still on its way takes memory until it has come or was given up."""
        charge, self._charge = self._charge, None
        if charge is not None:
            self.future.cancel()
            self.future.add_done_callback(lambda _: charge.close())

    __del__ = drop


class Reader:
    """Positional reads of `[0, size)` of one object. Several threads may use it, one at a time.

    fetch: starts to read a range. give_back: told of what was fetched when it is not needed any more. file: what the
    blocks are kept under in the cache; it names the version.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], Fetched],
        size: int,
        file: object,
        options: ReadOptions,
        name: str,
        give_back: Callable[[Data], None] | None = None,
    ) -> None:
        self._fetch = fetch
        self._give_back = give_back
        self._size = size
        self._file = file
        self._options = options
        self._cache = options.cache
        self._name = name
        self._keeps = self._cache is not None and size <= self._cache.memory_bytes // 2
        self._lock = threading.Lock()
        self._next = 0  # where the last read ended
        self._streak = 0
        self._window = 0
        self._ahead: deque[_Piece] = deque()  # fetched or on its way, in order, without gaps
        self._advice = "normal"
        # The last one, where the cache does not get it.
        self._block_of_our_own: tuple[int, bytes, Charge] | None = None
        self.has_read = False

    def read_into(self, offset: int, buf: Buffer) -> int:
        """Fill `buf` from `offset`; short only at the end. Raises FsError as the fetch does, and IO after the
        timeout."""
        wanted = min(len(buf), self._size - offset)
        if wanted <= 0:
            return 0
        with self._lock:
            self._note(offset, offset + wanted)
            view = memoryview(buf)
            done = 0
            while done < wanted:
                done += self._some(offset + done, view[done:wanted], offset + wanted)
            self.has_read = True
        return wanted

    def _note(self, start: int, end: int) -> None:
        """Find out whether the file is read in order."""
        block = self._options.block
        near = self._next - block <= start <= self._next + block
        if near and end >= self._next:
            self._streak += 1
        elif not near:
            self._streak = 1 if start == 0 else 0
            self._window = 0
            if self._ahead and not self._ahead[0].start <= start < self._ahead[-1].end:
                self._forget_ahead()
        self._next = end

    def _some(self, at: int, view: memoryview, end: int) -> int:
        """At least one byte from `at`, where the whole read ends at `end`."""
        while self._ahead and self._ahead[0].end <= at:
            self._ahead.popleft().drop()
        if self._ahead and self._ahead[0].start <= at:
            count = self._from_piece(self._ahead[0], at, view)
            self._read_ahead(at + count)
            return count
        index = at // self._options.block
        block = self._kept(index)
        if block is not None:
            inside = at - index * self._options.block
            piece = block[inside : inside + len(view)]
            view[: len(piece)] = piece
            return len(piece)
        in_order = self._streak >= _STREAK and self._advice != "random"
        if in_order or end - at > self._options.block:
            self._forget_ahead()
            self._start_pieces(index * self._options.block, end)
            if self._ahead:
                if in_order:
                    self._read_ahead(at)
                return self._from_piece(self._ahead[0], at, view)
        start = index * self._options.block
        stop = min(start + self._options.block, self._size)
        data = bytes(self._result(self._fetch(start, stop), start, stop))
        self._keep(index, data)
        inside = at - start
        piece = data[inside : inside + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def _kept(self, index: int) -> bytes | None:
        own = self._block_of_our_own
        if own is not None and own[0] == index:
            return own[1]
        return None if self._cache is None else self._cache.get(self._file, index)

    def _keep(self, index: int, block: bytes) -> None:
        if self._cache is None or self._advice == "noreuse":
            self._keep_of_our_own(index, block)
        if self._cache is not None and self._advice != "noreuse":
            self._cache.put(self._file, index, block)

    def _keep_of_our_own(self, index: int, block: bytes) -> None:
        self._drop_our_own()
        charge = Charge.tried(waiting.buffers(), len(block))
        if charge is not None:
            self._block_of_our_own = index, block, charge

    def _drop_our_own(self) -> None:
        own, self._block_of_our_own = self._block_of_our_own, None
        if own is not None:
            own[2].close()

    def _from_piece(self, piece: _Piece, at: int, view: memoryview) -> int:
        try:
            data = self._result(piece.future, piece.start, piece.end)
        except FsError:
            self._forget_ahead()
            raise
        count = min(len(view), piece.end - at)
        inside = at - piece.start
        with memoryview(data) as whole:
            view[:count] = whole[inside : inside + count]
        if at + count == piece.end:
            self._ahead.popleft().drop()
            self._used_up(piece, data)
        return count

    def _used_up(self, piece: _Piece, data: Data) -> None:
        """The guest has read a piece to its end."""
        self._window = min(2 * self._window, self._options.readahead)
        block = self._options.block
        if self._keeps and self._advice != "noreuse":
            for start in range(-(-piece.start // block) * block, piece.end, block):
                end = min(start + block, self._size)
                if end <= piece.end:
                    self._keep(start // block, bytes(data[start - piece.start : end - piece.start]))
        else:  # the last block, so that a reader who steps back a little finds it
            start = (piece.end - 1) // block * block
            if start >= piece.start:
                self._keep_of_our_own(start // block, bytes(data[start - piece.start :]))
        if self._give_back is not None:
            self._give_back(data)

    def _read_ahead(self, at: int) -> None:
        """Have `window` bytes behind `at` fetched or on their way; the window grows as it is used."""
        if self._streak < _STREAK or self._advice == "random":
            return
        most = self._options.readahead
        if self._advice == "sequential":
            self._window = most
        elif not self._window:
            self._window = min(4 * self._options.block, most)
        reached = self._ahead[-1].end if self._ahead else at
        step = self._step()
        pieces = (self._window - (reached - at)) // step  # whole ones, so that buffers fit again
        if reached < self._size and pieces > 0:
            with contextlib.suppress(FsError):  # the guest has not asked for it yet
                self._start_pieces(reached, min(reached + pieces * step, self._size), ahead=True)

    def _step(self) -> int:
        """Bytes of one piece, so that several are on their way."""
        block = self._options.block
        return max(min(self._window // _PIECES // block * block, PIECE_MAX_BYTES), 4 * block)

    def _start_pieces(self, start: int, end: int, ahead: bool = False) -> None:
        """Fetch at least `[start, end)`, to the end of a block, behind what is on its way; less where there is no room
        for it. `ahead`: nobody has asked for it yet."""
        block = self._options.block
        end = min(-(-end // block) * block, self._size)
        step = max(self._step(), min((end - start) // _PIECES // block * block, PIECE_MAX_BYTES))
        while start < end:
            stop = min(start + step, end)
            if end - stop < step // 2:
                stop = end
            budget = waiting.buffers()
            count = stop - start
            charge = None if ahead and not _has_room_ahead(budget, count) else Charge.tried(budget, count)
            if charge is None:
                return
            self._ahead.append(_Piece(start, stop, self._fetch(start, stop), charge))
            start = stop

    def _forget_ahead(self) -> None:
        while self._ahead:
            self._ahead.popleft().drop()

    def _result(self, future: Fetched, start: int, end: int) -> Data:
        data: Data = waiting.result(future, self._options.timeout_s, f"{self._name}: bytes {start} to {end}")
        if len(data) != end - start:
            raise FsError(Errno.IO, f"{self._name}: {counted(len(data), 'byte')} came instead of {end - start:,}")
        return data

    def advise(self, offset: int, length: int, advice: str) -> None:
        """`posix_fadvise`: normal, sequential, random, willneed, dontneed, noreuse. Raises nothing."""
        with self._lock:
            if advice == "willneed":
                end = min(offset + length if length else self._size, self._size, offset + self._options.readahead)
                if offset < end and not self._ahead and self._kept(offset // self._options.block) is None:
                    with contextlib.suppress(FsError):
                        self._start_pieces(offset // self._options.block * self._options.block, end, ahead=True)
            elif advice == "dontneed":
                self._forget_ahead()
                block = self._options.block
                if self._cache is not None:
                    last = min(offset + length if length else self._size, self._size)
                    self._cache.drop(self._file, -(-offset // block), last // block - 1)
            else:
                self._advice = advice
                if advice == "random":
                    self._forget_ahead()

    def close(self) -> None:
        """Give up what is on its way."""
        with self._lock:
            self._forget_ahead()
            self._drop_our_own()


def _has_room_ahead(budget: Budget, count: int) -> bool:
    """Whether what nobody has asked for yet leaves half of the budget, and of what it lies within, to others."""
    levels = [budget] if budget.within is None else [budget, budget.within]
    return all(level.used + count <= level.most // 2 for level in levels)
