"""`Clock`: what a guest's clocks say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

from .records import record

if TYPE_CHECKING:
    from datetime import datetime, timedelta

LAST_NS: Final = 2**63 - 1
"""The end of time, in the year 2262: programs count nanoseconds in 64 bits with a sign. A clock that comes so far stays
there."""
KINDS: Final = ("system", "fixed", "stepped", "virtual")

# Of a text of ISO 8601 what `datetime` would cut off: digits of the second behind the sixth.
_NANOSECONDS: Final = r"(?a)\d[.,]\d{6}(\d{1,3})\d*"


@record(frozen=True)
class Clock:
    """What a guest's clocks say: its realtime and monotonic clock, and the times of files that it makes.

    Make one with `system`, `fixed`, `stepped` or `virtual`. A time is seconds since 1970 as a number, a `datetime`
    (without a time zone it is UTC), or a text of ISO 8601 such as "2026-01-31T12:00:00Z"; it lies between 1970 and
    2262. A clock that is not the system's says the same number of nanoseconds as realtime and as monotonic time, but
    that the latter is never 0; time of the processor is what it has moved by since the run began. Each run begins with
    the clock as it is written here.

    kind: which of them. start_ns, step_ns: nanoseconds since 1970, and nanoseconds.
    """

    kind: Literal["system", "fixed", "stepped", "virtual"] = "system"
    start_ns: int = 0
    step_ns: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a clock is one of {', '.join(KINDS)}, not {self.kind!r}")
        for name, value in (("start_ns", self.start_ns), ("step_ns", self.step_ns)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if not 0 <= value <= LAST_NS:
                raise ValueError(f"{name} must be 0 to 2**63 - 1")
        if (self.kind == "system" and self.start_ns) or (self.kind != "stepped" and self.step_ns):
            raise ValueError(f"a {self.kind} clock has no {'step' if self.step_ns else 'start'}")

    @classmethod
    def system(cls) -> Clock:
        """The clocks of this machine."""
        return cls()

    @classmethod
    def fixed(cls, t: float | str | datetime) -> Clock:
        """It is always `t`. A guest that waits for a later time waits for ever, so every wait is over at once."""
        return cls("fixed", nanoseconds("t", t))

    @classmethod
    def stepped(cls, t: float | str | datetime, step: float | timedelta) -> Clock:
        """It is `t` at the first look, and `step` (seconds, or a timedelta) later at each further one, whichever of the
        clocks was looked at. Nothing else moves it: every wait is over at once."""
        return cls("stepped", nanoseconds("t", t), _duration(step))

    @classmethod
    def virtual(cls, t: float | str | datetime) -> Clock:
        """It is `t` until the guest sleeps or waits; that takes no real time, and moves the clock on by as much.

        Who waits for a time and for a stream finds what is ready in the stream at that moment, or the time is over:
        nobody waits for the other end of a pipe then. Who waits for the stream alone waits as long as that takes."""
        return cls("virtual", nanoseconds("t", t))

    def __repr__(self) -> str:
        """As it is made."""
        if self.kind == "system":
            return "Clock.system()"
        if self.kind != "stepped":
            return f"Clock.{self.kind}({_text(self.start_ns)!r})"
        step = self.step_ns // 10**9 if self.step_ns % 10**9 == 0 else self.step_ns / 10**9
        if _exact("step", step) != self.step_ns:  # no float means so many nanoseconds
            return f"Clock('stepped', {self.start_ns}, {self.step_ns})"
        return f"Clock.stepped({_text(self.start_ns)!r}, {step!r})"


def nanoseconds(name: str, value: Any) -> int:
    """Of a time, since 1970. `name`: for messages. Raises TypeError, ValueError."""
    import re
    from datetime import UTC, datetime  # few programs set a clock

    below_micro = 0
    if isinstance(value, str):
        digits = re.search(_NANOSECONDS, value)
        below_micro = 0 if digits is None else int(digits[1].ljust(3, "0"))
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{name} must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970, not {value[:60]!r}"
            ) from None
    if isinstance(value, datetime):
        at = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        since = at - datetime(1970, 1, 1, tzinfo=UTC)
        return _in_range(name, (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000 + below_micro)
    return _in_range(name, _exact(name, value))


def _duration(step: Any) -> int:
    from datetime import timedelta

    if isinstance(step, timedelta):
        ns = (step.days * 86400 + step.seconds) * 10**9 + step.microseconds * 1000
    else:
        ns = _exact("step", step)
    return _in_range("step", ns, "0 s to 292 years")


def _exact(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        kinds = "seconds or a timedelta" if name == "step" else "seconds, a datetime or a text"
        raise TypeError(f"{name} must be {kinds}, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a number of seconds, not {value}")
    return int(value) * 10**9 if isinstance(value, int) else _rounded(value)


def _rounded(seconds: float) -> int:
    """As if it had been counted in whole nanoseconds: not the product, which is no exact one."""
    whole = math.floor(seconds)
    return whole * 10**9 + round((seconds - whole) * 10**9)


def _in_range(name: str, ns: int, which: str = "between 1970 and 2262") -> int:
    if not 0 <= ns <= LAST_NS:
        raise ValueError(f"{name} must be {which}")
    return ns


def _text(ns: int) -> str:
    """ISO 8601, of UTC."""
    from datetime import UTC, datetime, timedelta

    seconds, rest = divmod(ns, 10**9)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:09}".rstrip("0") if rest else "") + "Z"
