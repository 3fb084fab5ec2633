"""Sizes and times as people write them: `64MiB`, `5s`."""

from __future__ import annotations

import math
import re
from typing import Final

_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)


def parse_size(text: str) -> int:
    """`65536`, `64K`, `16MiB`, `1G`, or `off` for 0: bytes. Raises ValueError."""
    if text.lower() == "off":
        return 0
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 65536, 64K or 1G")
    return int(match[1]) * _SIZES[match[2].upper()]


def parse_seconds(text: str) -> float:
    """`5`, `0.5`, `500ms`, `5s`, `2m`, `1h`, `1h30m`: seconds. Raises ValueError; for NaN and what is negative too."""
    if _TIME.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if math.isnan(value) or value < 0:
        raise ValueError(f"{text!r} is not a number of seconds, nor a time such as 500ms, 5s, 2m or 1h30m")
    return value
