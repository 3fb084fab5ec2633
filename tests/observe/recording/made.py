"""Runs of the guest `explore` that are recorded and replayed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import vfswasi
from vfswasi import Replayed, Result

from ...guest_programs import compile_guest

NAMES = "a big sub sub/x sub/deep sub/deep/y l ld ld/x lx hard n n/m sub/n ld/n".split()
ACTS = (
    "cat cat cat ls ls stat stat new write append patch cut mkdir rm rmdir mv mv ln symlink random clock sleep".split()
)


def recorded(text: str, path: Path, preopens: dict[str, Any] | None = None, **options: Any) -> Result[bytes]:
    """What the guest did on its standard input's orders."""
    given: dict[str, Any] = {"input": text, "record": path, "capture_output": True, **options}
    return vfswasi.run(compile_guest("explore"), [], preopens=preopens, **given)


def replayed(path: Path, **options: Any) -> Replayed:
    return vfswasi.replay(path, capture_output=True, **options)


def told(result: Result[Any] | None, name: str = "/d") -> list[str]:
    """What it changed."""
    assert result is not None
    return [str(change) for change in result.changes[name]] if name in result.changes else []


def check_same(result: Result[Any], again: Replayed, changes: list[str] | None = None) -> None:
    """changes: of `result`, where its store has gone meanwhile."""
    assert again.same, again.difference
    assert again.difference is None
    assert again.result is not None
    assert again.result.stdout == result.stdout
    assert again.result.stderr == result.stderr
    assert again.result.returncode == result.returncode
    assert told(again.result) == (told(result) if changes is None else changes)


def fill(directory: Path, size: int = 1_200_000) -> Path:
    """A directory with something of each kind."""
    rng = random.Random(7)
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "a").write_bytes(rng.randbytes(100))
    (directory / "big").write_bytes(rng.randbytes(size))
    (directory / "sub" / "x").write_text("x" * 50_000)
    (directory / "sub" / "deep" / "y").write_text("y")
    for name, target in (("l", "a"), ("ld", "sub"), ("lx", "nowhere")):
        (directory / name).symlink_to(target)
    (directory / "hard").hardlink_to(directory / "a")
    return directory


def tree() -> dict[str, Any]:
    """The same in memory, as far as a literal can say it."""
    rng = random.Random(7)
    return {
        "a": rng.randbytes(100),
        "big": rng.randbytes(1_200_000),
        "sub": {"x": b"x" * 50_000, "deep": {"y": b"y"}},
        "l": vfswasi.Symlink("a"),
        "ld": vfswasi.Symlink("sub"),
        "lx": vfswasi.Symlink("nowhere"),
    }


def program(seed: int) -> str:
    """Orders at random."""
    rng = random.Random(seed)

    def name() -> str:
        return f"/d/{rng.choice(NAMES)}"

    lines = []
    for _ in range(rng.randint(5, 25)):
        act = rng.choice(ACTS)
        if act == "cat" and rng.random() < 0.4:
            lines.append(f"cat {name()} {rng.randint(0, 1_300_000)} {rng.randint(0, 100_000)}")
        elif act in ("new", "write", "append"):
            lines.append(f"{act} {name()} text{rng.randint(0, 99)}")
        elif act == "patch":
            lines.append(f"patch {name()} PATCH {rng.randint(0, 1_250_000)}")
        elif act == "cut":
            lines.append(f"cut {name()} {rng.choice([0, 10, 40_000, 1_500_000])}")
        elif act in ("mv", "ln"):
            lines.append(f"{act} {name()} {name()}")
        elif act == "symlink":
            lines.append(f"symlink {rng.choice(NAMES)} {name()}")
        elif act == "ls":
            lines.append(f"ls {rng.choice(['/d', '/d/sub', '/d/n', '/d/ld', '/d/sub/deep'])}")
        elif act in ("clock", "sleep"):
            lines.append(f"{act} {rng.randint(1, 1000)}")
        else:
            lines.append(f"{act} {name()}")
    return "\n".join([*lines, "ls /d", "ls /d/sub", "cat /d/big", ""])
