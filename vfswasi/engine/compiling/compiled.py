"""A module that is ready to run, and what its imports and exports are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import wasmtime

from ..interruption.ways import EPOCH, PAGE, Way
from . import outline

if TYPE_CHECKING:
    from .exposing import Inside


class Import(NamedTuple):
    """One import: `kind` is "func", "memory", "table", "global" or "tag"; `type` is wasmtime's type object; `signature`
    that of a function of numbers."""

    module: str
    name: str
    kind: str
    type: Any
    signature: outline.Signature | None


class CompiledModule(NamedTuple):
    """A module ready to run, with what its imports and exports are."""

    module: wasmtime.Module
    engine: wasmtime.Engine
    imports: tuple[Import, ...]
    exports: dict[str, Any]  # name -> wasmtime's type object; the page of ours is not among them
    has_start: bool  # a start section: it runs while the module is instantiated
    memories: int  # its own, beside those that it imports
    tables: int
    page: bytes | None  # under which name the compiled module exports the page that ends it; None: epochs do
    inside: Inside | None = None  # of one that was compiled so that instances can be kept and copied

    @property
    def interruption(self) -> Way:
        """How a guest that computes is interrupted."""
        return EPOCH if self.page is None else PAGE


def described(
    wasm: bytes, module: wasmtime.Module, into: wasmtime.Engine, got: Way, inside: Inside | None = None
) -> CompiledModule:
    """`wasm`: what `module` was compiled from. `got`: how it is interrupted. `inside`: what was exported for us. Raises
    outline.Unreadable: its imports are not what they should be."""
    signatures = outline.imported_functions(wasm)[::-1]
    imports = []
    for each in module.imports:
        kind = _kind(each.type)
        if kind == "func" and not signatures:
            raise outline.Unreadable
        signature = signatures.pop() if kind == "func" else None
        imports.append(Import(each.module, each.name or "", kind, each.type, signature))
    exports = {each.name: each.type for each in module.exports}
    page = None
    if got == PAGE:
        added, _ = exports.popitem()  # it comes behind those of the module's own
        page = added.encode()
    if inside is not None:
        exports = {export: type_ for export, type_ in exports.items() if export not in inside.added}
    return CompiledModule(module, into, tuple(imports), exports, *outline.counts(wasm), page, inside)


def _kind(type_: Any) -> str:
    return type(type_).__name__.removesuffix("Type").lower()
