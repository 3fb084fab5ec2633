"""An open device such as /dev/null, as man 4 null, full and random describe it.

The contents of a device are the kernel's own, so neither the mount nor its backend has a say in reading and writing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import Device, FileType, Stat
from ...fs_backends.turns import give_way
from .. import rights
from ..buffers import BUFFERS
from ..descriptor import OFFSET_MAX, Descriptor

if TYPE_CHECKING:
    from ..clocks import Deadline

_CHUNK_BYTES: Final = 1 << 20
_ZEROS: Final = memoryview(bytes(_CHUNK_BYTES))
# Iovecs may overlap, so their sum has no limit; the count that the guest gets is a u32.
_COUNT_MAX: Final = 2**32 - 1


class OpenDevice(Descriptor):
    """NULL, ZERO, FULL or RANDOM: no size, and a position that is always 0, as lseek(2) says on Linux."""

    __slots__ = ("_attributes", "_deadline", "_fill", "device")

    filetype = FileType.CHARACTER_DEVICE

    def __init__(
        self,
        device: Device,
        attributes: tuple[int, int, Stat],
        base: int,
        flags: int,
        fill: Callable[[memoryview], None],
        deadline: Deadline,
    ) -> None:
        """`attributes`: what its `stat` says. `fill`: puts random bytes there. `deadline`: the run's."""
        super().__init__(base, 0, flags)
        self._fill = fill
        self._deadline = deadline
        self._attributes = attributes
        self.device = device

    def copy(self, fill: Callable[[memoryview], None], deadline: Deadline) -> OpenDevice:
        """The same in a copy of the process."""
        made = OpenDevice(self.device, self._attributes, self.rights, self.flags, fill, deadline)
        made.inheriting = self.inheriting
        return made

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
        for index, buffer in enumerate(buffers):
            if index % BUFFERS == BUFFERS - 1:
                deadline.check()
                give_way()
            piece = buffer[: _COUNT_MAX - total]
            if self.device is Device.RANDOM:
                self._fill(piece)
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
        return self.read(buffers, self._deadline)

    def pwrite(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Raises INVAL (offset from 2**63), NOSPC."""
        if offset > OFFSET_MAX:
            raise FsError(Errno.INVAL)
        return self.write(buffers, self._deadline)

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
