"""What may be mounted, as types: for those who check their programs with mypy or pyright."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, Union

from ...fs_backends.base import Backend
from ..options import Mount


# Libraries that are mounted may not be installed, and fsspec tells no types: each is known by what else has not.
class FsspecFileSystem(Protocol):
    """A file system of fsspec."""

    @property
    def protocol(self) -> Any: ...

    @property
    def cat_file(self) -> Any: ...


class UniversalPath(Protocol):
    """A path of universal_pathlib."""

    @property
    def fs(self) -> Any: ...

    @property
    def path(self) -> Any: ...

    @property
    def protocol(self) -> Any: ...


class PyFilesystem(Protocol):
    """A file system of PyFilesystem2."""

    @property
    def openbin(self) -> Any: ...

    @property
    def scandir(self) -> Any: ...

    @property
    def getinfo(self) -> Any: ...


# The values in a tree have no type: mypy takes a dict of bytes and dicts that stands in a variable for one of objects.
Source: TypeAlias = Union[
    str, "os.PathLike[str]", Mapping[str, Any], Backend, Mount, FsspecFileSystem, UniversalPath, PyFilesystem
]
Preopens: TypeAlias = Mapping[str, Source]
