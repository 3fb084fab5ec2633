"""`RemoteBackend`: a tree of files over a `Client`.

Objects are described by listings (see `listings`), read in pieces (see `reader`), and written as a whole when they are
synced or closed (see `open_object`). What the guest has written and not closed yet is in the tree for this run only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...errors import Errno, FsError, Uncommitted
from ..base import Backend, Caps, DirEntry, FileType, Handle, Key, Stat, Traffic
from ..staging.space import DISK_MAX_BYTES, StagingSpace
from .cache import default_cache
from .client import DIRECTORY, Client, Info
from .listings import Listings, Unknown
from .open_object import OpenObject, RemoteHandle
from .reader import ReadOptions
from .sizes import Sizes

STAGING_MEMORY_BYTES = 32 << 20
STAGED_FILE_MEMORY_BYTES = 8 << 20  # of that, for each file


class RemoteBackend(Backend):
    """A store that is reached through a client. Several sandboxes, on several threads, may use it at once.

    client: the store; closed with the backend. options: how to read it. listing_seconds: how long listings are
    believed; 0: never. rename_directories: whether a directory may be renamed where that means to copy and delete each
    of its files, one after the other.
    """

    def __init__(
        self,
        client: Client,
        options: ReadOptions | None = None,
        *,
        listing_seconds: float = 30.0,
        rename_directories: bool = False,
    ) -> None:
        self.client = client
        options = options or ReadOptions(cache=default_cache())
        self.read_options = replace(options, timeout_s=client.timeout_s)
        self.listings = Listings(client, listing_seconds if client.remembers else 0)
        self.sizes = Sizes(client, self.listings)
        self.space = StagingSpace(STAGING_MEMORY_BYTES, DISK_MAX_BYTES, file_memory_bytes=STAGED_FILE_MEMORY_BYTES)
        self.stream_bytes = 2 * STAGED_FILE_MEMORY_BYTES
        self.uncommitted: list[Uncommitted] = []
        self._rename_directories = rename_directories or client.moves_directories
        self._open: dict[Key, OpenObject] = {}
        self._lock = threading.RLock()
        self.caps = Caps.EMPTY_DIRS
        if client.writes:
            self.caps |= Caps.WRITE | Caps.RANDOM_WRITE

    @property
    def identity(self) -> object:
        return self.client.identity

    @property
    def place(self) -> Key | None:
        return self.client.place

    def traffic(self) -> Traffic:
        return self.client.counter.now()

    # Looking

    def _peek(self, key: Key) -> Info | Unknown | None:
        opened = self._open.get(key)
        if opened is not None:
            return Info(FileType.REGULAR_FILE)
        return self.listings.peek(key)

    def _look(self, key: Key) -> Info | None:
        """What is at `key`, None for nothing."""
        opened = self._open.get(key)
        if opened is not None:
            stat = opened.stat()
            return Info(FileType.REGULAR_FILE, stat.size, stat.mtim_ns, opened.info and opened.info.version)
        return self.listings.ask(key)

    def _missing(self, key: Key) -> FsError:
        """Why nothing is at `key`."""
        for depth in range(len(key) - 1, 0, -1):
            found = self._look(key[:depth])
            if found is not None:
                return FsError(Errno.NOENT if found.filetype is FileType.DIRECTORY else Errno.NOTDIR)
        return FsError(Errno.NOENT)

    def _existing(self, key: Key) -> Info:
        if self.client.has_links and len(key) > 1:
            count, _ = self.walk((), key[:-1])
            if count < len(key) - 1 or self._walked_to(key[:-1]) is not FileType.DIRECTORY:
                raise self._missing_below(key)
        found = self._look(key)
        if found is None:
            raise self._missing(key)
        return found

    def _walked_to(self, key: Key) -> FileType | None:
        found = self._look(key)
        return None if found is None else found.filetype

    def _missing_below(self, key: Key) -> FsError:
        for depth in range(1, len(key)):
            found = self._look(key[:depth])
            if found is None:
                return FsError(Errno.NOENT)
            if found.filetype is not FileType.DIRECTORY:
                return FsError(Errno.NOTDIR)
        return FsError(Errno.NOENT)

    def stat(self, key: Key) -> Stat:
        return self._stat(key, self._existing(key))

    def _stat(self, key: Key, info: Info) -> Stat:
        if info.size is None and info.filetype is FileType.REGULAR_FILE:
            info = info._replace(size=self.sizes.of(key, info))
        return _stat(info)

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        found: Info | None = None
        if key and names and self.stat(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        base, full = len(key), key + names
        reached = 0  # names found
        while reached < len(names):
            known = self._peek(full[: base + reached + 1])
            if isinstance(known, Unknown):
                break
            if known is None:
                at = full[: base + reached]
                return reached, None if found is None else self._stat(at, self._look(at) or found)
            found = known
            reached += 1
            if known.filetype is not FileType.DIRECTORY:
                at = full[: base + reached]
                return reached, self._stat(at, self._look(at) or known)
        if reached == len(names):
            return reached, None if found is None else _stat(found)
        if self.client.has_links:
            return super().walk(key, names)
        last = self._look(full)
        if last is not None:
            return len(names), self._stat(full, last)
        # How far the way exists: what is below something missing, or below a file, is missing.
        low, high = reached, len(names)  # low names exist, high names do not
        while high - low > 1:
            middle = high - 1 if high == len(names) else (low + high) // 2
            here = self._look(full[: base + middle])
            if here is None:
                high = middle
            else:
                low, found = middle, here
                if here.filetype is not FileType.DIRECTORY:
                    break
        return low, None if found is None or not low else self._stat(full[: base + low], found)

    def list(self, key: Key) -> Iterable[DirEntry]:
        if key and self._existing(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        entries = self.listings.entries(key) or {}
        kinds = {name: info.filetype for name, info in entries.items()}
        depth = len(key)
        with self._lock:
            opened = [other for other in self._open if len(other) == depth + 1 and other[:depth] == key]
        for other in opened:
            kinds[other[-1]] = FileType.REGULAR_FILE
        for other in list(self.listings.made):
            if len(other) == depth + 1 and other[:depth] == key:
                kinds[other[-1]] = FileType.DIRECTORY
        return [DirEntry(name, kind) for name, kind in kinds.items()]

    def version(self, key: Key) -> str | None:
        return self._existing(key).version

    def readlink(self, key: Key) -> str:
        info = self._existing(key)
        if info.filetype is not FileType.SYMBOLIC_LINK:
            raise FsError(Errno.INVAL)
        if info.target is None:
            raise FsError(Errno.IO, "the store does not say where the link leads")
        return info.target

    # Files

    def open(self, key: Key, write: bool) -> Handle:
        with self._lock:
            opened = self._open.get(key)
            if opened is not None:
                if write and not self.client.writes:
                    raise FsError(Errno.ROFS)
                return RemoteHandle(opened, write)
        info = self._existing(key)
        if info.filetype is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        if info.filetype is FileType.SYMBOLIC_LINK:
            raise FsError(Errno.LOOP)
        if write and not self.client.writes:
            raise FsError(Errno.ROFS)
        if info.filetype is not FileType.REGULAR_FILE:
            raise FsError(Errno.ACCES, "not a file or directory")
        return self._handle(key, info, write)

    def _handle(self, key: Key, info: Info | None, write: bool) -> Handle:
        with self._lock:
            opened = self._open.get(key)
            if opened is None:
                opened = self._open[key] = OpenObject(self, key, info)
            elif info is None:
                raise FsError(Errno.EXIST)
            handle = RemoteHandle(opened, write)
        if opened.info is not None and opened.info.size is None:
            try:
                with opened.lock:
                    opened.stage()
            except BaseException:
                handle.discard()
                raise
        return handle

    def closed(self, opened: OpenObject) -> None:
        """The last handle of it was closed."""
        with self._lock:
            for key, other in list(self._open.items()):
                if other is opened:
                    del self._open[key]

    def create(self, key: Key) -> Handle:
        self._new(key)
        return self._handle(key, None, True)

    def _new(self, key: Key) -> None:
        """Something can be made at `key`. Raises EXIST, NOENT, NOTDIR, ROFS."""
        if not self.client.writes:
            raise FsError(Errno.ROFS)
        if not key:
            raise FsError(Errno.EXIST)
        if self._look(key) is not None:
            raise FsError(Errno.EXIST)
        self._check_parent(key)

    def _check_parent(self, key: Key) -> None:
        """There is a directory for `key` to be in. Raises NOENT, NOTDIR."""
        if len(key) > 1:
            parent = self._existing(key[:-1]) if self.client.has_links else self._look(key[:-1])
            if parent is None:
                raise self._missing(key)
            if parent.filetype is not FileType.DIRECTORY:
                raise FsError(Errno.NOTDIR)

    def _forget_open(self, key: Key) -> OpenObject | None:
        """The name goes away: what is open under it becomes nameless."""
        with self._lock:
            opened = self._open.pop(key, None)
        if opened is not None:
            opened.removed()
        return opened

    def remove(self, key: Key) -> None:
        info = self._existing(key)
        if not self.client.writes:
            raise FsError(Errno.ROFS)
        if info.filetype is FileType.DIRECTORY:
            raise FsError(Errno.ISDIR)
        opened = self._open.get(key)
        if opened is None or opened.info is not None:
            self.client.remove(key)
        self._forget_open(key)
        self.listings.note(key, None)

    # Directories

    def mkdir(self, key: Key) -> None:
        self._new(key)
        self.client.make_directory(key)
        self.listings.note(key, DIRECTORY)
        self.listings.made.add(key)

    def rmdir(self, key: Key) -> None:
        if not self.client.writes:
            raise FsError(Errno.ROFS)
        if not key:
            raise FsError(Errno.BUSY)
        if self._existing(key).filetype is not FileType.DIRECTORY:
            raise FsError(Errno.NOTDIR)
        self.listings.forget((*key, ""))
        if not self._is_empty(key):
            raise FsError(Errno.NOTEMPTY)
        self.client.remove_directory(key)
        self.listings.note(key, None)

    def _is_empty(self, key: Key) -> bool:
        """A directory. The first page of it tells, unless nothing on that is a name."""
        return not self.listings.entries(key, complete=False) and not any(True for _ in self.list(key))

    # Renaming

    def rename(self, old: Key, new: Key) -> None:
        if not self.client.writes:
            raise FsError(Errno.ROFS)
        source = self._existing(old)
        self._check_parent(new)
        target = self._look(new) if new else DIRECTORY
        is_directory = source.filetype is FileType.DIRECTORY
        if target is not None:
            if is_directory and target.filetype is not FileType.DIRECTORY:
                raise FsError(Errno.NOTDIR)
            if not is_directory and target.filetype is FileType.DIRECTORY:
                raise FsError(Errno.ISDIR)
        for found in (source, target):
            self._check_copied(found)
        if not is_directory:
            self._rename_file(old, new, target)
            return
        if target is not None and not self._is_empty(new):
            raise FsError(Errno.NOTEMPTY)
        if not self._rename_directories:
            raise FsError(Errno.NOTSUP, "directories of this store can only be copied: see rename_directories")
        self._check_copied_below(old)
        self._rename_directory(old, new, target is None)

    @staticmethod
    def _check_copied(info: Info | None) -> None:
        """To rename is to copy here, and the store would copy what is behind a link, or over it. Raises NOTSUP."""
        if info is not None and info.filetype not in (FileType.REGULAR_FILE, FileType.DIRECTORY):
            raise FsError(Errno.NOTSUP, "only regular files can be copied to another name")

    def _check_copied_below(self, key: Key) -> None:
        """The same for all that is in a directory, before anything of it is moved."""
        for entry in self.list(key):
            self._check_copied(Info(entry.filetype))
            if entry.filetype is FileType.DIRECTORY:
                self._check_copied_below((*key, entry.name))

    def _rename_file(self, old: Key, new: Key, target: Info | None) -> None:
        opened = self._open.get(old)
        if opened is not None and opened.info is None and target is None:
            self._rekey(opened, old, new)  # the store has never heard of it
            return
        if opened is not None:
            opened.commit()
        info = self.listings.ask(old)
        if info is None:
            raise self._missing(old)
        self._check_copied(info)
        moved = self.client.move(old, new, info, target is not None)
        copied = self.client.copy(old, new, info) if moved is None else moved
        self._forget_open(new)
        self.listings.note(new, copied)
        if moved is None:
            self.client.remove(old)
        self.listings.note(old, None)
        if opened is not None:
            opened.info = copied
            self._rekey(opened, old, new)

    def _rekey(self, opened: OpenObject, old: Key, new: Key) -> None:
        with self._lock:
            self._open.pop(old, None)
            self._open[new] = opened
        opened.moved(new)

    def _rename_directory(self, old: Key, new: Key, make: bool) -> None:
        if make:
            self.client.make_directory(new)
            self.listings.note(new, DIRECTORY)
            self.listings.made.add(new)
        for entry in list(self.list(old)):
            below, there = (*old, entry.name), (*new, entry.name)
            if entry.filetype is FileType.DIRECTORY:
                self._rename_directory(below, there, True)
            else:
                self._rename_file(below, there, None)
        self.client.remove_directory(old)
        self.listings.note(old, None)
        self.listings.forget_below(old)

    # The end

    def take_uncommitted(self) -> Sequence[Uncommitted]:
        with self._lock:
            found, self.uncommitted = self.uncommitted, []
        return found

    def close(self) -> None:
        for lost in self.take_uncommitted():
            lost.close()
        self.client.close()


def _stat(info: Info) -> Stat:
    return Stat(info.filetype, info.size or 0, info.mtim_ns, info.mtim_ns, info.mtim_ns)
