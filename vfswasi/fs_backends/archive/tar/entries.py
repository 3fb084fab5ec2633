"""What is known of the entries of a tar archive, by their numbers: four columns, and what only few of them have."""

from __future__ import annotations

from array import array
from typing import Final

from ...base import FileType, Stat
from ...charge import Charge
from ..tree import MAX_PATH_BYTES
from .sparse import SparseMap

_COLUMNS_COST_BYTES = 40  # of each entry, when a column has just grown
_ODD_COST_BYTES = 160  # of each thing that only few entries have
_NO_TIME: Final = -(2**63)
_TYPES = tuple(FileType)


class TarEntries:
    """Entries are counted from 1. `maps`: of sparse files, None where the map stands before the data; `problems`: why
    an entry cannot be opened."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._kinds = bytearray()
        self._starts = array("q")
        self._sizes = array("q")
        self._times = array("q")
        self._odd_times: dict[int, int] = {}
        self._names: dict[int, int] = {}
        self._targets: dict[int, bytes] = {}
        self._full_sizes: dict[int, int] = {}
        self.maps: dict[int, SparseMap | None] = {}
        self.problems: dict[int, str] = {}

    def add(self, kind: FileType, start: int, size: int, time_ns: int | None) -> int:
        """The number of a new entry, whose `size` bytes stand at `start`. Raises NOMEM."""
        self._charge.take(_COLUMNS_COST_BYTES)
        self._kinds.append(kind)
        self._starts.append(start)
        self._sizes.append(size)
        number = len(self._kinds)
        if time_ns is None or not _NO_TIME < time_ns < 2**63:
            self._times.append(_NO_TIME)
            if time_ns is not None:
                self._charge.take(_ODD_COST_BYTES)
                self._odd_times[number] = time_ns
        else:
            self._times.append(time_ns)
        return number

    def skip(self) -> int:
        """A number for what is kept elsewhere."""
        return self.add(FileType.DIRECTORY, 0, 0, None)

    def set_target(self, number: int, target: bytes) -> None:
        """The target of a link as it stands; of one that is too long only that it is."""
        kept = target if len(target) <= MAX_PATH_BYTES else b""
        self._charge.take(_ODD_COST_BYTES + len(kept))
        self._targets[number] = kept
        self._sizes[number - 1] = len(target)

    def set_problem(self, number: int, problem: str) -> None:
        """Why an entry cannot be opened."""
        self._charge.take(_ODD_COST_BYTES + len(problem))
        self.problems[number] = problem

    def set_sparse(self, number: int, full_bytes: int, data_bytes: int) -> None:
        """The size of a file of which `data_bytes` bytes stand in the archive."""
        self._charge.take(2 * _ODD_COST_BYTES)
        self._sizes[number - 1] = data_bytes
        self._full_sizes[number] = full_bytes

    def set_contents(self, number: int, start: int, size: int) -> None:
        """Other contents for an entry that stands before its contents."""
        self._starts[number - 1] = start
        self._sizes[number - 1] = size
        self._full_sizes.pop(number, None)
        self.maps.pop(number, None)
        self.problems.pop(number, None)

    def set_names(self, number: int, count: int) -> None:
        """How many names lead to it."""
        self._charge.take(_ODD_COST_BYTES)
        self._names[number] = count

    def kind(self, number: int) -> FileType:
        return _TYPES[self._kinds[number - 1]]

    def stat(self, number: int) -> Stat:
        time: int | None = self._times[number - 1]
        if time == _NO_TIME:
            time = self._odd_times.get(number)
        size = self._full_sizes.get(number) if self._full_sizes else None
        if size is None:
            size = self._sizes[number - 1]
        names = self._names.get(number, 1) if self._names else 1
        return Stat(_TYPES[self._kinds[number - 1]], size, time, time, time, names, number)

    def place(self, number: int) -> tuple[int, int]:
        """Where its bytes stand, and how many."""
        return self._starts[number - 1], self._sizes[number - 1]

    def target(self, number: int) -> bytes | None:
        """Of a link; None if it has more than 4096 bytes."""
        return self._targets[number] if self._sizes[number - 1] <= MAX_PATH_BYTES else None
