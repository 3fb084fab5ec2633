"""Random plans on two guests, one with the fast path and one without: after each call errno and memory must be equal.

Several descriptors of the same few files are read, written, moved, cut, renamed over, unlinked and renumbered in any
order, with one or many iovecs that may overlap each other, their own array and the results, and now and then with
pointers and counts from the edge. The whole of guest memory is compared after each step, and at the end the whole
store. Times are not compared: a deferred write sets them when it reaches the store. More: VFSWASI_INTERLEAVINGS=1000.
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from tests.rawguest import SIZE, RawGuest
from vfswasi.abi import constants as c
from vfswasi.abi.layouts import ABIS
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.kernel import rights
from vfswasi.kernel.entropy import SeededEntropy

SEEDS = int(os.environ.get("VFSWASI_INTERLEAVINGS", "40"))
STEPS = 300
NAMES = ("a", "b", "c", "d/a", "big")
LENGTHS = (0, 1, 3, 7, 8, 15, 16, 17, 100, 4095, 4096, 5000, 16384, 33000, 70000)
OFFSETS = (0, 1, 100, 4095, 4096, 8192, 65535, 65536, 100_000, 300_000)
HUGE = (2**63 - 1, 2**63, 2**64 - 1, 2**62)
EDGE = (SIZE - 1, SIZE - 4, SIZE - 8, SIZE - 16, SIZE, SIZE + 1, 2**32 - 1, 2**32 - 8, 0)
RESULT, IOVS, PATH, PATH2, BUFFERS = 0x100, 0x400, 0x200, 0x300, 0x8000
WEIGHTS = {
    "read": 14, "write": 14, "pread": 8, "pwrite": 8, "seek": 10, "tell": 3, "fdstat": 2, "fstat": 4, "open": 8,
    "close": 3, "stat": 3, "set_size": 2, "allocate": 1, "set_times": 1, "path_times": 1, "set_flags": 1,
    "set_rights": 1, "renumber": 1, "sync": 1, "unlink": 1, "rename": 2, "link": 1, "readdir": 1, "random": 2,
    "poll": 1, "yield": 1, "advise": 1, "strings": 4,
}  # fmt: skip

Call = tuple[str, tuple[int, ...], dict[int, bytes]]  # function, arguments, what is put into memory before


class Planner:
    """Makes calls that mostly succeed: it guesses which descriptors are open."""

    def __init__(self, seed: int, read_only: bool = False) -> None:
        self.read_only = read_only
        self.random = random.Random(seed)
        self.fds: list[int] = []

    def call(self) -> Call:
        names, weights = zip(*WEIGHTS.items(), strict=True)
        name = self.random.choices(names, weights)[0]
        return getattr(self, "_" + name)()

    def _fd(self) -> int:
        if self.fds and self.random.random() < 0.95:
            return self.random.choice(self.fds)
        return self.random.choice((0, 1, 3, 4, 5, 99, 1023, 1024, 2**32 - 1))

    def _result(self) -> int:
        return RESULT if self.random.random() < 0.97 else self.random.choice(EDGE)

    def _iovs(self, writes: bool) -> tuple[int, int, dict[int, bytes]]:
        """(pointer, count, memory)."""
        pick = self.random
        count = pick.choice((1, 1, 1, 1, 1, 2, 3, 5))
        memory: dict[int, bytes] = {}
        buffers = []
        for _ in range(count):
            length = pick.choice(LENGTHS[: 9 if pick.random() < 0.7 else None])
            pointer = BUFFERS + pick.randrange(0, 4096)
            if pick.random() < 0.02:
                pointer = pick.choice((IOVS, IOVS + 4, RESULT, *EDGE))
            if pick.random() < 0.01:
                length = pick.choice((2**32 - 1, SIZE, 2**31))
            buffers.append((pointer, length))
            if writes and pointer >= BUFFERS and pointer + min(length, 200) < SIZE:
                memory[pointer] = pick.randbytes(min(length, 200))
        pointer = IOVS if pick.random() < 0.98 else pick.choice(EDGE)
        if pointer == IOVS:
            memory[IOVS] = b"".join(struct.pack("<II", *buffer) for buffer in buffers)
        if pick.random() < 0.01:
            count = pick.choice((0, 65536, 65537, 2**29, 2**32 - 1))
        return pointer, count, memory

    def _offset(self) -> int:
        if self.random.random() < 0.02:
            return self.random.choice(HUGE)
        return self.random.choice(OFFSETS) if self.random.random() < 0.5 else self.random.randrange(0, 20_000)

    def _path(self, at: int = PATH) -> tuple[int, int, dict[int, bytes]]:
        raw = self.random.choice(NAMES).encode()
        return at, len(raw), {at: raw}

    def _read(self) -> Call:
        pointer, count, memory = self._iovs(False)
        return "fd_read", (self._fd(), pointer, count, self._result()), memory

    def _write(self) -> Call:
        pointer, count, memory = self._iovs(True)
        return "fd_write", (self._fd(), pointer, count, self._result()), memory

    def _pread(self) -> Call:
        pointer, count, memory = self._iovs(False)
        return "fd_pread", (self._fd(), pointer, count, self._offset(), self._result()), memory

    def _pwrite(self) -> Call:
        pointer, count, memory = self._iovs(True)
        return "fd_pwrite", (self._fd(), pointer, count, self._offset(), self._result()), memory

    def _seek(self) -> Call:
        offset = self._offset() * self.random.choice((1, 1, 1, -1)) % 2**64
        return "fd_seek", (self._fd(), offset, self.random.choice((0, 0, 0, 1, 2, 2, 3, 255)), self._result()), {}

    def _tell(self) -> Call:
        return "fd_tell", (self._fd(), self._result()), {}

    def _fdstat(self) -> Call:
        return "fd_fdstat_get", (self._fd(), self._result()), {}

    def _fstat(self) -> Call:
        return "fd_filestat_get", (self._fd(), self._result()), {}

    def _stat(self) -> Call:
        pointer, length, memory = self._path()
        return "path_filestat_get", (3, 1, pointer, length, RESULT), memory

    def _open(self) -> Call:
        pointer, length, memory = self._path()
        pick = self.random
        oflags = pick.choice((0, 0, 0, c.OFLAG_CREAT, c.OFLAG_CREAT, c.OFLAG_TRUNC, c.OFLAG_CREAT | c.OFLAG_EXCL))
        base = rights.FILE
        if pick.random() < 0.3:
            base &= ~(rights.MUTATING | c.RIGHT_FD_WRITE)
        elif pick.random() < 0.15:
            base &= pick.getrandbits(30)
        if self.read_only:
            oflags, base = 0, base & ~rights.MUTATING
        fdflags = pick.choice((0, 0, 0, 0, c.FDFLAG_APPEND, c.FDFLAG_APPEND, c.FDFLAG_SYNC, c.FDFLAG_DSYNC))
        return "path_open", (3, 1, pointer, length, oflags, base, 0, fdflags, RESULT), memory

    def _strings(self) -> Call:
        name = self.random.choice(("args_get", "args_sizes_get", "environ_get", "environ_sizes_get"))
        pointers = [self._result() if self.random.random() < 0.5 else BUFFERS + self.random.randrange(64) for _ in "12"]
        return name, tuple(pointers), {}

    def _close(self) -> Call:
        return "fd_close", (self._fd(),), {}

    def _set_size(self) -> Call:
        return "fd_filestat_set_size", (self._fd(), self._offset()), {}

    def _allocate(self) -> Call:
        return "fd_allocate", (self._fd(), self._offset(), self.random.choice((0, 1, 5000))), {}

    def _set_times(self) -> Call:
        return "fd_filestat_set_times", (self._fd(), 5, 7, self.random.choice((1, 4, 5, 10, 3))), {}

    def _path_times(self) -> Call:
        pointer, length, memory = self._path()
        return "path_filestat_set_times", (3, 1, pointer, length, 5, 7, self.random.choice((1, 4, 5))), memory

    def _set_flags(self) -> Call:
        return "fd_fdstat_set_flags", (self._fd(), self.random.choice((0, 0, c.FDFLAG_APPEND, 4, 255))), {}

    def _set_rights(self) -> Call:
        return "fd_fdstat_set_rights", (self._fd(), rights.FILE & self.random.getrandbits(30), 0), {}

    def _renumber(self) -> Call:
        return "fd_renumber", (self._fd(), self._fd()), {}

    def _sync(self) -> Call:
        return self.random.choice(("fd_sync", "fd_datasync")), (self._fd(),), {}

    def _unlink(self) -> Call:
        pointer, length, memory = self._path()
        return "path_unlink_file", (3, pointer, length), memory

    def _rename(self) -> Call:
        pointer, length, memory = self._path()
        pointer2, length2, memory2 = self._path(PATH2)
        return "path_rename", (3, pointer, length, 3, pointer2, length2), memory | memory2

    def _link(self) -> Call:
        pointer, length, memory = self._path()
        pointer2, length2, memory2 = self._path(PATH2)
        return "path_link", (3, 0, pointer, length, 3, pointer2, length2), memory | memory2

    def _readdir(self) -> Call:
        return "fd_readdir", (self._fd(), BUFFERS, 400, 0, RESULT), {}

    def _random(self) -> Call:
        pick = self.random
        pointer = BUFFERS if pick.random() < 0.9 else pick.choice(EDGE)
        return "random_get", (pointer, pick.choice((0, 1, 4, 16, 100, 5000, 2**32 - 1))), {}

    def _poll(self) -> Call:
        subscription = struct.pack("<QB7xI28x", 9, c.EVENTTYPE_FD_READ, self._fd())
        return "poll_oneoff", (BUFFERS, BUFFERS + 100, 1, RESULT), {BUFFERS: subscription}

    def _yield(self) -> Call:
        return "sched_yield", (), {}

    def _advise(self) -> Call:
        return "fd_advise", (self._fd(), 0, 100, self.random.choice((0, 1, 2, 9))), {}


class Side:
    """One of the two guests."""

    def __init__(self, mount: vfswasi.Mount, vdso: bool, version: str, window_bytes: int, serials: bool) -> None:
        """`serials`: inode numbers are comparable; those of a disk are used again, by its own rules."""
        limits = vfswasi.Limits(window_bytes=window_bytes, output_bytes=20_000)
        strings: dict[str, Any] = {"args": ["program", "", "an argument"], "env": {"HOME": "/", "LANG": "C"}}
        self.guest = RawGuest({"/d": mount}, version=version, vdso=vdso, limits=limits, **strings)
        # A run would be given a seed; a WASI object draws from the system.
        self.guest.wasi._process.entropy = SeededEntropy(1)
        self._serials = serials

    def do(self, call: Call) -> Errno:
        name, arguments, memory = call
        for pointer, data in memory.items():
            self.guest.poke(pointer, data)
        errno = self.guest.call(name, *arguments)
        if errno is Errno.SUCCESS and name.endswith("filestat_get"):
            self._normalise(arguments[-1])
        return errno

    def _normalise(self, pointer: int) -> None:
        """Times are the store's own, and so may be inode numbers."""
        layout = self.guest.abi.filestat
        dev, serial, filetype, nlink, size, *_ = layout.unpack(self.guest.peek(pointer, layout.size))
        self.guest.poke(pointer, layout.pack(dev, serial if self._serials else 0, filetype, nlink, size, 0, 0, 0))

    def memory(self) -> bytes:
        address = self.guest.memory.data_ptr(self.guest.store)
        return ctypes.string_at(address, SIZE)


