"""File systems of PyFilesystem2: any object of that library or of one of its forks, or an opener URL.

Links are shown as links where the store has any, and never followed: before a path is used, each of its directories is
looked at. Another process may still put a link there between that look and the use of the path, so a directory that
others write to is better mounted as a path (see `local/`).

| file system            | how files are written                                                                    |
|------------------------|------------------------------------------------------------------------------------------|
| OSFS, TempFS           | in place, through descriptors                                                            |
| MemoryFS               | in place; a file has at most 1 GiB                                                       |
| a zip or tar to write  | as OSFS, until the library packs its temporary directory when the file system is closed  |
| others                 | staged here, handed over as a whole at `sync` and when they are closed                   |
"""

from __future__ import annotations

import contextlib
import io
import os
import stat as stat_module
from collections.abc import Iterable, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from ...errors import Errno, FsError, MountError, Uncommitted
from ..base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat
from ..local.file import HOST_ERRORS, Idents, LocalHandle, kept_times, translate
from ..remote.client import fits_a_key
from ..trust import without_dots
from ..trust.pyfilesystem import check
from .handles import SharedFiles, set_times
from .package import Library, is_pyfilesystem, open_url

_RACES_MAX: Final = 8  # looks at a file that another process replaces while it is opened

# Their descriptors have the same contents.
_PLAIN_FILES: Final = (io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)

# Backends of one directory must give the same numbers, the kernel takes them for one store.
_idents_of_roots: WeakValueDictionary[tuple[int, int], Idents] = WeakValueDictionary()


