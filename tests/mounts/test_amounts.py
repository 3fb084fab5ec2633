"""Times as people write them."""

from __future__ import annotations

import pytest

from vfswasi.mounts.amounts import parse_seconds
from vfswasi.mounts.options import Mount, parse_limits, parse_source


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0), ("0.5", 0.5), ("500ms", 0.5), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("1h30m", 5400.0),
        ("1m30.5s", 90.5), ("1d", 86400.0), ("0", 0.0), ("1e3", 1000.0),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "ms", "-5", "-5s", "nan", "5 s", "s5", "5S", "٣s", "1h30", "5us"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds, nor a time such as"):
        parse_seconds(text)


def test_every_time_on_the_command_line_is_written_so() -> None:
    assert parse_source("x,timeout=500ms,listing=2m") == Mount("x", timeout=0.5, listing=120.0)
    assert parse_limits(["wall_seconds=1m"]).wall_seconds == 60.0
    assert parse_limits(["wall_seconds=none"]).wall_seconds is None
