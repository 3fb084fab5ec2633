"""Where the members of a tar archive stand, in their order: for those who write it anew."""

from __future__ import annotations

from array import array
from sys import getsizeof
from typing import Final, NamedTuple

from ...charge import Charge

_COST_BYTES: Final = 64  # of each: five columns when they have just grown, and a place in a list


class Place(NamedTuple):
    """One member. start: of the first header that describes it; header: of its own; data, end: of what follows, with
    its padding. path: as in the tree, "" of the top, None: hidden. number: of the object that it is a name of, 0 of
    the top and of what is hidden."""

    start: int
    header: int
    data: int
    end: int
    path: str | None
    number: int


class Members:
    """All members. linked: numbers of the objects that more than one member is a name of. tail, end: of headers that
    describe nothing, at the end. Raises NOMEM."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._columns = tuple(array("q") for _ in range(5))
        self._paths: list[str | None] = []
        self.linked: set[int] = set()
        self.tail = self.end = 0

    def add(self, start: int, header: int, data: int, end: int, path: str | None, number: int) -> None:
        """The next one."""
        self._charge.take(_COST_BYTES + (0 if path is None else getsizeof(path)))
        for column, value in zip(self._columns, (start, header, data, end, number), strict=True):
            column.append(value)
        self._paths.append(path)

    def finish(self, tail: int, end: int, linked: set[int]) -> None:
        """There are no more."""
        self.tail, self.end, self.linked = tail, end, linked

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Place:
        start, header, data, end, number = (column[index] for column in self._columns)
        return Place(start, header, data, end, self._paths[index], number)

    def groups(self) -> dict[int, list[int]]:
        """The members of each object that has several, by its number."""
        found: dict[int, list[int]] = {number: [] for number in self.linked}
        if found:
            for index, number in enumerate(self._columns[4]):
                if number in found:
                    found[number].append(index)
        return found
