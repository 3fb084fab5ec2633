"""What a WebAssembly file says of itself at its top level, read without compiling it: imports, exports, memories.

Nothing is believed: every number is checked against the bytes that are there, lists are cut off, and what cannot be
read ends the reading; whether the module is valid is wasmtime's to say. Sources: WebAssembly core specification 5.5,
and Binary.md of the component model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from .reader import NAME_MAX_BYTES
from .reader import Reader as Reader
from .reader import Unreadable as Unreadable

SECTIONS_MAX: Final = 100_000  # each may be three bytes long
# Python looks at each of these before a deadline holds. The largest programs of the tests have some fifty imports, ten
# exports and two hundred types.
IMPORTS_MAX: Final = 10_000
EXPORTS_MAX: Final = 10_000
TYPES_MAX: Final = 100_000
_NAMES_MAX: Final = 10_000  # imports, exports or memories that are looked at
_NAMES_MAX_BYTES: Final = 4 << 20  # of all names that are looked at

MAGIC: Final = b"\0asm"
_COMPONENT: Final = b"\x0d\x00\x01\x00"

# Sections of a core module.
TYPES: Final = 1
IMPORTS: Final = 2
FUNCTIONS: Final = 3
_TABLES: Final = 4
MEMORIES: Final = 5
EXPORTS: Final = 7
_START: Final = 8
CODE: Final = 10
# Sections of a component.
_COMPONENT_IMPORTS: Final = 10
_COMPONENT_EXPORTS: Final = 11

_KINDS: Final = ("func", "table", "memory", "global", "tag")
_COMPONENT_KINDS: Final = ("module", "func", "value", "type", "component", "instance")


class Memory(NamedTuple):
    """A memory's type. `minimum`, `maximum`: pages; no maximum is None."""

    minimum: int
    maximum: int | None
    shared: bool
    is_64: bool


class Outline:
    """`imports`: (module, name, kind), or (name, "", kind) in a component. `exports`: (name, kind, index).
    `memories`: the imported ones first, as they are counted. `name_bytes`: of all names so far.
    `whole`: nothing was cut off or could not be read."""

    def __init__(self, is_component: bool = False) -> None:
        self.is_component = is_component
        self.imports: list[tuple[str, str, str]] = []
        self.exports: list[tuple[str, str, int]] = []
        self.memories: list[Memory] = []
        self.tables = 0
        self.name_bytes = 0
        self.has_start = False
        self.whole = True

    def exported(self, kind: str) -> dict[str, int]:
        """The exports of a kind: name -> index."""
        return {name: index for name, of_kind, index in self.exports if of_kind == kind}


def sections(wasm: bytes) -> Iterator[tuple[int, Reader]]:
    """The identity and the content of each section. Raises Unreadable."""
    reader = Reader(wasm, 8, len(wasm))
    while reader.at < reader.end:
        section = reader.byte()
        yield section, reader.part(reader.number())


def counts(wasm: bytes) -> tuple[bool, int, int]:
    """(whether there is a start section, memories, tables of its own) of a valid core module."""
    found = {_TABLES: 0, MEMORIES: 0, _START: 0}
    for section, content in sections(wasm):
        if section in found:
            found[section] = 1 if section == _START else content.number()
    return bool(found[_START]), found[MEMORIES], found[_TABLES]


# What a value's type is in the binary format -> its name: numbers, which Python can be given.
_NUMBERS: Final = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}
_NUMBER_BYTES: Final = bytes(_NUMBERS)
_REFERENCE: Final = re.compile(b"[\x63\x64]")  # what is followed by a heap type; every other type is one byte
_FUNCTION_TYPE: Final = 0x60


class Signature(NamedTuple):
    """The type of a function that takes and gives numbers alone: their types' names."""

    params: tuple[str, ...]
    results: tuple[str, ...]


def imported_functions(wasm: bytes) -> list[Signature | None]:
    """Of a valid core module, the type of each function that it imports, in their order; None: it has other values than
    numbers. wasmtime's package ends the process when it is asked for the name of a type that it does not know. Raises
    Unreadable."""
    types: list[tuple[bytes, bytes] | None] = []
    functions: list[Signature | None] = []
    for section, content in sections(wasm):
        if section == TYPES:
            types = signatures(content)
        elif section == IMPORTS:
            for _ in range(content.number()):
                content.name(), content.name()
                kind = content.byte()
                if kind:
                    skip_import(kind, content)
                else:
                    index = content.number()
                    functions.append(signature(types[index]) if index < len(types) else None)
            break
    return functions


