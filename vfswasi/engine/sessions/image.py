"""The contents of a linear memory, kept to be put into other instances again and again.

Where the system has it, what is not zero lies in a file in memory (memfd_create(2)) that nobody can write to any more,
and a memory that gets the contents maps them, copy on write: that costs the same whatever the memory's size is, and an
instance pays for what it changes. Elsewhere they are copied.

A mapping takes the place of pages that wasmtime has made accessible, and lies within what it unmaps with the instance:
memories of our stores never move, and no memory is given to another instance.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Any, Final

from ...fs_backends.turns import give_way
from ...fs_backends.waiting import check_time
from ...logs import logger

_log = logger("vfswasi")

_PIECE: Final = 1 << 16  # one page of WebAssembly
_GAP_PIECES: Final = 4  # so many pages of zeros between others are kept as well: a mapping costs as much
_TURN_PIECES: Final = 64
_ZEROS: Final = bytes(_PIECE)
_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED: Final = 0x10
_FAILED: Final = ctypes.c_void_p(-1).value


def _libc(name: str, result: Any, *arguments: Any) -> Any:
    try:
        function = getattr(ctypes.PyDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.restype, function.argtypes = result, arguments
    return function


_memcmp: Final = _libc("memcmp", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
_mmap: Final = _libc(
    "mmap",
    ctypes.c_void_p,
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t),
)
_CAN_MAP: Final = hasattr(os, "memfd_create") and _mmap is not None


class MemoryImage:
    """What a memory of `size` bytes has in it. `close` gives it up; the memories that have it keep it."""

    def __init__(self, address: int, view: memoryview) -> None:
        """`view`: the memory, which lies at `address`. Raises OSError, FsError (CANCELED: the time is over)."""
        self.size = len(view)
        self._runs = list(_runs(address, view))
        self._pieces: list[bytes] = []
        self._fd: int | None = None
        if _CAN_MAP:
            self._fd = os.memfd_create("vfswasi-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            at = 0
            for start, end in self._runs:
                for offset in range(start, end, _PIECE * _TURN_PIECES):
                    check_time("a memory is copied")
                    piece = view[offset : min(offset + _PIECE * _TURN_PIECES, end)]
                    if self._fd is None:
                        self._pieces.append(bytes(piece))
                    else:
                        while piece:
                            written = os.pwrite(self._fd, piece, at)
                            at += written
                            piece = piece[written:]
            if self._fd is not None:
                fcntl.fcntl(
                    self._fd,
                    fcntl.F_ADD_SEALS,
                    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
                )
        except BaseException:
            self.close()
            raise

    def put(self, address: int, view: memoryview) -> None:
        """Let the memory at `address`, of that size, have the contents. Raises OSError."""
        if self._fd is None:
            self._copy(view)
            return
        at = done = 0
        for start, end in [*self._runs, (self.size, self.size)]:
            if start > done:
                _map(address + done, start - done, -1, 0)
            if end > start:
                _map(address + start, end - start, self._fd, at)
            at += end - start
            done = end

    def _copy(self, view: memoryview) -> None:
        pieces = iter(self._pieces)
        done = 0
        for start, end in [*self._runs, (self.size, self.size)]:
            for offset in range(done, start, _PIECE):
                view[offset : offset + _PIECE] = _ZEROS
                give_way()
            for offset in range(start, end, _PIECE * _TURN_PIECES):
                piece = next(pieces)
                view[offset : offset + len(piece)] = piece
                give_way()
            done = end

    def close(self) -> None:
        fd, self._fd = self._fd, None
        self._pieces.clear()
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


def _runs(address: int, view: memoryview) -> Iterator[tuple[int, int]]:
    """From where to where there is something but zeros, in whole pages."""
    start = end = None
    for offset in range(0, len(view), _PIECE):
        if not offset % (_PIECE * _TURN_PIECES):
            check_time("a memory is copied")
        same = (
            not _memcmp(address + offset, _ZEROS, _PIECE)
            if _memcmp is not None
            else view[offset : offset + _PIECE].tobytes() == _ZEROS
        )
        if same:
            continue
        if start is not None and end is not None and offset - end > _GAP_PIECES * _PIECE:
            yield start, end
            start = None
        if start is None:
            start = offset
        end = offset + _PIECE
    if start is not None and end is not None:
        yield start, end


def _map(address: int, size: int, fd: int, offset: int) -> None:
    flags = mmap.MAP_PRIVATE | _MAP_FIXED | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
    if _mmap(address, size, _READ_WRITE, flags, fd, offset) == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"a memory cannot be mapped: {os.strerror(number)}")
