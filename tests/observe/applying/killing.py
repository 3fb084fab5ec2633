"""Changes are applied to a directory by a process that is killed: at so many random moments, and before each of its
steps. Whatever is left must be whole, and applying the same changes again, in another process, must finish it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vfswasi.fs_backends.local.backend import LocalBackend
from vfswasi.fs_backends.local.file import LocalHandle
from vfswasi.observe.applying.plan import STAGING
from vfswasi.observe.changes import Changes

from . import model

_BETWEEN_LOOKS_S = 0.0005
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
STEPS = ("rename", "mkdir", "rmdir", "remove", "create", "symlink", "link", "set_times", "sync_directory")


def _contents(text: str, kib: int) -> bytes:
    return (text.encode() * (kib << 10))[: kib << 10]


OLD: model.Tree = {
    "edited": {f"f{number}": _contents(f"old {number} ", 8 + number * 16) for number in range(6)},
    "a": b"this was a",
    "b": b"this was b",
    "one": {"in one": b"1", "deep": {"er": b"!"}},
    "two": {"in two": b"2"},
    "three": {"in three": b"3"},
    "gone": {"x": _contents("x", 4), "sub": {"y": b"y", "link": "../x"}},
    "moved": {"kept": b"kept", "dropped": b"dropped", "taken": b"taken"},
    "kind": b"a file, which becomes a directory",
    "rewritten": _contents("rewritten, old ", 40),
    "link": "edited/f0",
    "untouched": {"u": b"u"},
}
NEW: model.Tree = {
    "edited": {f"f{number}": _contents(f"new {number} ", 100 - number * 16) for number in range(6)},
    "a": b"this was b",
    "b": b"this was a",
    "two": {"in one": b"1", "deep": {"er": b"!"}},
    "three": {"in two": b"2"},
    "one": {"in three": b"3"},
    "new": {"place": {"kept": b"kept, and edited", "added": b"added there"}, "link": "place/kept"},
    "taken": b"taken",
    "kind": {"inside": b"now a directory"},
    "rewritten": _contents("rewritten, new ", 50),
    "link": "edited/f1",
    "other": _contents("new 0 ", 100),
    "untouched": {"u": b"u"},
}


def changes() -> Changes:
    entries = [model.modified(OLD, f"edited/f{number}", NEW["edited"][f"f{number}"]) for number in range(6)]
    entries += [model.renamed(OLD, "a", "b"), model.renamed(OLD, "b", "a")]
    entries += [model.renamed(OLD, *names) for names in (("one", "two"), ("two", "three"), ("three", "one"))]
    entries += [model.removed(OLD, "gone"), model.removed(OLD, "kind"), model.added("kind", {})]
    entries += [model.added("kind/inside", b"now a directory"), model.added("new", {})]
    entries += [model.renamed(OLD, "moved", "new/place"), model.removed(OLD, "moved/dropped")]
    entries += [model.modified(OLD, "new/place/kept", b"kept, and edited", old_path="moved/kept")]
    entries += [model.added("new/place/added", b"added there"), model.renamed(OLD, "moved/taken", "taken")]
    entries += [model.added("new/link", "place/kept"), model.removed(OLD, "rewritten")]
    entries += [model.added("rewritten", NEW["rewritten"]), model.removed(OLD, "link")]
    entries += [model.added("link", "edited/f1", mtim_ns=10**18)]
    other = NEW["edited"]["f0"]
    entries += [model.added("other", other, link_to="edited/f0")]
    return model.changes(*entries)


_WHOLE = {content for tree in (OLD, NEW) for _, content in model.paths_of(tree) if not isinstance(content, dict)}
_NEVER_MISSING = [f"edited/f{number}" for number in range(6)] + ["rewritten"]


def look(place: Path) -> None:
    """Whatever is going on: the files that are there are whole, and those that are rewritten are there."""
    for path in _NEVER_MISSING:
        assert (place / path).read_bytes() in (model.at(OLD, path), model.at(NEW, path)), path


def check_whole(place: Path) -> str:
    """Nobody works in it; how far it came."""
    look(place)
    left = [name for name in os.listdir(place) if name.startswith(STAGING)]
    tree = {name: node for name, node in model.tree_at(place).items() if name not in left}
    for path, content in model.paths_of(tree):
        assert isinstance(content, dict) or content in _WHOLE, path
    assert len(left) <= 1
    if not left:
        return "before" if tree == OLD else "after"
    names = os.listdir(place / left[0])
    if "journal" not in names:
        assert tree in (OLD, NEW)
        return "while contents were written" if tree == OLD else "while it tidied up"
    return "while new names came" if "out" in names else "while old names left"


def _in_a_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _apply_up_to(place: Path, step: int) -> None:
    """In a child, which is killed before its step of that number."""
    count = 0

    def counted(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments)

        return call

    for name in STEPS:
        setattr(LocalBackend, name, counted(getattr(LocalBackend, name)))
    for name in ("write_from", "sync"):
        setattr(LocalHandle, name, counted(getattr(LocalHandle, name)))
    _apply(place)


def _apply(place: Path) -> None:
    changes().apply(place)


def _applying(place: Path) -> tuple[int, float]:
    """A child that begins now."""
    reads, writes = os.pipe()
    pid = _in_a_child(lambda: (os.write(writes, b"!"), _apply(place)))
    os.close(writes)
    os.read(reads, 1)
    os.close(reads)
    return pid, time.monotonic()


def _finish(place: Path, what: str) -> str:
    how_far = check_whole(place)
    assert _status(_in_a_child(lambda: _apply(place))) == 0, f"{what}, {how_far}: it could not be finished"
    assert model.tree_at(place) == NEW, f"{what}, {how_far}"
    assert os.stat(place / "other").st_ino == os.stat(place / "edited/f0").st_ino
    return how_far


def _warm_up(where: Path) -> None:
    """What is imported and made late is there before the first child is."""
    _apply(model.fill(where / "warm", OLD))
    shutil.rmtree(where / "warm")


def at_random_moments(where: Path, moments: int, seed: int) -> Counter[str]:
    """Raises AssertionError; else how far each came."""
    chance = random.Random(seed)
    _warm_up(where)
    place = where / "place"
    lasts: list[float] = []
    found: Counter[str] = Counter()
    for moment in range(-5, moments):
        shutil.rmtree(place, ignore_errors=True)
        model.fill(place, OLD)
        pid, begins = _applying(place)
        lives = 60.0 if moment < 0 else chance.uniform(0, sorted(lasts)[2])  # the first five tell how long it takes
        while time.monotonic() < begins + lives and os.waitid(os.P_PID, pid, _ENDED) is None:
            look(place)
            time.sleep(_BETWEEN_LOOKS_S)
        if moment < 0:
            lasts.append(time.monotonic() - begins)
        os.kill(pid, signal.SIGKILL)
        if _status(pid) == 0:
            found["it had ended"] += 1
        found[_finish(place, f"seed {seed}, moment {moment}")] += 1
    shutil.rmtree(place)
    return found


def before_every_step(where: Path) -> Counter[str]:
    """Raises AssertionError; else how far each came."""
    _warm_up(where)
    found: Counter[str] = Counter()
    step, status = 0, -1
    while status:
        step += 1
        place = model.fill(where / "place", OLD)
        status = _status(_in_a_child(partial(_apply_up_to, place, step)))
        assert status in (0, -signal.SIGKILL), f"step {step}"
        found[_finish(place, f"step {step}")] += 1
        shutil.rmtree(place)
    return found


def quick_place() -> str | None:
    """Where syncing costs nothing, if there is such a place: to be killed does not depend on it."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def told(moments: int, seed: int) -> int:
    """0; what was found is printed. Raises AssertionError."""
    with tempfile.TemporaryDirectory(dir=quick_place()) as name:
        for what, found in (
            (f"killed at {moments} random moments (seed {seed})", at_random_moments(Path(name), moments, seed)),
            ("killed before each step", before_every_step(Path(name))),
        ):
            print(f"{what}: {'; '.join(f'{count} {how_far}' for how_far, count in sorted(found.items()))}", flush=True)
    return 0
