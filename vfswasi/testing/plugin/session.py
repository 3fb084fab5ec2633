"""`Session`: what all tests of one pytest share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import vfswasi

_SANDBOXES_MAX: Final = 64
# Options of `wasm` that are those of a Sandbox; all others are the run's.
OF_SANDBOXES: Final = ("argv0", "limits", "vdso", "features", "isolation", "deterministic")


class Session:
    """rootpath: of pytest. updating: whether snapshots are written. written: snapshot, below the root -> the test that
    wrote it. compared: snapshot -> digest of what was to be written, and the test."""

    def __init__(self, rootpath: Path, updating: bool) -> None:
        self.rootpath = rootpath
        self.updating = updating
        self.written: dict[str, str] = {}
        self.compared: dict[Path, tuple[str, str]] = {}
        self._sandboxes: dict[object, vfswasi.Sandbox] = {}

    def shown(self, path: Path) -> str:
        """As pytest shows paths: below its root."""
        try:
            return path.relative_to(self.rootpath).as_posix()
        except ValueError:
            return str(path)

    @contextmanager
    def sandbox(self, program: Any, options: dict[str, Any]) -> Iterator[vfswasi.Sandbox]:
        """With the program, compiled once for all tests, as long as it is the same. options: those of
        `OF_SANDBOXES`."""
        same = _identity(program)
        if same is None:
            with vfswasi.Sandbox(program, **options) as sandbox:
                yield sandbox
            return
        features = options.get("features")
        if features is not None:
            options["features"] = tuple(features)
        key = (same, tuple(sorted(options.items())))
        found = self._sandboxes.pop(key, None)
        if found is None:
            found = vfswasi.Sandbox(program, **options)
        self._sandboxes[key] = found  # the last one used is the last one there
        if len(self._sandboxes) > _SANDBOXES_MAX:
            self._sandboxes.pop(next(iter(self._sandboxes))).close()
        yield found

    def close(self) -> None:
        while self._sandboxes:
            self._sandboxes.popitem()[1].close()


def _identity(program: Any) -> object:
    """Equal for the same program; None: it cannot be known."""
    if isinstance(program, Path):
        found = os.stat(program)
        return str(program), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    if isinstance(program, bytes):
        return hashlib.sha256(program).digest()
    return program if isinstance(program, str) else None
