"""A module whose inside can be reached: what an instance of it consists of, exported under names of ours.

For an instance that is to be copied. Memories, mutable globals and tables that the module keeps to itself get exports;
a start section becomes an export too, so that a copy can be made without running it again. Which passive segments are
gone nobody can ask, so for a module that drops some there is a pair of functions for each: one that traps if it is
gone, and one that drops it. To tell which function an entry of a table is, all functions that can be in one are
exported, if the module changes tables at all; if it does not, a new instance has the same ones.

Nothing is believed that wasmtime has not found valid, and nothing of the module's own changes its number: what is added
stands behind all that was there.

Source: WebAssembly core specification 3.0, 5.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ..interruption import opcodes
from ..interruption.bodies import Body, CannotRewriteError, leb
from ..interruption.rewriting import Section, section, sections_of, tells_places, with_places_for
from . import outline
from .outline import Reader, Signature

_TYPES, _IMPORTS, _FUNCTIONS, _TABLES, _MEMORIES, _GLOBALS = 1, 2, 3, 4, 5, 6
_EXPORTS, _START, _ELEMENTS, _CODE, _DATA = 7, 8, 9, 10, 11
_FUNC, _TABLE, _MEMORY, _GLOBAL = b"\0", b"\1", b"\2", b"\3"

_FUNCREF: Final = 0x70
_EXTERNREF: Final = 0x6F
_NAMES: Final = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}
_STRETCH_BYTES: Final = 1 << 12  # read at once, with Python's lock held
_FUNCTIONS_MAX: Final = 50_000  # that are exported to be told from each other
_SEGMENTS_MAX: Final = 1_000
_GLOBALS_MAX: Final = 100_000  # that are read
_MUTABLE_MAX: Final = 10_000  # that are exported: wasmtime's bindings take long for each
_LOOKS_EVERY: Final = 1000  # at the clock
# Of constant expressions: (instructions without operands; with one LEB128; followed by so many bytes)
_PLAIN: Final = frozenset((0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E))
_ONE_NUMBER: Final = frozenset((0x23, 0x41, 0x42, 0xD0, 0xD2))
_FOLLOWED_BY: Final = {0x43: 4, 0x44: 8}
_REF_FUNC: Final = 0xD2


class Segment(NamedTuple):
    """A passive segment: `probe`: the function that traps if it is gone; `drop`: the one that drops it."""

    probe: str
    drop: str


class Inside(NamedTuple):
    """What an instance consists of, by names of exports. `functions`: the module's own exported functions, and their
    types; None: of other values than numbers. `cannot`: why an instance cannot be copied, or None; then nothing else is
    there but `functions`. `globals`, `tables`: those that can differ from a new instance's. `identities`: functions
    that may be in them. `added`: names of ours."""

    functions: dict[str, Signature | None]
    cannot: str | None
    start: str | None = None
    memories: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    added: frozenset[str] = frozenset()


def expose(wasm: bytes, check_time: Callable[[], None] = lambda: None) -> tuple[bytes, Inside]:
    """The module with its inside exported, and what that is. `wasm`: a core module that wasmtime has found valid.
    `check_time`: called every few milliseconds; raises what ends this.

    A module that cannot be read as a whole comes back as it is. Raises nothing of its own.
    """
    read = _Module(wasm, check_time)
    functions: dict[str, Signature | None] = {}
    try:
        functions = read.exported_functions()
        return read.exposed(functions)
    except CannotRewriteError as error:
        return wasm, Inside(functions, str(error))
    except outline.Unreadable:
        return wasm, Inside(functions, "the module cannot be read")


class _Module:
    def __init__(self, wasm: bytes, check_time: Callable[[], None]) -> None:
        self.wasm = wasm
        self._check_time = check_time
        self.outline = outline.read(wasm)
        self.imported = sum(kind == "func" for _, _, kind in self.outline.imports)
        self.found: dict[int, Section] = {}

    def _content(self, ident: int) -> Reader:
        found = self.found.get(ident)
        return Reader(b"", 0, 0) if found is None else Reader(self.wasm, found.content.at, found.content.end)

    def _count(self, ident: int) -> int:
        content = self._content(ident)
        return content.number() if content.at < content.end else 0

    def exported_functions(self) -> dict[str, Signature | None]:
        """Raises Unreadable, CannotRewriteError."""
        self.found = {each.ident: each for each in sections_of(self.wasm) if each.ident}
        types = outline.signatures(self._content(_TYPES)) if _TYPES in self.found else []
        indexes = self._type_indexes()
        functions: dict[str, Signature | None] = {}
        for name, kind, index in self.outline.exports:
            if kind == "func":
                known = index < len(indexes) and indexes[index] < len(types)
                functions[name] = outline.signature(types[indexes[index]]) if known else None
        return functions

    def _type_indexes(self) -> list[int]:
        """Of all functions, the imported ones first."""
        indexes = []
        content = self._content(_IMPORTS)
        for _ in self._each(self._vector(content)):
            content.name(), content.name()
            kind = content.byte()
            if kind:
                outline.skip_import(kind, content)
            else:
                indexes.append(content.number())
        content = self._content(_FUNCTIONS)
        indexes += [content.number() for _ in self._each(self._vector(content))]
        return indexes

    def _each(self, count: int) -> Iterator[int]:
        """The numbers below `count`, with looks at the clock."""
        for begin in range(0, count, _LOOKS_EVERY):
            self._check_time()
            yield from range(begin, min(begin + _LOOKS_EVERY, count))

    @staticmethod
    def _vector(content: Reader) -> int:
        return content.number() if content.at < content.end else 0

    def exposed(self, functions: dict[str, Signature | None]) -> tuple[bytes, Inside]:
        known = self.outline
        if not known.whole:
            raise CannotRewriteError("it has imports, exports or memories that are not known, or too many of them")
        if any(kind != "func" for _, _, kind in known.imports):
            raise CannotRewriteError("it imports something that is no function")
        for index, memory in enumerate(known.memories):
            if memory.shared:
                raise CannotRewriteError(f"its memory {index} is shared between threads")
        names = _Names({name for name, _, _ in known.exports})
        mutable, of_functions = self._mutable_globals()
        changes = _Changes(self)
        tables = self._tables() if changes.tables else []
        identities: list[int] = []
        if tables or of_functions:
            identities = self._functions_in_tables()
            if len(identities) > _FUNCTIONS_MAX:
                raise CannotRewriteError(f"it has more than {_FUNCTIONS_MAX:,} functions that can be in tables")
        segments, bodies = self._segments(changes, names)
        first_added = self.imported + self._count(_FUNCTIONS)
        start = self._content(_START)
        inside = Inside(
            functions,
            None,
            names.of("start", _FUNC, start.number()) if _START in self.found else None,
            tuple(names.of("memory", _MEMORY, index) for index in range(len(known.memories))),
            tuple(names.of("global", _GLOBAL, index) for index in mutable),
            tuple(names.of("table", _TABLE, index) for index in tables),
            tuple(names.of("function", _FUNC, index) for index in identities),
            tuple(
                Segment(*(names.of(what, _FUNC, first_added + at + add) for add, what in enumerate(("probe", "drop"))))
                for at in range(0, len(bodies), 2)
            ),
        )
        assert len(segments) == len(inside.segments)
        added = {_EXPORTS: names.exports}
        if bodies:
            type_index = leb(self._count(_TYPES))
            added[_TYPES] = [b"\x60\0\0"]
            added[_FUNCTIONS] = [type_index] * len(bodies)
            added[_CODE] = [leb(len(body)) + body for body in bodies]
        return self._written(added), inside._replace(added=frozenset(names.given))

    def _written(self, added: dict[int, list[bytes]]) -> bytes:
        """With so much more in some sections, and without a start section."""
        view = memoryview(self.wasm)
        parts: list[bytes | memoryview] = [self.wasm[:8]]
        for each in with_places_for(added, [each for each in sections_of(self.wasm) if not tells_places(each)]):
            content = each.content
            if each.ident in added:
                new = added[each.ident]
                count = leb((content.number() if content.at < content.end else 0) + len(new))
                parts += section(each.ident, [count, view[content.at : content.end], *new])
            elif each.ident != _START:
                parts.append(view[each.start : content.end])
        return b"".join(parts)

    def _mutable_globals(self) -> tuple[list[int], bool]:
        """Their indexes; whether one of them can be a function."""
        content, mutable, of_functions = self._content(_GLOBALS), [], False
        count = self._vector(content)
        if count > _GLOBALS_MAX:
            raise CannotRewriteError(f"it has more than {_GLOBALS_MAX:,} globals")
        for index in self._each(count):
            type_ = content.byte()
            if type_ not in _NAMES:
                raise CannotRewriteError(f"its global {index} has a type that cannot be copied ({type_:#x})")
            if content.byte():
                mutable.append(index)
                of_functions = of_functions or type_ == _FUNCREF
            self._expression(content)
        if len(mutable) > _MUTABLE_MAX:
            raise CannotRewriteError(f"it has more than {_MUTABLE_MAX:,} globals that can change")
        return mutable, of_functions

    def _tables(self) -> list[int]:
        return list(range(len(self._table_types())))

    def _table_types(self) -> list[int]:
        content = self._content(_TABLES)
        types = []
        for index in range(self._vector(content)):
            type_ = content.byte()
            if type_ not in (_FUNCREF, _EXTERNREF):
                raise CannotRewriteError(f"its table {index} has a type that cannot be copied ({type_:#x})")
            types.append(type_)
            outline.skip_limits(content)
        return types

    def _functions_in_tables(self) -> list[int]:
        """All that a reference can be made of: those in elements, in globals, and exported ones."""
        found = {index for _, kind, index in self.outline.exports if kind == "func"}
        content = self._content(_GLOBALS)
        for _ in self._each(self._vector(content)):
            content.byte(), content.byte()
            found.update(self._expression(content))
        for _, _, functions in self._elements():
            found.update(functions)
        return sorted(found)

    def _elements(self) -> list[tuple[bool, int, list[int]]]:
        """Of each segment: whether it is passive, the type of what is in it, and the functions."""
        content = self._content(_ELEMENTS)
        segments = []
        for _ in self._each(self._vector(content)):
            flags = content.number()
            if flags > 7:
                raise outline.Unreadable
            if flags & 2 and not flags & 1:
                content.number()  # which table
            if not flags & 1:
                self._expression(content)  # where
            type_ = _FUNCREF
            if flags & 3:
                type_ = content.byte()
                if not flags & 4:
                    type_ = _FUNCREF  # a kind, of which there is one
            functions: list[int] = []
            for _ in self._each(content.number()):
                if flags & 4:
                    functions += self._expression(content) or [-1]
                else:
                    functions.append(content.number())
            segments.append((flags & 3 == 1, type_, functions))
        return [
            (passive, type_, [each for each in found if each >= 0] if not passive else found)
            for passive, type_, found in segments
        ]

    def _expression(self, content: Reader) -> list[int]:
        """Pass over a constant expression; the functions that it refers to."""
        functions = []
        while (opcode := content.byte()) != 0x0B:
            if opcode in _ONE_NUMBER:
                number = content.number()
                if opcode == _REF_FUNC:
                    functions.append(number)
            elif opcode in _FOLLOWED_BY:
                content.part(_FOLLOWED_BY[opcode])
            elif opcode == 0xFD and content.number() == 12:
                content.part(16)
            elif opcode not in _PLAIN:
                raise CannotRewriteError(f"it has a constant that is made in a way that is not known ({opcode:#x})")
        return functions

    def _segments(self, changes: _Changes, names: _Names) -> tuple[list[int], list[bytes]]:
        """The passive segments that may be dropped and missed, and the bodies of two functions for each."""
        found: list[int] = []
        bodies: list[bytes] = []
        if changes.drops_data and self.outline.memories:
            content = self._content(_DATA)
            for index in self._each(self._vector(content)):
                flags = content.number()
                if flags == 2:
                    content.number()
                if flags != 1:
                    self._expression(content)
                size = content.number()
                content.part(size)
                if flags == 1 and size:
                    found.append(index)
                    bodies.append(b"\0\x41\0\x41\1\x41\0\xfc\x08" + leb(index) + b"\0\x0b")
                    bodies.append(b"\0\xfc\x09" + leb(index) + b"\x0b")
        if changes.drops_elements:
            types = self._table_types()
            for index, (passive, type_, functions) in enumerate(self._elements()):
                if passive and functions and type_ in types:
                    found.append(index)
                    bodies.append(b"\0\x41\0\x41\1\x41\0\xfc\x0c" + leb(index) + leb(types.index(type_)) + b"\x0b")
                    bodies.append(b"\0\xfc\x0d" + leb(index) + b"\x0b")
        if len(found) > _SEGMENTS_MAX:
            raise CannotRewriteError(f"it has more than {_SEGMENTS_MAX:,} segments that it may drop")
        return found, bodies


class _Changes:
    """Whether there are instructions that change tables, and that drop segments."""

    def __init__(self, module: _Module) -> None:
        self.tables = self.drops_data = self.drops_elements = False
        content = module._content(_CODE)
        for _ in range(module._vector(content)):
            module._check_time()
            for opcode in _Interesting(module.wasm, content.part(content.number())).found:
                if opcode in (b"\xfc\x09", b"\xfc\x0d"):
                    self.drops_data = self.drops_data or opcode[1] == 0x09
                    self.drops_elements = self.drops_elements or opcode[1] == 0x0D
                elif opcode[0] == 0x26 or opcode[1] >= 0x0C:  # table.set; init, copy, grow, fill
                    self.tables = True


class _Interesting(Body):
    """The first two bytes of each instruction of a body that changes a table, or works on a whole stretch."""

    def __init__(self, wasm: bytes, body: Reader) -> None:
        super().__init__(wasm, body)
        self.found: set[bytes] = set()
        at, end = self._first, self._end
        while at < end:
            limit = min(end, at + _STRETCH_BYTES)
            matched = opcodes.over_the_inert.match(wasm, at, limit)
            before, at = at, matched.end() if matched else at
            if at == end or (limit < end and at > limit - opcodes.LONGEST_BYTES and at > before):
                continue
            opcode = wasm[at]
            if opcode == opcodes.LOOP:
                at = self._behind(opcodes.loop, at)
            elif opcode == opcodes.BRANCH_TABLE:
                at = self._behind_branch_table(at + 1)
            elif opcode == opcodes.TRY_TABLE:
                at = self._behind_many(opcodes.catch, *self._number(self._behind(opcodes.try_table, at)))
            else:
                self.found.add(wasm[at : at + 2])
                pattern = opcodes.changing if opcodes.changing.match(wasm, at, end) else opcodes.bulk
                at = self._behind(pattern, at)


class _Names:
    """Names that no export of the module begins like, and the exports that were given them."""

    def __init__(self, taken: set[str]) -> None:
        self._prefix, number = "vfswasi:", 1
        while any(name.startswith(self._prefix) for name in taken):
            number += 1
            self._prefix = f"vfswasi{number}:"
        self.given: list[str] = []
        self.exports: list[bytes] = []

    def of(self, what: str, kind: bytes, index: int) -> str:
        name = f"{self._prefix}{what}{index}"
        self.given.append(name)
        raw = name.encode()
        self.exports.append(leb(len(raw)) + raw + kind + leb(index))
        return name
