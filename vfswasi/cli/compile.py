"""What `vfswasi compile` does: modules into the cache, so that their first run is as quick as the second."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ..engine.compiling import modules
from ..engine.compiling.features import DETERMINISTIC, checked
from ..engine.interruption import ways
from ..errors import SandboxError
from ..host.module_source import read_module
from ..limits import Limits
from ..mounts.options import check_without_password, parse_limits
from ..printing import printable
from .arguments.parser import Parser
from .messages import fail, words_of
from .progress import size
from .run import add_feature

DESCRIPTION = (
    "Compile modules and keep the result in the cache, for `vfswasi run` with the same features, the same limits of "
    "fuel and memory_bytes, and --deterministic where that is given there."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit, for instance compile_seconds=600 or compile_memory_bytes=8G",
    )
    add_feature(parser)
    parser.add_argument("--deterministic", action="store_true", help="for `vfswasi run --deterministic`")
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a .wasm file (or .wat), or a URL")


def main(options: argparse.Namespace) -> int:
    limits = parse_limits(options.limit)
    status = 0
    for module in options.modules:
        try:
            print(compiled(module, options.feature, limits, options.deterministic), flush=True)
        except BrokenPipeError:
            raise
        except (SandboxError, OSError) as error:
            status = fail(words_of(error))
    return status


def compiled(module: str, features: Iterable[str], limits: Limits, deterministic: bool) -> str:
    """Put one module into the cache, as `vfswasi run` with these options looks for it; the line that says what was
    done.

    Raises ModuleError, OSError, ValueError.
    """
    check_without_password(module)
    wasm, name = read_module(module)
    on = checked(features) | DETERMINISTIC if deterministic else checked(features)
    made = modules.precompile(wasm, name, limits.fuel is not None, on, ways.wanted(limits), limits)
    done = "was in the cache" if made.seconds is None else f"compiled in {made.seconds:.1f} s"
    return f"{printable(module)}: {done}, {size(made.bytes)}"
