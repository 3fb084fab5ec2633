"""The main module of a component that was found to have one, without looking at all of it again: a component that was
compiled before costs no more than its module."""

from __future__ import annotations

from typing import Final

from ..compiling.outline import Unreadable, read, sections

_CORE_MODULE: Final = 1


def main_module(wasm: bytes) -> bytes:
    """The one module of the component that exports `_start`, as `adapted.find` has made sure. Raises Unreadable."""
    for section, content in sections(wasm):
        if section == _CORE_MODULE:
            module = wasm[content.at : content.end]
            if any(name == "_start" and kind == "func" for name, kind, _ in read(module).exports):
                return module
    raise Unreadable
