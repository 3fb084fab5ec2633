"""Which descriptors of a guest have a fast path, and when that ends.

Everything starts in Python. A descriptor that is used a few times is published: its words are written to vdso memory,
and from then on `vdso.wat` answers for it. Whatever changes a descriptor takes it back first. Python stays the
authority throughout; this file only lends.

Longer than other files: what lends and what takes back are one protocol, and read together.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from functools import partial
from typing import Final

import wasmtime
from wasmtime import _ffi as ffi

from ...abi import constants as c
from ...abi.layouts import Abi
from ...errors import Errno, FsError
from ...fs_backends.base import Caps, Stat
from ...kernel.descriptor import Descriptor, OpenDirectory, OpenFile
from ...kernel.files.inode import FileInode
from ...kernel.process import Process
from ...kernel.streams.ends import CaptureSink
from ...kernel.streams.stream import Stream
from ...logs import logger
from ...syscalls.preview1.fd_state import pack_filestat
from . import strings, vdso, wasm_clocks
from .access_pattern import Payback
from .open_windows import OpenWindows
from .output_buffers import OutputBuffers
from .published_file import PublishedFile
from .random_pool import RandomPool
from .windows import FileWindow

_log = logger("vfswasi.vdso")

# Calls through Python before a run gets its vdso, which costs about as much as so many.
WARMTH: int = 48
# Calls through Python before a descriptor is published: publishing costs about as much as two.
HEAT: int = 4
RETRY_HEAT: Final = 64  # and before one that could not be published is tried again: another run may be over then


def wanted(choice: bool | None) -> bool:
    """Whether a run uses the fast path: as the caller says, else unless `VFSWASI_VDSO` is 0."""
    return os.environ.get("VFSWASI_VDSO", "1") != "0" if choice is None else choice


class FastPath:
    """The fast path of one guest. Everything but `revoke` is called on the thread that runs the guest."""

    def __init__(
        self,
        process: Process,
        abi: Abi,
        shim: vdso.Shim,
        context: int,
        guest_memory: ffi.wasmtime_memory_t,
        window_bytes: int,
        *,
        held: bool,
    ) -> None:
        """`window_bytes`: memory for windows and buffers; 0 for no fast path. `held`: see `hold`; as it is now, for the
        store is ours then: it may ask wasmtime for the time, and does not go before `finish`."""
        self._process = process
        self._abi = abi
        self._shim = shim
        self._context = context
        self._window_bytes = window_bytes
        self._guest_memory = guest_memory
        self.whole_bytes = window_bytes // 2  # a larger file is never taken in as a whole
        self._vdso: vdso.Vdso | None = None
        self._usable = window_bytes > 0
        self._published = process.fds.published
        self._windows = OpenWindows()
        self._free_files = list(range(vdso.FILES_MAX - 1, -1, -1))
        self._output: OutputBuffers | None = None
        self._calls = 0
        self._heat: Counter[str] = Counter()  # of calls that are about no descriptor
        self._has_strings = False
        self._may_publish_clocks = held  # and has not yet
        self._pool: RandomPool | None = None
        self.revoked = False  # another run uses one of the stores: to be given back before the next call
        self._stopped = False
        self.busy = 0  # see `begin`
        self._payback = Payback()
        # Whether vdso memory stays while other threads look: a store that the user made may go while its guest is idle.
        self._held = held
        self._thread = threading.get_ident()
        # Between other threads and the end of the memory; reentrant, since a signal handler may interrupt its holder.
        self._lock = threading.RLock()

    @property
    def vdso(self) -> vdso.Vdso:
        assert self._vdso is not None
        return self._vdso

    # Calls that reached Python

    def used(self, fd: int) -> None:
        """One of the functions with a fast path was answered by Python for this descriptor. Raises nothing."""
        descriptor = self._process.fds.look(fd)
        if descriptor is None:
            return
        descriptor.heat += 1
        self._calls = calls = self._calls + 1  # as `_is_warm`, which takes as long as all the rest where nothing is due
        if calls < WARMTH and self._vdso is None:
            return
        if fd in self._published:
            if self._output is not None and isinstance(descriptor, Stream):
                self._output.open(descriptor.sink)
        elif descriptor.heat >= HEAT:
            if type(descriptor) is not OpenFile or descriptor.inode.window is not None or self._payback.is_likely():
                self._publish(fd, descriptor)
            if fd not in self._published:
                descriptor.heat = HEAT - RETRY_HEAT

    def _is_warm(self) -> bool:
        """Whether the run has made so many calls that it is worth an instance of the module."""
        self._calls += 1
        return self._calls >= WARMTH or self._vdso is not None

    def _is_on(self) -> bool:
        """Whether there is vdso memory to publish to; instantiates it at the first call."""
        if self._vdso is not None:
            return True
        if not self._usable:
            return False
        try:
            asks_wasmtime = self._may_publish_clocks and self._process.clocks.clock is None
            clock = wasm_clocks.of_store(self._context, self._shim.engine) if asks_wasmtime else None
            made = vdso.Vdso(self._context, self._shim, self._guest_memory, self._window_bytes, clock)
        except (vdso.Unavailable, wasmtime.WasmtimeError) as error:
            _log.debug("no fast path for this run: %s", error)
            self._usable = False
            return False
        made.begin(self._abi, self._process.limits.iovecs)
        self._vdso = made
        self._process.windows = self
        self._process.deadline.on_interrupt = self.stop
        self._process.fds.take_back = self.take_back
        for volume in self._process.volumes():
            if volume.share is not None:
                volume.share.revoke = self.revoke
        if self._process.deadline.over() is not None:  # before anybody knew whom to tell
            self.stop()
        return True

    # Descriptors

    def _publish(self, fd: int, descriptor: Descriptor) -> None:
        """Publish it if that is possible now."""
        if fd >= vdso.DESCRIPTORS_MAX:
            return
        if type(descriptor) is OpenFile:
            if self._held:  # the store is ours, where nobody can call the guest
                self._publish_file(fd, descriptor)
                return
            self.begin()
            try:
                self._publish_file(fd, descriptor)
            finally:
                self.end()
        elif isinstance(descriptor, Stream) and isinstance(descriptor.sink, CaptureSink):
            self._publish_output(fd, descriptor, descriptor.sink)
        elif isinstance(descriptor, OpenDirectory):
            self._publish_directory(fd, descriptor)

    def _publish_directory(self, fd: int, directory: OpenDirectory) -> None:
        """For its fdstat alone."""
        if self._is_on():
            self.vdso.write_descriptor(fd, directory, 0, 0, 0, vdso.WRITES_IN_PYTHON)
            self._published.add(fd)

    def _publish_file(self, fd: int, file: OpenFile) -> None:
        inode = file.inode
        share = inode.volume.share
        # First somebody is there to be told of another run, then it is asked for one.
        if not inode.volume.alone or not self._is_on() or (share is not None and not share.may_keep_reads()):
            return
        window = inode.window
        if window is None:
            if not self._free_files:
                return
            index = self._free_files.pop()
            try:
                window = FileWindow(
                    self,
                    inode,
                    vdso.FILES_AT + index * vdso.FILE_BYTES,
                    shared=file.mount.shared,
                    keeps_writes=self._may_keep_writes(inode, file.mount.backend.caps),
                )
            except Exception:  # the file is read without a window, and its store's errors are those of its calls
                self._free_files.append(index)
                return
            inode.handle = inode.window = window
            inode.volume.windowed.add(inode)
            self._windows[window] = None
        assert isinstance(window, FileWindow)
        if file.flags & c.FDFLAGS_SYNC or (file.flags & c.FDFLAG_APPEND and file.mount.shared):
            writing = vdso.WRITES_IN_PYTHON
        else:
            writing = vdso.WRITES_AT_END if file.flags & c.FDFLAG_APPEND else vdso.WRITES_AT_CURSOR
        entry = vdso.DESCRIPTORS_AT + fd * vdso.DESCRIPTOR.size
        cursor = file.cursor
        published = PublishedFile(file, self.vdso.longs, (entry + vdso.CURSOR_AT) >> 3)
        self.vdso.write_descriptor(fd, file, window.address, 0, cursor, writing)
        published.heat = HEAT
        self._process.fds.replace(fd, published)
        self._published.add(fd)
        window.fds.add(fd)

    def _may_keep_writes(self, inode: FileInode, caps: Caps) -> bool:
        share = inode.volume.share
        if self._process.clocks.step_ns:  # the guest moves the time of a write by looking at it
            return False
        return inode.writable and Caps.RANDOM_WRITE in caps and share is not None and share.may_keep_writes()

    def take_back(self, fd: int) -> None:
        """The published descriptor is Python's alone again."""
        self._published.remove(fd)
        descriptor = self._process.fds.look(fd)
        if isinstance(descriptor, PublishedFile):
            file = OpenFile(descriptor.mount, descriptor.inode, descriptor.rights, descriptor.flags)
            file.cursor = descriptor.cursor
            self._process.fds.replace(fd, file)
            window = descriptor.inode.window
            if isinstance(window, FileWindow):
                window.fds.discard(fd)
        elif descriptor is not None:
            descriptor.heat = 0
        self.vdso.clear_descriptor(fd)

    # Windows

    def take_region(self, size: int, window: FileWindow) -> tuple[int, int] | None:
        """Room for `window`, from others if need be; None if there is not that much."""
        return self._windows.take_region(self.vdso.regions, size, window, size <= self._window_bytes)

    def window_gone(self, window: FileWindow) -> None:
        """The window is about to leave its inode."""
        self._payback.seen(window.answered())
        for fd in list(window.fds):
            self.take_back(fd)
        self._windows.pop(window, None)
        self._free_files.append((window.address - vdso.FILES_AT) // vdso.FILE_BYTES)

    def pack_filestat(self, at: int, inode: FileInode, stat: Stat) -> None:
        pack_filestat(self._abi, self.vdso.view, at, inode.volume.dev, inode.serial, stat)

    def release_space(self) -> bool:
        """Give back what is reserved in the stores for writes to come; whether there was anything."""
        return self._windows.release_space()

    # Captured output

    def _publish_output(self, fd: int, stream: Stream, sink: CaptureSink) -> None:
        if not self._is_on():
            return
        if self._output is None:
            self._output = OutputBuffers(self.vdso)
        address = self._output.stream_of(sink)
        if address is not None:
            self.vdso.write_descriptor(fd, stream, 0, address, 0, vdso.WRITES_IN_PYTHON)
            self._published.add(fd)

    # Calls that are about no descriptor. What is told of them raises nothing.

    def _is_hot(self, what: str) -> bool:
        """Whether it was asked for often enough."""
        self._heat[what] += 1
        return self._is_warm() and self._heat[what] >= HEAT

    def used_strings(self, _pointer: int) -> None:
        """Arguments or environment were asked for."""
        if self._is_hot("strings") and not self._has_strings and self._is_on():
            self._has_strings = True
            for at, given in ((vdso.ARGS_AT, self._process.argv), (vdso.ENVIRON_AT, self._process.environ)):
                strings.publish(self.vdso, at, given)

    def used_clock(self, _clock: int) -> None:
        """A clock was read, or its resolution."""
        if self._is_hot("clocks") and self._may_publish_clocks and self._is_on():
            self._may_publish_clocks = not wasm_clocks.publish(self.vdso, self._process.clocks)

    def used_random(self, _pointer: int) -> None:
        if self._is_hot("random") and self._is_on():
            if self._pool is None:
                self._pool = RandomPool(self.vdso, self._process.entropy)
                self._process.entropy = self._pool.take
            self._pool.fill()

    # Ends

    def settle(self) -> None:
        if self.revoked:
            self.take_back_all()
        self._windows.settle()

    def refresh(self, everything: bool) -> None:
        self._windows.refresh(everything)

    def revoke(self) -> None:
        """Another run uses one of the stores: give everything back at the next call. Any thread may call this."""
        with self._lock:
            self.revoked = True
            self._switch()

    def stop(self) -> None:
        """Every call goes to Python from now on, which looks at the deadline. Any thread may call this."""
        with self._lock:
            self._stopped = True
            self._switch()

    def hold(self, held: bool) -> None:
        """Whether vdso memory stays from now on, so that other threads may touch it."""
        with self._lock:
            self._held = held
            if held:
                self._switch()

    def begin(self) -> None:
        """A store may be asked something: no call is answered here until `end`. In stores that the user made it
        may call the guest, whose calls would meet windows that are half moved."""
        self.busy += 1
        if self.busy == 1:
            with self._lock:
                self._switch(own=True)

    def end(self) -> None:
        """What `begin` began is over."""
        self.busy -= 1
        if not self.busy:
            with self._lock:
                self._switch(own=True)

    def _switch(self, own: bool = False) -> None:
        if self._vdso is not None and (own or self._held or self._thread == threading.get_ident()):
            self._vdso.switch(not self.revoked and not self._stopped and not self.busy)

    def take_back_all(self) -> None:
        """Give everything back. What a store does not take now, it is asked to take before each call."""
        self.begin()
        with self._lock:
            self.revoked = False
        self._windows.dissolve()
        with self._lock:
            self.revoked = self.revoked or bool(self._windows)
        self.end()

    def rest(self) -> None:
        """The guest makes no call for a while: the stores and the captured output get all that it wrote. Raises
        nothing of a store's: what one does not take is kept, and the file's own calls say so."""
        self.settle()
        self._process.collect_output()
        if self._output is not None:
            self._output.collect()

    def give_back(self) -> None:
        """Everything is the kernel's alone, for now. Raises FsError: a store
        does not take what was written to a file."""
        self.take_back_all()
        if self._windows:
            raise FsError(Errno.IO, "a store does not take what was written to it")
        for fd in list(self._published):
            self.take_back(fd)
        if self._output is not None:
            self._output.collect()
        if self._pool is not None:  # nobody may be given the same bytes twice, unless there is a seed
            rest, source = self._pool.rest(), self._pool.source
            if put_back := getattr(source, "put_back", None):
                put_back(rest)

    def counters(self) -> dict[str, int]:
        """Function -> calls answered without Python; "bytes_read" and "bytes_written" by them."""
        return dict(vdso.NO_CALLS) if self._vdso is None else self._vdso.counters()

    def finish(self) -> None:
        """Give everything back, for good. What goes wrong is kept in the process's `late_errors`."""
        self._usable = False
        if self._vdso is None:
            return
        if self._output is not None:  # first, since a store may hang
            self._output.finish()
        for window in list(self._windows):
            self._process.at_the_end(window.dissolve)
            if window in self._windows:
                self._process.at_the_end(window.leave)
        for fd in list(self._published):
            self._process.at_the_end(partial(self.take_back, fd))
        if self._pool is not None:
            self._pool.empty()
        self._forget()

    def abandon(self) -> None:
        """As `finish`, when vdso memory is gone already and must not be touched. What only it held is lost."""
        self._usable = False
        for window in list(self._windows):
            window.detach()
        for fd in list(self._published):
            descriptor = self._process.fds.look(fd)
            if isinstance(descriptor, PublishedFile):
                plain = OpenFile(descriptor.mount, descriptor.inode, descriptor.rights, descriptor.flags)
                self._process.fds.replace(fd, plain)
        if self._output is not None:
            self._output.abandon()
        self._forget()

    def _forget(self) -> None:
        self._windows.clear()
        self._published.clear()
        self._output = None
        if self._pool is not None:
            self._process.entropy = self._pool.source
        self._process.windows = None
        self._process.clocks.come_back()
        self._process.deadline.on_interrupt = None
        self._process.fds.take_back = self._published.discard
        for volume in self._process.volumes():
            if volume.share is not None:
                volume.share.revoke = None
        with self._lock:
            self._vdso = None
