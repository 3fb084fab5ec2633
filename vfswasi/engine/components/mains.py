"""Which module of a component is to be run, or why none of them can be."""

from __future__ import annotations

import wasmtime

from ...errors import InvalidModuleError
from ..compiling import refusals
from ..compiling.features import Features
from . import adapted, validating
from .adapted import Adapted


def find(wasm: bytes, name: str) -> Adapted:
    """What the adapter for preview1 made. `name` is for messages. Raises InvalidModuleError for any other component;
    whether this one is valid is still to be checked."""
    try:
        return adapted.find(wasm)
    except adapted.NotAdapted as error:
        raise InvalidModuleError(f"{name}: {refusals.component(wasm, str(error))}") from None


def check(component: Adapted, name: str, on: Features) -> None:
    """Raises InvalidModuleError, see `wrong_with`."""
    wrong = wrong_with(component, on)
    if wrong is not None:
        raise InvalidModuleError(f"{name}: {wrong}")


def wrong_with(component: Adapted, on: Features) -> str | None:
    """What wasmtime has against a component, its main module aside, which is validated when it is compiled."""
    try:
        validating.check(component, on)
    except wasmtime.WasmtimeError as error:
        return f"not a valid WebAssembly component: {refusals.causes(error)}"
    return None
