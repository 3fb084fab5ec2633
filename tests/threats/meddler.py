"""Host code that lets a guest's memory grow, and so move, in the middle of system calls. For a process of its own.

usage: python -m tests.threats.meddler python|vdso. Prints the name of each call before it is made.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import wasmtime

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend

from .. import rawguest
from ..rawguest import ALL_FILE_RIGHTS, FREE, RawGuest, pack_subscriptions

RESULT = 0x3000
DATA = bytes(range(200)) * 10


def moving_engine() -> wasmtime.Engine:
    """An engine whose memories are elsewhere whenever they have grown; where they were is nothing then."""
    config = wasmtime.Config()
    config.memory_may_move = True
    config.memory_reservation = 0
    config.memory_reservation_for_growth = 0
    config.memory_guard_size = 0
    return wasmtime.Engine(config)


def _address(guest: RawGuest) -> int:
    return ctypes.cast(guest.memory.data_ptr(guest.store), ctypes.c_void_p).value or 0


class Meddler:
    """Called by streams and by a store; once armed, it lets the memory grow at the next call."""

    def __init__(self) -> None:
        self.guest: RawGuest | None = None
        self.armed = False
        self.grown = 0

    def __call__(self, _call: Call | None = None) -> None:
        if self.armed and self.guest is not None:
            self.armed = False
            self.grown += 1
            before = _address(self.guest)
            if self.grown % 2:
                self.guest.grow()
            else:
                self.guest.memory.grow(self.guest.store, 1)
            assert _address(self.guest) != before, "it has not moved"

    # The user's streams

    def read(self, size: int) -> bytes:
        self()
        return b"i" * size

    def write(self, data: bytes) -> None:
        self.written = getattr(self, "written", b"") + data
        self()


def buffers(guest: RawGuest) -> tuple[int, int]:
    """Three of five bytes, apart from each other."""
    for at, data in ((0, b"abcde"), (100, b"fghij"), (200, b"klmno")):
        guest.poke(FREE + at, data + b"." * 5)
    return guest.iovs((FREE, 5), (FREE + 100, 5), (FREE + 200, 5))


def seen(guest: RawGuest) -> tuple[int, bytes]:
    return guest.u32(RESULT), b"".join(guest.peek(FREE + at, 6) for at in (0, 100, 200))


def stdin(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_read", 0, *buffers(guest), RESULT)
    return seen(guest)


def stdout(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_write", 1, *buffers(guest), RESULT)
    return guest.u32(RESULT), meddle.written


def read(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_read", guest.open("g"), *buffers(guest), RESULT)
    return seen(guest)


def pread(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_pread", guest.open("g"), *buffers(guest), 50, RESULT)
    return seen(guest)


def write(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_write", 4, *buffers(guest), RESULT)
    guest.must("fd_sync", 4)
    return guest.u32(RESULT), guest.pread(4, 17, 0)


def pwrite(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_pwrite", 4, *buffers(guest), 50, RESULT)
    guest.must("fd_sync", 4)
    return guest.u32(RESULT), guest.pread(4, 17, 49)


def opened(guest: RawGuest, meddle: Meddler) -> Any:
    return guest.open("d/x")


def stat(guest: RawGuest, meddle: Meddler) -> Any:
    return guest.stat("g").size


def fstat(guest: RawGuest, meddle: Meddler) -> Any:
    fd = guest.open("g")
    meddle.armed = True
    return guest.fstat(fd).size


def readdir(guest: RawGuest, meddle: Meddler) -> Any:
    return sorted(guest.names("d"))


def readlink(guest: RawGuest, meddle: Meddler) -> Any:
    return guest.readlink("l")


def seek(guest: RawGuest, meddle: Meddler) -> Any:
    return guest.seek(4, -5, c.WHENCE_END)


def poll(guest: RawGuest, meddle: Meddler) -> Any:
    guest.poke(FREE, pack_subscriptions(guest.abi, [(9, "read", 4), (8, "read", 0)]))
    guest.must("poll_oneoff", FREE, FREE + 200, 2, RESULT)
    return guest.u32(RESULT), guest.u64(FREE + 200)


def rename(guest: RawGuest, meddle: Meddler) -> Any:
    guest.rename("d/x", "d/z")
    return sorted(guest.names("d"))


def truncate(guest: RawGuest, meddle: Meddler) -> Any:
    guest.must("fd_filestat_set_size", 4, 10)
    return guest.fstat(4).size


_CALLS: list[Callable[[RawGuest, Meddler], Any]] = [
    *(stdin, stdout, read, pread, write, pwrite, opened, stat, fstat, readdir, readlink, seek, poll, rename, truncate)
]
CALLS = {call.__name__: call for call in _CALLS}
EXPECTED = {
    "stdin": (5, b"iiiii.fghij.klmno."),  # the rest would be waited for
    "stdout": (15, b"abcdefghijklmno"),
    "read": (15, bytes((0, 1, 2, 3, 4, 46, 5, 6, 7, 8, 9, 46, 10, 11, 12, 13, 14, 46))),
    "pread": (15, bytes((50, 51, 52, 53, 54, 46, 55, 56, 57, 58, 59, 46, 60, 61, 62, 63, 64, 46))),
    "write": (15, b"abcdefghijklmno" + bytes((15, 16))),
    "pwrite": (15, bytes((49,)) + b"abcdefghijklmno" + bytes((65,))),
    "opened": 5,
    "stat": 2000,
    "fstat": 2000,
    "readdir": [b"x", b"y"],
    "readlink": b"f",
    "seek": 1995,
    "poll": (2, 9),
    "rename": [b"y", b"z"],
    "truncate": 10,
}


def main(vdso: bool) -> None:
    rawguest._ENGINES.append(moving_engine())
    for name, call in CALLS.items():
        meddle = Meddler()
        tree = {"f": DATA, "g": DATA, "l": vfswasi.Symlink("f"), "d": {"x": b"1", "y": b"2"}}
        mount = vfswasi.Mount(Faulty(MemoryBackend(tree), meddle), rw=True)
        with RawGuest({"/d": mount}, stdin=meddle, stdout=meddle.write, vdso=vdso) as guest:
            fd = guest.open("f", base=ALL_FILE_RIGHTS)
            for _ in range(60):  # with the fast path, it is used from here on
                guest.pread(fd, 10, 0)
            meddle.guest = guest
            meddle.armed = True
            print(name, flush=True)
            assert call(guest, meddle) == EXPECTED[name], call(guest, meddle)
            assert meddle.grown or vdso


if __name__ == "__main__":
    main(sys.argv[1] == "vdso")
