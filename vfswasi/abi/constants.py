"""Flags and enumerations that preview1 and `wasi_unstable` share, as plain ints.

Plain ints, because bit tests on `enum.IntFlag` cost a microsecond each and these run in every call.
Source: `typenames.witx` of both snapshots; the bits of `RIGHT_*` follow the order of `$rights`.
"""

from __future__ import annotations

from typing import Final

RIGHT_FD_DATASYNC: Final = 1 << 0
RIGHT_FD_READ: Final = 1 << 1
RIGHT_FD_SEEK: Final = 1 << 2
RIGHT_FD_FDSTAT_SET_FLAGS: Final = 1 << 3
RIGHT_FD_SYNC: Final = 1 << 4
RIGHT_FD_TELL: Final = 1 << 5
RIGHT_FD_WRITE: Final = 1 << 6
RIGHT_FD_ADVISE: Final = 1 << 7
RIGHT_FD_ALLOCATE: Final = 1 << 8
RIGHT_PATH_CREATE_DIRECTORY: Final = 1 << 9
RIGHT_PATH_CREATE_FILE: Final = 1 << 10
RIGHT_PATH_LINK_SOURCE: Final = 1 << 11
RIGHT_PATH_LINK_TARGET: Final = 1 << 12
RIGHT_PATH_OPEN: Final = 1 << 13
RIGHT_FD_READDIR: Final = 1 << 14
RIGHT_PATH_READLINK: Final = 1 << 15
RIGHT_PATH_RENAME_SOURCE: Final = 1 << 16
RIGHT_PATH_RENAME_TARGET: Final = 1 << 17
RIGHT_PATH_FILESTAT_GET: Final = 1 << 18
RIGHT_PATH_FILESTAT_SET_SIZE: Final = 1 << 19
RIGHT_PATH_FILESTAT_SET_TIMES: Final = 1 << 20
RIGHT_FD_FILESTAT_GET: Final = 1 << 21
RIGHT_FD_FILESTAT_SET_SIZE: Final = 1 << 22
RIGHT_FD_FILESTAT_SET_TIMES: Final = 1 << 23
RIGHT_PATH_SYMLINK: Final = 1 << 24
RIGHT_PATH_REMOVE_DIRECTORY: Final = 1 << 25
RIGHT_PATH_UNLINK_FILE: Final = 1 << 26
RIGHT_POLL_FD_READWRITE: Final = 1 << 27
RIGHT_SOCK_SHUTDOWN: Final = 1 << 28
RIGHT_SOCK_ACCEPT: Final = 1 << 29

FDFLAG_APPEND: Final = 1 << 0
FDFLAG_DSYNC: Final = 1 << 1
FDFLAG_NONBLOCK: Final = 1 << 2
FDFLAG_RSYNC: Final = 1 << 3
FDFLAG_SYNC: Final = 1 << 4
FDFLAGS_ALL: Final = 0x1F
FDFLAGS_SYNC: Final = FDFLAG_DSYNC | FDFLAG_RSYNC | FDFLAG_SYNC

OFLAG_CREAT: Final = 1 << 0
OFLAG_DIRECTORY: Final = 1 << 1
OFLAG_EXCL: Final = 1 << 2
OFLAG_TRUNC: Final = 1 << 3
OFLAGS_ALL: Final = 0xF

LOOKUP_SYMLINK_FOLLOW: Final = 1 << 0
LOOKUPFLAGS_ALL: Final = 1

FSTFLAG_ATIM: Final = 1 << 0
FSTFLAG_ATIM_NOW: Final = 1 << 1
FSTFLAG_MTIM: Final = 1 << 2
FSTFLAG_MTIM_NOW: Final = 1 << 3
FSTFLAGS_ALL: Final = 0xF

WHENCE_SET: Final = 0  # the kernel's own numbers; each ABI has a table from its numbers to these
WHENCE_CUR: Final = 1
WHENCE_END: Final = 2

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME: Final = 2
CLOCK_THREAD_CPUTIME: Final = 3

ADVICE_MAX: Final = 5  # normal, sequential, random, willneed, dontneed, noreuse

EVENTTYPE_CLOCK: Final = 0
EVENTTYPE_FD_READ: Final = 1
EVENTTYPE_FD_WRITE: Final = 2
EVENTRWFLAG_HANGUP: Final = 1
SUBCLOCKFLAG_ABSTIME: Final = 1

RIFLAGS_ALL: Final = 3
SDFLAGS_ALL: Final = 3

SIGNAL_NAMES: Final = tuple(
    "NONE HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP TSTP TTIN TTOU "
    "URG XCPU XFSZ VTALRM PROF WINCH POLL PWR SYS".split()
)
SIGNALS_IGNORED: Final = frozenset(
    SIGNAL_NAMES.index(name) for name in ("NONE", "PIPE", "CHLD", "URG", "WINCH", "CONT")
)
SIGNALS_STOPPING: Final = frozenset(SIGNAL_NAMES.index(name) for name in ("STOP", "TSTP", "TTIN", "TTOU"))
