"""What the top level of a component is made of, as far as it takes to follow a call through it.

A component is a list of definitions, each of which adds to an index space: core modules, instances of them, core
functions, components, instances of those, functions, types. What is inside of a nested component is
not looked at here, so there is no recursion; everything that is counted is bounded, and what this file does not know
ends the reading. Source: Binary.md of the component model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from ..compiling.outline import Reader, Unreadable, component_name, sections
from .types import Type, TypeReader

_ITEMS_MAX: Final = 100_000  # definitions, and names in them; adapters need some hundreds

# Sections.
CUSTOM: Final = 0
CORE_MODULE: Final = 1
CORE_INSTANCES: Final = 2
COMPONENT: Final = 4
INSTANCES: Final = 5
ALIASES: Final = 6
TYPES: Final = 7
CANONS: Final = 8
IMPORTS: Final = 10
EXPORTS: Final = 11

FUNC: Final = "func"
_SORTS: Final = ("core", "func", "value", "type", "component", "instance")
_CORE_SORTS: Final = {0: "func", 1: "table", 2: "memory", 3: "global", 4: "tag", 0x10: "type", 0x11: "module"}

Sorted = tuple[str, int]  # (what it is, its index)
_T = TypeVar("_T")


class Part(NamedTuple):
    """Some bytes of the component: a section's content."""

    start: int
    end: int


class Instantiated(NamedTuple):
    """An instance made of a module, or of a component. `given`: by the name of the argument; of a module it is the
    index of a core instance."""

    of: int
    given: Mapping[str, Sorted]


class Bundle(NamedTuple):
    """An instance that is a list of names."""

    exports: Mapping[str, Sorted]


class Imported(NamedTuple):
    """An instance that the component imports, of this type."""

    type: Type


class Lifted(NamedTuple):
    """A function of the component that calls a core function."""

    core_function: int


class CoreExport(NamedTuple):
    """A core function that a core instance exports."""

    instance: int
    name: str


class Structure:
    """The index spaces of a component's top level. None stands for what came from elsewhere: from imports, or from
    instances of components."""

    def __init__(self, wasm: bytes) -> None:
        self.wasm = wasm
        self.sections: list[tuple[int, Part]] = []
        self.modules: list[Part | None] = []
        self.core_instances: list[Instantiated | Bundle] = []
        self.core_functions: list[CoreExport | None] = []
        self.components: list[Part | None] = []
        self.instances: list[Instantiated | Bundle | Imported | None] = []
        self.functions: list[Lifted | None] = []
        self.imports: list[tuple[str, str]] = []  # (name, kind)
        self.exports: list[tuple[str, Sorted]] = []
        self.conversions = 0  # functions between the component and its modules, for resources too
        self.types: list[Type] = []
        self.type_reader = TypeReader(self.types, self.count)
        self._items = 0

    def count(self, more: int) -> range:
        """Of so many items, which are counted. Raises Unreadable if there are too many."""
        self._items += more
        if self._items > _ITEMS_MAX:
            raise Unreadable
        return range(more)

    def add(self, kind: str) -> None:
        """Something of this kind that came from elsewhere."""
        if kind == "func":
            self.functions.append(None)
        elif kind == "instance":
            self.instances.append(None)
        elif kind == "component":
            self.components.append(None)
        elif kind == "module":
            self.modules.append(None)


def at(space: list[_T], index: int) -> _T:
    """What has this index. Raises Unreadable."""
    if index >= len(space):
        raise Unreadable
    return space[index]


def read(wasm: bytes) -> Structure:
    """Raises Unreadable for what is cut off, has too much in it, or has something that is not known here."""
    found = Structure(wasm)
    for section, content in sections(wasm):
        part = Part(content.at, content.end)
        found.count(1)
        found.sections.append((section, part))
        if section == CORE_MODULE:
            found.modules.append(part)
        elif section == COMPONENT:
            found.components.append(part)
        elif section in _READ:
            for _ in found.count(content.number()):
                _READ[section](content, found)
            if content.at != content.end:
                raise Unreadable
        elif section != CUSTOM:
            raise Unreadable
    return found


def defines_nothing_that_runs(part: Part, wasm: bytes) -> bool:
    """Whether a nested component has types, imports, exports and names for them alone. Raises Unreadable."""
    allowed = (CUSTOM, TYPES, ALIASES, IMPORTS, EXPORTS)
    return all(section in allowed for section, _ in sections(wasm[part.start : part.end]))


def _sort(reader: Reader) -> str:
    kind = reader.byte()
    if kind >= len(_SORTS):
        raise Unreadable
    return _core_sort(reader) if kind == 0 else _SORTS[kind]


