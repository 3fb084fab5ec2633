"""Calls with arguments that are hostile or good: what a plan consists of.

`SIGNATURES` says of every function what its arguments are; `Maker` draws them, `outputs` says which bytes of
the guest's memory a call may change.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from vfswasi.abi import constants as c
from vfswasi.abi.layouts import Abi
from vfswasi.kernel import rights
from vfswasi.kernel.descriptor import Descriptor, OpenDirectory, OpenFile
from vfswasi.kernel.process import Process

# Each word is one argument, but for those in `_WIDTH`. "rN" is the address of a result of N bytes.
SIGNATURES: Final = {
    "args_get": "strings",
    "args_sizes_get": "r4 r4",
    "environ_get": "strings",
    "environ_sizes_get": "r4 r4",
    "clock_res_get": "clock r8",
    "clock_time_get": "clock number r8",
    "fd_advise": "file number number advice",
    "fd_allocate": "file number number",
    "fd_close": "loose",
    "fd_datasync": "file",
    "fd_fdstat_get": "fd r24",
    "fd_fdstat_set_flags": "file fdflags",
    "fd_fdstat_set_rights": "fd less less",
    "fd_filestat_get": "fd filestat",
    "fd_filestat_set_size": "file number",
    "fd_filestat_set_times": "fd time time fst",
    "fd_pread": "file iovs number r4",
    "fd_prestat_get": "directory r8",
    "fd_prestat_dir_name": "directory buffer",
    "fd_pwrite": "file iovs number r4",
    "fd_read": "file iovs r4",
    "fd_readdir": "directory buffer cookie r4",
    "fd_renumber": "loose loose",
    "fd_seek": "file number whence r8",
    "fd_sync": "file",
    "fd_tell": "file r8",
    "fd_write": "file iovs r4",
    "path_create_directory": "directory path",
    "path_filestat_get": "directory lookup path filestat",
    "path_filestat_set_times": "directory lookup path time time fst",
    "path_link": "directory nothing path directory path2",
    "path_open": "directory lookup path oflags base inheriting openflags r4",
    "path_readlink": "directory path buffer r4",
    "path_remove_directory": "directory path",
    "path_rename": "directory path directory path2",
    "path_symlink": "path2 directory path",
    "path_unlink_file": "directory path",
    "poll_oneoff": "subscriptions r4",
    "proc_exit": "small",
    "proc_raise": "signal",
    "sched_yield": "",
    "random_get": "buffer",
    "sock_accept": "fd fdflags r4",
    "sock_recv": "fd iovs small r4 r2",
    "sock_send": "fd iovs small r4",
    "sock_shutdown": "fd small",
    "grow": "",
}
_WIDTH: Final = {"path": 2, "path2": 2, "iovs": 2, "buffer": 2, "strings": 2, "subscriptions": 3}
_OFTEN: Final = {
    "path_open": 22, "fd_write": 10, "fd_read": 8, "fd_close": 6, "path_rename": 6, "path_unlink_file": 5,
    "fd_seek": 5, "fd_pwrite": 4, "fd_pread": 4, "fd_filestat_set_size": 4, "path_link": 4, "fd_filestat_get": 3,
    "fd_readdir": 3, "fd_renumber": 3, "fd_allocate": 3, "path_symlink": 3, "path_create_directory": 3,
    "path_filestat_get": 3, "path_remove_directory": 3, "fd_fdstat_set_flags": 3, "fd_tell": 2, "path_readlink": 2,
    "proc_exit": 0.1, "proc_raise": 0.3, "grow": 0.3,
}  # fmt: skip
# For plans that are about contents more than about names.
_DATA_OFTEN: Final = dict.fromkeys(
    "fd_read fd_write fd_pread fd_pwrite fd_seek fd_tell fd_filestat_get fd_filestat_set_size".split(), 24
)

SUCCESS_OFTEN: Final = 0.88  # of arguments that are good
_PATHS: Final = (0x1000, 0x2800)
_RESULTS, _IOVS, _SUBSCRIPTIONS, _DATA = 0x4000, 0x5000, 0x6000, 0x10000
_EXTREMES: Final = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_SIZES: Final = (0, 1, 2, 5, 12, 100, 255, 4095, 4096, 4097, 5120, 9000, 20_000, 40_000, 65_536)
_NAMES: Final = ("a", "b", "d", "e", "f", "l", "ld", "n", "m", "empty", "up")
_LINKS: Final = (
    "dl fl dots out outdir back loop double gone goneout abs absdir absin absgone".split()  # those of `stores.TREE`
)
_GOOD_PATHS: Final = ("a", "b", "d", "d/a", "d/e", "d/e/f", "n", "m", "d/n", "empty", "empty/n", "ld/n", "l", "d/e/n")
_TOKENS: Final = (
    b"/", b"/", b"/", b"//", b"./", b"..", b"../", b".", b"\0", b"\\", b"..\\", "\uff0f".encode(),
    "\uff0e\uff0e/".encode(),
    b"%2e%2e/", b"%2f", b"~", b"C:", b"*", b"::", b"file://", b"\xff", b"\xc0\xaf", b"\xc0\xae\xc0\xae/",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"x" * 255, b"x" * 256, b"y" * 4096, b"y/" * 2048, "é".encode() * 127, "é".encode() * 128,
    b"a/../", b"d/../", b"root", b"root-evil", b"etc/passwd", b"proc/self/fd/0", b"\n", b" ", b"a" * 33,
)  # fmt: skip


class Step(NamedTuple):
    """One call. `pokes`: what is put into the guest's memory before it. `who`: which of the guests makes it."""

    name: str
    args: tuple[int, ...] = ()
    pokes: tuple[tuple[int, bytes], ...] = ()
    who: int = 0


