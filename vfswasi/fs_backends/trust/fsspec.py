"""Which file systems of fsspec are recognised, what they forward to, and what is mounted of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ...errors import MountError
from ...printing import shown
from ..base import Key
from . import (
    CONTENTS,
    FILES,
    MEMORY,
    OBJECTS,
    PAGES,
    SERVER,
    UNKNOWN,
    Nature,
    described,
    exact,
    leads_to_this_machine,
    names_below,
    refuse_unknown,
    shown_as,
)

_HERE = "fsspec.implementations."

S3: Final = "s3fs.S3FileSystem"

# The name under which a package shows the class -> what it is.
NATURES: Final[dict[str, Nature]] = {
    f"{_HERE}memory.MemoryFileSystem": MEMORY,
    S3: OBJECTS,
    "gcsfs.GCSFileSystem": OBJECTS,
    "gcsfs.core.GCSFileSystem": OBJECTS,
    "adlfs.AzureBlobFileSystem": OBJECTS,
    "ocifs.OCIFileSystem": OBJECTS,
    "ossfs.OSSFileSystem": OBJECTS,
    "tosfs.TosFileSystem": OBJECTS,
    "huggingface_hub.HfFileSystem": FILES,
    f"{_HERE}http.HTTPFileSystem": PAGES,
    f"{_HERE}zip.ZipFileSystem": CONTENTS,
    f"{_HERE}tar.TarFileSystem": CONTENTS,
    f"{_HERE}libarchive.LibArchiveFileSystem": CONTENTS,
    f"{_HERE}git.GitFileSystem": CONTENTS,
    f"{_HERE}github.GithubFileSystem": CONTENTS,
    f"{_HERE}gist.GistFileSystem": CONTENTS,
    f"{_HERE}data.DataFileSystem": CONTENTS,
    f"{_HERE}ftp.FTPFileSystem": SERVER,
    f"{_HERE}sftp.SFTPFileSystem": SERVER,
}
LOCAL: Final = f"{_HERE}local.LocalFileSystem"
CACHES: Final = tuple(
    f"{_HERE}cached.{name}" for name in ("CachingFileSystem", "WholeFileCacheFileSystem", "SimpleCacheFileSystem")
)
DIRECTORY: Final = f"{_HERE}dirfs.DirFileSystem"
ASYNC: Final = f"{_HERE}asyn_wrapper.AsyncFileSystemWrapper"
ARROW: Final = f"{_HERE}arrow.ArrowFSWrapper"
REFERENCE: Final = f"{_HERE}reference.ReferenceFileSystem"
GENERIC: Final = "fsspec.generic.GenericFileSystem"
_ARROW_OBJECTS: Final = ("pyarrow.fs.S3FileSystem", "pyarrow.fs.GcsFileSystem", "pyarrow.fs.AzureFileSystem")

# What says where and how long a cache of fsspec keeps its copies. It may be left out with the cache; anything else may
# change what is read.
_ABOUT_COPIES: Final = frozenset(
    {
        "cache_storage",
        "cache_check",
        "check_files",
        "expiry_time",
        "same_names",
        "cache_mapper",
        "cache_storage_mode",
    }
)
_FORWARDS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Directory:
    """The directory `below` the one at `path` of this machine; no link leads to it."""

    path: str
    below: Key = ()


@dataclass(frozen=True, slots=True)
class Store:
    """`path` of `fs`, which is what its nature says. `anywhere`: it stands over some directory of this machine."""

    fs: Any
    path: str
    nature: Nature
    anywhere: bool = False


def nature_of(fs: object) -> Nature | None:
    """None: not recognised."""
    return next((nature for name, nature in NATURES.items() if exact(fs, name)), None)


def is_cache(cls: Any) -> bool:
    """Whether a class is one of those of fsspec that keep copies of another store, or show it as it is."""
    return any(shown_as(cls, name) for name in (*CACHES, DIRECTORY))


def without_cache(scheme: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The storage options of a chained URL whose first part, a cache, is left out. Raises MountError."""
    left = dict(options or {})
    own = left.pop(scheme, None)
    for name in own if isinstance(own, Mapping) else ():
        if name not in _ABOUT_COPIES:
            raise MountError(f"{scheme}:: with the option {name} may show something else; mount what it stands before")
    return left


def resolved(
    fs: Any, path: str, below: Key = (), *, reference: bool = False, trust: bool = False, one_file: bool = False
) -> Directory | Store:
    """What is mounted of a file system of fsspec: `path`, as the file system spells it, or what is `below` that.

    reference: the index of a reference file system is trusted. trust: so is a store that is not recognised, and a
    server that follows links. one_file: only one file there will be read, which the caller has named.

    Raises MountError: what stands there may not be mounted, or `path` is no URL.
    """
    try:
        return _resolved(fs, path, below, reference, trust, one_file)
    except ValueError as error:  # of the standard library's parser of URLs, or the store's own
        raise MountError(f"{shown(path)} is no URL: {type(error).__name__}") from error


