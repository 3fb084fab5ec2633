"""Where the options about a run write their files."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ....printing import shown


def check_place(option: str, path: str, *, beside: bool = True) -> None:
    """beside: it is written beside its place, and replaces what is there. Raises ValueError: no file can be written."""
    told = f"{option} {shown(path)}"
    if not path:
        raise ValueError(f"{option} needs the name of a file")
    if path == "-":
        raise ValueError(f"{told}: it cannot be printed; name a file, ./- if that is its name")
    real = os.path.realpath(path)
    directory = os.path.dirname(real)
    if os.path.isdir(real):
        raise ValueError(f"{told}: that is a directory; name a file in it")
    if not os.path.isdir(directory):
        raise ValueError(f"{told}: there is no such directory to write a file in")
    new = not os.path.exists(real) or (beside and os.path.isfile(real))
    if not (os.access(directory, os.W_OK | os.X_OK) if new else os.access(real, os.W_OK)):
        raise ValueError(f"{told}: no file can be written there")


def check_apart(places: Iterable[tuple[str, str | None]]) -> None:
    """(option, its file or None). Raises ValueError: two would write to one file."""
    taken: dict[str, str] = {}
    for option, path in places:
        if path is None or (os.path.exists(path) and not os.path.isfile(path)):  # a terminal, /dev/null
            continue
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ValueError(f"{other} and {option} are both {shown(path)}; give each a file of its own")
