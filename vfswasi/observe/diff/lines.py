"""The difference of two texts, line by line, as hunks of a unified diff.

The shortest edit is looked for (Myers, "An O(ND) difference algorithm"), and given up where it would be long: what is
left is then shown as removed and added as a whole, which is true as well. `difflib` cannot be stopped, and takes time
that grows with the square of the lines where somebody has chosen them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Final

from ...fs_backends.waiting import check_time

EDITS_MAX: Final = 1000  # lines removed and added of one file, beyond which the shortest edit is not looked for
_STEPS_MAX = 4 << 20  # along lines that are equal
_CONTEXT = 3


class Effort:
    """What comparing may take for all files of a diff: when it is used up, nothing is looked for any more. A file with
    so many edits takes the square of that."""

    def __init__(self, left: int = 60 * EDITS_MAX**2) -> None:
        self.left = left

    def edits(self) -> int:
        """That may be looked for now."""
        return min(EDITS_MAX, isqrt(max(0, self.left)))


# (first line in the old text, end, first line in the new one, end): what was there becomes what is here.
Block = tuple[int, int, int, int]


def blocks(old: Sequence[str], new: Sequence[str], effort: Effort | None = None) -> list[Block]:
    """What differs, in order."""
    start = 0
    least = min(len(old), len(new))
    while start < least and old[start] == new[start]:
        start += 1
    end = 0
    while end < least - start and old[-1 - end] == new[-1 - end]:
        end += 1
    numbers: dict[str, int] = {}
    one = [numbers.setdefault(line, len(numbers)) for line in old[start : len(old) - end]]
    other = [numbers.setdefault(line, len(numbers)) for line in new[start : len(new) - end]]
    if not one and not other:
        return []
    matches = _matches(one, other, effort or Effort()) if one and other else []
    found: list[Block] = []
    x = y = 0
    for match_x, match_y in [*matches, (len(one), len(other))]:
        if (x, y) != (match_x, match_y):
            found.append((start + x, start + match_x, start + y, start + match_y))
        x, y = match_x + 1, match_y + 1
    return found


def _matches(one: list[int], other: list[int], effort: Effort) -> list[tuple[int, int]]:
    """Lines that stay, as (line of one, line of the other), in order; none, if there are too many edits."""
    most = min(len(one) + len(other), effort.edits())
    # reached[k]: the farthest line of `one` on the diagonal x - y == k. Kept for each number of edits.
    reached = array("l", [0]) * (2 * most + 3)
    trail: list[array[int]] = []
    steps = 0
    for edits in range(most + 1):
        check_time("comparing texts")
        effort.left -= 2 * edits
        if steps > _STEPS_MAX:
            break
        trail.append(reached[most + 1 - edits : most + 2 + edits])
        for k in range(-edits, edits + 1, 2):
            at = most + 1 + k
            x = (
                reached[at + 1]
                if k == -edits or (k != edits and reached[at - 1] < reached[at + 1])
                else reached[at - 1] + 1
            )
            y = x - k
            steps -= x
            while x < len(one) and y < len(other) and one[x] == other[y]:
                x += 1
                y += 1
            steps += x
            reached[at] = x
            if x >= len(one) and y >= len(other):
                return _walked_back(trail, one, other)
    return []


def _walked_back(trail: list[array[int]], one: list[int], other: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    x, y = len(one), len(other)
    for edits in range(len(trail) - 1, 0, -1):
        before = trail[edits]  # its middle is diagonal 0
        k = x - y
        down = k == -edits or (k != edits and before[edits + k - 1] < before[edits + k + 1])
        came = k + 1 if down else k - 1
        came_x = before[edits + came]
        came_y = came_x - came
        while x > came_x and y > came_y and x > 0 and y > 0 and one[x - 1] == other[y - 1]:
            x -= 1
            y -= 1
            found.append((x, y))
        x, y = came_x, came_y
    while x > 0 and y > 0:
        x -= 1
        y -= 1
        found.append((x, y))
    return found[::-1]


def hunks(old: Sequence[str], new: Sequence[str], effort: Effort | None = None) -> Iterator[str]:
    """Lines keep their ends; one without is followed by git's remark."""
    group: list[Block] = []
    for block in blocks(old, new, effort):
        if group and block[0] - group[-1][1] > 2 * _CONTEXT:
            yield from _hunk(group, old, new)
            group = []
        group.append(block)
    if group:
        yield from _hunk(group, old, new)


def _hunk(group: list[Block], old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    before = min(_CONTEXT, group[0][0])
    after = min(_CONTEXT, len(old) - group[-1][1])
    start, end = group[0][0] - before, group[-1][1] + after
    new_start, new_end = group[0][2] - before, group[-1][3] + after
    yield f"@@ -{_range(start, end)} +{_range(new_start, new_end)} @@\n"
    at = start
    for first, last, new_first, new_last in group:
        yield from _marked(" ", old[at:first])
        yield from _marked("-", old[first:last])
        yield from _marked("+", new[new_first:new_last])
        at = last
    yield from _marked(" ", old[at:end])


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"


def _range(start: int, end: int) -> str:
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"
