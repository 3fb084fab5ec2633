"""Snapshots, written: each takes its place when it is whole."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from vfswasi import Symlink

from .trees import EMPTY, KEEPER, FromDisk, Table, name_on_disk

_BESIDE: Final = ".wasm_snapshot-"
_ATTEMPTS: Final = 10
# git must leave snapshots as they are: line ends would differ elsewhere, and what is ignored would be missing there.
_FOR_GIT: Final = {
    ".gitattributes": "# Snapshots of wasm_snapshot: their line ends stay as they are.\n* -text\n",
    ".gitignore": f"# Nothing of a snapshot is left out, whatever its name is.\n!*\n{_BESIDE}*\n",
}


def store(root: Path, place: Path, value: bytes | Table) -> None:
    """Write a snapshot: a file, or a directory. root: the directory of all snapshots of these tests. What lies at the
    place is replaced; if it is a link, itself. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for name, text in _FOR_GIT.items():
        try:
            with open(root / name, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            pass
    beside = Path(tempfile.mkdtemp(prefix=_BESIDE, dir=place.parent))
    try:
        new = beside / "new"
        if isinstance(value, bytes):
            _write(new, value, _mode(place))
        else:
            is_directory = not place.is_symlink() and place.is_dir()
            _fill(new, value, FromDisk(place, escaped=True).modes() if is_directory else {})
        _replace(place, new, beside / "old")
    finally:
        shutil.rmtree(beside)


def _mode(place: Path) -> int | None:
    try:
        status = os.lstat(place)
    except FileNotFoundError:
        return None
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def _write(path: Path, contents: bytes, mode: int | None) -> None:
    with open(path, "xb") as file:
        file.write(contents)
        if mode is not None:
            os.fchmod(file.fileno(), mode)


def _fill(top: Path, table: Table, modes: dict[str, int]) -> None:
    """Nothing can lie behind a link: a path has either a link, or something below it."""
    top.mkdir()
    for path, node in table.items():
        here = top.joinpath(*map(name_on_disk, path.split("/")))
        (here if node is EMPTY else here.parent).mkdir(parents=True, exist_ok=True)
        if node is EMPTY:
            (here / KEEPER).touch()
        elif isinstance(node, Symlink):
            here.symlink_to(node.target)
        else:
            _write(here, node, modes.get(path))
    if not table:
        (top / KEEPER).touch()


def _replace(place: Path, new: Path, old: Path) -> None:
    """A directory cannot take the place of what is no empty one, so what is there goes aside first."""
    if not new.is_dir() and (place.is_symlink() or not place.is_dir()):
        os.replace(new, place)
        return
    for attempt in range(_ATTEMPTS):
        aside = old.with_name(f"{old.name}{attempt}")
        try:
            os.rename(place, aside)
        except FileNotFoundError:
            pass
        try:
            os.rename(new, place)
            return
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                continue  # another process has put its own there meanwhile
            if os.path.lexists(aside):
                os.rename(aside, place)
            raise
    raise FileExistsError(errno.EEXIST, "another process writes the same snapshot", str(place))
