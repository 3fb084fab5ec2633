"""A tree in memory by path, with times, pickled, copied and shown."""

from __future__ import annotations

import copy
import errno
import pickle
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pytest

import vfswasi
from vfswasi import Directory, File, MemoryBackend, Symlink

from ..wat_programs import program


def tree() -> MemoryBackend:
    below = {"b": b"two", "up": Symlink("../a"), "e": {}}
    return MemoryBackend({"a": b"one", "d": below, "dir": Symlink("d/e/.."), "gone": Symlink("x")})


def test_what_a_path_leads_to_is_read() -> None:
    files = tree()
    for path in ("a", "/a", "./a", "d/up", "dir/up", PurePosixPath("d/up")):
        assert files[path] == files.read_bytes(path) == b"one"
    assert files["d"] == files["dir"] == {"b": b"two", "up": Symlink("../a"), "e": {}}
    assert files["."] == files[""] == files.export()


@pytest.mark.parametrize("path", ["x", "d/x", "a/x", "gone", "x/y", "n" * 300])
def test_what_is_not_there_is_a_keyerror_as_of_a_dict_or_an_oserror_as_of_pathlib(path: str) -> None:
    files = tree()
    with pytest.raises(KeyError, match=path[:100]):
        files[path]
    with pytest.raises(OSError, match=path[:100]) as caught:
        files.read_bytes(path)
    assert caught.value.errno == (errno.ENOTDIR if path == "a/x" else errno.ENOENT)
    assert caught.value.filename == path
    if path != "gone":
        assert path not in files
        with pytest.raises(KeyError):
            del files[path]


def test_a_directory_is_no_file_and_a_file_no_directory() -> None:
    files = tree()
    for call in (lambda: files.read_bytes("d"), lambda: files.write_bytes("dir", b"")):
        with pytest.raises(IsADirectoryError):
            call()
    with pytest.raises(NotADirectoryError):
        files.write_bytes("a/x", b"")
    with pytest.raises(NotADirectoryError):
        files["a/x/y"] = b""
    assert files.export() == tree().export()


def test_links_that_lead_nowhere_within_the_tree() -> None:
    files = MemoryBackend({"abs": Symlink("/a"), "out": Symlink("../a"), "loop": Symlink("loop"), "a": b""})
    for path, number in (("abs", errno.ENOENT), ("out", errno.ENOENT), ("loop", errno.ELOOP)):
        with pytest.raises(OSError, match=path) as caught:
            files.read_bytes(path)
        assert caught.value.errno == number
        assert path in files
        with pytest.raises(KeyError):
            files[path]


def test_writing_makes_directories_on_the_way_and_goes_through_links() -> None:
    files = tree()
    assert files.write_bytes("new/deep/f", memoryview(b"12345")) == 5
    files["d/up"] = "text \u00e9"
    files["dir/g"] = bytearray(b"g")
    assert (files["new/deep/f"], files["a"], files["d/g"]) == (b"12345", "text \u00e9".encode(), b"g")
    files["d/up"] = b""
    assert files["a"] == b""


def test_other_things_replace_what_is_there() -> None:
    files = tree()
    files["d/up"] = Symlink("b")
    assert files["d/up"] == b"two"
    assert files["a"] == b"one"
    files["d"] = {"only": b"1"}
    assert files["d"] == {"only": b"1"}
    files["d"] = b"a file now"
    assert files["d"] == b"a file now"
    files["a"] = Directory({"x": {}}, mtime=7)
    assert files["a"] == {"x": {}}
    assert files.stat(("a",)).mtim_ns == 7_000_000_000
    assert files.used_bytes == sum(len(files[path]) for path in files if path not in ("dir", "gone")) + len("d/e/..x")


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("a", 5, TypeError),
        ("d", {"x": {"y": 5}}, TypeError),
        ("d", {"x/y": b""}, ValueError),
        ("new", None, TypeError),
        ("d", Symlink("\0"), ValueError),
        ("", {}, ValueError),
        (".", b"", ValueError),
        ("../a", b"", ValueError),
        ("d/../a", b"", ValueError),
        ("n" * 256, b"", ValueError),
        ("a\0b", b"", ValueError),
        (5, b"", TypeError),
        (b"a", b"", TypeError),
        ("a", "\ud800", ValueError),
    ],
)
def test_what_cannot_be_put_there_changes_nothing(path: Any, value: Any, error: type[Exception]) -> None:
    files = tree()
    before = pickle.dumps(files)
    with pytest.raises(error):
        files[path] = value
    assert (files.export(), files.used_bytes, repr(files)) == (tree().export(), tree().used_bytes, repr(tree()))
    assert files.export(times=True) == pickle.loads(before).export(times=True)


def test_no_room_is_enospc_and_the_old_contents_stay() -> None:
    files = MemoryBackend({"a": b"12345", "b": b"12"}, max_bytes=10)
    with pytest.raises(OSError, match="b") as caught:
        files.write_bytes("b", b"123456")
    assert caught.value.errno == errno.ENOSPC
    assert files.export() == {"a": b"12345", "b": b"12"}
    files.write_bytes("b", b"12345")
    assert files.used_bytes == 10


def test_removing() -> None:
    files = tree()
    del files["d/up"]
    assert files["a"] == b"one"
    del files["d"]
    assert list(files) == ["a", "dir", "gone"]
    assert "d" not in files
    for path in ("dir", "gone", "a"):
        del files[path]
    assert files.used_bytes == 0
    assert repr(files) == "<MemoryBackend: 0 names, 0 bytes>"
    with pytest.raises(ValueError, match="root"):
        del files["/"]


