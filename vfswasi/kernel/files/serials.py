"""Inode numbers for stores that have none of their own.

A number is made from the object's name, so that a walk over millions of objects leaves nothing in memory, and the same
object has the same number in the next run. What a name cannot tell is remembered, up to a bound: the number of an
object that was renamed follows it, and whatever comes under its old name, or that of an open file that is removed, has
another one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ...fs_backends.base import Key

_REMEMBERED_MAX: Final = 65_536
_MASK: Final = (1 << 63) - 1


class Serials:
    """The numbers of one store, below 2^63 and not 0. `used`: somebody has seen one."""

    __slots__ = ("_given", "_known", "used")

    def __init__(self) -> None:
        self._known: dict[Key, int] = {}  # where it is not the name's
        self._given = 0  # numbers that are not a name's, ever
        self.used = False

    def copy(self) -> Serials:
        """One that gives the same numbers."""
        other = Serials()
        other._known = dict(self._known)
        other._given = self._given
        other.used = self.used
        return other

    def of(self, key: Key) -> int:
        """The number of the object at `key`."""
        self.used = True
        return self._known.get(key) or _number_of("/".join(key))

    def removed(self, key: Key, is_open: bool) -> None:
        """The file at `key` has lost that name. Who still has it open has its number too."""
        if is_open or key in self._known:
            self._remember(key, self._another(key))

    def renamed(self, old: Key, new: Key, is_directory: bool) -> None:
        """Everything at or below `old` is at or below `new` now. What is below it, and was not remembered, has the
        number of its new name."""
        moved, depth = self.of(old), len(old)
        if is_directory:
            for key in [key for key in self._known if key[:depth] == old]:
                self._remember(new + key[depth:], self._known.pop(key))
        self._remember(new, moved)
        self._remember(old, self._another(old))

    def moved(self, key: Key, number: int) -> None:
        """An open file below a renamed directory, which keeps its number."""
        if number != self.of(key):
            self._remember(key, number)

    def _another(self, key: Key) -> int:
        """One that nothing had before."""
        self._given += 1
        return _number_of(f"{'/'.join(key)}\0{self._given}")

    def _remember(self, key: Key, number: int) -> None:
        self._known[key] = number
        if len(self._known) > _REMEMBERED_MAX:
            del self._known[next(iter(self._known))]


def _number_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") & _MASK or 1
