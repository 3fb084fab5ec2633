"""`Clock`: what a guest's clocks say."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from .records import record

# As u64 nanoseconds, which WASI's timestamps are.
_MAX_NS: Final = 2**63 - 1
KINDS: Final = ("system", "fixed", "stepped", "virtual")


@record(frozen=True)
class Clock:
    """What a guest's clocks say: its realtime and monotonic clock, and the times of files that it makes.

    Make one with `system`, `fixed`, `stepped` or `virtual`. A time is seconds since 1970 as a number, a `datetime`
    (without a time zone it is UTC), or a text of ISO 8601 such as "2026-01-31T12:00:00Z".

    kind: which of them. start_ns, step_ns: nanoseconds since 1970, and nanoseconds.
    """

    kind: Literal["system", "fixed", "stepped", "virtual"] = "system"
    start_ns: int = 0
    step_ns: int = 0

    @classmethod
    def system(cls) -> Clock:
        """The clocks of this machine."""
        return cls()

    @classmethod
    def fixed(cls, t: Any) -> Clock:
        """It is always `t`. A guest that waits for a later time waits for ever, so every wait is over at once."""
        return cls("fixed", nanoseconds("t", t))

    @classmethod
    def stepped(cls, t: Any, step: Any) -> Clock:
        """It is `t` at the first look, and `step` (seconds, or a timedelta) later at each further one."""
        return cls("stepped", nanoseconds("t", t), _duration(step))

    @classmethod
    def virtual(cls, t: Any) -> Clock:
        """It is `t` until the guest sleeps or waits; that takes no real time, and moves the clock on by as much."""
        return cls("virtual", nanoseconds("t", t))


def nanoseconds(name: str, value: Any) -> int:
    """Of a time, since 1970. `name`: for messages. Raises TypeError, ValueError."""
    from datetime import UTC, datetime  # few programs set a clock

    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{name} must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970, not {value!r}"
            ) from None
    if isinstance(value, datetime):
        at = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        since = at - datetime(1970, 1, 1, tzinfo=UTC)
        return _in_range(name, (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000)
    return _in_range(name, _exact(name, value))


def _duration(step: Any) -> int:
    from datetime import timedelta

    if isinstance(step, timedelta):
        return _in_range("step", (step.days * 86400 + step.seconds) * 10**9 + step.microseconds * 1000)
    return _in_range("step", _exact("step", step))


def _exact(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        kinds = "seconds, a datetime or a text" if name == "t" else "seconds or a timedelta"
        raise TypeError(f"{name} must be {kinds}, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a number of seconds, not {value}")
    return value * 10**9 if isinstance(value, int) else round(value * 10**9)


def _in_range(name: str, ns: int) -> int:
    if not 0 <= ns <= _MAX_NS:
        raise ValueError(f"{name} must be between 1970 and 2262" if name == "t" else f"{name} must be 0 s to 292 years")
    return ns
