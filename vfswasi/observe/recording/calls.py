"""The system calls of a run, a few bytes for each: enough to say which is the first that differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from struct import error as StructError
from typing import Any, Final
from zlib import crc32

from ...abi.layouts import ABIS, EVENT, FDSTAT, IOVEC_SIZE, PRESTAT, Abi
from ...errors import Errno, FsError
from ...fs_backends.waiting import check_time
from ...kernel.clocks import Interrupted
from ...kernel.tracing import Tracer
from ..trace.decoding import decoded
from .difference import Differs
from .spool import Room, Stream

# Its name, how it ended, the number of the text that it was given (0: none), and a checksum of what went in and of what
# came out.
CALL: Final = Struct("<BBIII")
NAMES: Final = tuple(sorted({name for abi in ABIS.values() for name in abi.functions}))
NOT_BACK: Final = 255  # the guest ended in it
INJECTED: Final = 128  # added to a name: it was not made, a tracer of the caller's gave the errno
TEXT_MAX_BYTES: Final = 4096
TEXTS_MAX: Final = 1_000_000
_NUMBER_OF: Final = {name: number for number, name in enumerate(NAMES)}
_ARGUMENTS: Final = [Struct(f"<{count}Q") for count in range(10)]
_IOVECS: Final = 1024  # as many buffers are looked at
_PIECE_BYTES: Final = 4 << 20
_STAT_BYTES: Final = 0  # stands for those of the snapshot
_U32: Final = Struct("<I")

# Which arguments are (pointer, length) of a text.
_TEXTS: Final = {
    "path_create_directory": ((1, 2),),
    "path_filestat_get": ((2, 3),),
    "path_filestat_set_times": ((2, 3),),
    "path_link": ((2, 3), (5, 6)),
    "path_open": ((2, 3),),
    "path_readlink": ((1, 2),),
    "path_remove_directory": ((1, 2),),
    "path_rename": ((1, 2), (4, 5)),
    "path_symlink": ((0, 1), (3, 4)),
    "path_unlink_file": ((1, 2),),
}
# What comes out, as (pointer, bytes).
_RESULTS: Final = {
    "clock_res_get": (1, 8),
    "clock_time_get": (2, 8),
    "fd_fdstat_get": (1, FDSTAT.size),
    "fd_filestat_get": (1, _STAT_BYTES),
    "fd_prestat_get": (1, PRESTAT.size),
    "fd_pread": (4, 4),
    "fd_pwrite": (4, 4),
    "fd_read": (3, 4),
    "fd_readdir": (4, 4),
    "fd_seek": (3, 8),
    "fd_tell": (1, 8),
    "fd_write": (3, 4),
    "path_filestat_get": (4, _STAT_BYTES),
    "path_open": (8, 4),
    "path_readlink": (5, 4),
    "poll_oneoff": (3, 4),
    "sock_accept": (2, 4),
}
# A buffer, and of how many bytes (of one entry) the result above tells the count.
_FILLED: Final = {"fd_readdir": (1, 1), "path_readlink": (3, 1), "poll_oneoff": (1, EVENT.size)}
# A buffer, and the argument with its length.
_GIVEN: Final = {"fd_prestat_dir_name": (1, 2), "random_get": (0, 1)}
_WRITES: Final = frozenset({"fd_write", "fd_pwrite"})
_READS: Final = frozenset({"fd_read", "fd_pread"})


def _buffers(memory: Any, pointer: int, count: int, most: int | None, start: int) -> int:
    """The checksum of what iovecs describe, of at most so many bytes."""
    view = memory.view
    left = most
    for number in range(min(count, _IOVECS)):
        at = pointer + number * IOVEC_SIZE
        (address,), (length,) = _U32.unpack_from(view, at), _U32.unpack_from(view, at + 4)
        if left is not None:
            length = min(length, left)
            left -= length
        for offset in range(address, address + length, _PIECE_BYTES):
            if offset != address:
                check_time("recording")
            start = crc32(view[offset : min(offset + _PIECE_BYTES, address + length)], start)
        if left == 0:
            break
    return start


def going_in(memory: Any, abi: Abi, name: str, arguments: tuple[int, ...]) -> tuple[int, bytes | None]:
    """(a checksum of all that a call is given, the text among it). What cannot be read is not in it."""
    sum_ = crc32(_ARGUMENTS[len(arguments)].pack(*(value & (2**64 - 1) for value in arguments)))
    text = None
    try:
        memory.check(0, 0)
        where = _TEXTS.get(name)
        if where is not None:
            texts = [memory.read(arguments[at], min(arguments[length], TEXT_MAX_BYTES)) for at, length in where]
            text = b" -> ".join(texts)[:TEXT_MAX_BYTES]
            sum_ = crc32(text, sum_)
        elif name in _WRITES:
            sum_ = _buffers(memory, arguments[1], arguments[2], None, sum_)
        elif name == "poll_oneoff":
            sum_ = crc32(memory.read(arguments[0], min(arguments[2], 4096) * abi.subscription_size), sum_)
    except (FsError, StructError, ValueError, IndexError):
        pass  # a pointer that leads nowhere: the call itself says so
    return sum_, text


def coming_out(memory: Any, abi: Abi, name: str, arguments: tuple[int, ...]) -> int:
    """A checksum of what a call that succeeded has put into the guest's memory."""
    sum_ = 0
    try:
        where = _RESULTS.get(name)
        if where is not None:
            told = memory.read(arguments[where[0]], where[1] or abi.filestat.size)
            sum_ = crc32(told)
            if name in _READS:
                sum_ = _buffers(memory, arguments[1], arguments[2], _U32.unpack_from(told)[0], sum_)
            filled = _FILLED.get(name)
            if filled is not None:
                sum_ = crc32(memory.read(arguments[filled[0]], _U32.unpack_from(told)[0] * filled[1]), sum_)
        given = _GIVEN.get(name)
        if given is not None:
            sum_ = crc32(memory.slice(arguments[given[0]], arguments[given[1]]))
    except (FsError, StructError, ValueError, IndexError):
        pass
    return sum_


