"""A guest from the kernel's side: descriptors, arguments, environment, clocks, deadline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from ..abi import constants as c
from ..clock import Clock
from ..errors import Errno, FsError
from ..fs_backends.base import Backend, Caps
from ..fs_backends.turns import give_way
from ..fs_backends.waiting import Allowance
from ..limits import Limits
from . import rights
from .clocks import Clocks, Deadline, ProcessSignal
from .descriptor import Mount, OpenDirectory
from .fdtable import FdTable
from .files import sharing
from .files.dirstream import Snapshots
from .files.inode import DirectoryInode, Volume
from .files.quota import RunQuota
from .files.window import Windows
from .refused import Refusals, Refused
from .streams.ends import CaptureSink
from .streams.stream import Stream
from .tracing import Tracer

_RANDOM_CHUNK = 1 << 20


class Preopen(NamedTuple):
    """A directory given to the guest: the name it gets, and what is there. shown: what the guest sees of it, if that is
    something else."""

    name: str
    backend: Backend
    readonly: bool
    shown: Backend | None = None


def allowance_of(limits: Limits) -> Allowance:
    """What a run, or the mounting for one, may ask of stores."""
    return Allowance(
        limits.remote_requests,
        limits.remote_bytes,
        limits.directory_entries,
        index_bytes=limits.index_bytes,
        buffer_bytes=limits.buffer_bytes,
    )


class Process:
    """Everything that a system call may reach. It is run by one thread at a time."""

    def __init__(
        self,
        *,
        argv: Sequence[bytes] = (),
        environ: Sequence[bytes] = (),
        preopens: Sequence[Preopen] = (),
        streams: Sequence[Stream] = (),
        limits: Limits | None = None,
        deadline: Deadline | None = None,
        allowance: Allowance | None = None,
        rights_all: int = (1 << 30) - 1,
        entropy: Callable[[int], bytes] = os.urandom,
        clock: Clock | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`argv`, `environ` ("NAME=value"): without NUL, together at most `Limits.args_bytes`. `streams`: standard
        input, output, error.

        `allowance`: what it may ask of stores, of which mounting may have used some; by default what `limits` say.
        `rights_all`: the rights that the guest's snapshot of WASI knows. `entropy`: gives so many random bytes.
        `clock`: what its clocks say; None: the system's. `tracer`: is told of its calls.
        """
        self.argv = tuple(argv)
        self.environ = tuple(environ)
        self.limits = limits = Limits() if limits is None else limits
        self.quota = RunQuota(limits)
        self.allowance = allowance_of(limits) if allowance is None else allowance
        self.fds = FdTable(limits.descriptors)
        self.clock = clock
        self.tracer = tracer
        self.refusals: Refusals | None = None  # until there is one
        self.clocks = Clocks()
        self.deadline = Deadline() if deadline is None else deadline
        self.entropy = entropy
        self.windows: Windows | None = None
        # Held while what the guest has written so far is fetched from its memory, and while that goes.
        self.teardown = threading.Lock()
        # What went wrong when nobody was there to be told.
        self.late_errors: list[BaseException] = []
        self.mounts: list[Mount] = []  # one for each preopen
        self._volumes: dict[object, Volume] = {}
        self._snapshots = Snapshots()
        # What the standard streams are connected to is released at the end, whatever the guest closes: several
        # descriptors may share one.
        self._ends = {end for stream in streams for end in stream.ends() if end is not None}
        for fd, stream in enumerate(streams):
            self.fds.set_standard(fd, stream)
        for preopen in preopens:
            self._add_preopen(preopen, rights_all)
        _note_overlaps(preopens, self._volumes)
        for share in self._shares():
            sharing.join(share)

    @cached_property
    def argv_bytes(self) -> int:
        """What the arguments take, each with its NUL. Added up once, for a guest may ask again and again."""
        return sum(map(len, self.argv)) + len(self.argv)

    @cached_property
    def environ_bytes(self) -> int:
        """As `argv_bytes`."""
        return sum(map(len, self.environ)) + len(self.environ)

    def volumes(self) -> Collection[Volume]:
        """The stores behind the preopens."""
        return self._volumes.values()

    def _shares(self) -> list[sharing.Share]:
        return [volume.share for volume in self._volumes.values() if volume.share is not None]

    def _add_preopen(self, preopen: Preopen, rights_all: int) -> None:
        identity = preopen.backend.identity
        volume = self._volumes.get(identity)
        if volume is None:
            share = None if Caps.IMMUTABLE in preopen.backend.caps else sharing.Share(identity, False)
            volume = self._volumes[identity] = Volume(len(self._volumes) + 1, share, self._snapshots)
        if not preopen.readonly:
            if volume.share is not None:
                volume.share.writes = True
            if volume.quota is None:
                volume.quota = self.quota.share(self.limits)
        seen = preopen.backend if preopen.shown is None else preopen.shown
        mount = Mount(preopen.name, volume, seen, preopen.readonly, self.limits)
        self.mounts.append(mount)
        allowed = rights_all & ~(mount.withheld if preopen.readonly else 0)
        self.fds.add(
            OpenDirectory(
                mount,
                DirectoryInode.open(volume, ()),
                rights.DIRECTORY & allowed,
                rights.INHERITING & allowed,
                preopen.name.encode(),
            )
        )

    def leave_shares(self) -> None:
        """It only stands for what a copy of it will be: the stores are used by nobody because of it."""
        for share in self._shares():
            sharing.leave(share)

    def at_the_end(self, step: Callable[[], object]) -> None:
        """One of several things that have to be done, whatever the others raise."""
        try:
            step()
        except BaseException as error:
            self.late_errors.append(error.with_traceback(None))  # which leads to this process

    def collect_output(self) -> None:
        """See to it that captured output is where it is looked for."""
        for fd in (1, 2):
            stream = self.fds.look(fd)
            if isinstance(stream, Stream) and isinstance(stream.sink, CaptureSink):
                stream.sink.collect()

    def let_go_of_streams(self) -> None:
        """Give the descriptors behind the standard streams back, though the guest may still be in some call: whoever
        reads the other end of a pipe must not wait for it. Any thread may call this."""
        for end in self._ends:
            end.close()

    def random(self, view: memoryview) -> None:
        """Fill `view` with bytes from the run's source of entropy, within the deadline."""
        for start in range(0, len(view), _RANDOM_CHUNK):
            self.deadline.check()
            if start:
                give_way()
            end = min(start + _RANDOM_CHUNK, len(view))
            view[start:end] = self.entropy(end - start)

    def note(self, refused: Refused | None) -> None:
        """For whoever wonders why the guest failed."""
        if refused is not None:
            if self.refusals is None:
                self.refusals = Refusals()
            self.refusals.note(refused)

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

    def close(self, keep: bool = True) -> list[BaseException]:
        """Close every descriptor; returns the errors met on the way (a failed last write, say).

        `keep`: the guest ended by itself, so what it left open is stored as if it had closed it.
        """
        errors = self.late_errors + self.fds.close_all(keep)
        self.late_errors = []
        for end in self._ends:
            try:
                end.close()
            except BaseException as error:
                errors.append(error.with_traceback(None))
        for share in self._shares():
            sharing.leave(share)
        self.quota.close()
        return errors


def _note_overlaps(preopens: Sequence[Preopen], volumes: dict[object, Volume]) -> None:
    """Find stores that show the same files under different identities, where no inode stands for a file of both."""
    places = [(preopen.backend.place, volumes[preopen.backend.identity]) for preopen in preopens]
    for index, (one, volume) in enumerate(places):
        for other, other_volume in places[:index]:
            if one is None or other is None or volume is other_volume:
                continue
            shorter = min(len(one), len(other))
            if one[:shorter] == other[:shorter]:
                volume.alone = other_volume.alone = False