def _tree(path: Path) -> dict[str, bytes]:
    return {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()}


CONTENT = bytes(range(251)) * 20
BIG = bytes(range(256)) * 1200


def _memory(_: Path, max_bytes: int = 1 << 30) -> tuple[vfswasi.Mount, Callable[[], Any]]:
    backend = MemoryBackend({"a": CONTENT, "b": b"short", "d": {"a": b""}, "big": BIG}, max_bytes=max_bytes)
    return vfswasi.Mount(backend, rw=True), backend.export


def _tight(path: Path) -> tuple[vfswasi.Mount, Callable[[], Any]]:
    return _memory(path, len(CONTENT) + len(BIG) + 30_000)


def _local(path: Path) -> tuple[vfswasi.Mount, Callable[[], Any]]:
    (path / "d").mkdir(parents=True)
    for name, data in {"a": CONTENT, "b": b"short", "d/a": b"", "big": BIG}.items():
        (path / name).write_bytes(data)
    return vfswasi.Mount(path, rw=True), lambda: _tree(path)


def _read_only(path: Path) -> tuple[vfswasi.Mount, Callable[[], Any]]:
    _, export = _local(path)
    return vfswasi.Mount(path), export


STORES = {"memory": _memory, "memory, quota": _tight, "local": _local, "local, read-only": _read_only}


