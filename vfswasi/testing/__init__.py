"""For people who test: programs, with the pytest plugin, and backends, with the conformance kit. It needs pytest.

Fixtures of the plugin (docs/pytest.md) have the types `Wasm`, `WasmSnapshot` and `WasmFail`. For the kit see
docs/writing-a-backend.md; in short, in a test module:

    class TestMine(BackendConformance):
        def make(self, tree):
            return MyBackend(...)          # holding the tree literal
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance import BackendConformance
    from .plugin.failures import WasmFail
    from .plugin.running import Wasm
    from .plugin.snapshots.snapshots import WasmSnapshot

__all__ = ["BackendConformance", "Wasm", "WasmFail", "WasmSnapshot"]

_FIXTURES = {"Wasm": "running", "WasmFail": "failures", "WasmSnapshot": "snapshots.snapshots"}

_MODULES = tuple(f"{__name__}.{module}" for module in ("ground", "reading", "changing"))


def __getattr__(name: str) -> Any:
    # The kit is imported when it is used, so that this package can be looked at without pytest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ModuleNotFoundError as error:
        what = f"vfswasi.testing.{name}" if name in _FIXTURES else "the conformance kit"
        raise ImportError(f"{what} needs pytest: pip install pytest") from error
    if name in _FIXTURES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.plugin.{_FIXTURES[name]}"), name)
    # Has to come before their import; without it a failure says no more than AssertionError.
    pytest.register_assert_rewrite(*(module for module in _MODULES if module not in sys.modules))
    from . import conformance

    return getattr(conformance, name)
