"""`Result.changes` of mounts that a run changes where they are: literal trees, memory, and all kinds of rw stores."""

from __future__ import annotations

import os
import pickle
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import fs.memoryfs
import pytest

import vfswasi
from vfswasi import MemoryBackend, Mount
from vfswasi.errors import Errno, MountError
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.testing.ground import contents, errno_of

from ..fs_backends.overlay.test_model import Layer, tree_of
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
    time.sleep(0.05)  # what was written a moment before it was opened is taken for changed
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


def test_of_a_single_file(tmp_path: Path) -> None:
    put(tmp_path, {"x": b"old", "y": b"other"})
    preopens = {"/d/x": Mount(tmp_path / "x", rw=True), "/d/z": Mount(tmp_path / "y", file=True)}
    result = vfswasi.run(EDIT, ["write", "/d/x", "longer"], preopens=preopens, capture_output=True, timeout=60)
    assert (result.returncode, told(result)) == (0, ["modified x"])
    assert new_contents(result, "x") == b"longer"
    assert list(result.changes) == ["/d"]


def test_a_run_that_changes_nothing_has_no_changes(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    for source in TREE, MemoryBackend(TREE), Mount(tmp_path / "d", rw=True):
        assert told(edited(source)) == []
        assert told(edited(source, *"open /d/h open /d/a/f new /d/x x rm /d/x mkdir /d/y rmdir /d/y".split())) == []


def test_what_cannot_be_changed_has_none(tmp_path: Path) -> None:
    preopens = {
        "/literal": Mount(TREE, rw=False),
        "/local": Mount(put(tmp_path / "d", TREE)),
        "/memory": Mount(MemoryBackend(TREE), rw=False),
        "/overlay": Mount(TREE, overlay=True),
        "/d": {},
    }
    result = vfswasi.run(EDIT, ["new", "/d/x", "x", "new", "/overlay/y", "y"], preopens=preopens, timeout=60)
    assert list(result.changes) == ["/overlay", "/d"]
    assert (told(result, "/overlay"), told(result)) == (["added y"], ["added x"])


def test_times_links_and_other_names_are_told(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    words = "date /d/a fdate /d/g date /d/h ln /d/gone /d/other symlink a/f /d/link".split()
    for source in TREE, Mount(tmp_path / "d", rw=True):
        result = edited(source, *words)
        assert told(result) == ["attributes a", "attributes g", "attributes h", "added link", "added other"]
        by_path = {entry.path: entry for entry in result.changes["/d"].entries}
        assert {by_path[path].mtim_ns for path in "agh"} == {15 * 10**17}
        assert (by_path["link"].target, by_path["other"].link_to) == ("a/f", "gone")


def test_two_runs_at_once_on_one_store_have_their_own_changes() -> None:
    store, found = MemoryBackend({"a": {}, "b": {}, "f": {str(number): b"f" for number in range(40)}}), {}
    start = threading.Barrier(2)

    def work(name: str, numbers: range) -> None:
        words = [word for number in numbers for word in ("new", f"/d/{name}/{number}", name, "rm", f"/d/f/{number}")]
        start.wait()
        found[name] = told(
            edited(store, *words, "write", f"/d/{name}/0", "new", "mv", f"/d/{name}", f"/d/{name}{name}")
        )

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", range(20)), ("b", range(20, 40)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, numbers in ("a", range(20)), ("b", range(20, 40)):
        removed = {f"removed f/{number}" for number in numbers}
        added = {f"added {name}{name}/{number}" for number in numbers} | {f"added {name}{name}/0"}
        assert set(found[name]) == removed | added | {f"renamed {name}{name} from {name}"}


def test_one_after_the_other_has_its_own_too() -> None:
    store = MemoryBackend(TREE)
    with vfswasi.Sandbox(EDIT, preopens={"/d": store}) as sandbox:
        first = sandbox.run(["new", "/d/n", "one"])
        second = sandbox.run(["patch", "/d/n", "two", "rm", "/d/g"])
    assert told(first) == ["added n"]
    assert told(second) == ["removed g", "modified n"]
    assert new_contents(second, "n") == b"two"
    # The first run's contents are in the store no more.
    (entry,) = first.changes["/d"].entries
    assert errno_of(read, entry.content) is Errno.STALE


def test_contents_that_others_have_changed_since_are_stale(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    result = edited(Mount(tmp_path / "d", rw=True), *"write /d/g one write /d/h two".split())
    (tmp_path / "d" / "g").write_bytes(b"three")
    (tmp_path / "d" / "h").unlink()
    for entry in result.changes["/d"].entries:
        assert errno_of(read, entry.content) is Errno.STALE


def test_one_store_under_two_names_has_the_changes_under_both(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    store = MemoryBackend(TREE)
    for one, other in ((store, store), (Mount(tmp_path / "d", rw=True), Mount(tmp_path / "d", rw=True))):
        result = vfswasi.run(EDIT, ["new", "/d/n", "n", "rm", "/e/g"], preopens={"/d": one, "/e": other}, timeout=60)
        assert told(result) == told(result, "/e") == ["removed g", "added n"]


@pytest.mark.parametrize("words", [["trap", ""], ["no such command", ""]])
def test_of_a_run_that_fails_as_far_as_the_store_keeps_it(tmp_path: Path, words: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("old", b"old")
    put(tmp_path / "d", TREE)
    sources: dict[str, Any] = {
        "/zip": Mount(tmp_path / "x.zip", rw=True),
        "/tree": TREE,
        "/local": Mount(tmp_path / "d", rw=True),
    }
    making = [word for name in sources for word in ("new", f"{name}/n", "n")]
    result = vfswasi.run(EDIT, [*making, *words], preopens=sources, timeout=60, capture_output=True)
    assert result.returncode != 0
    assert told(result, "/zip") == []  # the archive is as it was
    assert told(result, "/tree") == told(result, "/local") == ["added n"]


def test_what_a_literal_tree_was_is_known_whatever_became_of_it() -> None:
    data = bytearray(b"old")
    tree: dict[str, Any] = {"d": {"f": data, "g": "text"}, "file": vfswasi.File(data, 5), "view": memoryview(data)}
    words = "write /d/d/f longer rm /d/d/g rm /d/view mv /d/file /d/d/moved symlink x /d/y date /d/d/f".split()
    result = edited(tree, *words)
    data[:] = b"new"
    tree["d"].clear()
    changes = result.changes["/d"]
    assert changes.base is not None
    assert changes.base.source is None
    with changes.base.open() as base:
        assert contents(base, ("d", "f")) == contents(base, ("file",)) == contents(base, ("view",)) == b"old"
        assert contents(base, ("d", "g")) == b"text"
        for entry in changes.entries:
            if entry.was is not None:
                stat = base.stat(tuple((entry.old_path or entry.path).split("/")))
                assert (entry.was.size, entry.was.mtim_ns, entry.was.ident) == (stat.size, stat.mtim_ns, stat.ident)
        again = OverlayBackend(base, Layer(changes.entries), private=True)
        assert MemoryBackend(result.files["/d"]).export() == exported(again)


def exported(backend: Backend) -> dict[str, Any]:
    def literal(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: literal(below) for name, below in value.items()}
        return vfswasi.Symlink(value[1]) if isinstance(value, tuple) else value

    found: dict[str, Any] = literal(tree_of(backend, numbers=False))
    return found


def test_what_another_store_was_is_not_known(tmp_path: Path) -> None:
    put(tmp_path / "d", TREE)
    for source in MemoryBackend(TREE), Mount(tmp_path / "d", rw=True):
        base = edited(source, "write", "/d/g", "new").changes["/d"].base
        assert base is not None
        assert base.source is None
        with pytest.raises(MountError, match="was changed in place, and what it had before was not kept"), base.open():
            pass


def test_of_trees_in_memory_they_travel(tmp_path: Path) -> None:
    preopens = {"/d": TREE, "/m": MemoryBackend(TREE), "/local": Mount(put(tmp_path / "d", TREE), rw=True)}
    words = [word for name in preopens for word in ("write", f"{name}/g", "new")]
    result = vfswasi.run(EDIT, words, preopens=preopens, timeout=60)
    assert list(result.changes) == ["/d", "/m", "/local"]
    arrived = pickle.loads(pickle.dumps(result))
    assert list(arrived.changes) == ["/d", "/m"]
    assert (told(arrived), new_contents(arrived, "g", "/m")) == (["modified g"], b"new")
    preopens["/m"]["g"] = b"another"  # type: ignore[index]
    assert list(pickle.loads(pickle.dumps(result)).changes) == ["/d"]


def test_sessions_have_their_files_and_runs_beside_them_their_changes() -> None:
    with vfswasi.Sandbox(EDIT, preopens={"/d": TREE, "/m": MemoryBackend(TREE)}) as sandbox:
        session = sandbox.session(command=True)
        with session, session.fork() as fork:
            assert session.files["/d"] == fork.files["/d"] == MemoryBackend(TREE).export()
            assert told(sandbox.run(["new", "/d/y", "y", "rm", "/m/g"])) == ["added y"]
            assert "g" not in session.files["/m"]
