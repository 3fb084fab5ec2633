"""Changes made by hand, on a base in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vfswasi import Changes, MemoryBackend, MountError
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Buffer, FileType, Handle, Key, Stat
from vfswasi.fs_backends.layers.overlay.entries import Entry, Was

FILE, DIRECTORY, LINK = FileType.REGULAR_FILE, FileType.DIRECTORY, FileType.SYMBOLIC_LINK


class Bytes:
    """Contents in memory. opened: how often."""

    def __init__(self, data: bytes | str) -> None:
        self.data = data.encode() if isinstance(data, str) else data
        self.size = len(self.data)
        self.opened = 0

    def open(self) -> Handle:
        self.opened += 1
        return _Open(self.data)


class Gone(Bytes):
    """Contents that cannot be had any more."""

    def open(self) -> Handle:
        raise FsError(Errno.STALE, "they were in a store that has changed")


class _Open(Handle):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buf: Buffer) -> int:
        piece = self._data[offset : offset + len(buf)]
        buf[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        return Stat(FILE, len(self._data))


class MadeBase:
    """A tree that the changes were made on. reachable: whether it can be opened."""

    def __init__(self, tree: Mapping[str, Any], text: str = "'base.zip'") -> None:
        self.backend = MemoryBackend(tree)
        self.text = text
        self.source: Any = self.backend
        self.reachable = True
        self.opened = 0

    @contextmanager
    def open(self) -> Iterator[Backend]:
        if not self.reachable:
            raise MountError("cannot mount zip archive 'base.zip': no such file; check the path")
        self.opened += 1
        yield self.backend

    def was(self, path: str) -> Was:
        """What is there, with all that is below it."""
        top = tuple(path.split("/"))
        below: dict[str, Was] = {}
        if self.backend.stat(top).filetype is DIRECTORY:
            todo: list[Key] = [top]
            for key in todo:
                for name, filetype, _ in self.backend.list(key):
                    found = (*key, name)
                    below["/".join(found[len(top) :])] = self._one(found)
                    if filetype is DIRECTORY:
                        todo.append(found)
        return self._one(top, below)

    def _one(self, key: Key, below: Mapping[str, Was] | None = None) -> Was:
        status = self.backend.stat(key)
        return Was(status.filetype, status.size, status.mtim_ns, status.ident, None, below or {})


def plain(was: Was) -> Was:
    """Without what was below it."""
    return Was(was.filetype, was.size, was.mtim_ns, was.ident, was.digest)


def added(path: str, data: bytes | str, mtim_ns: int | None = None) -> Entry:
    content = Bytes(data)
    return Entry("added", path, FILE, size=content.size, content=content, mtim_ns=mtim_ns)


def made_directory(path: str) -> Entry:
    return Entry("added", path, DIRECTORY)


def made_link(path: str, target: str) -> Entry:
    return Entry("added", path, LINK, size=len(target.encode()), target=target)


def modified(base: MadeBase, path: str, data: bytes | str, old_path: str | None = None) -> Entry:
    content = Bytes(data)
    was = base.was(old_path or path)
    return Entry("modified", path, FILE, old_path, was, content.size, content=content)


def removed(base: MadeBase, path: str) -> Entry:
    was = base.was(path)
    return Entry("removed", path, was.filetype, was=was)


def renamed(base: MadeBase, old_path: str, path: str) -> Entry:
    was = plain(base.was(old_path))
    return Entry("renamed", path, was.filetype, old_path, was, was.size)


def touched(base: MadeBase, path: str, mtim_ns: int) -> Entry:
    was = plain(base.was(path))
    return Entry("attributes", path, was.filetype, None, was, was.size, mtim_ns, mtim_ns)


def some() -> tuple[Changes, MadeBase]:
    """One of each kind."""
    base = MadeBase(
        {"old.txt": "one\ntwo\nthree\n", "gone": b"", "a": b"moved", "d": {"x": "1\n", "e": {"y": b"\0"}}, "t": b"t"}
    )
    entries = [
        renamed(base, "a", "b"),
        added("new", b"new\n"),
        modified(base, "old.txt", "one\n2\nthree\n"),
        removed(base, "gone"),
        removed(base, "d"),
        touched(base, "t", 5),
    ]
    return Changes(entries, base), base