def _resolved(fs: Any, path: str, below: Key, reference: bool, trust: bool, one_file: bool) -> Directory | Store:
    for _ in range(_FORWARDS_MAX):
        if getattr(fs, "asynchronous", False) and not exact(fs, ASYNC):
            raise MountError(
                f"a file system of fsspec made with asynchronous=True cannot be mounted ({described(fs)}); make it "
                "without"
            )
        if exact(fs, LOCAL):
            if not path:
                raise MountError("a local file system object needs Mount(fs, root=DIRECTORY)")
            return Directory(os.path.abspath(str(fs._strip_protocol(path))), below)
        if any(exact(fs, name) for name in CACHES):
            if getattr(fs, "compression", None) is not None:
                raise MountError(f"{described(fs)} with compression cannot be mounted; mount the store behind it")
            fs, path = fs.fs, _bare(type(fs), path)
        elif exact(fs, DIRECTORY):
            below = (*_below(fs, path), *below)
            fs, path = fs.fs, str(fs.path or "")
        elif exact(fs, ASYNC):
            fs, path = fs.sync_fs, _bare(type(fs), path)
        elif exact(fs, ARROW):
            inner, path = fs.fs, _bare(type(fs), path)
            while exact(inner, "pyarrow.fs.SubTreeFileSystem"):
                below = (*names_below(path.strip("/")), *below)
                inner, path = inner.base_fs, str(inner.base_path)
            if exact(inner, "pyarrow.fs.PyFileSystem") and exact(inner.handler, "pyarrow.fs.FSSpecHandler"):
                fs = inner.handler.fs
            elif exact(inner, "pyarrow.fs.LocalFileSystem"):
                if not path:
                    raise MountError("a local file system object needs Mount(fs, root=DIRECTORY)")
                return Directory(os.path.abspath(path), below)
            else:
                return narrowed(_of_arrow(type(fs)(inner), path, trust), below)
        else:
            store = _store(fs, path, below, reference, trust, one_file)
            return narrowed(store, below)
    raise MountError(f"{described(fs)}: more than {_FORWARDS_MAX} file systems stand one above the other")


def _below(fs: Any, path: str) -> Key:
    """The names of a path in a DirFileSystem, which takes no part of it for a protocol or for the root."""
    return names_below(_bare(type(fs), path).strip("/"))


def _store(fs: Any, path: str, below: Key, reference: bool, trust: bool, one_file: bool) -> Store:
    if exact(fs, GENERIC):
        raise MountError("a GenericFileSystem stands for every other store; mount the URL itself")
    if exact(fs, REFERENCE):
        if not reference:
            raise MountError(
                "the index of a reference file system may name any other place, this machine's files too; mount it "
                "with the option reference if you trust it"
            )
        return Store(fs, path, CONTENTS)
    nature = nature_of(fs)
    if nature is None:
        if not trust and not one_file:
            raise refuse_unknown(fs)
        return Store(fs, path, replace(UNKNOWN, walked=not one_file), leads_to_this_machine(fs))
    if one_file:  # whoever named it may have meant what a link leads to
        nature = replace(nature, walked=False)
    whole = not below and str(fs._strip_protocol(path)) == "/"
    if nature.resolves and not (trust or one_file or whole):
        part = _joined(path, "/".join(below))
        raise MountError(
            f"{described(fs)}: the server follows links, so nothing keeps a program below {part!r}; mount the whole "
            "server (a path of /), or say trust=True (the option trust) if no link there leads out"
        )
    return Store(fs, path, nature)


def _of_arrow(fs: Any, path: str, trust: bool) -> Store:
    if any(exact(fs.fs, name) for name in _ARROW_OBJECTS):
        return Store(fs, path, OBJECTS)
    if not trust:
        raise refuse_unknown(fs.fs)
    return Store(fs, path, UNKNOWN, leads_to_this_machine(fs.fs))


def _bare(cls: Any, path: str) -> str:
    """The path without the protocol of the class it was given to."""
    protocols = getattr(cls, "protocol", ())
    for protocol in (
        (protocols,) if isinstance(protocols, str) else tuple(protocols) if isinstance(protocols, tuple) else ()
    ):
        for separator in ("://", "::"):
            path = path.removeprefix(protocol + separator)
    return path


def _joined(directory: str, below: str) -> str:
    below = below.strip("/")
    return f"{directory.rstrip('/')}/{below}" if below else directory


def narrowed(store: Store, below: Key) -> Store:
    """The directory `below` of the store's path."""
    if not below:
        return store
    path = _joined(store.path, "/".join(below))
    if store.nature is PAGES:
        parts = urlsplit(store.path)
        path = parts._replace(path=_joined(parts.path, "/".join(quote(name, safe="") for name in below))).geturl()
    return Store(store.fs, path, store.nature, store.anywhere)