@pytest.mark.skipif(not fastpath.wanted(None), reason="compares the fast path with Python")
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nobody_can_tell(store: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath, "HEAT", (1, 2, 4)[seed % 3])
    version = "unstable" if seed % 4 == 3 else "preview1"
    window_bytes = (32 << 20, 128 << 10, 400 << 10)[seed % 3]
    exports, sides = [], []
    for index, vdso in enumerate((True, False)):
        mount, export = STORES[store](tmp_path / str(index))
        exports.append(export)
        sides.append(Side(mount, vdso, version, window_bytes, serials="memory" in store))
    fast, slow = sides
    planner = Planner(seed * len(STORES) + list(STORES).index(store), read_only="read-only" in store)
    history: list[Call] = []
    try:
        for number in range(STEPS):
            call = planner.call()
            if call[0] not in ABIS[version].functions or (call[0] == "fd_readdir" and "local" in store):
                continue
            history.append(call)
            errnos = fast.do(call), slow.do(call)
            told = f"step {number}: {call[0]}{call[1]}: {errnos}"
            assert errnos[0] is errnos[1], told
            mine, theirs = fast.memory(), slow.memory()
            if mine != theirs:
                at = next(index for index in range(SIZE) if mine[index] != theirs[index])
                pytest.fail(f"{told}: memory differs at {at:#x}: {mine[at : at + 16]!r} {theirs[at : at + 16]!r}")
            if errnos[0] is Errno.SUCCESS:
                if call[0] == "path_open":
                    planner.fds.append(fast.guest.u32(RESULT))
                elif call[0] in ("fd_close", "fd_renumber") and call[1][0] in planner.fds and len(set(call[1])) != 2:
                    planner.fds.remove(call[1][0])
        # A plan whose files all get lost has nothing to be fast about.
        counters = fast.guest.wasi._embedding.guest.fast.counters()
        assert sum(counters.values()) > 0 or len(planner.fds) < 3
    finally:
        for side in sides:
            side.guest.close()
    assert exports[0]() == exports[1]()


def test_the_plans_reach_everything() -> None:
    """Each function is in a plan, and most calls on descriptors are on open ones."""
    planner = Planner(0)
    planner.fds = [4, 5]
    seen = Counter(planner.call()[0] for _ in range(3000))
    assert {name for name, count in seen.items() if count} >= {
        "fd_read", "fd_write", "fd_pread", "fd_pwrite", "fd_seek", "fd_tell", "fd_fdstat_get", "fd_filestat_get",
        "random_get", "path_open", "path_filestat_get", "fd_close", "fd_readdir", "fd_renumber", "path_rename",
        "path_unlink_file", "fd_filestat_set_size", "fd_allocate", "poll_oneoff", "args_get", "args_sizes_get",
        "environ_get", "environ_sizes_get",
    }  # fmt: skip
