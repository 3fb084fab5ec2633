"""Opening a device: which descriptor is made of it."""

from __future__ import annotations

from typing import Final

from ...abi import constants as c
from ...errors import Errno, FsError
from ...fs_backends.base import Device, Stat
from .. import rights
from ..descriptor import Descriptor, OpenFile
from ..process import Process
from ..streams.devices import OpenDevice
from ..streams.stream import Stream

_STREAMS: Final = {Device.STDIN: 0, Device.STDOUT: 1, Device.STDERR: 2}


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
        return OpenDevice(device, attributes, base & rights.DEVICE, flags, process.random, process.deadline)
    there = process.fds.look(number)
    if isinstance(there, Stream):
        stream = Stream(there.serial, there.source, there.sink)
        stream.rights &= base & there.rights
        stream.set_flags(flags & ~c.FDFLAGS_SYNC)
        return stream
    if isinstance(there, OpenDevice):
        return OpenDevice(there.device, there.stat(), base & there.rights, flags, process.random, process.deadline)
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
