"""What this process has open, to find what a test has left open.

Counting is not enough: what an earlier test left to a thread of the background may be closed at any moment.
"""

from __future__ import annotations

import gc
import os

OpenFiles = frozenset[tuple[str, str]]
# Compiled modules, the last few of which are remembered, and the first contents of their memories.
_MACHINE_CODE = ("/memfd:vfswasi-module", "/memfd:wasm-memory-image")


def open_files() -> OpenFiles:
    """(descriptor, what it stands for) of all that is open, but for what is kept of compiled modules."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the one that was listed with
        if not target.endswith(".cwasm") and not target.startswith(_MACHINE_CODE):
            found.add((number, target))
    return frozenset(found)


def opened_since(before: OpenFiles) -> list[tuple[str, str]]:
    """What is open and was not then. What has gone since is no leak."""
    return sorted(open_files() - before)
