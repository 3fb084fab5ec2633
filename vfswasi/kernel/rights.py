"""Which rights apply to which kind of descriptor. Masks over `abi.constants.RIGHT_*`.

Rights only shrink: a preopen starts with what its mount allows, `path_open` gives at most the directory's
inheriting rights, `fd_fdstat_set_rights` removes. Source: preview1 `$rights`.
"""

from __future__ import annotations

from typing import Final

from ..abi import constants as c

FILE: Final = (
    c.RIGHT_FD_DATASYNC
    | c.RIGHT_FD_READ
    | c.RIGHT_FD_SEEK
    | c.RIGHT_FD_FDSTAT_SET_FLAGS
    | c.RIGHT_FD_SYNC
    | c.RIGHT_FD_TELL
    | c.RIGHT_FD_WRITE
    | c.RIGHT_FD_ADVISE
    | c.RIGHT_FD_ALLOCATE
    | c.RIGHT_FD_FILESTAT_GET
    | c.RIGHT_FD_FILESTAT_SET_SIZE
    | c.RIGHT_FD_FILESTAT_SET_TIMES
    | c.RIGHT_POLL_FD_READWRITE
)

DIRECTORY: Final = (
    c.RIGHT_FD_DATASYNC
    | c.RIGHT_FD_SYNC
    | c.RIGHT_PATH_CREATE_DIRECTORY
    | c.RIGHT_PATH_CREATE_FILE
    | c.RIGHT_PATH_LINK_SOURCE
    | c.RIGHT_PATH_LINK_TARGET
    | c.RIGHT_PATH_OPEN
    | c.RIGHT_FD_READDIR
    | c.RIGHT_PATH_READLINK
    | c.RIGHT_PATH_RENAME_SOURCE
    | c.RIGHT_PATH_RENAME_TARGET
    | c.RIGHT_PATH_FILESTAT_GET
    | c.RIGHT_PATH_FILESTAT_SET_SIZE
    | c.RIGHT_PATH_FILESTAT_SET_TIMES
    | c.RIGHT_FD_FILESTAT_GET
    | c.RIGHT_FD_FILESTAT_SET_TIMES
    | c.RIGHT_PATH_SYMLINK
    | c.RIGHT_PATH_REMOVE_DIRECTORY
    | c.RIGHT_PATH_UNLINK_FILE
)

# What a preopened directory hands down: everything that files and directories below it can have.
INHERITING: Final = FILE | DIRECTORY

# Rights whose use changes an object; a read-only mount has none of them. FD_SYNC and FD_DATASYNC stay:
# programs call fsync on files they only read, and on a read-only mount it has nothing to do.
MUTATING: Final = (
    c.RIGHT_FD_WRITE
    | c.RIGHT_FD_ALLOCATE
    | c.RIGHT_PATH_CREATE_DIRECTORY
    | c.RIGHT_PATH_CREATE_FILE
    | c.RIGHT_PATH_LINK_SOURCE
    | c.RIGHT_PATH_LINK_TARGET
    | c.RIGHT_PATH_RENAME_SOURCE
    | c.RIGHT_PATH_RENAME_TARGET
    | c.RIGHT_PATH_FILESTAT_SET_SIZE
    | c.RIGHT_PATH_FILESTAT_SET_TIMES
    | c.RIGHT_FD_FILESTAT_SET_SIZE
    | c.RIGHT_FD_FILESTAT_SET_TIMES
    | c.RIGHT_PATH_SYMLINK
    | c.RIGHT_PATH_REMOVE_DIRECTORY
    | c.RIGHT_PATH_UNLINK_FILE
)

# Rights that need a handle which the backend opened for writing.
NEED_WRITABLE_HANDLE: Final = c.RIGHT_FD_WRITE | c.RIGHT_FD_ALLOCATE | c.RIGHT_FD_FILESTAT_SET_SIZE

# What reading or writing a file needs beside the right itself, and changes nothing: hosts without rights grant it, so
# programs do not ask for it.
_OF_READING_AND_WRITING: Final = c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL | c.RIGHT_FD_FILESTAT_GET | c.RIGHT_POLL_FD_READWRITE
_READ_OR_WRITE: Final = c.RIGHT_FD_READ | c.RIGHT_FD_WRITE
_TRUNCATING: Final = c.RIGHT_FD_FILESTAT_SET_SIZE | c.RIGHT_FD_WRITE


def may_truncate(base: int, inheriting: int) -> bool:
    """Whether a directory with these rights lets `path_open` truncate. Where the right itself is missing, what it
    passes on may be enough: the program could open the file to write to it and truncate it then."""
    return bool(base & c.RIGHT_PATH_FILESTAT_SET_SIZE) or not _TRUNCATING & ~inheriting


def of_a_file(base: int, passed_on: int) -> int:
    """The rights of a file that was opened with `base`, below a directory that passes on `passed_on`.

    No rights at all are those to read, and to read or write brings what that takes. Nothing is added that the
    directory does not pass on.
    """
    wanted = base or c.RIGHT_FD_READ
    if wanted & _READ_OR_WRITE:
        wanted |= _OF_READING_AND_WRITING
    return wanted & FILE & passed_on


# What only files have: their absence on a directory is "not that kind of descriptor" (BADF), not a lost right.
FILE_ONLY: Final = FILE & ~DIRECTORY
# What only directories have: their absence on a file or stream is NOTDIR.
DIRECTORY_ONLY: Final = DIRECTORY & ~FILE

# What a device has that is no stream. SEEK and TELL also tell programs that it is no terminal.
DEVICE: Final = (
    c.RIGHT_FD_READ
    | c.RIGHT_FD_WRITE
    | c.RIGHT_FD_SEEK
    | c.RIGHT_FD_TELL
    | c.RIGHT_FD_FDSTAT_SET_FLAGS
    | c.RIGHT_FD_ADVISE
    | c.RIGHT_FD_FILESTAT_GET
    | c.RIGHT_POLL_FD_READWRITE
)

STREAM: Final = c.RIGHT_FD_FDSTAT_SET_FLAGS | c.RIGHT_FD_FILESTAT_GET | c.RIGHT_POLL_FD_READWRITE
# What a stream cannot do because it has no position.
POSITIONED: Final = c.RIGHT_FD_SEEK | c.RIGHT_FD_TELL | c.RIGHT_FD_ADVISE | c.RIGHT_FD_ALLOCATE
