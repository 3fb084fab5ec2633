"""Where a function's body gets its checks, and the body with them in it.

A check stands at the head of each loop, and at the entry of each function that calls: whatever runs for ever passes one
of them again and again. Recursion needs calls, and a tail call is one.

What neither loops nor calls ends by itself, but there may be millions of calls of it in one body, and a million
instructions in it. So a function that does not call has no check at its entry only if it is short, and in a long body
there is a check every few thousand bytes; and there is one behind each instruction that works on a whole stretch of
memory. Between two checks that a guest passes lie one of these, or at most so many calls of short functions, which are
a few milliseconds.
"""

from __future__ import annotations

import re
from typing import Final

from ...printing import counted
from ..compiling import outline
from . import opcodes

_SIZE_MAX_BYTES: Final = 7_654_321  # wasmtime's limit for a body
_STRETCH_BYTES: Final = 1 << 12  # between two checks in a body; and what is read at once, with Python's lock held
_SHORT_BYTES: Final = 128  # a body that need not have a check


class CannotRewriteError(Exception):
    """The module has something in it that is not known here; the text says what."""


def leb(number: int) -> bytes:
    """LEB128 of a number that is not negative, as short as can be."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Body:
    """A function's body, and how to get over what it is made of. `_first`: where its instructions begin."""

    def __init__(self, wasm: bytes, body: outline.Reader) -> None:
        """`body` is behind its size. Raises CannotRewriteError."""
        self._wasm = wasm
        self._end = body.end
        self._first = self._behind_many(opcodes.local, body.number(), body.at)

    def _behind(self, pattern: re.Pattern[bytes], at: int) -> int:
        found = pattern.match(self._wasm, at, self._end)
        if not found:
            raise self._unknown(at)
        return found.end()

    def _behind_many(self, pattern: re.Pattern[bytes], count: int, at: int) -> int:
        for _ in range(count):
            at = self._behind(pattern, at)
        return at

    def _behind_branch_table(self, at: int) -> int:
        labels, at = self._number(at)
        labels += 1  # the default
        if labels <= self._end - at and self._wasm[at : at + labels].isascii():
            return at + labels  # each in one byte
        return self._behind_many(opcodes.label, labels, at)

    def _number(self, at: int) -> tuple[int, int]:
        """(an unsigned number, where it ends)"""
        reader = outline.Reader(self._wasm, at, self._end)
        return reader.number(), reader.at

    def _unknown(self, at: int) -> CannotRewriteError:
        what = self._wasm[at : min(at + 4, self._end)].hex(" ")
        return CannotRewriteError(f"an instruction or a type that is not known, at byte {at}: {what}")


class Cuts(Body):
    """The places in one body at which checks belong: `at`, ascending, as offsets into the module. `entry`: the first of
    them is the function's entry. `stretches`: how many only divide what takes long. Raises CannotRewriteError."""

    def __init__(self, wasm: bytes, body: outline.Reader) -> None:
        """`body` is behind its size; it is read to its end."""
        super().__init__(wasm, body)
        entry = self._first
        self.at: list[int] = []
        self.stretches = 0
        calls = self._read(entry)
        self.entry = calls or self._end - entry > _SHORT_BYTES
        if self.entry:
            self.at.insert(0, entry)

    def _read(self, at: int) -> bool:
        """Whether there are calls."""
        wasm, end, known = self._wasm, self._end, opcodes.up_to_a_call
        calls, checked = False, at
        while True:
            limit = min(end, checked + _STRETCH_BYTES)
            found = known.match(wasm, at, limit)
            at = found.end() if found else at
            if at == end:
                return calls
            if limit < end and at > limit - opcodes.LONGEST_BYTES:  # what is next may lie on both sides of it
                self.at.append(at)
                self.stretches += 1
                checked = at
                continue
            opcode = wasm[at]
            if opcode == opcodes.LOOP:
                checked = at = self._behind(opcodes.loop, at)
                self.at.append(at)
            elif opcode == opcodes.BULK:
                checked = at = self._behind(opcodes.bulk, at)
                self.at.append(at)
                self.stretches += 1
            elif opcode == opcodes.BRANCH_TABLE:
                at = self._behind_branch_table(at + 1)
            elif opcode == opcodes.TRY_TABLE:
                at = self._behind_many(opcodes.catch, *self._number(self._behind(opcodes.try_table, at)))
            elif not calls:
                at = self._behind(opcodes.call, at)
                calls = True
                known = opcodes.over_calls
            else:
                raise self._unknown(at)


def with_checks(wasm: bytes, start: int, end: int, cuts: list[int], check: bytes) -> bytes:
    """The body from `start` to `end`, its new size before it, with a check at each of the cuts.
    Raises CannotRewriteError if it gets too large for wasmtime."""
    size = end - start + len(cuts) * len(check)
    if size > _SIZE_MAX_BYTES:
        raise CannotRewriteError(f"with its checks, the function at byte {start} has {counted(size, 'byte')}")
    parts = [leb(size)]
    for cut in cuts:
        parts.append(wasm[start:cut])
        parts.append(check)
        start = cut
    parts.append(wasm[start:end])
    return b"".join(parts)
