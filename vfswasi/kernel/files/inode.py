"""Identity: which object is behind a name, and what happens to it when the name goes away.

A `Volume` is one store, whatever number of mounts show it; it gives the device number and holds the inodes
that are open. Only open objects have an inode here: the backends keep the rest. An inode knows its current
key, so that a rename moves what is open along with the name, and a removal leaves the open object nameless.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from ...errors import Errno, FsError
from ...fs_backends.base import Backend, Caps, FileType, Handle, Key, Stat
from .dirstream import DirectoryStream, Snapshots
from .filedata import Spools
from .quota import UNKNOWN, ChargedHandle, Quota
from .serials import Serials
from .sharing import Share
from .window import Window

_LISTINGS_MAX: Final = 16
_LISTING_MAX_BYTES: Final = 1 << 20

# (the store's version of it, the inode numbers of `.` and `..`, its packed entries)
Listing = tuple[int, tuple[int | None, int | None], DirectoryStream]


class Volume:
    """One store: `dev` is its device number; `files` and `directories` are its open inodes.

    `share`: this run's part in it; None for a store that nobody can change. `alone`: no other store of the run shows
    some of the same files. `quota`: what the run may add to it; None if it may add nothing. `snapshots`: what the run's
    directory descriptors are at, on all stores. `spools`: what its files had that it cannot keep.
    """

    def __init__(self, dev: int, share: Share | None = None, snapshots: Snapshots | None = None) -> None:
        self.dev = dev
        self.share = share
        self.snapshots = Snapshots() if snapshots is None else snapshots
        self.alone = True
        self.quota: Quota | None = None
        self.files: dict[int | Key, FileInode] = {}
        self.named: dict[Key, FileInode] = {}  # those of `files` that have a name, by the one they were opened under
        self.windowed: set[FileInode] = set()  # those of `files` that have a window
        self.directories: dict[Key, DirectoryInode] = {}
        self.listings: dict[Key, Listing] = {}  # of stores that tell when a directory has changed
        self._serials = Serials()
        self.spools = Spools()
        self._nameless = 0  # files that lost their name while they were open, ever

    def become(self, other: Volume) -> None:
        """Give objects the numbers that `other` does."""
        self._serials = other._serials.copy()
        self._nameless = other._nameless

    def serial(self, key: Key, ident: int | None) -> int:
        """The inode number of the object at `key`: the store's own number, or ours."""
        return self._serials.of(key) if ident is None else ident

    def inodes_at(self, key: Key) -> Iterator[FileInode]:
        """The open files whose name is `key` or below it."""
        depth = len(key)
        for inode in list(self.files.values()):
            if inode.key is not None and inode.key[:depth] == key:
                yield inode

    def open_inode(self, key: Key, ident: int | None) -> FileInode | None:
        """The open file at `key`, if there is one."""
        return self.files.get(key if ident is None else ident)

    def settle(self, key: Key, ident: int | None) -> bool:
        """Before the file at `key` is looked at by its path: the store gets what a window keeps of it. Whether there
        was anything, so that what was looked up before is old."""
        inode = self.files.get(key if ident is None else ident)
        return inode is not None and inode.window is not None and inode.window.settle()

    def attributes_changed(self, key: Key, ident: int | None) -> None:
        """The file at `key` got or lost a name, or got other times."""
        inode = self.files.get(key if ident is None else ident)
        if inode is not None and inode.window is not None:
            inode.window.forget_attributes()

    def forget(self, key: Key) -> None:
        """The name `key` was removed: what is open under it becomes nameless."""
        self.unlinked(key)
        directory = self.directories.pop(key, None)
        if directory is not None:
            directory.key = None

    def unlinked(self, key: Key) -> None:
        """As `forget`, for what was no directory."""
        for inode in self.windowed:
            assert inode.window is not None
            inode.window.forget_attributes()  # it may have lost one of several names
        named = self.named.pop(key, None) if self.named else None
        if self._serials.used:
            self._serials.removed(key, named is not None)
        quota = self.quota
        if quota is not None:
            run = quota.run
            if run.inodes > run.highest_inodes:
                run.highest_inodes = run.inodes
            if run.inodes:  # to remove what was there before makes no room for more
                run.inodes -= 1
            charged = quota.charges.pop(key, 0)
            if charged:
                if named is None:  # as `Quota.credit`, without a call
                    if quota.bytes > quota.peak:
                        quota.peak = quota.bytes
                    if quota.limit < 0:
                        run.note_peak()
                    quota.bytes -= charged
                else:  # open for reading
                    named.owed = charged
        if named is not None:
            named.key = None
            if named.slot == key:
                # A new file under the same name must not find this inode.
                del self.files[key]
                self._nameless += 1
                named.slot = (*key, "/unlinked", str(self._nameless))
                self.files[named.slot] = named

    def linked(self, key: Key, ident: int | None) -> None:
        """The file at `key` got another name."""
        inode = self.open_inode(key, ident)
        if inode is not None and inode.charge is not None:
            inode.charge.alone = False
        if self.quota is not None:
            self.quota.charges.pop(key, None)

    def renamed(self, old: Key, new: Key, is_directory: bool) -> None:
        """Everything at or below `old` is at or below `new` now."""
        if self.quota is not None:
            self.quota.renamed(old, new, is_directory)
        if self._serials.used:
            self._serials.renamed(old, new, is_directory)
        depth = len(old)
        for inode in self.inodes_at(old):
            assert inode.key is not None
            moved = new + inode.key[depth:]
            if inode.slot == inode.key:
                self._serials.moved(moved, inode.serial)
                inode.slot = moved
                self.files[moved] = self.files.pop(inode.key)
            if self.named.get(inode.key) is inode:  # or another process put a new file there, and that is open too
                del self.named[inode.key]
            inode.key = moved
            self.named[moved] = inode
        for key in [key for key in self.directories if key[:depth] == old]:
            directory = self.directories.pop(key)
            directory.key = new + key[depth:]
            self.directories[directory.key] = directory

    def keep_listing(self, key: Key, listing: Listing) -> None:
        """Remember a directory's packed entries, up to a bound; the oldest go first."""
        if len(listing[2].data) > _LISTING_MAX_BYTES:
            return
        self.listings.pop(key, None)
        self.listings[key] = listing
        if len(self.listings) > _LISTINGS_MAX:
            del self.listings[next(iter(self.listings))]

    def copy_if_open(self, backend: Backend, key: Key, ident: int | None) -> NamelessCopy | None:
        """Before the last name of an open file goes: its contents, if the store would lose them. Raises DQUOT, NOSPC,
        and what `Handle.read_into` raises."""
        if Caps.HANDLE_SURVIVES_UNLINK in backend.caps or self.quota is None:
            return None
        inode = self.open_inode(key, ident)
        return None if inode is None else NamelessCopy(inode)


