"""On a terminal: what moves to and from stores that are far away, and what is being compiled, once it has taken longer
than a second.

What moves needs the package rich (`pip install "vfswasi[progress]"`); without it it is not shown. Where standard error
is no terminal, and in the cells of notebooks, nothing is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from ..engine.compiling.apart.watching import watcher
from ..fs_backends.base import Traffic
from ..printing import counted, printable

BEFORE_S = 1.0
_NAME_MAX = 50  # characters; the line must not be longer than a terminal is wide
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


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """One line about each module that is compiled while the block runs, gone when that is done."""
    if not _is_terminal():
        yield
        return
    told = -1

    def tell(name: str, seconds: float | None) -> None:
        nonlocal told
        if seconds is None:
            if told >= 0:
                _write("\r\x1b[K")
            told = -1
        elif seconds >= BEFORE_S and int(seconds) != told:
            told = int(seconds)
            shown = printable(name)
            _write(f"\r\x1b[Kcompiling {shown[:_NAME_MAX]}{'...' if len(shown) > _NAME_MAX else ''} ... {told} s")

    before = watcher.set(tell)
    try:
        yield
    finally:
        watcher.reset(before)


@contextlib.contextmanager
def of(what: str) -> Iterator[Callable[[int, int], None]]:
    """One line that says how much of something is done, gone when the block ends. Gives what is to be told (done, in
    all)."""
    started, told = time.monotonic(), -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        percent = 100 * done // max(total, 1)
        if percent != told and time.monotonic() - started >= BEFORE_S:
            told = percent
            _write(f"\r\x1b[K{what} ... {percent} %")

    try:
        yield tell if _is_terminal() else _tell_nobody
    finally:
        if told >= 0:
            _write("\r\x1b[K")


def _tell_nobody(done: int, total: int) -> None:
    pass


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


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
    parts.append(counted(moved.requests, "request"))
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
