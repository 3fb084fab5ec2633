"""Numbers of the objects of an overlay."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count
from typing import Final

from ...base import Backend, Key

_MADE_OF_NAMES: Final = 1 << 62  # numbers of objects whose store gives them none
_FIRST_NEW: Final = 1 << 63
_NEW_IDENTS: Final = 1 << 33  # of one overlay
_DEPTHS: Final = 1 << 16
_unknown = count()


def ident_of(key: Key) -> int:
    """A number for an object of a store that has none."""
    digest = blake2b("/".join(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2 | _MADE_OF_NAMES


def is_made_of_name(ident: int) -> bool:
    return ident >> 62 == 1


def first_of(depth: int) -> int:
    """The number of the first new object of an overlay at this depth."""
    return _FIRST_NEW + depth * _NEW_IDENTS


def depth_over(base: Backend) -> int:
    """How many overlays lie on one another, so that none gives the numbers of another one; and where a store of others
    may hide one, a number that no other overlay of this process has."""
    while True:
        depth = getattr(base, "depth", None)
        if isinstance(depth, int):
            return (depth + 1) % _DEPTHS
        inner = getattr(base, "inner", None)
        if not isinstance(inner, Backend):
            break
        base = inner
    return 0 if type(base).__module__.startswith("vfswasi.") else _DEPTHS + next(_unknown) % _DEPTHS
