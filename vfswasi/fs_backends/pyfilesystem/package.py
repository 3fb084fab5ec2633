"""PyFilesystem2 as a foreign library: opening its URLs, calling it, and what its exceptions mean.

Nothing here imports `fs` before somebody gives an opener URL: an object is recognised by its methods, and an exception
by the names of its classes, so the maintained forks of the library work as the original does.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from ...errors import Errno, FsError, MountError
from ...optional import packages
from .. import waiting
from ..base import FileType, Key, Stat
from ..layers.checked import SIZE_MAX, fits_a_key, whole_number
from ..local.file import translate
from ..remote.translate import scrubbed, stand_in, translated

_HINTS: Final = {
    "pkg_resources": 'its version needs an older setuptools: pip install "setuptools<82", or a fork: '
    "pip install fs-next"
}

_METHODS: Final = ("openbin", "getinfo", "scandir", "getmeta")

# Wrappers of the library that change nothing but names or permissions.
_TRANSPARENT: Final = frozenset(
    {"WrapFS", "SubFS", "ClosingSubFS", "WrapReadOnly", "WrapCachedDir", "WriteZipFS", "WriteTarFS"}
)

_CLASSES: Final = {
    "ResourceNotFound": Errno.NOENT,
    "FileExists": Errno.EXIST,
    "DirectoryExists": Errno.EXIST,
    "DestinationExists": Errno.EXIST,
    "FileExpected": Errno.ISDIR,
    "DirectoryExpected": Errno.NOTDIR,
    "DirectoryNotEmpty": Errno.NOTEMPTY,
    "ResourceReadOnly": Errno.ROFS,
    "ResourceLocked": Errno.BUSY,
    "RemoveRootError": Errno.BUSY,
    "PermissionDenied": Errno.ACCES,
    "InsufficientStorage": Errno.NOSPC,
    "MemoryError": Errno.NOSPC,
    "Unsupported": Errno.NOTSUP,
    "UnsupportedOperation": Errno.NOTSUP,
    "NoSysPath": Errno.NOTSUP,
    "InvalidCharsInPath": Errno.INVAL,
    "IllegalBackReference": Errno.INVAL,
    "InvalidPath": Errno.NAMETOOLONG,  # raised for nothing but its length
}

# Of a file whose size the store does not tell, and which cannot seek.
COUNTED_MAX_BYTES: Final = 1 << 30
_COUNT_BYTES: Final = 1 << 16

_FILETYPES: Final = {
    1: FileType.DIRECTORY,
    2: FileType.REGULAR_FILE,
    3: FileType.CHARACTER_DEVICE,
    4: FileType.BLOCK_DEVICE,
    5: FileType.UNKNOWN,  # a FIFO
    6: FileType.SOCKET_STREAM,
    7: FileType.SYMBOLIC_LINK,
}


def is_pyfilesystem(obj: object) -> bool:
    """Whether an object is a file system of PyFilesystem2 or one of its forks."""
    return not isinstance(obj, type) and all(callable(getattr(obj, name, None)) for name in _METHODS)


def open_url(url: str) -> Any:
    """What an opener URL stands for. Raises MountError, which never shows more of the URL than its protocol."""
    try:
        return _open_url(url)
    except MountError as error:
        scrubbed(error)
        raise


def _open_url(url: str) -> Any:
    protocol, separator, _ = url.partition("://")
    if not separator or not protocol:
        raise MountError("a URL of PyFilesystem2 begins with a protocol, such as mem:// or osfs://")
    shown = f"the PyFilesystem2 URL {protocol}://..."
    with packages(shown, "pyfilesystem", _HINTS):
        import fs
    try:
        with packages(shown):
            return fs.open_fs(url)
    except MountError:
        raise
    except Exception as error:
        if "UnsupportedProtocol" in _class_names(error):
            raise MountError(
                f"{shown}: no installed package knows this protocol; install the one that does, such as fs-s3fs"
            ) from error
        raise MountError(f"{shown} cannot be opened: {type(error).__name__}") from error


def _class_names(obj: object) -> list[str]:
    return [cls.__name__ for cls in type(obj).__mro__]


def library_error(error: BaseException, what: str) -> FsError:
    """`what` was being done. The error of the system behind it says most, then the names of its classes."""
    if isinstance(error, FsError):
        return error
    inner = getattr(error, "exc", None)
    if isinstance(inner, OSError) and (found := translate(inner).errno) is not Errno.IO:
        return FsError(found, f"{what}: {type(error).__name__}")
    for name in _class_names(error):
        if name in _CLASSES:
            return FsError(_CLASSES[name], f"{what}: {type(error).__name__}")
    return translated(error, what)


class Library:
    """A PyFilesystem object, below the directory `root`.

    kind: "paths" where files are those of the operating system, under the same names; "memory" for MemoryFS; "other".
    """

    def __init__(self, fs: Any, root: Key) -> None:
        self._given = fs
        while type(fs).__name__ == "WrapCachedDir":  # it never forgets what it has seen, not even for its own changes
            fs = fs.delegate_fs()
        self.fs = fs
        self.root = root
        self.sets_times = False
        self.name = f"{type(fs).__name__} of PyFilesystem2"
        self._threads: waiting.Threads | None = None
        inner, path = fs, self.path(())
        transparent = True
        while hasattr(inner, "delegate_path"):
            transparent = transparent and type(inner).__name__ in _TRANSPARENT
            inner, path = inner.delegate_path(path)
        names = _class_names(inner)
        self.kind = "other"
        if transparent:
            self.kind = "paths" if "OSFS" in names else "memory" if "MemoryFS" in names else "other"
        self.is_archive = transparent and not {"ReadZipFS", "ReadTarFS"}.isdisjoint(names)
        self.place: Key = ("pyfilesystem", str(id(inner)), *(name for name in str(path).split("/") if name))
        # The file objects of an archive share one file below, whichever wrapper they were opened through.
        self._lock = inner.lock() if callable(getattr(inner, "lock", None)) else threading.RLock()

        def getmeta() -> dict[str, Any]:
            return dict(fs.getmeta())

        self.meta = self.call(getmeta)
        if self.meta.get("network"):
            self._threads = waiting.Threads(1, f"vfswasi {self.name}")
        # Elsewhere `movedir` copies what is in the directory.
        self.moves_directories = self.kind == "memory" and any(
            cls.__name__ == "MemoryFS" and "movedir" in vars(cls) for cls in type(inner).__mro__
        )
        getsyspath = getattr(type(inner), "getsyspath", None)
        self.may_have_paths = getattr(getsyspath, "__qualname__", "FS.getsyspath") != "FS.getsyspath"

    def path(self, key: Key) -> str:
        """The one place where a key becomes a path. No name in it is "." or ".." or holds a slash."""
        return "/" + "/".join((*self.root, *key))

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call the library, one call at a time; over a network on a thread, so that the run's deadline ends the wait.

        Raises FsError.
        """
        what = f"{self.name}: {getattr(function, '__name__', 'call')}"
        threads = self._threads
        if threads is not None:
            waiting.spend(requests=1)

        def locked() -> Any:
            with self._lock:
                return function(*args, **options)

        try:
            return locked() if threads is None else waiting.result(threads.submit(locked), None, what)
        except FsError:
            raise
        except Exception as error:
            failed = library_error(error, what)
            failed.__cause__ = stand_in(error)
        raise failed

    def syspath(self, key: Key) -> str | None:
        """Where the object lies in the operating system's tree; None if it does not."""
        if not self.may_have_paths:
            return None
        try:
            return str(self.call(self.fs.getsyspath, self.path(key)))
        except FsError as error:
            if error.errno is Errno.NOTSUP:
                return None
            raise

    def info(self, key: Key, with_link: bool) -> tuple[Stat, str | None]:
        """(attributes, target if it is a link) as `getinfo` tells them."""
        namespaces = ["basic", "details", "link"] if with_link else ["basic", "details"]

        def getinfo() -> tuple[Stat, str | None]:
            raw = self.fs.getinfo(self.path(key), namespaces=namespaces).raw
            stat, target = stat_of(raw)
            if stat.filetype is FileType.REGULAR_FILE and (raw.get("details") or {}).get("size") is None:
                stat = stat._replace(size=self._measured(self.path(key)))
            return stat, target

        found: tuple[Stat, str | None] = self.call(getinfo)
        return found

    def entries(self, key: Key, with_link: bool) -> list[tuple[str, FileType]]:
        """(name, type) of what is in a directory, as `scandir` tells it."""
        namespaces = ["basic", "details", "link"] if with_link else ["basic", "details"]

        def scandir() -> list[tuple[str, FileType]]:
            raws = [info.raw for info in self.fs.scandir(self.path(key), namespaces=namespaces)]
            found = []
            for raw in raws:
                with contextlib.suppress(Exception):  # what a store cannot mean is left out
                    if fits_a_key(name := raw["basic"]["name"]):
                        found.append((str(name), stat_of(raw)[0].filetype))
            return found

        found: list[tuple[str, FileType]] = self.call(scandir)
        return found

    def _measured(self, path: str) -> int:
        """Bytes of a file of which the store does not tell."""
        with self.fs.openbin(path, "r") as file:
            try:
                end = file.seek(0, os.SEEK_END)
                size = file.tell() if end is None else end
            except (OSError, ValueError, AttributeError):
                size = 0
                while data := file.read(_COUNT_BYTES):
                    size += len(data)
                    waiting.check_time(f"{self.name}: counting a file")
                    if size > COUNTED_MAX_BYTES:
                        raise FsError(Errno.FBIG, f"{self.name}: a file of unknown size is larger than 1 GiB") from None
        number = whole_number(size, 0, SIZE_MAX)
        if number is None:
            raise FsError(Errno.IO, f"{self.name}: a file has an impossible size")
        return number

    def move_directory(self, old: str, new: str) -> None:
        """In one step; an empty directory at `new` is replaced. Only where `moves_directories`."""
        self.fs.movedir(old, new, create=True)

    def close(self, close_fs: bool) -> None:
        """`close_fs`: the object too. Raises FsError: an archive could not be written."""
        try:
            if close_fs:
                self.call(self._given.close)
        finally:
            if self._threads is not None:
                self._threads.close()


