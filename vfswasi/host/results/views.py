"""How results and sandboxes are shown: on one line, and in notebooks.

What a program printed, and what it called its files, is a stranger's text: in a page it is escaped, cut, and stands
where no formulas are set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...fs_backends.memory.backend import MemoryBackend
from ...limits import LIMIT_NAMES, Limits, Usage
from ...printing import UNTOUCHED, counted, html_text

_ARGS_MAX = 8
_SHORT = 60  # characters of one value in a repr
_LINES_MAX = 40  # of one stream in a notebook
_TEXT_MAX = 20_000


def result_text(result: Any) -> str:
    """The `repr` of a Result: one line, however much was captured."""
    args = [_short(arg) for arg in result.args[:_ARGS_MAX]]
    if len(result.args) > _ARGS_MAX:
        args.append(f"... {len(result.args):,} in all")
    parts = [f"args=[{', '.join(args)}]", f"returncode={result.returncode!r}"]
    for name in ("stdout", "stderr", "trap", "limit"):
        value = getattr(result, name)
        if value is not None:
            parts.append(f"{name}={_short(value)}")
    return f"Result({', '.join(parts)})"


def _short(value: str | bytes) -> str:
    if len(value) <= _SHORT:
        return repr(value)
    return f"{value[:_SHORT]!r}... {len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'}"


def result_html(result: Any, trees: Mapping[str, MemoryBackend]) -> str:
    name = result.args[0] if result.args else "guest"
    if result.returncode == 0:
        ending, color = "exit status 0", "#1a7f37"
    else:
        number = result.returncode
        ending, color = (f"exit status {number}" if number > 0 else f"ended by signal {-number}"), "#b3261e"
    if result.trap is not None:
        ending = "trapped" if result.limit is None else f"trapped: {result.limit}"
    title = f'<b><code>{html_text(name, 120)}</code></b> <span style="color: {color}">{html_text(ending)}</span>'
    blocks = [f"<div>{title} <small>{html_text(_used(result.usage))}</small></div>"]
    for what in ("trap", "stdout", "stderr"):
        value = getattr(result, what)
        if value:
            blocks.append(_block(what, _excerpt(value)))
    for directory, tree in trees.items():
        inside = tree._repr_html_()
        blocks.append(f"<details><summary><code>{html_text(directory, 120)}</code></summary>{inside}</details>")
    for directory, changes in result.changes.items():
        if changes:
            blocks.append(f"<div><code>{html_text(directory, 120)}</code> {changes._repr_html_()}</div>")
    return _page(blocks)


def _used(usage: Usage) -> str:
    parts = [f"{usage.wall_seconds:.3f} s", f"{usage.memory_bytes / (1 << 20):.1f} MiB of memory"]
    if usage.fuel is not None:
        parts.append(f"{usage.fuel:,} units of fuel")
    if usage.remote_requests:
        parts.append(f"{counted(usage.remote_requests, 'request')}, {counted(usage.remote_bytes, 'byte')}")
    return ", ".join(parts)


def _excerpt(value: str | bytes) -> str:
    """The beginning, and the end, where errors stand; escaped."""
    count = len(value)
    cut = count > 2 * _TEXT_MAX
    lines = _lines(value[:_TEXT_MAX]) + _lines(value[-_TEXT_MAX:]) if cut else _lines(value)
    if len(lines) > _LINES_MAX:
        cut = True
        lines = [*lines[: _LINES_MAX // 2], None, *lines[-_LINES_MAX // 2 :]]
    shown = [f"<i>... {count:,} {_unit(value)} in all ...</i>" if line is None else line for line in lines]
    if cut and None not in lines:
        shown.append(f"<i>{count:,} {_unit(value)} in all</i>")
    return "\n".join(shown)


def _unit(value: str | bytes) -> str:
    return "bytes" if isinstance(value, bytes) else "characters"


def _lines(value: str | bytes) -> list[str | None]:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return [html_text(line.expandtabs(), 500) for line in text.rstrip("\n").split("\n")]


def _block(what: str, html: str) -> str:
    style = "margin: 0 0 0.3em 1em; max-height: 20em; overflow: auto"
    return f'<div><small>{what}</small><pre style="{style}">{html}</pre></div>'


def sandbox_text(name: str, mounts: Iterable[tuple[str, str, str]], closed: bool) -> str:
    """mounts: as `MountTable.told` has them."""
    preopens = [_short(mount) + (" (overlay)" if way == "overlay" else "") for mount, way, _ in mounts]
    if len(preopens) > _ARGS_MAX:
        preopens[_ARGS_MAX:] = [f"... {len(preopens):,} in all"]
    state = ", closed" if closed else ""
    return f"<Sandbox of {_short(name)}: {', '.join(preopens) or 'no preopens'}{state}>"


def sandbox_html(title: str, mounts: Sequence[tuple[str, str, str]], limits: Limits) -> str:
    rows = [
        f"<tr><td><code>{html_text(name, 120)}</code></td><td>{way}</td>"
        f"<td><code>{html_text(what, 200)}</code></td></tr>"
        for name, way, what in mounts[:_LINES_MAX]
    ]
    blocks = [f"<div><code>{html_text(title)}</code></div>"]
    if rows:
        blocks.append(f"<table><tr><th>guest</th><th></th><th>source</th></tr>{''.join(rows)}</table>")
    usual = Limits()
    changed = [
        f"{name}={getattr(limits, name)!r}" for name in LIMIT_NAMES if getattr(limits, name) != getattr(usual, name)
    ]
    if changed:
        blocks.append(f"<div><small>limits: {html_text(', '.join(changed))}</small></div>")
    return _page(blocks)


def _page(blocks: Iterable[str]) -> str:
    return f'<div class="{UNTOUCHED}">{"".join(blocks)}</div>'
