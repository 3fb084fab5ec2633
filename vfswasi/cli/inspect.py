"""What `vfswasi inspect` tells of a module: read from the file, and from wasmtime's validation; nothing is compiled."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ..abi.layouts import ABI_BY_MODULE
from ..engine.compiling import modules, outline, refusals
from ..engine.compiling.features import Features
from ..engine.compiling.features import checked as checked_features
from ..engine.components import adapted, mains
from ..host.module_source import read_module
from ..printing import counted, printable
from .arguments.module import given
from .arguments.parser import Parser
from .run import add_feature

DESCRIPTION = "Show what a module imports and needs."

_VERSIONS = {"wasi_snapshot_preview1": "preview1", "wasi_unstable": "unstable"}


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_feature(parser)
    parser.add_argument("module", metavar="MODULE", help="a .wasm file (or .wat), a URL, or - for standard input")


def main(options: argparse.Namespace) -> int:
    wasm, name = read_module(given(options.module))
    description = describe(wasm, name, checked_features(options.feature))
    if options.json:
        import json

        print(json.dumps(description, indent=2))
    else:
        print("\n".join(shown(description, name)))
    return 0


def describe(wasm: bytes, name: str, features: Features) -> dict[str, Any]:
    """Everything that is told, ready for JSON. `features`: those that it would be run with.

    Raises InvalidModuleError for what is no WebAssembly at all.
    """
    wasm = modules.binary(wasm, name)
    found = outline.read(wasm)
    if found.is_component:
        return _component(wasm, found, features)
    imports = _imports(found)
    exports = {export for export, _, _ in found.exports}
    shared = any(memory.shared for memory in found.memories)
    return {
        "kind": "command" if "_start" in exports else "reactor" if "_initialize" in exports else "library",
        "bytes": len(wasm),
        "problems": list(_problems(wasm, found, features)),
        "wasi": [_VERSIONS[module] for module in imports if module in _VERSIONS],
        "features": refusals.uses(wasm) + (["shared-memory"] if shared else []),
        "memory": _memory(found),
        "host_functions": [
            f"{module}.{import_}" for module, names in imports.items() if module not in _VERSIONS for import_ in names
        ],
        "imports": imports,
        "exports": sorted(exports),
        "whole": found.whole,
    }


def _imports(found: outline.Outline) -> dict[str, list[str]]:
    imports: dict[str, list[str]] = {}
    for module, import_, kind in found.imports:
        imports.setdefault(module, []).append(import_ if kind == "func" else f"{import_} ({kind})")
    return imports


def _component(wasm: bytes, found: outline.Outline, features: Features) -> dict[str, Any]:
    """`main`: the module in it that runs, if one does."""
    description: dict[str, Any] = {
        "kind": "component",
        "bytes": len(wasm),
        "problems": [],
        "wasi": refusals.wasi_versions(found),
        "features": [],
        "memory": None,
        "host_functions": [],
        "imports": {name: [kind] for name, _, kind in found.imports},
        "exports": [name for name, _, _ in found.exports],
        "whole": found.whole,
        "main": None,
    }
    try:
        component = adapted.find(wasm)
    except adapted.NotAdapted as error:
        description["problems"] = [refusals.component(wasm, str(error))]
        return description
    main = outline.read(component.main)
    invalid = mains.wrong_with(component, features)
    description["problems"] = [*([invalid] if invalid else []), *_problems(component.main, main, features)]
    description["features"] = refusals.uses(component.main)
    description["memory"] = _memory(main)
    description["main"] = {"bytes": len(component.main), "entry": component.interface, "imports": _imports(main)}
    return description


def _memory(found: outline.Outline) -> str | None:
    exported = found.exported("memory").get("memory")
    if exported is None or exported >= len(found.memories):
        return None
    memory = found.memories[exported]
    return (
        f"{memory.minimum * 64:,} KiB at start, "
        + ("no maximum" if memory.maximum is None else f"{memory.maximum * 64:,} KiB at most")
        + (", 64-bit" if memory.is_64 else "")
        + (", shared" if memory.shared else "")
    )


def _problems(wasm: bytes, found: outline.Outline, features: Features) -> Iterator[str]:
    """Why it cannot be run here, or not as it is."""
    unfit = refusals.unfit(wasm)
    if unfit is not None:
        yield unfit
    refused = refusals.verdict(wasm, features)
    if refused is not None:
        yield refused
    missing = [
        (module, import_, kind)
        for module, import_, kind in found.imports
        if kind != "func" or module not in ABI_BY_MODULE or import_ not in ABI_BY_MODULE[module].functions
    ]
    if missing:
        yield refusals.missing_imports(missing)
    kinds = {
        name: (found.memories[index].is_64, found.memories[index].shared)
        for name, index in found.exported("memory").items()
        if index < len(found.memories)
    }
    wrong = refusals.memory(kinds, [(module, name) for module, name, kind in found.imports if kind == "func"])
    if wrong is not None:
        yield wrong
    wrong = refusals.entry({name for name, _, _ in found.exports})
    if wrong is not None:
        yield wrong


def shown(description: dict[str, Any], name: str) -> Iterator[str]:
    """The lines that are printed of it."""
    yield f"{printable(name)}: {description['kind']}, {counted(description['bytes'], 'byte')}"
    problems = description["problems"]
    for problem in problems:
        yield f"  not as it is: {printable(problem)}"
    main = description.get("main")
    if main is not None and not problems:
        size = counted(main["bytes"], "byte")
        yield f"  runs here: its main module, {size} for WASI preview1, without the adapter around it"
    elif not problems:
        yield "  runs here"
    for title, key in (
        ("WASI", "wasi"),
        ("features", "features"),
        ("memory", "memory"),
        ("needs host functions", "host_functions"),
    ):
        value = description[key]
        if value:
            yield f"  {title}: {', '.join(map(printable, value)) if isinstance(value, list) else value}"
    if description["kind"] == "component":
        for imported, kinds in description["imports"].items():
            yield f"  imports {printable(imported)} ({kinds[0]})"
        for module, functions in (main or {"imports": {}})["imports"].items():
            yield f"  its main module imports from {printable(module)}:"
            for function in functions:
                yield f"    {printable(function)}"
    else:
        for module, functions in description["imports"].items():
            yield f"  imports from {printable(module)}:"
            for function in functions:
                yield f"    {printable(function)}"
    yield f"  exports: {', '.join(map(printable, description['exports'])) or 'nothing'}"
    if not description["whole"]:
        yield "  the file could not be read to its end, or has more than is shown"
