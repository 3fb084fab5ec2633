"""MODULE on the command line: a path, a URL, or `-` for standard input."""

from __future__ import annotations

import sys
from typing import Final

from ...mounts.options import check_without_password

_BYTES_MAX: Final = 1 << 30
STDIN: Final = "-"


def given(text: str) -> str | bytes:
    """As the library takes it. Raises ValueError, OSError."""
    if text != STDIN:
        check_without_password(text)
        return text
    if sys.stdin is None:
        raise ValueError("the module is to be read from standard input, which is closed")
    if sys.stdin.isatty():
        raise ValueError("the module is to be read from standard input, which is a terminal; write FILE, or < FILE")
    wasm = sys.stdin.buffer.read(_BYTES_MAX + 1)
    if len(wasm) > _BYTES_MAX:
        raise ValueError("the module on standard input has more than 1 GiB")
    if not wasm:
        raise ValueError("the module is to be read from standard input, which is empty")
    return wasm
