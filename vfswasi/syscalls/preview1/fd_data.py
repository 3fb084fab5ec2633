"""`fd_*` calls that move bytes or the cursor: read, write, pread, pwrite, seek, tell, readdir."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...abi import constants as c
from ...abi.layouts import Abi
from ...errors import Errno, FsError
from ...fs_backends.turns import STEP_BYTES, copy
from ...kernel.clocks import Deadline
from ...kernel.descriptor import Descriptor
from ...kernel.process import Process
from ..memory import GuestMemory

_PREAD = c.RIGHT_FD_READ | c.RIGHT_FD_SEEK
_PWRITE = c.RIGHT_FD_WRITE | c.RIGHT_FD_SEEK


def fd_read(process: Process, memory: GuestMemory, fd: int, iovs_ptr: int, iovs_len: int, nread_ptr: int) -> None:
    """Read from the descriptor's cursor into guest buffers.

    iovs_ptr: iovs_len x {u32 address, u32 length in bytes}. nread_ptr: u32, bytes moved, 0 at the end.
    Errors, in order: FAULT, INVAL (too many iovecs), BADF (a directory, standard output too), NOTCAPABLE (FD_READ), IO.
    Spec: preview1 fd_read.
    """
    buffers = memory.iovecs(iovs_ptr, iovs_len)
    memory.check(nread_ptr, 4)
    descriptor = process.fds.get(fd, c.RIGHT_FD_READ)
    if descriptor.outside and process.windows is not None:
        count = _outside(process, descriptor, descriptor.read, buffers)
    else:
        count = descriptor.read(buffers, process.deadline)
    memory.filled(nread_ptr, count)


def fd_write(process: Process, memory: GuestMemory, fd: int, iovs_ptr: int, iovs_len: int, nwritten_ptr: int) -> None:
    """Write guest buffers at the descriptor's cursor, or at the end of the file with APPEND.

    iovs_ptr: iovs_len x {u32 address, u32 length in bytes}. nwritten_ptr: u32, bytes moved.
    Errors, in order: FAULT, INVAL (too many iovecs), BADF (a directory, standard input too), NOTCAPABLE (FD_WRITE),
    FBIG, NOSPC, PIPE, IO. Spec: preview1 fd_write.
    """
    buffers = memory.contents(iovs_ptr, iovs_len)
    if nwritten_ptr + 4 > memory.size:
        memory.check(nwritten_ptr, 4)
    descriptor = process.fds.get(fd, c.RIGHT_FD_WRITE)
    if descriptor.outside and process.windows is not None:
        count = _outside(process, descriptor, descriptor.write, buffers)
    else:
        count = descriptor.write(buffers, process.deadline)
    memory.write_u32(nwritten_ptr, count)


def _outside(
    process: Process,
    descriptor: Descriptor,
    call: Callable[[Sequence[memoryview], Deadline], int],
    buffers: Sequence[memoryview],
) -> int:
    """A call during which somebody else may look at the files, or change them."""
    windows = process.windows
    assert windows is not None
    windows.settle()
    try:
        return call(buffers, process.deadline)
    finally:
        windows.refresh(everything=descriptor.outside > 1)


def fd_pread(
    process: Process, memory: GuestMemory, fd: int, iovs_ptr: int, iovs_len: int, offset: int, nread_ptr: int
) -> None:
    """Read at `offset` (bytes); the cursor stays.

    Errors, in order: FAULT, INVAL (too many iovecs), BADF, SPIPE (a stream), NOTCAPABLE (FD_READ, FD_SEEK), INVAL
    (offset from 2**63), IO. Spec: preview1 fd_pread.
    """
    buffers = memory.iovecs(iovs_ptr, iovs_len)
    memory.check(nread_ptr, 4)
    memory.filled(nread_ptr, process.fds.positioned(fd, _PREAD).pread(buffers, offset))


def fd_pwrite(
    process: Process, memory: GuestMemory, fd: int, iovs_ptr: int, iovs_len: int, offset: int, nwritten_ptr: int
) -> None:
    """Write at `offset` (bytes), or at the end with APPEND; the cursor stays.

    Errors, in order: FAULT, INVAL (too many iovecs), BADF, SPIPE (a stream), NOTCAPABLE (FD_WRITE, FD_SEEK), INVAL
    (offset from 2**63), FBIG, NOSPC, IO. Spec: preview1 fd_pwrite.
    """
    buffers = memory.contents(iovs_ptr, iovs_len)
    memory.check(nwritten_ptr, 4)
    memory.write_u32(nwritten_ptr, process.fds.positioned(fd, _PWRITE).pwrite(buffers, offset))


def fd_seek(
    process: Process, memory: GuestMemory, fd: int, offset: int, whence: int, newoffset_ptr: int, *, abi: Abi
) -> None:
    """Move the cursor by `offset` (s64) from the start, the cursor or the end, as `abi` numbers them.

    newoffset_ptr: u64, from the start. Needs FD_SEEK; FD_TELL is enough to ask where the cursor is.
    Errors, in order: FAULT, BADF, SPIPE, NOTCAPABLE, INVAL (whence; a position below 0 or above 2**63 - 1).
    Spec: preview1 fd_seek.
    """
    memory.check(newoffset_ptr, 8)
    known = abi.whence[whence] if whence < 3 else -1
    need = c.RIGHT_FD_TELL if known == c.WHENCE_CUR and not offset else c.RIGHT_FD_SEEK
    file = process.fds.positioned(fd, need)
    if known < 0:
        raise FsError(Errno.INVAL)
    if offset >= 2**63:
        offset -= 2**64
    memory.write_u64(newoffset_ptr, file.seek(offset, known))


def fd_tell(process: Process, memory: GuestMemory, fd: int, offset_ptr: int) -> None:
    """offset_ptr: u64, the cursor.

    Errors, in order: FAULT, BADF, SPIPE, NOTCAPABLE (FD_TELL). Spec: preview1 fd_tell.
    """
    memory.check(offset_ptr, 8)
    memory.write_u64(offset_ptr, process.fds.positioned(fd, c.RIGHT_FD_TELL).tell())


def fd_readdir(
    process: Process, memory: GuestMemory, fd: int, buf_ptr: int, buf_len: int, cookie: int, used_ptr: int
) -> None:
    """Directory entries from behind `cookie` on, as many bytes as fit; less than `buf_len` means the end.

    buf_ptr: entries of {u64 next cookie, u64 inode, u32 name length, u8 type, 3 bytes, name in UTF-8 without NUL},
    the last one cut where the buffer ends. used_ptr: u32, bytes written.
    Errors, in order: FAULT, BADF, NOTDIR, NOTCAPABLE (FD_READDIR), ACCES, IO. Spec: preview1 fd_readdir.
    """
    memory.check(buf_ptr, buf_len)
    memory.check(used_ptr, 4)
    entries = process.fds.directory(fd, c.RIGHT_FD_READDIR).read_entries(cookie, buf_len)
    count = len(entries)
    if count <= STEP_BYTES:
        memory.view[buf_ptr : buf_ptr + count] = entries
    else:
        copy(memory.slice(buf_ptr, count), entries)
    memory.write_u32(used_ptr, count)
