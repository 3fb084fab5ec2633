"""A descriptor of this process that a standard stream reads, writes and waits for."""

from __future__ import annotations

import fcntl
import os
import stat as stat_module
import threading
from typing import Final

from ...errors import Errno, FsError

# A duplicate never takes the number of a standard stream of this process that happens to be closed.
_FIRST: Final = 3


class HostDescriptor:
    """A duplicate of a descriptor of the caller's, so that its number means the same file until `close`.

    The caller may close its own, or lose the file object that it belonged to, at any moment, and the system then gives
    the number to the next file that is opened anywhere in the process. A duplicate shares position and flags with the
    original (dup(2)); programs that the host starts do not inherit it.

        with descriptor as number: ...     # the number is ours in here, also if another thread closes it meanwhile

    Entering raises IO once it is closed.
    """

    __slots__ = ("_closed", "_lock", "_number", "_users", "regular", "terminal")

    def __init__(self, number: int) -> None:
        """Raises OSError: BADF, EMFILE.

        regular: it is a file, where nothing has to wait for somebody. terminal: it is one.
        """
        self._closed = True  # as long as there is nothing to close
        self._lock = threading.Lock()
        self._users = 0
        self._number = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST)
        self._closed = False
        mode = os.fstat(self._number).st_mode
        self.regular = stat_module.S_ISREG(mode)
        self.terminal = stat_module.S_ISCHR(mode) and os.isatty(self._number)

    def __enter__(self) -> int:
        with self._lock:
            if self._closed:
                raise FsError(Errno.IO, "a standard stream after the end of its run")
            self._users += 1
        return self._number

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and not self._users
        if last:
            os.close(self._number)

    def close(self) -> None:
        """Give it back: at once, or when the last call that uses it is over. Any thread may call this, and again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = not self._users
        if last:
            os.close(self._number)

    def __del__(self) -> None:
        self.close()
