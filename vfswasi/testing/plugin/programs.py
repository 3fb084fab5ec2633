"""Where the program is that a test names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...printing import did_you_mean, printable

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*(://|::)")


def found(program: Any, places: Sequence[Path], root: Path) -> Any:
    """A path to a file becomes an absolute one; what is none, such as bytes and URLs, stays as it is.

    places: the directories that a relative path may begin in, in order. Raises FileNotFoundError.
    """
    plain = isinstance(program, os.PathLike) and type(program).__module__.partition(".")[0] == "pathlib"
    if not (plain or (isinstance(program, str) and not _URL.match(program))):
        return program
    candidates = [place / program for place in places]  # the same one each time, if it is absolute
    for candidate in candidates:
        if candidate.is_file():
            return Path(os.path.abspath(candidate))
    name = printable(os.fspath(program))
    if Path(program).is_absolute():
        raise FileNotFoundError(f"there is no program {name}")
    looked = ", ".join(dict.fromkeys(_shown(place, root) for place in places))
    raise FileNotFoundError(
        f"there is no program {name} in {looked}{did_you_mean(name, _programs(places))} "
        "(the ini option wasm_programs names further directories)"
    )


def _shown(place: Path, root: Path) -> str:
    relative = os.path.relpath(place, root)
    return f"{relative}/" if not relative.startswith("..") else f"{place}/"


def _programs(places: Sequence[Path]) -> list[str]:
    return [path.name for place in places if place.is_dir() for path in sorted(place.glob("*.wa[st]*"))]
