"""The backend protocol: a store of files under clean keys.

A *key* is a tuple of names; `()` is the root of the mount. A name is never empty, `.` or `..`, never holds
`/` or NUL, and is valid Unicode that encodes to at most 255 bytes of UTF-8. The kernel has followed every
symbolic link before it calls: **no ancestor of a key is a link that the backend should follow**. If one has
become a link meanwhile (another process swapped it), the backend raises NOTDIR or LOOP and never follows.

Offsets and sizes are in bytes, times in nanoseconds since 1970 (any Python int, or None where unknown).
A method either does the whole thing or raises `FsError` and has changed nothing. No other exception
leaves a backend: foreign ones are translated where they arise, with the cause chained.

| essential                      | optional (default)                                  |
|--------------------------------|-----------------------------------------------------|
| `caps` `stat` `list` `open`    | `walk` (a loop over `stat`), `close` (nothing),     |
|                                | `listing_version` and `place` (unknown),            |
|                                | `version` (made of `stat`),                         |
|                                | `device` (there are none),                          |
|                                | `sync_directory` (nothing),                         |
|                                | every mutator (raises ROFS, NOTSUP for links/times) |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, Flag, IntEnum, auto
from typing import NamedTuple

from ..errors import Errno, FsError, Uncommitted
from ..records import record

Key = tuple[str, ...]
Buffer = bytearray | memoryview
ReadableBuffer = bytes | bytearray | memoryview


class FileType(IntEnum):
    """preview1 `filetype`, with its numbers."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class Caps(Flag):
    """What a backend can do; a missing capability is refused with the errno named here."""

    NONE = 0
    WRITE = auto()  # any mutation at all, else ROFS
    RANDOM_WRITE = auto()  # write_from at any offset of an existing file, else NOTSUP
    EMPTY_DIRS = auto()  # a directory without entries can exist
    SYMLINKS = auto()  # symlink() works, else NOTSUP; readlink may be needed without it
    HARDLINKS = auto()  # link() works, else NOTSUP
    SET_TIMES = auto()  # set_times() works, else NOTSUP
    ATOMIC_RENAME = auto()  # rename() replaces its target in one step
    HANDLE_SURVIVES_UNLINK = auto()  # an open Handle stays usable after remove(); else the kernel spools it
    DURABLE_WRITES = auto()  # sync() of one write is cheap: the SYNC flags are accepted, else NOTSUP
    IMMUTABLE = auto()  # nothing ever changes: the kernel may remember everything
    SHARED = auto()  # others change it while it is mounted: the kernel asks again at every call
    DEVICES = auto()  # some of its character devices can be opened: device() tells which


class Device(Enum):
    """What a character device is when it is opened. The kernel makes them; a backend only says which one it means."""

    NULL = auto()
    ZERO = auto()
    FULL = auto()
    RANDOM = auto()
    STDIN = auto()
    STDOUT = auto()
    STDERR = auto()


class Stat(NamedTuple):
    """Attributes of one object. `ident`: a number unique within the backend (0 < ident < 2**64) that follows
    the object through rename and is shared by its hard links, or None where the store has no such thing."""

    filetype: FileType
    size: int
    atim_ns: int | None = None
    mtim_ns: int | None = None
    ctim_ns: int | None = None
    nlink: int = 1
    ident: int | None = None


class DirEntry(NamedTuple):
    """One name in a directory; `ident` equals that of `stat()` on it, or None."""

    name: str
    filetype: FileType
    ident: int | None = None


@record()
class Traffic:
    """What a store far away cost: requests, and bytes of contents that came and went."""

    requests: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.requests + other.requests,
            self.bytes_received + other.bytes_received,
            self.bytes_sent + other.bytes_sent,
        )

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.requests - other.requests,
            self.bytes_received - other.bytes_received,
            self.bytes_sent - other.bytes_sent,
        )


def version_of(found: Stat) -> str | None:
    """As `Backend.version`, of a store that tells all that it knows in `stat`."""
    if found.ident is None or found.mtim_ns is None or found.ctim_ns is None:
        return None
    return f"{found.ident:x}-{found.size:x}-{found.mtim_ns:x}-{found.ctim_ns:x}"


