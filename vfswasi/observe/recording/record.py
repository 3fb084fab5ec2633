"""`Record`: that a run is to be recorded, and how."""

from __future__ import annotations

import os
import time

from ...clock import Clock
from ...printing import counted
from ...records import record

MAX_BYTES = 1 << 30


@record(frozen=True)
class Record:
    """What `record=` takes beside a path.

    path: the file that is written when the run is over. module: whether the module is kept in it; without it, whoever
    replays the run has to have it. max_bytes: of what is read and written, as much is kept; a run with more is recorded
    so far, and the recording says so. Raises TypeError, ValueError.
    """

    path: str | os.PathLike[str]
    module: bool = True
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"record must be a path or a vfswasi.Record, not {type(self.path).__name__}")
        if not isinstance(self.module, bool):
            raise TypeError(f"Record.module must be True or False, not {type(self.module).__name__}")
        if not isinstance(self.max_bytes, int) or isinstance(self.max_bytes, bool):
            raise TypeError(f"Record.max_bytes must be an int, not {type(self.max_bytes).__name__}")
        if self.max_bytes < 0:
            raise ValueError(f"Record.max_bytes must not be {counted(self.max_bytes, 'byte')}")

    def check(self) -> None:
        """Whether it could be written. Raises OSError."""
        path = os.path.realpath(os.fspath(self.path))
        if os.path.isdir(path):
            raise IsADirectoryError(21, "is a directory", os.fspath(self.path))
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            raise FileNotFoundError(2, "there is no such directory to write in", os.fspath(self.path))
        if not os.access(path if os.path.exists(path) else directory, os.W_OK):
            raise PermissionError(13, os.strerror(13), os.fspath(self.path))


def clock_from_now() -> Clock:
    """What the clocks of a recorded run say, unless it is told otherwise."""
    return Clock("virtual", time.time_ns())


def random_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


def as_record(given: object) -> Record:
    """Raises TypeError, ValueError."""
    return given if isinstance(given, Record) else Record(given)  # type: ignore[arg-type]
