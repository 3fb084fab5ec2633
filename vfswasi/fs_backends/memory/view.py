"""How a notebook shows a tree: its beginning, as text that no name in it can break out of."""

from __future__ import annotations

from ...printing import UNTOUCHED, counted, html_text
from .file import Directory, File, Link, Node

_LINES_MAX = 100
_NAME_MAX = 120
_PRE = '<pre style="margin: 0.3em 0 0 1em">{}</pre>'


def html_of(title: str, root: Directory) -> str:
    return f'<div class="{UNTOUCHED}"><code>{html_text(title)}</code>{tree_html(root)}</div>'


def tree_html(root: Directory) -> str:
    """A line for each name, at most a hundred, directories with what is in them."""
    lines: list[str] = []
    todo: list[tuple[str, Node, int]] = [(name, root.entries[name], 0) for name in _first(root)]
    while todo and len(lines) < _LINES_MAX:
        name, node, depth = todo.pop()
        indent = "  " * min(depth, 20)
        if isinstance(node, Directory):
            lines.append(f"{indent}{html_text(name, _NAME_MAX)}/")
            todo.extend((below, node.entries[below], depth + 1) for below in _first(node))
        elif isinstance(node, Link):
            lines.append(f"{indent}{html_text(name, _NAME_MAX)} -&gt; {html_text(node.target, _NAME_MAX)}")
        elif isinstance(node, File):
            lines.append(f"{indent}{html_text(name, _NAME_MAX)}  <i>{counted(len(node.data), 'byte')}</i>")
    if todo or len(root.entries) > _LINES_MAX:
        lines.append("<i>and more</i>")
    return _PRE.format("\n".join(lines)) if lines else ""


def _first(directory: Directory) -> list[str]:
    """What is shown of it, from the last to the first; a guest makes millions of names."""
    if len(directory.entries) <= 10 * _LINES_MAX:
        names = sorted(directory.entries)
    else:
        names = [name for name, _ in zip(directory.entries, range(_LINES_MAX + 1), strict=False)]
    return names[: _LINES_MAX + 1][::-1]
