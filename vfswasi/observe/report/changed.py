"""What a run changed, with diffs that are not too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ...printing import without_secrets
from ..change import Change
from ..changes import Changes
from .words import LINE_MAX, NAME_MAX, Cell, Column, Table, foreign, left_out, size

ROWS_MAX: Final = 200
_ALL: Final = "result.changes[...].diff() has all of it."
DIFF_CHARS_MAX: Final = 64_000
DIFF_LINES_MAX: Final = 1500
DIFFED_MAX: Final = 50  # changes of one mount, whose contents may have to be fetched


class Line(NamedTuple):
    """Of a diff. tone: a class of the page's style."""

    text: str
    tone: str


class Changed(NamedTuple):
    """Of one mount. note: why the diff is not there, or not all of it."""

    mount: str
    base: str
    table: Table
    diff: list[Line]
    note: str


def changed(changes: Mapping[str, Changes]) -> list[Changed]:
    """Of each mount that has changes."""
    found = []
    rows_left, chars_left = ROWS_MAX, DIFF_CHARS_MAX
    for number, (mount, each) in enumerate(changes.items()):
        if not each or rows_left <= 0:
            continue
        rows = [_row(mount, change) for change, _ in zip(each, range(rows_left), strict=False)]
        rows_left -= len(rows)
        columns = [
            *(Column("", "letter"), Column("Path", "code")),
            *(Column("Before", "number"), Column("After", "number")),
        ]
        name, noun = foreign(mount), "change" if len(each) == 1 else "changes"
        caption = f"{name}: {len(each):,} {noun}"
        table = Table(f"changes-{number}", caption, columns, rows, left_out(len(rows), len(each), "changes"))
        diff, note = _diff(each, chars_left)
        chars_left -= sum(len(line.text) for line in diff)
        base = "" if each.base is None else foreign(without_secrets(each.base.text))
        found.append(Changed(name, base, table, diff, note))
    return found


def _row(mount: str, change: Change) -> list[Cell]:
    letter, _, names = str(change).partition(" ")
    tones = {"A": "good", "D": "bad", "M": "warn"}
    return [
        Cell(letter, tone=tones.get(letter, "")),
        Cell(foreign(names, 2 * NAME_MAX)),
        *(size(change.old_size), size(change.size)),
    ]


def _diff(changes: Changes, chars_max: int) -> tuple[list[Line], str]:
    """Its lines, and what is to be said of it."""
    lines: list[Line] = []
    chars = 0
    try:
        few = changes if len(changes) <= DIFFED_MAX else Changes(changes.entries[:DIFFED_MAX], changes.base)
        for text in _lines(few.iter_diff()):
            line = foreign(text[: LINE_MAX + 1].expandtabs(4), LINE_MAX)
            chars += len(line)
            if len(lines) >= DIFF_LINES_MAX or chars > chars_max:
                return lines, f"The diff goes on; {_ALL}"
            lines.append(Line(line, _tone(text)))
    except Exception as error:  # a store's own, too: the rest of the page is worth having
        words = foreign(without_secrets(str(error)) or type(error).__name__)
        return lines, f"The diff ends here, because its contents cannot be read: {words}"
    more = len(changes) > DIFFED_MAX
    return lines, f"The diff of the first {DIFFED_MAX} changes; {_ALL}" if more else ""


def _lines(pieces: Iterable[str]) -> Iterable[str]:
    for piece in pieces:
        yield from piece.removesuffix("\n").split("\n")


def _tone(text: str) -> str:
    if text.startswith(("+++", "---", "diff ", "rename ", "new file", "deleted file", "index ")):
        return "head"
    return {"+": "good", "-": "bad", "@": "hunk"}.get(text[:1], "")
