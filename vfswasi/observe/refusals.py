"""`Refusal`: what a guest was refused, and what would have allowed it, in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..errors import Errno
from ..limits import LIMIT_NAMES
from ..printing import printable, without_secrets
from ..records import record

# What each call would have done.
_WOULD: Final = {
    "path_create_directory": "make the directory",
    "path_link": "make the link",
    "path_remove_directory": "remove the directory",
    "path_rename": "rename from or to",
    "path_symlink": "make the link",
    "path_unlink_file": "remove",
    "path_filestat_set_times": "set the times of",
    "fd_filestat_set_times": "set the times of",
    "fd_filestat_set_size": "change the size of",
    "fd_allocate": "make room in",
    "fd_write": "write to",
    "fd_pwrite": "write to",
    "fd_read": "read",
    "fd_pread": "read",
    "fd_readdir": "list",
    "fd_close": "store",
    "fd_sync": "store",
    "fd_datasync": "store",
}
_LIMIT: Final = re.compile(r"Limits\.([a-z_]+)")
_MOUNTS_MAX: Final = 8


@record(frozen=True)
class Refusal:
    """One thing that a guest was refused; `str()` says it in a sentence.

    call: the name of the system call; "" if there was none: `path` is only what it may have looked for. path: the
    guest's whole path of what it was about, or None. errno: what the guest got. mount: the guest directory that it lies
    in, or None. readonly: whether that is mounted so. devices: whether it has devices, and no files. outside: "path" if
    the path leads out of its directory, "link" if a symbolic link on it does, else "". detail: what else is known.
    mounts: if there was no call, the guest directories that there were.
    """

    call: str
    path: str | None
    errno: Errno
    mount: str | None = None
    readonly: bool = False
    devices: bool = False
    outside: str = ""
    detail: str = ""
    mounts: tuple[str, ...] = ()

    @property
    def limit(self) -> str | None:
        """The name of the limit that was met, in `Limits`."""
        found = _LIMIT.search(self.detail)
        if found is not None:
            return found[1] if found[1] in LIMIT_NAMES else None
        if self.errno is Errno.MFILE:
            return "descriptors"
        if self.errno is Errno.NOSPC and self.detail.endswith(" in memory"):
            return "memory_files_bytes"
        return "output_bytes" if self.detail == "captured output limit" else None

    def told(self, *, command_line: bool = False) -> str:
        """The sentence, on one line. command_line: with the options of the command instead of Python's."""
        if not self.call:
            return self._not_mounted(command_line)
        return f"the program could not {self._would()}: {self._why(command_line)}"

    def __str__(self) -> str:
        return self.told()

    def _would(self) -> str:
        more = " for writing" if self.call == "path_open" and self.errno is Errno.ROFS else ""
        return f"{_WOULD.get(self.call, 'open')} {'a file' if self.path is None else printable(self.path)}{more}"

    def _why(self, command_line: bool) -> str:
        mount = "what is mounted" if self.mount is None else printable(self.mount)
        limit = self.limit
        if limit is not None:
            more = f"--limit {limit}=N" if command_line else f"Limits({limit}=N)"
            return f"the limit {limit} is reached; {more} sets another"
        if self.outside == "path":
            return f"that leads out of {mount}, and a program reaches nothing else; mount the directory above it"
        if self.outside == "link":
            return f"a symbolic link on the way leads out of {mount}, and a program reaches nothing else"
        if self.devices:
            return f"{mount} has devices and nothing else"
        if self.readonly and self.errno is Errno.ROFS:
            return f"{mount} is mounted read-only; {_writable(mount, command_line)}"
        words = {
            Errno.ROFS: f"what is mounted at {mount} cannot be changed there",
            Errno.ACCES: f"what is mounted at {mount} does not allow it",
            Errno.DQUOT: "a quota is used up",
            Errno.FBIG: "the file would be too large",
            Errno.NOMEM: "it takes more memory than there may be",
            Errno.NOSPC: "there is no room left",
            Errno.IO: f"{mount} failed",
        }.get(self.errno, self.errno.name)
        return f"{words} ({printable(without_secrets(self.detail))})" if self.detail else words

    def _not_mounted(self, command_line: bool) -> str:
        path = printable(self.path or "")
        if not self.mounts:
            how = "--mount GUEST=SOURCE" if command_line else "preopens={GUEST: SOURCE}"
            return f"if the program looked for {path}: nothing is mounted; {how} gives it a directory"
        shown = ", ".join(map(printable, self.mounts[:_MOUNTS_MAX]))
        more = f" and {len(self.mounts) - _MOUNTS_MAX} more" if len(self.mounts) > _MOUNTS_MAX else ""
        return f"if the program looked for {path}: nothing is mounted there, only at {shown}{more}"


def _writable(mount: str, command_line: bool) -> str:
    if command_line:
        return "with ,rw behind its source the program may change it, with ,overlay it may write and the source stays"
    return (
        f"Mount(..., rw=True) for {mount} lets the program change it, and Mount(..., overlay=True) lets it write "
        "without changing the source"
    )


def not_mounted(path: str, mounts: Sequence[str]) -> Refusal:
    """What a program may have looked for where nothing is: its C library knows that without asking."""
    return Refusal("", path, Errno.NOENT, mounts=tuple(mounts))