class Maker:
    """Draws calls from a seed, for a process whose descriptors it looks at."""

    def __init__(self, seed: random.Random, abi: Abi, about_data: bool = False) -> None:
        self._random = seed
        self._abi = abi
        self._names = [name for name in SIGNATURES if name in abi.functions or name == "grow"]
        self._paths = ("a", "b", "n", "d/a") if about_data else _GOOD_PATHS
        often = _OFTEN | (_DATA_OFTEN if about_data else {})
        self._weights = [often.get(name, 1) for name in self._names]
        self._pokes: list[tuple[int, bytes]] = []
        self._process: Process
        self._size = 0
        self._draw: dict[str, Callable[[], Any]] = {
            "fd": lambda: self._fd(Descriptor),
            "loose": lambda: self._fd(Descriptor, keeps=0.9),
            "file": lambda: self._fd(OpenFile),
            "directory": lambda: self._fd(OpenDirectory),
            "path": lambda: self._path(_PATHS[0]),
            "path2": lambda: self._path(_PATHS[1]),
            "iovs": self._iovs,
            "buffer": lambda: (self._pointer(_DATA), self._length()),
            "strings": lambda: (self._pointer(_RESULTS), self._pointer(_DATA)),
            "subscriptions": self._subscriptions,
            "number": self._number,
            "time": lambda: self._pick((0, 1, 10**18, 2**63 - 1, 2**63, 2**64 - 1, self._random.getrandbits(64))),
            "clock": lambda: self._flags((0, 1, 2, 3), 4),
            "advice": lambda: self._flags(range(6), 6),
            "whence": lambda: self._flags(range(3), 3),
            "lookup": lambda: self._flags((0, 1), 2),
            "nothing": lambda: self._flags((0,), 1),
            "fdflags": lambda: self._flags((0, 0, 1, 1, 4, 5, 16, 31), 32),
            "openflags": lambda: self._flags((0, 0, 0, 0, 1, 1, 4, 16), 32),
            "oflags": lambda: self._flags((0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 5, 8, 9, 9, 4, 3), 16),
            "fst": lambda: self._flags((0, 1, 2, 4, 8, 5, 10, 9, 6, 3, 12), 16),
            "base": self._rights,
            "inheriting": lambda: self._pick(
                (0, 0, 0, 0, 0, rights.FILE, rights.INHERITING, self._random.getrandbits(30))
            ),
            "less": lambda: self._pick(
                (rights.INHERITING, rights.FILE, c.RIGHT_FD_READ, self._random.getrandbits(30), 0)
            ),
            "cookie": lambda: self._pick((0, 0, 0, 1, 2, 3, 7, 2**32, 2**63, 2**64 - 1)),
            "small": lambda: self._flags((0, 1, 2, 3), 4),
            "signal": lambda: self._pick((0, 13, 17, 18, 19, 20, 31, 255, 2**31, 6)),
            "filestat": lambda: self._result(abi.filestat.size),
        }
        for size in (2, 4, 8, 24):
            self._draw[f"r{size}"] = lambda size=size: self._result(size)

    def who(self) -> int:
        return self._random.randrange(2)

    def step(self, process: Process, size: int) -> Step:
        """The next call. `size`: of the guest's memory."""
        self._process, self._size, self._pokes = process, size, []
        name = self._random.choices(self._names, self._weights)[0]
        if self._random.random() < 0.4 and not any(isinstance(process.fds.look(fd), OpenFile) for fd in range(64)):
            name = "path_open"
        args: list[int] = []
        for word in SIGNATURES[name].split():
            value = self._draw[word]()
            args.extend(value if isinstance(value, tuple) else (value,))
        return Step(name, tuple(args), tuple(self._pokes))

    def _pick(self, values: Sequence[int]) -> int:
        return self._random.choice(values)

    def _bits(self) -> int:
        return self._random.getrandbits(30)

    def _good(self) -> bool:
        return self._random.random() < SUCCESS_OFTEN

    def _flags(self, known: Sequence[int], first_unknown: int) -> int:
        if self._random.random() < 0.98:
            return self._random.choice(known)
        return self._pick((first_unknown, 2**16, 2**31, 2**32 - 1, self._random.getrandbits(32)))

    def _number(self) -> int:
        """An offset, a length, a size; negative ones as their unsigned selves."""
        chance = self._random.random()
        if chance < 0.8:
            return self._pick(_SIZES)
        if chance < 0.9:
            return -self._pick(_SIZES) & (2**64 - 1)
        return self._pick((*_EXTREMES, 2**20, 2**20 + 1, self._random.getrandbits(64)))

    def _rights(self) -> int:
        good = (
            rights.FILE,
            rights.FILE,
            rights.FILE,
            c.RIGHT_FD_READ | c.RIGHT_FD_SEEK,
            c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK,
            0,
        )
        if self._good():
            return self._pick(good)
        return self._pick(
            (rights.INHERITING, self._random.getrandbits(30), 2**63, 2**64 - 1, c.RIGHT_FD_FILESTAT_SET_TIMES)
        )

    def _fd(self, kind: type, keeps: float = 0.0) -> int:
        """A descriptor of a kind. `keeps`: how often preopens are left out."""
        table = self._process.fds
        chance = self._random.random()
        if chance < 0.92:
            found = {fd: table.look(fd) for fd in range(0 if chance < 0.05 else 3, 64)}
            fds = [fd for fd, descriptor in found.items() if isinstance(descriptor, kind)]
            if chance > 0.2 and kind is OpenDirectory:  # mostly one below which something can be done
                fds = [fd for fd in fds if not found[fd].mount.readonly] or fds  # type: ignore[union-attr]
            if self._random.random() < keeps:
                fds = [fd for fd in fds if getattr(found[fd], "preopen", None) is None] or [63]
            if fds:
                return self._random.choice(fds)
        if chance < 0.97:
            return self._random.randrange(12)
        return self._pick((63, 64, 1023, 1024, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 100))

    def _pointer(self, good: int) -> int:
        chance = self._random.random()
        if chance < 0.97:
            return good + self._random.choice((0, 0, 0, 0, 1, 8, 64))
        end = self._size
        odd = (0, end - 1, end - 7, end, end + 1, 2**31, 2**32 - 1, 2**32 - 8, _PATHS[0], _IOVS, _IOVS + 4, _DATA, 3)
        return self._pick(odd)

    def _result(self, size: int) -> int:
        if self._random.random() < 0.02:
            return self._size - size + self._random.choice((0, 0, 1))
        return self._pointer(_RESULTS + 128 * self._random.randrange(4))

    def _length(self) -> int:
        if self._random.random() < 0.93:
            return self._pick((0, 1, 8, 23, 24, 25, 64, 100, 500, 4096, 9000, 40_000))
        return self._pick((2**16, 2**18, 2**31 - 1, 2**31, 2**32 - 1))

    def _path(self, at: int) -> tuple[int, int]:
        raw = self._path_bytes()
        self._pokes.append((at, raw))
        if self._random.random() < 0.97:
            return at, len(raw)
        return self._pointer(at), self._pick((0, 1, len(raw) + 1, 4096, 4097, 2**31, 2**32 - 1))

    def _path_bytes(self) -> bytes:
        draw = self._random
        chance = draw.random()
        if chance < 0.7:
            text = draw.choice(self._paths).encode()
        elif chance < 0.9:
            names = draw.choices((*_NAMES, *_LINKS, "..", ".", ""), k=draw.randint(1, 4))
            text = "/".join(names).encode()
        else:
            return b"".join(draw.choice((*_TOKENS, b"a", b"d", b"n")) for _ in range(draw.randint(0, 5)))[:6000]
        if draw.random() < 0.12:
            text += draw.choice((b"/", b"//", b"/.", b"/..", b"/./", b"\0", b"/../n"))
        if draw.random() < 0.05:
            text = draw.choice((b"/", b"./", b"../", b"//", b"d/../", b"../root/")) + text
        return text

    def _iovs(self) -> tuple[int, int]:
        draw = self._random
        vectors = []
        for _ in range(draw.choice((0, 1, 1, 1, 1, 2, 3, 17))):
            start = _DATA + draw.choice((0, 0, 0, 16, 4096, 9000))
            vectors.append(
                (start, self._pick(_SIZES)) if draw.random() < 0.97 else (self._pointer(_DATA), self._length())
            )
        if draw.random() < 0.7:
            self._pokes.append((_DATA, bytes([draw.randrange(97, 123)]) * draw.choice((1, 8, 300))))
        at = _IOVS if draw.random() < 0.97 else self._pointer(_IOVS)
        self._pokes.append((_IOVS, b"".join(struct.pack("<II", *vector) for vector in vectors)))
        if draw.random() < 0.97:
            return at, len(vectors)
        return at, self._pick((0, 1, 1024, 1025, 65_536, 65_537, 2**29, 2**31, 2**32 - 1))

    def _subscriptions(self) -> tuple[int, int, int]:
        draw = self._random
        packed = b""
        count = draw.choice((0, 1, 1, 1, 2, 3, 5))
        for _ in range(count):
            kind = draw.choice((0, 0, 1, 2)) if draw.random() < 0.96 else draw.choice((3, 255))
            head = struct.pack("<QB7x", draw.getrandbits(64), kind)
            if kind:
                body = struct.pack("<I", self._fd(Descriptor))
            else:
                timeout = (
                    self._pick((0, 0, 1, 1000, 10**6, 2**63, 2**64 - 1)) if count > 1 else self._pick((0, 1, 10**5))
                )
                flags = self._flags((0, 0, 1), 2) & 0xFFFF
                clock = self._flags((0, 1, 2, 3), 4)
                first = b"" if self._abi.version == "preview1" else bytes(8)
                body = first + struct.pack("<I4xQQH", clock, timeout, 0, flags)
            packed += (head + body).ljust(self._abi.subscription_size, b"\0")
        self._pokes.append((_SUBSCRIPTIONS, packed))
        at = _SUBSCRIPTIONS if draw.random() < 0.98 else self._pointer(_SUBSCRIPTIONS)
        if draw.random() < 0.03:
            count = self._pick((0, 65, 4096, 4097, 2**27, 2**31, 2**32 - 1))
        return at, self._pointer(_DATA), count


