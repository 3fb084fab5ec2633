"""Pages on the disk: slots of one size in one unnamed temporary file."""

from __future__ import annotations

import errno
import os
import weakref
from typing import IO

from ...errors import Errno, FsError
from ..base import ReadableBuffer


class Slots:
    """The file is made with the first page, and goes with the last one or this object. Who uses it sees to it that one
    thread does so at a time.

    slot_bytes: of a slot. directory: where the file is made; None: where the system has such files.
    """

    def __init__(self, slot_bytes: int, directory: str | None = None) -> None:
        self._slot_bytes = slot_bytes
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._close: weakref.finalize[..., Slots] | None = None
        self._free: list[int] = []
        self._count = 0

    @property
    def used_bytes(self) -> int:
        """Of the slots that hold something."""
        return (self._count - len(self._free)) * self._slot_bytes

    def put(self, data: bytearray) -> int:
        """A slot with these bytes, and zeros behind them: the whole of its place on the disk is taken. Raises NOSPC,
        IO."""
        if self._file is None:
            import tempfile  # which takes longer than a run that needs none

            try:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115
            except OSError as error:
                raise _no_space(error) from error
            self._close = weakref.finalize(self, self._file.close)
        slot = self._free.pop() if self._free else self._count
        self._count = max(self._count, slot + 1)
        try:
            self.write(slot, 0, data if len(data) == self._slot_bytes else data.ljust(self._slot_bytes, b"\0"))
        except BaseException:
            self.free(slot)
            raise
        return slot

    def free(self, slot: int) -> None:
        """Give a slot back. With the last one the file goes."""
        self._free.append(slot)
        if len(self._free) == self._count:
            self._free.clear()
            self._count = 0
            self.close()
            self._file = None

    def write(self, slot: int, offset: int, data: ReadableBuffer) -> None:
        """Write into a slot. Raises NOSPC, IO."""
        assert self._file is not None
        at = slot * self._slot_bytes + offset
        try:
            done = os.pwrite(self._file.fileno(), data, at)
            while done < len(data):
                with memoryview(data) as view, view[done:] as rest:
                    done += os.pwrite(self._file.fileno(), rest, at + done)
        except (OSError, ValueError) as error:
            raise _no_space(error) from error

    def read(self, slot: int, offset: int, view: memoryview) -> None:
        """Fill `view` from a slot. Raises IO."""
        assert self._file is not None
        try:
            count = os.preadv(self._file.fileno(), (view,), slot * self._slot_bytes + offset)
        except (OSError, ValueError) as error:
            raise FsError(Errno.IO, "the temporary file of what was written cannot be read") from error
        if count != len(view):
            raise FsError(Errno.IO, "the temporary file of what was written became shorter")

    def close(self) -> None:
        """Drop the file."""
        if self._close is not None:
            self._close()


def _no_space(error: Exception) -> FsError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return FsError(Errno.NOSPC if full else Errno.IO, f"no room for what was written: {error}")
