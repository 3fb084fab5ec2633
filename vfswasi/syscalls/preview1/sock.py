"""`sock_*`: no descriptor of ours is a socket, and these say so in the order a host with sockets would."""

from __future__ import annotations

from ...abi import constants as c
from ...errors import Errno, FsError
from ...kernel.process import Process
from ..memory import GuestMemory


def _not_a_socket(process: Process, fd: int, unknown_flags: int) -> FsError:
    process.fds.get(fd, 0)
    return FsError(Errno.INVAL if unknown_flags else Errno.NOTSOCK)


def sock_accept(process: Process, memory: GuestMemory, fd: int, flags: int, connection_ptr: int) -> None:
    """Errors, in order: FAULT, BADF, INVAL (unknown flags), NOTSOCK. Spec: preview1 sock_accept."""
    memory.check(connection_ptr, 4)
    raise _not_a_socket(process, fd, flags & ~c.FDFLAGS_ALL)


def sock_recv(
    process: Process,
    memory: GuestMemory,
    fd: int,
    iovs_ptr: int,
    iovs_len: int,
    ri_flags: int,
    nread_ptr: int,
    ro_flags_ptr: int,
) -> None:
    """Errors, in order: FAULT, INVAL (too many iovecs), BADF, INVAL (unknown flags), NOTSOCK. Spec: preview1
    sock_recv."""
    memory.iovecs(iovs_ptr, iovs_len)
    memory.check(nread_ptr, 4)
    memory.check(ro_flags_ptr, 2)
    raise _not_a_socket(process, fd, ri_flags & ~c.RIFLAGS_ALL)


def sock_send(
    process: Process, memory: GuestMemory, fd: int, iovs_ptr: int, iovs_len: int, si_flags: int, nwritten_ptr: int
) -> None:
    """Errors, in order: FAULT, INVAL (too many iovecs), BADF, INVAL (any flag), NOTSOCK. Spec: preview1 sock_send."""
    memory.iovecs(iovs_ptr, iovs_len)
    memory.check(nwritten_ptr, 4)
    raise _not_a_socket(process, fd, si_flags)


def sock_shutdown(process: Process, memory: GuestMemory, fd: int, how: int) -> None:
    """Errors, in order: BADF, INVAL (unknown flags), NOTSOCK. Spec: preview1 sock_shutdown."""
    raise _not_a_socket(process, fd, how & ~c.SDFLAGS_ALL)