class FileInode:
    """An open regular file: one backend handle, shared by all descriptors of the file.

    `window`: what stands in place of the backend's handle and keeps part of the file, or None. `charge`: what the run
    has to pay for it, if it may write.
    """

    __slots__ = ("charge", "handle", "key", "owed", "references", "serial", "slot", "volume", "window", "writable")

    def __init__(
        self,
        volume: Volume,
        key: Key,
        ident: int | None,
        handle: Handle,
        writable: bool,
        charge: ChargedHandle | None = None,
    ) -> None:
        self.volume = volume
        self.key: Key | None = key
        self.serial = ident if ident is not None else volume.serial(key, None)
        self.handle = handle
        self.window: Window | None = None
        self.charge = charge
        self.owed = 0
        self.writable = writable
        self.references = 1
        self.slot: int | Key = key if ident is None else ident  # its place in `volume.files`
        volume.files[self.slot] = self
        volume.named[key] = self

    @classmethod
    def open(cls, volume: Volume, backend: Backend, key: Key, stat: Stat, write: bool, shared: bool) -> FileInode:
        """The inode of the existing file at `key`, with one more reference; opened if it is not open yet.

        `shared`: another process may have put a different file there since `stat`. Raises what `Backend.open` raises.
        """
        ident = stat.ident
        inode = volume.files.get(key if ident is None else ident)
        if inode is not None and (inode.writable or not write):
            inode.references += 1
            return inode
        handle = backend.open(key, write)
        if shared:  # believe the handle
            try:
                ident = handle.ident()
            except BaseException:
                handle.close()
                raise
            inode = volume.open_inode(key, ident)
        if inode is None:
            inode = cls(volume, key, ident, handle, write)
            if write:
                inode._charged(stat.nlink <= 1)
            return inode
        inode.references += 1
        if inode.writable:
            handle.close()
        else:
            if inode.window is not None:
                inode.window.dissolve()  # only reads: there is nothing to settle that could fail
            inode.handle, handle = handle, inode.handle
            inode.writable = True
            inode._charged(stat.nlink <= 1)
            handle.close()
        return inode

    def _charged(self, alone: bool) -> None:
        """It can grow from now on. `alone`: it has one name only."""
        quota = self.volume.quota
        if quota is None or self.key is None:
            return
        charged = quota.charges.pop(self.key, 0)
        handle = ChargedHandle(self.handle, quota, UNKNOWN)
        handle.charged = charged
        handle.alone = alone
        handle.steady = self.volume.alone
        self.handle = self.charge = handle

    @classmethod
    def create(cls, volume: Volume, backend: Backend, key: Key) -> FileInode:
        """Create the file at `key`. Raises DQUOT and what `Backend.create` raises."""
        quota = volume.quota
        if quota is None:
            handle = backend.create(key)
            return cls(volume, key, handle.ident(), handle, True)
        run = quota.run
        if run.inodes >= run.max_inodes:
            raise FsError(Errno.DQUOT, "Limits.inodes")
        handle = backend.create(key)
        try:
            ident = handle.ident()
        except BaseException:
            with contextlib.suppress(FsError):
                handle.discard()
            with contextlib.suppress(FsError):
                backend.remove(key)
            raise
        run.inodes += 1
        charged = ChargedHandle(handle, quota, 0 if volume.alone else UNKNOWN)
        return cls(volume, key, ident, charged, True, charged)

    def copy(self, volume: Volume, handle: Handle) -> FileInode:
        """The same file in a copy of the process, with no descriptor yet. `handle`: to the same contents, without what
        charges for them; a copy of them if it has no name."""
        made = FileInode.__new__(FileInode)
        made.volume, made.key, made.serial, made.slot = volume, self.key, self.serial, self.slot
        made.handle, made.window, made.charge = handle, None, None
        made.owed, made.writable, made.references = self.owed, self.writable, 0
        if self.charge is not None and volume.quota is not None:
            charge = ChargedHandle(handle, volume.quota, UNKNOWN)
            charge.charged, charge.alone = self.charge.charged, self.charge.alone
            charge.steady = volume.alone
            made.handle = made.charge = charge
        volume.files[made.slot] = made
        if made.key is not None and self.volume.named.get(made.key) is self:
            volume.named[made.key] = made
        return made

    def stat(self) -> Stat:
        stat = self.handle.stat()
        if self.key is None and stat.ident is None:
            stat = stat._replace(nlink=0)
        if self.window is not None:
            self.window.keep_attributes(stat)
        return stat

    def release(self, keep: bool = True) -> None:
        """One descriptor less; the last one closes the handle, or without `keep` discards it. Raises as they do."""
        self.references -= 1
        if self.references:
            if keep and self.window is not None:
                self.window.settle()
            return
        volume = self.volume
        del volume.files[self.slot]
        if self.key is not None and volume.named.get(self.key) is self:
            del volume.named[self.key]
        charge = self.charge
        if charge is not None and charge.charged and charge.alone:
            assert volume.quota is not None
            if self.key is None:
                volume.quota.credit(charge.charged)
            else:
                volume.quota.charges[self.key] = charge.charged
        elif self.owed:
            assert volume.quota is not None
            volume.quota.credit(self.owed)
        if keep:
            self.handle.close()
        else:
            self.handle.discard()