class Calls(Tracer):
    """Keeps them, `stream` one behind the other. texts: what their numbers mean, from 1 on."""

    def __init__(self, room: Room) -> None:
        self.stream = Stream(room)
        self.texts: dict[bytes, int] = {}
        self.count = 0
        self._room = room
        self._waiting = bytearray()
        self._now: tuple[Abi, str, tuple[int, ...], int, int] | None = None
        self.injected = False

    def before(self, process: Any, memory: Any, abi: Any, name: str, arguments: tuple[int, ...]) -> Errno | None:
        sum_, text = going_in(memory, abi, name, arguments)
        number = 0
        if text is not None:
            number = self.texts.get(text, 0)
            if not number and len(self.texts) < TEXTS_MAX and self._room.take_memory(len(text) + 150):
                number = self.texts[text] = len(self.texts) + 1
        self._now = abi, name, arguments, sum_, number
        return None

    def after(self, process: Any, memory: Any, errno: Errno) -> None:
        if self._now is not None:
            abi, name, arguments = self._now[:3]
            self._add(int(errno), 0 if errno else coming_out(memory, abi, name, arguments))

    def ended(self, end: BaseException) -> None:
        if self._now is not None:
            self._add(NOT_BACK, 0)

    def again(self) -> Tracer:
        raise ValueError("a run that is recorded cannot be copied")

    def _add(self, errno: int, result: int) -> None:
        assert self._now is not None
        _, name, _, sum_, text = self._now
        self._now = None
        self.count += 1
        self._waiting += CALL.pack(_NUMBER_OF[name] | (INJECTED if self.injected else 0), errno, text, sum_, result)
        self.injected = False
        if len(self._waiting) >= 1 << 16:
            self.settle()

    def settle(self) -> None:
        if self._room.cut is not None or not self.stream.add(self._waiting):
            self.count -= len(self._waiting) // CALL.size
        self._waiting = bytearray()


# What a store of its own, a disk or a server, may have refused; an overlay in its place would not.
_OF_STORES: Final = frozenset(
    int(Errno[name])
    for name in "NOTSUP IO NOSPC DQUOT ACCES PERM ROFS STALE XDEV FBIG MLINK NAMETOOLONG BUSY TXTBSY TIMEDOUT".split()
)


_ERRNOS: Final = {int(errno): errno.name for errno in Errno}


def _name(number: int) -> str:
    """Of a call, as a file says that may have been made by anybody."""
    number &= ~INJECTED
    return NAMES[number] if number < len(NAMES) else f"call number {number}"


def _errno(number: int) -> str:
    return _ERRNOS.get(number, f"errno {number}")


