"""wasmtime's word on a component, without compiling what is in its functions.

Its package validates a component only by compiling it. What the functions of its modules do has no part in whether
the component around them is valid, so it is asked about the component with empty functions, and about each module as
it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import wasmtime

from ..compiling import features as wasm_features
from ..compiling import outline
from ..compiling.features import Features
from ..interruption.bodies import leb
from .adapted import Adapted
from .structure import CORE_MODULE, CUSTOM

_EMPTY_BODY: Final = b"\x03\x00\x00\x0b"  # three bytes: no locals; unreachable; end
_OF_COMPONENTS: Final = "component_model"


def check(found: Adapted, features: Features) -> None:
    """Of all but its main module, which is validated when it is compiled. Raises wasmtime.WasmtimeError."""
    from wasmtime.component import Component

    on = wasm_features.wanted(features)
    modules = wasmtime.Engine(_config(on))
    for module in found.others:
        wasmtime.Module.validate(modules, module)
    Component(wasmtime.Engine(_config(on | {_OF_COMPONENTS})), hollow(found))


def _config(settings: frozenset[str]) -> wasmtime.Config:
    config = wasmtime.Config()
    wasm_features.switch(config, settings)
    config.cranelift_opt_level = "none"
    return config


def hollow(found: Adapted) -> bytes:
    """The component with functions that do nothing, and of the main module only what others can see of it."""
    component = found.structure
    parts = [component.wasm[:8]]
    for section, (start, end) in component.sections:
        content = component.wasm[start:end]
        if section == CORE_MODULE:
            is_main = (start, end) == found.main_part
            content = content[:8] + b"".join(_seen(content) if is_main else _hollow_sections(content))
        if section != CUSTOM:
            parts += bytes([section]), leb(len(content)), content
    return b"".join(parts)


def _hollow_sections(module: bytes) -> Iterator[bytes]:
    for section, content in outline.sections(module):
        kept = module[content.at : content.end]
        if section == outline.CODE:
            count = content.number()
            # Each took two bytes at least; a number that is too large is for wasmtime to see.
            kept = leb(count) + _EMPTY_BODY * min(count, len(kept))
        if section != CUSTOM:
            yield bytes([section]) + leb(len(kept)) + kept


def _seen(module: bytes) -> Iterator[bytes]:
    """A module with the imports of this one, which are functions, and its exports as far as the adapter has a use for
    them: functions and memories. A large program has a hundred thousand other functions."""
    found = outline.read(module)
    imported = len(found.imports)
    # A name that was cut off could be there twice.
    exports = [(name, index) for name, kind, index in found.exports if kind == "func" and not name.endswith("...")]
    memories = [(name, index) for name, kind, index in found.exports if kind == "memory"]
    types: list[int] = []
    for section, content in outline.sections(module):
        kept = bytes([section]) + leb(content.end - content.at) + module[content.at : content.end]
        if section == outline.FUNCTIONS:
            defined = [content.number() for _ in range(content.number())]
            types = [defined[index - imported] for _, index in exports if imported <= index < imported + len(defined)]
            yield _section(section, [leb(type_) for type_ in types])
        elif section in (outline.TYPES, outline.IMPORTS, outline.MEMORIES):
            yield kept
        elif section == outline.EXPORTS:
            added, told = imported, []
            for name, index in exports:
                if index >= imported:
                    index, added = added, added + 1
                told.append(_export(name, 0, index))
            yield _section(section, told + [_export(name, 2, index) for name, index in memories])
        elif section == outline.CODE:
            yield _section(section, [_EMPTY_BODY] * len(types))


def _section(section: int, items: list[bytes]) -> bytes:
    content = leb(len(items)) + b"".join(items)
    return bytes([section]) + leb(len(content)) + content


def _export(name: str, kind: int, index: int) -> bytes:
    encoded = name.encode()
    return leb(len(encoded)) + encoded + bytes([kind]) + leb(index)
