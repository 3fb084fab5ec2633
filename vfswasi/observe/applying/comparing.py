"""Whether a file in a target has the contents that it had in the base when the changes were made."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from ...errors import Errno, FsError, MountError
from ...fs_backends.base import Backend, FileType, Handle, Key, Stat
from ...fs_backends.layers.overlay.entries import Was
from ...fs_backends.waiting import check_time

PIECE_BYTES: Final = 1 << 20
UNKNOWN: Final = "whether it is what it was cannot be known: its contents were not recorded"


def pieces(handle: Handle) -> Iterator[memoryview]:
    """The contents, from the start to the end. A piece is only good until the next one."""
    buffer = bytearray(PIECE_BYTES)
    offset = 0
    while True:
        check_time("changes")
        count = handle.read_into(offset, buffer)
        if not count:
            return
        yield memoryview(buffer)[:count]
        offset += count


@contextlib.contextmanager
def opened(backend: Backend, key: Key) -> Iterator[Handle]:
    """A file, to be read."""
    handle = backend.open(key, False)
    try:
        yield handle
    finally:
        handle.close()


def digest_of(handle: Handle) -> str:
    """SHA-256, in hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in pieces(handle):
        digest.update(piece)
    return digest.hexdigest()


class Original:
    """What changes were made on, as it is now. backend: for reading; None: there is no way to it. is_target: it is what
    the changes are applied to."""

    def __init__(self, backend: Backend | None, is_target: bool) -> None:
        self.backend = backend
        self.is_target = is_target

    def difference(self, target: Backend, there: Key, found: Stat, here: Key, was: Was) -> str | None:
        """Why the file or link at `there` in the target, with the type and the size of `was`, is not what was at `here`
        in the base; None: it is. Raises what reading the target raises."""
        if found.filetype not in (FileType.REGULAR_FILE, FileType.SYMBOLIC_LINK):
            return None
        link = target.readlink(there) if found.filetype is FileType.SYMBOLIC_LINK else None
        if was.digest is not None:
            if link is not None:
                return None if hashlib.sha256(link.encode()).hexdigest() == was.digest else "it leads somewhere else"
            with opened(target, there) as handle:
                return None if digest_of(handle) == was.digest else "its contents are others"
        if self.is_target:
            return _since(target, there, found, was)
        if self.backend is None:
            return UNKNOWN
        try:
            return self._beside(self.backend, target, there, link, here, was)
        except FsError as error:
            if error.errno in (Errno.NOENT, Errno.NOTDIR, Errno.ISDIR, Errno.LOOP):
                return UNKNOWN  # the base has lost it
            raise

    def _beside(self, base: Backend, target: Backend, there: Key, link: str | None, here: Key, was: Was) -> str | None:
        original = base.stat(here)
        if (original.filetype, original.size) != (was.filetype, was.size) or _since(base, here, original, was):
            return f"{UNKNOWN}, and what they were made on has changed"
        if link is not None:
            return None if base.readlink(here) == link else "it leads somewhere else"
        with opened(base, here) as one, opened(target, there) as other:
            # Both in pieces of one size: only the last may be shorter.
            same = all(first == second for first, second in zip(pieces(one), pieces(other), strict=False))
            return None if same and one.size() == other.size() else "its contents are others"


def _since(backend: Backend, key: Key, found: Stat, was: Was) -> str | None:
    """Of an object that is or should be the very one of the base, with the same type and size."""
    if was.version is not None and found.filetype is FileType.REGULAR_FILE:
        return None if backend.version(key) == was.version else "it was written to, or its attributes were changed"
    if was.mtim_ns is None and was.ident is None:
        return UNKNOWN
    if was.mtim_ns != found.mtim_ns or (found.filetype is FileType.REGULAR_FILE and was.mtim_ns is None):
        return "its time is another"
    return None if was.ident == found.ident else "it is another one of the same name"


@contextlib.contextmanager
def original_of(base: Any, target: Backend, is_target: bool) -> Iterator[Original]:
    """base: of the changes. is_target: nobody named another target."""
    if is_target or base is None:
        yield Original(None, is_target)
        return
    with contextlib.ExitStack() as stack:
        try:
            backend = stack.enter_context(base.open())
        except (MountError, FsError, TypeError):
            backend = None  # it is needed only where nobody has recorded what it had
        yield Original(backend, backend is not None and backend.identity == target.identity)