def signatures(content: Reader) -> list[tuple[bytes, bytes] | None]:
    """The types up to the first that is no function of plain values; those behind it are not known then. Of functions
    of numbers, as they are in the file: (parameters, results); most of them belong to no import."""
    signatures: list[tuple[bytes, bytes] | None] = []
    for _ in range(content.number()):
        if content.byte() != _FUNCTION_TYPE:
            break
        params, results = _numbers(content), _numbers(content)
        signatures.append(None if params is None or results is None else (params, results))
    return signatures


def signature(type_: tuple[bytes, bytes] | None) -> Signature | None:
    if type_ is None:
        return None
    params, results = type_
    return Signature(tuple(map(_NUMBERS.__getitem__, params)), tuple(map(_NUMBERS.__getitem__, results)))


def _numbers(content: Reader) -> bytes | None:
    """A vector of types of values, if all of them are numbers."""
    count, at = content.number(), content.at
    values = content.data[at : min(at + count, content.end)]
    if _REFERENCE.search(values):
        for _ in range(count):
            _value_type(content)
        return None
    content.part(count)
    return None if values.translate(None, _NUMBER_BYTES) else values


def is_component(wasm: bytes) -> bool:
    """Whether it is a component, and no core module."""
    return wasm[4:8] == _COMPONENT


def has_too_many_sections(wasm: bytes) -> bool:
    """Whether it would take long to pass over its sections; as far as it can be read."""
    reader = Reader(wasm, 8, len(wasm))
    try:
        for _ in range(SECTIONS_MAX):
            if reader.at >= reader.end:
                return False
            reader.at += 1
            reader.part(reader.number())
    except Unreadable:
        return False
    return reader.at < reader.end


def too_many(wasm: bytes) -> str | None:
    """What a core module has more of than is looked at, and how many that is; as far as it can be read."""
    found = dict.fromkeys(_COUNTED, 0)
    try:
        for section, content in sections(wasm):
            if section in found:
                found[section] += content.number()
    except Unreadable:
        pass
    for section, (most, what) in _COUNTED.items():
        if found[section] > most:
            return f"more than {most:,} {what}"
    return None


def has_compact_imports(wasm: bytes) -> bool:
    """Whether one element of its list of imports stands for many of them, of any number; as far as it can be read.
    Source: the proposal "compact import section". wasmtime has no switch for it: its validator takes it, its compiler
    does not (50.0.1)."""
    try:
        for section, content in sections(wasm):
            if section == IMPORTS:
                for _ in range(content.number()):
                    content.name()
                    name = content.name()
                    kind = content.byte()
                    if kind in _COMPACT and not name:
                        return True
                    skip_import(kind, content)
    except Unreadable:
        pass
    return False


_COMPACT: Final = (0x7E, 0x7F)  # in the place of a kind: one type for all of the names that follow, and one for each

_COUNTED: Final = {
    IMPORTS: (IMPORTS_MAX, "imports"),
    EXPORTS: (EXPORTS_MAX, "exports"),
    TYPES: (TYPES_MAX, "types"),
}


def read(wasm: bytes) -> Outline:
    """The outline of a file that begins as WebAssembly does."""
    outline = Outline(is_component(wasm))
    known = _COMPONENT_SECTIONS if outline.is_component else _SECTIONS
    try:
        for section, content in sections(wasm):
            if section in known:
                known[section](content, outline)
    except Unreadable:
        outline.whole = False
    return outline


def _repeat(reader: Reader, outline: Outline, one: Callable[[Reader, Outline], None], found: Sequence[object]) -> None:
    """A vector, which goes to `found`; what is behind the first so many elements is left out, of all sections that are
    alike: a component may have any number of them."""
    for _ in range(reader.number()):
        if len(found) >= _NAMES_MAX or outline.name_bytes > _NAMES_MAX_BYTES:
            outline.whole = False
            return
        before = reader.at
        one(reader, outline)
        outline.name_bytes += min(reader.at - before, 2 * NAME_MAX_BYTES)


