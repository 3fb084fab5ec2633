"""Which module of a component is to be run, or why none of them can be."""

from __future__ import annotations

import wasmtime

from ...errors import InvalidModuleError
from ..compiling import refusals
from ..compiling.features import Features
from . import adapted, validating
from .adapted import Adapted


def checked(wasm: bytes, name: str, on: Features) -> bytes:
    """The main module of a component that the adapter for preview1 made, and that is valid but perhaps for that module.
    `name` is for messages. Raises InvalidModuleError."""
    try:
        component = adapted.find(wasm)
    except adapted.NotAdapted as error:
        raise InvalidModuleError(f"{name}: {refusals.component(wasm, str(error))}") from None
    wrong = wrong_with(component, on)
    if wrong is not None:
        raise InvalidModuleError(f"{name}: {wrong}")
    return component.main


def wrong_with(component: Adapted, on: Features) -> str | None:
    """What wasmtime has against a component, its main module aside, which is validated when it is compiled."""
    try:
        validating.check(component, on)
    except wasmtime.WasmtimeError as error:
        return f"not a valid WebAssembly component: {refusals.causes(error)}"
    return None
