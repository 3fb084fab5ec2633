"""`Parser`: argparse, with the words looked at first, so that an unknown option is answered with what to write.

No option may be abbreviated. A parser of a program's command line ends at the program: what stands behind it is the
program's own, whatever it looks like.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from ...printing import did_you_mean, printable, without_secrets
from ..messages import EXIT_OURS

_SHOWN_MAX = 60  # characters of a word that nobody knows


class _Help(argparse.HelpFormatter):
    """As wide as the terminal. argparse makes one for each option, to check it, and asks `shutil` for the width, whose
    decompressors take longer to import than a small program to run."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or _terminal_columns()
        except ValueError:
            columns = _terminal_columns()
        super().__init__(prog, width=columns - 2)

    def format_help(self) -> str:
        # Without the blank, which goes behind it where that holds a column.
        return re.sub(r" (\[=[^\]]*\])(?= {2})", r"\1 ", super().format_help()).replace(" [=", "[=")

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == argparse.OPTIONAL and action.option_strings:
            return f"[={action.metavar or default_metavar}]"
        return super()._format_args(action, default_metavar)


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


# In place of a value that was left out, until argparse is done; no word of a command line can hold it.
_LEFT_OUT: Final = "\0"


class Parser(argparse.ArgumentParser):
    """Usage errors are our failures: SystemExit(125), and one line that says where to look.

    runs_programs: the first word that is no option is the program, and all that follows is `args`. The value of an
    option with `nargs="?"` stands behind a `=` or not at all, and then it is `const`: the next word is another one.
    """

    def __init__(self, *, runs_programs: bool = False, **options: Any) -> None:
        self.known: dict[str, argparse.Action] = {}
        self._runs_programs = runs_programs
        super().__init__(formatter_class=_Help, allow_abbrev=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self.known.update(dict.fromkeys(action.option_strings, action))
        return action

    def add_words(self, name: str, **options: Any) -> None:
        """What stands behind the program, for the help page: `parse` takes it as it is."""
        super().add_argument(name, nargs="*", **options).required = False

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {printable(without_secrets(message))} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(EXIT_OURS)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        end = self._checked(words)
        options = self.parse_args([self._whole(word) for word in words[:end]])
        for action in self.known.values():
            if action.nargs == argparse.OPTIONAL and getattr(options, action.dest) == _LEFT_OUT:
                setattr(options, action.dest, action.const)
        if self._runs_programs:
            options.args = list(words[end:])
        return options

    def _whole(self, word: str) -> str:
        action = self.known.get(word)
        return f"{word}={_LEFT_OUT}" if action is not None and action.nargs == argparse.OPTIONAL else word

    def _checked(self, words: Sequence[str]) -> int:
        """How many words are ours. Every option that is not known is an error here."""
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--":
                return min(at + 1, len(words)) if self._runs_programs else len(words)
            if word == "-" or not word.startswith("-"):
                if self._runs_programs:
                    return at
                continue
            name, value = _split(word)
            action = self.known.get(name)
            if action is None:
                self.error(self._unknown(name, words[at - 1 :]))
            if action.nargs not in (0, argparse.OPTIONAL) and value is None:
                at += 1
            elif action.nargs == 0 and value is not None:
                self.error(f"{name} takes no value" if word.startswith("--") else f"there is no option {_brief(word)}")
        return at

    def _unknown(self, name: str, words: Sequence[str]) -> str:
        """What is to be said of an option that is not known. `words`: from it on."""
        if self._runs_programs:
            from .foreign import advice

            told = advice(words)
            if told is not None:
                return told
        return f"there is no option {_brief(name)}{did_you_mean(name, self.known)}"


def _split(word: str) -> tuple[str, str | None]:
    """(an option's name, what is glued to it)."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None


def _brief(word: str) -> str:
    return word if len(word) <= _SHOWN_MAX else word[:_SHOWN_MAX] + "..."
