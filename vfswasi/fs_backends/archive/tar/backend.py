"""A tar archive, plain or compressed, as a read-only file system.

What it is, its first bytes say: plain tar (old, ustar, GNU and PAX), or tar in gzip, bzip2, xz or zstd (this one with
Python 3.14, or with `vfswasi[zstd]`).

Cost. At the mount the headers are read once, and the tree stays in memory (about 250 bytes for each entry). Between the
headers of a plain archive nothing is read, except where they lie within 4 KiB of each other. Members are ranges of the
archive: reading one costs what the range costs, anywhere in it. A compressed archive is unpacked as a whole at the
mount, into a spool that is in memory up to 32 MiB and an unnamed temporary file beyond: the mount takes the time of
unpacking and the space of all members, whatever is read later; after that it is a plain one. `max_unpacked_bytes`
bounds the spool.

Names map to the tree by the rules of `zip`, whose table holds here too: hostile names are invisible and do no harm to
their siblings. Beyond it:

| in the archive                                                | in the tree                                        |
|---------------------------------------------------------------|----------------------------------------------------|
| `./a/b`, as `tar -C directory .` writes it, `a//b`, `a/./b`   | `a/b`                                              |
| `.`, `./` as a directory                                      | the root's times                                   |
| a name that is not UTF-8                                      | invisible                                          |
| a hard link to a file, link or device that stands before it   | one more name of it: same ident, counted in nlink  |
| the same with contents of its own, as PAX allows              | the contents of both names                         |
| any other hard link (missing, hidden, a directory, itself)    | invisible; with contents a file                    |
| a symbolic link                                               | a link with the target as it stands                |
| a device, a FIFO                                              | an object that cannot be opened (ACCES)            |
| a sparse file (old GNU, PAX 0.0, 0.1, 1.0)                    | a file with zeros in its holes                     |
| a type that nobody knows                                      | a regular file, as POSIX says                      |

Times. Modification time from the PAX header, in ns, else from the header, in s; access and change time equal it.

Errors. Headers of tar are a chain: where one is broken, cut short or absurd, nothing behind it can be found, which is
a `MountError`. So is a compressed stream whose checksum is wrong; what stands behind one of gzip or bzip2 does not
count. An archive without a block of zeros at its end may have been cut short, and a log record says so. Data of
members have no checksum: what was changed in them is not noticed in a plain archive. What is wrong with one member
alone (a sparse map that lies) is IO at `open`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ....errors import Errno, FsError, MountError
from ....printing import counted
from ... import waiting
from ...base import Handle, Traffic
from ...budget import Budget
from ...charge import Charge
from .. import source as archive_source
from ..kind import beginning_of
from ..ranges import RangeHandle
from ..source import ArchiveSource, BinaryFile
from ..tree import MAX_PATH_BYTES, Directory, TooManyEntries
from ..tree_backend import TreeBackend, link_target, refused, rooted
from ..unpacked import unpacked
from .entries import TarEntries
from .header import BrokenHeader
from .index import build_index
from .members import Members
from .sparse import MAP_MAX_BYTES, PIECE_COST_BYTES, BadMap, SparseHandle, bad_map, map_in_data

MAX_ENTRIES = 1_000_000
MAX_UNPACKED_BYTES = 4 << 30
_LOOK_BYTES = 1 << 20


class TarBackend(TreeBackend):
    """The members of one archive. Several sandboxes, on several threads, may use it at once.

    source: path, or seekable binary file object. The file object stays the caller's, who must leave it
        open and alone (its position moves) until `close`.
    root: directory inside the archive that becomes the root of the mount, with `/` between names.
    max_entries: more entries, or more objects once implied directories are counted, are a MountError.
    max_unpacked_bytes: a compressed archive that unpacks to more is a MountError.
    whole: the file must be the archive and nothing else, so that another can take its place. budget: for what is known
        of its entries; None: that of what is being mounted.

    Raises MountError (missing, corrupt, too many entries, too large, no such root), TypeError.
    """

    entries: TarEntries

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryFile | ArchiveSource,
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
        whole: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self._packed = self.source = archive_source.source_of(source, "tar")
        self._place = archive_source.place_in(source, root)
        self._charge = Charge(waiting.indexes() if budget is None else budget)
        self.members = Members(self._charge) if whole else None
        try:
            self.compression, self.source = _plain(self._packed, max_unpacked_bytes, self._charge, whole)
            self.top, self.entries = _index(self.source, max_entries, self._charge, self.members)
            self._root = rooted(self.top, root, f"tar archive {self.source.name}")
        except BaseException:
            self.close()
            raise

    @classmethod
    def open_url(
        cls,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    ) -> TarBackend:
        """The archive behind a URL that fsspec can open; closed with the backend. Raises MountError."""
        from ..remote_source import open_url

        source = open_url(url, storage_options, "tar")
        return cls(source, root=root, max_entries=max_entries, max_unpacked_bytes=max_unpacked_bytes)

    def _open_member(self, number: int) -> Handle:
        entries = self.entries
        problem = entries.problems.get(number)
        if problem is not None:
            raise FsError(Errno.IO, f"tar member: {problem}")
        start, data_bytes = entries.place(number)
        status = entries.stat(number)
        if number not in entries.maps:
            return RangeHandle(self.source, start, status)
        pieces = entries.maps[number]
        if pieces is not None:
            return SparseHandle(self.source, start, status, pieces)
        # Each piece takes at least four bytes of the map.
        charge = Charge(waiting.buffers(), min(data_bytes, MAP_MAX_BYTES) // 4 * PIECE_COST_BYTES)
        try:
            pieces, taken = map_in_data(self.source, start, data_bytes, status.size)
        except BadMap as error:
            charge.close()
            raise bad_map(error) from error
        except BaseException:
            charge.close()
            raise
        charge.give(charge.used - len(pieces.starts) * PIECE_COST_BYTES)
        return SparseHandle(self.source, start + taken, status, pieces, charge)

    def _read_target(self, number: int) -> str:
        target = self.entries.target(number)
        if target is None:
            raise FsError(Errno.NAMETOOLONG, f"link target of more than {MAX_PATH_BYTES} bytes")
        return link_target(target)

    def traffic(self) -> Traffic | None:
        return self._packed.traffic()

    def close(self) -> None:
        if self.source is not self._packed:
            self.source.close()
        self._packed.close()
        self._charge.close()


def _plain(source: ArchiveSource, max_bytes: int, charge: Charge, whole: bool) -> tuple[str | None, ArchiveSource]:
    """(compression, the archive without it)"""
    try:
        kind = beginning_of(source)
    except FsError as error:
        raise refused("tar", source.name, error, "check that it can be read") from error
    if kind == "zip":
        raise MountError(
            f"cannot mount tar archive {source.name}: it begins like a zip archive; mount it as that, with its path or "
            "zip://"
        )
    if kind in (None, "tar"):
        return None, source
    return kind, unpacked(source, kind, max_bytes, charge, whole)


def _index(
    source: ArchiveSource, max_entries: int, charge: Charge, members: Members | None
) -> tuple[Directory, TarEntries]:
    try:
        index = build_index(source, max_entries, charge, members)
        if members is not None and not _is_zeros(source, members.end):
            raise MountError(
                f"cannot mount tar archive {source.name} for writing: the file holds more than the archive, which "
                "would be lost; mount it read-only, or make a plain archive of it first"
            )
        return index
    except TooManyEntries as error:
        raise MountError(
            f"cannot mount tar archive {source.name}: more than {counted(max_entries, 'entry')}; raise max_entries"
        ) from error
    except (BrokenHeader, FsError) as error:
        raise refused("tar", source.name, error, "it is not a tar archive, cut short or corrupt") from error


def _is_zeros(source: ArchiveSource, at: int) -> bool:
    """Whether nothing stands behind an offset. Raises IO, CANCELED."""
    while at < source.size:
        waiting.check_time("mounting")
        count = min(_LOOK_BYTES, source.size - at)
        if source.read(at, count).strip(b"\0"):
            return False
        at += count
    return True
