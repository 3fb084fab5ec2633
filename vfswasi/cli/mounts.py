"""`vfswasi mounts`: a source as the tree that a program would see."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from ..errors import FsError, errno_of
from ..fs_backends.base import Backend, FileType, Key
from ..mounts.options import parse_source
from ..printing import printable, redacted
from .arguments.parser import Parser
from .messages import EXIT_OURS

DESCRIPTION = "Show a source as the tree that a program would see."


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--depth", type=int, default=None, metavar="N", help="show N levels (default: all)")
    parser.add_argument("source", metavar="SOURCE[,OPTION...]")


def main(options: argparse.Namespace) -> int:
    from ..mounts.finding.sources import open_source

    backend = open_source(parse_source(options.source))
    try:
        print(printable(redacted(options.source)))
        return EXIT_OURS if _print_tree(backend, options.depth) else 0
    finally:
        backend.close()


def _print_tree(backend: Backend, depth: int | None) -> int:
    """Everything below, a line each; how much of it could not be looked at. Not recursive: trees may be deeper than
    Python's stack."""
    failures = 0
    todo: list[Iterator[tuple[Key, str, FileType]]] = []

    def enter(key: Key, shown: str) -> int:
        if depth is not None and len(key) >= depth:
            return 0
        found: list[tuple[str, FileType]] = []
        failed = 0
        try:
            found.extend((entry.name, entry.filetype) for entry in backend.list(key))
        except FsError as error:
            failed = _failed(shown, error)
        todo.append(iter([((*key, name), name, filetype) for name, filetype in sorted(found)]))
        return failed

    failures += enter((), ".")
    while todo:
        for key, name, filetype in todo[-1]:
            indent = "  " * len(key)
            shown = printable(name)
            if filetype is FileType.DIRECTORY:
                print(f"{indent}{shown}/")
                failures += enter(key, shown)
                break
            try:
                print(f"{indent}{shown}{_details(backend, key, filetype)}")
            except FsError as error:
                failures += _failed(shown, error, indent)
        else:
            todo.pop()
    return failures


def _details(backend: Backend, key: Key, filetype: FileType) -> str:
    if filetype is FileType.SYMBOLIC_LINK:
        return f" -> {printable(backend.readlink(key))}"
    return f"  {backend.stat(key).size:,}" if filetype is FileType.REGULAR_FILE else "  (not a file)"


def _failed(shown: str, error: FsError, indent: str | None = None) -> int:
    """Say on one line what is wrong with something, which is listed too if it was not yet (`indent`)."""
    if indent is not None:
        print(f"{indent}{shown}  (cannot be read: {errno_of(error).name})")
    print(f"vfswasi: {shown[:200]}: {printable(str(error))}", file=sys.stderr)
    return 1
