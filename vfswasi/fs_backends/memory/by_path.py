"""A tree's files by path, for the host's user: with the manners of a dict, and of `pathlib`.

A path is a str (or a `PurePosixPath`) such as "a/b"; "/a/b" is the same, and "." or "" the tree itself. Links are
followed within the tree, as `pathlib` would: relative ones, from where they lie.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from ...errors import Errno, FsError, errno_of
from ..base import Backend, FileType, Key
from ..turns import STEP_BYTES, give_way
from .literal import File, encoded, time_ns

_LINKS_MAX = 40  # as Linux


class TreeByPath(Backend):
    """What a tree in memory offers beside the interface of backends."""

    _lock: AbstractContextManager[object]

    def _literal(self, key: Key) -> dict[str, Any]:
        """What a directory holds. Raises FsError."""
        raise NotImplementedError

    def _graft(self, key: Key, value: Any) -> None:
        """Put a literal there, in place of what is there. Raises TypeError and ValueError, and has done nothing then;
        FsError."""
        raise NotImplementedError

    def read_bytes(self, path: str | os.PathLike[str]) -> bytes:
        """What is in a file. Raises FileNotFoundError, IsADirectoryError, NotADirectoryError, OSError (a circle of
        links), ValueError (".." in the path)."""
        with self._lock:
            try:
                return self._read(self._followed(_key(path)))
            except FsError as error:
                raise _os_error(error, path) from None

    def write_bytes(self, path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> int:
        """Put `data` in a file in place of what was in it; it is made if it is not there, and so are the directories
        on the way to it. Returns how many bytes that were.

        Raises IsADirectoryError, NotADirectoryError, OSError (no room), ValueError (".." or no name), TypeError."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        with self._lock:
            try:
                key = self._ready(path)
                if self._filetype(key) is FileType.DIRECTORY:
                    raise FsError(Errno.ISDIR)
                self._write(key, data)
            except FsError as error:
                raise _os_error(error, path) from None
        return memoryview(data).nbytes

    def __getitem__(self, path: str | os.PathLike[str]) -> Any:
        """A file's contents as bytes; a directory as a literal (see `export`). Raises KeyError: nothing is there, or a
        link that leads to nothing."""
        with self._lock:
            try:
                key = self._followed(_key(path))
                is_directory = self.stat(key).filetype is FileType.DIRECTORY
                return self._literal(key) if is_directory else self._read(key)
            except FsError:
                raise KeyError(os.fspath(path)) from None

    def __setitem__(self, path: str | os.PathLike[str], value: Any) -> None:
        """Put there what a literal tree may hold: bytes, str, `File`, `Symlink`, a mapping, `Directory`. Missing
        directories on the way are made. A file that is there keeps its identity and gets other contents, as with
        `write_bytes`; anything else is replaced.

        Raises NotADirectoryError, OSError, and as for a literal TypeError and ValueError."""
        with self._lock:
            try:
                key = self._ready(path, follow=isinstance(value, bytes | bytearray | memoryview | str | File))
                contents = value.contents if isinstance(value, File) else value
                if isinstance(contents, str):
                    contents = encoded(contents, os.fspath(path))
                in_place = self._filetype(key) is FileType.REGULAR_FILE
                if in_place and isinstance(contents, bytes | bytearray | memoryview):
                    self._write(key, contents)
                    mtime = time_ns(value.mtime) if isinstance(value, File) else None
                    if mtime is not None:
                        self.set_times(key, mtime, mtime)
                else:
                    self._graft(key, value)
            except FsError as error:
                raise _os_error(error, path) from None

    def __delitem__(self, path: str | os.PathLike[str]) -> None:
        """Remove a file, a link (not what it leads to), or a directory with all that is in it. Raises KeyError."""
        with self._lock:
            try:
                self._remove_all(self._named(_key(path)))
            except FsError:
                raise KeyError(os.fspath(path)) from None

    def __contains__(self, path: str | os.PathLike[str]) -> bool:
        """Whether anything has that name: a file, a directory, a link wherever it leads."""
        with self._lock:
            try:
                key = _key(path)
                return not key or self._filetype(self._named(key)) is not None
            except FsError:
                return False

    def __iter__(self) -> Iterator[str]:
        """The paths of all files and links that there are now, in order. Directories are not among them."""
        with self._lock:
            found = [key for key, filetype in self._below(()) if filetype is not FileType.DIRECTORY]
        return ("/".join(key) for key in sorted(found))

    def _below(self, top: Key) -> list[tuple[Key, FileType]]:
        """All that lies below a directory; what holds something comes before it."""
        found: list[tuple[Key, FileType]] = []
        todo = [top]
        for directory in todo:
            give_way()
            for name, filetype, _ in self.list(directory):
                found.append(((*directory, name), filetype))
                if filetype is FileType.DIRECTORY:
                    todo.append((*directory, name))
        return found

    def _followed(self, key: Key) -> Key:
        """Where a path leads: no name of it is a link any more. Raises NOENT, NOTDIR, LOOP."""
        done: list[str] = []
        todo = list(reversed(key))
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if not done:
                    raise FsError(Errno.NOENT, "a link leads out of the tree")
                done.pop()
                continue
            if self.stat((*done, name)).filetype is not FileType.SYMBOLIC_LINK:
                done.append(name)
                continue
            links += 1
            target = self.readlink((*done, name))
            if links > _LINKS_MAX:
                raise FsError(Errno.LOOP)
            if target.startswith("/"):
                raise FsError(Errno.NOENT, f"a link leads to {target!r}, where a tree does not know what is mounted")
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return tuple(done)

    def _named(self, key: Key) -> Key:
        """The directory is followed, its last name is not."""
        if not key:
            raise ValueError("the root of a tree can be neither replaced nor removed; only what is in it")
        return (*self._followed(key[:-1]), key[-1])

    def _ready(self, path: str | os.PathLike[str], follow: bool = True) -> Key:
        """Where something is to be put: the directories on the way are there."""
        key = _key(path)
        if not key:
            raise ValueError(f"{os.fspath(path)!r} names no file in the tree")
        directory: Key = ()
        for name in key[:-1]:
            try:
                directory = self._followed((*directory, name))
            except FsError as error:
                if error.errno is not Errno.NOENT or self._filetype((*directory, name)) is not None:
                    raise
                self._graft((*directory, name), {})
                directory = (*directory, name)
        if self._filetype(directory) is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        named = (*directory, key[-1])
        return self._followed(named) if follow and self._filetype(named) is FileType.SYMBOLIC_LINK else named

    def _filetype(self, key: Key) -> FileType | None:
        try:
            return self.stat(key).filetype
        except FsError as error:
            if error.errno is Errno.NOENT:
                return None
            raise

    def _read(self, key: Key) -> bytes:
        handle = self.open(key, False)
        try:
            data = bytearray(handle.size())
            with memoryview(data) as view:
                for start in range(0, len(data), STEP_BYTES):
                    give_way()
                    handle.read_into(start, view[start : start + STEP_BYTES])
            return bytes(data)
        finally:
            handle.close()

    def _write(self, key: Key, data: bytes | bytearray | memoryview) -> None:
        """Raises FsError, and what was in the file is in it then."""
        if self._filetype(key) is None:
            self._graft(key, data)
            return
        before = self._read(key)
        handle = self.open(key, True)
        try:
            with memoryview(bytes(data) if isinstance(data, memoryview) else data) as view:
                try:
                    handle.truncate(0)
                    handle.write_from(0, view)
                except FsError:
                    handle.truncate(0)
                    handle.write_from(0, memoryview(before))
                    raise
        finally:
            handle.close()

    def _remove_all(self, key: Key) -> None:
        if self.stat(key).filetype is FileType.DIRECTORY:
            for below, filetype in reversed(self._below(key)):
                (self.rmdir if filetype is FileType.DIRECTORY else self.remove)(below)
            self.rmdir(key)
        else:
            self.remove(key)


def _key(path: str | os.PathLike[str]) -> Key:
    """Raises TypeError, ValueError."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path in a tree must be a str, not {type(text).__name__}")
    key = tuple(name for name in text.split("/") if name not in ("", "."))
    if ".." in key:
        raise ValueError(f"{text!r}: a path in a tree has no '..' in it")
    return key


def _os_error(error: FsError, path: str | os.PathLike[str]) -> OSError:
    """As Python's own functions raise it."""
    found = errno_of(error)
    number = getattr(errno, f"E{found.name}", errno.EIO)
    return OSError(number, error.detail or os.strerror(number), os.fspath(path))
