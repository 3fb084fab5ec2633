"""Space on the host's disk for bytes that are still to come: fallocate(2), which Python does not have.

`os.posix_fallocate` makes the file longer, which everybody would see; here its size stays.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from functools import cache
from typing import Any, Final

try:
    import resource
except ImportError:  # no limits on this system
    resource = None  # type: ignore[assignment]

_KEEP_SIZE: Final = 0x01  # FALLOC_FL_KEEP_SIZE, linux/falloc.h


@cache
def _fallocate() -> Any:
    """The C function, or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate64
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


def reserve_blocks(fd: int, offset: int, length: int) -> bool:
    """Whether writes to this range of the file will find space from now on. The size stays as it is."""
    function = _fallocate()
    if function is None:
        return False
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and offset + length > limit:
            return False
    return bool(function(fd, _KEEP_SIZE, offset, length) == 0)


def give_back_blocks(fd: int, reserved_end: int) -> None:
    """Release what was reserved behind the end of the file. Raises OSError.

    Only setting the size does that, and must not cut off what another process has added meanwhile: a write lease is
    given only while nobody else has the file open (fcntl(2), F_SETLEASE). Without it the blocks stay.
    """
    if os.lseek(fd, 0, os.SEEK_END) >= reserved_end:
        return
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    try:
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_END))
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
