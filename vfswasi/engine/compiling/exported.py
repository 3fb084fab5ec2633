"""The type of a function that a module exports, read from the file without compiling it."""

from __future__ import annotations

from typing import Final

from . import outline
from .outline import Reader, Signature

_TYPES: Final = 1
_IMPORTS: Final = 2
_FUNCTIONS: Final = 3
_EXPORTS: Final = 7
_FUNCTION: Final = 0  # of the kinds of imports and exports


def signature_of(wasm: bytes, name: str) -> Signature | None:
    """None: there is no function of that name, or it has other values than numbers. Raises Unreadable.

    Source: WebAssembly core specification 5.5.
    """
    types: list[tuple[bytes, bytes] | None] = []
    of_functions: list[int] = []  # index of a function -> index of its type
    for section, content in outline.sections(wasm):
        if section == _TYPES:
            types = outline.signatures(content)
        elif section == _IMPORTS:
            of_functions += _imported(content)
        elif section == _FUNCTIONS:
            of_functions += [content.number() for _ in range(content.number())]
        elif section == _EXPORTS:
            for _ in range(content.number()):
                found, kind, index = content.name(), content.byte(), content.number()
                if found == name and kind == _FUNCTION:
                    if index >= len(of_functions):
                        raise outline.Unreadable
                    type_ = of_functions[index]
                    return outline.signature(types[type_]) if type_ < len(types) else None
            break
    return None


def _imported(content: Reader) -> list[int]:
    found = []
    for _ in range(content.number()):
        content.name(), content.name()
        kind = content.byte()
        if kind == _FUNCTION:
            found.append(content.number())
        else:
            outline.skip_import(kind, content)
    return found
