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
| name without the UTF-8 flag                                     | decoded as code page 437                |
| name flagged as UTF-8 that is none; sizes missing from zip64    | invisible                               |

An invisible entry does no harm to its siblings.

Kinds. The Unix mode (`external_attr >> 16`, where the archive was made on Unix) makes symbolic links,
whose target is the content, and devices, FIFOs and sockets, which cannot be opened (ACCES).

Times. Modification time from the NTFS extra field, else from the extended timestamp field, else the
MS-DOS date taken as UTC; None if that is no date. Access and change time equal it.

Errors. What is wrong with the archive as a whole is a `MountError` at construction. What is wrong with a
member (encrypted, unknown method, overlapping data, wrong sizes, wrong checksum) is IO: at `open` where
the headers show it, else at the read that meets it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

from ..errors import Errno, FsError, MountError
from . import zip_source
from .base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat
from .zip_decoder import inflate
from .zip_directory import read_directory
from .zip_member import InflatedHandle, MemberCache, StoredHandle, locate
from .zip_source import ArchiveSource, BinaryFile
from .zip_tree import Node, TooManyEntries, build_tree

MAX_ENTRIES = 1_000_000
CACHE_BYTES = 64 << 20
_MAX_LINK_BYTES = 4096


class ZipBackend(Backend):
    """The members of one archive. Several sandboxes, on several threads, may use it at once.

    source: path, or seekable binary file object. The file object stays the caller's, who must leave it
        open and alone (its position moves) until `close`.
    root: directory inside the archive that becomes the root of the mount, with `/` between names.
    max_entries: more entries, or more objects once implied directories are counted, are a MountError.
    cache_bytes: the most that is kept of inflated members (see `zip_member`).

    Raises MountError (missing, corrupt, too many entries, no such root), TypeError.
    """

    caps = Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryFile | ArchiveSource,
        *,
        root: str = "",
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._source = zip_source.source_of(source)
        self._cache = MemberCache(cache_bytes)
        try:
            self._root = self._rooted(_read_tree(self._source, max_entries), root)
        except BaseException:
            self._source.close()
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
    ) -> ZipBackend:
        """The archive behind a URL that fsspec can open; closed with the backend. Raises MountError."""
        source = zip_source.open_url(url, storage_options)
        return cls(source, root=root, max_entries=max_entries, cache_bytes=cache_bytes)

    def _rooted(self, node: Node, root: str) -> Node:
        path = root.strip("/")
        for name in path.split("/") if path else ():
            child = (node.children or {}).get(name)
            if child is None or child.children is None:
                reason = "no such directory" if child is None else "not a directory"
                raise MountError(
                    f"cannot mount {root!r} of zip archive {self._source.name}: {reason} in the archive; "
                    "give the name of a directory that it holds"
                )
            node = child
        return node

    def _find(self, key: Key) -> Node:
        node = self._root
        for name in key:
            children = node.children
            if children is None:
                raise FsError(Errno.NOTDIR)
            found = children.get(name)
            if found is None:
                raise FsError(Errno.NOENT)
            node = found
        return node

    def stat(self, key: Key) -> Stat:
        return self._find(key).stat

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        if not names:
            return 0, None
        children = self._find(key).children
        if children is None:
            raise FsError(Errno.NOTDIR)
        count = 0
        found: Stat | None = None
        for name in names:
            node = children.get(name)
            if node is None:
                break
            count += 1
            found = node.stat
            children = node.children
            if children is None:
                break
        return count, found

    def listing_version(self, key: Key) -> int:
        return 0

    def list(self, key: Key) -> tuple[DirEntry, ...]:
        node = self._find(key)
        if node.children is None:
            raise FsError(Errno.NOTDIR)
        return node.list()

    def open(self, key: Key, write: bool) -> Handle:
        node = self._find(key)
        kind = node.stat.filetype
        if kind is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        if kind is FileType.SYMBOLIC_LINK:
            raise FsError(Errno.LOOP)
        if write:
            raise FsError(Errno.ROFS)
        if kind is not FileType.REGULAR_FILE:
            raise FsError(Errno.ACCES, "not a file or directory")
        return self._open_member(node)

    def _open_member(self, node: Node) -> Handle:
        if node.data_start < 0:
            locate(self._source, node)
        assert node.info is not None
        if node.info.compress_type == zipfile.ZIP_STORED:
            return StoredHandle(self._source, node)
        return InflatedHandle(self._source, node, self._cache)

    def readlink(self, key: Key) -> str:
        """Raises INVAL (not a link), NAMETOOLONG (over 4096 bytes), ILSEQ (no UTF-8, or NUL), IO."""
        node = self._find(key)
        if node.stat.filetype is not FileType.SYMBOLIC_LINK or node.info is None:
            raise FsError(Errno.INVAL)
        if node.stat.size > _MAX_LINK_BYTES:
            raise FsError(Errno.NAMETOOLONG, f"link target of {node.stat.size} bytes")
        if node.data_start < 0:
            locate(self._source, node)
        if node.info.compress_type == zipfile.ZIP_STORED:
            data = bytearray(node.stat.size)
            StoredHandle(self._source, node).read_into(0, data)
        else:
            data = bytearray(inflate(self._source, node))
        try:
            target = data.decode()
        except UnicodeDecodeError as error:
            raise FsError(Errno.ILSEQ, "link target is not UTF-8") from error
        if "\0" in target:
            raise FsError(Errno.ILSEQ, "link target holds NUL")
        return target

    def close(self) -> None:
        self._cache.clear()
        self._source.close()


def _read_tree(source: ArchiveSource, max_entries: int) -> Node:
    try:
        return build_tree(*read_directory(source, max_entries), max_entries)
    except TooManyEntries as error:
        raise MountError(
            f"cannot mount zip archive {source.name}: more than {max_entries} entries; raise max_entries"
        ) from error
    except (zipfile.BadZipFile, FsError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MountError(
            f"cannot mount zip archive {source.name}: {reason}; it is not a zip archive, cut short or corrupt"
        ) from error
