"""A directory of the host, live: other processes may change it, and swap directories for links, at any time.

The root is pinned by a descriptor when the backend is made; no absolute path is used after that. A key holds
no links, so whoever meets a link on the way to an object meets a change made meanwhile, or an attack, and
stops. Two ways keep that true while the tree changes, and there is no third:

- `openat2` resolves the joined key in one call that refuses links inside the kernel;
- without it (other systems, old kernels, containers that filter it), each component is opened by itself,
  relative to the pinned descriptor of its parent, with O_NOFOLLOW.

A mutation pins the parent that way and then acts on the bare name relative to it; such calls do not follow
a link in their last component. No descriptor outlives the call: a pinned directory that was moved out
of the root would otherwise stay reachable.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Callable, Iterable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from ...errors import Errno, FsError
from ..base import Backend, Caps, DirEntry, Key, Stat
from .file import HOST_ERRORS, Idents, LocalHandle, kept_times, sync_descriptor, translate
from .listing import Lister
from .openat2 import open_how, openat2, openat2_works, try_openat2

_T = TypeVar("_T")

_PATH_MAX_BYTES: Final = 4096  # with the NUL, as the system counts


def _flag(*names: str) -> int:
    """Open flags by name; systems lack some, Windows most of them."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


# Neither a FIFO nor a terminal line may block the open or become the controlling terminal.
_SAFE: Final = _flag("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY")
_READ: Final = os.O_RDONLY | _SAFE
_WRITE: Final = os.O_RDWR | _SAFE
_CREATE: Final = _WRITE | os.O_CREAT | os.O_EXCL
_LIST: Final = _READ | _flag("O_DIRECTORY")
_PIN: Final = _flag("O_PATH", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_OBJECT: Final = _flag("O_PATH", "O_NOFOLLOW", "O_CLOEXEC")

_HOW: Final = {flags: open_how(flags) for flags in (_READ, _WRITE, _LIST, _PIN, _OBJECT)}
_HOW_OBJECT: Final = _HOW[_OBJECT]
_HOW_PIN: Final = _HOW[_PIN]
_MODE: Final = 0o600  # of new files
_HOW_CREATE: Final = open_how(_CREATE, _MODE)

# Backends of one directory must give the same numbers, the kernel takes them for one store.
_idents_of_roots: WeakValueDictionary[tuple[int, int], Idents] = WeakValueDictionary()


_NO_NAMES: Final = frozenset({"", ".", ".."})


def _bare(name: str) -> bytes:
    """One component for a call relative to its parent: the last wall against names that are paths."""
    if "/" in name or name in _NO_NAMES:
        raise ValueError("not a single name")
    return name.encode()


class LocalBackend(Backend):
    """The tree below the host directory `root`; a link at `root` itself is followed, the host chose it.

    `use_openat2`: None takes it where it works; True insists on it; False opens component by component. `below`: the
    names of a directory in it that is mounted instead, which no link leads to.
    Raises FileNotFoundError, NotADirectoryError, OSError (also on Windows).
    """

    caps = (
        Caps.WRITE
        | Caps.RANDOM_WRITE
        | Caps.EMPTY_DIRS
        | Caps.SYMLINKS
        | Caps.HARDLINKS
        | Caps.SET_TIMES
        | Caps.ATOMIC_RENAME
        | Caps.HANDLE_SURVIVES_UNLINK
        | Caps.DURABLE_WRITES
        | Caps.SHARED
    )

    def __init__(self, root: str | os.PathLike[str], *, use_openat2: bool | None = None, below: Key = ()) -> None:
        if not hasattr(os, "O_NOFOLLOW") or os.open not in os.supports_dir_fd:
            raise OSError(errno.ENOSYS, "local directories need a POSIX system", os.fspath(root))
        self._root = os.open(root, _PIN & ~os.O_NOFOLLOW)
        try:
            self._openat2 = openat2_works(self._root) if use_openat2 is None else use_openat2
            if use_openat2 and not openat2_works(self._root):
                raise OSError(errno.ENOSYS, "openat2 does not work here", os.fspath(root))
            if below:
                outer, self._root = self._root, self._pin(below)
                os.close(outer)
            host = os.fstat(self._root)
            place = (host.st_dev, host.st_ino)
            self._identity = ("local", *place)
            self._place = ("local", *os.path.realpath(root).rstrip("/").split("/"), *below)
            self._idents = _idents_of_roots.setdefault(place, Idents(host.st_dev))
            self._lister = Lister(self._root, self._idents)
        except BaseException:
            os.close(self._root)
            raise

    @property
    def identity(self) -> object:
        return self._identity

    @property
    def place(self) -> Key:
        return self._place

    def close(self) -> None:
        # From here on the number may belong to somebody else; -1 is no directory to any call.
        root, self._root = self._root, -1
        self._lister.close()
        os.close(root)

    # Looking

    def stat(self, key: Key) -> Stat:
        try:
            if len(key) == 1:
                host = os.stat(_bare(key[0]), dir_fd=self._root, follow_symlinks=False)
            elif not key:
                host = os.fstat(self._root)
            elif self._openat2 and len(path := "/".join(key).encode()) < _PATH_MAX_BYTES:
                return self._stat_and_close(openat2(self._root, path, _HOW_OBJECT))
            else:
                host = self._in_parent(key, _lstat)
            return self._idents.stat(host)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def _stat_and_close(self, fd: int) -> Stat:
        try:
            host = os.fstat(fd)
        finally:
            os.close(fd)
        return self._idents.stat(host)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        if not key and len(names) == 1:
            try:
                host = os.stat(_bare(names[0]), dir_fd=self._root, follow_symlinks=False)
            except FileNotFoundError:
                return 0, None
            except HOST_ERRORS as error:
                raise translate(error) from error
            return 1, self._idents.stat(host)
        try:
            if self._openat2 and names:
                # Two guesses of one call each: everything is there, or all but the last, which is new.
                fd = try_openat2(self._root, "/".join(key + names).encode(), _HOW_OBJECT)
                if fd >= 0:
                    return len(names), self._stat_and_close(fd)
                if fd == -errno.ENOENT:
                    if len(names) == 1:
                        return 0, None
                    fd = try_openat2(self._root, "/".join(key + names[:-1]).encode(), _HOW_PIN)
                    if fd >= 0:
                        return len(names) - 1, self._stat_and_close(fd)
            return self._walk_by_component(key, names)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def _walk_by_component(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        """The walk with a pinned descriptor for each directory."""
        try:
            fd = self._open(key, _PIN)
        except FileNotFoundError:
            return 0, None
        try:
            for count, name in enumerate(map(_bare, names)):
                try:
                    if count == len(names) - 1:
                        host = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        return len(names), self._idents.stat(host)
                    below = os.open(name, _PIN, dir_fd=fd)
                except FileNotFoundError:
                    return count, self._idents.stat(os.fstat(fd)) if count else None
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    host = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if stat_module.S_ISDIR(host.st_mode):
                        raise  # it became a directory meanwhile
                    return count + 1, self._idents.stat(host)
                os.close(fd)
                fd = below
            return 0, None
        finally:
            os.close(fd)

    def list(self, key: Key) -> Iterable[DirEntry]:
        try:
            fd = self._open(key, _LIST)
            try:
                return self._lister.entries(fd)
            finally:
                os.close(fd)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def readlink(self, key: Key) -> str:
        if not key:
            raise FsError(Errno.INVAL)
        try:
            return self._in_parent(key, lambda name, fd: os.readlink(name, dir_fd=fd)).decode()
        except HOST_ERRORS as error:
            raise translate(error) from error

    # Opening and pinning. These raise HOST_ERRORS; the public methods translate.

    def _open(self, key: Key, flags: int) -> int:
        """A descriptor for an existing object; `flags` is one of _READ, _WRITE, _LIST, _PIN."""
        if len(key) == 1:
            return os.open(_bare(key[0]), flags, dir_fd=self._root)
        if not key:
            return os.open(".", flags, dir_fd=self._root)
        if self._openat2:
            path = "/".join(key).encode()
            # The system takes no longer path in one call, but the key may well exist.
            if len(path) < _PATH_MAX_BYTES:
                return openat2(self._root, path, _HOW[flags])
        return self._in_parent(key, lambda name, fd: os.open(name, flags, dir_fd=fd))

    def _in_parent(self, key: Key, act: Callable[[bytes, int], _T]) -> _T:
        """Call `act` with the last name of `key` and a descriptor that pins its parent."""
        name = _bare(key[-1])
        if len(key) == 1:
            return act(name, self._root)
        fd = self._pin(key[:-1])
        try:
            return act(name, fd)
        finally:
            os.close(fd)

    def _pin(self, key: Key) -> int:
        """A descriptor that stands for the directory `key`, not `()`, whatever happens to its name."""
        if len(key) == 1:
            return os.open(_bare(key[0]), _PIN, dir_fd=self._root)
        if self._openat2:
            path = "/".join(key).encode()
            if len(path) < _PATH_MAX_BYTES:
                return openat2(self._root, path, _HOW_PIN)
        fd = os.open(_bare(key[0]), _PIN, dir_fd=self._root)
        for name in key[1:]:
            try:
                below = os.open(_bare(name), _PIN, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def open(self, key: Key, write: bool) -> LocalHandle:
        """See the protocol; what is neither a file nor a directory is ACCES, and opening it never blocks.

        A device is closed again at once; whoever wants it not even opened looks at `stat` first.
        """
        if not key:
            raise FsError(Errno.ISDIR)
        try:
            fd = self._open(key, _WRITE if write else _READ)
        except HOST_ERRORS as error:
            if isinstance(error, OSError) and error.errno in (errno.ENXIO, errno.ENODEV):
                raise FsError(Errno.ACCES, "neither a file nor a directory") from error
            raise translate(error) from error
        try:
            host = os.fstat(fd)
            mode = host.st_mode
            if stat_module.S_ISREG(mode):
                return LocalHandle(fd, write, self._idents, host)
            if stat_module.S_ISDIR(mode):
                raise FsError(Errno.ISDIR)
            raise FsError(Errno.ACCES, "neither a file nor a directory")
        except BaseException:
            os.close(fd)
            raise

    # Changing

    def create(self, key: Key) -> LocalHandle:
        if len(key) > 1 and self._openat2 and len(path := "/".join(key).encode()) < _PATH_MAX_BYTES:
            # Without a descriptor for the parent: the path is resolved and the file made in one call.
            try:
                fd = openat2(self._root, path, _HOW_CREATE)
            except HOST_ERRORS as error:
                raise translate(error) from error
        else:
            fd = self._change(key, Errno.EXIST, lambda name, parent: os.open(name, _CREATE, _MODE, dir_fd=parent))
        return LocalHandle(fd, True, self._idents)

    def mkdir(self, key: Key) -> None:
        self._change(key, Errno.EXIST, lambda name, fd: os.mkdir(name, 0o700, dir_fd=fd))

    def rmdir(self, key: Key) -> None:
        self._change(key, Errno.BUSY, lambda name, fd: os.rmdir(name, dir_fd=fd), Errno.NOTEMPTY)

    def remove(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.ISDIR, "the root")
        try:
            # As `_in_parent` does, in one step: the call in between takes 0.5 us, and programs remove what they make.
            if len(key) == 1:
                _unlink(_bare(key[0]), self._root)
                return
            fd = self._pin(key[:-1])
            try:
                _unlink(_bare(key[-1]), fd)
            finally:
                os.close(fd)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def symlink(self, target: str, key: Key) -> None:
        self._change(key, Errno.EXIST, lambda name, fd: os.symlink(target.encode(), name, dir_fd=fd))

    def rename(self, old: Key, new: Key) -> None:
        if not old:
            raise FsError(Errno.BUSY, "the root")

        def move(new_name: bytes, new_fd: int) -> None:
            self._in_parent(old, lambda name, fd: os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=new_fd))

        self._change(new, Errno.BUSY, move, Errno.NOTEMPTY)

    def link(self, old: Key, new: Key) -> None:
        if not old:
            raise FsError(Errno.PERM, "a directory")

        def add(new_name: bytes, new_fd: int) -> None:
            self._in_parent(
                old,
                lambda name, fd: os.link(name, new_name, src_dir_fd=fd, dst_dir_fd=new_fd, follow_symlinks=False),
            )

        self._change(new, Errno.EXIST, add)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        def touch(name: bytes, fd: int) -> None:
            times = kept_times(_lstat(name, fd), atim_ns, mtim_ns)
            os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

        try:
            if key:
                self._in_parent(key, touch)
            else:
                touch(b".", self._root)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def sync_directory(self, key: Key, data_only: bool) -> None:
        try:
            fd = self._open(key, _LIST)
            try:
                sync_descriptor(fd, data_only)
            finally:
                os.close(fd)
        except HOST_ERRORS as error:
            raise translate(error) from error

    def _change(self, key: Key, at_root: Errno, act: Callable[[bytes, int], _T], exists: Errno = Errno.EXIST) -> _T:
        """`_in_parent` for a mutator: `at_root` is its error for the root, which has no parent here, and
        `exists` what EEXIST means (POSIX lets rmdir and rename say so of a directory that is not empty)."""
        if not key:
            raise FsError(at_root, "the root")
        try:
            return self._in_parent(key, act)
        except HOST_ERRORS as error:
            if isinstance(error, FileExistsError):
                raise FsError(exists, str(error)) from error
            raise translate(error) from error


def _lstat(name: bytes, fd: int) -> os.stat_result:
    return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _unlink(name: bytes, fd: int) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except PermissionError as error:
        # POSIX has EPERM for directories, Linux EISDIR.
        if error.errno == errno.EPERM and stat_module.S_ISDIR(_lstat(name, fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
        raise
