"""What one archive, one open file or one answer has taken of a budget of memory."""

from __future__ import annotations

from .budget import Budget

_STEP_BYTES = 64 << 10


class Charge:
    """Taken in steps, so that small things cost no lock each; given back by `close`, or when this is collected."""

    __slots__ = ("_left", "_taken", "budget")

    def __init__(self, budget: Budget, count: int = 0) -> None:
        """Raises NOMEM with the budget's name."""
        self.budget = budget
        self._taken = 0
        self._left = 0
        if count:
            budget.take(count)
            self._taken = count

    @classmethod
    def tried(cls, budget: Budget, count: int) -> Charge | None:
        """A new one, for those who can do with less: None, if there is not so much."""
        charge = cls(budget)
        if not budget.try_take(count):
            return None
        charge._taken = count
        return charge

    @property
    def used(self) -> int:
        """Bytes that are in use, at most those that were taken."""
        return self._taken - self._left

    def take(self, count: int) -> None:
        """Before the memory is taken. Raises NOMEM with the budget's name."""
        self._left -= count
        if self._left < 0 and not self._refill():
            self._left += count
            self.budget.take(count)  # raises; or somebody has just given back enough
            self._taken += count

    def try_take(self, count: int) -> bool:
        """`take` for those who can do with less."""
        self._left -= count
        if self._left >= 0 or self._refill():
            return True
        self._left += count
        return False

    def _refill(self) -> bool:
        for more in (_STEP_BYTES - self._left, -self._left):
            if self.budget.try_take(more):
                self._taken += more
                self._left += more
                return True
        return False

    def give(self, count: int) -> None:
        """When some of the memory has gone."""
        self._left += count
        if self._left > 2 * _STEP_BYTES:
            spare = self._left - _STEP_BYTES
            self._left -= spare
            self._taken -= spare
            self.budget.give(spare)

    def close(self) -> None:
        """When all of it has gone."""
        taken, self._taken, self._left = self._taken, 0, 0
        if taken:
            self.budget.give(taken)

    __del__ = close
