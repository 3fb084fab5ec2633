"""`vfswasi run --record` and what belongs to it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from ....mounts.amounts import parse_size
from ....printing import counted, printable
from ..parser import Parser
from .places import check_place

if TYPE_CHECKING:
    from ....observe.recording.record import Record


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="keep in FILE what the run was given and all that it read, so that vfswasi replay FILE runs it again "
        "anywhere; the run is deterministic then, its clock begins now",
    )
    parser.add_argument(
        "--record-without-module", action="store_true", help="leave the module out; replay has to be given it"
    )
    parser.add_argument("--record-max", metavar="SIZE", help="keep so much of what is read at most (default: 1G)")


def record_of(options: Namespace) -> Record | None:
    """Raises ValueError."""
    if options.record is None:
        for given, option in (
            (options.record_without_module, "--record-without-module"),
            (options.record_max, "--record-max"),
        ):
            if given:
                raise ValueError(f"{option} is for --record FILE; give both, or none")
        return None
    if options.invoke is not None:
        raise ValueError("--record cannot be with --invoke: a run of a program is recorded; leave one of them out")
    if options.isolation == "process":
        raise ValueError("--record cannot be with --isolation=process; leave one of them out")
    if not options.record:
        raise ValueError("--record needs the name of a file")
    from ....observe.recording.record import MAX_BYTES, Record

    most = MAX_BYTES if options.record_max is None else _size(options.record_max)
    check_place("--record", options.record)
    return Record(options.record, not options.record_without_module, most)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"--record-max={text}: {error}") from None


def say(record: Record) -> None:
    """That it was made, and what is in it."""
    try:
        size = os.path.getsize(record.path)
    except OSError:
        return  # it could not be written, which is told
    path = printable(os.fspath(record.path))
    print(
        f"vfswasi: recorded in {path} ({counted(size, 'byte')}), with the arguments, the environment and all that the "
        "program read: look at it before you give it away",
        file=sys.stderr,
    )
