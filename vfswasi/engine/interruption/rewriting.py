"""A module with one more memory, and with checks that read it: `i32.const 0; i32.atomic.load; drop`.

The memory is one page and the last one, so that no index of the guest's changes. The load is atomic because a plain one
may be merged with an equal one before it, and a loop then has no check. Where the checks stand: bodies.py.

Neither side trusts this file. What comes in has been found valid by wasmtime before, otherwise a module could name the
memory that it does not have; what goes out is validated again when it is compiled. What is not known is refused: such a
module is interrupted in wasmtime's own way.

Source: WebAssembly core specification 3.0, 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ..compiling import outline
from .bodies import CannotRewriteError as CannotRewriteError
from .bodies import Cuts, leb, with_checks

EXPORT: Final = "vfswasi:interrupt"
"""The name of the memory among the exports, if the module has no such name; else one that begins with it."""

_CUSTOM: Final = 0
_MEMORIES: Final = 5
_EXPORTS: Final = 7
_CODE: Final = 10
# All but custom ones, in the order in which they must stand: types, imports, functions, tables, memories, tags,
# globals, exports, start, elements, count of data, code, data.
_ORDER: Final = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)

_ONE_PAGE: Final = b"\x01\x01\x01"  # at least one, at most one
_MEMORY_KIND: Final = b"\x02"

# Custom sections that tell of places in the code, which move: hints for compilers, and DWARF, with which wasmtime names
# lines of a source in backtraces if it is asked to.
_TELL_PLACES: Final = ("metadata.code.", ".debug_")


class Rewritten(NamedTuple):
    """`export`: the name of the memory. `loops`, `entries`: checks at heads of loops and at entries of functions."""

    wasm: bytes
    export: str
    loops: int
    entries: int


class Section(NamedTuple):
    """Its identity, where its header begins in the module, and its content."""

    ident: int
    start: int
    content: outline.Reader


def rewrite(wasm: bytes) -> Rewritten:
    """The module with checks. `wasm` is a core module that wasmtime has found valid.

    Raises CannotRewriteError, and nothing else whatever the bytes are. Needs one more memory and one more export, both
    of which wasmtime limits, and the features multi-memory and threads."""
    try:
        return _rewritten(wasm)
    except outline.Unreadable:
        raise CannotRewriteError("the module cannot be read") from None


def _rewritten(wasm: bytes) -> Rewritten:
    if wasm[:8] != b"\0asm\x01\0\0\0":
        raise CannotRewriteError("this is no core module")
    known = outline.read(wasm)
    if not known.whole:
        raise CannotRewriteError("imports, exports or memories that are not known, or too many of them")
    export = _free_name({name for name, _, _ in known.exports})
    memory = leb(len(known.memories))
    code = _Code(wasm, b"\x41\x00\xfe\x10\x42" + memory + b"\x00\x1a")
    exported = export.encode()
    added = {_MEMORIES: _ONE_PAGE, _EXPORTS: leb(len(exported)) + exported + _MEMORY_KIND + memory}
    sections = with_places_for(added, [each for each in sections_of(wasm) if not tells_places(each)])

    view = memoryview(wasm)
    parts: list[bytes | memoryview] = [wasm[:8]]
    for each in sections:
        ident, content = each.ident, each.content
        if ident in added:
            count = leb(content.number() + 1 if content.at < content.end else 1)
            parts += section(ident, [count, view[content.at : content.end], added[ident]])
        elif ident == _CODE:
            parts += section(ident, code.read(content))
        else:
            parts.append(view[each.start : content.end])
    return Rewritten(b"".join(parts), export, code.loops, code.entries)


def _free_name(taken: set[str]) -> str:
    name, number = EXPORT, 1
    while name in taken:
        number += 1
        name = f"{EXPORT}{number}"
    return name


def section(ident: int, content: list[bytes | memoryview]) -> list[bytes | memoryview]:
    return [bytes([ident]), leb(sum(map(len, content))), *content]


def sections_of(wasm: bytes) -> Iterator[Section]:
    reader = outline.Reader(wasm, 8, len(wasm))
    order = iter(_ORDER)
    while reader.at < reader.end:
        start = reader.at
        ident = reader.byte()
        if ident != _CUSTOM and ident not in order:  # passes over those that are not there
            raise CannotRewriteError(f"the section {ident} at byte {start} is not known or not in its place")
        yield Section(ident, start, reader.part(reader.number()))


def tells_places(section: Section) -> bool:
    if section.ident != _CUSTOM:
        return False
    content = section.content
    return outline.Reader(content.data, content.at, content.end).name().startswith(_TELL_PLACES)


def with_places_for(wanted: Iterable[int], sections: list[Section]) -> list[Section]:
    """With empty sections where one of the wanted is not there: behind the last that must stand before it."""
    found = list(sections)
    for ident in wanted:
        if any(section.ident == ident for section in found):
            continue
        before = _ORDER[: _ORDER.index(ident)]
        place = max((index + 1 for index, section in enumerate(found) if section.ident in before), default=0)
        found.insert(place, Section(ident, 0, outline.Reader(b"", 0, 0)))
    return found


class _Code:
    """Puts checks into functions and counts them."""

    def __init__(self, wasm: bytes, check: bytes) -> None:
        self._wasm = wasm
        self._view = memoryview(wasm)
        self._check = check
        self.loops = 0
        self.entries = 0

    def read(self, content: outline.Reader) -> list[bytes | memoryview]:
        """The content of the section with checks, in parts."""
        parts: list[bytes | memoryview] = []
        copied = content.at
        for _ in range(content.number()):
            size_at = content.at
            body = content.part(content.number())
            start = body.at
            cuts = Cuts(self._wasm, body)
            if cuts.at:
                self.loops += len(cuts.at) - cuts.entry - cuts.stretches
                self.entries += cuts.entry
                parts.append(self._view[copied:size_at])
                parts.append(with_checks(self._wasm, start, body.end, cuts.at, self._check))
                copied = body.end
        if content.at < content.end:
            raise CannotRewriteError("there are bytes behind the last function")
        parts.append(self._view[copied : content.end])
        return parts
