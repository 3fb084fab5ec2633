"""What stands in a page: texts of strangers, made harmless and short; amounts as people read them; tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from ...printing import printable

NAME_MAX: Final = 200  # characters of a path, an argument, a message
LINE_MAX: Final = 500  # of a line of output, of a diff

Kind = Literal["text", "code", "number", "letter"]


class Column(NamedTuple):
    """kind: how its cells are shown. bar: they have one."""

    title: str
    kind: Kind = "text"
    bar: bool = False


class Cell(NamedTuple):
    """text: printable. sort: what it is sorted by; None: its text. share: of the longest bar, 0 to 100. tone: a class
    of the page's style."""

    text: str
    sort: float | None = None
    share: float | None = None
    tone: str = ""


class Table(NamedTuple):
    """note: what is not in it, or how it is meant."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def foreign(text: object, most: int = NAME_MAX) -> str:
    """A text that others wrote, on one line of at most so many characters."""
    whole = text if isinstance(text, str) else repr(text)
    shown = printable(whole[:most])
    if len(shown) > most or len(whole) > most:
        return shown[: most - 1] + "…"
    return shown


def size_text(count: float) -> str:
    """ "0 B", "17 B", "1.5 KiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{count:,.0f} B" if unit == "B" else f"{amount:,.1f} {unit}"


def time_text(ns: float) -> str:
    """ "0.4 µs", "1.25 ms", "3.20 s", "2 min 5 s"."""
    if ns >= 120 * 10**9:
        minutes, seconds = divmod(round(ns / 10**9), 60)
        return f"{minutes:,} min {seconds} s" if seconds else f"{minutes:,} min"
    for unit, size in (("s", 10**9), ("ms", 10**6)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}" if ns < 100 * size else f"{ns / size:.0f} {unit}"
    return f"{ns / 1000:.1f} µs" if ns else "0"


def number(count: float, tone: str = "") -> Cell:
    return Cell(f"{count:,.0f}", count, tone=tone if count else "")


def size(count: float | None, most: float = 0) -> Cell:
    """A size; `most`: the largest of its column, if that has bars."""
    if count is None:
        return Cell("", -1)
    return Cell(size_text(count), count, _share(count, most))


def duration(ns: float | None, most: float = 0) -> Cell:
    if ns is None:
        return Cell("", -1)
    return Cell(time_text(ns), ns, _share(ns, most))


def _share(amount: float, most: float) -> float | None:
    return round(100 * amount / most, 1) if most else None


def largest(amounts: Iterable[float]) -> float:
    return max(amounts, default=0)


def left_out(shown: int, count: int, what: str) -> str:
    """A note, if a table has not all."""
    return "" if shown >= count else f"The first {shown:,} of {count:,} {what}."
