"""`vfswasi completion`: what a shell needs to complete the words of the command line, made by the package shtab."""

from __future__ import annotations

import argparse
from typing import Final

from ..errors import SandboxError
from .arguments.parser import Parser

DESCRIPTION = "Print what a shell needs to complete the words of this command; docs/command-line.md says where it goes."
SHELLS: Final = ("bash", "zsh", "fish", "tcsh")

# What is completed with the names of files, and of directories.
_FILES: Final = frozenset(
    {
        *("module", "file", "args", "source", "stdin", "stdout", "stderr", "env_file", "save_changes"),
        *("accesses", "report", "record"),
    }
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def main(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise SandboxError('this needs the package shtab: pip install "vfswasi[completion]"') from None
    from .command import whole_parser

    parser = whole_parser()
    for action in _actions(parser):
        if action.dest in _FILES or "--dir" in action.option_strings:
            how = shtab.DIRECTORY if "--dir" in action.option_strings else shtab.FILE
            action.complete = how  # type: ignore[attr-defined]
    text = shtab.complete(parser, options.shell)
    # Where a command could stand a program may, too: bash completes files where nothing else fits.
    print(text.replace("complete -o bashdefault -F", "complete -o bashdefault -o default -F"))
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those of all commands."""
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found += _actions(below)
    return found