class Handle:
    """An open regular file. Positional I/O only: there is no cursor anywhere below the descriptor.

    A handle never keeps a reference to a buffer it was given: the memory behind it may go away.
    """

    def read_into(self, offset: int, buf: Buffer) -> int:
        """Fill `buf` from `offset`; return the bytes read, fewer than len(buf) only at end of file.

        Raises IO. Offsets past the end give 0.
        """
        raise NotImplementedError

    def write_from(self, offset: int, buf: ReadableBuffer) -> None:
        """Write all of `buf` at `offset`; a gap after the old end reads as zeros. All or error.

        An empty `buf` changes nothing. Raises ROFS (opened for reading), NOSPC, FBIG, DQUOT, IO.
        """
        raise FsError(Errno.ROFS)

    def append(self, buf: ReadableBuffer) -> int:
        """Write all of `buf` at the end, in one step where the store can; return the new end's offset."""
        end = self.size()
        self.write_from(end, buf)
        return end + len(buf)

    def truncate(self, size: int) -> None:
        """Set the size; growth reads as zeros. Raises ROFS, NOSPC, FBIG, IO."""
        raise FsError(Errno.ROFS)

    def size(self) -> int:
        """Current size in bytes, seen through every handle of the same file."""
        return self.stat().size

    def stat(self) -> Stat:
        """Current attributes; `nlink` is 0 once the last name is gone."""
        raise NotImplementedError

    def true_stat(self) -> Stat:
        """As `stat`, for those who keep some of the file and look whether it was changed: a layer that shows other
        times to the guest hands on what the store says."""
        return self.stat()

    def ident(self) -> int | None:
        """`stat().ident`, which never changes."""
        return self.stat().ident

    def set_times(self, atim_ns: int | None, mtim_ns: int | None) -> None:
        """Set what is not None. Raises ROFS, NOTSUP."""
        raise FsError(Errno.NOTSUP)

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that `offset + length` bytes can be stored; grows the file, never shrinks it."""
        if offset + length > self.size():
            self.truncate(offset + length)

    def reserve(self, offset: int, length: int) -> bool:
        """Promise that writes within this range cannot fail for lack of space or quota.

        Does not change the size. It holds until the next `reserve`, `truncate` or `close`; a length of 0 gives back
        what was reserved. False: the store cannot promise that now, or never; writes are then not deferred.
        """
        return False

    def advise(self, offset: int, length: int, advice: int) -> None:
        """A hint (preview1 `advice` number); may do nothing."""

    def sync(self, data_only: bool) -> None:
        """Make what was written durable. Raises IO, NOSPC: a deferred write failed."""

    def close(self) -> None:
        """Release the handle; called exactly once. May raise what `sync` raises."""

    def discard(self) -> None:
        """As `close`, after a run that did not end by itself: a store that publishes a file as a whole when it is
        closed does not publish this one."""
        self.close()


class Backend:
    """A store of files. Subclass it, set `caps`, override what the store can do."""

    caps: Caps = Caps.NONE

    @property
    def identity(self) -> object:
        """The store behind the backend: two backends with the same identity show the same files."""
        return self

    @property
    def place(self) -> Key | None:
        """Where the store lies in something larger of which other parts may be mounted too, such as a directory in the
        host's tree: ("local", "srv", "data"). Two places of which one starts with the other show the same files."""
        return None

    def stat(self, key: Key) -> Stat:
        """Attributes of the object itself; never follows a link. Raises NOENT, NOTDIR (a non-directory on the
        way), ACCES, IO."""
        raise NotImplementedError

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        """Look up `names` one below the other, starting in the directory `key`.

        Returns (count, stat): the walk stops after the last name, after the first object that is not a
        directory, or before the first name that does not exist; `count` names were found and `stat`
        belongs to the last one found (None if count is 0). A missing name is not an error; ACCES, IO are.
        """
        found: Stat | None = None
        for count, name in enumerate(names):
            key = (*key, name)
            try:
                found_next = self.stat(key)
            except FsError as error:
                if error.errno is Errno.NOENT:
                    return count, found
                raise
            found = found_next
            if found.filetype is not FileType.DIRECTORY:
                return count + 1, found
        return len(names), found

    def list(self, key: Key) -> Iterable[DirEntry]:
        """The entries of a directory, without `.` and `..`, without duplicates. Raises NOENT, NOTDIR, ACCES, IO.

        Names that a key cannot hold (see the top of this module) are left out.
        """
        raise NotImplementedError

    def listing_version(self, key: Key) -> int | None:
        """A number that is another one whenever `list(key)` would give something else; None if the store cannot tell.
        Raises NOENT, NOTDIR."""
        return None

    def version(self, key: Key) -> str | None:
        """A text that is another one once the file at `key` has other contents, whatever its size and time say by then;
        None: the store cannot tell. It may change without them. Raises as `stat`."""
        return version_of(self.stat(key))

    def open(self, key: Key, write: bool) -> Handle:
        """Open an existing regular file; never creates, never truncates.

        With `write` the handle reads and writes. Raises NOENT, ISDIR, LOOP (a symbolic link), ROFS, ACCES, IO.
        """
        raise NotImplementedError

    def device(self, key: Key) -> Device | None:
        """Which device the character device at `key` is; None for one that cannot be opened (ACCES). Asked only with
        `Caps.DEVICES`. A device entry that a store merely found in its contents is none of these."""
        return None

    def create(self, key: Key) -> Handle:
        """Create an empty regular file and open it for reading and writing. Exclusive: raises EXIST for anything
        that is there, NOENT (no parent), NOTDIR, ROFS, NOSPC."""
        raise FsError(Errno.ROFS)

    def mkdir(self, key: Key) -> None:
        """Create an empty directory. Raises EXIST, NOENT, NOTDIR, ROFS, NOSPC."""
        raise FsError(Errno.ROFS)

    def rmdir(self, key: Key) -> None:
        """Remove an empty directory. Raises NOENT, NOTDIR, NOTEMPTY, ROFS."""
        raise FsError(Errno.ROFS)

    def remove(self, key: Key) -> None:
        """Remove a file or a symbolic link. Raises NOENT, ISDIR, ROFS."""
        raise FsError(Errno.ROFS)

    def rename(self, old: Key, new: Key) -> None:
        """Move an object, replacing a file by a file and an empty directory by a directory.

        The kernel has excluded: the same object twice, a directory into itself. Raises NOENT, NOTDIR, ISDIR,
        NOTEMPTY, ROFS, NOTSUP.
        """
        raise FsError(Errno.ROFS)

    def symlink(self, target: str, key: Key) -> None:
        """Create a symbolic link holding `target` as it stands. Raises EXIST, NOENT, ROFS, NOTSUP."""
        raise FsError(Errno.NOTSUP if Caps.WRITE in self.caps else Errno.ROFS)

    def readlink(self, key: Key) -> str:
        """The target of a symbolic link as it stands. Raises NOENT, INVAL (not a link), ILSEQ."""
        raise FsError(Errno.INVAL)

    def link(self, old: Key, new: Key) -> None:
        """Give a file or symbolic link a second name. Raises EXIST, NOENT, PERM (directory), ROFS, NOTSUP."""
        raise FsError(Errno.NOTSUP if Caps.WRITE in self.caps else Errno.ROFS)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        """Set the times that are not None, on the object itself. Raises NOENT, ROFS, NOTSUP."""
        raise FsError(Errno.NOTSUP if Caps.WRITE in self.caps else Errno.ROFS)

    def note_times(self, key: Key) -> None:
        """The file at `key`, which is open, is about to get other times through its handle. For layers that keep
        account of what is changed; a store has nothing to do."""

    def sync_directory(self, key: Key, data_only: bool) -> None:
        """Make the names in the directory `key` durable: those that were added, removed and renamed so far. A store
        where nothing outlives the process, or where a name is durable once a call has returned, has nothing to do.
        `data_only`: its attributes do not matter. Raises NOENT, NOTDIR, IO."""

    def finish(self, keep: bool) -> None:
        """A run with the store mounted `rw` is over, its handles are closed. A store that publishes all changes as a
        whole does it now, or with `keep` false gives them up. Raises IO, NOSPC, STALE (it was changed by somebody
        else)."""

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        """Files that could not be stored when they were closed; each is told once."""
        return ()

    def traffic(self) -> Traffic | None:
        """What was moved to and from the store so far; None: it is not far away."""
        return None

    def close(self) -> None:
        """Release what the backend holds (archive, directory descriptor). Called once, after all handles."""