def words(step: Step) -> list[tuple[str, tuple[int, ...]]]:
    """The words of the signature with their arguments."""
    found, at = [], 0
    for word in SIGNATURES[step.name].split():
        width = _WIDTH.get(word, 1)
        found.append((word, step.args[at : at + width]))
        at += width
    return found


def vectors(memory: bytes, at: int, count: int) -> list[tuple[int, int]]:
    """The iovecs at an address, as (start, length); none if they do not lie in memory."""
    if at + 8 * count > len(memory):
        return []
    return list(struct.iter_unpack("<II", memory[at : at + 8 * count]))


def outputs(step: Step, abi: Abi, memory: bytes, process: Process) -> list[tuple[int, int]]:
    """(start, length) of all bytes that the call may change. `memory`: before it."""
    found: list[tuple[int, int]] = []
    for word, args in words(step):
        if word[0] == "r" and word[1:].isdigit():
            found.append((args[0], int(word[1:])))
        elif word == "filestat":
            found.append((args[0], abi.filestat.size))
        elif word == "buffer":
            found.append((args[0], args[1]))
        elif word == "iovs" and step.name in ("fd_read", "fd_pread"):
            found.extend(vectors(memory, *args))
        elif word == "subscriptions":
            found.append((args[1], 32 * args[2]))
        elif word == "strings":
            strings = process.argv if step.name == "args_get" else process.environ
            found += [(args[0], 4 * len(strings)), (args[1], sum(len(string) + 1 for string in strings))]
    return found
