"""On a terminal: what moves to and from stores that are far away, once it has taken longer than a second.

Needs the package rich (`pip install "vfswasi[progress]"`); without it, where standard error is no terminal, and in the
cells of notebooks nothing is shown.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from ..fs_backends.base import Traffic

BEFORE_S = 1.0
_EVERY_S = 0.2
# Of commands in the cells of a notebook (ipykernel), which are on a terminal that keeps every line it is told to erase.
_IN_A_NOTEBOOK = "JPY_PARENT_PID"


@contextlib.contextmanager
def shown(traffic: Callable[[], Mapping[str, Traffic]]) -> Iterator[None]:
    """While the block runs. `traffic`: what each mount has moved so far; called from another thread."""
    try:
        if not sys.stderr.isatty() or _IN_A_NOTEBOOK in os.environ:
            raise ImportError
        from rich.console import Console
        from rich.status import Status
    except (ImportError, AttributeError, ValueError):  # no terminal, no rich, no standard error
        yield
        return
    over = threading.Event()

    def watch() -> None:
        before = dict(traffic())
        if over.wait(BEFORE_S):
            return
        with Status("", console=Console(stderr=True), refresh_per_second=10) as status:
            while not over.wait(_EVERY_S):
                now = traffic()
                status.update("   ".join(line for name, moved in now.items() if (line := _line(name, moved, before))))

    thread = threading.Thread(target=watch, name="vfswasi-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _line(name: str, now: Traffic, before: Mapping[str, Traffic]) -> str:
    from rich.markup import escape

    moved = now - before.get(name, Traffic())
    if not moved.requests:
        return ""
    parts = [f"[bold]{escape(name)}[/bold]"]
    if moved.bytes_received:
        parts.append(f"{size(moved.bytes_received)} read")
    if moved.bytes_sent:
        parts.append(f"{size(moved.bytes_sent)} written")
    parts.append(f"{moved.requests:,} requests")
    return ", ".join(parts)


def size(count: int) -> str:
    """Bytes for people: 1023 B, 1.5 KiB, 20.0 MiB."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
