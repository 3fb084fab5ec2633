"""A compiler's accesses hold exactly as long as what it looked at is what it was.

An edit is noticed if it changes a file that the compiler read, or whether there is something, and what, under a name
that it looked for. Then `hold` has to say no, and else yes; and never yes when the compiler makes something else of it.
A header that it read can have another comment, of which nothing comes: that is a no all the same.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import vfswasi

from .compiling import TREE, Built, Compiler, Edit, Plain, at, edited, every_edit, preopens, random_edit


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


class Original:
    """The program as it is, compiled: what came of it, and what the compiler asked for."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler
        inc, src = Plain(TREE["inc"]), Plain(TREE["src"])
        self.built, result = compiler.build(inc, src, accesses=True)
        assert self.built.status == 0, self.built.said
        assert result.accesses is not None
        self.accesses = result.accesses
        self.stores = {"inc": inc, "src": src}

    def notices(self, edit: Edit) -> bool:
        """By what the stores were asked for, not by what was noted of it."""
        top, *names = edit.key
        store, key = self.stores[top], tuple(names)
        if isinstance(edit.before, bytes) and isinstance(edit.after, bytes):
            return key in store.read and edit.before != edit.after
        below = isinstance(edit.after, Mapping) and any((*key, name) in store.names for name in edit.after)
        return key in store.names or key in store.read or key[:-1] in store.listed or below

    def tell(self, edit: Edit) -> tuple[bool, bool, Built]:
        """(whether the accesses hold, whether the compiler notices, what it makes of it)"""
        tree = edited(TREE, edit)
        held = self.accesses.hold(preopens(Plain(tree["inc"]), Plain(tree["src"])))
        assert bool(held) is (held.difference is None)
        built, _ = self.compiler.build(Plain(tree["inc"]), Plain(tree["src"]))
        return bool(held), self.notices(edit), built


@pytest.fixture(scope="module")
def original(compiler: Compiler) -> Original:
    return Original(compiler)


def test_nothing_changed(original: Original) -> None:
    assert original.accesses.hold(preopens(Plain(TREE["inc"]), Plain(TREE["src"])))


def test_each_file_edited_added_and_removed_is_noticed_exactly_if_the_compiler_looked_at_it(original: Original) -> None:
    seen = Counter[tuple[bool, bool]]()
    for edit in every_edit():
        held, notices, built = original.tell(edit)
        assert held is not notices, edit
        assert not held or built == original.built, edit
        seen[held, built == original.built] += 1
    assert min(seen[True, True], seen[False, False], seen[False, True]) > 5, seen


def test_200_random_edits(original: Original) -> None:
    seen = Counter[tuple[bool, bool]]()
    for number in range(200):
        edit = random_edit(random.Random(number))
        held, notices, built = original.tell(edit)
        assert held is not notices, (number, edit)
        assert not held or built == original.built, (number, edit)
        seen[held, built == original.built] += 1
    print(f"{seen[False, False]} no with another output, {seen[False, True]} no with the same, {seen[True, True]} yes")
    assert min(seen[True, True], seen[False, False], seen[False, True]) > 10, seen


@pytest.mark.parametrize("accesses", [True, "digest"])
def test_edits_of_a_directory_on_the_disk_are_never_missed(tmp_path: Path, compiler: Compiler, accesses: Any) -> None:
    vfswasi.MemoryBackend(TREE)
    root = tmp_path / "tree"
    _write(root, TREE)
    time.sleep(2.1)  # so that times can be relied on
    built, result = compiler.build(root / "inc", root / "src", accesses=accesses)
    assert built.status == 0
    assert result.accesses is not None
    has_digests = {access.digest is not None for access in result.accesses["/inc"] if access.read}
    assert has_digests == {accesses == "digest"}
    assert result.accesses.hold(preopens(root / "inc", root / "src"))
    seen = Counter[bool]()
    for number in range(30):
        edit = random_edit(random.Random(number))
        _apply(root, edit.key, edit.after)
        held = result.accesses.hold(preopens(root / "inc", root / "src"))
        now, _ = compiler.build(root / "inc", root / "src")
        assert not held or now == built, (number, edit)
        seen[bool(held)] += 1
        _apply(root, edit.key, at(TREE, edit.key))
    assert seen[False] > 5


def _write(path: Path, what: Any) -> None:
    if isinstance(what, Mapping):
        path.mkdir()
        for name, value in what.items():
            _write(path / name, value)
    else:
        path.write_bytes(what)


def _apply(root: Path, key: tuple[str, ...], after: Any) -> None:
    path = root.joinpath(*key)
    if path.is_dir():
        for below in path.iterdir():
            below.unlink()
        path.rmdir()
    elif path.exists():
        path.unlink()
    if after is not None:
        _write(path, after)
