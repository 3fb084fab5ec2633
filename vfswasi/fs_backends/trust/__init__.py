"""What a store of another library may be trusted with. One rule:

**A store that is not recognised by its very class follows links by itself, lies about names and sizes, and stands over
a directory of this machine.** So it is not mounted, unless whoever mounts it says that it does neither (`trust`).

Recognised is a class that its package shows under the name in our tables (`fsspec.py`, `pyfilesystem.py`); a subclass
is another class, and what an object says of itself (`protocol`) is not asked. Each has a `Nature`. What only forwards
to another store is not mounted at all: what it forwards to is, under the same rule.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ...errors import MountError
from ..base import Key
from ..remote.client import fits_a_key


@dataclass(frozen=True, slots=True)
class Nature:
    """What a kind of store does.

    about: in a few words, for the documentation. writes: it can be changed. in_process: it answers from this process.
    implied: a directory is nothing but a common beginning of names. walked: links are looked for, name by name, in its
    listings. resolves: the server follows links, so only the whole of it can be mounted, unless it is trusted.
    """

    about: str
    writes: bool = True
    in_process: bool = False
    implied: bool = False
    walked: bool = False
    resolves: bool = False


MEMORY: Final = Nature("in this process, without links", in_process=True)
OBJECTS: Final = Nature("objects under keys, without links", implied=True)
FILES: Final = Nature("files without links")
CONTENTS: Final = Nature("contents of an archive or a repository; a link in them is shown, not followed", writes=False)
PAGES: Final = Nature("what a web server publishes below a URL", writes=False)
# A request carries a whole path, and the server walks it.
SERVER: Final = Nature("a server that follows links", walked=True, resolves=True)
UNKNOWN: Final = Nature("not recognised", walked=True)

# Every one of these is a directory of this machine, whatever was made of it.
_LOCAL: Final = frozenset(
    {"fsspec.implementations.local.LocalFileSystem", "fs.osfs.OSFS", "pyarrow._fs.LocalFileSystem"}
)


def shown_as(cls: object, name: str) -> bool:
    """Whether a class is the one that its package calls `name`, such as "gcsfs.GCSFileSystem"."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None) is cls


def exact(obj: object, name: str) -> bool:
    """Whether the class of `obj` itself, not one above it, is the one that its package calls `name`."""
    return shown_as(type(obj), name)


def is_one_of(obj: object, names: Iterable[str]) -> bool:
    """Whether it is `exact` for any of them."""
    return any(exact(obj, name) for name in names)


def described(fs: object) -> str:
    """The class of a file system, for messages."""
    return f"{type(fs).__module__}.{type(fs).__qualname__}"


def refuse_unknown(fs: object) -> MountError:
    """The error for a store that is not recognised."""
    what = described(fs)
    if leads_to_this_machine(fs):
        return MountError(
            f"{what} stands over a directory of this machine and may follow links out of it; mount that directory by "
            "its path, or say trust=True (the option trust) if no link in it leads out"
        )
    return MountError(
        f"{what} is no file system that vfswasi knows: it may follow links out of what is mounted, or stand over a "
        "directory of this machine; mount what it forwards to, or say trust=True (the option trust) if it does neither"
    )


def leads_to_this_machine(fs: object, depth: int = 6) -> bool:
    """Whether a store is, or holds somewhere in its attributes, a file system of this machine's directories."""
    seen: set[int] = set()
    todo: list[object] = [fs]
    for _ in range(depth):
        found: list[object] = []
        for each in todo:
            if id(each) in seen:
                continue
            seen.add(id(each))
            if _LOCAL & {f"{cls.__module__}.{cls.__qualname__}" for cls in type(each).__mro__}:
                return True
            if getattr(each, "target_protocol", None) in ("file", "local"):
                return True
            try:  # caches of fsspec show the attributes of what they forward to as their own
                attributes = object.__getattribute__(each, "__dict__")
            except AttributeError:
                attributes = {}
            for value in list(attributes.values()):
                found += _stores_in(value)
            found += _stores_in([getattr(each, "base_fs", None)])
        todo = found
    return False


def _stores_in(value: Any) -> Iterable[object]:
    if isinstance(value, dict):
        value = list(value.values())
    values = value if isinstance(value, list | tuple) else [value]
    flat = [part for each in values for part in (each if isinstance(each, tuple) else (each,))]
    return [each for each in flat if _is_store(each)]


def _is_store(obj: object) -> bool:
    """As file systems of fsspec, PyFilesystem2 and pyarrow look."""
    return not isinstance(obj, type) and (
        hasattr(obj, "cat_file")
        or hasattr(obj, "getsyspath")
        or (hasattr(obj, "type_name") and hasattr(obj, "copy_file"))
    )


def names_below(root: str) -> Key:
    """The names of `Mount(root=...)`, which leads further down and nowhere else. Raises MountError."""
    names = tuple(root.removesuffix("/").split("/")) if root else ()
    if not all(fits_a_key(name) for name in names):
        raise MountError(
            f"root={root!r} must be a path below the source: names with one / between them, without '.' and '..'"
        )
    return names


def without_dots(root: str) -> str:
    """The root in an object, in the object's own spelling. Raises MountError."""
    if {".", ".."} & set(root.split("/")) or "\0" in root:
        raise MountError(f"root={root!r} must not have '.' or '..' in it")
    return root
