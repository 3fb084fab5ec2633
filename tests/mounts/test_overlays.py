"""`Mount(source, overlay=...)`: what can have an overlay, and what is refused in one line."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import Changes, LocalBackend, MemoryBackend, Mount

from ..storage.http_server import HttpServer
from ..wat_programs import OPEN, program

WRITES = program(f"{OPEN} (call $say (i32.load (i32.const 64)))")  # into the file "s" of the first mount


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f").write_text("x")
    (tmp_path / "f.txt").write_text("one file")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("f", "x")
    return tmp_path


def run(mount: Any, name: str = "/d", **more: Any) -> vfswasi.Result[Any]:
    return vfswasi.run(WRITES, preopens={name: mount, **more})


def fsspec_memory() -> Any:
    store = fsspec.filesystem("memory")
    store.pipe("/overlaid/f", b"x")
    return store


KINDS: dict[str, Callable[[Path], Mount]] = {
    "a directory": lambda place: Mount(place / "in", overlay=True),
    "a directory as text": lambda place: Mount(str(place / "in"), overlay=True),
    "a part of one": lambda place: Mount(place, root="in", overlay=True),
    "with rw": lambda place: Mount(place / "in", overlay=True, rw=True),
    "a backend": lambda place: Mount(LocalBackend(place / "in"), overlay=True),
    "an archive": lambda place: Mount(place / "a.zip", overlay=True),
    "an archive as URL": lambda place: Mount(f"zip://*::{place}/a.zip", overlay=True),
    "a store of fsspec": lambda _: Mount(fsspec_memory(), root="/overlaid", overlay=True),
    "memory": lambda _: Mount(MemoryBackend({"f": "x"}), overlay=True),
    "a tree": lambda _: Mount({"f": "x"}, overlay=True),
    "mem:": lambda _: Mount("mem:", overlay=True),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_whatever_can_be_mounted_can_have_an_overlay(place: Path, make: Callable[[Path], Mount]) -> None:
    mount = make(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for _ in range(2):  # each run begins anew
        changes = run(mount).changes["/d"]
        assert str(changes) == "A s"
        assert changes.read_bytes("s") == b"so fa"
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    nothing = vfswasi.run(program(""), preopens={"/d": Mount(mount.source, root=mount.root, overlay=changes)})
    assert nothing.changes["/d"] == changes


ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "to be read": ({"overlay": True, "rw": False}, ValueError, "with an overlay the guest can write"),
    "apply alone": ({"apply": "success"}, ValueError, r'apply="success"\) needs overlay=True'),
    "apply always": ({"overlay": True, "apply": "always"}, ValueError, 'must be "success" or None'),
    "apply true": ({"overlay": True, "apply": True}, ValueError, 'must be "success" or None'),
    "a text": ({"overlay": "yes"}, TypeError, "must be True, False or Changes, not 'yes'"),
    "nothing": ({"overlay": None}, TypeError, "must be True, False or Changes, not None"),
    "a path of saved changes": ({"overlay": Path("x")}, TypeError, "must be True, False or Changes"),
    "changes of all mounts": ({"overlay": {"/d": Changes(())}}, TypeError, "must be True, False or Changes"),
    "a single file": ({"overlay": True, "file": True}, ValueError, "an overlay is of a directory"),
}


@pytest.mark.parametrize(("given", "kind", "told"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments_that_cannot_be_meant(given: dict[str, Any], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told) as raised:
        Mount("x", **given)
    assert "\n" not in str(raised.value)


SOURCES: dict[str, tuple[str, Callable[[Path], Mount], str]] = {
    "devices": ("/dev", lambda _: Mount("dev:", overlay=True), "devices have nothing that could be changed and kept"),
    "a file": ("/d/f.txt", lambda place: Mount(place / "f.txt", overlay=True), "mount the file's directory"),
    "a file as a directory": ("/d", lambda place: Mount(place / "f.txt", overlay=True), "is a file, neither"),
    "nothing there": ("/d", lambda place: Mount(place / "none", overlay=True), "does not exist"),
    "no archive": ("/d", lambda place: Mount(place / "new.zip", overlay=True), "does not exist"),
    "no archive to apply to": (
        "/d",
        lambda place: Mount(place / "new.zip", overlay=True, apply="success"),
        "not exist",
    ),
    "a tree to apply to": ("/d", lambda _: Mount({}, overlay=True, apply="success"), "is made anew for each run"),
    "changes of something else": (
        "/d",
        lambda place: Mount(place / "in", overlay=run(Mount({"s": "other"}, overlay=True)).changes["/d"]),
        "the changes cannot be made on",
    ),
}


@pytest.mark.parametrize(("name", "make", "told"), SOURCES.values(), ids=SOURCES.keys())
def test_sources_that_cannot_have_one(place: Path, name: str, make: Callable[[Path], Mount], told: str) -> None:
    before = sorted(os.listdir(place))
    with pytest.raises(vfswasi.MountError, match=told) as raised:
        run(make(place), name)
    assert str(raised.value).startswith(f"mount {name!r}: ")
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(place)) == before


def test_what_can_only_be_read_has_an_overlay_but_changes_are_not_applied_to_it(place: Path) -> None:
    with HttpServer({"f": b"x"}) as server:
        url = f"{server.endpoint}/"
        assert str(run(Mount(url, overlay=True)).changes["/d"]) == "A s"
        with pytest.raises(vfswasi.MountError, match=r"mount '/d': changes could not be applied: .*; leave out apply"):
            run(Mount(url, overlay=True, apply="success"))


# The same source twice


def test_two_overlays_of_one_source_know_nothing_of_each_other(place: Path) -> None:
    changes = run(Mount(place / "in", overlay=True), **{"/e": Mount(place / "in", overlay=True)}).changes
    assert {name: str(each) for name, each in changes.items()} == {"/d": "A s", "/e": ""}


@pytest.mark.parametrize("other", [{"rw": True}, {"overlay": True, "apply": "success"}], ids=["rw", "applied"])
def test_an_overlay_beside_the_same_directory_that_changes_has_to_be_meant(place: Path, other: dict[str, Any]) -> None:
    plain, changing = Mount(place / "in", overlay=True), Mount(place / "in", **other)
    for first, second in ((plain, changing), (changing, plain), (Mount(place / "in"), changing)):
        with pytest.raises(vfswasi.MountError, match=r"shows the same directories .* overlap=True"):
            run(first, **{"/e": second})
    run(plain, **{"/e": Mount(place / "in", overlap=True, **other)})


def test_of_two_that_are_applied_to_one_directory_the_second_is_told_of_a_conflict(place: Path) -> None:
    both = {name: Mount(place / "in", overlay=True, apply="success") for name in ("/d", "/e")}
    twice = program(
        f"{OPEN} (call $say (i32.load (i32.const 64))) {OPEN.replace('(i32.const 3)', '(i32.const 4)', 1)} "
        "(call $say (i32.load (i32.const 64))) (i32.store (i32.const 4) (i32.const 3)) "
        "(call $say (i32.load (i32.const 64)))"
    )
    with pytest.raises(vfswasi.UncommittedError, match="could not be stored: /e") as raised:
        vfswasi.run(twice, preopens=both)
    assert raised.value.result.changes["/e"].read_bytes("s") == b"so faso "
    assert (place / "in" / "s").read_text() == "so fa"


# Where compiled modules lie


def test_an_overlay_of_the_cache_is_harmless_and_applying_to_it_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "cache").mkdir()
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(place / "cache"))
    for directory in (place, place / "cache"):
        assert str(run(Mount(directory, overlay=True)).changes["/d"]) == "A s"
        with pytest.raises(vfswasi.MountError, match="could change what vfswasi runs or trusts"):
            run(Mount(directory, overlay=True, apply="success"))


# How they are shown


def test_a_mount_and_a_sandbox_say_that_there_is_an_overlay(place: Path) -> None:
    mount = Mount(place / "in", overlay=True, apply="success")
    assert repr(mount) == f"Mount({str(place / 'in')!r}, overlay=True, apply='success')"
    changes = run(Mount(place / "in", overlay=True)).changes["/d"]
    assert repr(Mount("in", overlay=changes)).startswith("Mount('in', overlay=<Changes to ")
    with vfswasi.Sandbox(WRITES, preopens={"/d": mount, "/r": {}}) as sandbox:
        assert repr(sandbox) == "<Sandbox of 'module.wasm': '/d' (overlay), '/r'>"
        assert "<td>overlay</td>" in sandbox._repr_html_()
