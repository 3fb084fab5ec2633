"""The stores that plans run on, what surrounds them, and how both are looked at from behind the guest's back.

A `Ground` has the preopens of one run. `inside` is what the guest may change, `outside` is everything that it may
not: decoys beside a local root, targets of links that lead out, and whatever is mounted read-only.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fsspec.asyn import get_loop
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from vfswasi import LocalBackend, MemoryBackend, Mount, Symlink
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Key
from vfswasi.fs_backends.layers.faulty import Call, Faulty
from vfswasi.fs_backends.memory.file import Directory, File, Link, MemoryHandle, Node
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.backend import FsspecClient
from vfswasi.fs_backends.remote.reader import ReadOptions
from vfswasi.fs_backends.trust import SERVER
from vfswasi.mounts.finding.sources import open_source

from .layered import Layered
from .trees import ABSOLUTE, DECOYS, TREE, disk_tree, write_tree
from .wrappers import Counted, Poor


def _trusted(root: Path) -> Backend:
    """A directory as a server that follows links shows it, mounted on trust."""
    nature = replace(SERVER, in_process=True)
    return RemoteBackend(FsspecClient(LocalFileSystem(), str(root), nature=nature), ReadOptions(readahead=0))


def _spelled(make: Callable[[Path], Any]) -> Callable[[Path], Backend]:
    return lambda root: open_source(Mount(make(root), rw=True))


get_loop()  # it has a descriptor from its first use to the end of the process


def _around(root: Path) -> DirFileSystem:
    return DirFileSystem(str(root.parent), LocalFileSystem())


# The store of a directory, made in each of these ways in turn.
SPELLINGS: dict[str, list[Callable[[Path], Backend]]] = {
    "local": [LocalBackend],
    "wrapped": [
        _spelled(lambda root: f"simplecache::file://{root}"),
        _spelled(lambda root: DirFileSystem(str(root), LocalFileSystem())),
        _spelled(lambda root: f"local://{root}"),
        _spelled(
            lambda root: DirFileSystem(
                root.name, SimpleCacheFileSystem(fs=DirFileSystem(str(root.parent), LocalFileSystem()))
            )
        ),
        _spelled(lambda root: f"dir://{root.name}::blockcache::file://{root.parent}"),
    ],
    "trusted": [_trusted],
}
ON_DISK = frozenset(SPELLINGS)


class Ground:
    """The stores of one run. `main`: the writable store; `place`: a directory for it and its decoys."""

    def __init__(self, kind: str, layout: int, tight: bool, place: Path, seed: int = 0) -> None:
        """`kind`: memory, local, zip (with memory beside it), poor (memory that can do less), faulty (memory that
        fails now and then, as the seed says), wrapped (local, by other names: see `SPELLINGS`), trusted (local, as a
        server that follows links and is trusted: its store is looked at from outside alone), overlay (over memory,
        local, zip, another overlay: see `Layered`)."""
        self.kind = kind
        self.on_disk = kind in ON_DISK
        self.numbered_anew = self.on_disk  # objects have other numbers in each run
        self.place = place
        self.layered: Layered | None = None
        self.main: Backend
        self.mounted: list[Counted] = []
        self._read_only: list[Backend] = []
        room = {"max_bytes": 1 << 21, "max_inodes": 400}
        if tight and layout & 8:  # the store itself has less room than the run may take
            room = {"max_bytes": 9000, "max_inodes": 26}
        if self.on_disk:
            shutil.rmtree(place, ignore_errors=True)
            write_tree(place, {**DECOYS, "root": TREE, "shown": TREE})
            for name, target in ABSOLUTE.items():
                (place / "root" / name).symlink_to(place / target)
            spelled = SPELLINGS[kind]
            self.main = spelled[layout % len(spelled)](place / "root")
            other: Backend = spelled[(layout + 1) % len(spelled)](place / "shown")
        elif kind == "overlay":
            self.layered = Layered(seed, place, room["max_bytes"], io.BytesIO(ZIP))
            self.main, self.numbered_anew = self.layered.overlay, True
            other = MemoryBackend(TREE)
        else:
            memory = self.main = MemoryBackend(TREE, **room)
            for name, target in ABSOLUTE.items():
                memory.symlink(f"{place}/{target}", (name,))
            other = MemoryBackend(TREE) if kind != "zip" else ZipBackend(io.BytesIO(ZIP))
        shown = self.main
        if kind == "poor":
            shown = Poor(shown)
        elif kind == "faulty":
            shown = Faulty(shown, lambda call: _fails(call, seed))
        main, other = self._counted(shown), self._counted(other)
        if not self.on_disk:  # there it is seen on the disk, where looking would move access times
            self._read_only.append(other)
        named = [("/d", Mount(main, rw=True, overlap=True)), ("/ro", Mount(other, rw=False))]
        if layout & 1:
            named.reverse()
        if layout & 2:
            named.append(("/same", Mount(main, rw=True, overlap=True)))
        if layout & 4:
            named.append(("/view", Mount(main, rw=False, overlap=True)))
        if layout & 8 and self.on_disk:
            below = LocalBackend(place / "root" / "d")
            named.append(("/below", Mount(self._counted(below), rw=True, overlap=True)))
        self.preopens: dict[str, Mount] = dict(named)
        self.at_start = self.charged()
        self.known: dict[str, Any] = {}  # `inside` after the last call

    def _counted(self, backend: Backend) -> Counted:
        self.mounted.append(Counted(backend))
        return self.mounted[-1]

    def live(self) -> int:
        """Handles that are open in the stores."""
        return sum(len(counted.live) for counted in self.mounted)

    def inside(self) -> dict[str, Any]:
        """All that a failed call must not change."""
        if self.kind == "trusted":  # what was written comes to it later, and as a whole
            return {}
        if self.on_disk:
            return disk_tree(self.place / "root")
        if self.layered is not None:
            return self.layered.inside(self.mounted[0].live)
        found: dict[str, Any] = {}
        for path, node in self._nodes():
            found[path] = (node.ident, node.nlink, node.atim, node.mtim, node.ctim, content(node))
        for file in self._held():
            found[f"held {file.ident}"] = (file.nlink, file.mtim, bytes(file.data))
        return found

    def shape(self) -> dict[str, Any]:
        """Path -> (link count, contents or target), which are the same on every store."""
        if self.layered is not None:
            return self.layered.shape()
        if not self.on_disk:
            return {path: (node.nlink, content(node)) for path, node in self._nodes()}
        return {f"/{path}" * bool(path): (what[1], what[-1]) for path, what in self.inside().items()}

    def outside(self) -> dict[str, Any]:
        """All that no call may change."""
        found: dict[str, Any] = {str(index): look(store) for index, store in enumerate(self._read_only)}
        if self.on_disk:
            found |= {path: what for path, what in disk_tree(self.place).items() if not _below_root(path)}
        if self.layered is not None:
            found["base"] = self.layered.below()
        return found

    def charged(self) -> tuple[int, int]:
        """(names, bytes) in the writable memory store; (0, 0) on disk."""
        if not isinstance(self.main, MemoryBackend):
            return 0, 0
        return self.main._space.inodes, self.main._space.used

    def accounts(self) -> str:
        """What is wrong with the space that the memory store charges, and with its link counts; or nothing."""
        if self.layered is not None:
            return self.layered.accounts(self.mounted[0].live)
        if not isinstance(self.main, MemoryBackend):
            return ""
        names: dict[Node, int] = {}
        inodes = 0
        for path, node in self._nodes():
            inodes += bool(path)
            names[node] = names.get(node, 0) + 1
        for file in self._held():
            names.setdefault(file, 0)
        space = self.main._space
        used = 0
        for node, count in names.items():
            if isinstance(node, Directory):
                count = 2 + sum(isinstance(below, Directory) for below in node.entries.values())
            if node.nlink != count:
                return f"object {node.ident} has {count} names and a link count of {node.nlink}"
            used += len(node.data) + node.reserved if isinstance(node, File) else node.size
        if (space.used, space.inodes) != (used, inodes):
            return f"charged: {space.used} bytes, {space.inodes} names; there are {used} bytes, {inodes} names"
        if space.used > space.max_bytes or space.inodes > space.max_inodes:
            return f"{space.used} bytes and {space.inodes} names are more than the store may hold"
        return ""

    def _nodes(self) -> Iterable[tuple[str, Node]]:
        assert isinstance(self.main, MemoryBackend)
        todo: list[tuple[str, Node]] = [("", self.main._root)]
        while todo:
            path, node = todo.pop()
            yield path, node
            if isinstance(node, Directory):
                todo.extend((f"{path}/{name}", below) for name, below in node.entries.items())

    def _held(self) -> list[File]:
        """Files that have no name and are open."""
        assert isinstance(self.main, MemoryBackend)
        files = set()
        for handle in self.mounted[0].live:
            inner: Any = handle
            while not isinstance(inner, MemoryHandle):
                inner = inner.inner if hasattr(inner, "inner") else inner._inner
            files.add(inner._file)
        return [file for file in files if not file.nlink]

    def close(self) -> None:
        for counted in self.mounted:
            counted.close()
        if self.layered is not None:
            self.layered.close()
        if self.on_disk:
            shutil.rmtree(self.place, ignore_errors=True)


def _fails(call: Call, seed: int) -> Errno | None:
    """About each thirtieth call fails, which follows from its name and its place among those of that name."""
    chance = zlib.crc32(f"{seed} {call.name} {call.nth}".encode()) % 120
    # A new file that cannot tell its number goes again, but its directory has another time; `reserve` says no and
    # raises nothing.
    if chance > 3 or call.name in ("close", "finish", "handle.ident", "handle.reserve"):
        return None
    return (Errno.IO, Errno.NOSPC, Errno.ACCES, Errno.DQUOT)[chance]


def content(node: Node) -> bytes | str | None:
    if isinstance(node, File):
        return bytes(node.data)
    return node.target if isinstance(node, Link) else None


def _below_root(path: str) -> bool:
    return path in ("", "root") or path.startswith("root/")


def open_host_fds() -> int:
    """How many descriptors this process has open, sockets aside, which may be those of another test's server; 0
    where that cannot be seen."""
    count = 0
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            count += not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except FileNotFoundError:  # that of the listing itself
            continue
    return count


def look(backend: Backend, key: Key = ()) -> dict[Key, Any]:
    """Everything in a store that is mounted read-only."""
    found: dict[Key, Any] = {key: backend.stat(key)}
    for entry in backend.list(key):
        below = (*key, entry.name)
        if entry.filetype == 3:
            found |= look(backend, below)
        elif entry.filetype == 7:
            found[below] = backend.stat(below), backend.readlink(below)
        else:
            status = backend.stat(below)
            handle = backend.open(below, False)
            buffer = bytearray(status.size)
            found[below] = status, handle.read_into(0, buffer), bytes(buffer)
            handle.close()
    return found


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:

        def put(tree: Mapping[str, Any], where: str) -> None:
            for name, value in tree.items():
                info = zipfile.ZipInfo(where + name)
                if isinstance(value, Mapping):
                    made.writestr(where + name + "/", b"")
                    put(value, where + name + "/")
                elif isinstance(value, Symlink):
                    info.external_attr = 0o120777 << 16
                    made.writestr(info, value.target)
                else:
                    info.compress_type = zipfile.ZIP_DEFLATED if len(value) > 100 else zipfile.ZIP_STORED
                    made.writestr(info, value)

        put(TREE, "")
    return file.getvalue()


ZIP = _zip()
