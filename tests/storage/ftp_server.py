"""A server of pyftpdlib that runs on a thread of its own, and ends there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def served(server: Any) -> Iterator[None]:
    """Its loop waits for descriptors that `close_all` closes, so that both are the same thread's."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
