"""`Trace`: the calls of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .call import Call


class Counted(NamedTuple):
    """Of all calls of one name. nbytes: read and written. ns: in the calls."""

    calls: int = 0
    errors: int = 0
    nbytes: int = 0
    ns: int = 0


class Trace(tuple[Call, ...]):
    """The last calls of a run, in their order, at most 10,000; `stats` counts all of them.

    stats: name -> `Counted`. forgotten: how many calls before these are only in `stats`. `str()` has a line for each.
    """

    stats: Mapping[str, Counted]
    forgotten: int

    def __new__(
        cls, calls: Iterable[Call] = (), stats: Mapping[str, Counted] | None = None, forgotten: int = 0
    ) -> Trace:
        made = super().__new__(cls, calls)
        made.stats = {} if stats is None else stats
        made.forgotten = forgotten
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Trace):
            return tuple(self) == tuple(other) and (self.stats, self.forgotten) == (other.stats, other.forgotten)
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # nor has a Call one

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __repr__(self) -> str:
        more = f" and {self.forgotten:,} before them" if self.forgotten else ""
        return f"<Trace of {len(self):,} calls{more}>"

    def summary(self) -> str:
        """A table of `stats`: time, calls, errors and bytes of each name, those that took the longest first."""
        from .lines import summary

        return summary(self.stats)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), dict(self.stats), self.forgotten)
