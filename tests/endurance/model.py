"""A model of a file system in plain Python, against system calls on overlays stacked three deep.

The model knows nothing of layers: names lead to inodes, inodes have contents, descriptors have a cursor. Every random
call gives the errno and the result that the model gives; an inode keeps its number from the base to the third overlay.
When a layer is done, what it says of its changes makes the same tree once more, and what lay below it is as it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vfswasi.abi import constants as c
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.kernel import rights
from vfswasi.kernel.clocks import Deadline
from vfswasi.kernel.paths import change, stat
from vfswasi.kernel.paths.open import open_at
from vfswasi.kernel.process import Preopen, Process

from .model_bases import BASES, Node, tree_of

NAMES = ("a", "b", "c", "d", "e")
READ = c.RIGHT_FD_READ | c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL | c.RIGHT_FD_FILESTAT_GET
_FST_BOTH = c.FSTFLAG_ATIM | c.FSTFLAG_MTIM
_DESCRIPTORS_MAX = 10
_LOOPS_MAX = 40
_FILE_MAX = 1_500_000

Key = tuple[str, ...]
_Error = TypeVar("_Error", bound=Exception)


class Refused(Exception):
    """The model's answer to a call that fails."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


@dataclass(eq=False)
class Open:
    """A descriptor. listing: of a directory that is being read: what it had when that began, what was read so far and
    where it goes on."""

    fd: int
    node: Node
    writable: bool = False
    cursor: int = 0
    listing: tuple[set[tuple[str, FileType, Node]], list[tuple[str, int, int]], int] | None = field(default=None)


class Model:
    """`root` and all below it."""

    def __init__(self, root: Node) -> None:
        self.root = root

    @staticmethod
    def key_of(directory: Node) -> Key | None:
        """None: it has no name any more."""
        key: Key = ()
        while directory.parent is not None:
            key = (directory.name, *key)
            directory = directory.parent
        return None if directory.removed else key

    def at(self, key: Key) -> Node | None:
        node: Node | None = self.root
        for name in key:
            assert node is not None
            node = node.entries.get(name)
        return node

    def find(self, directory: Node, path: str, follow: bool) -> tuple[Key, Node | None]:
        base = self.key_of(directory)
        if base is None:
            raise Refused(Errno.NOENT)
        todo, key, links = path.split("/")[::-1], base, 0
        while todo:
            name = todo.pop()
            where = self.at(key)
            assert where is not None
            found = where.entries.get(name)
            if found is None:
                if todo:
                    raise Refused(Errno.NOENT)
                return (*key, name), None
            if found.filetype is FileType.SYMBOLIC_LINK and (todo or follow):
                links += 1
                if links > _LOOPS_MAX:
                    raise Refused(Errno.LOOP)
                todo.extend(found.target.split("/")[::-1])
                continue
            if todo and found.filetype is not FileType.DIRECTORY:
                raise Refused(Errno.NOTDIR)
            key = (*key, name)
        return key, self.at(key)

    def put(self, key: Key, node: Node) -> None:
        directory = self.at(key[:-1])
        assert directory is not None
        directory.entries[key[-1]] = node
        directory.mtim = None
        if node.filetype is FileType.DIRECTORY:
            node.parent, node.name = directory, key[-1]

    def take(self, key: Key) -> Node:
        directory = self.at(key[:-1])
        assert directory is not None
        directory.mtim = None
        node = directory.entries.pop(key[-1])
        if node.filetype is FileType.DIRECTORY:
            node.parent = None
        return node

    def drop(self, key: Key) -> None:
        node = self.take(key)
        node.nlink -= 1
        if node.filetype is FileType.DIRECTORY:
            node.removed = True


