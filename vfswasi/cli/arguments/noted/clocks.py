"""`--clock`: from a text to a `Clock`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Final

from ....clock import Clock, nanoseconds
from ....mounts.amounts import parse_seconds

_TIME: Final = "where TIME is 2026-01-31T12:00:00Z, or seconds since 1970, and lies before 2262"
_FORMS: Final = {
    "fixed": f"write fixed:TIME, {_TIME}",
    "stepped": f"write stepped:TIME,STEP, {_TIME}; STEP is seconds, or 1ms, 5s, 2m",
    "virtual": f"write virtual:TIME, {_TIME}",
}
_ANY: Final = f"write system, fixed:TIME, stepped:TIME,STEP or virtual:TIME, {_TIME}"
_SECONDS: Final = r"(?a)(\d{1,20})(?:\.(\d*))?"


def clock(text: str) -> Clock:
    """`system`, `fixed:TIME`, `stepped:TIME,STEP`, `virtual:TIME`. Raises ArgumentTypeError."""
    kind, _, words = text.partition(":")
    try:
        if text == "system":
            return Clock.system()
        if kind == "fixed":
            return Clock("fixed", _time(words))
        if kind == "virtual":
            return Clock("virtual", _time(words))
        if kind == "stepped":
            at, _, step = words.rpartition(",")  # ISO 8601 may have one in its seconds
            return Clock("stepped", _time(at), Clock.stepped(0, parse_seconds(step)).step_ns)
    except ValueError:
        pass
    raise ArgumentTypeError(f"{text[:60]!r} is no clock; {_FORMS.get(kind, _ANY)}")


def _time(text: str) -> int:
    """Nanoseconds since 1970. Raises ValueError."""
    seconds = re.fullmatch(_SECONDS, text)
    if seconds is None:
        return nanoseconds("TIME", text)
    return int(seconds[1]) * 10**9 + int((seconds[2] or "0")[:9].ljust(9, "0"))
