"""Who wants to know while a compiler is waited for."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

watcher: Final[ContextVar[Callable[[str, float | None], None] | None]] = ContextVar("vfswasi-compiling", default=None)
"""Called now and then while this context waits: (the module's name, seconds so far), and once with None when it is
over."""