class Following(Tracer):
    """Compares the calls of a run with those of a recorded one. differs: hears of the first difference; after it
    nothing more is compared.

    count, texts: of the recorded calls; records: their bytes, in pieces of whole ones. refusals: whether a store may
    have refused what is no store's to refuse now. cut_off: the recorded run was ended from outside: so is this one,
    where that one was.
    """

    def __init__(
        self,
        count: int,
        texts: list[bytes],
        records: Iterator[bytes],
        differs: Differs,
        refusals: bool,
        cut_off: bool,
        whole: bool,
    ) -> None:
        self._count, self._texts, self._differs = count, texts, differs
        self._calls: Iterator[tuple[int, int, int, int, int]] = (
            call for piece in records for call in CALL.iter_unpack(piece)
        )
        self._refusals, self._cut_off, self._whole = refusals, cut_off, whole
        self._now: tuple[Abi, str, tuple[int, ...], tuple[int, ...]] | None = None
        self.number = 0
        self.injected = False

    @property
    def all_made(self) -> bool:
        """Whether every recorded call was made."""
        return self.number >= self._count

    def before(self, process: Any, memory: Any, abi: Any, name: str, arguments: tuple[int, ...]) -> Errno | None:
        number, self.number = self.number, self.number + 1
        self._now = None
        sum_, text = going_in(memory, abi, name, arguments)
        differs = self._differs
        differs.call, differs.name = number, name
        differs.about = lambda: decoded(process, memory, abi, name, arguments).path
        if differs.first is not None:
            return None
        expected = next(self._calls, None)
        if expected is None:
            if self._cut_off:
                self.number = number
                raise Interrupted
            if self._whole:
                differs.note("call", "no further call", "a further call")
            return None
        known, errno, place, before, _ = expected
        was = _name(known)
        path = self._texts[place - 1].decode("utf-8", "replace") if 0 < place <= len(self._texts) else None
        if was != name or (path is not None and text is not None and text != self._texts[place - 1]):
            differs.note("call", was + (f" {path!r}" if path is not None else ""), name)
        elif before != sum_:
            what = "what it writes" if name in _WRITES else "its arguments"
            differs.note("call", f"{what} had other bytes" if name in _WRITES else "others", f"{what} differ")
        self._now = abi, name, arguments, expected
        known_errno = errno in _ERRNOS and errno != int(Errno.SUCCESS)
        if differs.first is None and known_errno and (known & INJECTED or (self._refusals and errno in _OF_STORES)):
            return Errno(errno)
        return None

    def after(self, process: Any, memory: Any, errno: Errno) -> None:
        now, self._now = self._now, None
        if now is None or self._differs.first is not None:
            return
        abi, name, arguments, (_, was, _, _, result) = now
        if was == NOT_BACK:
            if self._cut_off:
                raise Interrupted
            self._differs.note("call", "the run ended in it", errno.name)
        elif was != int(errno):
            self._differs.note("call", _errno(was), errno.name)
        elif not errno and coming_out(memory, abi, name, arguments) != result:
            self._differs.note("call", "other results", "its results differ")

    def ended(self, end: BaseException) -> None:
        now, self._now = self._now, None
        if now is not None and now[3][1] != NOT_BACK and self._differs.first is None:
            self._differs.note("call", _errno(now[3][1]), "the run ended in it")

    def again(self) -> Tracer:
        raise ValueError("a run that is replayed cannot be copied")


class Both(Tracer):
    """Two tracers: the caller's, which may give errnos, and ours."""

    def __init__(self, callers: Tracer, calls: Calls | Following) -> None:
        self._callers, self._calls = callers, calls

    def before(self, process: Any, memory: Any, abi: Any, name: str, arguments: tuple[int, ...]) -> Errno | None:
        kept = self._calls.before(process, memory, abi, name, arguments)
        errno = self._callers.before(process, memory, abi, name, arguments)
        self._calls.injected = errno is not None
        return kept if errno is None else errno

    def after(self, process: Any, memory: Any, errno: Errno) -> None:
        self._calls.after(process, memory, errno)
        self._callers.after(process, memory, errno)

    def ended(self, end: BaseException) -> None:
        self._calls.ended(end)
        self._callers.ended(end)

    def again(self) -> Tracer:
        return self._calls.again()


def run_lengths(values: Iterable[int]) -> list[list[int]]:
    """[how often, value], in their order."""
    found: list[list[int]] = []
    for value in values:
        if found and found[-1][1] == value:
            found[-1][0] += 1
        else:
            found.append([1, value])
    return found
