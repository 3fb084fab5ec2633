"""Text of others in our own messages: names in a guest's sections, names of files."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, without characters that a terminal would act upon."""
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)
