"""What differs between a snapshot and what a test has, for people: a list of paths, and their lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from vfswasi import Symlink

from ....observe.diff.lines import Effort, hunks
from ....printing import counted, printable
from .trees import EMPTY, Node, Table

_TEXT_MAX_BYTES: Final = 1 << 20
_LINE_MAX: Final = 300


class Difference(NamedTuple):
    """kind: "A" (the snapshot has nothing there), "M", "D" (only the snapshot has it). path: "" if it is one file."""

    kind: str
    path: str
    old: Node
    new: Node

    def __str__(self) -> str:
        path = printable(self.path) + ("/" if (self.old if self.kind == "D" else self.new) is EMPTY else "")
        return f"{self.kind} {path}{self._remark()}"

    def _remark(self) -> str:
        if self.kind == "M" and _what(self.old) != _what(self.new):
            return f" ({_what(self.new)}, was {_what(self.old)})"
        if isinstance(self.old, bytes) and isinstance(self.new, bytes) and self.kind == "M":
            if self.old.replace(b"\r\n", b"\n") == self.new.replace(b"\r\n", b"\n"):
                ends = "\\r\\n" if b"\r\n" in self.old else "\\n"
                return f" (line ends alone; the snapshot has {ends}, which git may have made)"
            if not (_is_text(self.old) and _is_text(self.new)):
                return f" ({counted(len(self.new), 'byte')}, was {len(self.old):,})"
        return ""


def differences(old: Table, new: Table) -> list[Difference]:
    """In the order of the paths."""
    found: list[Difference] = []
    for path in sorted(old.keys() | new.keys(), key=lambda path: path.split("/")):
        if path not in new:
            found.append(Difference("D", path, old[path], EMPTY))
        elif path not in old:
            found.append(Difference("A", path, EMPTY, new[path]))
        elif old[path] != new[path]:
            found.append(Difference("M", path, old[path], new[path]))
    return found


def lines_of(found: list[Difference], most: int) -> list[str]:
    """As a unified diff, at most so many lines: "-" is the snapshot, "+" is what the test has."""
    made: list[str] = []
    effort = Effort()
    for difference in found:
        for line in _lines(difference, effort):
            if len(made) == most:
                return [*made, "... and more"]
            text = printable(line.expandtabs())
            made.append(text if len(text) <= _LINE_MAX else f"{text[:_LINE_MAX]}... {len(line):,} characters")
    return made


def _lines(difference: Difference, effort: Effort) -> Iterator[str]:
    old = None if difference.kind == "A" else difference.old
    new = None if difference.kind == "D" else difference.new
    if difference.path:
        yield str(difference)
    if _is_shown(old) and _is_shown(new):
        for line in hunks(_split(_text(old)), _split(_text(new)), effort):
            yield from line.removesuffix("\n").split("\n")
    elif isinstance(old, bytes) and isinstance(new, bytes):
        at = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
        where = min(len(old), len(new)) if at is None else at
        yield f"  no text: {len(new):,} bytes, was {len(old):,}; the first that differs is number {where:,}"
        yield f"  - {old[where : where + 16].hex(' ')}"
        yield f"  + {new[where : where + 16].hex(' ')}"


def _is_shown(node: Node) -> bool:
    return not isinstance(node, bytes) or (len(node) <= _TEXT_MAX_BYTES and _is_text(node))


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(node: Node) -> str:
    if isinstance(node, Symlink):
        return f"-> {node.target}"
    return "" if node is None else node.decode()


def _split(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _what(node: Node) -> str:
    return "a link" if isinstance(node, Symlink) else "a directory" if node is EMPTY else "a file"
