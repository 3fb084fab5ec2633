"""What `vfswasi compile` does: modules into the cache, so that their first run is as quick as the second."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from ..engine.compiling import modules
from ..engine.compiling.features import checked
from ..engine.interruption import ways
from ..host.arguments import read_module
from ..limits import Limits
from ..printing import printable
from .progress import size


def add_to(commands: Any) -> argparse.ArgumentParser:
    """The command, among others; the parser of what it takes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compile",
        help="compile modules ahead, into the cache",
        description="Compile modules and keep the result in the cache, for `vfswasi run` with the same features, and "
        "the same limits of fuel and memory_bytes.",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit, for instance compile_seconds=600 or compile_memory_bytes=8G",
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a .wasm file (or .wat)")
    return parser


def compiled(module: str, features: Iterable[str], limits: Limits) -> str:
    """Put one module into the cache, as `vfswasi run` with these features and limits looks for it; the line that says
    what was done.

    Raises ModuleError, OSError, ValueError.
    """
    wasm, name = read_module(module)
    made = modules.precompile(wasm, name, limits.fuel is not None, checked(features), ways.wanted(limits), limits)
    done = "was in the cache" if made.seconds is None else f"compiled in {made.seconds:.1f} s"
    return f"{printable(module)}: {done}, {size(made.bytes)}"
