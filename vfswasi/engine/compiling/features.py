"""Which features of WebAssembly a module may use: what programs for WASI are built with, and nothing else.

Every feature that wasmtime's package can switch is switched here, those that it will have some day too: what this file
does not name is off. docs/security.md has the reason for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import wasmtime
from wasmtime import _ffi as ffi

# The names of wasmtime's settings.
ALWAYS: Final = frozenset(
    "bulk_memory multi_memory multi_value reference_types simd threads".split()  # the fast path needs three of them
)
# A feature that a caller may ask for -> wasmtime's settings.
ON_REQUEST: Final[dict[str, frozenset[str]]] = {
    "gc": frozenset({"gc", "function_references"}),
    "relaxed-simd": frozenset({"relaxed_simd"}),
    "tail-call": frozenset({"tail_call"}),
}
# A feature that a caller may do without -> wasmtime's settings.
ON_BY_DEFAULT: Final[dict[str, frozenset[str]]] = {"exceptions": frozenset({"exceptions"})}

NAMES: Final = (*ON_REQUEST, *(f"no-{name}" for name in ON_BY_DEFAULT))
"""What `features=` and `--feature` take."""

Features = frozenset[str]
"""Some of NAMES, checked; and DETERMINISTIC."""

NONE: Final[Features] = frozenset()
DETERMINISTIC: Final[Features] = frozenset({"deterministic"})
"""No feature of a module, and none that a caller names: code that computes the same on every machine. Numbers that are
NaN have one pattern of bits, and relaxed SIMD the results that WebAssembly's specification calls deterministic. It is
one of these since everything that depends on them depends on it too, such as the names of compiled modules."""

_WITH_HEAP: Final = frozenset({"gc", "exceptions"})  # settings whose objects lie on the collector's heap
_PREFIX: Final = "wasmtime_config_wasm_"
_SUFFIX: Final = "_set"


def checked(features: Iterable[str]) -> Features:
    """Raises TypeError, and ValueError for a name that is not there."""
    if isinstance(features, str | bytes) or not isinstance(features, Iterable):
        raise TypeError(f"features must be a sequence of names, not {features!r}")
    found = frozenset(features)
    for name in found:
        if name not in NAMES:
            raise ValueError(f"no feature {name!r}; there are {', '.join(NAMES)}")
    return found


def settings() -> dict[str, str]:
    """The settings for features of WebAssembly that the installed package has -> its function."""
    return {name[len(_PREFIX) : -len(_SUFFIX)]: name for name in dir(ffi) if name.startswith(_PREFIX)}


def wanted(features: Features) -> frozenset[str]:
    """The settings that are on."""
    on = set(ALWAYS)
    for name, of_it in ON_REQUEST.items():
        if name in features:
            on |= of_it
    for name, of_it in ON_BY_DEFAULT.items():
        if f"no-{name}" not in features:
            on |= of_it
    if features >= DETERMINISTIC:
        on.add("relaxed_simd_deterministic")
    return frozenset(on)


def configure(config: wasmtime.Config, features: Features) -> None:
    """Switch every feature on or off, for code that will be run."""
    switch(config, wanted(features))
    config.cranelift_nan_canonicalization = features >= DETERMINISTIC


def switch(config: wasmtime.Config, on: frozenset[str]) -> None:
    """Switch wasmtime's settings for features: these on, all others off."""
    pointer = config.ptr()
    for setting, function in settings().items():
        getattr(ffi, function)(pointer, setting in on)
    # Exceptions without it abort the process while they are compiled (50.0.1).
    config.gc_support = not on.isdisjoint(_WITH_HEAP)
    config.shared_memory = False


def identity(features: Features) -> str:
    """What compiled code depends on."""
    words = sorted(wanted(features))
    return " ".join([*words, "nan_canonicalization"] if features >= DETERMINISTIC else words)
