"""`Accesses`: what a run looked at in its mounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ...records import record


@record(frozen=True)
class Access:
    """What a run asked of one name.

    path: relative to the mount, without a leading slash; "" is the mount itself. found: what it was when it was first
    looked up, "missing" if nothing was there. listed: its names were asked for. read: ranges (start, end) in bytes that
    were read of what was there before the run, in order and apart; "whole" if that is all of it; () if none. written:
    the run changed it. size, version: of what was there. digest: SHA-256 in hexadecimal of what was read (of the
    names, if it was listed; of the target of a link), if it is known.
    """

    path: str
    found: Literal["file", "directory", "link", "other", "missing"]
    listed: bool = False
    read: tuple[tuple[int, int], ...] | Literal["whole"] = ()
    written: bool = False
    size: int | None = None
    version: str | None = None
    digest: str | None = None


class Held(NamedTuple):
    """Whether another run would see the same. As a condition it is true if so. difference: the first thing that is not
    the same, in words; None: there is none."""

    difference: str | None = None

    def __bool__(self) -> bool:
        return self.difference is None


class Accesses(Mapping[str, tuple[Access, ...]]):
    """Guest directory -> what was asked there, in the order of the paths."""

    def __getitem__(self, name: str) -> tuple[Access, ...]:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def hold(self, preopens: Mapping[str, Any]) -> Held:
        """Whether a run over these preopens would see the same."""
        return Held()
