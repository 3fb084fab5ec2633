"""The files in the directory of compiled modules: which of them are ours, what they are, and which have to go.

A module is `HASH.cwasm`; what its user called it is in `HASH.label`, for people alone: nobody signs that, and nobody
acts upon it. Everything else in the directory is somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final, NamedTuple

_MODULE: Final = re.compile(r"[0-9a-f]{64}\.cwasm")
_OURS: Final = re.compile(r"[0-9a-f]{64}\.(cwasm|label)")
# A file that has not got its name yet; a process that was killed leaves one.
_UNFINISHED: Final = re.compile(r"\.new-[A-Za-z0-9_]+")
_UNFINISHED_S: Final = 3600
_LABEL_MAX_BYTES: Final = 1000


class Kept(NamedTuple):
    """A compiled module on disk. `label`: what its user called it, if that is known. `used`: seconds since 1970."""

    hash: str
    label: str | None
    bytes: int
    used: float


def modules(place: Path) -> list[Kept]:
    """The modules in a directory, the one that was used last first. Raises OSError."""
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            if _MODULE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # somebody else has removed it
                    status = entry.stat(follow_symlinks=False)
                    name = entry.name.removesuffix(".cwasm")
                    found.append(Kept(name, _label(place, name), status.st_size, status.st_mtime))
    return sorted(found, key=lambda module: -module.used)


def clear(place: Path) -> tuple[list[Kept], int]:
    """Remove all modules, and what of ours stands beside them: (modules that were removed, files and directories of
    others, which stay). Raises OSError."""
    removed = []
    for module in modules(place):
        with contextlib.suppress(FileNotFoundError):
            _remove(place, module.hash)
            removed.append(module)
    others = 0
    with os.scandir(place) as entries:
        for entry in entries:
            ours = _OURS.fullmatch(entry.name) or _UNFINISHED.fullmatch(entry.name)
            if not ours or not entry.is_file(follow_symlinks=False):
                others += 1
                continue
            with contextlib.suppress(FileNotFoundError):
                # One that is new may be another process's, which is about to finish it.
                if entry.name[0] != "." or time.time() - entry.stat(follow_symlinks=False).st_mtime > _UNFINISHED_S:
                    os.unlink(entry.path)
    return removed, others


def prune(place: Path, most: int) -> None:
    """Remove what was used least recently until there are `most` bytes. Raises OSError."""
    total = 0
    for module in modules(place):
        total += module.bytes
        if total > most:
            with contextlib.suppress(FileNotFoundError):
                _remove(place, module.hash)


def write_label(place: Path, name: str, label: str) -> None:
    """Raises OSError."""
    path = place / f"{name}.label"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, label.encode("utf-8", "replace")[:_LABEL_MAX_BYTES])
    finally:
        os.close(file)


def _remove(place: Path, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        (place / f"{name}.label").unlink()
    (place / f"{name}.cwasm").unlink()


def _label(place: Path, name: str) -> str | None:
    try:
        file = os.open(place / f"{name}.label", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(file, _LABEL_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(file)
