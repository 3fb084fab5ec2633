"""One zip archive that was opened for reading: its tree, and the contents of its members."""

from __future__ import annotations

import zipfile

from ...errors import Errno, FsError, MountError
from ..base import Handle
from .source import ArchiveSource
from .tree import MAX_PATH_BYTES, TooManyEntries
from .tree_backend import link_target
from .zip_decoder import inflate
from .zip_directory import read_directory
from .zip_member import InflatedHandle, MemberCache, StoredHandle, locate
from .zip_tree import Node, build_tree

MAX_ENTRIES = 1_000_000
CACHE_BYTES = 64 << 20


class ZipArchive:
    """`root` is the tree of all that is visible. Owns `source`, and closes it too if it raises.

    Raises MountError (corrupt, too many entries).
    """

    def __init__(self, source: ArchiveSource, max_entries: int = MAX_ENTRIES, cache_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self.cache = MemberCache(cache_bytes)
        try:
            self.root = _read_tree(source, max_entries)
        except BaseException:
            source.close()
            raise

    def open(self, node: Node) -> Handle:
        """A handle of a regular file. Raises IO."""
        if node.data_start < 0:
            locate(self.source, node)
        assert node.info is not None
        if node.info.compress_type == zipfile.ZIP_STORED:
            return StoredHandle(self.source, node)
        return InflatedHandle(self.source, node, self.cache)

    def readlink(self, node: Node) -> str:
        """The target of a link as it stands. Raises NAMETOOLONG (over 4096 bytes), ILSEQ (no UTF-8, or NUL), IO."""
        if node.stat.size > MAX_PATH_BYTES:
            raise FsError(Errno.NAMETOOLONG, f"link target of {node.stat.size} bytes")
        if node.data_start < 0:
            locate(self.source, node)
        assert node.info is not None
        if node.info.compress_type == zipfile.ZIP_STORED:
            data = bytearray(node.stat.size)
            StoredHandle(self.source, node).read_into(0, data)
        else:
            data = bytearray(inflate(self.source, node))
        return link_target(data)

    def close(self) -> None:
        self.cache.clear()
        self.source.close()


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
