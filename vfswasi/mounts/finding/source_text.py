"""What the text of a source means: a path of this machine, or a URL.

| text                          | means                                                            |
|-------------------------------|------------------------------------------------------------------|
| `NAME://...`, `NAME::...`     | a URL, whatever files there are                                  |
| `file://PATH`, `local://PATH` | a path, all of it: `::` in it is part of a name, `%XX` is a byte |
| anything else                 | a path, `./a::b` and `/a://b` too                                |
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_to_bytes

from ...errors import MountError
from ...fs_backends.trust import fsspec as trust_fsspec
from ...printing import shown
from ..options import Mount

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)(://|::)")


def local_path(text: str) -> str | None:
    """The path of this machine that a text means; None: it is a URL of something else. Raises MountError."""
    match = _URL.match(text)
    if match is None:
        return text
    if match[1] not in ("file", "local"):
        return None
    host, slash, path = text[match.end() :].partition("/")
    if match[2] != "://" or host not in ("", "localhost") or not slash:
        raise MountError(f"{shown(text)}: a file URL must name a path of this machine: file:///dir")
    if "?" in path or "#" in path:
        raise MountError(f"{shown(text)}: in a file URL ? is written %3F and # is written %23")
    path = os.fsdecode(unquote_to_bytes(f"/{path}"))
    if "\0" in path:
        raise MountError("the source contains a NUL character")
    return path


def without_caches(source: str, mount: Mount) -> tuple[str, Mount]:
    """The source behind caches of fsspec, and behind `dir::`: copies are kept by our own cache, which sees every
    change."""
    while (match := _URL.match(source)) is not None:
        rest = source[match.end() :] if match[2] == "::" else source[match.end() :].removeprefix("::")
        if match[2] == "://" and len(rest) == len(source) - match.end():
            break  # simplecache://..., without another URL behind it
        if not trust_fsspec.is_cache(_class_of(match[1])):
            break
        options = trust_fsspec.without_cache(match[1], mount.storage_options)
        source, mount = rest, replace(mount, source=rest, storage_options=options or None)
    return source, mount


def _class_of(scheme: str) -> object:
    """The class that fsspec has for a scheme; None for one that it does not know or cannot load."""
    if scheme in ("file", "local", "zip", "tar", "s3", "http", "https") or scheme.startswith("pyfs+"):
        return None
    try:
        from fsspec import get_filesystem_class

        found: object = get_filesystem_class(scheme)
    except Exception:  # of whatever package would make it
        return None
    return found
