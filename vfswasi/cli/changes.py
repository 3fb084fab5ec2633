"""`vfswasi changes`: what saved changes change."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from ..mounts.options import parse_source
from ..observe.changes import Changes
from ..printing import printable
from .arguments.parser import Parser

DESCRIPTION = "Show what saved changes change: A new, M other contents, D removed, R renamed, T another time."


def add_arguments(parser: Parser) -> None:
    how = parser.add_mutually_exclusive_group()
    for option, told in (("--diff", "print a unified diff"), ("--json", "print JSON")):
        action = how.add_argument(option, action="store_true", help=told)
        parser.known[option] = action
    parser.add_argument(
        "--base",
        metavar="SOURCE[,OPTION...]",
        help="what the changes were made on, for the old lines of --diff",
    )
    parser.add_argument("file", metavar="FILE", help="what --save-changes or Changes.save has written")


def main(options: argparse.Namespace) -> int:
    if options.base is not None and not options.diff:
        raise ValueError("--base is for --diff; give both, or none")
    changes = Changes.load(options.file)
    if options.json:
        print(changes.to_json(indent=2))
    elif options.diff:
        _print(changes.iter_diff(None if options.base is None else parse_source(options.base)))
    else:
        for change in changes:
            print(change)
    return 0


def _print(pieces: Iterable[str]) -> None:
    """As it is, for programs; on a terminal nothing in it is obeyed."""
    on_terminal = sys.stdout.isatty()
    out = getattr(sys.stdout, "buffer", None)
    for piece in pieces:
        if on_terminal:
            print("\n".join(map(_shown, piece.split("\n"))), end="")
        elif out is None:
            print(piece, end="")
        else:
            sys.stdout.flush()
            out.write(piece.encode("utf-8", "surrogateescape"))


def _shown(line: str) -> str:
    return printable(line.expandtabs())
