"""What a directory of this machine is, whatever it is called: so that two names of one directory are seen to be one.

A directory is the same as another if device and inode are. It lies in another if that is one of its holders, on the way
to the root. A bind mount shows a directory in a second place, with other holders: what it really is, the mount table of
Linux tells (`/proc/self/mountinfo`), as a path within its file system. A directory also shows what is mounted below it.

Source: proc_pid_mountinfo(5), statx(2).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import MountError

_MOUNTINFO = "/proc/self/mountinfo"
_HOLDERS_MAX = 4096

# (device, names within its file system)
_Region = tuple[str, tuple[str, ...]]
# (number, device, names of its root within the file system, names of the place where it is mounted)
Mounted = tuple[str, str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What somebody sees who is given a directory.

    itself, holders: (device, inode) of it and of each directory that it lies in. regions: of the file systems in it,
    its own first; empty where there is no mount table.
    """

    itself: tuple[int, int]
    holders: frozenset[tuple[int, int]]
    regions: tuple[_Region, ...]

    def holds(self, other: Seen) -> bool:
        """Whether the other directory is this one, or can be reached from it."""
        if self.itself == other.itself or self.itself in other.holders:
            return True
        return bool(other.regions) and any(_covers(region, other.regions[0]) for region in self.regions)

    def meets(self, other: Seen) -> bool:
        """Whether something can be reached from both."""
        if self.holds(other) or other.holds(self):
            return True
        return any(_covers(one, two) or _covers(two, one) for one in self.regions for two in other.regions)


def _covers(region: _Region, other: _Region) -> bool:
    device, names = region
    return device == other[0] and other[1][: len(names)] == names


def seen_from(path: str, identity: object = None, mounts: Sequence[Mounted] | None = None) -> Seen | None:
    """What the directory, or the single file, at `path` shows; `identity`: ("local", device, inode) that it has to
    have. `mounts`: of `mount_table`, where it is needed more than once. None: it cannot be looked at, or another one is
    there now."""
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except OSError as error:
        _unless_full(error)
        return None
    try:
        status = os.fstat(fd)
        itself = status.st_dev, status.st_ino
        if isinstance(identity, tuple) and identity[:1] == ("local",) and identity[1:] != itself:
            return None
        table = mount_table() if mounts is None else mounts
        real = os.path.realpath(path)
        above = _holders(fd, itself) if stat.S_ISDIR(status.st_mode) else _holders_of_file(real)
        return Seen(itself, above, _regions(fd, real, table))
    except OSError as error:
        _unless_full(error)
        return None
    finally:
        os.close(fd)


def _unless_full(error: OSError) -> None:
    """What cannot be looked at for want of descriptors is neither there nor not there. Raises MountError then."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise MountError(
            f"whether directories overlap cannot be seen: {error.strerror}; mount less, or raise the limit (ulimit -n)"
        ) from error


def _holders_of_file(path: str) -> frozenset[tuple[int, int]]:
    """Of a file that no link stands for: its directory, and what that lies in."""
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    directory = os.open(os.path.dirname(path), flags)
    try:
        status = os.fstat(directory)
        itself = status.st_dev, status.st_ino
        return _holders(directory, itself) | {itself}
    finally:
        os.close(directory)


def _holders(fd: int, itself: tuple[int, int]) -> frozenset[tuple[int, int]]:
    """From the directory's parent to the root."""
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    found: set[tuple[int, int]] = set()
    here, last = os.dup(fd), itself
    try:
        for _ in range(_HOLDERS_MAX):
            above = os.open("..", flags, dir_fd=here)
            os.close(here)
            here = above
            status = os.fstat(here)
            if (status.st_dev, status.st_ino) == last:
                break
            last = status.st_dev, status.st_ino
            found.add(last)
    finally:
        os.close(here)
    return frozenset(found)


def _regions(fd: int, path: str, mounts: Sequence[Mounted]) -> tuple[_Region, ...]:
    """Its own, and that of each mount below it."""
    own = _mount_of(fd)
    names = _names(path)
    # The mount that was made last at the longest beginning of the path is the one that is seen there.
    fitting = [mount for mount in mounts if names[: len(mount[3])] == mount[3]]
    around = next((mount for mount in fitting if mount[0] == own), None)
    if around is None and own is None and fitting:
        around = max(fitting, key=lambda mount: len(mount[3]))
    if around is None:
        return ()
    _, device, root, point = around
    below = [(mount[1], mount[2]) for mount in mounts if len(mount[3]) > len(names) and mount[3][: len(names)] == names]
    return ((device, root + names[len(point) :]), *below)


def _mount_of(fd: int) -> str | None:
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            match = re.search(r"^mnt_id:\s*(\d+)", file.read(), re.MULTILINE)
    except OSError as error:
        _unless_full(error)
        return None
    return match[1] if match else None


def mount_table() -> list[Mounted]:
    """All mounts of the system that this process sees; none where it does not tell."""
    try:
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        _unless_full(error)
        return []
    fields = [line.split(" ") for line in lines]
    return [(each[0], each[2], _names(_plain(each[3])), _names(_plain(each[4]))) for each in fields if len(each) > 4]


def _plain(field: str) -> str:
    """Blanks, tabs, newlines and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split("/") if name)
