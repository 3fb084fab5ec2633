"""Opening a path below a directory without following any link: the `openat2` system call of Linux 5.6.

Python has no binding for it. It resolves a whole path in one system call and refuses, inside the kernel and
without a race, symbolic links, magic links and everything that is not beneath the starting directory.

Source: openat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Any, Final

# One number for every architecture but these, which kept their own tables.
_SYS_OPENAT2: Final = ctypes.c_long(437)
_OTHER_TABLES: Final = ("alpha", "mips")

_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE: Final = _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH

_HOW_SIZE: Final = ctypes.c_size_t(24)

# EAGAIN means that something was renamed while the kernel looked: it asks to be called again.
_ATTEMPTS_MAX: Final = 64

OpenHow = ctypes.Array[ctypes.c_char]


def open_how(flags: int, mode: int = 0) -> OpenHow:
    """A `struct open_how` {u64 flags, u64 mode, u64 resolve} for `openat2`; never written to, so share it."""
    return ctypes.create_string_buffer(struct.pack("=QQQ", flags, mode, _RESOLVE), 24)


def _find_syscall() -> Any:
    if not sys.platform.startswith("linux") or platform.machine().startswith(_OTHER_TABLES):
        return None
    try:
        # No `argtypes`: converting through them costs 0.3 µs a call. Each argument is a ctypes object or
        # bytes, except the descriptor, of which the kernel reads just the 32 bits that ctypes passes.
        return ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None


_syscall: Final = _find_syscall()


def openat2(dir_fd: int, path: bytes, how: OpenHow) -> int:
    """Open `path` beneath the directory `dir_fd`; the last component too is opened only if it is no link
    (with O_PATH and O_NOFOLLOW it may be one: the descriptor then stands for the link itself).

    Returns a descriptor that the caller closes. Raises OSError (ELOOP: a link; ENAMETOOLONG: 4096 bytes and
    more) and ValueError (NUL in the path).
    """
    fd = try_openat2(dir_fd, path, how)
    if fd >= 0:
        return fd
    raise OSError(-fd, os.strerror(-fd))


def try_openat2(dir_fd: int, path: bytes, how: OpenHow) -> int:
    """`openat2` for where failing is usual: returns minus the error number instead of raising OSError."""
    if b"\0" in path:
        raise ValueError("embedded null byte")
    fd: int = _syscall(_SYS_OPENAT2, dir_fd, path, how, _HOW_SIZE)
    attempts = 1
    while fd < 0:
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR) or attempts >= _ATTEMPTS_MAX:
            return -code
        fd = _syscall(_SYS_OPENAT2, dir_fd, path, how, _HOW_SIZE)
        attempts += 1
    return fd


def openat2_works(dir_fd: int) -> bool:
    """Whether the kernel has the call and no filter forbids it (containers answer ENOSYS or EPERM)."""
    if _syscall is None:
        return False
    try:
        os.close(openat2(dir_fd, b".", open_how(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
    except OSError:
        return False
    return True