class Game:
    """Random calls on a process with one preopen, and the same on the model."""

    def __init__(self, chance: random.Random, model: Model, backend: Backend) -> None:
        self.chance = chance
        self.model = model
        self.process = Process(preopens=[Preopen("/d", backend, False)])
        (self.root_fd,) = self.process.fds.descriptors()
        self.open: list[Open] = []
        self.inos: dict[int, Node] = {}
        self.moves: list[tuple[int, Callable[[], None]]] = [
            (14, self._open), (5, self._mkdir), (3, self._rmdir), (7, self._unlink), (12, self._rename),
            (6, self._link), (3, self._symlink), (3, self._readlink), (8, self._stat), (4, self._times),
            (9, self._pwrite), (7, self._pread), (5, self._write), (5, self._read), (4, self._resize),
            (3, self._allocate), (8, self._fstat), (7, self._readdir), (6, self._close), (3, self._fd_times),
        ]  # fmt: skip

    def step(self) -> None:
        weights = [weight for weight, _ in self.moves]
        self.chance.choices([move for _, move in self.moves], weights)[0]()

    def end(self) -> None:
        for each in self.open:
            self._check_file(each)
        assert self.process.close() == []

    # What both say.

    def _both(self, real: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any] | None:
        """Both results, or None where both refuse."""
        refused, expected = _answer(Refused, model)
        error, got = _answer(FsError, real)
        wanted = None if refused is None else refused.errno
        assert (None if error is None else error.errno) is wanted, f"{error!r}, {got!r}, not {refused!r}, {expected!r}"
        return None if refused is not None else (got, expected)

    def _known(self, node: Node, ino: int) -> None:
        if node.ino is None:
            assert ino not in self.inos, "two objects have one number"
            node.ino = ino
        assert node.ino == ino
        self.inos[ino] = node

    def _same(self, node: Node, seen: tuple[int, int, Any]) -> None:
        _dev, ino, attributes = seen
        self._known(node, ino)
        assert attributes.filetype is node.filetype
        if node.filetype is not FileType.DIRECTORY:
            found, wanted = (attributes.size, attributes.nlink), (node.size, node.nlink)
            assert found == wanted, f"size and names: {found}, not {wanted}"
        elif node.removed:
            assert attributes.nlink == 0
        for name in ("atim", "mtim"):
            wanted = getattr(node, name)
            assert wanted is None or getattr(attributes, name + "_ns") == wanted, name

    # Where.

    def _where(self) -> tuple[int, Node]:
        directories = [each for each in self.open if each.node.filetype is FileType.DIRECTORY]
        if directories and self.chance.random() < 0.3:
            each = self.chance.choice(directories)
            return each.fd, each.node
        return self.root_fd, self.model.root

    def _path(self) -> str:
        if self.chance.random() < 0.5:  # something that is there, mostly
            node, names = self.model.root, []
            while node.entries and self.chance.random() < 0.7:
                name = self.chance.choice(sorted(node.entries))
                names.append(name)
                node = node.entries[name]
            if names:
                return "/".join(names)
        return "/".join(self.chance.choice(NAMES) for _ in range(self.chance.choice((1, 1, 2, 2, 3))))

    def _file(self, writable: bool = False) -> Open | None:
        files = [each for each in self.open if each.node.filetype is FileType.REGULAR_FILE]
        files = [each for each in files if each.writable or not writable]
        return self.chance.choice(files) if files else None

    # By path.

    def _open(self) -> None:
        chance = self.chance
        if len(self.open) >= _DESCRIPTORS_MAX:
            return self._close()
        (fd, directory), path = self._where(), self._path()
        oflags = chance.choice((0, 0, 0, 0, c.OFLAG_CREAT, c.OFLAG_CREAT, c.OFLAG_CREAT | c.OFLAG_EXCL))
        oflags |= chance.choice((0, 0, 0, c.OFLAG_TRUNC)) if not oflags & c.OFLAG_EXCL else 0
        oflags |= chance.choice((0, 0, c.OFLAG_DIRECTORY)) if not oflags else 0
        write = bool(oflags) & (not oflags & c.OFLAG_DIRECTORY) or chance.random() < 0.4
        follow = chance.random() < 0.7

        def model() -> Node:
            exclusive = bool(oflags & c.OFLAG_EXCL)
            key, node = self.model.find(directory, path, follow and not exclusive)
            if node is not None and exclusive:
                raise Refused(Errno.EXIST)
            if node is None:
                if not oflags & c.OFLAG_CREAT:
                    raise Refused(Errno.NOENT)
                node = Node(FileType.REGULAR_FILE)
                self.model.put(key, node)
                return node
            if node.filetype is FileType.SYMBOLIC_LINK:
                raise Refused(Errno.LOOP)
            if node.filetype is FileType.DIRECTORY:
                if write or oflags & (c.OFLAG_CREAT | c.OFLAG_TRUNC):
                    raise Refused(Errno.ISDIR)
            elif oflags & c.OFLAG_DIRECTORY:
                raise Refused(Errno.NOTDIR)
            elif oflags & c.OFLAG_TRUNC:
                del node.data[:]
                node.mtim = None
            return node

        base = rights.FILE if write else READ
        inheriting = rights.INHERITING
        if oflags & c.OFLAG_DIRECTORY:
            base = inheriting = 0 if not write else base
        found = self._both(lambda: open_at(self.process, fd, follow, path, oflags, base, inheriting, 0), model)
        if found is not None:
            opened, node = found
            if node.filetype is FileType.DIRECTORY and base:  # without the rights to look things up
                self.process.fds.close(opened)
                return None
            self.open.append(Open(opened, node, write))
        return None

    def _mkdir(self) -> None:
        (fd, directory), path = self._where(), self._path()

        def model() -> None:
            key, node = self.model.find(directory, path, False)
            if node is not None:
                raise Refused(Errno.EXIST)
            self.model.put(key, Node(FileType.DIRECTORY))

        self._both(lambda: change.mkdir_at(self.process, fd, path), model)

    def _rmdir(self) -> None:
        (fd, directory), path = self._where(), self._path()

        def model() -> None:
            key, node = self.model.find(directory, path, False)
            if node is None:
                raise Refused(Errno.NOENT)
            if node.filetype is not FileType.DIRECTORY:
                raise Refused(Errno.NOTDIR)
            if node.entries:
                raise Refused(Errno.NOTEMPTY)
            self.model.drop(key)

        self._both(lambda: change.rmdir_at(self.process, fd, path), model)

    def _unlink(self) -> None:
        (fd, directory), path = self._where(), self._path()

        def model() -> None:
            key, node = self.model.find(directory, path, False)
            if node is None:
                raise Refused(Errno.NOENT)
            if node.filetype is FileType.DIRECTORY:
                raise Refused(Errno.ISDIR)
            self.model.drop(key)

        self._both(lambda: change.unlink_at(self.process, fd, path), model)

    def _rename(self) -> None:
        (old_fd, old_directory), old = self._where(), self._path()
        (new_fd, new_directory), new = self._where(), self._path()

        def model() -> None:
            key, node = self.model.find(old_directory, old, False)
            to, over = self.model.find(new_directory, new, False)
            if node is None:
                raise Refused(Errno.NOENT)
            if key != to and to[: len(key)] == key:
                raise Refused(Errno.INVAL)
            if key != to and key[: len(to)] == to:
                raise Refused(Errno.NOTEMPTY)
            if over is node:
                return
            is_directory = node.filetype is FileType.DIRECTORY
            if over is not None:
                if is_directory != (over.filetype is FileType.DIRECTORY):
                    raise Refused(Errno.NOTDIR if is_directory else Errno.ISDIR)
                if over.entries:
                    raise Refused(Errno.NOTEMPTY)
                self.model.drop(to)
            self.model.put(to, self.model.take(key))

        self._both(lambda: change.rename_at(self.process, old_fd, old, new_fd, new), model)

    def _link(self) -> None:
        (old_fd, old_directory), old = self._where(), self._path()
        (new_fd, new_directory), new = self._where(), self._path()

        def model() -> None:
            _, node = self.model.find(old_directory, old, False)
            if node is not None and node.filetype is FileType.SYMBOLIC_LINK:
                node.links, node.atim, node.mtim = True, None, None
            if node is None:
                raise Refused(Errno.NOENT)
            key, over = self.model.find(new_directory, new, False)
            if over is not None:
                raise Refused(Errno.EXIST)
            if node.filetype is FileType.DIRECTORY:
                raise Refused(Errno.PERM)
            node.nlink += 1
            self.model.put(key, node)

        self._both(lambda: change.link_at(self.process, old_fd, old, new_fd, new), model)

    def _symlink(self) -> None:
        (fd, directory), path = self._where(), self._path()
        target = "/".join(self.chance.choice(NAMES) for _ in range(self.chance.randint(1, 2)))

        def model() -> None:
            key, node = self.model.find(directory, path, False)
            if node is not None:
                raise Refused(Errno.EXIST)
            self.model.put(key, Node(FileType.SYMBOLIC_LINK, target=target))

        self._both(lambda: change.symlink_at(self.process, target, fd, path), model)

    def _readlink(self) -> None:
        (fd, directory), path = self._where(), self._path()

        def model() -> bytes:
            _, node = self.model.find(directory, path, False)
            if node is None:
                raise Refused(Errno.NOENT)
            if node.filetype is not FileType.SYMBOLIC_LINK:
                raise Refused(Errno.INVAL)
            return node.target.encode()

        found = self._both(lambda: stat.readlink_at(self.process, fd, path), model)
        assert found is None or found[0] == found[1]

    def _existing(self, directory: Node, path: str, follow: bool) -> Node:
        _, node = self.model.find(directory, path, follow)
        if node is None:
            raise Refused(Errno.NOENT)
        return node

    def _stat(self) -> None:
        (fd, directory), path, follow = self._where(), self._path(), self.chance.random() < 0.5
        found = self._both(
            lambda: stat.stat_at(self.process, fd, follow, path), lambda: self._existing(directory, path, follow)
        )
        if found is not None:
            self._same(found[1], found[0])

    def _some_times(self) -> tuple[int, int, int]:
        flags = self.chance.choice((_FST_BOTH, _FST_BOTH, c.FSTFLAG_MTIM))
        return self.chance.randrange(1 << 60), self.chance.randrange(1 << 60), flags

    @staticmethod
    def _dated(node: Node, atim: int, mtim: int, flags: int) -> None:
        if node.filetype is FileType.SYMBOLIC_LINK and node.links:
            return  # times of a link that had several names are those of each name
        node.atim = atim if flags & c.FSTFLAG_ATIM else node.atim
        node.mtim = mtim

    def _times(self) -> None:
        (fd, directory), path, follow = self._where(), self._path(), self.chance.random() < 0.5
        times = self._some_times()
        found = self._both(
            lambda: stat.set_times_at(self.process, fd, follow, path, *times),
            lambda: self._existing(directory, path, follow),
        )
        if found is not None:
            self._dated(found[1], *times)

    # By descriptor.

    def _offset(self, node: Node) -> int:
        around = (0, 1, 4096, 32_767, 32_768, 100_000, node.size, max(node.size - 3, 0), node.size // 2)
        return max(0, self.chance.choice(around) + self.chance.choice((0, 0, 1, -1)))

    def _data(self) -> bytes:
        return bytes([self.chance.randrange(256)]) * self.chance.choice((1, 3, 100, 5000, 40_000))

    @staticmethod
    def _put_data(node: Node, offset: int, data: bytes) -> None:
        if offset > len(node.data):
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + len(data)] = data
        node.mtim = None

    def _pwrite(self) -> None:
        each = self._file(writable=True)
        if each is None:
            return self._open()
        offset, data = self._offset(each.node), self._data()
        file = self.process.fds.file(each.fd, c.RIGHT_FD_WRITE)
        assert file.pwrite([memoryview(bytearray(data))], offset) == len(data)
        return self._put_data(each.node, offset, data)

    def _write(self) -> None:
        each = self._file(writable=True)
        if each is None:
            return self._open()
        data = self._data()
        file = self.process.fds.file(each.fd, c.RIGHT_FD_WRITE)
        assert file.write([memoryview(bytearray(data))], Deadline()) == len(data)
        self._put_data(each.node, each.cursor, data)
        each.cursor += len(data)
        return None

    def _pread(self) -> None:
        each = self._file()
        if each is None:
            return self._open()
        offset, buffer = self._offset(each.node), bytearray(self.chance.choice((0, 1, 100, 5000, 70_000)))
        file = self.process.fds.file(each.fd, c.RIGHT_FD_READ)
        count = file.pread([memoryview(buffer)], offset)
        assert buffer[:count] == each.node.data[offset : offset + len(buffer)]
        return None

    def _read(self) -> None:
        each = self._file()
        if each is None:
            return self._open()
        buffer = bytearray(self.chance.choice((1, 100, 5000)))
        file = self.process.fds.file(each.fd, c.RIGHT_FD_READ)
        count = file.read([memoryview(buffer)], Deadline())
        assert buffer[:count] == each.node.data[each.cursor : each.cursor + len(buffer)]
        each.cursor += count
        return None

    def _check_file(self, each: Open) -> None:
        if each.node.filetype is FileType.REGULAR_FILE:
            buffer = bytearray(each.node.size + 1)
            file = self.process.fds.file(each.fd, c.RIGHT_FD_READ)
            assert file.pread([memoryview(buffer)], 0) == each.node.size
            assert buffer[:-1] == each.node.data
        self._same(each.node, self.process.fds.get(each.fd, 0).stat())

    def _resize(self) -> None:
        each = self._file(writable=True)
        if each is not None:
            node, size = each.node, min(self._offset(each.node), _FILE_MAX)
            self.process.fds.file(each.fd, c.RIGHT_FD_FILESTAT_SET_SIZE).inode.handle.truncate(size)
            node.data[size:] = bytes(max(0, size - node.size))
            node.mtim = None

    def _allocate(self) -> None:
        each = self._file(writable=True)
        if each is not None:
            node, end = each.node, min(self._offset(each.node), _FILE_MAX) + 1
            self.process.fds.file(each.fd, c.RIGHT_FD_ALLOCATE).inode.handle.allocate(end - 1, 1)
            if end > node.size:
                self._put_data(node, end, b"")

    def _fstat(self) -> None:
        if self.open:
            each = self.chance.choice(self.open)
            self._same(each.node, self.process.fds.get(each.fd, 0).stat())

    def _fd_times(self) -> None:
        writable = [each for each in self.open if each.writable]
        if writable:
            each, times = self.chance.choice(writable), self._some_times()
            stat.set_times(self.process, each.fd, *times)
            self._dated(each.node, *times)

    def _readdir(self) -> None:
        directories = [each for each in self.open if each.node.filetype is FileType.DIRECTORY]
        if not directories:
            return
        each = self.chance.choice(directories)
        if each.listing is None or self.chance.random() < 0.1:
            entries = (
                set()
                if each.node.removed
                else {(name, node.filetype, node) for name, node in each.node.entries.items()}
            )
            each.listing = entries, [], 0
        entries, read, cookie = each.listing
        data = bytes(self.process.fds.directory(each.fd, 0).read_entries(cookie, self.chance.choice((70, 200, 4096))))
        found = list(_dirents(data))
        if not found and not data:
            names = {name: (ino, kind) for name, ino, kind in read if name not in (".", "..")}
            assert len(names) == len([name for name, _, _ in read if name not in (".", "..")])
            assert {(name, FileType(kind)) for name, (_, kind) in names.items()} == {
                (name, kind) for name, kind, _ in entries
            }
            for name, _, node in entries:
                self._known(node, names[name][0])
            each.listing = None
            return
        for following, ino, kind, name in found:
            read.append((name, ino, kind))
            cookie = following
        each.listing = entries, read, cookie

    def _close(self) -> None:
        if self.open:
            each = self.open.pop(self.chance.randrange(len(self.open)))
            if self.chance.random() < 0.3:
                self._check_file(each)
            self.process.fds.close(each.fd)

    def look_at_all(self) -> None:
        """Every name leads to what the model has there."""
        todo: list[tuple[str, Node]] = [("", self.model.root)]
        while todo:
            path, directory = todo.pop()
            for name, node in directory.entries.items():
                below = f"{path}{name}"
                self._same(node, stat.stat_at(self.process, self.root_fd, False, below))
                if node.filetype is FileType.DIRECTORY:
                    todo.append((below + "/", node))


