"""What a remote store has to be able to do, so that `RemoteBackend` can make a tree of files of it.

A `Client` knows one store below one root, by keys. It remembers nothing: listings, contents and what was written
but not stored yet are the business of the backend above it. Every method may be called from any thread, makes the
requests it says and no others, ends within the timeout, and raises nothing but `FsError`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from enum import Enum
from typing import NamedTuple, Protocol

from ...errors import Errno, FsError
from .. import waiting
from ..base import FileType, Key, Traffic
from ..layers.checked import SIZE_MAX
from ..layers.checked import fits_a_key as fits_a_key
from .asker import token_of


class Info(NamedTuple):
    """One object. `size` is None where only reading tells. `version`: a text that another content would not have
    (an ETag), or None. `target`: of a symbolic link."""

    filetype: FileType
    size: int | None = 0
    mtim_ns: int | None = None
    version: str | None = None
    target: str | None = None


def sound(info: object) -> bool:
    """Whether every part of a description can be what it says."""
    return (
        isinstance(info, Info)
        and isinstance(info.filetype, FileType)
        and (info.size is None or (type(info.size) is int and 0 <= info.size <= SIZE_MAX))
        and (info.mtim_ns is None or type(info.mtim_ns) is int)
        and (info.version is None or isinstance(info.version, str))
        and (info.target is None or isinstance(info.target, str))
    )


DIRECTORY = Info(FileType.DIRECTORY)

# What was fetched.
Data = bytes | bytearray

# Entries of a directory, by name, and whether these are all.
Page = tuple[dict[str, Info], bool]


class Unranged(FsError):
    """The store has no ranges of the object, only all of it: see `Client.download`."""

    def __init__(self, detail: str) -> None:
        super().__init__(Errno.IO, detail)


class Elsewhere(FsError):
    """The store says that the object is in another place, which nobody has mounted."""

    def __init__(self, detail: str) -> None:
        super().__init__(Errno.ACCES, detail)


class Guard(Enum):
    """What has to be true of the object that a `put` replaces, checked by the store itself where it can."""

    NEW = "there is none"
    SAME = "it has the version that was given"
    ANY = "nothing"


class Body(Protocol):
    """Contents to be stored."""

    size: int

    def read(self, offset: int, count: int) -> bytes: ...


class Upload:
    """An object that is sent while it is still being written, part by part in order."""

    part_bytes = 8 << 20

    def add(self, body: Body, end: int) -> None:
        """What lies before `end` will hardly change any more: send the parts that are complete. Waits when enough are
        on their way. Raises what `finish` raises."""
        raise NotImplementedError

    def changed(self, start: int, end: int) -> None:
        """Bytes that may have been sent are others now."""
        raise NotImplementedError

    def finish(self, body: Body, guard: Guard, version: str | None) -> Info:
        """Send the rest; the object is there, as a whole. Raises as `Client.put`; then nothing of it is left there."""
        raise NotImplementedError

    def abort(self) -> None:
        """Nothing of it is left there. Raises nothing."""
        raise NotImplementedError


class Counter:
    """Counts traffic as it happens, from any thread."""

    def __init__(self) -> None:
        self._traffic = Traffic()
        self._lock = threading.Lock()

    def count(self, requests: int = 0, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self._traffic.requests += requests
            self._traffic.bytes_received += received
            self._traffic.bytes_sent += sent

    def now(self) -> Traffic:
        with self._lock:
            return replace(self._traffic)


class Client:
    """One store below one root. Subclass it and say what the store can do.

    name: what messages call it, without secrets. identity: equal for clients that show the same files,
    whoever asks for them. place: see `Backend.place`. writes: anything
    can be changed. lists_first: one listing of a directory is worth more than asking for one name in it. remembers:
    listings may be kept for a while. has_links: a name may
    be a symbolic link. moves_directories: a directory can be renamed. implied: directories are there as long as
    something is in them, and come into being with it.
    """

    name: str
    identity: object
    place: Key | None = None
    writes = False
    lists_first = True
    remembers = True
    has_links = False
    moves_directories = False
    implied = False
    lists_all = True
    timeout_s = 30.0

    def __init__(self) -> None:
        self.counter = Counter()

    @functools.cached_property
    def asker(self) -> str:
        """Equal for clients that ask with the same credentials, options and session: they may have each other's
        blocks. Here nobody else's. Raises what a request raises."""
        return token_of(self)

    def info(self, key: Key) -> Info | None:
        """One object, or None: nothing is there. One request where the store has one for it. Raises ACCES, IO."""
        raise NotImplementedError

    def pages(self, key: Key) -> Iterator[Page]:
        """The entries of a directory, one request per page; no pages: there is no such directory. Names that a key
        cannot hold are left out. Raises NOTDIR, ACCES, IO."""
        raise NotImplementedError

    def fetch(self, key: Key, info: Info, start: int, end: int) -> Future[Data]:
        """Start to read `[start, end)` of the object's version; the future's result is exactly that, or an FsError:
        STALE (another version is there now), `Unranged`, NOENT, ACCES, IO."""
        raise NotImplementedError

    def download(self, key: Key, info: Info, write: Callable[[Data], None]) -> None:
        """All of the object's version, in order, given to `write` piece by piece on this thread. Raises as `fetch`, and
        FBIG, DQUOT, CANCELED and what `write` raises."""
        data = waiting.result(self.fetch(key, info, 0, -1), None, f"{self.name}: read")
        waiting.spend(count=len(data))
        write(data)

    def give_back(self, data: Data) -> None:
        """Nobody will look at what was fetched any more; it may be used again."""

    def put(self, key: Key, body: Body, guard: Guard, version: str | None) -> Info:
        """Store a whole object, which readers see as a whole or not at all where the store can do that.

        Raises EXIST (NEW, and there is one), STALE (SAME, and it has another version), ACCES, NOSPC, IO.
        """
        raise FsError(Errno.ROFS)

    def start_upload(self, key: Key) -> Upload | None:
        """For a large object that is written in order; None: it has to be put as a whole."""
        return None

    def make_directory(self, key: Key) -> None:
        """Raises EXIST, NOENT, ACCES, IO."""
        raise FsError(Errno.ROFS)

    def remove_directory(self, key: Key) -> None:
        """Of a directory that is empty, and may only be implied. Raises ACCES, IO, NOTEMPTY."""
        raise FsError(Errno.ROFS)

    def remove(self, key: Key) -> None:
        """Of a file. Raises NOENT, ACCES, IO."""
        raise FsError(Errno.ROFS)

    def copy(self, old: Key, new: Key, info: Info) -> Info:
        """Make `new` the same as `old`, whose description is `info`, replacing what is there. Raises NOENT, ACCES,
        IO."""
        raise FsError(Errno.ROFS)

    def move(self, old: Key, new: Key, info: Info, replaces: bool) -> Info | None:
        """Rename a file in one step of the server's own, what is at `new` too if it `replaces` that; None: the store
        has no such step. Raises NOENT, ACCES, IO."""
        return None

    def close(self) -> None:
        """Let go of connections and threads that are ours."""
