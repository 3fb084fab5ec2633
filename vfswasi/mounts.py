"""From whatever the user passed as a preopen to a backend.

| source                                | becomes                                                   |
|---------------------------------------|-----------------------------------------------------------|
| `{"a.txt": b"..", "sub": {}}`         | a memory tree, made anew for each run, writable           |
| `"mem:"`                              | an empty memory tree, likewise                            |
| a path or `PathLike` to a directory   | that directory, live                                      |
| a path to a zip archive               | its contents                                              |
| `zip:///abs.zip`, `zip://rel.zip`     | its contents                                              |
| `zip://inner/dir::TARGET`, `zip://*::TARGET` | a directory inside the archive TARGET: a path, or a URL for fsspec |
| `file:///dir`                         | that directory                                            |
| a `Backend`                           | itself; the caller keeps and closes it                    |
| `Mount(source, rw=..)`                | the source with options                                   |

Memory trees are writable, everything else is read-only until `rw=True` says otherwise.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from .errors import MountError
from .fs_backends.base import Backend, Caps
from .fs_backends.local import LocalBackend
from .fs_backends.memory import MemoryBackend
from .fs_backends.readonly import ReadOnly
from .fs_backends.zip import ZipBackend
from .kernel.process import Preopen

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Backend | Mount"

OPTIONS: Final = ("rw", "ro", "overlap")


@dataclass(frozen=True, slots=True)
class Mount:
    """A source with options.

    rw: whether the guest may change it; None means the source's default (memory trees: yes, all else: no).
    overlap: allow that another mount shows the same directory, or one inside it, with other permissions.
    """

    source: str | os.PathLike[str] | Mapping[str, Any] | Backend
    rw: bool | None = None
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.rw is not None and not isinstance(self.rw, bool):
            raise TypeError(f"Mount(rw=...) must be True or False, not {self.rw!r}")
        if isinstance(self.source, Mount):
            raise TypeError("Mount(...) takes a source, not another Mount")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One mount, ready to be given to runs."""

    name: str
    readonly: bool
    backend: Backend | None  # None: `tree` is made anew for each run
    tree: Mapping[str, Any] | None
    root: str | None  # the real path of a local directory
    owned: bool
    overlap: bool


class MountTable:
    """The preopens of a sandbox: opened once, given to every run."""

    def __init__(self, preopens: Mapping[str, Source] | None) -> None:
        """`preopens`: guest directory -> source, in the order in which the guest gets them.

        Raises MountError (missing, corrupt, twice, overlapping), TypeError, ValueError.
        """
        self._mounts: list[_Prepared] = []
        if preopens is None:
            return
        if not isinstance(preopens, Mapping):
            raise TypeError(f"preopens must map guest directories to sources, not {type(preopens).__name__}")
        try:
            for name, source in preopens.items():
                self._add(name, source)
        except BaseException:
            self.close()
            raise

    def _add(self, name: str, source: Source) -> None:
        name = guest_name(name)
        if any(mount.name == name for mount in self._mounts):
            raise MountError(f"mount {name!r}: given twice; each guest directory can have one source")
        prepared = _prepare(name, source)
        self._mounts.append(prepared)  # before the check, so that close() finds it
        for other in self._mounts[:-1]:
            if _conflict(prepared, other):
                raise MountError(
                    f"mount {name!r}: shows the same directories as mount {other.name!r} with other permissions; "
                    "use Mount(..., overlap=True) or the option overlap if that is meant"
                )

    def instantiate(self) -> list[Preopen]:
        """The preopens of one run; literal trees are copied into new stores."""
        preopens = []
        for mount in self._mounts:
            backend = mount.backend if mount.backend is not None else MemoryBackend(mount.tree)
            preopens.append(Preopen(mount.name, ReadOnly(backend) if mount.readonly else backend, mount.readonly))
        return preopens

    def close(self) -> None:
        """Close the backends that were opened here."""
        for mount in self._mounts:
            if mount.owned and mount.backend is not None:
                mount.backend.close()
        self._mounts = []

    def __iter__(self) -> Iterator[str]:
        return (mount.name for mount in self._mounts)


