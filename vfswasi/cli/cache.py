"""What `vfswasi cache` tells of the compiled modules on disk, and how it removes them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from ..engine.compiling import cache, kept
from ..errors import CompileError
from ..printing import printable
from .arguments.parser import Parser
from .progress import size

DESCRIPTION = "The compiled modules that are kept."


_ACTIONS = {
    "list": "show the compiled modules, the one that was used last first",
    "size": "show how many there are, and what they take",
    "clear": "remove all of them",
}


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    told = "; ".join(f"{name}: {words}" for name, words in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), metavar="ACTION", help=told)


def main(options: argparse.Namespace) -> int:
    for line in answer(options.action, options.json):
        print(line)
    return 0


def answer(action: str, as_json: bool) -> Iterator[str]:
    """The lines that are printed; what is to be removed is removed. Raises CompileError, OSError."""
    try:
        place = cache.opened()
        where = str(place or cache.directory())
    except (cache.Unusable, RuntimeError) as error:
        raise CompileError(f"the cache of compiled modules is not used: {error}") from error
    others = 0
    found: list[kept.Kept] = []
    if place is not None:
        found, others = kept.clear(place) if action == "clear" else (kept.modules(place), 0)
    if as_json:
        import json

        yield json.dumps(_described(where, found, others, action), indent=2)
        return
    if action == "list":
        yield from map(_line, found)
    total = (
        f"{len(found):,} {'module' if len(found) == 1 else 'modules'}, {size(sum(module.bytes for module in found))}"
    )
    if action != "clear":
        yield f"{total} in {printable(where)}"
        return
    yield f"removed {total} from {printable(where)}"
    if others:
        yield f"left {others:,} {'name that is' if others == 1 else 'names that are'} not of this cache"


def _described(where: str, found: list[kept.Kept], others: int, action: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "directory": where,
        "modules": len(found),
        "bytes": sum(module.bytes for module in found),
    }
    if action == "list":
        told["modules"] = [
            {"hash": module.hash, "name": module.label, "bytes": module.bytes, "used": module.used} for module in found
        ]
    if action == "clear":
        told["left"] = others
    return told


def _line(module: kept.Kept) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(module.used))
    return f"{size(module.bytes):>10}  {used}  {module.hash[:12]}  {printable(module.label or '(no name)')}"