def _core_sort(reader: Reader) -> str:
    kind = _CORE_SORTS.get(reader.byte())
    if kind is None:
        raise Unreadable
    return kind


def _named(reader: Reader, found: Structure, name: Callable[[Reader], str], sort: Callable[[Reader], str]) -> Bundle:
    exports: dict[str, Sorted] = {}
    for _ in found.count(reader.number()):
        called = name(reader)
        kind = sort(reader)
        exports[called] = (kind, reader.number())
    return Bundle(exports)


def _an_instance(reader: Reader) -> str:
    if reader.byte() != 0x12:
        raise Unreadable
    return "core instance"


def _core_instance(reader: Reader, found: Structure) -> None:
    form = reader.byte()
    if form == 0:
        module = reader.number()
        found.core_instances.append(Instantiated(module, _named(reader, found, Reader.name, _an_instance).exports))
    elif form == 1:
        found.core_instances.append(_named(reader, found, Reader.name, _core_sort))
    else:
        raise Unreadable


def _instance(reader: Reader, found: Structure) -> None:
    form = reader.byte()
    if form == 0:
        component = reader.number()
        found.instances.append(Instantiated(component, _named(reader, found, Reader.name, _sort).exports))
    elif form == 1:
        found.instances.append(_named(reader, found, component_name, _sort))
    else:
        raise Unreadable


def _alias(reader: Reader, found: Structure) -> None:
    is_core = reader.data[reader.at : reader.at + 1] == b"\0"
    sort = _sort(reader)
    target = reader.byte()
    if target == 0:  # an export of an instance
        instance, name = reader.number(), reader.name()
        if is_core and sort != "module":
            raise Unreadable
        if sort == "type":
            _type_of_instance(at(found.instances, instance), name, found)
        found.add(sort)
    elif target == 1 and is_core:  # an export of a core instance
        instance, name = reader.number(), reader.name()
        if sort == FUNC:
            found.core_functions.append(CoreExport(instance, name))
        elif sort in ("module", "type"):
            raise Unreadable
    else:  # of a component around it
        raise Unreadable


def _type_of_instance(instance: object, name: str, found: Structure) -> None:
    if not isinstance(instance, Imported) or name not in instance.type.exported:
        raise Unreadable
    found.types.append(Type(instance.type.exported[name]))


def _canon_options(reader: Reader, found: Structure) -> None:
    for _ in found.count(reader.number()):
        option = reader.byte()
        if option > 5:  # asynchronous, or not known
            raise Unreadable
        if option > 2:  # a memory, a function that allocates, one that tidies up
            reader.number()


def _canon(reader: Reader, found: Structure) -> None:
    found.conversions += 1
    form = reader.byte()
    if form == 0 and reader.byte() == 0:  # lift
        function = reader.number()
        _canon_options(reader, found)
        reader.number()
        found.functions.append(Lifted(function))
    elif form == 1 and reader.byte() == 0:  # lower
        reader.number()
        _canon_options(reader, found)
        found.core_functions.append(None)
    elif form in (2, 3, 4):  # a resource is made, dropped, looked at
        reader.number()
        found.core_functions.append(None)
    else:
        raise Unreadable


def _import(reader: Reader, found: Structure) -> None:
    name = component_name(reader)
    kind, index = found.type_reader.described(reader)
    found.imports.append((name, kind))
    if kind == "instance" and index is not None:
        found.instances.append(Imported(found.type_reader.at(index)))
    else:
        found.add(kind)


def _export(reader: Reader, found: Structure) -> None:
    name, kind, index = component_name(reader), _sort(reader), reader.number()
    types = len(found.types)
    if reader.byte():
        found.type_reader.described(reader)
        del found.types[types:]  # it is the same thing, with this type
    found.exports.append((name, (kind, index)))
    # An export is one more of its kind.
    if kind == "func":
        found.functions.append(at(found.functions, index))
    elif kind == "instance":
        found.instances.append(at(found.instances, index))
    elif kind == "component":
        found.components.append(at(found.components, index))
    elif kind == "module":
        found.modules.append(at(found.modules, index))
    elif kind == "type":
        found.types.append(found.type_reader.at(index))


def _type(reader: Reader, found: Structure) -> None:
    found.type_reader.definition(reader)


_READ: Final[dict[int, Callable[[Reader, Structure], None]]] = {
    CORE_INSTANCES: _core_instance,
    TYPES: _type,
    INSTANCES: _instance,
    ALIASES: _alias,
    CANONS: _canon,
    IMPORTS: _import,
    EXPORTS: _export,
}
