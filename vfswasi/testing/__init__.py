"""For people who write backends: the conformance kit. It needs pytest.

See docs/writing-a-backend.md; in short, in a test module:

    class TestMine(BackendConformance):
        def make(self, tree):
            return MyBackend(...)          # holding the tree literal
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance import BackendConformance

__all__ = ["BackendConformance"]


def __getattr__(name: str) -> Any:
    # The kit is imported when it is used, so that this package can be looked at without pytest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import conformance
    except ModuleNotFoundError as error:
        if error.name == "pytest":
            raise ImportError("the conformance kit needs pytest: pip install pytest") from error
        raise
    return getattr(conformance, name)
