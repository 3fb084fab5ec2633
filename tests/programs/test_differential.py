"""The operating system says who is right: random plans of path operations, on ours and on real directories.

The alphabet is small so that the operations meet: `.`, `..`, `a`, `b`, a link `l` and a dangling one `z`,
empty components, trailing slashes. After each operation its errno, its result and the whole tree (names,
types, targets, contents, and which names are one inode) must be equal. Where we decide otherwise than Linux
stands in ALLOWED and in `_decided`, and nowhere else. More seeds: VFSWASI_DIFFERENTIAL_SEEDS=100.
"""

from __future__ import annotations

import ctypes
import errno as os_errno
import os
import random
import stat as os_stat
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import vfswasi
from vfswasi.abi import constants as c
from vfswasi.errors import Errno
from vfswasi.kernel import rights

from ..conftest import empty_mount
from ..rawguest import READ, RawGuest

SEEDS = int(os.environ.get("VFSWASI_DIFFERENTIAL_SEEDS", "8"))
STEPS = 300
DEPTH = 3  # steps build on paths of at most so many components, so the tree stays small
NAMES = ("a", "b", "l", "z", ".", "..", "")
WEIGHTS = {
    "mkdir": 3, "rmdir": 2, "unlink": 1, "rename": 3, "link": 3, "symlink": 2,
    "open": 5, "stat": 1, "lstat": 1, "readlink": 1, "readdir": 1,
}  # fmt: skip
CREAT, DIRECTORY, EXCL, TRUNC = c.OFLAG_CREAT, c.OFLAG_DIRECTORY, c.OFLAG_EXCL, c.OFLAG_TRUNC
OS_FLAGS = {CREAT: os.O_CREAT, DIRECTORY: os.O_DIRECTORY, EXCL: os.O_EXCL, TRUNC: os.O_TRUNC}
KINDS = {3: "directory", 4: "file", 7: "link"}
RESULT, BUFFER = 0x3000, 0x10000


# A tree: path -> (kind, number of the inode in the order met, contents or target). Directories have neither.
Tree = dict[str, tuple[str, int, bytes]]


class Step(NamedTuple):
    """`other`: the new path of rename and link, the target of symlink. `data`: what is written after open."""

    operation: str
    path: str
    other: str = ""
    oflags: int = 0
    follow: bool = True
    data: str = ""


def _path(random_: random.Random, known: list[str], directories: list[str]) -> str:
    """Something that exists, a name in a directory that exists, or any tokens; then written in an odd way."""
    tokens = random_.choices(NAMES, weights=(6, 6, 3, 1, 1, 2, 1), k=random_.randint(1, 4))
    kind = random_.random()
    if known and kind < 0.4:
        tokens = random_.choice(known).split("/")
    elif kind < 0.8:
        tokens = [*random_.choice(directories).split("/"), random_.choice(NAMES[:4])]
    if random_.random() < 0.15:
        at = random_.randrange(len(tokens) + 1)
        tokens[at:at] = random_.choice(([""], ["."], [".."], ["a", ".."], ["l"]))
    path = "/".join(tokens).lstrip("/") or "a"
    return path + "/" * random_.choice((0, 0, 0, 0, 0, 0, 1, 2))


def _step(random_: random.Random, tree: Tree) -> Step:
    known = [path for path in tree if path.count("/") < DEPTH]
    directories = ["", *(path for path in known if tree[path][0] == "directory")]
    operation = random_.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    path, other = _path(random_, known, directories), _path(random_, known, directories)
    oflags = sum(flag for flag in OS_FLAGS if random_.random() < 0.3)
    data = random_.choice("wxyz") * random_.randrange(4)
    return Step(operation, path, other, oflags, random_.random() < 0.7, data)


class Difference(NamedTuple):
    """An answer that differs from Linux's. `example`, a step after SETUP, shows it: no entry is idle."""

    why: str
    real: str
    ours: tuple[str, ...]
    applies: Callable[[Step], bool]
    example: Step


SETUP = (Step("open", "f", "", CREAT, True, "data"), Step("mkdir", "d"), Step("symlink", "up", "f/"))

ALLOWED: Final = (
    Difference(
        "`symlink t file/` is NOTDIR, as every other walk of `file/`; Linux sees first that the name exists",
        "EXIST",
        ("NOTDIR",),
        lambda step: step.operation == "symlink" and step.path.endswith("/"),
        Step("symlink", "f/", "t"),
    ),
    Difference(
        "`link old file/` likewise",
        "EXIST",
        ("NOTDIR",),
        lambda step: step.operation == "link" and step.other.endswith("/"),
        Step("link", "f", "f/"),
    ),
    Difference(
        "Linux says ISDIR for O_CREAT with a slash at the end, of the path or of a link's target, before it "
        "looks what is there; ours is what is there",
        "ISDIR",
        ("NOTDIR", "EXIST", "LOOP", "NOENT"),
        lambda step: step.operation == "open" and bool(step.oflags & CREAT),
        Step("open", "f/", "", CREAT),
    ),
    Difference(
        "a link that is not followed, with DIRECTORY: Linux looks at the type first, both are allowed",
        "NOTDIR",
        ("LOOP",),
        lambda step: step.operation == "open" and bool(step.oflags & DIRECTORY) and not step.follow,
        Step("open", "up", "", DIRECTORY, False),
    ),
)


