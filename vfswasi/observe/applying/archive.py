"""Changes applied to an archive: a new one is written beside it, which takes its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...fs_backends.base import Backend, Key
from ...fs_backends.layers.overlay.entries import Entry
from ...mounts.finding.single import is_archive_name
from ...mounts.finding.source_text import local_path, without_caches
from ...mounts.finding.sources import is_upath
from ...mounts.options import Mount
from .progress import Progress


def path_of(mount: Mount) -> tuple[str, Key] | None:
    """The file of this machine that a source means, and the directory in it; None: it means something else."""
    source: Any = mount.source
    inner = ""
    if is_upath(source):
        return None
    if isinstance(source, os.PathLike):
        path: str | None = os.fsdecode(os.fspath(source))
    elif isinstance(source, str):
        source, mount = without_caches(source, mount)
        if source.startswith(("zip://", "tar://", "zip::", "tar::")):
            inner, source = _inside(source)
        path = local_path(source) if source else None
    else:
        return None
    if path is None or not (os.path.isfile(path) or (is_archive_name(path) and not os.path.lexists(path))):
        return None
    names = f"{inner}/{mount.root}".split("/")
    return path, tuple(name for name in names if name not in ("", "*"))


def _inside(source: str) -> tuple[str, str]:
    """(the directory in an archive, the archive) of a URL of one."""
    rest = source[len("zip::") :] if source[3:].startswith("::") else source[len("zip://") :]
    inner, chained, target = rest.partition("::")
    return ("", rest) if source[3:].startswith("::") or not chained else (inner, target)


def apply(
    path: str, below: Key, entries: Sequence[Entry], check: Callable[[Backend], None], progress: Progress | None
) -> None:
    """below: the directory in the archive that the changes are for. check: of the archive as it is, before anything is
    written. Raises what it raises, MountError, FsError."""
    from ...fs_backends.archive.rewriting import rewrite

    rewrite(path, [_below(entry, "/".join(below)) for entry in entries], check=check, progress=progress)


def _below(entry: Entry, root: str) -> Entry:
    def moved(path: str | None) -> str | None:
        return path if path is None or not root else f"{root}/{path}" if path else root

    path = moved(entry.path)
    assert path is not None
    return replace(entry, path=path, old_path=moved(entry.old_path), link_to=moved(entry.link_to))