def skip_import(kind: int, reader: Reader) -> None:
    """Pass over the type of an import of a kind, as the binary format numbers them."""
    if kind >= len(_KINDS):
        raise Unreadable
    _type_of[_KINDS[kind]](reader)


def skip_limits(reader: Reader) -> None:
    """Pass over the limits of a memory or a table."""
    _limits(reader)


def _limits(reader: Reader) -> Memory:
    flags = reader.byte()
    minimum = reader.number()
    maximum = reader.number() if flags & 1 else None
    if flags & 8:  # a page size of its own
        reader.number()
    return Memory(minimum, maximum, bool(flags & 2), bool(flags & 4))


def _value_type(reader: Reader) -> None:
    if reader.byte() in (0x63, 0x64):  # a reference with its own heap type, a signed number of up to 33 bits
        reader.number()


def _import(reader: Reader, outline: Outline) -> None:
    module, name = reader.name(), reader.name()
    kind = reader.byte()
    if kind >= len(_KINDS):
        raise Unreadable
    outline.imports.append((module, name, _KINDS[kind]))
    if _KINDS[kind] == "memory":
        outline.memories.append(_limits(reader))
    else:
        _type_of[_KINDS[kind]](reader)


def _table_type(reader: Reader) -> None:
    _value_type(reader)
    _limits(reader)


def _global_type(reader: Reader) -> None:
    _value_type(reader)
    reader.byte()


def _tag_type(reader: Reader) -> None:
    reader.byte()
    reader.number()


# Kind of an import -> what passes over its type.
_type_of: Final[dict[str, Callable[[Reader], object]]] = {
    "func": Reader.number,
    "table": _table_type,
    "memory": _limits,
    "global": _global_type,
    "tag": _tag_type,
}


def _memory(reader: Reader, outline: Outline) -> None:
    outline.memories.append(_limits(reader))


def _export(reader: Reader, outline: Outline) -> None:
    name = reader.name()
    kind = reader.byte()
    if kind >= len(_KINDS):
        raise Unreadable
    outline.exports.append((name, _KINDS[kind], reader.number()))


def _tables(reader: Reader, outline: Outline) -> None:
    outline.tables += reader.number()


def _start(_reader: Reader, outline: Outline) -> None:
    outline.has_start = True


_SECTIONS: Final[dict[int, Callable[[Reader, Outline], None]]] = {
    IMPORTS: lambda reader, outline: _repeat(reader, outline, _import, outline.imports),
    _TABLES: _tables,
    MEMORIES: lambda reader, outline: _repeat(reader, outline, _memory, outline.memories),
    EXPORTS: lambda reader, outline: _repeat(reader, outline, _export, outline.exports),
    _START: _start,
}


def component_name(reader: Reader) -> str:
    """The name of an import or an export of a component."""
    form = reader.byte()
    if form > 1:  # with attributes that came later than this
        raise Unreadable
    return reader.name()


def component_type(reader: Reader) -> str:
    """The kind of what an import or an export is declared to be."""
    kind = reader.byte()
    if kind >= len(_COMPONENT_KINDS):
        raise Unreadable
    if kind == 0 and reader.byte() != 0x11:
        raise Unreadable
    if _COMPONENT_KINDS[kind] in ("value", "type"):
        if reader.byte() == 0 or _COMPONENT_KINDS[kind] == "value":  # equal to a type; otherwise a resource
            reader.number()
    else:
        reader.number()
    return _COMPONENT_KINDS[kind]


def _component_import(reader: Reader, outline: Outline) -> None:
    name = component_name(reader)
    outline.imports.append((name, "", component_type(reader)))


def _component_export(reader: Reader, outline: Outline) -> None:
    name = component_name(reader)
    sort = reader.byte()
    if sort >= len(_COMPONENT_KINDS):
        raise Unreadable
    if sort == 0:
        reader.byte()
    index = reader.number()
    if reader.byte():
        component_type(reader)
    outline.exports.append((name, _COMPONENT_KINDS[sort], index))


_COMPONENT_SECTIONS: Final[dict[int, Callable[[Reader, Outline], None]]] = {
    _COMPONENT_IMPORTS: lambda reader, outline: _repeat(reader, outline, _component_import, outline.imports),
    _COMPONENT_EXPORTS: lambda reader, outline: _repeat(reader, outline, _component_export, outline.exports),
}
