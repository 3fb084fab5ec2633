"""What the process that compiles may answer: `{kind: value}`, a line each; first READY, then one of the others."""

from __future__ import annotations

from typing import Final

READY: Final = "ready"
INVALID: Final = "invalid"
"""The value is the message."""
NO_MEMORY: Final = "no memory"
MADE: Final = "made"
"""The value says how guests of the code are interrupted (`way`), and what it took (`seconds`)."""
