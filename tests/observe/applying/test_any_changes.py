"""Any changes to any tree: what comes out is what a model says, on every kind of target that needs nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfswasi import Backend
from vfswasi.errors import ConflictError
from vfswasi.fs_backends.base import Caps
from vfswasi.fs_backends.memory.backend import MemoryBackend

from . import model
from .model import Node, Worked

NAMES = st.sampled_from(["a", "b", "c", "d"])
LEAVES = st.one_of(st.binary(max_size=3), st.sampled_from(["a", "../x"]))
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=12),
    max_size=4,
)


def is_below(node: Node, other: Node) -> bool:
    return node is other or any(is_below(child, other) for child in node.children.values())


def work(draw: Any, worked: Worked) -> None:
    """One thing that a run may do."""
    directory = draw(st.sampled_from(worked.directories()))
    name = draw(NAMES)
    there = directory.children.get(name)
    what = draw(st.sampled_from(["write", "rename", "rename", "rename", "remove", "mkdir", "link"]))
    if what == "remove":
        directory.children.pop(name, None)
    elif what == "mkdir" and there is None:
        directory.children[name] = Node(None, None)
    elif what == "link" and there is None:
        directory.children[name] = Node(None, "anywhere")
    elif what == "write":
        data = draw(st.binary(max_size=3))
        if there is None:
            directory.children[name] = Node(None, data)
        elif isinstance(there.content, bytes):
            there.content, there.written = data, True
    elif what == "rename" and there is not None:
        goal = draw(st.sampled_from([other for other in worked.directories() if not is_below(there, other)]))
        new = draw(NAMES)
        if there.content is not None or new not in goal.children or not goal.children[new].children:
            del directory.children[name]
            goal.children[new] = there


class Plain(MemoryBackend):
    """A store that can neither rename directories nor replace a file in one step, and has no inode numbers."""

    caps = MemoryBackend.caps & ~(Caps.ATOMIC_RENAME | Caps.HARDLINKS | Caps.SET_TIMES)

    def rename(self, old: Any, new: Any) -> None:
        from vfswasi.errors import Errno, FsError
        from vfswasi.fs_backends.base import FileType

        if self.stat(old).filetype is FileType.DIRECTORY:
            raise FsError(Errno.NOTSUP)
        super().rename(old, new)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_target_becomes_what_the_run_made(data: st.DataObject) -> None:
    base = data.draw(TREES)
    worked = Worked(base)
    for _ in range(data.draw(st.integers(1, 8))):
        work(data.draw, worked)
    entries = worked.entries()
    stores: list[Backend] = [model.memory(base), Plain(model.memory(base).export())]
    for store in stores:
        model.changes(*entries).apply(store)
        assert model.tree_in(store) == worked.tree()
    with tempfile.TemporaryDirectory() as name:
        place = model.fill(Path(name), base)
        model.changes(*entries).apply(place)
        assert model.tree_at(place) == worked.tree()
        model.changes(*entries).apply(place)  # everything is there already
        assert model.tree_at(place) == worked.tree()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_another_tree_is_a_conflict_or_nothing_of_it_is_lost(data: st.DataObject) -> None:
    """A base that somebody else has worked on too: either nothing is written, or what they did is still there."""
    base = data.draw(TREES)
    worked, others = Worked(base), Worked(base)
    for _ in range(data.draw(st.integers(1, 4))):
        work(data.draw, worked)
    for _ in range(data.draw(st.integers(1, 2))):
        work(data.draw, others)
    target = others.tree()
    stores = [model.memory(target), Plain(model.memory(target).export())]
    outcomes = []
    for store in stores:
        try:
            model.changes(*worked.entries()).apply(store)
        except ConflictError:
            assert model.tree_in(store) == target
            outcomes.append("conflict")
        else:
            outcomes.append(model.tree_in(store))
    with tempfile.TemporaryDirectory() as name:
        place = model.fill(Path(name), target)
        try:
            model.changes(*worked.entries()).apply(place)
        except ConflictError:
            assert model.tree_at(place) == target
            outcomes.append("conflict")
        else:
            outcomes.append(model.tree_at(place))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    if outcomes[0] != "conflict":
        mine = {content for _, content in model.paths_of(target) if isinstance(content, bytes)}
        gone = {content for _, content in model.paths_of(base) if isinstance(content, bytes)}
        left = {content for _, content in model.paths_of(outcomes[0]) if isinstance(content, bytes)}
        assert mine - gone <= left


def test_the_model_knows_a_swap() -> None:
    worked = Worked({"a": b"1", "b": b"2"})
    root = worked.root.children
    root["a"], root["b"] = root["b"], root["a"]
    assert sorted((entry.kind, entry.old_path, entry.path) for entry in worked.entries()) == [
        ("renamed", "a", "b"),
        ("renamed", "b", "a"),
    ]
