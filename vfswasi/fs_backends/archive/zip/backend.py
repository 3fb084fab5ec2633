"""A zip archive as a read-only file system.

Names. An entry's name is split at `/`; a trailing slash makes it a directory, and so does the Unix mode of
a directory. The names in the archive map to the tree like this:

| in the archive                                                  | in the tree                             |
|-----------------------------------------------------------------|-----------------------------------------|
| `a/b` without an entry `a/`                                     | `a` is a directory without times        |
| a component that is empty, `.` or `..`; `/abs`, `a//b`, `../x`  | invisible; implies no directories       |
| NUL; a component over 255 bytes of UTF-8, a path over 4096      | invisible; implies no directories       |
| `a\\b`, `C:x`, `~`                                              | ordinary characters of one name         |
| two files of one name                                           | the last entry                          |
| a file and a directory (explicit, or implied by `a/b`)          | the directory, in whatever order        |
| name with the UTF-8 flag, or a Unicode path field made for it   | decoded as UTF-8                        |
| name without, made on Unix or OS X, that is valid UTF-8         | decoded as UTF-8                        |
| any other name                                                  | decoded as code page 437                |
| name flagged as UTF-8 that is none; sizes missing from zip64    | invisible                               |

An invisible entry does no harm to its siblings; a log record says how many there are.

Kinds. The Unix mode (`external_attr >> 16`, where the archive was made on Unix) makes symbolic links,
whose target is the content, and devices, FIFOs and sockets, which cannot be opened (ACCES). What has
contents is a regular file all the same: `zip` calls what it reads from a pipe a FIFO.

Times. Modification time from the NTFS extra field, else from the extended timestamp field, else the
MS-DOS date taken as UTC; None if that is no date. Access and change time equal it.

Errors. What is wrong with the archive as a whole is a `MountError` at construction. What is wrong with a
member (encrypted, unknown method, overlapping data, wrong sizes, wrong checksum) is IO: at `open` where
the headers show it, else at the read that meets it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...base import Handle, Traffic
from ...budget import Budget
from .. import source as archive_source
from ..source import ArchiveSource, BinaryFile
from ..tree_backend import TreeBackend, rooted
from .archive import CACHE_BYTES, MAX_ENTRIES, ZipArchive
from .member_spool import SPOOL_BYTES
from .tree import Member


class ZipBackend(TreeBackend):
    """The members of one archive. Several sandboxes, on several threads, may use it at once.

    source: path, or seekable binary file object. The file object stays the caller's, who must leave it
        open and alone (its position moves) until `close`.
    root: directory inside the archive that becomes the root of the mount, with `/` between names.
    max_entries: more entries, or more objects once implied directories are counted, are a MountError.
    cache_bytes: the most that is kept of inflated members (see `archive.zip_member`).
    spool_bytes: the most that is kept of them on disk, in unnamed temporary files, so that a second run need not
        inflate a large member again; 0: nothing.
    whole: the file must be the archive and nothing else, so that another can take its place. budget: for what is known
        of its entries; None: that of what is being mounted.

    Raises MountError (missing, corrupt, too many entries, no such root), TypeError.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryFile | ArchiveSource,
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        whole: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self.archive = ZipArchive(
            archive_source.source_of(source),
            max_entries,
            cache_bytes,
            spool_bytes=spool_bytes,
            whole=whole,
            budget=budget,
        )
        self._cache = self.archive.cache
        self._charge = self.archive.charge
        self.top, self.entries = self.archive.index.root, self.archive.index
        self._place = archive_source.place_in(source, root)
        try:
            self._root = rooted(self.top, root, f"zip archive {self.archive.source.name}")
        except BaseException:
            self.archive.close()
            raise

    @classmethod
    def open_url(
        cls,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        spool_bytes: int = SPOOL_BYTES,
    ) -> ZipBackend:
        """The archive behind a URL that fsspec can open; closed with the backend. Raises MountError."""
        from ..remote_source import open_url

        source = open_url(url, storage_options)
        return cls(source, root=root, max_entries=max_entries, cache_bytes=cache_bytes, spool_bytes=spool_bytes)

    def _open_member(self, number: int) -> Handle:
        return self.archive.open(Member(self.archive.index, number))

    def _read_target(self, number: int) -> str:
        return self.archive.readlink(Member(self.archive.index, number))

    def traffic(self) -> Traffic | None:
        return self.archive.source.traffic()

    def close(self) -> None:
        self.archive.close()
