"""One file as a mount: a directory of the guest that has it, and nothing else."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import vfswasi
from vfswasi import Mount, MountError
from vfswasi.cli import main
from vfswasi.errors import Errno, FsError
from vfswasi.fs_backends.base import Backend, Caps, FileType
from vfswasi.fs_backends.layers.picked import Picked
from vfswasi.limits import Limits
from vfswasi.mounts.table import MountTable

from ..guest_programs import compile_guest


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "x.csv").write_bytes(b"12345")
    (tmp_path / "y.csv").write_bytes(b"123")
    (tmp_path / "other").write_bytes(b"secret")
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("d/f", b"1234567")
        archive.writestr("top", b"1")
    return tmp_path


def run(guest: str, args: list[str], preopens: dict[str, Any]) -> vfswasi.Result:
    return vfswasi.run(compile_guest(guest), args, preopens=preopens, capture_output=True, text=True)


def listed(preopens: dict[str, Any], directory: str = "/data") -> str:
    done = run("liststat", [directory], preopens)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("spell", [str, Path, lambda path: f"file://{path}", lambda path: Mount(str(path))])
def test_a_file_is_alone_in_its_directory(spell: Any, place: Path) -> None:
    preopens = {"/data/sub/x.csv": spell(place / "x.csv")}
    assert listed(preopens, "/data/sub") == "1 entries, 5 bytes\n"
    assert run("seqread", ["/data/sub/x.csv", "64"], preopens).stdout.startswith("5 ")


def test_the_guests_name_is_its_own(place: Path) -> None:
    assert run("seqread", ["/data/input", "64"], {"/data/input": place / "x.csv"}).stdout.startswith("5 ")


def test_files_that_are_mounted_in_one_directory_are_together(place: Path) -> None:
    preopens = {"/data/x.csv": place / "x.csv", "/etc/y": place / "y.csv", "/data/z": place / "y.csv"}
    assert listed(preopens) == "2 entries, 8 bytes\n"
    assert listed(preopens, "/etc") == "1 entries, 3 bytes\n"


def test_a_directory_below_may_be_mounted_too(place: Path) -> None:
    preopens = {"/data/x.csv": place / "x.csv", "/data/more": {"f": b"12"}}
    assert listed(preopens, "/data/more") == "1 entries, 2 bytes\n"
    assert listed(preopens) == "1 entries, 5 bytes\n"


@pytest.mark.parametrize("first", [True, False])
def test_the_directory_of_a_file_is_not_mounted_otherwise(first: bool, place: Path) -> None:
    both: dict[str, Any] = {"/data/x.csv": place / "x.csv", "/data": {}}
    with pytest.raises(MountError, match="single files are mounted has nothing else"):
        run("hello", [], both if first else dict(reversed(both.items())))
    with pytest.raises(MountError, match="given twice"):
        run("hello", [], {"/data/x.csv": place / "x.csv", "/data/x.csv/": place / "y.csv"})


def test_a_file_is_read_only_unless_rw(place: Path) -> None:
    assert "Read-only" in run("seqwrite", ["/d/x.csv", "9"], {"/d/x.csv": place / "x.csv"}).stderr
    preopens = {"/d/x.csv": Mount(place / "x.csv", rw=True), "/d/y.csv": place / "y.csv"}
    assert run("seqwrite", ["/d/x.csv", "9"], preopens).returncode == 0
    assert (place / "x.csv").stat().st_size == 9
    assert "Read-only" in run("seqwrite", ["/d/y.csv", "9"], preopens).stderr
    assert (place / "y.csv").stat().st_size == 3


def test_nothing_is_made_beside_a_file(place: Path) -> None:
    before = sorted(place.iterdir())
    done = run("seqwrite", ["/d/new", "9"], {"/d/x.csv": Mount(place / "x.csv", rw=True)})
    assert (done.returncode, "Read-only" in done.stderr) == (1, True)
    assert sorted(place.iterdir()) == before


def picked(preopens: dict[str, Any]) -> Iterator[Backend]:
    table = MountTable(preopens)
    try:
        for preopen in table.instantiate(Limits()):
            yield preopen.backend
    finally:
        table.close()


CHANGES = {
    "create": lambda store: store.create(("new",)),
    "mkdir": lambda store: store.mkdir(("new",)),
    "remove": lambda store: store.remove(("x",)),
    "rmdir": lambda store: store.rmdir(("x",)),
    "rename": lambda store: store.rename(("x",), ("new",)),
    "rename over": lambda store: store.rename(("x",), ("y",)),
    "link": lambda store: store.link(("x",), ("new",)),
    "symlink": lambda store: store.symlink("x", ("new",)),
    "times of the directory": lambda store: store.set_times((), 1, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_names_are_the_hosts(change: str, place: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    files = {"/d/x": Mount(place / "x.csv", rw=True), "/d/y": Mount(place / "y.csv", rw=True)}
    for store in picked(files):
        assert Caps.WRITE in store.caps
        with pytest.raises(FsError) as caught:
            CHANGES[change](store)
        assert caught.value.errno in (Errno.ROFS, Errno.NOTSUP)
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_what_lies_beside_it_on_the_host_cannot_be_named(place: Path) -> None:
    for store in picked({"/d/x.csv": place / "x.csv"}):
        for key, errno in ((("other",), Errno.NOENT), (("y.csv",), Errno.NOENT), (("x.csv", "a"), Errno.NOTDIR)):
            for call in (store.stat, lambda key, store=store: store.open(key, False), store.list):
                with pytest.raises(FsError) as caught:
                    call(key)
                assert caught.value.errno is errno


def test_a_file_that_is_replaced_is_the_new_one_and_anything_else_is_not_shown(place: Path) -> None:
    for store in picked({"/d/x.csv": place / "x.csv"}):
        assert store.stat(("x.csv",)).size == 5
        os.replace(place / "y.csv", place / "x.csv")
        assert store.stat(("x.csv",)).size == 3
        (place / "x.csv").unlink()
        (place / "x.csv").symlink_to("other")
        assert list(store.list(())) == []
        for call in (store.stat, lambda key, store=store: store.open(key, False)):
            with pytest.raises(FsError) as caught:
                call(("x.csv",))
            assert caught.value.errno is Errno.NOENT
        (place / "x.csv").unlink()
        (place / "x.csv").mkdir()
        assert list(store.list(())) == []


def test_a_link_that_the_caller_names_is_followed_once(place: Path) -> None:
    (place / "link").symlink_to("x.csv")
    assert run("seqread", ["/d/l", "64"], {"/d/l": place / "link"}).stdout.startswith("5 ")


# What is a file


def test_an_archive_is_a_file_where_that_is_said(place: Path) -> None:
    size = (place / "a.zip").stat().st_size
    assert listed({"/data/a.zip": place / "a.zip"}, "/data/a.zip") == "2 entries, 1 bytes\n"
    assert listed({"/data/a.zip": Mount(place / "a.zip", file=True)}) == f"1 entries, {size} bytes\n"


@pytest.mark.parametrize("name", ["/d", "d", "./d"])
def test_a_file_in_the_place_of_a_directory_is_told(name: str, place: Path) -> None:
    with pytest.raises(MountError, match=r"neither a directory nor a zip or tar archive; .*such as /data/x\.csv"):
        run("hello", [], {name: place / "x.csv"})


def test_the_root_of_the_guest_may_have_a_file_where_that_is_said(place: Path) -> None:
    assert listed({"/x": Mount(place / "x.csv", file=True)}, "/") == "1 entries, 5 bytes\n"


@pytest.mark.parametrize("rw", [None, True])
@pytest.mark.parametrize("name", ["broken.zip", "broken.tar.gz", "broken.tgz"])
def test_a_broken_archive_is_no_file(name: str, rw: bool | None, place: Path) -> None:
    (place / name).write_bytes(b"nothing like it")
    with pytest.raises(MountError, match="broken"):
        run("hello", [], {f"/data/{name}": Mount(place / name, rw=rw)})


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount("nowhere", file=True), "does not exist; create the file"),
        (Mount("out", file=True), "is not a file"),
        (Mount("x.csv", file=True, root="a"), "root='a' does not apply"),
        (Mount("", file=True), "the source is empty"),
        (Mount(fsspec.filesystem("memory"), file=True), "takes a path or a URL, not MemoryFileSystem"),
        (Mount("zip://a.zip", file=True), "write zip://name/in/it::"),
        (Mount("zip://nothing::a.zip", file=True), "does not exist"),
        (Mount("zip://d::a.zip", file=True), "is not a file"),
        (Mount("zip://*::a.zip", file=True), "ends with the name of a file"),
        (Mount("memory://", file=True), "ends with the name of a file"),
        (Mount("zip://d/f::a.zip", file=True, rw=True), "can only be"),
    ],
)
def test_what_cannot_be_mounted_as_a_file(
    mount: Mount, message: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(MountError, match=message):
        run("hello", [], {"/data/x": mount})


def test_the_option_is_a_bool() -> None:
    with pytest.raises(TypeError, match="file"):
        Mount("x", file="yes")  # type: ignore[arg-type]


# Other stores


def test_a_member_of_an_archive(place: Path) -> None:
    preopens = {
        "/d/f": Mount(f"zip://d/f::{place}/a.zip", file=True),
        "/d/t": Mount(f"zip://top::{place}/a.zip", file=True),
    }
    assert listed(preopens, "/d") == "2 entries, 8 bytes\n"
    assert run("seqread", ["/d/f", "64"], preopens).stdout.startswith("7 ")


def test_an_object_of_a_store_far_away(place: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/single/dir/x.csv", b"12345")
    store.pipe_file("/single/dir/beside", b"1")
    try:
        preopens = {"/d/x": Mount("memory://single/dir/x.csv", file=True)}
        assert listed(preopens, "/d") == "1 entries, 5 bytes\n"
        with pytest.raises(MountError, match="does not exist"):
            run("hello", [], {"/d/x": Mount("memory://single/dir/none", file=True)})
        done = run("seqwrite", ["/d/x", "9"], {"/d/x": Mount("memory://single/dir/x.csv", file=True, rw=True)})
        assert (done.returncode, store.size("/single/dir/x.csv")) == (0, 9)
        done = run("seqread", ["/d/x", "64"], preopens)
        assert "/d" in done.traffic
    finally:
        store.rm("/single", recursive=True)


# Walls


def test_a_file_that_is_written_and_the_directory_around_it_overlap(place: Path) -> None:
    for files, other in (
        ({"/d/x": Mount(place / "x.csv", rw=True)}, {"/o": place}),
        ({"/d/x": place / "x.csv"}, {"/o": Mount(place, rw=True)}),
        ({"/d/x": place / "x.csv"}, {"/e/x": Mount(place / "x.csv", rw=True)}),
    ):
        for preopens in ({**files, **other}, {**other, **files}):
            with pytest.raises(MountError, match="with other permissions"):
                run("hello", [], preopens)


def test_a_file_and_a_directory_beside_it_do_not(place: Path) -> None:
    preopens = {"/d/x": place / "x.csv", "/o": Mount(place / "out", rw=True), "/e/y": Mount(place / "y.csv", rw=True)}
    assert run("seqwrite", ["/o/new", "9"], preopens).returncode == 0


def test_a_file_that_is_trusted_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    (cache / "x.txt").write_bytes(b"1")
    monkeypatch.setenv("VFSWASI_CACHE_DIR", str(cache))
    with pytest.raises(MountError, match="could change what vfswasi runs or trusts"):
        run("hello", [], {"/d/x": Mount(cache / "x.txt", rw=True)})


def test_everything_is_closed(place: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    run("hello", [], {"/d/x": place / "x.csv"})
    before = descriptors()
    run("hello", [], {"/d/x": place / "x.csv", "/d/y": Mount(place / "y.csv", rw=True)})
    for bad in ({"/d": {}, "/d/x": place / "x.csv"}, {"/d/x": place / "x.csv", "/d/y": Mount(place, file=True)}):
        with pytest.raises(MountError):
            run("hello", [], bad)
    assert descriptors() == before


def test_the_directory_itself_is_one() -> None:
    store = Picked()
    assert store.stat(()).filetype is FileType.DIRECTORY
    with pytest.raises(FsError) as caught:
        store.open((), False)
    assert caught.value.errno is Errno.ISDIR


# The command line


def test_the_command_line_mounts_a_file(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    guest = str(compile_guest("liststat"))
    for words in (
        ["--mount", f"/data/x.csv={place}/x.csv"],
        ["--mount", f"/data/x.csv={place}/x.csv,file"],
        ["-v", f"{place}/x.csv:/data/x.csv"],
        ["--dir", f"{place}/x.csv::/data/x.csv"],
    ):
        assert main([*words, guest, "/data"]) == 0
        assert capfd.readouterr().out == "1 entries, 5 bytes\n"
    assert main(["mounts", f"{place}/a.zip,file"]) == 0
    assert "a.zip  " in capfd.readouterr().out
