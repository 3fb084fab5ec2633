"""One zip archive that was opened for reading: its tree, and the contents of its members."""

from __future__ import annotations

import zipfile

from ....errors import Errno, FsError, MountError
from ....printing import counted
from ... import waiting
from ...base import Handle
from ...budget import Budget
from ...charge import Charge
from ..kind import beginning_of, is_tar_block
from ..source import ArchiveSource
from ..tree import MAX_PATH_BYTES, TooManyEntries
from ..tree_backend import link_target, refused
from .decoder import inflate
from .directory import find_directory, has_directory
from .member import InflatedHandle, MemberCache, StoredHandle, locate
from .member_spool import SPOOL_BYTES
from .tree import Member, ZipIndex

MAX_ENTRIES = 1_000_000
CACHE_BYTES = 64 << 20


class ZipArchive:
    """`index` has the tree of all that is visible. Owns `source`, and closes it too if it raises.

    whole: the file must be a zip archive and nothing else, so that another can take its place. budget: for the index;
    None: that of what is being mounted.

    Raises MountError (corrupt, too many entries, something else), FsError (CANCELED).
    """

    def __init__(
        self,
        source: ArchiveSource,
        max_entries: int = MAX_ENTRIES,
        cache_bytes: int = CACHE_BYTES,
        *,
        whole: bool = False,
        spool_bytes: int = SPOOL_BYTES,
        budget: Budget | None = None,
    ) -> None:
        self.source = source
        self.charge = Charge(waiting.indexes() if budget is None else budget)
        self.cache = MemberCache(cache_bytes, spool_bytes)
        try:
            self.index = _read_index(source, max_entries, self.charge, whole)
        except BaseException:
            self.close()
            raise

    def open(self, member: Member) -> Handle:
        """A handle of a regular file. Raises IO."""
        if member.data_start < 0:
            locate(self.source, member)
        if member.info.method == zipfile.ZIP_STORED:
            return StoredHandle(self.source, member)
        return InflatedHandle(self.source, member, self.cache)

    def readlink(self, member: Member) -> str:
        """The target of a link as it stands. Raises NAMETOOLONG (over 4096 bytes), ILSEQ (no UTF-8, or NUL), IO."""
        size = member.stat.size
        if size > MAX_PATH_BYTES:
            raise FsError(Errno.NAMETOOLONG, f"link target of {counted(size, 'byte')}")
        if member.data_start < 0:
            locate(self.source, member)
        if member.info.method == zipfile.ZIP_STORED:
            data = bytearray(size)
            StoredHandle(self.source, member).read_into(0, data)
        else:
            data = bytearray(inflate(self.source, member))
        return link_target(data)

    def close(self) -> None:
        self.cache.clear()
        self.source.close()
        self.charge.close()


def _read_index(source: ArchiveSource, max_entries: int, charge: Charge, whole: bool) -> ZipIndex:
    advice = "it is not a zip archive, cut short or corrupt"
    try:
        kind = beginning_of(source)
        if kind not in ("zip", None):
            what = "a tar archive" if kind == "tar" else f"a {kind} file"
            if whole:
                raise MountError(
                    f"cannot mount zip archive {source.name} for writing: it begins like {what}; mount it as that, "
                    "with its path or tar://"
                )
            raise MountError(
                f"cannot mount zip archive {source.name}: it begins like {what}; mount it as that, with its path or "
                "tar://"
            )
        if whole and kind is None and not has_directory(source):
            raise MountError(
                f"cannot mount zip archive {source.name} for writing: it is no archive; only directories, zip "
                "archives and tars can be mounted with rw"
            )
        index = ZipIndex(source, find_directory(source), max_entries, charge)
        if whole and (kind is None or is_tar_block(source.read(0, min(source.size, 512))) or not index.covers(source)):
            raise MountError(
                f"cannot mount zip archive {source.name} for writing: the file holds more than the archive, which "
                "would be lost; mount it read-only, or make a plain archive of it first"
            )
        return index
    except TooManyEntries as error:
        raise MountError(
            f"cannot mount zip archive {source.name}: more than {counted(max_entries, 'entry')}; raise max_entries"
        ) from error
    except (zipfile.BadZipFile, FsError, OSError) as error:
        raise refused("zip", source.name, error, advice) from error
