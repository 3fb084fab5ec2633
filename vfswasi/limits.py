"""What a guest may use up, and what it has used."""

from __future__ import annotations

import math
from typing import Final

from .fs_backends.budget import BUFFER_BYTES, INDEX_BYTES
from .records import record

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30

NAME_MAX_BYTES: Final = 255  # what a key of a store may hold
COUNT_MAX: Final = (1 << 32) - 1  # what the result of a call can tell


@record(frozen=True)
class Limits:
    """Caps on one run, safe to run a stranger's program under. What meets each is named in brackets.

    Time:

    - wall_seconds: from the start of the run, mounting included and compiling not; `timeout` of a run takes its
      place. None: no limit [GuestTimeoutError].
    - compile_seconds: for compiling the module, which is in no other limit's time. What was compiled before is not
      compiled again. None: no limit [CompileTimeoutError].
    - fuel: about one unit for each WebAssembly instruction; None: not counted, which is faster [GuestFuelError].

    The guest's own memory:

    - memory_bytes: each linear memory, and the heap of a guest that has its objects collected [`memory.grow` gives -1;
      a larger minimum is an InvalidModuleError].
    - memories, tables: how many [InvalidModuleError]. WASI uses one memory.
    - table_elements: entries of each table [`table.grow` gives -1; a larger minimum is an InvalidModuleError].
    - stack_bytes: for calls within each other, rounded up to a power of two from 64 KiB on [a trap, with
      `Result.limit == "stack"`]. The thread of a run has 8 MiB more, for the host's functions that the guest calls.

    Compiling:

    - compile_memory_bytes: memory of the process that compiles; None: no limit [CompileLimitError].
    - Where no such process can be started, what is not small is a CompileError unless both limits are None.

    Files. What a run adds, less what it removes again, counts; a hard link, a rename, or to remove a file that is still
    open, frees nothing, nor does it free bytes to remove what was there before:

    - descriptors: open at once, standard streams and preopens included [MFILE].
    - inodes: names (files, directories, links) that there are more than before [DQUOT].
    - mount_bytes: bytes that are added to one mount: growth of files, holes included, and targets of links [DQUOT].
    - stored_bytes: the same, for all mounts together [DQUOT].
    - memory_files_bytes: files of a mount that is made for the run in memory (a dict, `mem:`), beside what it was
      given [NOSPC].
    - file_bytes: size of a file that is written to [FBIG].
    - path_bytes: of a path, and of a link's target, in UTF-8 [NAMETOOLONG]. The 4096 of Linux hold the NUL at the end.
    - name_bytes: of one name in UTF-8, at most 255 [NAMETOOLONG].
    - depth: names from the root of a mount to an object [NAMETOOLONG].

    One call:

    - call_bytes: bytes that a read or a write moves [a smaller count].
    - iovecs: buffers of a read or a write [INVAL].
    - subscriptions: of a poll [INVAL].
    - directory_entries: names in a directory that is listed, which are all in memory then [NOMEM].

    Outside:

    - output_bytes: captured of each standard stream [NOSPC].
    - remote_requests, remote_bytes: to and from stores that are far away, all mounts together [DQUOT].
    - index_bytes: memory for the names, places and link targets of archives, all mounts together [MountError].
    - buffer_bytes: memory for decoders and read-ahead of open files, all mounts together [NOMEM].
    - module_bytes: of a module that is read from a file, a file object, an archive or a store [ModuleError].
    - args_bytes: arguments and environment, each with its end [ValueError].
    - window_bytes: memory that the fast path may use for parts of open files [nothing: files are then read less far
      ahead, or by Python alone; 0 switches the fast path off].
    """

    wall_seconds: float | None = 3600.0
    compile_seconds: float | None = 300.0
    fuel: int | None = None
    memory_bytes: int = 1 * _GIB
    memories: int = 1
    tables: int = 4
    table_elements: int = 1_000_000
    stack_bytes: int = 8 * _MIB
    compile_memory_bytes: int | None = 4 * _GIB
    descriptors: int = 1024
    inodes: int = 65_536
    mount_bytes: int = 16 * _GIB
    stored_bytes: int = 16 * _GIB
    memory_files_bytes: int = 128 * _MIB
    file_bytes: int = 16 * _GIB
    path_bytes: int = 4095
    name_bytes: int = NAME_MAX_BYTES
    depth: int = 256
    call_bytes: int = 256 * _MIB
    iovecs: int = 65_536
    subscriptions: int = 4096
    directory_entries: int = 1_000_000
    output_bytes: int = 32 * _MIB
    remote_requests: int = 100_000
    remote_bytes: int = 16 * _GIB
    index_bytes: int = INDEX_BYTES
    buffer_bytes: int = BUFFER_BYTES
    module_bytes: int = 512 * _MIB
    args_bytes: int = 2 * _MIB
    window_bytes: int = 32 * _MIB

    def __post_init__(self) -> None:
        for name in LIMIT_NAMES:
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if name in SECONDS:
                check_seconds(f"Limits.{name}", value)
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Limits.{name} must be an int, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"Limits.{name} must not be negative")
            most = _MOST.get(name)
            if most is not None and value > most:
                raise ValueError(f"Limits.{name} must be at most {most:,}")


SECONDS: Final = frozenset({"wall_seconds", "compile_seconds"})
OPTIONAL: Final = ("wall_seconds", "compile_seconds", "fuel", "compile_memory_bytes")  # that may be None
_MOST: Final = {
    "name_bytes": NAME_MAX_BYTES,
    "call_bytes": COUNT_MAX,
    "fuel": (1 << 63) - 1,
    "memories": 10_000,
    "tables": 10_000,
    "table_elements": COUNT_MAX,
    "memory_bytes": 1 << 62,
    "compile_memory_bytes": 1 << 62,
    "stack_bytes": 1 * _GIB,
}
# Those that are counts of something, not of bytes or seconds.
COUNTS: Final = frozenset(
    "fuel memories tables table_elements descriptors inodes depth iovecs subscriptions directory_entries"
    " remote_requests".split()
)
LIMIT_NAMES: Final = tuple(Limits.__annotations__)


def check_seconds(name: str, value: object) -> float:
    """A number of seconds, not negative. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be seconds as a number, not {value!r}")
    if math.isnan(value):
        raise ValueError(f"{name} must be a number of seconds, not NaN")
    if value < 0:
        raise ValueError(f"{name} must not be negative")
    return float(min(value, 1e12))


@record()
class Usage:
    """What a run has used, beside the limit of the same name.

    wall_seconds: from its start to its end. fuel: None if it was not counted. memory_bytes: the memory that is
    exported, which never shrinks. descriptors, inodes, stored_bytes: the most at one time. output_bytes: captured of
    both streams. remote_requests, remote_bytes: what the run asked of stores that are far away.
    """

    wall_seconds: float = 0.0
    fuel: int | None = None
    memory_bytes: int = 0
    descriptors: int = 0
    inodes: int = 0
    stored_bytes: int = 0
    output_bytes: int = 0
    remote_requests: int = 0
    remote_bytes: int = 0
