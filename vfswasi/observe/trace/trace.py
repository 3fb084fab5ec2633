"""`Trace`: the calls of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .call import Call


class Counted(NamedTuple):
    """Of all calls of one name. nbytes: read and written. ns: in the calls."""

    calls: int = 0
    errors: int = 0
    nbytes: int = 0
    ns: int = 0


class Trace(tuple[Call, ...]):
    """The last calls of a run, in their order; `stats` counts all of them.

    stats: name -> `Counted`. forgotten: how many calls before these are only in `stats`.
    """

    stats: Mapping[str, Counted]
    forgotten: int
