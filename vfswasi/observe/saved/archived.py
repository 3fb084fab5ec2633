"""An archive with a manifest of lines, which may have been made by anybody: opened, and read line by line."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

from ...errors import Errno, FsError, MountError, errno_of
from ...fs_backends.archive.source import ArchiveSource, source_of
from ...fs_backends.archive.zip.archive import ZipArchive
from ...fs_backends.archive.zip.tree import Member
from ...fs_backends.budget import Budget
from ...fs_backends.charge import Charge
from ...fs_backends.waiting import check_time
from ...printing import printable, shown, without_secrets
from .fields import Wrong

_MANIFEST_MAX_BYTES = 512 << 20
_LINE_MAX_BYTES = 2 << 20
_PIECE_BYTES = 256 << 10
_LINE_COST_BYTES = 640  # an entry with its numbers, beside its texts
_WIDE_BYTES = 4  # of one character in a text that has others than ASCII

T = TypeVar("T")


def opened(
    file: str | os.PathLike[str] | IO[bytes],
    what: str,
    members_max: int,
    budget: Budget,
    read: Callable[[ZipArchive], T],
    cache_bytes: int,
) -> T:
    """What `read` makes of the archive, which stays open for it unless it raises. what: "saved changes", for messages.
    Raises OSError, TypeError, MountError."""
    if isinstance(file, str | os.PathLike):
        kind = os.stat(file).st_mode  # raises what `open` would
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(file))
        if not stat.S_ISREG(kind):
            raise MountError(f"cannot read the {what} {shown(os.fspath(file))}: it is no regular file")
    source = source_of(file, what)
    try:
        # Closes the source if it raises.
        archive = ZipArchive(source, members_max, cache_bytes, budget=budget)
        try:
            return read(archive)
        except BaseException:
            archive.close()
            raise
    except MountError as error:
        reason = str(error).removeprefix(f"cannot mount zip archive {source.name}: ")
        raise _refused(source, what, reason.partition("; mount it")[0]) from error
    except Wrong as error:
        raise _refused(source, what, str(error)) from error
    except FsError as error:
        if errno_of(error) is Errno.CANCELED:
            raise
        raise _refused(source, what, error.detail or errno_of(error).name) from error


def _refused(source: ArchiveSource, what: str, reason: str) -> MountError:
    return MountError(f"cannot read the {what} {source.name}: {printable(without_secrets(reason))}")


def lines(archive: ZipArchive, member: Member, charge: Charge, most: int, what: str) -> Iterator[bytes]:
    """Those of the manifest, without their ends. At most `most` and one more; each is charged for what it may become.
    what: of which there are so many, for messages. Raises Wrong, FsError."""
    size = member.stat.size
    if size > _MANIFEST_MAX_BYTES:
        raise Wrong(f"its manifest has {size:,} bytes, more than {_MANIFEST_MAX_BYTES:,}")
    handle = archive.open(member)
    try:
        left = b""
        count = offset = 0
        while offset < size:
            check_time("reading a manifest")
            piece = bytearray(min(_PIECE_BYTES, size - offset))
            if handle.read_into(offset, piece) != len(piece):
                raise Wrong("its manifest is cut short")
            offset += len(piece)
            *whole, left = (left + piece).split(b"\n")
            if len(left) > _LINE_MAX_BYTES or any(len(line) > _LINE_MAX_BYTES for line in whole):
                raise Wrong(f"a line of its manifest has more than {_LINE_MAX_BYTES:,} bytes")
            count += len(whole)
            if count > most + 1:
                raise Wrong(f"it has more than {most:,} {what}")
            for line in whole:
                plain = line.isascii() and b"\\u" not in line
                charge.take(_LINE_COST_BYTES + len(line) * (1 if plain else _WIDE_BYTES))
                yield line
        if left:
            raise Wrong("its manifest is cut short")
    finally:
        handle.close()
