"""What a guest was refused last, kept for whoever wonders why it failed.

Looked at when a call has failed with an errno of few, so that calls that succeed, and files that are not there, pay
nothing; and only as many are kept as can be told.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from ..errors import Errno, FsError
from .descriptor import OpenDirectory, OpenFile
from .paths.places import TEXT_BYTES, below, cut, decoded_text, place_of

KEPT: Final = 16
_DETAIL_MAX: Final = 300  # characters
_LEAVING: Final = frozenset({"path leaves its directory", "absolute path"})

_TOLD: Final = {
    Errno.ACCES,
    Errno.DQUOT,
    Errno.FBIG,
    Errno.IO,
    Errno.MFILE,
    Errno.NOMEM,
    Errno.NOSPC,
    Errno.NOTCAPABLE,
    Errno.ROFS,
}
TELLING: Final = tuple(number in _TOLD for number in range(len(Errno)))
"""By errno: whether such a failure is kept. A set would call `Errno.__hash__`, which is written in Python."""

# Where the numbers of a call have the descriptor, and the pointer of the path below it, that a refusal is about.
_PATHS: Final = {
    "path_create_directory": (0, 1),
    "path_filestat_get": (0, 2),
    "path_filestat_set_times": (0, 2),
    "path_link": (4, 5),
    "path_open": (0, 2),
    "path_readlink": (0, 1),
    "path_remove_directory": (0, 1),
    "path_rename": (0, 1),
    "path_symlink": (2, 3),
    "path_unlink_file": (0, 1),
}
_RENAMED: Final = (3, 4)


class Refused(NamedTuple):
    """call: its name. path: the guest's whole path of what it was about, or None. mount: the guest directory that it
    lies in, or None. readonly: whether that is mounted so. devices: it has devices, and no files. outside: "path" if
    that leads out of its directory, "link" if a symbolic link does, else ""."""

    call: str
    errno: Errno
    detail: str
    path: str | None = None
    mount: str | None = None
    readonly: bool = False
    devices: bool = False
    outside: str = ""


class Refusals:
    """The last ones, each once."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: deque[Refused] = deque(maxlen=KEPT)

    def note(self, refused: Refused) -> None:
        if not self._last or self._last[-1] != refused:
            self._last.append(refused)

    def newest_first(self) -> list[Refused]:
        """Without repetitions. Any thread may ask."""
        return list(dict.fromkeys(reversed(list(self._last))))


def detail_of(error: FsError) -> str:
    """What an error says, of which a stranger's store may have made anything."""
    try:
        detail = error.detail
    except Exception:
        return ""
    return detail[:_DETAIL_MAX] if type(detail) is str else ""


def refused(
    process: Any, memory: Any, name: str, arguments: tuple[int, ...], errno: Errno, detail: str
) -> Refused | None:
    """What is kept of a call that failed; None: nothing. process: the `Process`. memory: the guest's
    (`syscalls.memory.GuestMemory`). detail: see `detail_of`."""
    at = _PATHS.get(name)
    if at is None and not (name.startswith("fd_") and arguments):
        return None
    descriptor = process.fds.look(arguments[0 if at is None else at[0]])
    text: str | None = None
    if at is not None:
        text = _text(memory, arguments, at[1])
        if name == "path_rename" and isinstance(descriptor, OpenDirectory) and not descriptor.mount.readonly:
            other = process.fds.look(arguments[_RENAMED[0]])
            if isinstance(other, OpenDirectory) and other.mount.readonly:
                descriptor, text = other, _text(memory, arguments, _RENAMED[1])
    place = place_of(descriptor)
    outside = ""
    if detail in _LEAVING and text is not None:
        outside = "path" if text.startswith("/") or below(".", text).startswith("..") else "link"
    if errno is Errno.NOTCAPABLE and not outside:
        return None  # a right that the guest has given up, or never asked for
    path = None if place is None else place.path
    if text is not None and path is not None:
        path = cut(below(path, text))
    if not isinstance(descriptor, OpenDirectory | OpenFile):
        return Refused(name, errno, detail, path if place is None or path else place.shown)
    mount = descriptor.mount
    return Refused(name, errno, detail, path, mount.name, mount.readonly, mount.devices, outside)


def _text(memory: Any, arguments: tuple[int, ...], at: int) -> str | None:
    ptr, length = arguments[at : at + 2]
    try:
        return cut(decoded_text(memory.read(ptr, min(length, TEXT_BYTES))))
    except FsError:
        return None
