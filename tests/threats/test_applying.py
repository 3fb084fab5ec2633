"""Changes are applied to what was mounted, and to nothing that a program put in its place."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Mount, MountError
from vfswasi.mounts.table import MountTable
from vfswasi.observe.changes import Changes

from ..wat_programs import OPEN, program


def changes_of(mount: Mount, path: str = "new") -> Changes:
    """What a run leaves that makes one file."""
    table = MountTable({"/d": mount})
    (preopen,) = table.instantiate(vfswasi.Limits())
    overlay: Any = preopen.backend
    handle = overlay.create((path,))
    handle.write_from(0, b"evil")
    handle.close()
    changes = Changes(overlay.changes(), overlay.layered)
    overlay.close()
    table.close()
    return changes


def swap(path: Path, victim: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to(victim)


@pytest.mark.parametrize("root", ["", "below"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_link_in_the_place_of_a_directory_is_not_followed(tmp_path: Path, root: str, whole: bool) -> None:
    (tmp_path / "work" / "below").mkdir(parents=True)
    (tmp_path / "victim" / "below").mkdir(parents=True)
    changes = changes_of(Mount(tmp_path / "work", overlay=True, root=root))
    if whole or not root:
        swap(tmp_path / "work", tmp_path / "victim")
    else:
        swap(tmp_path / "work" / "below", tmp_path / "victim" / "below")
    with pytest.raises(MountError):
        changes.apply()
    assert not [name for _, _, names in os.walk(tmp_path / "victim") for name in names]


@pytest.mark.parametrize("victim_is", ["zip", "directory"])
def test_a_link_in_the_place_of_an_archive_is_not_followed(tmp_path: Path, victim_is: str) -> None:
    for name in ("a.zip", "victim.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("old", name)
    (tmp_path / "victim").mkdir()
    victim = tmp_path / ("victim.zip" if victim_is == "zip" else "victim")
    before = (tmp_path / "victim.zip").read_bytes()
    changes = changes_of(Mount(tmp_path / "a.zip", overlay=True))
    swap(tmp_path / "a.zip", victim)
    with pytest.raises(MountError, match="not what was mounted"):
        changes.apply()
    assert (tmp_path / "victim.zip").read_bytes() == before
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("isolation", [None, "process"])
def test_what_a_run_swaps_is_not_where_its_changes_go(tmp_path: Path, isolation: Any) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "victim").mkdir()
    mount = Mount(tmp_path / "work", overlay=True, apply="success")
    wasm = program(f"{OPEN} (call $say (i32.load (i32.const 64)))")
    with vfswasi.Sandbox(wasm, preopens={"/d": mount}, isolation=isolation) as sandbox:
        swap(tmp_path / "work", tmp_path / "victim")
        with pytest.raises(vfswasi.UncommittedError, match="not what was mounted"):
            sandbox.run()
    assert not list((tmp_path / "victim").iterdir())
    assert not list((tmp_path / "aside").iterdir())


def test_contents_that_lie_partly_in_the_base_outlive_its_change(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    old = bytes(range(256)) * (3 << 12)
    (tmp_path / "work" / "big").write_bytes(old)
    table = MountTable({"/d": Mount(tmp_path / "work", overlay=True)})
    (preopen,) = table.instantiate(vfswasi.Limits())
    overlay: Any = preopen.backend
    handle = overlay.open(("big",), True)
    handle.write_from(5, b"new")
    handle.close()
    changes = Changes(overlay.changes(), overlay.layered)
    overlay.close()
    changes.apply()
    expected = old[:5] + b"new" + old[8:]
    assert (tmp_path / "work" / "big").read_bytes() == expected
    assert changes.read_bytes("big") == expected
    changes.save(tmp_path / "saved")
    assert Changes.load(tmp_path / "saved").read_bytes("big") == expected
    table.close()
