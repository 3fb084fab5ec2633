"""`Result.save`: the trees that a run left in memory, written to a directory or a new archive.

A directory of this machine is written through `LocalBackend`, which follows no link in it. Each file is written under
another name and renamed then, so that none is ever half there.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final, NamedTuple

from ...errors import Errno, FsError, errno_of
from ...fs_backends.base import FileType, Key
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.memory.backend import MemoryBackend
from ...observe.saved.beside import written_beside
from ...printing import printable

_PIECE_BYTES: Final = 1 << 20
_TAR_MODES: Final = {
    ".tar": "w",
    ".tar.gz": "w:gz",
    ".tgz": "w:gz",
    ".tar.bz2": "w:bz2",
    ".tbz2": "w:bz2",
    ".tar.xz": "w:xz",
    ".txz": "w:xz",
}
_UNKNOWN = (".tar.zst", ".tzst", ".tar.lz4", ".7z", ".rar")
_SHOWN = 5


class _Item(NamedTuple):
    """What is to be written. tree, source: where it is now."""

    key: Key
    filetype: FileType
    tree: MemoryBackend
    source: Key

    @property
    def path(self) -> str:
        return "/".join(self.key)

    @property
    def mtime_ns(self) -> int:
        return self.tree.stat(self.source).mtim_ns or 0

    def pieces(self) -> Iterator[bytes]:
        handle = self.tree.open(self.source, False)
        try:
            size, done = handle.size(), 0
            while done < size:
                piece = bytearray(min(_PIECE_BYTES, size - done))
                done += handle.read_into(done, piece)
                yield bytes(piece)
        finally:
            handle.close()


def save(trees: Mapping[str, MemoryBackend], target: str | os.PathLike[str], overwrite: bool) -> None:
    """See `Result.save`."""
    text = os.fspath(target)
    if not isinstance(text, str):
        raise TypeError(f"target must be a path as str, not {type(text).__name__}")
    items = _items(trees)
    try:
        if text.endswith("/") or os.path.isdir(text):
            _save_directory(items, text, overwrite)
            return
        name = text.lower()
        if name.endswith(_UNKNOWN):
            raise ValueError(f"{text!r}: such an archive cannot be written; give .zip, {', '.join(_TAR_MODES)}")
        mode = next((mode for ending, mode in _TAR_MODES.items() if name.endswith(ending)), None)
        if mode is None and not name.endswith(".zip"):
            _save_directory(items, text, overwrite)
            return
        with written_beside(text, overwrite=overwrite) as file:
            _write_zip(items, file) if mode is None else _write_tar(items, file, mode)
    except FsError as error:
        raise _os_error(error, text) from error


def _items(trees: Mapping[str, MemoryBackend]) -> list[_Item]:
    """Of all trees, directories before what is in them. Raises ValueError: two would be one."""
    found: dict[Key, _Item] = {}
    for mount, tree in trees.items():
        # Relative names may begin with dots, which lead nowhere here.
        top = tuple(name for name in mount.split("/") if name not in ("", ".", ".."))
        todo: list[_Item] = [_Item(top[:depth], FileType.DIRECTORY, tree, ()) for depth in range(1, len(top))]
        todo.append(_Item(top, FileType.DIRECTORY, tree, ()))
        for item in todo:
            before = found.get(item.key)
            if before is not None and not (before.filetype is item.filetype is FileType.DIRECTORY):
                raise ValueError(f"two of the guest's directories have {item.path!r}; save them one by one")
            if item.key:
                found.setdefault(item.key, item)
            if item.filetype is FileType.DIRECTORY and item.key[: len(top)] == top:
                todo.extend(
                    _Item((*item.key, name), filetype, tree, (*item.source, name))
                    for name, filetype, _ in tree.list(item.source)
                )
    return sorted(found.values())


def _save_directory(items: list[_Item], target: str, overwrite: bool) -> None:
    if not os.path.lexists(target):
        os.makedirs(target)
    local = LocalBackend(target)
    try:
        _check_room(local, items, target, overwrite)
        for item in items:
            _put(local, item, overwrite)
        for item in reversed(items):
            if item.filetype is FileType.DIRECTORY:
                local.set_times(item.key, None, item.mtime_ns)
    finally:
        local.close()


def _check_room(local: LocalBackend, items: list[_Item], target: str, overwrite: bool) -> None:
    """Before anything is written. Raises FileExistsError, NotADirectoryError, IsADirectoryError."""
    there: list[str] = []
    for item in items:
        count, status = local.walk((), item.key)
        if status is None:
            continue
        is_directory = status.filetype is FileType.DIRECTORY
        shown = printable("/".join(item.key[:count]))
        if count < len(item.key) or item.filetype is FileType.DIRECTORY:
            if not is_directory:
                raise NotADirectoryError(errno.ENOTDIR, f"{shown} is there and no directory", target)
        elif is_directory:
            raise IsADirectoryError(errno.EISDIR, f"{shown} is a directory there, which is not replaced", target)
        elif not overwrite:
            there.append(shown)
    if there:
        more = f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
        names = ", ".join(there[:_SHOWN])
        raise FileExistsError(errno.EEXIST, f"{names}{more} would be overwritten; give overwrite=True", target)


def _put(local: LocalBackend, item: _Item, overwrite: bool) -> None:
    if item.filetype is FileType.DIRECTORY:
        try:
            local.mkdir(item.key)
        except FsError as error:
            if errno_of(error) is not Errno.EXIST or local.stat(item.key).filetype is not FileType.DIRECTORY:
                raise
    elif item.filetype is FileType.SYMBOLIC_LINK:
        target = item.tree.readlink(item.source)
        _in_place(local, item, lambda key: local.symlink(target, key), overwrite)
    elif item.filetype is FileType.REGULAR_FILE:
        _in_place(local, item, lambda key: _write(local, key, item), overwrite)


def _in_place(local: LocalBackend, item: _Item, make: Callable[[Key], Any], overwrite: bool) -> None:
    """Under another name, which takes the place of the true one then."""
    beside = (*item.key[:-1], f".vfswasi-{os.urandom(8).hex()}.tmp")
    make(beside)
    try:
        local.set_times(beside, None, item.mtime_ns)
        if overwrite:
            local.rename(beside, item.key)
            return
        try:
            local.link(beside, item.key)
        except FsError as error:
            if errno_of(error) not in (Errno.NOTSUP, Errno.PERM, Errno.MLINK, Errno.NOSYS):
                raise
            if local.walk((), item.key)[0] == len(item.key):
                raise FsError(Errno.EXIST, f"{item.path} is there already") from error
            local.rename(beside, item.key)
            return
        local.remove(beside)
    except BaseException:
        _forget(local, beside)
        raise


def _write(local: LocalBackend, key: Key, item: _Item) -> None:
    handle = local.create(key)
    try:
        offset = 0
        for piece in item.pieces():
            handle.write_from(offset, piece)
            offset += len(piece)
    except BaseException:
        handle.close()
        _forget(local, key)
        raise
    handle.close()


def _forget(local: LocalBackend, key: Key) -> None:
    try:
        local.remove(key)
    except FsError:  # what went wrong before is told
        pass


def _write_zip(items: list[_Item], file: IO[bytes]) -> None:
    from ...fs_backends.archive.zip.output import ZipOutput

    with ZipOutput(file) as output:
        for item in items:
            if item.filetype is FileType.DIRECTORY:
                output.add_directory(item.path, item.mtime_ns, None)
            elif item.filetype is FileType.SYMBOLIC_LINK:
                output.add_link(item.path, item.tree.readlink(item.source), item.mtime_ns)
            elif item.filetype is FileType.REGULAR_FILE:
                output.add_file(item.path, item.tree.stat(item.source).size, item.pieces(), item.mtime_ns, None)


def _write_tar(items: list[_Item], file: IO[bytes], mode: Any) -> None:
    import tarfile  # slow to import

    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for item in items:
            info = tarfile.TarInfo(item.path)
            info.mtime, fraction = divmod(item.mtime_ns, 10**9)
            if fraction:
                info.pax_headers = {"mtime": f"{info.mtime}.{fraction:09}"}
            if item.filetype is FileType.DIRECTORY:
                info.type, info.mode = tarfile.DIRTYPE, stat.S_IRWXU
                archive.addfile(info)
            elif item.filetype is FileType.SYMBOLIC_LINK:
                info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, item.tree.readlink(item.source)
                archive.addfile(info)
            elif item.filetype is FileType.REGULAR_FILE:
                info.mode, info.size = stat.S_IRUSR | stat.S_IWUSR, item.tree.stat(item.source).size
                archive.addfile(info, io.BufferedReader(_Pieces(item.pieces())))


class _Pieces(io.RawIOBase):
    """As a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._pieces, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _os_error(error: FsError, target: str) -> OSError:
    """As Python's own functions raise it."""
    found = errno_of(error)
    number = getattr(errno, f"E{found.name}", errno.EIO)
    return OSError(number, error.detail or os.strerror(number), target)