def test_iteration_gives_files_and_links_in_order_and_an_empty_tree_is_still_true() -> None:
    assert list(tree()) == ["a", "d/b", "d/up", "dir", "gone"]
    assert {path: tree()[path] for path in tree() if path != "gone"}["d/b"] == b"two"
    assert bool(MemoryBackend()) is True
    assert "" in MemoryBackend()
    for path in tree():  # while it changes
        assert path


def test_a_guest_sees_what_is_assigned_between_runs_and_the_file_keeps_its_identity() -> None:
    files = MemoryBackend({"a": b"one"})
    files.link(("a",), ("hard",))
    before = files.stat(("a",)).ident
    files["a"] = File(b"two", mtime=9)
    assert files["hard"] == b"two"
    assert files.stat(("hard",)).ident == before
    assert files.stat(("hard",)).mtim_ns == 9_000_000_000
    with vfswasi.Sandbox(program(""), preopens={"/d": files}) as sandbox:
        files["b"] = b"new"
        assert sandbox.run().files["/d"] == {"a": b"two", "hard": b"two", "b": b"new"}


# Times


@pytest.mark.parametrize(
    ("mtime", "expected_ns"),
    [
        (0, 0),
        (5, 5_000_000_000),
        (1.5, 1_500_000_000),
        (1 << 33, (1 << 33) * 1_000_000_000),
        (datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC), 10**18),
    ],
)
def test_times_in_a_literal(mtime: Any, expected_ns: int) -> None:
    given = {"f": File("text", mtime=mtime), "d": Directory({"g": b""}, mtime), "l": Symlink("f", mtime=mtime)}
    files = MemoryBackend(given)
    for name in given:
        stat = files.stat((name,))
        assert (stat.mtim_ns, stat.atim_ns) == (expected_ns, expected_ns)
        assert stat.ctim_ns > 10**18 - 1
    assert files.stat(("d", "g")).mtim_ns == files.stat(()).mtim_ns
    if not isinstance(mtime, datetime):
        exported = files.export(times=True)
        assert exported["f"] == File(b"text", mtime)
        assert exported["l"] == Symlink("f", mtime)
        assert exported["d"].mtime == mtime
        assert MemoryBackend(exported).export(times=True) == exported
    assert files.export() == {"f": b"text", "d": {"g": b""}, "l": Symlink("f")}


@pytest.mark.parametrize("kind", [File, Directory, Symlink])
@pytest.mark.parametrize(
    ("mtime", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (1 << 40, ValueError),
        ("1", TypeError),
        (True, TypeError),
    ],
)
def test_times_that_are_none(kind: Any, mtime: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="mtime"):
        kind({File: b"", Directory: {}, Symlink: "a"}[kind], mtime)


def test_what_a_file_and_a_directory_are_made_of() -> None:
    with pytest.raises(TypeError, match="contents"):
        File({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tree"):
        Directory(b"")  # type: ignore[arg-type]
    assert repr(File(b"x" * 1000, mtime=3)) == f"File({b'x' * 60!r}... 1,000, mtime=3)"
    assert repr(Symlink("a")) == "Symlink('a')"


def test_a_dict_preopen_has_times_too() -> None:
    result = vfswasi.run(program(""), preopens={"/d": {"f": File(b"1", mtime=5)}})
    assert result.files == {"/d": {"f": b"1"}}
    assert result._trees["/d"].stat(("f",)).mtim_ns == 5_000_000_000


# Copies


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_has_the_same_files_and_shares_none(how: Any) -> None:
    files = MemoryBackend(tree().export(), max_bytes=1000, max_inodes=50)
    files.link(("a",), ("d", "hard"))
    files.set_times(("a",), 1, 123)
    twin = how(files)
    assert type(twin) is MemoryBackend
    for key in [(), ("a",), ("d",), ("d", "hard"), ("d", "e"), ("d", "up")]:
        assert twin.stat(key) == files.stat(key)
    assert (twin.export(), twin.used_bytes, twin.max_bytes, repr(twin)) == (
        files.export(),
        files.used_bytes,
        1000,
        repr(files),
    )
    twin["a"] = b"other"
    assert (files["d/hard"], twin["d/hard"]) == (b"one", b"other")
    twin["fresh"] = b""
    idents = [twin.stat(key).ident for key in [(), ("a",), ("d",), ("fresh",), ("dir",)]]
    assert len(set(idents)) == len(idents)
    for count in range(50 - 9):
        twin.write_bytes(str(count), b"")
    with pytest.raises(OSError, match="names"):
        twin.write_bytes("one too many", b"")


def test_a_tree_deeper_than_pythons_stack_is_copied_and_shown() -> None:
    files = MemoryBackend()
    key: tuple[str, ...] = ()
    for _ in range(3000):
        key = (*key, "d")
        files.mkdir(key)
    for twin in (copy.deepcopy(files), pickle.loads(pickle.dumps(files))):
        assert twin.stat(key).nlink == 2
    assert "and more" in files._repr_html_()


def test_links_and_files_of_a_literal_are_pickled() -> None:
    for value in (Symlink("a"), File(b"1", mtime=2), Directory({"a": b""}, mtime=2.5)):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value


# Views


def test_the_view_of_a_tree_is_bounded_and_nothing_in_it_is_markup() -> None:
    evil = "<img src=x onerror=alert(1)>&\u202e\n$\\href{javascript:alert(1)}{x}$"
    files = MemoryBackend(
        {evil: b"", "l": Symlink("</pre><script>"), "d": {evil: {}}, **{f"n{i:04}": b"" for i in range(5000)}}
    )
    shown = files._repr_html_()
    assert "<img" not in shown
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert "&lt;img src=x" in shown
    assert shown.startswith('<div class="tex2jax_ignore mathjax_ignore">')
    assert "and more" in shown
    assert len(shown) < 20_000
    assert len(MemoryBackend({"n" * 255: {"m" * 255: b""}})._repr_html_()) < 1000
