"""The files that a run left in memory: asked by path, and saved."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import vfswasi
from vfswasi import File, MemoryBackend, Result, Symlink, TarBackend, ZipBackend

TREE = {
    "report.txt": File(b"text", mtime=1_000_000_000.5),
    "sub": {"deep": {"x": b"1"}, "empty": {}, "up": Symlink("../report.txt"), "out": Symlink("../../etc")},
    "link": Symlink("sub/deep"),
    "loop": Symlink("loop"),
    "nowhere": Symlink("none"),
    "absolute": Symlink("/out/report.txt"),
}


def result_of(**trees: Any) -> Result[Any]:
    return Result(["p"], 0, _trees={name.replace("_", "/"): MemoryBackend(tree) for name, tree in trees.items()})


def out() -> Result[Any]:
    return result_of(_out=TREE)


# By path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/out/report.txt", b"text"),
        ("/out/sub/deep/x", b"1"),
        ("/out/sub/deep", {"x": b"1"}),
        ("/out//sub/./deep/x", b"1"),
        ("/out/", None),
        ("/out/link/x", b"1"),
        ("/out/link", {"x": b"1"}),
        ("/out/sub/up", b"text"),
        (PurePosixPath("/out/report.txt"), b"text"),
    ],
)
def test_a_path_of_the_guests_gives_what_is_there(path: Any, found: Any) -> None:
    files = out().files
    assert files[path] == (files["/out"] if found is None else found)
    assert path in files
    assert files.get(path) == files[path]


def test_where_there_is_a_root_relative_paths_begin_there() -> None:
    def files(**trees: Any) -> Any:
        return result_of(**trees).files

    both = files(_={"a": {"b": b"x"}, "out": b""}, _out={"c": b"y"})
    assert both["a/b"] == both["./a/b"] == both["/a/b"] == b"x"
    assert both["out/c"] == b"y"
    assert "nothing" not in both
    dotted = files(**{"_": {"a": b"x"}, ".": {"a": b"y"}})
    assert (dotted["a"], dotted["/a"]) == (b"y", b"x")


@pytest.mark.parametrize(
    "path",
    [
        "/out/none",
        "/out/report.txt/x",
        "/ou",
        "/outside",
        "out/report.txt",
        "/",
        "",
        "/out/loop",
        "/out/nowhere",
        "/out/absolute",
        "/out/sub/out/passwd",
        "/out/../out/../../x",
        "/out/../etc",
        7,
        None,
        b"/out",
        ("a",),
    ],
)
def test_what_is_not_there_is_a_key_error(path: Any) -> None:
    files = out().files
    with pytest.raises(KeyError):
        files[path]
    assert path not in files
    assert files.get(path, "default") == "default"


def test_the_nested_ones_are_dicts_as_before() -> None:
    files = result_of(_a={"x": b"1", "l": Symlink("x")}, _b={}).files
    assert files == {"/a": {"x": b"1", "l": Symlink("x")}, "/b": {}}
    assert list(files) == ["/a", "/b"]
    assert len(files) == 2
    assert type(files["/a"]) is dict
    assert isinstance(files, dict)
    assert pickle.loads(pickle.dumps(files)) == copy.deepcopy(files) == files
    assert pickle.loads(pickle.dumps(files))["/a/x"] == b"1"


def test_of_directories_in_each_other_the_nearest_counts() -> None:
    files = Result(
        ["p"], 0, _trees={name: MemoryBackend({"f": name.encode()}) for name in ("/", "/out", "/out/in", "data", ".")}
    ).files
    for path, found in [
        ("/f", b"/"),
        ("/out/f", b"/out"),
        ("/out/in/f", b"/out/in"),
        ("data/f", b"data"),
        ("./data/f", b"data"),
        ("f", b"."),
    ]:
        assert files[path] == found


def test_of_a_run_and_of_a_session() -> None:
    program = '(module (memory (export "memory") 1) (func (export "_start")))'
    result = vfswasi.run(program.encode(), preopens={"/out": {"sub": {"x": b"1"}}})
    assert result.files["/out/sub/x"] == result.files["/out"]["sub"]["x"] == b"1"
    with (
        vfswasi.Sandbox(program.encode(), preopens={"/out": {"x": b"1"}}) as sandbox,
        sandbox.session(command=True) as session,
    ):
        assert session.files["/out/x"] == b"1"


# Saved


def tree_at(path: Path) -> dict[str, Any]:
    return {
        str(each.relative_to(path)): f"-> {each.readlink()}"
        if each.is_symlink()
        else None
        if each.is_dir()
        else each.read_bytes()
        for each in sorted(path.rglob("*"))
    }


SAVED = {
    "out": None,
    "out/absolute": "-> /out/report.txt",
    "out/link": "-> sub/deep",
    "out/loop": "-> loop",
    "out/nowhere": "-> none",
    "out/report.txt": b"text",
    "out/sub": None,
    "out/sub/deep": None,
    "out/sub/deep/x": b"1",
    "out/sub/empty": None,
    "out/sub/out": "-> ../../etc",
    "out/sub/up": "-> ../report.txt",
}


@pytest.mark.parametrize("target", ["new", "new/deeper/", "there", "looks.like.zip/"])
def test_to_a_directory_new_or_not(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "other").write_bytes(b"stays")
    out().save(f"{tmp_path}/{target}")
    found = tree_at(tmp_path / target)
    assert found.pop("other", b"stays") == b"stays"
    assert found == SAVED
    assert (tmp_path / target / "out/report.txt").stat().st_mtime_ns == 1_000_000_000_500_000_000
    assert stat.S_IMODE((tmp_path / target / "out/report.txt").stat().st_mode) == 0o600


def test_several_directories_keep_their_names(tmp_path: Path) -> None:
    trees = {"/": {"a": b"1"}, "/x/y": {"b": b"2"}, "data": {"c": b"3"}, "../up": {"d": b"4"}, "/x": {"e": b"5"}}
    Result(["p"], 0, _trees={name: MemoryBackend(tree) for name, tree in trees.items()}).save(tmp_path)
    found = {path: data for path, data in tree_at(tmp_path).items() if data is not None}
    assert found == {"a": b"1", "x/y/b": b"2", "data/c": b"3", "up/d": b"4", "x/e": b"5"}


def test_two_files_of_one_name_are_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    trees = {"/a": {"b": b"1"}, "a/b": {"c": b"2"}}
    with pytest.raises(ValueError, match="two of the guest's directories have 'a/b'"):
        Result(["p"], 0, _trees={name: MemoryBackend(tree) for name, tree in trees.items()}).save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_would_be_overwritten_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    out().save(tmp_path)
    (tmp_path / "out" / "report.txt").write_bytes(b"mine")
    (tmp_path / "out" / "sub" / "deep" / "x").unlink()
    before = tree_at(tmp_path)
    with pytest.raises(FileExistsError, match=r"out/report\.txt.*overwrite=True"):
        out().save(tmp_path)
    assert tree_at(tmp_path) == before
    out().save(tmp_path, overwrite=True)
    assert tree_at(tmp_path) == SAVED


def test_no_link_in_the_target_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    target = tmp_path / "target"
    (target / "out").mkdir(parents=True)
    (target / "out" / "report.txt").symlink_to(outside / "file")
    (target / "out" / "link").symlink_to(outside)
    out().save(target, overwrite=True)
    assert tree_at(target) == SAVED
    (target / "out" / "sub" / "deep" / "x").unlink()
    (target / "out" / "sub" / "deep").rmdir()
    (target / "out" / "sub" / "deep").symlink_to(outside)
    for overwrite in (False, True):
        with pytest.raises(NotADirectoryError, match="out/sub/deep is there and no directory"):
            out().save(target, overwrite=overwrite)
    assert tree_at(outside) == {"file": b"precious"}


def test_a_second_name_of_a_file_that_is_replaced_keeps_its_contents(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", tmp_path / "out" / "report.txt")
    out().save(tmp_path, overwrite=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_directories_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out" / "report.txt").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"out/report\.txt is a directory there"):
        out().save(tmp_path, overwrite=True)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        out().save(tmp_path / "file", overwrite=True)


def shown(backend: ZipBackend | TarBackend, key: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, filetype, _ in backend.list(key):
        path = "/".join((*key, name))
        if filetype.name == "DIRECTORY":
            found[path] = None
            found |= shown(backend, (*key, name))
        elif filetype.name == "SYMBOLIC_LINK":
            found[path] = f"-> {backend.readlink((*key, name))}"
        else:
            handle = backend.open((*key, name), False)
            data = bytearray(handle.size())
            handle.read_into(0, data)
            handle.close()
            found[path] = bytes(data)
    return found


ENDINGS = ["zip", "ZIP", "tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz"]


@pytest.mark.parametrize("name", [f"o.{ending}" for ending in ENDINGS])
def test_to_an_archive_that_its_name_says(tmp_path: Path, name: str) -> None:
    out().save(tmp_path / name)
    kind = ZipBackend if name.lower().endswith("zip") else TarBackend
    backend = kind(tmp_path / name)
    assert shown(backend) == SAVED
    mtime = backend.stat(("out", "report.txt")).mtim_ns
    assert mtime is not None
    assert mtime // 10**9 == 1_000_000_000
    backend.close()
    before = (tmp_path / name).read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result_of(_other={"x": b""}).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    result_of(_other={"x": b""}).save(tmp_path / name, overwrite=True)
    backend = kind(tmp_path / name)
    assert shown(backend) == {"other": None, "other/x": b""}
    backend.close()
    assert os.listdir(tmp_path) == [name]


def test_large_files_come_whole(tmp_path: Path) -> None:
    data = os.urandom(3_500_000)
    for name in ("d", "d.zip", "d.tar.gz"):
        result_of(_o={"x": data}).save(tmp_path / name)
    assert (tmp_path / "d/o/x").read_bytes() == data
    for backend in (ZipBackend(tmp_path / "d.zip"), TarBackend(tmp_path / "d.tar.gz")):
        assert shown(backend)["o/x"] == data
        backend.close()


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="such an archive cannot be written"):
        out().save(tmp_path / "o.tar.zst")
    with pytest.raises(FileNotFoundError):
        out().save(tmp_path / "none" / "o.zip")
    with pytest.raises(TypeError):
        out().save(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        out().save(b"x")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_run_without_trees_saves_nothing(tmp_path: Path) -> None:
    Result(["p"], 0).save(tmp_path / "d")
    assert os.listdir(tmp_path / "d") == []
    Result(["p"], 0).save(tmp_path / "d.zip")
    assert ZipBackend(tmp_path / "d.zip").list(()) == ()
