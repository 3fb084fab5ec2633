"""Writes changes to a file: the manifest first, then each of the contents once, under its digest."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import IO

from ...errors import Errno, FsError, MountError, errno_of
from ...fs_backends.base import Backend, FileType
from ...fs_backends.budget import Budget
from ...fs_backends.charge import Charge
from ...fs_backends.layers.overlay.entries import Content, Entry, Was
from ..bases import Base
from ..contents import Digests, pieces
from ..old import OldContents
from . import checking
from .fields import Wrong
from .manifest import BASE_TEXT_MAX, CONTENTS, MANIFEST, lines

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that an archive can say
_STORED_MAX_BYTES = 63  # deflate makes what is shorter longer, as a rule
_MODE = 0o100644
_CHECK_BYTES = 2 << 30


def save(entries: Sequence[Entry], base: Base | None, file: str | os.PathLike[str] | IO[bytes]) -> None:
    """See `Changes.save`."""
    if isinstance(file, str | os.PathLike):
        from .beside import written_beside

        with written_beside(file, overwrite=True) as out:
            write(entries, base, out)
        return
    if isinstance(file, io.TextIOBase) or not hasattr(file, "write"):
        raise TypeError(f"file must be a path or a binary file, not {type(file).__name__}")
    write(entries, base, file)


def saved_bytes(entries: Sequence[Entry], base: Base | None) -> bytes:
    """What `save` would write, without asking the base for anything."""
    out = io.BytesIO()
    write(entries, base, out, old_digests=False)
    return out.getvalue()


def write(entries: Sequence[Entry], base: Base | None, out: IO[bytes], old_digests: bool = True) -> None:
    """Raises FsError, OSError, ValueError: the entries could not be read again."""
    try:
        checking.check(entries, Charge(Budget("the names of changes that are saved", _CHECK_BYTES)))
    except Wrong as error:
        raise ValueError(f"these changes cannot be saved: {error}") from error
    digests = Digests()
    told: list[tuple[Entry, str | None]] = []
    contents: dict[str, Content] = {}
    with ExitStack() as stack:
        old = OldContents(_opened(base, stack)) if old_digests and any(map(_may_lack, entries)) else None
        for entry in entries:
            digest = None if entry.content is None else digests.of(entry.content)
            if digest is not None and entry.content is not None:
                contents.setdefault(digest, entry.content)
            told.append((entry if old is None else _with_old_digests(entry, old), digest))
    text = None if base is None else base.text[:BASE_TEXT_MAX]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        with archive.open(member_info(MANIFEST, None), "w", force_zip64=True) as member:
            for line in lines(told, text):
                member.write(line)
        for digest, content in sorted(contents.items()):
            found = hashlib.sha256()
            with archive.open(member_info(f"{CONTENTS}/{digest}", content.size), "w") as member:
                for piece in pieces(content):
                    found.update(piece)
                    member.write(piece)
            if found.hexdigest() != digest:
                raise FsError(Errno.STALE, "the contents of a file changed while they were saved")


def _opened(base: Base | None, stack: ExitStack) -> Backend | None:
    """What the changes were made on, if it can be had."""
    if base is None:
        return None
    try:
        return stack.enter_context(base.open())
    except (MountError, FsError, OSError, TypeError, ValueError) as error:
        if isinstance(error, FsError) and errno_of(error) is Errno.CANCELED:
            raise
        return None


def _may_lack(entry: Entry) -> bool:
    return entry.was is not None and (entry.was.digest is None or bool(entry.was.below))


def _with_old_digests(entry: Entry, old: OldContents) -> Entry:
    was = entry.was
    if was is None:
        return entry
    path = entry.old_path or entry.path
    found = _completed(path, was, old)
    if was.below:
        below = {name: _completed(f"{path}/{name}", each, old) for name, each in was.below.items()}
        found = replace(found, below=below)
    return entry if found is was else replace(entry, was=found)


def _completed(path: str, was: Was, old: OldContents) -> Was:
    if was.digest is not None or was.filetype not in (FileType.REGULAR_FILE, FileType.SYMBOLIC_LINK):
        return was
    digest = old.digest(path, was)
    return was if digest is None else replace(was, digest=digest)


def member_info(name: str, size: int | None) -> zipfile.ZipInfo:
    """Nothing of when and where it is written."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = _MODE << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    if size is not None:
        info.file_size = size
        if size <= _STORED_MAX_BYTES:
            info.compress_type = zipfile.ZIP_STORED
    return info
