"""How large the types of a component are when everything that they name is written out.

A type may name earlier ones several times, so a few bytes can stand for a million values, and wasmtime works through
all of them for each function that has such a type. Types of functions, of values and of instances are known here, and
end the reading when they are not. Source: Binary.md of the component model, "Type Definitions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ..compiling.outline import Reader, Unreadable, component_name

_SIZE_MAX: Final = 1000  # values; the largest of the adapter's has some twenty
_NOTHING: Final[Mapping[str, int]] = {}

_FUNCTION: Final = 0x40
_INSTANCE: Final = 0x42
_TYPE: Final = 3  # a sort


class Type(NamedTuple):
    """`size`: values and names of which it is made. `exported`: the sizes of the types that an instance exports."""

    size: int
    exported: Mapping[str, int] = _NOTHING


class TypeReader:
    """Reads definitions into an index space; `outer` is the one around it. `count` is told how many items follow."""

    def __init__(self, types: list[Type], count: Callable[[int], range], outer: list[Type] | None = None) -> None:
        self._types = types
        self._count = count
        self._outer = outer

    def definition(self, reader: Reader) -> None:
        """One more type. Raises Unreadable: it is too large, or of a kind that is not known here."""
        kind = reader.byte()
        if kind == _FUNCTION:
            self._add(self._labelled(reader) + self._result(reader))
        elif kind == _INSTANCE and self._outer is None:
            self._types.append(self._instance(reader))
        else:
            self._add(self._value_of_kind(kind, reader))

    def described(self, reader: Reader) -> tuple[str, int | None]:
        """What an import or an export is declared to be, and the index of its type. A type is one more in the index
        space."""
        kind = reader.byte()
        if kind == _TYPE:
            form = reader.byte()
            if form > 1:
                raise Unreadable
            self._types.append(self.at(reader.number()) if form == 0 else Type(1))  # equal to one; a resource
            return "type", None
        if kind not in _DESCRIBED or (kind == 0 and reader.byte() != 0x11):
            raise Unreadable
        return _DESCRIBED[kind], reader.number()

    def at(self, index: int) -> Type:
        if index >= len(self._types):
            raise Unreadable
        return self._types[index]

    def _add(self, size: int) -> None:
        if size > _SIZE_MAX:
            raise Unreadable
        self._types.append(Type(size))

    def _instance(self, reader: Reader) -> Type:
        types: list[Type] = []
        inside = TypeReader(types, self._count, self._types)
        exported: dict[str, int] = {}
        for _ in self._count(reader.number()):
            what = reader.byte()
            if what == 1:
                inside.definition(reader)
            elif what == 2 and reader.byte() == _TYPE and reader.byte() == 2:  # a type of a component around it
                levels, index = reader.number(), reader.number()
                if levels > 1:
                    raise Unreadable
                types.append(inside.at(index) if levels == 0 else self.at(index))
            elif what == 4:
                name = component_name(reader)
                if inside.described(reader)[0] == "type":
                    exported[name] = types[-1].size
            else:
                raise Unreadable
        return Type(1, exported)

    def _value_of_kind(self, kind: int, reader: Reader) -> int:
        if 0x73 <= kind <= 0x7F:  # numbers, strings
            return 1
        if kind == 0x72:  # record
            return 1 + self._labelled(reader)
        if kind == 0x71:  # variant
            return 1 + sum(self._case(reader) for _ in self._count(reader.number()))
        if kind == 0x6F:  # tuple
            return 1 + sum(self._value(reader) for _ in self._count(reader.number()))
        if kind in (0x6D, 0x6E):  # enum, flags
            return 1 + sum(self._label(reader) for _ in self._count(reader.number()))
        if kind in (0x6B, 0x70):  # option, list
            return 1 + self._value(reader)
        if kind == 0x6A:  # result
            return 1 + self._optional(reader) + self._optional(reader)
        if kind in (0x68, 0x69):  # borrow, own
            reader.number()
            return 1
        raise Unreadable

    def _value(self, reader: Reader) -> int:
        first = reader.data[reader.at] if reader.at < reader.end else 0
        if first & 0xC0 == 0x40:  # a negative number of one byte
            return self._value_of_kind(reader.byte(), _EMPTY)
        return self.at(reader.number()).size

    def _optional(self, reader: Reader) -> int:
        return self._value(reader) if reader.byte() else 0

    def _label(self, reader: Reader) -> int:
        reader.name()
        return 1

    def _case(self, reader: Reader) -> int:
        size = self._label(reader) + self._optional(reader)
        if reader.byte():
            raise Unreadable
        return size

    def _labelled(self, reader: Reader) -> int:
        return sum(self._label(reader) + self._value(reader) for _ in self._count(reader.number()))

    def _result(self, reader: Reader) -> int:
        if reader.byte() == 0:
            return self._value(reader)
        if reader.byte():
            raise Unreadable
        return 0


_EMPTY: Final = Reader(b"", 0, 0)
_DESCRIBED: Final = {0: "module", 1: "func", 4: "component", 5: "instance"}
