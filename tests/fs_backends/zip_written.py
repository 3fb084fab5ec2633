"""Zip archives written through the backend: ways to fill them and to look at what came out."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import noise
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.memory.backend import Symlink
from vfswasi.testing.ground import errno_of


def fill(backend: Backend, literal: dict[str, Any], where: tuple[str, ...] = ()) -> None:
    for name, value in literal.items():
        key = (*where, name)
        if isinstance(value, dict):
            backend.mkdir(key)
            fill(backend, value, key)
        elif isinstance(value, Symlink):
            backend.symlink(value.target, key)
        else:
            put(backend, key, value)


def put(backend: Backend, key: tuple[str, ...], data: bytes) -> None:
    """Make a file, or write it anew."""
    if errno_of(backend.stat, key) is Errno.NOENT:
        handle = backend.create(key)
    else:
        handle = backend.open(key, True)
        handle.truncate(0)
    handle.write_from(0, data)
    handle.close()


def check(path: Path, expected: dict[str, object]) -> None:
    """Everybody reads the same in it."""
    reader = ZipBackend(path)
    assert tree(reader) == expected
    reader.close()
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert len(set(file.namelist())) == len(file.namelist())
    assert (
        subprocess.run([sys.executable, "-m", "zipfile", "-t", path], capture_output=True, check=True).returncode == 0
    )


def only(path: Path) -> None:
    """Nothing is beside the archive."""
    assert os.listdir(path.parent) == [path.name]


OLD = {"keep": noise(50_000), "change": b"change" * 100, "gone": b"gone", "d/in": b"in", "d/e/deep": b"deep"}
