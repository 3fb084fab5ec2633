"""What the process does that compiles for another one: `parent` starts it, and says how the two talk.

It reads a request from its standard input, writes answers to what its standard output was, and what it has made to an
open file that it was given. It has no environment of its parent's, no place of its own, and opens no file by name. When
its standard input ends, its parent is gone, and so is it; nor does it outlive its time.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import Any, Final

from ....errors import InvalidModuleError
from .answers import INVALID, MADE, NO_MEMORY, READY

_GRACE_S: Final = 2.0  # after its time it should have been ended by its parent
_PIECE_BYTES: Final = 8 << 20


def main() -> None:
    """Never returns."""
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        import json

        request = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_parent, args=(request["seconds"],), daemon=True).start()
        # Everything that is needed is loaded before memory is short.
        from ...interruption import rewriting  # noqa: F401
        from .. import cache, modules  # noqa: F401

        def answer(kind: str, value: Any = None) -> None:
            os.write(answers, json.dumps({kind: value}).encode() + b"\n")

        answer(READY)
        _limit_memory(request["memory"])
        answer(*_answered(request))
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:2000])
        os._exit(1)
    os._exit(0)


def _end_with_parent(seconds: float | None) -> None:
    at = None if seconds is None else time.monotonic() + seconds + _GRACE_S
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while at is None or time.monotonic() < at:
        if poll.poll(None if at is None else max((at - time.monotonic()) * 1000, 1)) and not os.read(0, 1):
            break
    os._exit(1)


def _limit_memory(size: int | None) -> None:
    """What the system counts as data: private memory that can be written to, not what is only reserved. None: as much
    as there is."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if size is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    size = min(size, sys.maxsize) if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _answered(request: dict[str, Any]) -> tuple[str, Any]:
    try:
        given = _read(request["input"])
        return MADE, (_translated if request["text"] else _compiled)(request, given)
    except InvalidModuleError as error:
        # wasmtime's text, which the message may have cut off.
        return (NO_MEMORY, None) if _is_about_memory(error.__cause__ or error) else (INVALID, str(error))
    except MemoryError:
        return NO_MEMORY, None


def _is_about_memory(error: BaseException) -> bool:
    return any(words in str(error)[:10_000] for words in ("annot allocate memory", "out of memory"))


def _translated(request: dict[str, Any], text: bytes) -> dict[str, Any]:
    from .. import modules

    _write(request["output"], modules.from_text(text, request["label"]))
    return {}


def _compiled(request: dict[str, Any], wasm: bytes) -> dict[str, Any]:
    """Compiles it; how its guests are interrupted, and the seconds that it took."""
    from .. import cache, modules

    started = time.monotonic()
    settings = (request["fuel"], frozenset(request["features"]), modules.STACK_BYTES, request["way"])
    module, way = modules.compiled_here(wasm, request["label"], settings)
    data = module.serialize()
    del module
    _write(request["output"], data, cache.signatures(bytes.fromhex(request["secret"]), request["name"], data))
    return {"way": way, "seconds": time.monotonic() - started}


def _read(file: int) -> bytes:
    size = os.fstat(file).st_size
    data = bytearray(size)
    with memoryview(data) as view:
        at = 0
        while at < size and (count := os.preadv(file, [view[at : at + _PIECE_BYTES]], at)):
            at += count
    return bytes(data)


def _write(file: int, *parts: bytes | bytearray) -> None:
    at = 0
    for part in parts:
        with memoryview(part) as view:
            done = 0
            while done < len(view):
                count = os.pwrite(file, view[done : done + _PIECE_BYTES], at)
                done, at = done + count, at + count
