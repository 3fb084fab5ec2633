"""A copy of a process between two calls of its guest: the same descriptors with the same numbers, rights and positions.

Files are opened once more in the stores of the copy, which have the same names in them. A file that has lost its name
is copied, so that two processes never share what nobody else can see. What cannot be had twice is refused by name:
a file that a store gets only when it is closed, and one that somebody has put another file in place of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from ..errors import Errno, FsError
from ..fs_backends.base import Backend, Caps, Handle
from ..fs_backends.waiting import Allowance
from .clocks import Deadline
from .descriptor import Descriptor, Mount, OpenDirectory, OpenFile
from .files.inode import DirectoryInode, FileInode
from .process import Preopen, Process
from .streams.devices import OpenDevice
from .streams.ends import Sink, Source
from .streams.stream import Stream

Ends = Mapping[Source | Sink | None, Source | Sink | None]


def fork(
    old: Process,
    preopens: Sequence[Preopen],
    streams: Sequence[Stream],
    ends: Ends,
    deadline: Deadline,
    allowance: Allowance,
    entropy: Callable[[int], bytes],
) -> Process:
    """A process like `old`, which keeps nothing in windows.

    preopens: as those of `old`, in their order, with the stores of the copy. streams: its standard streams. ends: what
    takes the place of what the standard streams of `old` are connected to.

    Raises FsError: BUSY (a file cannot be opened twice as it is; the detail names it), and what opening a file raises.
    """
    made = Process(
        argv=old.argv,
        environ=old.environ,
        preopens=preopens,
        streams=streams,
        limits=old.limits,
        deadline=deadline,
        allowance=allowance,
        entropy=entropy,
        tracer=None if old.tracer is None else old.tracer.again(),
    )
    copying = _Copying(old, made, ends)
    try:
        copying.volumes()
        copying.descriptors()
    except BaseException:
        made.close(keep=False)
        raise
    return made


class _Copying:
    def __init__(self, old: Process, made: Process, ends: Ends) -> None:
        self._old, self._made, self._ends = old, made, ends
        self._mounts: dict[int, Mount] = {}
        self._files: dict[int, FileInode] = {}
        self._directories: dict[int, DirectoryInode] = {}
        for mount, new in zip(old.mounts, made.mounts, strict=True):
            self._mounts[id(mount)] = new

    def volumes(self) -> None:
        """The numbers of objects, and what is charged."""
        for volume, new in zip(self._old.volumes(), self._made.volumes(), strict=True):
            new.become(volume)
            new.directories.clear()
        self._made.quota.become(self._old.quota)
        self._made.fds.become(self._old.fds, {})

    def descriptors(self) -> None:
        """Every one of them. What was opened so far is the new table's if one cannot be had."""
        old = self._old.fds.descriptors()
        writing = {  # an inode is opened through a mount that may do what it may
            id(descriptor.inode): descriptor.mount
            for descriptor in old.values()
            if isinstance(descriptor, OpenFile) and not descriptor.mount.readonly
        }
        found: dict[int, Descriptor] = {}
        self._made.fds.become(self._old.fds, found)
        for fd, descriptor in old.items():
            if isinstance(descriptor, OpenFile):
                mount = writing.get(id(descriptor.inode), descriptor.mount)
                found[fd] = self._file(descriptor, mount)
            elif isinstance(descriptor, OpenDirectory):
                found[fd] = self._directory(descriptor)
            elif isinstance(descriptor, OpenDevice):
                found[fd] = descriptor.copy(self._made.random, self._made.deadline)
            elif isinstance(descriptor, Stream):
                found[fd] = descriptor.copy(self._ends)
            else:
                raise FsError(Errno.BUSY, f"descriptor {fd} is of a kind that cannot be copied")

    def _file(self, old: OpenFile, through: Mount) -> OpenFile:
        inode = self._files.get(id(old.inode))
        if inode is None:
            mount = self._mounts[id(through)]
            handle = _reopened(old.inode, mount)
            try:
                inode = old.inode.copy(mount.volume, handle)
            except BaseException:
                handle.close()
                raise
            self._files[id(old.inode)] = inode
        inode.references += 1
        made = OpenFile(self._mounts[id(old.mount)], inode, old.rights, old.flags)
        made.cursor = old.cursor
        made.unsynced = old.unsynced
        return made

    def _directory(self, old: OpenDirectory) -> OpenDirectory:
        mount = self._mounts[id(old.mount)]
        inode = self._directories.get(id(old.inode))
        if inode is None:
            inode = DirectoryInode(mount.volume, old.inode.key or ())
            inode.key, inode.last_stat, inode.references = old.inode.key, old.inode.last_stat, 0
            if inode.key is not None:
                mount.volume.directories[inode.key] = inode
            self._directories[id(old.inode)] = inode
        inode.references += 1
        return old.copy(mount, inode)


def _reopened(inode: FileInode, mount: Mount) -> Handle:
    if inode.key is None:
        return mount.volume.spools.copy(inode.handle)
    backend, path = mount.backend, f"{mount.name.rstrip('/')}/{'/'.join(inode.key)}"
    if inode.writable and not _has_it(backend):
        raise FsError(Errno.BUSY, f"{path} is open for writing, and its store gets a file when it is closed")
    handle = backend.open(inode.key, inode.writable)
    try:
        if handle.ident() != inode.handle.ident():
            raise FsError(Errno.BUSY, f"{path} is open, and there is another file in its place now")
    except BaseException:
        with contextlib.suppress(FsError):
            handle.close()
        raise
    return handle


def _has_it(backend: Backend) -> bool:
    """Whether what was written to a file is in the store, before it is closed."""
    return Caps.DURABLE_WRITES in backend.caps
