"""L1: another process swaps directories and files for links that lead out, while a guest makes calls on them.

`Ground` is the mounted directory beside an outside whose every object has its twin in the mount. Whatever a call does
behind a swapped name it does to the public twin, or it fails. Three witnesses: what calls answer (contents, inode
numbers, names, targets), the outside's attributes down to the time of the last change, and its access times, which a
read moves.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vfswasi
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Key, Stat
from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.syscalls.memory import GuestMemory
from vfswasi.syscalls.preview1 import table

from ..open_files import open_files, opened_since
from ..rawguest import ALL_FILE_RIGHTS, SIZE, GuestErrno, RawGuest
from .jail import CREAT, EXCL, TRUNC
from .swapper import Swapper

SECRET, PUBLIC = b"the secret of the outside", b"public"
MODES = pytest.mark.parametrize("use_openat2", [True, False], ids=["openat2", "by-component"])
LONG_AGO_S = 1_000_000
SECONDS = 2.0  # for each kind of swap and each way of walking

TWINS = ("f", "w", "victim", "gone", "sub", "sub/f", "l")


class DirectGuest(RawGuest):
    """The same calls without wasm between, of which there are several times as many in a second."""

    def __init__(self, preopens: Any, **options: Any) -> None:
        super().__init__(preopens, vdso=False, **options)
        self._bytes = bytearray(SIZE)
        self._view = GuestMemory(memoryview(self._bytes))
        self._table = table(self.abi)

    def call(self, name: str, *args: int) -> Errno:
        try:
            self._table[name](self.wasi._process, self._view, *args)
        except FsError as error:
            return error.errno
        return Errno.SUCCESS

    def peek(self, ptr: int, length: int) -> bytes:
        return bytes(self._bytes[ptr : ptr + length])

    def poke(self, ptr: int, data: bytes) -> None:
        self._bytes[ptr : ptr + len(data)] = data


class Escape(AssertionError):
    """A call had to do with the outside."""


def _fill(place: Path, text: bytes) -> None:
    place.mkdir(parents=True)
    (place / "sub").mkdir()
    (place / "gone").mkdir()
    for name in ("f", "w", "victim", "sub/f"):
        (place / name).write_bytes(text)
    (place / "l").symlink_to(text.decode())


class Ground:
    """`root` is mounted. `outside` has the twins of `d` and of `a/b/m`, which the swapper swaps."""

    def __init__(self, place: Path) -> None:
        self.root, self.outside = place / "root", place / "outside"
        for twin in ("d", "a/b/m"):
            _fill(self.root / twin, PUBLIC)
            (self.root / f"{twin}.trap").symlink_to("../" * (twin.count("/") + 1) + "outside")
        (self.root / "good").symlink_to("a/b/m")
        (self.root / "f").write_bytes(PUBLIC)
        (self.root / "f.trap").symlink_to(place / "outside" / "f")  # an absolute one
        _fill(self.outside, SECRET)
        (self.outside / "only-outside").write_bytes(SECRET)
        self.inos = {path.lstat().st_ino for path in [self.outside, *self.outside.rglob("*")]}
        self._objects = [self.outside, *sorted(self.outside.rglob("*"))]
        self._read_times = self._start_watching()
        self._before = self._attributes()

    def _start_watching(self) -> bool:
        """Access times long ago, which the next read moves (relatime); False where the system keeps none."""
        probe = self.outside.parent / "probe"
        probe.write_bytes(b"x")
        for path in (probe, *self._objects):
            if not path.is_symlink():
                os.utime(path, (LONG_AGO_S, path.stat().st_mtime))
        probe.read_bytes()
        return probe.stat().st_atime != LONG_AGO_S

    def _attributes(self) -> list[object]:
        found: list[object] = []
        for path in self._objects:
            try:
                host = path.lstat()
            except FileNotFoundError:
                found.append((path, None))
                continue
            atime_ns = 0 if path.is_symlink() else host.st_atime_ns
            found.append((path, host.st_ino, host.st_mode, host.st_nlink, host.st_size, host.st_mtime_ns,
                          host.st_ctime_ns, atime_ns))  # fmt: skip
        return found

    def check_outside(self) -> None:
        """Nothing there was read, made, changed or removed: a new name would have changed its directory's times."""
        after = self._attributes()
        if after != self._before:
            changed = [new for new, old in zip(after, self._before, strict=True) if new != old]
            raise Escape(f"outside: {changed}")

    @property
    def watches_reads(self) -> bool:
        return self._read_times