class PyFilesystemBackend(Backend):
    """A directory of a PyFilesystem2 file system. Mutations that the store lacks: links (NOTSUP), and in stores of the
    third kind above the renaming of directories that are not empty (NOTSUP)."""

    def __init__(self, fs_or_url: Any, *, root: str = "", close: bool | None = None, trust: bool = False) -> None:
        """fs_or_url: an object, or an opener URL such as `mem://`, `osfs:///dir`, `zip://file.zip`, `temp://`.

        root: a directory in it. close: whether closing the backend closes the file system; by default if it was opened
        here. trust: it is not recognised, or the server follows links, and yet no link in it leads out of `root`, and
        it is no directory of this machine (see docs/trust.md).
        Raises MountError (cannot be opened, may not be mounted, a package is missing, no such directory), TypeError.
        """
        opened = isinstance(fs_or_url, str)
        fs = open_url(fs_or_url) if opened else fs_or_url
        if not is_pyfilesystem(fs):
            raise TypeError(f"a PyFilesystem2 object or an opener URL is needed, not {type(fs).__name__}")
        self._close_fs = opened if close is None else close
        try:
            anywhere = check(fs, "/" + without_dots(root).strip("/"), trust)
            self._library = Library(fs, tuple(name for name in root.split("/") if name))
            if not all(fits_a_key(name) for name in self._library.root):
                raise MountError(f"root={root!r} is no plain path in a file system")
            self._look_at_root(anywhere)
        except BaseException as error:
            with contextlib.suppress(Exception):
                if opened:
                    fs.close()
            if isinstance(error, FsError | OSError):
                detail = error.detail if isinstance(error, FsError) else type(error).__name__
                raise MountError(f"{type(fs).__name__} of PyFilesystem2: {detail or error}") from error
            raise

    def _look_at_root(self, anywhere: bool) -> None:
        library = self._library
        self._in_paths = library.kind == "paths"
        in_place = library.kind == "memory"
        info = library.call(library.fs.getinfo, library.path(()), namespaces=["basic", "details", "link"])
        if not info.is_dir:
            raise MountError(f"{library.path(())!r} is no directory in a {library.name}")
        self._with_link = library.may_have_paths or "link" in info.raw
        times = set((info.raw.get("details") or {}).get("_write") or ())
        library.sets_times = {"accessed", "modified"} <= times
        self.caps = Caps.EMPTY_DIRS | (Caps.IMMUTABLE if library.is_archive else Caps.SHARED)
        if not library.meta.get("read_only"):
            self.caps |= Caps.WRITE | Caps.RANDOM_WRITE
            if library.sets_times:
                self.caps |= Caps.SET_TIMES
            if self._in_paths or library.moves_directories:
                self.caps |= Caps.ATOMIC_RENAME
            if self._in_paths or in_place:
                self.caps |= Caps.HANDLE_SURVIVES_UNLINK | Caps.DURABLE_WRITES
        self._place = library.place
        if self._in_paths:
            path = library.syspath(()) or "/"
            self._place = ("local", *os.path.realpath(path).rstrip("/").split("/"))
            host = os.stat(path)
            self._idents = _idents_of_roots.setdefault((host.st_dev, host.st_ino), Idents(host.st_dev))
        self._identity = ("pyfilesystem", *self._place)
        if anywhere and not self._in_paths:  # as if it showed all of this machine
            self._place = ("local",)
        self._files = SharedFiles(library, in_place, self.identity)

    @property
    def identity(self) -> object:
        return self._identity

    @property
    def place(self) -> Key | None:
        return self._place

    # Looking

    def stat(self, key: Key) -> Stat:
        return self._look(key)[0]

    def _look(self, key: Key) -> tuple[Stat, str | None]:
        """(attributes, target if it is a link); no directory on the way is a link."""
        try:
            return self._look_straight(key)
        except FsError as error:
            if error.errno is Errno.INVAL:  # a name that it cannot have
                raise FsError(Errno.NOENT) from error
            if error.errno is Errno.NOENT and not self._in_paths and self._ends_early(key):
                raise FsError(Errno.NOTDIR) from error
            raise

    def _ends_early(self, key: Key) -> bool:
        """Whether there is something on the way to `key` that is no directory."""
        for count in range(len(key) - 1, 0, -1):
            try:
                return self._look_straight(key[:count])[0].filetype is not FileType.DIRECTORY
            except FsError as error:
                if error.errno not in (Errno.NOENT, Errno.INVAL):
                    raise
        return False

    def _look_straight(self, key: Key) -> tuple[Stat, str | None]:
        if self._with_link:
            host = self._host(key)
            if host is not None:
                if self._in_paths or stat_module.S_ISLNK(host.st_mode):
                    return self._host_stat(host), None
            elif key:
                self._check_ancestors(key)
        shared = self._files.at(key)
        if shared is not None and shared.dirty:
            return shared.stat(), None
        return self._library.info(key, self._with_link)

    def _check_ancestors(self, key: Key) -> None:
        """For stores that have links of their own. Raises NOENT, NOTDIR."""
        for count in range(1, len(key)):
            if self._library.info(key[:count], True)[0].filetype is not FileType.DIRECTORY:
                raise FsError(Errno.NOTDIR)

    def _host(self, key: Key) -> os.stat_result | None:
        """lstat(2) of what lies in the operating system's tree; None for what does not. Raises NOENT, NOTDIR (a link
        or a file on the way), ACCES, IO."""
        path = self._library.syspath(key)
        if path is None:
            return None
        above: list[str] = []
        at = path
        for name in reversed(key):
            at, last = os.path.split(at)
            if last != name:  # where another file system begins
                break
            above.append(at)
        try:
            for directory in reversed(above[:-1]):  # what holds them all was chosen by the user
                if not stat_module.S_ISDIR(os.lstat(directory).st_mode):
                    raise FsError(Errno.NOTDIR)
            return os.lstat(path) if key else os.stat(path)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def _host_stat(self, host: os.stat_result) -> Stat:
        if self._in_paths:
            return self._idents.stat(host)
        return Stat(FileType.SYMBOLIC_LINK, host.st_size, host.st_atime_ns, host.st_mtime_ns, host.st_ctime_ns)

    def list(self, key: Key) -> Iterable[DirEntry]:
        self._directory(key)
        library = self._library
        found: dict[str, DirEntry] = {}
        if not library.may_have_paths:
            for name, filetype in library.entries(key, self._with_link):
                if fits_a_key(name):
                    found.setdefault(name, DirEntry(name, filetype))
            return list(found.values())
        # `scandir` of OSFS ends at the first link that leads nowhere.
        for name in library.call(library.fs.listdir, library.path(key)):
            if fits_a_key(name):
                try:
                    stat = self.stat((*key, name))
                except FsError as error:
                    if error.errno in (Errno.NOENT, Errno.NOTDIR, Errno.LOOP):
                        continue  # gone meanwhile, or a link that leads nowhere in a store that only follows them
                    raise
                found[name] = DirEntry(name, stat.filetype, stat.ident)
        return list(found.values())

    def readlink(self, key: Key) -> str:
        stat, target = self._look(key)
        if stat.filetype is not FileType.SYMBOLIC_LINK:
            raise FsError(Errno.INVAL)
        if target is None:
            try:
                target = os.readlink(self._library.syspath(key) or "")
            except HOST_ERRORS as error:
                raise translate(error) from error
        try:
            target.encode()
        except UnicodeEncodeError as error:
            raise FsError(Errno.ILSEQ) from error
        return target

    # Files

    def open(self, key: Key, write: bool) -> Handle:
        for _ in range(_RACES_MAX):
            stat = self.stat(key)
            if stat.filetype is FileType.DIRECTORY:
                raise FsError(Errno.ISDIR)
            if stat.filetype is FileType.SYMBOLIC_LINK:
                raise FsError(Errno.LOOP)
            if stat.filetype is not FileType.REGULAR_FILE:
                raise FsError(Errno.ACCES, "neither a file nor a directory")
            if write:
                self._check_writable()
            if not self._in_paths:
                return self._files.open(key, stat, write)
            handle = self._descriptor(key, "r+b" if write else "rb")
            if handle.ident() == stat.ident:
                return handle
            handle.close()
        raise FsError(Errno.IO, "the file keeps being replaced")

    def _descriptor(self, key: Key, mode: str) -> LocalHandle:
        """A file of the operating system, opened by the library."""
        library = self._library
        file = library.call(library.fs.openbin, library.path(key), mode, 0)
        try:
            if type(file) not in _PLAIN_FILES:
                raise FsError(Errno.NOTSUP, f"{library.name} opens no plain files")
            fd = os.dup(file.fileno())
        except OSError as error:
            raise translate(error) from error
        finally:
            library.call(file.close)
        return LocalHandle(fd, mode != "rb", self._idents)

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        return self._files.take_uncommitted()

    # Changing

    def _check_writable(self) -> None:
        if Caps.WRITE not in self.caps:
            raise FsError(Errno.ROFS)

    def _directory(self, key: Key) -> None:
        if self.stat(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)

    def _there(self, key: Key) -> Stat | None:
        try:
            return self.stat(key)
        except FsError as error:
            if error.errno is Errno.NOENT:
                return None
            raise

    def _check_free(self, key: Key) -> str:
        """The path of an object to be made. Raises ROFS, EXIST, NOENT, NOTDIR."""
        self._check_writable()
        if not key:
            raise FsError(Errno.EXIST)
        self._directory(key[:-1])
        if self._there(key) is not None:
            raise FsError(Errno.EXIST)
        return self._library.path(key)

    def create(self, key: Key) -> Handle:
        with self._files.lock:
            path = self._check_free(key)
            library = self._library
            if self._in_paths:
                return self._descriptor(key, "x+b")
            library.call(library.call(library.fs.openbin, path, "xb").close)
            if self._there(key) is None:  # FTPFS makes no file before there is something to write
                library.call(library.fs.upload, path, io.BytesIO())
            return self._files.open(key, self.stat(key), True)

    def mkdir(self, key: Key) -> None:
        with self._files.lock:
            path = self._check_free(key)
            self._library.call(self._library.fs.makedir, path)

    def rmdir(self, key: Key) -> None:
        self._check_writable()
        if not key:
            raise FsError(Errno.BUSY)
        with self._files.lock:
            self._directory(key)
            self._check_empty(key)
            self._library.call(self._library.fs.removedir, self._library.path(key))

    def _check_empty(self, key: Key) -> None:
        library = self._library
        if library.call(library.fs.listdir, library.path(key)):
            raise FsError(Errno.NOTEMPTY)

    def remove(self, key: Key) -> None:
        self._check_writable()
        with self._files.lock:
            if self.stat(key).filetype is FileType.DIRECTORY:
                raise FsError(Errno.ISDIR)
            self._library.call(self._library.fs.remove, self._library.path(key))
            self._files.unlinked(key)

    def rename(self, old: Key, new: Key) -> None:
        self._check_writable()
        if not old or not new:
            raise FsError(Errno.BUSY)
        with self._files.lock:
            filetype = self.stat(old).filetype
            is_directory = filetype is FileType.DIRECTORY
            self._directory(new[:-1])
            if old == new:
                return
            if new[: len(old)] == old:
                raise FsError(Errno.INVAL)
            same = self._files.slot(old) == self._files.slot(new)
            target = None if same else self._there(new)
            if target is not None:
                if is_directory and target.filetype is not FileType.DIRECTORY:
                    raise FsError(Errno.NOTDIR)
                if not is_directory and target.filetype is FileType.DIRECTORY:
                    raise FsError(Errno.ISDIR)
                if is_directory:
                    self._check_empty(new)
            filetypes = filetype, FileType.UNKNOWN if target is None else target.filetype
            if FileType.SYMBOLIC_LINK in filetypes and not self._in_paths:
                raise FsError(Errno.NOTSUP, "the library would copy what is behind the link")
            self._move(old, new, is_directory, target)
            if target is not None and not is_directory:
                self._files.unlinked(new)
            self._files.renamed(old, new)

    def _move(self, old: Key, new: Key, is_directory: bool, target: Stat | None) -> None:
        library = self._library
        if self._in_paths:
            try:  # the library's way would copy directories
                os.rename(library.syspath(old) or "", library.syspath(new) or "")
            except HOST_ERRORS as error:
                if isinstance(error, FileExistsError):
                    raise FsError(Errno.NOTEMPTY) from error
                raise translate(error) from error
            return
        paths = library.path(old), library.path(new)
        if not is_directory:
            shared = self._files.at(old)
            if shared is not None:
                shared.publish()
            library.call(library.fs.move, *paths, overwrite=True)
        elif library.moves_directories:
            library.call(library.move_directory, *paths)
        else:
            if library.call(library.fs.listdir, paths[0]):
                raise FsError(Errno.NOTSUP, f"{library.name} would copy the directory")
            if target is None:
                library.call(library.fs.makedir, paths[1])
            library.call(library.fs.removedir, paths[0])

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        self._check_writable()
        if Caps.SET_TIMES not in self.caps:
            raise FsError(Errno.NOTSUP)
        host = self._host(key) if self._in_paths else None
        if host is not None:
            try:
                path = self._library.syspath(key) or ""
                os.utime(path, ns=kept_times(host, atim_ns, mtim_ns), follow_symlinks=not key)
            except HOST_ERRORS as error:
                raise translate(error) from error
            return
        if self.stat(key).filetype is FileType.SYMBOLIC_LINK:
            raise FsError(Errno.NOTSUP, "the library would follow the link")
        try:
            set_times(self._library, key, atim_ns, mtim_ns)
        except FsError as error:
            if error.errno is Errno.NOENT and not key:  # MemoryFS: its root has none to set
                raise FsError(Errno.NOTSUP) from error
            raise

    def close(self) -> None:
        self._library.close(self._close_fs)
