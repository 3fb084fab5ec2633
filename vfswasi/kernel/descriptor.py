"""Open descriptions: what stands behind a descriptor number.

An `OpenFile` has a cursor and flags and shares its inode with every other descriptor of the file; an
`OpenDirectory` is the starting point of paths; `streams.Stream` is standard input and output. All answer
`refuse` when a right is missing, because the errno depends on the kind: a directory that cannot be read is
BADF, a file as the base of a path is NOTDIR, a lost right is NOTCAPABLE, a read-only mount is ROFS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..abi import constants as c
from ..errors import Errno, FsError
from ..fs_backends.base import Backend, Caps, FileType, Key, Stat
from ..fs_backends.waiting import check_entries, check_time
from ..limits import Limits
from . import rights
from .buffers import BUFFERS, JOIN_BYTES, joined
from .files.dirstream import DirectoryStream
from .files.inode import DirectoryInode, FileInode, Volume

if TYPE_CHECKING:
    from .clocks import Deadline

OFFSET_MAX: Final = 2**63 - 1
# Few enough to be gone when the collector looks: what it keeps makes it look through everything that the process has.
_LISTED_AT_ONCE: Final = 256
_DOTS: Final = (FileType.DIRECTORY, FileType.DIRECTORY)


class Mount:
    """One preopen's view of a volume: through which backend, and whether it may be changed.

    `shared`: others change the store meanwhile (`Caps.SHARED`). `keeps_unlinked`: an open file outlives its name there
    (`Caps.HANDLE_SURVIVES_UNLINK`). `devices`: some devices on it can be opened (`Caps.DEVICES`). Looked up once, since
    `in` on a flag is slow. `tells_links`: whether a store that acts on a key in one step has links, and so says of what
    is there that it is none. `withheld`: the rights that nothing below it has when it is read-only; to write to a
    device does not change the mount. `depth`, `name_bytes`, `path_bytes`: see `Limits`. `short`: characters of a path
    in which no name can be too long.
    """

    __slots__ = (
        "backend",
        "depth",
        "devices",
        "keeps_unlinked",
        "name",
        "name_bytes",
        "path_bytes",
        "readonly",
        "shared",
        "short",
        "tells_links",
        "volume",
        "withheld",
    )

    def __init__(self, name: str, volume: Volume, backend: Backend, readonly: bool, limits: Limits) -> None:
        self.depth = limits.depth
        self.name_bytes = limits.name_bytes
        self.path_bytes = limits.path_bytes
        self.short = limits.name_bytes // 4  # a character has at most 4 bytes
        self.name = name
        self.volume = volume
        self.backend = backend
        self.readonly = readonly
        self.shared = Caps.SHARED in backend.caps
        self.keeps_unlinked = Caps.HANDLE_SURVIVES_UNLINK in backend.caps
        self.tells_links = self.keeps_unlinked and Caps.SYMLINKS in backend.caps
        self.devices = Caps.DEVICES in backend.caps
        self.withheld = rights.MUTATING & ~(c.RIGHT_FD_WRITE if self.devices else 0)


class Descriptor:
    """What every descriptor has: its kind, its rights, its flags.

    `heat`: how often it was used, as counted by the engine.
    """

    __slots__ = ("flags", "heat", "inheriting", "rights")

    filetype: FileType
    # Whether reading and writing it may wait for somebody outside (1), or call our own code (2).
    outside = 0

    def __init__(self, base: int, inheriting: int, flags: int = 0) -> None:
        self.rights = base
        self.inheriting = inheriting
        self.flags = flags
        self.heat = 0

    def refuse(self, missing: int) -> FsError:
        """The error for using rights that this descriptor lacks."""
        return FsError(Errno.NOTCAPABLE)

    def read(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        raise self.refuse(c.RIGHT_FD_READ)

    def write(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        raise self.refuse(c.RIGHT_FD_WRITE)

    def stat(self) -> tuple[int, int, Stat]:
        """(device, inode number, attributes)."""
        raise NotImplementedError

    def sync(self, data_only: bool) -> None:
        """Make what was changed through it durable. Raises IO, NOSPC."""
        raise self.refuse(c.RIGHT_FD_SYNC)

    def set_flags(self, flags: int) -> None:
        """`fd_fdstat_set_flags`. Raises NOTSUP for what this descriptor cannot do."""
        if flags & c.FDFLAGS_SYNC & ~self.flags:
            raise FsError(Errno.NOTSUP)
        self.flags = flags

    def close(self, keep: bool = True) -> None:
        """Release what is behind the descriptor; called once. `keep`: a file that its store has not got yet is
        stored."""


class OpenFile(Descriptor):
    """A regular file at a position. Only this class touches `cursor`. `unsynced`: the last write with a SYNC flag was
    made, and then the store could not sync it."""

    __slots__ = ("cursor", "inode", "mount", "unsynced")

    filetype = FileType.REGULAR_FILE

    def __init__(self, mount: Mount, inode: FileInode, base: int, flags: int) -> None:
        self.rights = base
        self.inheriting = 0
        self.flags = flags
        self.heat = 0
        self.mount = mount
        self.inode = inode
        self.cursor = 0
        self.unsynced = False

    def refuse(self, missing: int) -> FsError:
        if missing & rights.DIRECTORY_ONLY:
            return FsError(Errno.NOTDIR)
        if self.mount.readonly and missing & rights.MUTATING:
            return FsError(Errno.ROFS)
        return FsError(Errno.NOTCAPABLE)

    def read(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        cursor = self.cursor
        if len(buffers) == 1:  # as in pread, without a call
            count = self.inode.handle.read_into(cursor, buffers[0])
            if not 0 <= count <= len(buffers[0]):
                raise _lie()
        else:
            count = self.pread(buffers, cursor)
        self.cursor = cursor + count
        return count

    def pread(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Fill the buffers in order from `offset`; bytes read. An error after the first bytes is left for the
        next call. Raises INVAL (offset from 2**63), IO."""
        if offset > OFFSET_MAX:
            raise FsError(Errno.INVAL)
        read_into = self.inode.handle.read_into
        if len(buffers) == 1:
            count = read_into(offset, buffers[0])
            if not 0 <= count <= len(buffers[0]):
                raise _lie()
            return count
        total = 0
        for index, buffer in enumerate(buffers):
            if len(buffer) > JOIN_BYTES or index % BUFFERS == BUFFERS - 1:
                check_time("read")
            try:
                count = read_into(offset + total, buffer)
                if not 0 <= count <= len(buffer):
                    raise _lie()
            except FsError:
                if total:
                    break
                raise
            total += count
            if count < len(buffer):
                break
        return total

    def write(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        cursor = self.cursor
        if len(buffers) == 1 and not self.flags:  # as in pwrite, without a call
            count = len(buffers[0])
            if cursor + count > OFFSET_MAX:
                raise FsError(Errno.FBIG)
            self.inode.handle.write_from(cursor, buffers[0])
        elif self.flags & c.FDFLAG_APPEND:
            return self._append(buffers)
        else:
            count = self.pwrite(buffers, cursor)
        self.cursor = cursor + count
        return count

    def pwrite(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Write the buffers in order at `offset` (at the end, with APPEND); bytes written.

        Raises INVAL (offset from 2**63), FBIG, NOSPC, IO; an error after the first bytes is left for the next call.
        """
        if offset > OFFSET_MAX:
            raise FsError(Errno.INVAL)
        if self.flags & c.FDFLAG_APPEND:
            cursor = self.cursor
            count = self._append(buffers)
            self.cursor = cursor
            return count
        handle = self.inode.handle
        total = 0
        if len(buffers) == 1 and not self.flags:
            total = len(buffers[0])
            if offset + total > OFFSET_MAX:
                raise FsError(Errno.FBIG)
            handle.write_from(offset, buffers[0])
            return total
        for index, piece in enumerate(joined(buffers)):
            if offset + total + len(piece) > OFFSET_MAX:
                if total:
                    break
                raise FsError(Errno.FBIG)
            if len(piece) > JOIN_BYTES or index % BUFFERS == BUFFERS - 1:
                check_time("write")
            try:
                handle.write_from(offset + total, piece)
            except FsError:
                if total:
                    break
                raise
            total += len(piece)
        if total and self.flags & c.FDFLAGS_SYNC:
            self.unsynced = True
            handle.sync(not self.flags & c.FDFLAG_SYNC)
            self.unsynced = False
        return total

    def _append(self, buffers: Sequence[memoryview]) -> int:
        handle = self.inode.handle
        total = 0
        for index, piece in enumerate(joined(buffers)):
            if len(piece) > JOIN_BYTES or index % BUFFERS == BUFFERS - 1:
                check_time("write")
            try:
                self.cursor = handle.append(piece)
            except FsError:
                if total:
                    break
                raise
            total += len(piece)
        if total and self.flags & c.FDFLAGS_SYNC:
            self.unsynced = True
            handle.sync(not self.flags & c.FDFLAG_SYNC)
            self.unsynced = False
        return total

    def seek(self, offset: int, whence: int) -> int:
        """Move the cursor; the new position. `whence`: the kernel's WHENCE_*. Raises INVAL (before the start or
        beyond 2**63 - 1)."""
        if whence == c.WHENCE_CUR:
            offset += self.cursor
        elif whence == c.WHENCE_END:
            offset += self.inode.handle.size()
        if not 0 <= offset <= OFFSET_MAX:
            raise FsError(Errno.INVAL)
        self.cursor = offset
        return offset

    def tell(self) -> int:
        return self.cursor

    def advise(self, offset: int, length: int, advice: int) -> None:
        self.inode.handle.advise(offset, length, advice)

    def stat(self) -> tuple[int, int, Stat]:
        inode = self.inode
        return inode.volume.dev, inode.serial, inode.stat()

    def sync(self, data_only: bool) -> None:
        self.inode.handle.sync(data_only)

    def set_flags(self, flags: int) -> None:
        if flags & c.FDFLAGS_SYNC & ~self.flags and Caps.DURABLE_WRITES not in self.mount.backend.caps:
            raise FsError(Errno.NOTSUP)
        self.flags = flags

    def close(self, keep: bool = True) -> None:
        self.inode.release(keep)


def _lie() -> FsError:
    return FsError(Errno.IO, "the store says that it has read another number of bytes than it can have")


class OpenDirectory(Descriptor):
    """A directory. `preopen`: the guest's name for it if it is a preopen, else None."""

    __slots__ = ("_reading", "inode", "mount", "preopen")

    filetype = FileType.DIRECTORY

    def __init__(
        self, mount: Mount, inode: DirectoryInode, base: int, inheriting: int, preopen: bytes | None = None
    ) -> None:
        super().__init__(base, inheriting)
        self.mount = mount
        self.inode = inode
        self.preopen = preopen
        self._reading = object()  # the key of its snapshot; itself would be a cycle

    def refuse(self, missing: int) -> FsError:
        if missing & rights.FILE_ONLY:
            return FsError(Errno.BADF)
        if self.mount.readonly and missing & rights.MUTATING:
            return FsError(Errno.ROFS)
        return FsError(Errno.NOTCAPABLE)

    def stat(self) -> tuple[int, int, Stat]:
        inode = self.inode
        if inode.key is not None:
            inode.last_stat = self.mount.backend.stat(inode.key)
            ident = inode.last_stat.ident
            return inode.volume.dev, inode.volume.serial(inode.key, ident), inode.last_stat
        return inode.volume.dev, inode.last_stat.ident or 0, inode.last_stat._replace(nlink=0)

    def sync(self, data_only: bool) -> None:
        """Of a directory that was removed there is nothing to keep. Raises IO."""
        if self.inode.key is not None:
            self.mount.backend.sync_directory(self.inode.key, data_only)

    def read_entries(self, cookie: int, size: int) -> memoryview:
        """At most `size` bytes of packed entries behind `cookie`. Raises NOENT (removed), NOMEM, IO, ACCES."""
        snapshots = self.inode.volume.snapshots
        stream = snapshots.get(self._reading) if cookie else None
        if stream is None:
            stream = self._snapshot()
            snapshots.keep(self._reading, stream)
        return stream.read(cookie, size)

    def _snapshot(self) -> DirectoryStream:
        key = self.inode.key
        if key is None:  # a removed directory has no entries, not even dots, as on Linux
            return DirectoryStream((), (), ())
        backend, volume = self.mount.backend, self.inode.volume
        parent = key[:-1]
        own = backend.stat(key).ident
        dots = (own, backend.stat(parent).ident if key else own)
        version = backend.listing_version(key)
        known = volume.listings.get(key)
        if known is not None and version is not None and known[:2] == (version, dots):
            return known[2]
        stream = DirectoryStream((".", ".."), self._serials((key, parent), dots), _DOTS)
        entries = iter(backend.list(key))
        while batch := tuple(islice(entries, _LISTED_AT_ONCE)):
            check_time("a listing")
            names, filetypes, idents = zip(*batch, strict=True)
            del batch
            if None in idents:
                idents = self._serials([(*key, name) for name in names], idents)
            stream.add(names, idents, filetypes)
            check_entries(len(stream) - 2)
        if version is not None:
            volume.keep_listing(key, (version, dots, stream))
        return stream

    def _serials(self, keys: Iterable[Key], idents: Iterable[int | None]) -> tuple[int, ...]:
        return tuple(map(self.inode.volume.serial, keys, idents))

    def copy(self, mount: Mount, inode: DirectoryInode) -> OpenDirectory:
        """The same in a copy of the process, in the middle of the same listing."""
        made = OpenDirectory(mount, inode, self.rights, self.inheriting, self.preopen)
        made.flags = self.flags
        stream = self.inode.volume.snapshots.get(self._reading)
        if stream is not None:
            inode.volume.snapshots.keep(made._reading, stream)
        return made

    def close(self, keep: bool = True) -> None:
        self.inode.volume.snapshots.drop(self._reading)
        self.inode.release()