def _answer(kind: type[_Error], call: Callable[[], Any]) -> tuple[_Error | None, Any]:
    try:
        return None, call()
    except kind as error:
        return error, None


def _dirents(data: bytes) -> Iterator[tuple[int, int, int, str]]:
    """(next cookie, inode number, type, name) of the entries that are whole."""
    at = 0
    while at + 24 <= len(data):
        following, ino = (int.from_bytes(data[start : start + 8], "little") for start in (at, at + 8))
        length = int.from_bytes(data[at + 16 : at + 20], "little")
        if at + 24 + length > len(data):
            return
        yield following, ino, data[at + 20], data[at + 24 : at + 24 + length].decode()
        at += 24 + length


class _Layer:
    def __init__(self, overlay: OverlayBackend) -> None:
        self.entries = overlay.entries()


def play(seed: int, steps: int, place: Path) -> int:
    """`steps` calls on each of three overlays, one over the other, over the base that the seed says; how many calls
    there were. Raises AssertionError with the seed."""
    chance = random.Random(f"model {seed}")
    make = BASES[sorted(BASES)[seed % len(BASES)]]
    base, root = make(chance, place)
    model, inos, done = Model(root), dict[int, Node](), 0
    before = tree_of(base)
    below: Backend = base
    for layer in range(3):
        seen = tree_of(below)
        made = OverlayBackend(below, memory_bytes=chance.choice((0, 100_000, 1 << 26)), private=chance.random() < 0.3)
        game = Game(chance, model, made)
        game.inos = inos
        number = 0
        try:
            for number in range(steps):
                game.step()
                done += 1
                if not number % 50:
                    game.look_at_all()
            game.look_at_all()
            game.end()
            tree = tree_of(made)
            assert tree == root.tree()
            assert tree_of(below) == seen, "what lies below has changed"
            again = OverlayBackend(below, _Layer(made), private=True)
            assert tree_of(again) == tree, "its changes make another tree"
        except Exception as error:
            raise AssertionError(f"seed {seed}, overlay {layer}, call {number}: {error!r}") from error
        below = made
    assert tree_of(base) == before, "the base has changed"
    base.close()
    return done
