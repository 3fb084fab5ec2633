"""`Result.changes` of mounts that a run changes where they are: literal trees, memory, and all kinds of rw stores."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import fs.memoryfs

import vfswasi
from vfswasi import MemoryBackend, Mount

from ..guest_programs import compile_guest

EDIT = compile_guest("edit")


def edited(source: Any, *words: str, **options: Any) -> vfswasi.Result:
    result: vfswasi.Result = vfswasi.run(
        EDIT, list(words), preopens={"/d": source}, capture_output=True, text=True, timeout=60, **options
    )
    assert result.returncode == 0, result.stdout
    return result


def told(result: vfswasi.Result, name: str = "/d") -> list[str]:
    """Of each change its kind and path, with the old one where it is another."""
    return [
        f"{entry.kind} {entry.path}" + (f" from {entry.old_path}" if entry.old_path else "")
        for entry in result.changes[name].entries
    ]


def new_contents(result: vfswasi.Result, path: str, name: str = "/d") -> bytes:
    (entry,) = (entry for entry in result.changes[name].entries if entry.path == path and entry.content is not None)
    return read(entry.content)


def read(content: Any) -> bytes:
    handle = content.open()
    data = bytearray(content.size)
    count = handle.read_into(0, data)
    handle.close()
    return bytes(data[:count])


WORDS = """new /d/n new write /d/a/f longer patch /d/g X open /d/h rm /d/gone mkdir /d/made new /d/made/x x
 mv /d/moved /d/went new /d/t t rm /d/t""".split()
TREE: dict[str, Any] = {
    "a": {"f": b"old"},
    "g": b"g",
    "h": b"h",
    "gone": b"gone",
    "moved": {"file": b"file"},
}
TOLD = [
    "modified a/f",
    "modified g",
    "removed gone",
    "added made",
    "added made/x",
    "added n",
    "renamed went from moved",
]


def check(result: vfswasi.Result) -> None:
    assert told(result) == TOLD
    assert [new_contents(result, path) for path in ("a/f", "g", "made/x", "n")] == [b"longer", b"X", b"x", b"new"]
    by_path = {entry.path: entry for entry in result.changes["/d"].entries}
    assert by_path["a/f"].was.size == 3
    assert by_path["gone"].was.size == 4
    assert by_path["n"].size == 3


def put(directory: Path, tree: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, value in tree.items():
        if isinstance(value, dict):
            put(directory / name, value)
        else:
            (directory / name).write_bytes(value)
            os.utime(directory / name, (1_000_000_000, 1_000_000_000))
    return directory


def test_of_a_literal_tree() -> None:
    check(edited(TREE, *WORDS))


def test_of_a_store_in_memory() -> None:
    check(edited(MemoryBackend(TREE), *WORDS))


def test_of_a_local_directory(tmp_path: Path) -> None:
    check(edited(Mount(put(tmp_path / "d", TREE), rw=True), *WORDS))


def test_of_a_zip_archive(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted((tmp_path / "d").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "d"))
    check(edited(Mount(tmp_path / "x.zip", rw=True), *WORDS))


def test_of_a_pyfilesystem() -> None:
    store = fs.memoryfs.MemoryFS()
    for name in "a", "moved":
        store.makedir(name)
    for name, data in {"a/f": b"old", "g": b"g", "h": b"h", "gone": b"gone", "moved/file": b"file"}.items():
        store.writebytes(name, data)
    result = edited(Mount(store, rw=True), *WORDS)
    # The store counts time so that nothing tells whether a file that is only opened was written to.
    assert [line for line in told(result) if line != "modified h"] == TOLD