class Op(NamedTuple):
    name: str
    call: Callable[[RawGuest, str], Any]  # the answer: bytes, an inode number, names, or an Errno


def _contents(path: str, **options: Any) -> Callable[[RawGuest, str], Any]:
    def call(guest: RawGuest, base: str) -> bytes:
        fd = guest.open(base + path, **options)
        try:
            return guest.read(fd, 64)
        finally:
            guest.close_fd(fd)

    return call


def _written(path: str, oflags: int) -> Callable[[RawGuest, str], Any]:
    def call(guest: RawGuest, base: str) -> bytes:
        fd = guest.open(base + path, oflags=oflags, base=ALL_FILE_RIGHTS)
        try:
            before = guest.pread(fd, 64, 0)
            guest.pwrite(fd, PUBLIC, 0)
            return before
        finally:
            guest.close_fd(fd)

    return call


def _listed(path: str) -> Callable[[RawGuest, str], Any]:
    def call(guest: RawGuest, base: str) -> list[Any]:
        fd = guest.opendir(base + path)
        try:
            entries = guest.readdir(fd)
        finally:
            guest.close_fd(fd)
        return [entry.ino for entry in entries] + [entry.name for entry in entries]

    return call


def _below(guest: RawGuest, base: str) -> bytes:
    """Through the descriptor of the directory that is swapped."""
    directory = guest.opendir(base or ".")
    try:
        fd = guest.open("f", fd=directory)
        try:
            return guest.read(fd, 64)
        finally:
            guest.close_fd(fd)
    finally:
        guest.close_fd(directory)


def _times(follow: int, path: str) -> Callable[[RawGuest, str], Errno]:
    return lambda guest, base: guest.call("path_filestat_set_times", 3, follow, *guest.text(base + path), 5, 5, 5)


def _fd_times(guest: RawGuest, base: str) -> Errno:
    fd = guest.opendir(base)
    try:
        return guest.call("fd_filestat_set_times", fd, 5, 5, 5)
    finally:
        guest.close_fd(fd)


def _moved(how: str, path: str, back: bool) -> Callable[[RawGuest, str], Any]:
    """A link or a rename out of the swapped place to a name of the root, a look at it, and back."""

    def call(guest: RawGuest, base: str) -> Any:
        errno = getattr(guest, how)(base + path, "loot")
        if errno is not Errno.SUCCESS:
            return errno
        try:
            seen: Any = guest.stat("loot", follow=False).ino
            if guest.stat("loot", follow=False).filetype == 4:
                seen = [seen, guest.contents("loot")]
        except GuestErrno:
            seen = errno
        if not back or guest.rename("loot", base + path) is not Errno.SUCCESS:
            for remove, name in ((guest.unlink, "/new"), (guest.rmdir, "/made"), (guest.rmdir, ""), (guest.unlink, "")):
                remove("loot" + name)
        return seen

    return call


# Below a directory that is swapped; each name exists on both sides but "new" and "made".
BELOW = [
    Op("open", _contents("f")),
    Op("open deeper", _contents("sub/f")),
    Op("open up", _contents("sub/../f")),
    Op("open through the descriptor", _below),
    Op("write", _written("w", 0)),
    Op("truncate", _written("w", TRUNC)),
    Op("create", _written("new", CREAT)),
    Op("create exclusively", _written("new", CREAT | EXCL)),
    Op("stat", lambda guest, base: guest.stat(base + "f").ino),
    Op("stat deeper", lambda guest, base: guest.stat(base + "sub/f", follow=False).ino),
    Op("stat itself", lambda guest, base: guest.stat(base).ino),
    Op("readlink", lambda guest, base: guest.readlink(base + "l")),
    Op("readdir", _listed("")),
    Op("readdir deeper", _listed("sub")),
    Op("set_times", _times(0, "f")),
    Op("set_times follow", _times(1, "sub/f")),
    Op("set_times of a descriptor", _fd_times),
    Op("mkdir", lambda guest, base: guest.mkdir(base + "made")),
    Op("rmdir", lambda guest, base: guest.rmdir(base + "made")),
    Op("rmdir of a twin", lambda guest, base: guest.rmdir(base + "gone")),
    Op("unlink", lambda guest, base: guest.unlink(base + "new")),
    Op("unlink of a twin", lambda guest, base: guest.unlink(base + "victim")),
    Op("symlink", lambda guest, base: guest.symlink("f", base + "new")),
    Op("link from", _moved("link", "f", False)),
    Op("link to", lambda guest, base: guest.link("f", base + "new")),
    Op("rename from", _moved("rename", "w", True)),
    Op("rename to", lambda guest, base: guest.rename("spare", base + "new")),
    Op("rename over a twin", lambda guest, base: guest.rename("spare", base + "victim")),
    Op("rename within", lambda guest, base: guest.rename(base + "new", base + "w")),
]

