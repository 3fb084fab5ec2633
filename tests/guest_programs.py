"""Compiles the C programs in tests/guests with the compiler of the `ziglang` package, once per source."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

GUESTS = Path(__file__).parent / "guests"
CACHE = Path(__file__).parents[1] / ".cache" / "guests"
FLAGS = ("--target=wasm32-wasi", "-Os", "-s", "-Wall", "-Werror")

compiled: set[str] = set()


def guest_names() -> list[str]:
    """Every program there is, by the name of its source."""
    return sorted(path.stem for path in GUESTS.glob("*.c"))


@cache
def compile_guest(name: str) -> Path:
    """The path of the compiled program `name`. The first build on a machine takes half a minute, later ones none."""
    source = GUESTS / f"{name}.c"
    compiled.add(name)
    return compile_c(source)


def compile_c(source: Path) -> Path:
    """Compile one C file for WASI, cached by its contents, the flags and the compiler's version."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(repr((FLAGS, version("ziglang"))).encode())
    target = CACHE / f"{source.stem}-{digest.hexdigest()[:16]}.wasm"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        building = target.with_suffix(f".{os.getpid()}.building.wasm")
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(building), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
        building.replace(target)
    return target
