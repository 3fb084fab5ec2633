"""How changes are shown: on one line, and in notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

from ..printing import UNTOUCHED, html_text, printable

_SHOWN = 3  # in a repr
_SHORT = 60  # characters of one of them
_LINES_MAX = 100  # in a notebook
_LINE_MAX = 400
_COLORS = {"added": "#1a7f37", "removed": "#b3261e"}
_PRE = '<pre style="margin: 0.3em 0 0 1em; max-height: 30em; overflow: auto">{}</pre>'


class _Based(Protocol):
    text: str


class _Sized(Protocol):
    def __iter__(self) -> Any: ...

    def __len__(self) -> int: ...


def changes_text(changes: _Sized, base: _Based | None) -> str:
    """The `repr`: one line, however many there are."""
    parts = [_cut(str(change), _SHORT) for change in islice(changes, _SHOWN)]
    if len(changes) > _SHOWN:
        parts.append(f"... {len(changes):,} in all")
    made = "" if base is None else f" to {_cut(printable(base.text), _SHORT)}"
    return f"<Changes{made}: {', '.join(parts) or 'none'}>"


def changes_html(changes: _Sized, base: _Based | None) -> str:
    """The list, which can be folded."""
    count = len(changes)
    title = f"{count:,} {'change' if count == 1 else 'changes'}"
    made = "" if base is None else f" to <code>{html_text(base.text, 200)}</code>"
    lines = list(_lines(islice(changes, _LINES_MAX)))
    if count > _LINES_MAX:
        lines.append(f"<i>and {count - _LINES_MAX:,} more</i>")
    body = _PRE.format("\n".join(lines)) if lines else ""
    return f'<div class="{UNTOUCHED}"><details open><summary>{title}{made}</summary>{body}</details></div>'


def _lines(changes: Iterable[Any]) -> Iterable[str]:
    for change in changes:
        text = html_text(str(change), _LINE_MAX)
        color = _COLORS.get(change.kind)
        if color:
            text = f'<span style="color: {color}">{text}</span>'
        yield text + _sizes(change)


def _sizes(change: Any) -> str:
    if change.size is None or change.kind not in ("added", "modified"):
        return ""
    before = "" if change.old_size is None else f"{change.old_size:,} -&gt; "
    return f"  <i>{before}{change.size:,} bytes</i>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "..."
