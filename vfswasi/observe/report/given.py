"""`Given`: what a run was given, as far as its result does not say so otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...clock import Clock
from ...limits import Limits


class Spent(NamedTuple):
    """On a store: calls of it, and nanoseconds in them."""

    calls: int = 0
    ns: int = 0


class Given(NamedTuple):
    """clock: None: the system's. mounts: (guest directory, "ro", "rw" or "overlay", what is there) of each, without
    secrets; None: not kept. storage: guest directory -> what was spent on its store; None: not measured."""

    limits: Limits
    clock: Clock | None = None
    deterministic: bool = False
    seed: int | None = None
    mounts: tuple[tuple[str, str, str], ...] | None = None
    storage: Mapping[str, Spent] | None = None
