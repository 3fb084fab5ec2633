"""`Accesses`: what a run looked at in its mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from ...printing import counted, printable
from ...records import record

_SHOWN_MAX: Final = 200
_BYTES_MAX: Final = 256 << 20  # of a file that is loaded

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
    nanoseconds, number of names, inode number) if the run could see them; None in place of what it could not see, of
    what the store does not tell and of a time that is that of the run's clock. order: a digest of a
    listing with its order and inode numbers, if the run could see them, without the names (`but`) that it had changed
    by then; "" if it cannot be compared. unsure: why nobody
    can say what the run was given.
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
    can do, if the run tried to change something. times: "shown", or in a deterministic run "hidden" or "kept"
    (`Mount.times`). start: a digest of the changes that its overlay began with. unsure: as `Access.unsure`.
    """

    way: str
    caps: int | None
    times: Literal["shown", "hidden", "kept"]
    start: str | None
    unsure: str | None
    accesses: tuple[Access, ...]


class Accesses(Mapping[str, tuple[Access, ...]]):
    """Guest directory -> what was asked there, in the order of the paths.

    It does not change, can be compared and pickled, and written to a file (`save`, `load`, `to_json`, `from_json`).
    mounts: the same with what is known of each mount.
    """

    __slots__ = ("mounts",)

    mounts: Mapping[str, Mounted]

    def __init__(self, mounts: Mapping[str, Mounted]) -> None:
        object.__setattr__(self, "mounts", dict(mounts))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Accesses do not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Accesses do not change")

    def __getitem__(self, name: str) -> tuple[Access, ...]:
        return self.mounts[name].accesses

    def __iter__(self) -> Iterator[str]:
        return iter(self.mounts)

    def __len__(self) -> int:
        return len(self.mounts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Accesses):
            return NotImplemented
        return list(self.mounts.items()) == list(other.mounts.items())

    def __hash__(self) -> int:
        return hash(tuple(self.mounts.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Accesses, (self.mounts,)

    def hold(self, preopens: Mapping[str, Any]) -> Held:
        """Whether a run over these preopens, all that it has, would see the same. What is quick to compare is compared
        first, and the first difference ends it.

        It is about the mounts alone: the module, its arguments, environment, input, clock, seed and limits have to be
        the same too. Where something cannot be compared the answer is no. Raises TypeError, ValueError: these are no
        preopens.
        """
        from .holding import hold

        return hold(self, preopens)

    def to_json(self) -> str:
        """As a text that `from_json` reads."""
        from .text import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Accesses:
        """What `to_json` wrote, whoever has changed it since: it is looked at first. Raises ValueError."""
        from .text import from_json

        return from_json(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, which is there as a whole or not at all. Raises OSError."""
        from ..saved.beside import written_beside

        with written_beside(path, overwrite=True) as file:
            file.write(self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Accesses:
        """Raises OSError, ValueError."""
        with open(path, "rb") as file:
            data = file.read(_BYTES_MAX + 1)
        if len(data) > _BYTES_MAX:
            raise ValueError(f"{os.fspath(path)!r} has more than 256 MiB, which no accesses have")
        return cls.from_json(data)

    def __repr__(self) -> str:
        mounts = [f"{name}: {counted(len(self[name]), 'name')}" for name in self]
        return f"<Accesses: {', '.join(mounts) or 'no mounts'}>"

    def __str__(self) -> str:
        lines = []
        for name, mount in self.mounts.items():
            lines.append(f"{printable(name)} ({mount.way})")
            lines += [f"  {access}" for access in mount.accesses[:_SHOWN_MAX]]
            if len(mount.accesses) > _SHOWN_MAX:
                lines.append(f"  and {counted(len(mount.accesses) - _SHOWN_MAX, 'name')} more")
            if mount.unsure is not None:
                lines.append(f"  unsure: {mount.unsure}")
        return "\n".join(lines)