class NamelessCopy:
    """The contents of an open file whose name is about to go: `use` them when it has gone, else `drop` them."""

    def __init__(self, inode: FileInode) -> None:
        """Raises DQUOT, NOSPC, and what `Handle.read_into` and `Window.dissolve` raise."""
        if inode.window is not None:
            inode.window.dissolve()
        quota, key = inode.volume.quota, inode.key
        assert quota is not None  # the name is being removed, so the mount can be changed
        assert key is not None
        size = inode.handle.size()
        charged = quota.charges.get(key, 0) if inode.charge is None else inode.charge.charged
        self._copied = max(0, size - charged)
        quota.charge(self._copied)
        try:
            spooled = inode.volume.spools.copy(inode.handle)
        except BaseException:
            quota.credit(self._copied)
            raise
        self._inode = inode
        self._quota = quota
        self._handle = ChargedHandle(spooled, quota, size)
        self._handle.charged = charged + self._copied

    def use(self) -> Handle:
        """The name has gone; `Volume.unlinked` has not heard of it yet. The handle that is not needed any more."""
        inode, handle = self._inode, self._inode.handle
        assert inode.key is not None
        self._quota.charges.pop(inode.key, None)
        inode.handle = inode.charge = self._handle
        return handle

    def drop(self) -> None:
        """The name is still there."""
        self._quota.credit(self._copied)
        self._handle.close()


class DirectoryInode:
    """An open directory; `key` is None once it was removed."""

    __slots__ = ("key", "last_stat", "references", "volume")

    def __init__(self, volume: Volume, key: Key) -> None:
        self.volume = volume
        self.key: Key | None = key
        self.references = 1
        self.last_stat = Stat(FileType.DIRECTORY, 0, nlink=0)

    @classmethod
    def open(cls, volume: Volume, key: Key) -> DirectoryInode:
        inode = volume.directories.get(key)
        if inode is not None:
            inode.references += 1
            return inode
        inode = volume.directories[key] = cls(volume, key)
        return inode

    def live_key(self) -> Key:
        """The key, or NOENT for a directory that was removed: nothing can be found or made in it."""
        if self.key is None:
            raise FsError(Errno.NOENT, "directory was removed")
        return self.key

    def release(self) -> None:
        self.references -= 1
        if not self.references and self.key is not None:
            self.volume.directories.pop(self.key, None)
