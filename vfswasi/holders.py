"""The directories on the way to a place: who can change one of them decides where the way leads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

_LINKS_MAX: Final = 40  # as Linux follows in one path (path_resolution(7))


def holders(path: str) -> Iterator[str]:
    """The directories in which a name on the way to the absolute `path` lies, behind links too. Raises OSError."""
    todo = [part for part in reversed(path.split("/")) if part]
    here = "/"
    links = 0
    while todo:
        yield here
        name = todo.pop()
        if name == "..":
            here = os.path.dirname(here)
        elif name != ".":
            below = os.path.join(here, name)
            if links < _LINKS_MAX and os.path.islink(below):
                links += 1
                target = os.readlink(below)
                here = "/" if target.startswith("/") else here
                todo += [part for part in reversed(target.split("/")) if part]
            else:
                here = below