# With the swapped name itself as the last component.
LAST = [
    Op("open", _contents("")),
    Op("open nofollow", _contents("", follow=False)),
    Op("write", _written("", 0)),
    Op("create", _written("", CREAT)),
    Op("create exclusively", _written("", CREAT | EXCL)),
    Op("truncate", _written("", TRUNC)),
    Op("stat", lambda guest, base: guest.stat(base).ino),
    Op("lstat", lambda guest, base: guest.stat(base, follow=False).ino),
    Op("set_times", _times(1, "")),
    Op("set_times nofollow", _times(0, "")),
    Op("mkdir", lambda guest, base: guest.mkdir(base)),
    Op("rmdir", lambda guest, base: guest.rmdir(base)),
    Op("unlink", lambda guest, base: guest.unlink(base)),
    Op("symlink", lambda guest, base: guest.symlink("spare", base)),
    Op("link from", _moved("link", "", False)),
    Op("link to", lambda guest, base: guest.link("spare", base)),
    Op("rename from", _moved("rename", "", True)),
    Op("rename to", lambda guest, base: guest.rename("spare", base)),
    Op("readdir", _listed("")),
    Op("open below", _contents("/new")),
    Op("create below", _written("/new", CREAT)),
    Op("mkdir below", lambda guest, base: guest.mkdir(base + "/made")),
    Op("rename into", lambda guest, base: guest.rename("spare", base + "/new")),
]


class Swap(NamedTuple):
    how: str
    names: tuple[str, ...]
    bases: tuple[str, ...]
    ops: list[Op]
    never: frozenset[str] = frozenset()  # what cannot succeed there


_FILE_NEVER = frozenset(
    {"create exclusively", "mkdir", "rmdir", "symlink", "link to", "readdir"}
    | {"open below", "create below", "mkdir below", "rename into"}
)
SWAPS = {
    "a directory at the top": Swap("exchange", ("d", "d.trap"), ("d/",), BELOW),
    "a directory in the middle": Swap("exchange", ("a/b/m", "a/b/m.trap"), ("a/b/m/", "good/", "a/../a/b/m/"), BELOW),
    "a file": Swap("exchange", ("f", "f.trap"), ("f",), LAST, _FILE_NEVER),
    "whatever there is": Swap("rename", ("slot", "../outside"), ("slot",), LAST),
    "whatever there is, below": Swap("rename", ("a/b/slot", "../../../outside"), ("a/b/slot",), LAST),
}


def look(ground: Ground, op: Op, answer: Any) -> None:
    """What a call answered must come from inside."""
    for seen in answer if isinstance(answer, list) else [answer]:
        if isinstance(seen, bytes) and (SECRET in seen or seen == b"only-outside"):
            raise Escape(f"{op.name}: {seen!r}")
        if isinstance(seen, int) and not isinstance(seen, Errno) and seen in ground.inos:
            raise Escape(f"{op.name}: inode {seen}")


def attack(
    ground: Ground, backend: Backend, swap: Swap, seconds: float, guest_type: type[RawGuest] = DirectGuest
) -> tuple[Counter[str], Counter[str]]:
    """Make calls while names are swapped: (successes, refusals) by operation. Raises Escape."""
    done, refused = Counter[str](), Counter[str]()
    chance = random.Random(1)
    until = time.monotonic() + seconds
    with (
        guest_type({"/d": vfswasi.Mount(backend, rw=True)}, limits=vfswasi.Limits(inodes=1 << 40)) as guest,
        Swapper(ground.root, swap.how, swap.names),
    ):
        while time.monotonic() < until:
            for op in chance.sample(swap.ops, len(swap.ops)):
                if op.name.startswith("rename "):
                    guest.call("path_open", 3, 0, *guest.text("spare"), CREAT, 64, 0, 0, 0x3000)
                    guest.call("fd_close", guest.u32())
                try:
                    answer = op.call(guest, chance.choice(swap.bases))
                except GuestErrno as error:
                    answer = error.errno
                if isinstance(answer, Errno):
                    (refused if answer else done)[op.name] += 1
                    continue
                done[op.name] += 1
                look(ground, op, answer)
            ground.check_outside()
            for twin in ("d", "a/b/m"):
                _restore(ground.root / twin)
    ground.check_outside()
    return done, refused


