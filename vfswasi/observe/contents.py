"""New contents of changes: read in pieces, compared by digest."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import Errno, FsError
from ..fs_backends.base import FileType, Handle, Key
from ..fs_backends.layers.overlay.entries import Content, Entry, Was
from ..fs_backends.waiting import check_time

PIECE_BYTES = 1 << 20


def plain_path(path: str | os.PathLike[str]) -> str:
    """As entries have it: no `/` at the ends, no `.`. Raises TypeError, ValueError."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    names = [name for name in text.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValueError(f"{text!r}: a path in changes has no '..' in it")
    return "/".join(names)


def key_of(path: str) -> Key:
    return tuple(path.split("/")) if path else ()


def pieces_of_handle(handle: Handle, size: int) -> Iterator[bytes]:
    """All of an open file, which has to have `size` bytes. Raises FsError: IO, where it has others; CANCELED."""
    done = 0
    while done < size:
        check_time("reading contents")
        piece = bytearray(min(PIECE_BYTES, size - done))
        count = handle.read_into(done, piece)
        if count != len(piece):
            raise FsError(Errno.IO, f"contents of {size:,} bytes end after {done + count:,}")
        done += count
        yield bytes(piece)


def pieces(content: Content) -> Iterator[bytes]:
    """Raises FsError."""
    handle = content.open()
    try:
        yield from pieces_of_handle(handle, content.size)
    finally:
        handle.close()


def digest_of_handle(handle: Handle, size: int) -> str:
    """SHA-256, in hexadecimal. Raises FsError."""
    found = hashlib.sha256()
    for piece in pieces_of_handle(handle, size):
        found.update(piece)
    return found.hexdigest()


def text_digest(target: str) -> str:
    """Of the target of a link."""
    return hashlib.sha256(target.encode("utf-8", "surrogatepass")).hexdigest()


# Contents do not change, so what was found out once holds as long as they are there.
_remembered: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def remember(content: Content, digest: str) -> bool:
    """For `Digests`: what was found by reading it."""
    try:
        _remembered[content] = digest
    except TypeError:  # no weak reference, or no hash
        return False
    return True


def _recalled(content: Content) -> str | None:
    try:
        return _remembered.get(content)
    except TypeError:
        return None


class Digests:
    """SHA-256 of contents, each read once."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, content: Content) -> str:
        """Raises FsError."""
        found = self._known.get(id(content)) or _recalled(content)
        if found is None:
            handle = content.open()
            try:
                found = _recalled(content) or digest_of_handle(handle, content.size)
            finally:
                handle.close()
            if not remember(content, found):
                self._known[id(content)] = found
        return found


def same(first: Sequence[Entry], second: Sequence[Entry]) -> bool:
    """Whether the entries make the same of the same. Contents are read only where all else is equal. Raises FsError."""
    if len(first) != len(second):
        return False
    pairs = list(zip(first, second, strict=True))
    if any(_told(one) != _told(other) for one, other in pairs):
        return False
    digests = Digests()
    return all(
        one.content is other.content
        or (
            one.content is not None
            and other.content is not None
            and digests.of(one.content) == digests.of(other.content)
        )
        for one, other in pairs
    )


def _told(entry: Entry) -> tuple[Any, ...]:
    """All but the contents, where it was in the base, and what was found out of the base since."""
    return (
        entry.kind,
        entry.path,
        entry.filetype,
        entry.old_path,
        None if entry.was is None else _was_told(entry.was),
        entry.size,
        entry.atim_ns,
        entry.mtim_ns,
        entry.content is None,
        entry.target,
        entry.link_to,
    )


def _was_told(was: Was) -> tuple[Any, ...]:
    return was.filetype, was.size, was.mtim_ns, {path: _was_told(below) for path, below in was.below.items()}


def read_new(entries: Sequence[Entry], path: str | os.PathLike[str]) -> bytes:
    """See `Changes.read_bytes`."""
    wanted = plain_path(path)
    found = _with_contents(entries, wanted)
    if found is not None and found.link_to is not None:
        found = _with_contents(entries, found.link_to)
    if found is not None and found.content is not None:
        return b"".join(pieces(found.content))
    if found is not None and found.filetype is FileType.DIRECTORY:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), wanted)
    if found is not None and found.target is not None:
        raise FileNotFoundError(errno.ENOENT, f"a link to {found.target!r}; ask for the file itself", wanted)
    known = {entry.kind for entry in entries if entry.path == wanted}
    if not known:
        reason = "nothing has changed there"
    elif known == {"removed"}:
        reason = "it was removed"
    else:
        reason = "its contents have not changed; they are in what the changes were made on"
    raise FileNotFoundError(errno.ENOENT, reason, wanted)


def _with_contents(entries: Sequence[Entry], path: str) -> Entry | None:
    found = [entry for entry in entries if entry.path == path and entry.kind in ("added", "modified")]
    return found[-1] if found else None
