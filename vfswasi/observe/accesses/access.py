"""What a run asked of one name, and of one mount; whether another would see the same."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ...printing import counted, printable
from ...records import record

Type = Literal["file", "directory", "link", "other", "missing"]


@record(frozen=True)
class Access:
    """What a run asked of one name, and what was there before the run changed anything.

    path: relative to the mount, without a leading slash; "" is the mount itself. found: what it was, "missing" if
    nothing was there. listed: its names were asked for. read: ranges (start, end) in bytes that were read, in order;
    "whole" if that is all of it in one piece; () if none. written: the run changed it, or made something there. size:
    bytes, if the run could tell. version: which contents a file had, of stores whose versions can be relied on; of
    what is neither file, directory nor link, which kind it is. digest: SHA-256 in hexadecimal of what was read; of
    several ranges, of their digests one after the other; of a directory, of its names and what they are; of a link, of
    its target; None: it was not asked for, or `version` tells. attributes: (time of modification and of change in
    nanoseconds, number of links, inode number) if the run could see them; None in place of what it could not see, of
    what the store does not tell and of a time that is that of the run's clock; of a file that it changed and did not
    look at, the number of links alone. order: a digest of a listing with its order and inode numbers, if the run could
    see them, without the names (`but`) that it had changed by then; "" if it cannot be compared. unsure: why nobody can
    say what the run was given.
    """

    path: str
    found: Type
    listed: bool = False
    read: tuple[tuple[int, int], ...] | Literal["whole"] = ()
    written: bool = False
    size: int | None = None
    version: str | None = None
    digest: str | None = None
    attributes: tuple[int | None, int | None, int | None, int | None] | None = None
    order: str | None = None
    but: tuple[str, ...] = ()
    unsure: str | None = None

    def __str__(self) -> str:
        told: list[str] = [self.found]
        if self.listed:
            told.append("listed")
        if self.read:
            parts = self.read if self.read != "whole" else ()
            told.append("read " + (", ".join(f"{start}-{end}" for start, end in parts[:3]) or "whole"))
            if len(parts) > 3:
                told[-1] += f" and {counted(len(parts) - 3, 'range')} more"
        if self.written:
            told.append("written")
        if self.size is not None and self.found == "file":
            told.append(counted(self.size, "byte"))
        if self.unsure is not None:
            told.append(f"unsure: {self.unsure}")
        return f"{printable(self.path) or '.'}: {'; '.join(told)}"


class Held(NamedTuple):
    """Whether another run would see the same. As a condition it is true if so. difference: the first thing that is not
    the same, in words; None: there is none."""

    difference: str | None = None

    def __bool__(self) -> bool:
        return self.difference is None

    def __str__(self) -> str:
        return "nothing that the program looked at has changed" if self.difference is None else self.difference


@record(frozen=True)
class Mounted:
    """One mount of a run.

    way: "ro", "rw" or "overlay"; of single files "rw" with the names of those that can be written. caps: what the store
    can do, if the mount can be written to. shares: which files it has together with other mounts; None: none.
    times: "shown", or in a deterministic run "hidden" or "kept"
    (`Mount.times`). start: a digest of the changes that its overlay began with. unsure: as `Access.unsure`.
    """

    way: str
    caps: int | None
    times: Literal["shown", "hidden", "kept"]
    start: str | None
    shares: str | None
    unsure: str | None
    accesses: tuple[Access, ...]
