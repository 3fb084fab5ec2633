"""For people who write backends: the conformance kit. It needs pytest.

See docs/writing-a-backend.md; in short, in a test module:

    class TestMine(BackendConformance):
        def make(self, tree):
            return MyBackend(...)          # holding the tree literal
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance import BackendConformance

__all__ = ["BackendConformance"]

_MODULES = tuple(f"{__name__}.{module}" for module in ("ground", "reading", "changing"))


def __getattr__(name: str) -> Any:
    # The kit is imported when it is used, so that this package can be looked at without pytest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ModuleNotFoundError as error:
        raise ImportError("the conformance kit needs pytest: pip install pytest") from error
    # Has to come before their import; without it a failure says no more than AssertionError.
    pytest.register_assert_rewrite(*(module for module in _MODULES if module not in sys.modules))
    from . import conformance

    return getattr(conformance, name)
