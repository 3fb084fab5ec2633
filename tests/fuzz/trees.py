"""The trees that plans find, and trees on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vfswasi import Symlink

SECRET = b"the secret"
TREE: dict[str, Any] = {
    "a": b"content of a",
    "b": bytes(range(256)) * 20,
    "d": {"a": b"below", "e": {"f": b"deep"}, "up": Symlink("../a")},
    "empty": {},
    "l": Symlink("a"),
    "ld": Symlink("d"),
    "dl": Symlink("d/"),
    "fl": Symlink("a/"),
    "dots": Symlink(".."),
    "out": Symlink("../root-evil/secret"),
    "outdir": Symlink("../root-evil"),
    "back": Symlink("d/../../root/a"),
    "loop": Symlink("loop"),
    "double": Symlink("ld/up"),
    "gone": Symlink("nothing"),
    "goneout": Symlink("../root-evil/made"),
}
ABSOLUTE = {"abs": "root-evil/secret", "absdir": "root-evil", "absin": "root/a", "absgone": "root-evil/made"}
DECOYS: dict[str, Any] = {
    "root-evil": {"secret": SECRET, "a": SECRET, "d": {"a": SECRET}},
    "rootbreak": {"secret": SECRET},
    "a": SECRET,
    "d": {"a": SECRET},
    "secret": SECRET,
}


def write_tree(directory: Path, tree: Mapping[str, Any]) -> None:
    directory.mkdir(exist_ok=True)
    for name, value in tree.items():
        if isinstance(value, Mapping):
            write_tree(directory / name, value)
        elif isinstance(value, Symlink):
            (directory / name).symlink_to(value.target)
        else:
            (directory / name).write_bytes(value)


def disk_tree(directory: Path) -> dict[str, Any]:
    """Path -> (mode, links, inode, modification time, contents or target), for everything below and with it."""
    found: dict[str, Any] = {}
    todo: list[str] = [""]
    read: dict[bool, Callable[[str], Any]] = {True: os.readlink, False: _contents}
    while todo:
        below = todo.pop()
        full = f"{directory}/{below}" if below else str(directory)
        status = os.lstat(full)
        kind = status.st_mode & 0o170000
        what = None if kind == 0o040000 else read[kind == 0o120000](full)
        found[below] = (status.st_mode, status.st_nlink, status.st_ino, status.st_mtime_ns, what)
        if kind == 0o040000:
            todo.extend(f"{below}/{name}" if below else name for name in os.listdir(full))
    return found


def _contents(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