def stat_of(raw: dict[str, Any]) -> tuple[Stat, str | None]:
    """(attributes, target if it is a link) from the raw form of an `Info`."""
    details = raw.get("details") or {}
    target = (raw.get("link") or {}).get("target")
    kind = details.get("type")
    filetype = _FILETYPES.get(kind) if isinstance(kind, int) else None
    if raw["basic"]["is_dir"]:
        filetype = FileType.DIRECTORY
    if target is not None:
        filetype = FileType.SYMBOLIC_LINK
    elif filetype is None or (filetype is FileType.DIRECTORY and not raw["basic"]["is_dir"]):
        filetype = FileType.REGULAR_FILE
    size = details.get("size")
    if target is not None:
        size = len(str(target).encode("utf-8", "surrogatepass"))
    elif filetype is FileType.DIRECTORY or size is None:
        size = 0
    elif whole_number(size, 0, SIZE_MAX) is None:
        raise FsError(Errno.IO, "a file has an impossible size")
    atim_ns, mtim_ns, ctim_ns = (
        nanoseconds(details.get(name)) for name in ("accessed", "modified", "metadata_changed")
    )
    return Stat(filetype, size, atim_ns, mtim_ns, ctim_ns), None if target is None else str(target)


def nanoseconds(seconds: object) -> int | None:
    """Seconds since 1970 in nanoseconds, or None for what is no number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        whole = int(seconds)
        return whole * 10**9 + round((seconds - whole) * 1e9)
    except (ValueError, OverflowError):  # not finite
        return None


def positional(file: Any) -> bool:
    """Whether a file object can be read anywhere."""
    try:
        return bool(file.seekable())
    except (AttributeError, io.UnsupportedOperation):
        return False
