"""What stands behind a device such as /dev/null once it is opened, as man 4 null, full and random describe it.

The contents of a device are the kernel's own, so neither the mount nor its backend has a say in reading and writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import Device, FileType, Stat
from ...fs_backends.turns import give_way
from .. import rights
from ..descriptor import OFFSET_MAX, Descriptor, OpenFile
from .stream import Stream

if TYPE_CHECKING:
    from ..clocks import Deadline
    from ..process import Process

_STREAMS: Final = {Device.STDIN: 0, Device.STDOUT: 1, Device.STDERR: 2}
_CHUNK_BYTES: Final = 1 << 20
_ZEROS: Final = memoryview(bytes(_CHUNK_BYTES))
# Iovecs may overlap, so their sum has no limit; the count that the guest gets is a u32.
_COUNT_MAX: Final = 2**32 - 1


def open_device(
    process: Process,
    device: Device,
    attributes: tuple[int, int, Stat],
    base: int,
    truncate: bool,
    flags: int,
) -> Descriptor:
    """A descriptor for `device` with at most the rights `base`. `attributes`: what its `stat` says.

    STDIN, STDOUT and STDERR are what descriptors 0, 1 and 2 are now. A standard stream is shared, with its bounds; to
    close one descriptor of it leaves the others alone. A file that the guest put there is opened once more, from its
    start. Neither gets a right that the descriptor has lost. Raises NXIO if there is nothing or a directory, and for
    a file NOTCAPABLE or ROFS (`truncate`), NOTSUP (SYNC flags; NONBLOCK on a stream that cannot keep it).
    """
    number = _STREAMS.get(device)
    if number is None:
        return OpenDevice(process, device, attributes, base & rights.DEVICE, flags)
    there = process.fds.look(number)
    if isinstance(there, Stream):
        stream = Stream(there.serial, there.source, there.sink)
        stream.rights &= base & there.rights
        stream.set_flags(flags & ~c.FDFLAGS_SYNC)
        return stream
    if isinstance(there, OpenDevice):
        return OpenDevice(process, there.device, there.stat(), base & there.rights, flags)
    if isinstance(there, OpenFile):
        file = OpenFile(there.mount, there.inode, base & there.rights, 0)
        file.set_flags(flags)
        if truncate:
            missing = c.RIGHT_FD_FILESTAT_SET_SIZE & ~there.rights
            if missing:
                raise there.refuse(missing)
            there.inode.handle.truncate(0)
        there.inode.references += 1
        return file
    raise FsError(Errno.NXIO, f"nothing that can be opened is at descriptor {number}")


class OpenDevice(Descriptor):
    """NULL, ZERO, FULL or RANDOM: no size, and a position that is always 0, as lseek(2) says on Linux."""

    __slots__ = ("_attributes", "_process", "device")

    filetype = FileType.CHARACTER_DEVICE

    def __init__(
        self, process: Process, device: Device, attributes: tuple[int, int, Stat], base: int, flags: int
    ) -> None:
        super().__init__(base, 0, flags)
        self._process = process
        self._attributes = attributes
        self.device = device

    def refuse(self, missing: int) -> FsError:
        if missing & rights.DIRECTORY_ONLY:
            return FsError(Errno.NOTDIR)
        if missing & (c.RIGHT_FD_SYNC | c.RIGHT_FD_DATASYNC | c.RIGHT_FD_FILESTAT_SET_SIZE):
            return FsError(Errno.INVAL)  # fsync(2), ftruncate(2)
        if missing & c.RIGHT_FD_ALLOCATE:
            return FsError(Errno.NODEV)  # posix_fallocate(3)
        if missing & c.RIGHT_FD_FILESTAT_SET_TIMES:
            return FsError(Errno.ROFS)
        return FsError(Errno.NOTCAPABLE)

    def read(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        if self.device is Device.NULL:
            return 0
        total = 0
        for buffer in buffers:
            piece = buffer[: _COUNT_MAX - total]
            if self.device is Device.RANDOM:
                self._process.random(piece)
            else:
                _clear(piece, deadline)
            total += len(piece)
        return total

    def write(self, buffers: Sequence[memoryview], deadline: Deadline) -> int:
        if self.device is Device.FULL:
            raise FsError(Errno.NOSPC)
        return min(sum(map(len, buffers)), _COUNT_MAX)

    def pread(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Raises INVAL (offset from 2**63)."""
        if offset > OFFSET_MAX:
            raise FsError(Errno.INVAL)
        return self.read(buffers, self._process.deadline)

    def pwrite(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Raises INVAL (offset from 2**63), NOSPC."""
        if offset > OFFSET_MAX:
            raise FsError(Errno.INVAL)
        return self.write(buffers, self._process.deadline)

    def seek(self, offset: int, whence: int) -> int:
        """Any offset is fine and changes nothing."""
        return 0

    def tell(self) -> int:
        return 0

    def advise(self, offset: int, length: int, advice: int) -> None:
        """There is nothing to prepare."""

    def stat(self) -> tuple[int, int, Stat]:
        return self._attributes

    def set_flags(self, flags: int) -> None:
        self.flags = flags  # what is swallowed is durable already


def _clear(view: memoryview, deadline: Deadline) -> None:
    for start in range(0, len(view), _CHUNK_BYTES):
        deadline.check()
        if start:
            give_way()
        end = min(start + _CHUNK_BYTES, len(view))
        view[start:end] = _ZEROS[: end - start]
