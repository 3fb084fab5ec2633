"""What a failing test shows of its runs: what they printed, what they changed, and their last calls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from ...printing import printable
from .snapshots.calls import LEFT_OUT
from .told import Ran, Told

_LINES: Final = 30  # of each stream
_CHANGES: Final = 20
_CALLS: Final = 12
_WIDTH: Final = 300


def sections(told: Told) -> Iterator[tuple[str, str]]:
    """(title, text) for the report; each only once."""
    while told.differences:
        title, text = told.differences.pop(0)
        yield f"wasm: {title}", text
    while told.runs:
        ran = told.runs.popleft()
        if ran.result is not None:
            yield f"wasm: {ran.title}: {_ending(ran)}", "\n".join(_lines(ran.result))


def _ending(ran: Ran) -> str:
    result = ran.result
    if result.ended_from_outside:
        limit = {"wall_seconds": "its time was over", "fuel": "its fuel was used up"}
        return limit.get(result.limit, "it was interrupted")
    if result.trap is not None:
        return "it trapped" if result.limit is None else f"it trapped ({result.limit})"
    return f"exit status {result.returncode}" if result.returncode >= 0 else f"ended by signal {-result.returncode}"


def _lines(result: Any) -> Iterator[str]:
    for name in ("stdout", "stderr"):
        yield from _part(name, list(_output(getattr(result, name))))
    changes = []
    for directory, made in result.changes.items():
        above = directory.rstrip("/")
        shown = [_change(above, change) for change in islice(made, _CHANGES)]
        changes += [*shown, *([f"and {len(made) - _CHANGES:,} more"] if len(made) > _CHANGES else [])]
    yield from _part("changes", changes)
    if result.trace:
        told = [call for call in result.trace if call.name not in LEFT_OUT]
        calls = [_cut(call.line(duration=False)) for call in told[-_CALLS:]]
        yield from _part(f"last calls, of {len(result.trace) + result.trace.forgotten:,}", calls)


def _part(name: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{name}:"
        yield from (f"  {line}" for line in lines)


def _change(above: str, change: Any) -> str:
    """With the whole path of the guest."""
    letter, _, path = str(change).partition(" ")
    return _cut(f"{letter} {above}/{path.replace(' -> ', f' -> {above}/') if letter == 'R' else path}")


def _output(output: str | bytes | None) -> Iterator[str]:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    lines = text.removesuffix("\n").split("\n") if text else []
    if len(lines) > _LINES:
        yield f"... {len(lines):,} lines, of which these are the last"
    for line in lines[-_LINES:]:
        yield _cut(printable(line.removesuffix("\r").expandtabs()))


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]}... {len(line):,} characters"
