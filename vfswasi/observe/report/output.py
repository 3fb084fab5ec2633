"""What a program printed: the beginning, if there is room, and the end, where errors stand."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .words import LINE_MAX, foreign, size_text

_LINES_MAX: Final = 120
_CHARS_MAX: Final = 16_000
_WORDS_MAX: Final = 6  # lines


class Printed(NamedTuple):
    """text: None: it is not known. note: what is missing."""

    name: str
    text: str | None
    note: str


def printed(result: Any) -> list[Printed]:
    """Standard output and standard error."""
    return [_stream(name, getattr(result, name), result.truncated) for name in ("stdout", "stderr")]


def _stream(name: str, value: str | bytes | None, truncated: bool) -> Printed:
    if value is None:
        return Printed(name, None, "Not captured: it went elsewhere, or to the other stream.")
    unit = size_text(len(value)) if isinstance(value, bytes) else f"{len(value):,} characters"
    text, cut = end_of(value)
    note = f"The end of {unit}." if cut else ""
    if truncated:
        note = f"{note} The program wrote more than Limits.output_bytes of one of the streams.".strip()
    return Printed(name, text, note)


def last_words(result: Any) -> str:
    """What a program that failed said about it, as far as it is known: the last lines of its standard error."""
    text, _ = end_of(result.stderr or "", 2000)
    return "\n".join(line[:240] for line in text.rstrip().split("\n")[-_WORDS_MAX:])


def end_of(value: str | bytes, chars_max: int = _CHARS_MAX) -> tuple[str, bool]:
    """(the last lines, printable; whether something is left out)."""
    tail = value[-chars_max:]
    text = tail.decode(errors="replace") if isinstance(tail, bytes) else tail
    lines = text.removesuffix("\n").split("\n")
    cut = len(tail) < len(value) or len(lines) > _LINES_MAX
    kept, chars = [], 0
    for line in reversed(lines[-_LINES_MAX:]):
        shown = foreign(line.removesuffix("\r").expandtabs(), LINE_MAX)
        chars += len(shown)
        if chars > chars_max:
            cut = True
            break
        kept.append(shown)
    return "\n".join(reversed(kept)), cut
