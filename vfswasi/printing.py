"""Text of others in our own messages: names in a guest's sections, names of files."""

from __future__ import annotations

import re
from typing import Final

# How wasmtime begins the lines of its messages. Names of the guest's stand in them as they are, newlines and all.
_OWN_LINE: Final = re.compile(r"\n(?=\s|\Z|Caused by:|note: )")


def printable(text: str) -> str:
    """The text on one line, without characters that a terminal would act upon."""
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)


def printable_message(text: str) -> str:
    """As `printable`, for a message of wasmtime's that has several lines: they stay, and a name makes none of its own
    (but for one that is indented, as those of a backtrace are)."""
    return "\n".join(printable(line) for line in _OWN_LINE.split(text)).strip()