def guest_name(name: object) -> str:
    """The guest's name of a preopen, without trailing slashes. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"a guest directory must be a str, not {type(name).__name__}")
    if not name or "\0" in name:
        raise ValueError(f"a guest directory must be a non-empty path without NUL, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a guest directory must be valid Unicode, not {name!r}") from None
    return name.rstrip("/") or "/"


def _conflict(one: _Prepared, other: _Prepared) -> bool:
    if one.readonly == other.readonly or one.overlap or other.overlap:
        return False
    if one.backend is not None and other.backend is not None and one.backend.identity == other.backend.identity:
        return True
    if one.root is None or other.root is None:
        return False
    common = os.path.commonpath([one.root, other.root])
    return common in (one.root, other.root)


def _prepare(name: str, source: Source) -> _Prepared:
    mount = source if isinstance(source, Mount) else Mount(source)
    given = mount.source
    if isinstance(given, str) and given == "mem:":
        given = {}
    if isinstance(given, Mapping):
        MemoryBackend(given)  # a mistake in the literal shows now, not at the first run
        return _Prepared(name, mount.rw is False, None, given, None, False, mount.overlap)
    try:
        backend, root = _open(given)
    except MountError as error:
        raise MountError(f"mount {name!r}: {error}") from error
    writable = Caps.WRITE in backend.caps
    if mount.rw and not writable:
        if backend is not given:
            backend.close()
        raise MountError(f"mount {name!r}: {_shown(given)} can only be read; mount it without rw")
    rw = mount.rw if mount.rw is not None else isinstance(given, MemoryBackend)
    return _Prepared(name, not rw, backend, None, root, backend is not given, mount.overlap)


def _shown(source: object) -> str:
    return repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else type(source).__name__


def open_source(source: Source) -> Backend:
    """The backend for a source of any kind, outside of any run; the caller closes it. Raises MountError, TypeError."""
    mount = source if isinstance(source, Mount) else Mount(source)
    given: Any = {} if mount.source == "mem:" else mount.source
    return MemoryBackend(given) if isinstance(given, Mapping) else _open(given)[0]


def _open(source: object) -> tuple[Backend, str | None]:
    """(backend, real path if it is a local directory)."""
    if isinstance(source, Backend):
        return source, None
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        raise TypeError(
            "a mount's source must be a path, a URL, a dict, a Backend or a Mount, not " + type(source).__name__
        )
    if not source or "\0" in source:
        raise MountError("the source is empty" if not source else "the source contains a NUL character")
    if source.startswith("zip://"):
        return _open_zip(source), None
    if source.startswith("file://"):
        parts = urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise MountError(f"{source!r}: a file URL must name a path of this machine: file:///dir")
        source = unquote(parts.path)
    elif "://" in source or "::" in source:
        scheme = source.split("://")[0].split("::")[0]
        raise MountError(
            f"{source!r}: {scheme!r} is not a kind of source; use a path, zip://, file://, mem: or a Backend object"
        )
    return _open_path(source)


def _open_path(path: str) -> tuple[Backend, str | None]:
    try:
        if os.path.isfile(path):
            if not zipfile.is_zipfile(path):
                raise MountError(f"{path!r} is a file, neither a directory nor a zip archive")
            return ZipBackend(path), None
        return LocalBackend(path), os.path.realpath(path)
    except FileNotFoundError:
        raise MountError(f"{path!r} does not exist; create the directory or correct the path") from None
    except OSError as error:
        raise MountError(f"{path!r} cannot be opened: {error.strerror or error}") from error


def _open_zip(source: str) -> Backend:
    rest = source.removeprefix("zip://")
    inner, chained, target = rest.partition("::")
    if not chained:
        inner, target = "", rest
    root = "" if inner == "*" else inner.strip("/")
    if not target:
        raise MountError(f"{source!r} names no archive; write zip:///path/to/archive.zip")
    if target.startswith("file://"):
        target = unquote(urlsplit(target).path)
    if "://" in target or "::" in target:
        return ZipBackend.open_url(target, root=root)
    return ZipBackend(target, root=root)


def parse_mount(text: str) -> tuple[str, Mount]:
    """`GUEST=SOURCE[,option...]` of the command line; a comma in the source is written twice.

    Raises ValueError with one line that says what is wrong.
    """
    guest, equals, rest = text.partition("=")
    if not equals or not guest or not rest:
        raise ValueError(f"{text!r} is not GUEST=SOURCE[,option...], such as /data=./corpus or /out=./results,rw")
    source, *options = rest.replace(",,", "\0").split(",")
    rw: bool | None = None
    overlap = False
    for option in options:
        if option == "rw":
            rw = True
        elif option == "ro":
            rw = False
        elif option == "overlap":
            overlap = True
        else:
            shown = option.replace("\0", ",")
            raise ValueError(
                f"mount {guest!r}: there is no option {shown!r}; the options are {', '.join(OPTIONS)} "
                "(a comma in the source is written twice)"
            )
    return guest_name(guest), Mount(source.replace("\0", ","), rw=rw, overlap=overlap)