def _restore(twin: Path) -> None:
    """What the guest removed is put back, wherever the name leads: not through it, if that is outside."""
    try:
        fd = os.open(twin, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        for name in ("f", "w", "victim"):
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=fd))
            except OSError:
                pass
        try:
            os.mkdir("gone", dir_fd=fd)
        except OSError:
            pass
    finally:
        os.close(fd)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    return Ground(tmp_path)


def assert_both_sides_were_met(swap: Swap, done: Counter[str], refused: Counter[str]) -> None:
    """Calls were done to the twin inside, and refused: nearly each of them, on a machine however busy."""
    names = {op.name for op in swap.ops}
    assert len(names - set(refused)) <= 3, refused
    assert len(names - set(done) - swap.never) <= 3, done
    assert min(done.total(), refused.total()) > 100


@MODES
@pytest.mark.parametrize("name", SWAPS)
def test_l1_nothing_outside_is_reached_while_names_are_swapped(ground: Ground, name: str, use_openat2: bool) -> None:
    before = open_files()
    backend = LocalBackend(ground.root, use_openat2=use_openat2)
    done, refused = attack(ground, backend, SWAPS[name], SECONDS)
    backend.close()
    assert opened_since(before) == []
    assert_both_sides_were_met(SWAPS[name], done, refused)


@MODES
def test_l1_nothing_outside_is_reached_by_a_guest_in_wasm(ground: Ground, use_openat2: bool) -> None:
    """With the fast path, which keeps parts of files for itself."""
    backend = LocalBackend(ground.root, use_openat2=use_openat2)
    swap = SWAPS["a directory in the middle"]
    assert_both_sides_were_met(swap, *attack(ground, backend, swap, SECONDS, RawGuest))
    backend.close()


# The same attack must break a backend that looks first and opens afterwards; else the tests above show nothing.


class Naive(LocalBackend):
    """Checks with `realpath` that a path is inside, and then uses the path, after a wait in which the swapper gets its
    turn on a machine that is busy with other things too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, use_openat2=False)
        self.top = root

    def _checked(self, key: Key) -> str:
        path = self.top.joinpath(*key)
        if not os.path.realpath(path).startswith(str(self.top)):
            raise FsError(Errno.NOTCAPABLE)
        time.sleep(0.0001)
        return str(path)

    def _open(self, key: Key, flags: int) -> int:
        return os.open(self._checked(key), flags & ~os.O_NOFOLLOW)

    def _pin(self, key: Key) -> int:
        return self._open(key, os.O_RDONLY | os.O_DIRECTORY)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        return Backend.walk(self, key, names)


@pytest.mark.parametrize("name", ["a directory in the middle", "a file"])
def test_l1_the_attack_breaks_a_backend_that_checks_and_then_opens(ground: Ground, name: str) -> None:
    backend = Naive(ground.root)
    with pytest.raises(Escape):
        attack(ground, backend, SWAPS[name], 120)
    backend.close()


@pytest.mark.parametrize("witness", ["read", "list", "create", "set_times", "write", "remove"])
def test_l1_the_witnesses_see_each_kind_of_access(ground: Ground, witness: str) -> None:
    ground.check_outside()
    if witness in ("read", "list") and not ground.watches_reads:
        return  # what calls answer is then the only witness of a read
    time.sleep(0.02)  # the clock of a file system moves in steps
    match witness:
        case "read":
            (ground.outside / "f").read_bytes()
        case "list":
            os.listdir(ground.outside / "sub")
        case "create":
            (ground.outside / "sub" / "new").touch()
        case "set_times":
            os.utime(ground.outside / "f", ns=(ground.outside / "f").stat()[7:9])
        case "write":
            (ground.outside / "w").write_bytes(SECRET)
        case "remove":
            (ground.outside / "victim").unlink()
    with pytest.raises(Escape, match="outside"):
        ground.check_outside()
