"""Puts a new file in the place of an old one, with nothing lost if that fails half way."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import Errno, FsError

_LOCK_TRIES = 50
_LOCK_WAIT_S = 0.1
_ERRNOS = {
    errno.ENOSPC: Errno.NOSPC,
    errno.EDQUOT: Errno.DQUOT,
    errno.EACCES: Errno.ACCES,
    errno.EPERM: Errno.ACCES,
    errno.EROFS: Errno.ROFS,
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """FsError for whatever the writing of a file raises: NOSPC, DQUOT, ACCES, ROFS, IO."""
    try:
        yield
    except FsError:
        raise
    except Exception as error:  # OSError; struct.error, ValueError, LargeZipFile of zipfile
        number = _ERRNOS.get(getattr(error, "errno", None) or 0, Errno.IO)
        raise FsError(number, f"{what}: {error}") from error


def version_of(status: os.stat_result | None) -> tuple[int, int, int, int] | None:
    """What tells two files apart that stood at one path one after the other; None where there is none."""
    return None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def take_after(descriptor: int, status: os.stat_result) -> None:
    """Give an open file the mode of another, and its owner and group as far as we may. Raises OSError."""
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        except PermissionError:
            pass
    os.fchmod(descriptor, status.st_mode & 0o777)


@contextmanager
def one_at_a_time(directory: str) -> Iterator[None]:
    """Keeps others who ask for the same out of a directory for a moment. Raises OSError: they kept us out for 5 s."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _LOCK_TRIES - 1:
                    raise
                time.sleep(_LOCK_WAIT_S)
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
