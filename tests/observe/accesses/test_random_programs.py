"""Random programs over random trees that somebody edits: where the accesses hold, the program does and says the same.

VFSWASI_PROGRAMS=5000 makes it more of them.
"""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from vfswasi import Mount, Result, Symlink

from .looking import run

COUNT = int(os.environ.get("VFSWASI_PROGRAMS", "100"))
NAMES = ("a", "b", "c", "l")
TARGETS = ("a", "b", "../a", "c/a", ".", "l", "x")
LOOKS = ("read", "part", "size", "stat", "lstat", "link", "list", "first", "there")
CHANGES = "create new empty append patch mkdir rmdir rm mv hard soft unlinked held".split()
MOUNTS: dict[str, Callable[[Any], Any]] = {
    "rw": lambda tree: tree,
    "ro": lambda tree: Mount(tree, rw=False),
    "overlay": lambda tree: Mount(tree, overlay=True),
}


def _path(rng: random.Random) -> str:
    names = [rng.choice((*NAMES, "..") if depth else NAMES) for depth in range(rng.choice((1, 1, 2, 2, 3)))]
    return "/d/" + "/".join(names)


def _tree(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in rng.sample(NAMES, rng.randint(0 if depth else 2, 4)):
        kind = rng.random()
        if kind < 0.5 or (depth > 1 and kind < 0.85):
            tree[name] = rng.choice((b"", b"x", b"hello", b"0123456789"))
        elif kind < 0.85:
            tree[name] = _tree(rng, depth + 1)
        else:
            tree[name] = Symlink(rng.choice(TARGETS))
    return tree


def _program(rng: random.Random, changes: bool) -> list[str]:
    words = []
    for _ in range(rng.randint(1, 6)):
        what = rng.choice(CHANGES if changes and rng.random() < 0.5 else LOOKS)
        words += [what, rng.choice(("a", "../b", "c/a")) if what == "soft" else _path(rng)]
        if what == "part":
            words += [rng.choice(("0", "1", "4", "20")), rng.choice(("1", "3", "9"))]
        elif what == "patch":
            words += [rng.choice(("0", "2", "12")), "PQ"]
        elif what in ("create", "new", "append"):
            words.append(rng.choice(("new", "", "zzz")))
        elif what in ("mv", "hard", "soft", "held"):
            words.append(_path(rng))
    return words


def _edited(rng: random.Random, tree: dict[str, Any]) -> dict[str, Any]:
    made = directory = copy.deepcopy(tree)
    while rng.random() < 0.5:
        below = [value for value in directory.values() if isinstance(value, dict)]
        if not below:
            break
        directory = rng.choice(below)
    kind = rng.random()
    files = [name for name, value in directory.items() if isinstance(value, bytes)]
    if kind < 0.3 and directory:
        del directory[rng.choice(list(directory))]
    elif kind < 0.6 or not files:
        others: list[Any] = [b"", b"y", b"hellp", b"0123456788", {}, {"a": b"q"}, Symlink("b"), Symlink("a")]
        directory[rng.choice((*NAMES, "z"))] = rng.choice(others)
    else:
        name = rng.choice(files)
        data = bytearray(directory[name] or b"w")
        data[rng.randrange(len(data))] ^= 1
        directory[name] = bytes(data)
    return made


def _said(result: Result[bytes]) -> tuple[int, bytes | None]:
    assert result.stderr == b""
    return result.returncode, result.stdout


def _written(result: Result[bytes]) -> dict[str, Any]:
    """Path -> contents, of what the run has made or changed."""
    changes = result.changes.get("/d")
    files = result.files.get("/d")
    if changes is None:
        return {}
    told: dict[str, Any] = {}
    for change in changes:
        told[str(change)] = files[change.path] if files is not None and change.path in files else None
    return told


@pytest.mark.parametrize("manner", MOUNTS)
@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "python"])
def test_where_they_hold_the_program_does_the_same(manner: str, fast: bool) -> None:
    mount = MOUNTS[manner]
    seen = Counter[tuple[bool, bool]]()
    for seed in range(COUNT):
        rng = random.Random(f"{manner} {seed}")
        tree, words = _tree(rng), _program(rng, rng.random() < 0.6)
        result = run({"/d": mount(tree)}, *words, fast=fast, accesses=True)
        assert result.accesses is not None
        again = result.accesses.hold({"/d": mount(copy.deepcopy(tree))})
        assert again, (seed, words, tree, again)
        for _ in range(3):
            other = _edited(rng, tree)
            held = result.accesses.hold({"/d": mount(other)})
            now = run({"/d": mount(other)}, *words, fast=fast)
            same = _said(now) == _said(result)
            assert same or not held, (seed, words, tree, other)
            assert not held or manner == "ro" or _written(now) == _written(result), (seed, words, tree, other)
            seen[bool(held), same] += 1
    assert seen[True, True] > COUNT
    assert seen[False, False] > COUNT // 4
