"""Components that the adapter for preview1 made: finding the main module in one, which runs on our own preview1.

Such a component has a main module, written for preview1, and the adapter, which answers it with WASI 0.2. Nothing is
recognised by its name: the call of `wasi:cli/run` is followed from the component's export through the adapter to
`_start` of the main module, and the imports of the main module back to the adapter. Everything else that the component
has must be what this takes. Sources: Binary.md of the component model; the crates wit-component and
wasi-preview1-component-adapter.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..compiling import outline
from ..compiling.outline import Unreadable
from . import structure
from .known import main_module
from .structure import FUNC, Bundle, CoreExport, Instantiated, Lifted, Part, Structure, at

PREVIEW1: Final = "wasi_snapshot_preview1"
_RUN: Final = re.compile(r"wasi:cli/run@0\.2\.[0-9]+")
_WASI: Final = re.compile(r"wasi:(cli|clocks|filesystem|io|random|sockets)/[a-z0-9-]+@0\.2\.[0-9]+")
# What the adapter imports from the main module: its memory, its entry point, its allocator.
_FROM_MAIN: Final = ("env", "__main_module__")
_MODULES_MAX: Final = 16  # there are four: those two, a table of functions, and what fills it
# wasmtime compiles something for each of these when it validates the component; there are some hundreds, and some forty
_FUNCTIONS_MAX: Final = 10_000  # of all modules but the main one
_CONVERSIONS_MAX: Final = 1000
_NAME_MAX: Final = 80
_SEVERAL: Final = "it has several modules that could be its main one"


class NotAdapted(Exception):
    """Why a component is none that the adapter made, as the end of a sentence. It may contain names of the file."""


class Adapted(NamedTuple):
    """`main`: the main module. `others`: the modules that are not needed."""

    structure: Structure
    main: bytes
    main_part: Part
    others: tuple[bytes, ...]
    interface: str  # the component's export that leads to it


def find(wasm: bytes) -> Adapted:
    """Raises NotAdapted. Whether the component is valid is not known then."""
    try:
        return _find(structure.read(wasm))
    except Unreadable:
        raise NotAdapted("it has parts that the adapter does not make") from None


def _find(component: Structure) -> Adapted:
    interface, adapter = _adapter(component)
    main = _main(component, adapter)
    of_adapter, of_main = _instance(component, adapter), _instance(component, main)
    modules = _modules(component)
    main_part, adapter_part = at(component.modules, of_main.of), at(component.modules, of_adapter.of)
    if main_part is None or adapter_part is None:
        raise Unreadable
    bytes_of = {part: component.wasm[part.start : part.end] for part in modules}
    outlines = {part: _outline(each) for part, each in bytes_of.items()}
    imported = _check_main(outlines[main_part])
    _check_arguments(component, main, imported)
    _check_adapter(outlines[adapter_part], imported)
    _check_others(component, [each for part, each in outlines.items() if part not in (main_part, adapter_part)])
    for name, kind in component.imports:
        if kind != "instance" or not _WASI.fullmatch(name):
            raise NotAdapted(f"it imports {_short(name)} beside what the adapter needs")
    if [each.of for each in component.core_instances if isinstance(each, Instantiated)].count(of_main.of) != 1:
        raise NotAdapted("its main module is instantiated several times")
    if component.conversions > _CONVERSIONS_MAX:
        raise NotAdapted(f"it has more than {_CONVERSIONS_MAX} functions of types of its own")
    others = tuple(each for part, each in bytes_of.items() if part != main_part)
    if sum(map(_functions, others)) > _FUNCTIONS_MAX:
        raise NotAdapted(f"it has more than {_FUNCTIONS_MAX:,} functions beside its main module")
    if main_module(component.wasm) != bytes_of[main_part]:
        raise NotAdapted(_SEVERAL)
    return Adapted(component, bytes_of[main_part], main_part, others, interface)


def _adapter(component: Structure) -> tuple[str, int]:
    """(the export that is called to run it, the core instance that is called then)."""
    entries = [
        (name, index) for name, (kind, index) in component.exports if kind == "instance" and _RUN.fullmatch(name)
    ]
    if not entries:
        raise NotAdapted("it exports no wasi:cli/run of WASI 0.2, so it is no command")
    if len(entries) > 1:
        raise NotAdapted("it exports wasi:cli/run several times")
    ((interface, index),) = entries
    lifted = at(component.functions, _run_function(component, index))
    if not isinstance(lifted, Lifted):
        raise NotAdapted("its wasi:cli/run comes from elsewhere")
    function = at(component.core_functions, lifted.core_function)
    if function is None:
        raise NotAdapted("its wasi:cli/run comes from elsewhere")
    return interface, function.instance


def _run_function(component: Structure, index: int) -> int:
    """The function `run` of an instance: it is one name of it, or goes through a component that gives it its type."""
    instance = at(component.instances, index)
    if isinstance(instance, Bundle):
        return _function(instance.exports.get("run"))
    if not isinstance(instance, Instantiated):
        raise NotAdapted("its wasi:cli/run comes from elsewhere")
    part = at(component.components, instance.of)
    if part is None or not structure.defines_nothing_that_runs(part, component.wasm):
        raise NotAdapted("its wasi:cli/run comes from a component inside of it")
    inner = structure.read(component.wasm[part.start : part.end])
    functions = [name for name, kind in inner.imports if kind == FUNC]
    # All functions that it can export are the one that it imports.
    if len(functions) != 1 or any(kind not in (FUNC, "type") for _, kind in inner.imports):
        raise NotAdapted("its wasi:cli/run comes from a component inside of it")
    _function(dict(inner.exports).get("run"))
    return _function(instance.given.get(functions[0]))


def _function(sorted_: structure.Sorted | None) -> int:
    if sorted_ is None or sorted_[0] != FUNC:
        raise Unreadable
    return sorted_[1]


def _instance(component: Structure, index: int) -> Instantiated:
    instance = at(component.core_instances, index)
    if not isinstance(instance, Instantiated):
        raise NotAdapted("its main module and the adapter are not instances of modules")
    return instance


def _main(component: Structure, adapter: int) -> int:
    """The core instance whose `_start` the adapter is given."""
    found: set[int] = set()
    for _, (_, index) in _instance(component, adapter).given.items():
        given = at(component.core_instances, index)
        if isinstance(given, Bundle) and given.exports.get("_start", ("", 0))[0] == FUNC:
            function = at(component.core_functions, given.exports["_start"][1])
            if function is None or function.name != "_start":
                raise Unreadable
            found.add(function.instance)
    if len(found) != 1 or adapter in found:
        raise NotAdapted("its program calls WASI 0.2 itself, and not through the adapter")
    return found.pop()


def _modules(component: Structure) -> list[Part]:
    if len(component.modules) > _MODULES_MAX:
        raise NotAdapted(f"it has more than {_MODULES_MAX} modules")
    return list(dict.fromkeys(part for part in component.modules if part is not None))


def _outline(module: bytes) -> outline.Outline:
    found = outline.read(module)
    if module[:4] != outline.MAGIC or found.is_component or not found.whole:
        raise Unreadable
    return found


def _check_main(main: outline.Outline) -> set[str]:
    """The names of what it imports, all of it functions of preview1."""
    for module, name, kind in main.imports:
        if module != PREVIEW1 or kind != FUNC:
            raise NotAdapted(f"its main module imports {_short(module)}.{_short(name)} itself")
    if "_start" not in main.exported(FUNC):
        raise Unreadable
    return {name for _, name, _ in main.imports}


def _check_arguments(component: Structure, main: int, imported: set[str]) -> None:
    """What the main module gets as preview1 are functions of another instance in the component."""
    given = _instance(component, main).given
    if set(given) - {PREVIEW1} or (imported and PREVIEW1 not in given):
        raise NotAdapted("its main module is given something other than preview1")
    if not imported:
        return
    provider = given[PREVIEW1][1]
    instance = at(component.core_instances, provider)
    if isinstance(instance, Bundle):
        providers = {_core_export(component, instance.exports.get(name)).instance for name in imported}
    else:
        providers = {provider}
    for each in providers:
        if each == main or _instance(component, each).of == _instance(component, main).of:
            raise NotAdapted("its main module provides its own preview1")


def _core_export(component: Structure, sorted_: structure.Sorted | None) -> CoreExport:
    function = at(component.core_functions, _function(sorted_))
    if function is None:
        raise NotAdapted("its preview1 does not come from an adapter")
    return function


def _check_adapter(adapter: outline.Outline, imported: set[str]) -> None:
    for module, name, _ in adapter.imports:
        if module not in _FROM_MAIN and not _WASI.fullmatch(module):
            raise NotAdapted(f"its adapter imports {_short(module)}.{_short(name)}")
    if "_start" in adapter.exported(FUNC):
        raise NotAdapted(_SEVERAL)
    missing = imported.difference(adapter.exported(FUNC))
    if missing:
        raise NotAdapted(f"its adapter does not provide {_short(min(missing))}")


def _check_others(component: Structure, others: list[outline.Outline]) -> None:
    for other in others:
        if "_start" in other.exported(FUNC) or any(module == PREVIEW1 for module, _, _ in other.imports):
            raise NotAdapted(_SEVERAL)
        if other.has_start:
            raise NotAdapted("another module of it does something when it is instantiated")


def _functions(module: bytes) -> int:
    """How many functions a module defines."""
    return sum(content.number() for section, content in outline.sections(module) if section == outline.CODE)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_MAX else name[:_NAME_MAX] + "..."
