"""`vfswasi apply`: saved changes, made in a target."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from ..errors import ConflictError
from ..fs_backends.layers.overlay.entries import KINDS
from ..mounts.options import parse_source
from ..printing import printable, redacted, without_secrets
from . import progress
from .arguments.parser import Parser
from .messages import fail

DESCRIPTION = (
    "Make saved changes in a directory, an archive or a bucket, if it is what they were made on. "
    "Exit status: 0: they are there; 1: it is something else, nothing was written; 125: vfswasi failed."
)
EXIT_CONFLICT = 1


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="what --save-changes or Changes.save has written")
    parser.add_argument("target", metavar="TARGET[,OPTION...]", help="spelled like a SOURCE of --mount")


def main(options: argparse.Namespace) -> int:
    from ..observe.applying.apply import apply
    from ..observe.changes import Changes

    target = parse_source(options.target)
    changes = Changes.load(options.file)
    where = printable(redacted(options.target))
    try:
        with progress.of(f"applying to {where[:50]}") as tell:
            written = apply(changes, target, tell)
    except ConflictError as error:
        for path, why in error.conflicts.items():
            print(printable(without_secrets(f"{path or '.'}: {why}")), file=sys.stderr)
        count = len(error.conflicts)
        told = f"{count:,} {'conflict' if count == 1 else 'conflicts'}" if count else str(error)
        return fail(f"{where}: {told}; nothing was written", EXIT_CONFLICT)
    if not written:
        print(f"{where}: everything is there already")
        return 0
    kinds = Counter(entry.kind for entry in changes.entries)
    parts = [f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind]]
    print(f"{where}: {', '.join(parts) or 'there is nothing to do'}")
    return 0
