"""A guest from the kernel's side: descriptors, arguments, environment, clocks, deadline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..abi import constants as c
from ..errors import Errno, FsError
from ..fs_backends.base import Backend
from . import rights
from .clocks import Clocks, Deadline, ProcessSignal
from .descriptor import Mount, OpenDirectory
from .fdtable import FdTable
from .inode import DirectoryInode, Volume
from .streams import Stream

_RANDOM_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory given to the guest: the name it gets, and what is there."""

    name: str
    backend: Backend
    readonly: bool


class Process:
    """Everything that a system call may reach. It is run by one thread at a time."""

    def __init__(
        self,
        *,
        argv: Sequence[bytes] = (),
        environ: Sequence[bytes] = (),
        preopens: Sequence[Preopen] = (),
        streams: Sequence[Stream] = (),
        descriptor_limit: int = 1024,
        rights_all: int = (1 << 30) - 1,
    ) -> None:
        """`argv`, `environ` ("NAME=value"): without NUL. `streams`: standard input, output, error.

        `rights_all`: the rights that the guest's snapshot of WASI knows.
        """
        self.argv = tuple(argv)
        self.environ = tuple(environ)
        self.fds = FdTable(descriptor_limit)
        self.clocks = Clocks()
        self.deadline = Deadline()
        self._volumes: dict[object, Volume] = {}
        for fd, stream in enumerate(streams):
            self.fds.set_standard(fd, stream)
        for preopen in preopens:
            self._add_preopen(preopen, rights_all)

    def _add_preopen(self, preopen: Preopen, rights_all: int) -> None:
        identity = preopen.backend.identity
        volume = self._volumes.get(identity)
        if volume is None:
            volume = self._volumes[identity] = Volume(dev=len(self._volumes) + 1)
        mount = Mount(preopen.name, volume, preopen.backend, preopen.readonly)
        allowed = rights_all & ~(rights.MUTATING if preopen.readonly else 0)
        self.fds.add(
            OpenDirectory(
                mount,
                DirectoryInode.open(volume, ()),
                rights.DIRECTORY & allowed,
                rights.INHERITING & allowed,
                preopen.name.encode(),
            )
        )

    def random(self, view: memoryview) -> None:
        """Fill `view` with bytes from the operating system's generator, within the deadline."""
        for start in range(0, len(view), _RANDOM_CHUNK):
            self.deadline.check()
            end = min(start + _RANDOM_CHUNK, len(view))
            view[start:end] = os.urandom(end - start)

    def raise_signal(self, number: int) -> None:
        """`proc_raise`: a signal that terminates ends the guest, one that is ignored does nothing.

        Raises INVAL (no such signal), NOTSUP (a signal that stops: nobody could continue the guest).
        """
        if number >= len(c.SIGNAL_NAMES):
            raise FsError(Errno.INVAL)
        if number in c.SIGNALS_IGNORED:
            return
        if number in c.SIGNALS_STOPPING:
            raise FsError(Errno.NOTSUP)
        raise ProcessSignal(number)

    def close(self) -> list[BaseException]:
        """Close every descriptor; returns the errors met on the way (a failed last write, say)."""
        return self.fds.close_all()
