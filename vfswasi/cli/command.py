"""The command line: which command is meant, and the exit status of whatever happens.

Exit status of `run`: the guest's own (statuses above 255 become 255); 128 + N if signal N ended it, so 134 for
a trap; 124 if `--timeout` or its fuel ended it; 125 if vfswasi itself failed, with one line on stderr. Of `apply`: 0,
125, or 1 if the target is not what the changes were made on. Of `replay`: as that of `run`; 123 if the run was another
one than the recorded. Of the others: 0 or 125. Of all: 141 if nobody reads what
they print any more, 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import vfswasi

from ..errors import FsError, GuestLimitError, SandboxError, UncommittedError
from ..printing import did_you_mean
from . import progress
from .arguments.parser import Parser
from .messages import EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TIMEOUT, Warning, fail, flush, not_stored, words_of

# A command is the module of its name beside this one, imported when it is given. It has DESCRIPTION,
# add_arguments(parser), main(options) -> exit status, and RUNS_PROGRAMS = True if all that stands behind the first word
# that is no option belongs to a program (`options.args`).
COMMANDS = {
    "run": "run a program; the word run may be left out",
    "replay": "run what run --record has recorded once more, out of its file alone",
    "inspect": "show what a module imports and needs",
    "mounts": "show what a source looks like to a program",
    "changes": "show what saved changes change",
    "apply": "make saved changes in a directory, an archive or a bucket",
    "compile": "compile modules ahead, into the cache",
    "cache": "list, measure or remove compiled modules",
    "completion": "print what a shell needs to complete the words of this command",
}
_ELSEWHERE = {"replay": "kept.replay"}
_HELP = ("-h", "--help")
_VERSION = ("-V", "--version")


def _command(name: str) -> Any:
    return import_module(f"{__package__}.{_ELSEWHERE.get(name, name)}")


def _parser_of(name: str, command: Any) -> Parser:
    runs_programs = getattr(command, "RUNS_PROGRAMS", False)
    parser = Parser(prog=f"vfswasi {name}", description=command.DESCRIPTION, runs_programs=runs_programs)
    command.add_arguments(parser)
    return parser


def whole_parser() -> Parser:
    """Of all that the command line understands, every command with its options."""
    parser, commands = _own_parser()
    for name, told in COMMANDS.items():
        command = _command(name)
        command.add_arguments(commands.add_parser(name, help=told, description=command.DESCRIPTION))
    return parser


def _own_parser() -> tuple[Parser, Any]:
    """Of what is said without a command; what the commands are added to."""
    parser = Parser(
        prog="vfswasi",
        description="Run WebAssembly (WASI) programs on files that live anywhere.",
        epilog="Exit status: the guest's; 128+N: signal N (134 trap); 124: out of time or fuel; 125: vfswasi failed.",
    )
    parser.add_argument(*_VERSION, action="version", version=f"vfswasi {vfswasi.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    return parser, commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. A usage error raises SystemExit(125)."""
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(Warning())
    log = logging.getLogger("vfswasi")
    log.addHandler(warnings)
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            log.removeHandler(warnings)
            flush()
    except BrokenPipeError:  # whoever reads has what they wanted, as with `| head`
        return EXIT_PIPE
    except OSError as error:  # our own output could not be written
        return fail(f"standard output: {error.strerror}")


def _main(words: list[str]) -> int:
    try:
        with progress.compiling():
            return _done(words)
    except GuestLimitError as error:
        return fail(str(error), EXIT_TIMEOUT)
    except BrokenPipeError:
        raise
    except UncommittedError as error:
        return not_stored(error)
    except (SandboxError, FsError, ValueError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(words_of(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _done(words: list[str]) -> int:
    name, rest = _meant(words)
    if name is None:
        parser, commands = _own_parser()
        for each, told in COMMANDS.items():
            commands.add_parser(each, help=told, add_help=False)
        parser.parse_args(rest)
        raise AssertionError("argparse has exited")
    command = _command(name)
    options = _parser_of(name, command).parse(rest)
    status: int = command.main(options)
    return status


def _meant(words: list[str]) -> tuple[str | None, list[str]]:
    """(the command, the words that are for it); None: what is no command's."""
    first = words[0] if words else ""
    if first == "help":
        return _meant([*words[1:2], "--help"])
    if first in COMMANDS:
        return first, words[1:]
    if not words or first in (*_HELP, *_VERSION):
        return None, words
    if first.startswith("-") or _is_program(first):
        return "run", words
    from .arguments.foreign import command_advice

    told = command_advice(first)
    hint = f": {told}" if told else did_you_mean(first, COMMANDS)
    return _own_parser()[0].error(f"there is no command {first!r}, nor a file of that name{hint}")


def _is_program(word: str) -> bool:
    return "." in word or "/" in word or os.path.exists(word)
