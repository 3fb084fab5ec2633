"""`Clock`: what can be written, and what is made of it."""

from __future__ import annotations

import copy
import math
import pickle
import random
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

import vfswasi
from vfswasi import Clock
from vfswasi.clock import LAST_NS

S = 10**9
NOON = 1_769_860_800 * S


@pytest.mark.parametrize(
    ("t", "ns"),
    [
        (0, 0),
        (1.1, 1_100_000_000),
        (1_769_860_800, NOON),
        (1_769_860_800.25, NOON + 250_000_000),
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31 12:00", NOON),
        ("2026-01-31", NOON - 12 * 3600 * S),
        ("20260131T120000Z", NOON),
        ("2026-01-31T12:00:00.000000001Z", NOON + 1),
        ("2026-01-31T12:00:00,123456789Z", NOON + 123_456_789),
        ("2026-01-31T12:00:00.5", NOON + 500_000_000),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), NOON),
        (datetime(2026, 1, 31, 12, microsecond=7), NOON + 7000),
        (datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=-5))), NOON),
        ("1970-01-01T00:00:00Z", 0),
        ("2262-04-11T23:47:16.854775807Z", LAST_NS),
    ],
    ids=repr,
)
def test_a_time_is_seconds_a_datetime_or_iso_8601_and_one_without_a_zone_is_of_utc(t: Any, ns: int) -> None:
    assert Clock.fixed(t).start_ns == Clock.virtual(t).start_ns == Clock.stepped(t, 1).start_ns == ns


@pytest.mark.parametrize(
    ("step", "ns"), [(0, 0), (1, S), (0.001, 1_000_000), (timedelta(microseconds=3), 3000), (1e-9, 1)], ids=repr
)
def test_a_step_is_seconds_or_a_timedelta(step: Any, ns: int) -> None:
    assert Clock.stepped(0, step).step_ns == ns


@pytest.mark.parametrize(
    ("t", "error", "said"),
    [
        ("noon", ValueError, "t must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970, not 'noon'"),
        ("", ValueError, "t must be a time such as"),
        ("1969-12-31T23:59:59Z", ValueError, "t must be between 1970 and 2262"),
        ("2262-04-12", ValueError, "t must be between 1970 and 2262"),
        (datetime.max, ValueError, "t must be between 1970 and 2262"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), ValueError, "t must be between 1970 and 2262"),
        (-1, ValueError, "t must be between 1970 and 2262"),
        (-1e-9, ValueError, "t must be between 1970 and 2262"),
        (2**63, ValueError, "t must be between 1970 and 2262"),
        (10**400, ValueError, "t must be between 1970 and 2262"),
        (1e300, ValueError, "t must be between 1970 and 2262"),
        (math.nan, ValueError, "t must be a number of seconds, not nan"),
        (math.inf, ValueError, "t must be a number of seconds, not inf"),
        (True, TypeError, "t must be seconds, a datetime or a text, not bool"),
        (None, TypeError, "t must be seconds, a datetime or a text, not NoneType"),
        (date(2026, 1, 31), TypeError, "t must be seconds, a datetime or a text, not date"),
        (b"2026-01-31", TypeError, "t must be seconds, a datetime or a text, not bytes"),
    ],
    ids=repr,
)
def test_what_is_no_time_is_refused_in_one_line(t: Any, error: type[Exception], said: str) -> None:
    for make in (Clock.fixed, Clock.virtual, lambda t: Clock.stepped(t, 1)):
        with pytest.raises(error) as raised:
            make(t)
        assert str(raised.value).startswith(said)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("step", [-1, 2**40, math.nan, math.inf, "1", None, True, timedelta(seconds=-1)], ids=repr)
def test_what_is_no_step_is_refused(step: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="step must be"):
        Clock.stepped(0, step)


@pytest.mark.parametrize(
    "fields",
    [
        ("lunar", 0, 0),
        ("fixed", -1, 0),
        ("fixed", 2**63, 0),
        ("fixed", 1.5, 0),
        ("virtual", True, 0),
        ("stepped", 0, -1),
        ("stepped", 0, 2**64),
        ("fixed", 0, 1),
        ("system", 1, 0),
    ],
    ids=repr,
)
def test_a_clock_that_cannot_be_is_not_made_of_its_fields_either(fields: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Clock(*fields)


def test_a_clock_is_a_value() -> None:
    clock = Clock.stepped("2026-01-31", 0.5)
    assert clock == Clock.stepped(datetime(2026, 1, 31), timedelta(milliseconds=500))
    assert clock not in (Clock.stepped("2026-01-31", 1), Clock.fixed("2026-01-31"), Clock.virtual("2026-01-31"), None)
    assert len({clock, copy.copy(clock), pickle.loads(pickle.dumps(clock)), Clock.system(), Clock()}) == 2
    with pytest.raises(AttributeError):
        clock.start_ns = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("clock", "text"),
    [
        (Clock.system(), "Clock.system()"),
        (Clock.fixed(0), "Clock.fixed('1970-01-01T00:00:00Z')"),
        (Clock.virtual(1.5), "Clock.virtual('1970-01-01T00:00:01.5Z')"),
        (Clock.stepped("2026-01-31", 1), "Clock.stepped('2026-01-31T00:00:00Z', 1)"),
        (Clock.stepped(0, 0.001), "Clock.stepped('1970-01-01T00:00:00Z', 0.001)"),
        (Clock("stepped", 0, LAST_NS), f"Clock('stepped', 0, {LAST_NS})"),
    ],
    ids=repr,
)
def test_a_clock_is_shown_as_it_is_made(clock: Clock, text: str) -> None:
    assert repr(clock) == text


def test_what_is_shown_makes_the_same_clock() -> None:
    pick = random.Random(15)
    for _ in range(2000):
        clock = Clock("stepped", pick.randrange(2 ** pick.randrange(1, 64)), pick.randrange(2 ** pick.randrange(1, 64)))
        assert eval(repr(clock), {"Clock": Clock}) == clock


@pytest.mark.parametrize("clock", ["fixed", 0, datetime(2026, 1, 31), Clock], ids=["text", "number", "time", "class"])
def test_who_gives_no_clock_is_told_how_to_make_one(clock: Any) -> None:
    module = b'(module (memory (export "memory") 1) (func (export "_start")))'
    with pytest.raises(TypeError, match=r"clock must be a vfswasi\.Clock, such as Clock\.fixed\(0\), not "):
        vfswasi.run(module, clock=clock)
    with pytest.raises(TypeError, match=r"clock must be a vfswasi\.Clock"):
        vfswasi.WASI(version="preview1", clock=clock)
    with vfswasi.Sandbox(module) as sandbox, pytest.raises(TypeError, match=r"clock must be a vfswasi\.Clock"):
        sandbox.start(clock=clock)