class Real:
    """The operations by the operating system, below a directory descriptor. Errnos by preview1's names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fd = fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.operations: dict[str, Callable[[Step], Any]] = {
            "mkdir": lambda step: os.mkdir(step.path, dir_fd=fd),
            "rmdir": lambda step: os.rmdir(step.path, dir_fd=fd),
            "unlink": lambda step: os.unlink(step.path, dir_fd=fd),
            "rename": lambda step: os.rename(step.path, step.other, src_dir_fd=fd, dst_dir_fd=fd),
            "link": self._link,
            "symlink": lambda step: os.symlink(step.other, step.path, dir_fd=fd),
            "open": self._open,
            "stat": lambda step: self._stat(step.path, True),
            "lstat": lambda step: self._stat(step.path, False),
            "readlink": lambda step: os.readlink(step.path, dir_fd=fd),
            "readdir": self._readdir,
        }

    def close(self) -> None:
        os.close(self.fd)

    def run(self, step: Step) -> tuple[str, Any]:
        try:
            return "SUCCESS", self.operations[step.operation](step)
        except OSError as error:
            return _name(error), None

    def _link(self, step: Step) -> None:
        os.link(step.path, step.other, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def _open(self, step: Step) -> None:
        if step.oflags & (CREAT | EXCL) == EXCL:
            # What Linux does with EXCL alone is undefined; ours is EXIST on whatever is there.
            self._stat(step.path, False)
            raise FileExistsError(os_errno.EEXIST, step.path)
        flags = os.O_RDWR if step.data else os.O_RDONLY
        flags |= sum(flag for ours, flag in OS_FLAGS.items() if step.oflags & ours)
        fd = os.open(step.path, flags | (0 if step.follow else os.O_NOFOLLOW), 0o600, dir_fd=self.fd)
        try:
            if step.data:
                os.write(fd, step.data.encode())
        finally:
            os.close(fd)

    def _stat(self, path: str, follow: bool) -> tuple[str, int, int]:
        status = os.stat(path, dir_fd=self.fd, follow_symlinks=follow)
        if os_stat.S_ISDIR(status.st_mode):
            return "directory", 0, 0
        return "link" if os_stat.S_ISLNK(status.st_mode) else "file", status.st_nlink, status.st_size

    def _readdir(self, step: Step) -> list[str]:
        fd = os.open(step.path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def leaves_root(self, path: str, follow: bool) -> bool:
        """Whether resolving `path` ever goes above the root: walked by hand, link by link, as Linux does.

        Where the kernel can be asked, it must agree: nothing that leaves may reach the operations above.
        """
        path = path if follow else path.rstrip("/")
        leaves = self._walk_leaves(path, follow)
        assert _openat2_leaves(self.fd, path, follow) in (None, leaves), path
        return leaves

    def _walk_leaves(self, path: str, follow: bool) -> bool:
        todo, current, links = list(reversed(path.split("/"))), self.root, 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if current.is_symlink() or not current.is_dir():
                return False  # NOTDIR comes first
            if name == "..":
                if current == self.root:
                    return True
                current = current.parent
                continue
            current = current / name
            if current.is_symlink() and (todo or follow):
                links += 1
                if links > 40:
                    return False  # LOOP comes first
                todo.extend(reversed(os.readlink(current).split("/")))
                current = current.parent
            elif not os.path.lexists(current):
                return False  # NOENT comes first
        return False


_LIBC = ctypes.CDLL(None, use_errno=True)


def _openat2_leaves(dir_fd: int, path: str, follow: bool) -> bool | None:
    """The same question to openat2(RESOLVE_BENEATH), call 437; None where there is no such call."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), 0, 0x08)
    while True:
        fd = _LIBC.syscall(ctypes.c_long(437), dir_fd, path.encode(), how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            os.close(fd)
            return False
        code = ctypes.get_errno()
        if code in (os_errno.ENOSYS, os_errno.EPERM):
            return None
        if code != os_errno.EAGAIN:  # something else on the machine was renamed meanwhile
            return code == os_errno.EXDEV


def _name(error: OSError) -> str:
    return os_errno.errorcode[error.errno or 0].removeprefix("E")


class Ours:
    """The operations through WebAssembly."""

    def __init__(self, guest: RawGuest) -> None:
        self.guest = guest
        self.operations: dict[str, Callable[[Step], Errno | tuple[Errno, Any]]] = {
            "mkdir": lambda step: guest.mkdir(step.path),
            "rmdir": lambda step: guest.rmdir(step.path),
            "unlink": lambda step: guest.unlink(step.path),
            "rename": lambda step: guest.rename(step.path, step.other),
            "link": lambda step: guest.link(step.path, step.other),
            "symlink": lambda step: guest.symlink(step.other, step.path),
            "open": self._open,
            "stat": lambda step: self._stat(step.path, True),
            "lstat": lambda step: self._stat(step.path, False),
            "readlink": self._readlink,
            "readdir": self._readdir,
        }

    def run(self, step: Step) -> tuple[str, Any]:
        result = self.operations[step.operation](step)
        errno, value = result if isinstance(result, tuple) else (result, None)
        return errno.name, value

    def _open(self, step: Step) -> Errno:
        base = rights.FILE if step.data else READ
        errno, fd = self.guest.try_open(step.path, oflags=step.oflags, base=base, follow=step.follow)
        if errno is Errno.SUCCESS:
            if step.data:
                self.guest.write(fd, step.data.encode())
            self.guest.close_fd(fd)
        return errno

    def _stat(self, path: str, follow: bool) -> tuple[Errno, Any]:
        errno = self.guest.call("path_filestat_get", 3, int(follow), *self.guest.text(path), RESULT)
        if errno is not Errno.SUCCESS:
            return errno, None
        stat = self.guest._filestat()
        return errno, ("directory", 0, 0) if stat.filetype == 3 else (
            KINDS[stat.filetype],
            stat.nlink,
            stat.size,
        )

    def _readlink(self, step: Step) -> tuple[Errno, Any]:
        errno = self.guest.call("path_readlink", 3, *self.guest.text(step.path), BUFFER, 4096, RESULT)
        return errno, self.guest.peek(BUFFER, self.guest.u32()).decode() if errno is Errno.SUCCESS else None

    def _readdir(self, step: Step) -> tuple[Errno, Any]:
        errno, fd = self.guest.try_open(step.path, oflags=DIRECTORY, base=0)
        if errno is not Errno.SUCCESS:
            return errno, None
        names = sorted(entry.name.decode() for entry in self.guest.readdir(fd))
        self.guest.close_fd(fd)
        return errno, [name for name in names if name not in (".", "..")]


def _real_tree(root: Path) -> Tree:
    tree: Tree = {}
    numbers: dict[int, int] = {}

    def visit(directory: Path, prefix: str) -> None:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                tree[path] = ("directory", 0, b"")
                visit(Path(entry.path), path + "/")
                continue
            number = numbers.setdefault(entry.inode(), len(numbers))
            if entry.is_symlink():
                tree[path] = ("link", number, os.readlink(entry.path).encode())
            else:
                tree[path] = ("file", number, Path(entry.path).read_bytes())

    visit(root, "")
    return tree


def _our_tree(guest: RawGuest) -> Tree:
    tree: Tree = {}
    numbers: dict[int, int] = {}

    def visit(fd: int, prefix: str) -> None:
        for entry in sorted(guest.readdir(fd), key=lambda entry: entry.name):
            name = entry.name.decode()
            if name in (".", ".."):
                continue
            if entry.filetype == 3:
                tree[prefix + name] = ("directory", 0, b"")
                below = guest.opendir(name, fd=fd)
                visit(below, prefix + name + "/")
                guest.close_fd(below)
                continue
            if entry.filetype == 7:
                data = guest.readlink(name, fd=fd)
            else:
                file = guest.open(name, fd=fd, follow=False)
                data = guest.read(file, 4096)
                guest.close_fd(file)
            tree[prefix + name] = (KINDS[entry.filetype], numbers.setdefault(entry.ino, len(numbers)), data)

    top = guest.opendir(".")
    visit(top, "")
    guest.close_fd(top)
    return tree


def _follows_last(step: Step, path: str) -> bool:
    """Whether a link as the last component is followed."""
    if step.operation in ("mkdir", "rmdir", "unlink", "rename", "symlink"):
        return False
    if step.operation == "link" and path == step.other:
        return False
    if step.operation in ("stat", "readdir"):
        return True
    return path.endswith("/") or (step.operation == "open" and step.follow and not step.oflags & EXCL)


def _decided(step: Step, real: Real) -> str | None:
    """The errno of a step that the operating system must not be asked about; None: ask it."""
    if step.operation == "open" and step.oflags & CREAT and step.oflags & DIRECTORY:
        return "INVAL"  # Linux before 6.4 makes a file
    if real.leaves_root(step.path, _follows_last(step, step.path)):
        return "NOTCAPABLE"
    if step.operation not in ("rename", "link"):
        return None
    if not real.leaves_root(step.other, _follows_last(step, step.other)):
        return None
    # The old path is walked first: link needs what it names, rename its parent alone unless it ends in dots.
    parent, _, last = step.path.rstrip("/").rpartition("/")
    try:
        if step.operation == "link" or last in (".", ".."):
            os.stat(step.path, dir_fd=real.fd, follow_symlinks=False)
        else:
            os.stat(f"{parent or '.'}/.", dir_fd=real.fd)
    except OSError as error:
        return _name(error)
    return "NOTCAPABLE"


def _allowed(step: Step, real: str, ours: str) -> bool:
    return any(real == entry.real and ours in entry.ours and entry.applies(step) for entry in ALLOWED)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    """An empty root far below a directory of which nothing else may change."""
    jail = tmp_path / "jail"
    root = jail.joinpath(*"123456", "root")
    root.mkdir(parents=True)
    (jail / "outside").write_text("untouched")

    def outside() -> set[tuple[str, str, bytes]]:
        inside = "1/2/3/4/5/6/root/"
        tree = _real_tree(jail).items()
        return {(path, kind, data) for path, (kind, _, data) in tree if not path.startswith(inside)}

    before = outside()
    reference = Real(root)
    yield reference
    reference.close()
    assert outside() == before


@pytest.fixture(params=["memory", "local", "overlay over memory", "overlay over local", "overlay over zip"])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> vfswasi.Mount:
    return empty_mount(request.param, tmp_path / "root")


def _start(*sides: Real | Ours) -> None:
    for side in sides:
        for name, target in (("l", "a"), ("z", "nowhere")):
            assert side.run(Step("symlink", name, target))[0] == "SUCCESS"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_plans_give_what_linux_gives(seed: int, mount: vfswasi.Mount, real: Real) -> None:
    with RawGuest({"/d": mount}) as guest:
        ours = Ours(guest)
        _start(real, ours)
        tree = _real_tree(real.root)
        done: list[str] = []
        random_ = random.Random(seed)
        for _ in range(STEPS):
            step = _step(random_, tree)
            decided = _decided(step, real)
            expected, expected_value = (decided, None) if decided else real.run(step)
            got, value = ours.run(step)
            done.append(f"{step} real {expected} {expected_value} ours {got} {value}")
            story = "\n".join(done[-8:])
            if expected == got:
                assert value == expected_value, story
            else:
                assert not decided, story
                assert _allowed(step, expected, got), story
            tree = tree if decided else _real_tree(real.root)
            assert _our_tree(guest) == tree, story
        assert guest.opendir(".") == 4  # no step has left a descriptor open
    if isinstance(mount.source, Path):
        assert _real_tree(mount.source) == tree


@pytest.mark.parametrize("difference", ALLOWED, ids=lambda difference: difference.example.operation)
def test_every_allowed_difference_is_real(difference: Difference, mount: vfswasi.Mount, real: Real) -> None:
    with RawGuest({"/d": mount}) as guest:
        ours = Ours(guest)
        for step in SETUP:
            assert real.run(step)[0] == ours.run(step)[0] == "SUCCESS"
        assert difference.applies(difference.example)
        assert real.run(difference.example)[0] == difference.real
        assert ours.run(difference.example)[0] in difference.ours
        assert _our_tree(guest) == _real_tree(real.root)


def test_the_plans_reach_every_operation_and_errno(tmp_path: Path) -> None:
    """What Linux does with the first plans; without this, plans that only fail would look fine."""
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(8):
        root = tmp_path.joinpath(str(seed), *"123456", "root")
        root.mkdir(parents=True)
        real, random_ = Real(root), random.Random(seed)
        _start(real)
        for _ in range(STEPS):
            step = _step(random_, _real_tree(root))
            seen[step.operation, _decided(step, real) or real.run(step)[0]] += 1
        real.close()
    assert [operation for operation in WEIGHTS if seen[operation, "SUCCESS"] < 8] == []
    walk = "NOENT NOTDIR NOTCAPABLE"
    further = {
        "mkdir": "EXIST",
        "rmdir": "NOTEMPTY INVAL",
        "unlink": "ISDIR",
        "rename": "BUSY INVAL NOTEMPTY ISDIR",
        "link": "EXIST PERM",
        "symlink": "EXIST",
        "open": "EXIST ISDIR INVAL LOOP",
        "stat": "LOOP",
        "readlink": "INVAL",
    }
    wanted = {(name, errno) for name in WEIGHTS for errno in f"{walk} {further.get(name, '')}".split()}
    assert wanted - set(seen) == set()
