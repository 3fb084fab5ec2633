"""What is noted of a run: every name that it depended on, as it was before the run changed anything."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Errno, MemoryBackend, Mount, Symlink
from vfswasi.fs_backends.layers.faulty import Faulty

from .looking import found, looked, run

TREE: dict[str, Any] = {
    "a": b"hello",
    "sub": {"b": b"0123456789", "deep": {"c": b"c"}},
    "link": Symlink("sub/next"),
    "more": Symlink("sub/deep"),
}
TREE["sub"]["next"] = Symlink("../more/c")

# (what the guest does, what is noted below /d)
CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "a file that is read": (["read", "/d/a"], {"": "directory", "a": "file, read"}),
    "a part of one": (["part", "/d/sub/b", "2", "3"], {"sub/b": "file, read ((2, 5),)"}),
    "nothing behind its end": (["part", "/d/sub/b", "90", "3"], {"sub/b": "file"}),
    "its size alone": (["size", "/d/sub/b"], {"": "directory", "sub": "directory", "sub/b": "file"}),
    "each directory on the way": (
        ["there", "/d/sub/deep/c"],
        {"sub": "directory", "sub/deep": "directory", "sub/deep/c": "file"},
    ),
    "a name that is missing": (["read", "/d/no"], {"": "directory", "no": "missing"}),
    "the first name that is missing": (["stat", "/d/sub/no/no/no"], {"sub": "directory", "sub/no": "missing"}),
    "a file in the way": (["read", "/d/a/b"], {"a": "file"}),
    "links in a row with their targets": (
        ["read", "/d/link"],
        {
            "link": "link",
            "sub/next": "link",
            "more": "link",
            "sub/deep": "directory",
            "sub/deep/c": "file, read",
        },
    ),
    "a link that is looked at": (["link", "/d/link"], {"": "directory", "link": "link"}),
    "what is no link": (["link", "/d/a"], {"": "directory", "a": "file"}),
    "dots": (["read", "/d/sub/deep/../../a"], {"sub": "directory", "sub/deep": "directory", "a": "file, read"}),
    "the mount itself": (["stat", "/d"], {"": "directory"}),
    "a file as a directory": (["list", "/d/a"], {"": "directory", "a": "file"}),
    "a listing": (["list", "/d/sub"], {"": "directory", "sub": "directory, listed"}),
    "the beginning of one": (["first", "/d/sub"], {"": "directory", "sub": "directory, listed"}),
}


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "python"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("manner", ["rw", "ro", "overlay"])
def test_what_a_program_looks_at(case: str, manner: str, fast: bool) -> None:
    words, expected = CASES[case]
    mount: Any = {"rw": TREE, "ro": Mount(TREE, rw=False), "overlay": Mount(TREE, overlay=True)}[manner]
    told = found(looked({"/d": mount}, *words, fast=fast))
    assert expected.items() <= told.items()
    # The rest is on the way to it.
    on_the_way = {path for each in expected for path in ("", *_above(each))}
    assert set(told) - set(expected) <= on_the_way, told
    if case != "links in a row with their targets":
        assert "more" not in told


def _above(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(len(names))]


# What the run made itself is none of its inputs.
CHANGES: dict[str, tuple[list[str], dict[str, str]]] = {
    "a new file": (
        ["create", "/d/new", "text", "read", "/d/new", "stat", "/d/new"],
        {"": "directory, written", "new": "missing, written"},
    ),
    "a name that must not be there": (
        ["new", "/d/new", "text", "new", "/d/a", "text"],
        {"": "directory, written", "a": "file", "new": "missing, written"},
    ),
    "what is below a new directory": (
        ["mkdir", "/d/n", "mkdir", "/d/n/m", "create", "/d/n/m/f", "x", "list", "/d/n/m", "read", "/d/n/m/no"],
        {"": "directory, written", "n": "missing, written"},
    ),
    "a file that is emptied first": (
        ["create", "/d/a", "other", "read", "/d/a"],
        {"": "directory", "a": "file, written"},
    ),
    "one that is read before": (
        ["read", "/d/a", "create", "/d/a", "other", "read", "/d/a"],
        {"": "directory", "a": "file, read, written"},
    ),
    "one of which something stays": (
        ["patch", "/d/sub/b", "3", "xx"],
        {"": "directory", "sub": "directory", "sub/b": "file, read, written"},
    ),
    "one that grows": (
        ["append", "/d/a", "more", "read", "/d/a"],
        {"": "directory", "a": "file, read, written"},
    ),
    "one that is removed": (
        ["rm", "/d/a", "there", "/d/a", "create", "/d/a", "new", "read", "/d/a"],
        {"": "directory, written", "a": "file, written"},
    ),
    "one that is removed while it is open": (
        ["unlinked", "/d/a", "there", "/d/a"],
        {"": "directory, written", "a": "file, read, written"},
    ),
    "one that is renamed over another": (
        ["mv", "/d/a", "/d/sub/b", "read", "/d/sub/b"],
        {"": "directory, written", "a": "file, read, written", "sub": "directory, written", "sub/b": "file, written"},
    ),
    "one that is renamed while it is open": (
        ["held", "/d/a", "/d/z", "read", "/d/z", "there", "/d/a"],
        {"": "directory, written", "a": "file, read, written", "z": "missing, written"},
    ),
    "a directory that is renamed": (
        ["mv", "/d/sub/deep", "/d/e", "read", "/d/e/c", "there", "/d/e/no"],
        {
            "": "directory, written",
            "e": "missing, written",
            "sub": "directory, written",
            "sub/deep": "directory, listed, written",
            "sub/deep/c": "file, read",
            "sub/deep/no": "missing",
        },
    ),
    "a second name": (
        ["hard", "/d/a", "/d/z", "read", "/d/z"],
        {"": "directory, written", "a": "file, read, written", "z": "missing, written"},
    ),
    "a new link": (
        ["soft", "sub", "/d/s", "read", "/d/s/b", "link", "/d/s"],
        {"": "directory, written", "s": "missing, written", "sub": "directory", "sub/b": "file, read"},
    ),
    "a directory that is not empty": (
        ["rmdir", "/d/sub/deep"],
        {"": "directory", "sub": "directory, written", "sub/deep": "directory, listed"},
    ),
    "one that became so": (
        ["rm", "/d/sub/deep/c", "rmdir", "/d/sub/deep", "mkdir", "/d/sub/deep", "list", "/d/sub/deep"],
        {
            "": "directory",
            "sub": "directory, written",
            "sub/deep": "directory, listed, written",
            "sub/deep/c": "file, written",
        },
    ),
}


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "python"])
@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("store", ["memory", "local"])
def test_what_a_program_makes_is_none_of_its_inputs(tmp_path: Path, case: str, store: str, fast: bool) -> None:
    words, expected = CHANGES[case]
    mount: Any = TREE
    if store == "local":
        _write(tmp_path / "d", TREE)
        mount = Mount(tmp_path / "d", rw=True)
    accesses = looked({"/d": mount}, *words, fast=fast)
    assert found(accesses) == expected
    if store == "memory":
        assert accesses.hold({"/d": TREE})


def test_a_directory_listed_after_changes_is_what_it_was_before() -> None:
    changes = ["create", "/d/new", "x", "rm", "/d/a", "mv", "/d/sub/b", "/d/b", "mkdir", "/d/made"]
    before, after = looked({"/d": TREE}, "list", "/d"), looked({"/d": TREE}, *changes, "list", "/d")
    (one,), (other,) = ([each for each in accesses["/d"] if each.listed] for accesses in (before, after))
    assert one.digest == other.digest


@pytest.mark.parametrize("how", [True, "digest"])
def test_digests_are_of_what_was_read(tmp_path: Path, how: Any) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    accesses = looked({"/d": tmp_path}, "part", "/d/f", "2", "3", "part", "/d/f", "7", "2", "there", "/d/g", how=how)
    access = accesses["/d"][1]
    assert access.read == ((2, 5), (7, 9))
    parts = [hashlib.sha256(part).digest() for part in (b"234", b"78")]
    assert access.digest == hashlib.sha256(b"".join(parts)).hexdigest()
    whole = looked({"/d": tmp_path}, "read", "/d/f", how=how)["/d"][1]
    assert (whole.read, whole.size) == ("whole", 10)
    assert whole.digest == hashlib.sha256(b"0123456789").hexdigest()


def test_a_file_of_a_gigabyte_is_not_read_for_one_byte(tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        file.truncate(1 << 30)
    for how in (True, "digest"):
        access = looked({"/d": tmp_path}, "part", "/d/f", "536870912", "1", how=how)["/d"][1]
        assert access.read == ((1 << 29, (1 << 29) + 1),)


def test_odd_pieces_through_the_fast_path_are_all_there() -> None:
    """The fast path reads ahead: that may be more than the guest has seen, and is never less."""
    data = bytes(range(256)) * 4096
    words = []
    for number in range(120):
        words += ["part", "/d/f", str(number * 7919 % len(data)), str(1 + number * 31 % 97)]
    accesses = looked({"/d": {"f": data}}, *words)
    read = accesses["/d"][1].read
    assert read != "whole"
    for number in range(120):
        start = number * 7919 % len(data)
        end = min(start + 1 + number * 31 % 97, len(data))
        assert any(first <= start and end <= last for first, last in _joined(read)), (start, end)
    assert accesses.hold({"/d": {"f": data}})
    changed = bytearray(data)
    changed[119 * 7919 % len(data)] ^= 1
    assert not accesses.hold({"/d": {"f": bytes(changed)}})


def _joined(read: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in read:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


def test_two_mounts_of_one_store_are_one() -> None:
    store = MemoryBackend({"a": b"hello", "b": b"x"})
    mounts = {"/d": Mount(store, rw=True, overlap=True), "/e": Mount(store, rw=False, overlap=True)}
    accesses = looked(mounts, "create", "/d/a", "other", "read", "/e/a", "read", "/e/b")
    assert (
        found(accesses, "/e")
        == found(accesses, "/d")
        == {
            "": "directory",
            "a": "file, written",
            "b": "file, read",
        }
    )


def test_devices() -> None:
    accesses = looked({"/dev": "dev:"}, "part", "/dev/zero", "0", "4", "there", "/dev/no", "stat", "/dev/null")
    assert found(accesses, "/dev") == {"": "directory", "no": "missing", "null": "other", "zero": "other"}
    assert accesses.hold({"/dev": "dev:"})
    assert not accesses.hold({"/dev": {"zero": b"", "null": b""}})


def test_a_file_that_is_mounted_by_itself(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    accesses = looked({"/d/f": tmp_path / "x"}, "read", "/d/f", "there", "/d/g")
    assert found(accesses) == {"": "directory", "f": "file, read", "g": "missing"}
    assert accesses.hold({"/d/f": tmp_path / "x"})
    (tmp_path / "x").write_bytes(b"hellp")
    assert str(accesses.hold({"/d/f": tmp_path / "x"})).startswith("'/d/f' has ")


def test_names_of_one_file_that_were_there_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    os.link(tmp_path / "a", tmp_path / "b")
    accesses = looked({"/d": tmp_path}, "read", "/d/a", "read", "/d/b")
    assert found(accesses) == {"": "directory", "a": "file, read", "b": "file, read"}


def test_a_store_that_fails_leaves_nobody_sure() -> None:
    plans: list[dict[Any, Any]] = [{"open": Errno.IO}, {"walk": Errno.ACCES}, {"handle.read_into": Errno.IO}]
    for plan in plans:
        store = Faulty(MemoryBackend({"a": b"hello"}), fail=plan)
        held = looked({"/d": store}, "read", "/d/a").hold({"/d": MemoryBackend({"a": b"hello"})})
        assert held.difference is not None
        assert "nobody can say what the program saw in '/d'" in held.difference


def test_what_others_change_meanwhile_leaves_nobody_sure() -> None:
    class Moody(MemoryBackend):
        """Its file is another one each time that it is opened."""

        opened = 0

        def open(self, key: Any, write: bool) -> Any:
            self.opened += 1
            other = MemoryBackend({"a": b"%5d" % self.opened})
            return other.open(key, write)

    held = looked({"/d": Moody({"a": b"hello"})}, "read", "/d/a", "read", "/d/a").hold({"/d": {"a": b"    1"}})
    assert held.difference is not None
    assert "changed by somebody else" in held.difference


def test_more_names_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from vfswasi.fs_backends.layers.accessed import looked as module

    monkeypatch.setattr(module, "NOTES_MAX_BYTES", 3000)
    few, many = looked({"/d": {}}, "there", "/d/a"), looked({"/d": {}}, *_names(20))
    assert few.hold({"/d": {}})
    assert len(many["/d"]) < 10
    assert many.hold({"/d": {}}).difference == (
        "nobody can say what the program saw in '/d': the program looked at more names than are kept"
    )


def _names(count: int) -> list[str]:
    return [word for number in range(count) for word in ("there", f"/d/n{number}")]


def test_many_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from vfswasi.fs_backends.layers.accessed import looked as module

    monkeypatch.setattr(module, "NOTES_MAX_BYTES", 3000)
    data = bytes(4000)
    words = [word for number in range(20) for word in ("part", "/d/f", str(number * 200), "1")]
    accesses = looked({"/d": {"f": data}}, *words, fast=False)
    assert accesses.hold({"/d": {"f": data}}).difference is not None


def test_files_that_come_and_go_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from vfswasi.fs_backends.layers.accessed import looked as module

    monkeypatch.setattr(module, "NOTES_MAX_BYTES", 20_000)
    words = [word for number in range(40) for word in ("create", f"/d/n{number}", "x", "rm", f"/d/n{number}")]
    same = looked({"/d": {}}, *["create", "/d/n", "x", "rm", "/d/n"] * 40)
    assert same.hold({"/d": {}})
    many = looked({"/d": {}}, *words)
    assert many.hold({"/d": {}}).difference is not None
    assert len(many["/d"]) < 40


def test_a_run_that_did_not_end_well_has_accesses_too() -> None:
    result = run({"/d": {"a": b"x"}}, "read", "/d/a", "what is that", "", accesses=True)
    assert result.returncode == 2
    assert result.accesses is not None
    assert found(result.accesses) == {"": "directory", "a": "file, read"}
    assert run({"/d": {}}, "there", "/d/a").accesses is None


def test_a_session_has_none() -> None:
    module = b'(module (memory (export "memory") 1) (func (export "f")))'
    with vfswasi.Sandbox(module) as sandbox, pytest.raises(ValueError, match="a session has none"):
        sandbox.session(accesses=True)


def test_in_a_process_of_its_own() -> None:
    from ...guest_programs import compile_guest

    words = ["read", "/d/a", "there", "/d/no", "create", "/d/new", "x"]
    with vfswasi.Sandbox(compile_guest("looks"), isolation="process") as sandbox:
        for mount in (TREE, Mount(TREE, overlay=True)):
            result = sandbox.run(words, preopens={"/d": mount}, accesses=True, capture_output=True)
            assert result.accesses == looked({"/d": mount}, *words)
            assert result.accesses is not None
            assert result.accesses.hold({"/d": mount})


def test_files_and_changes_of_the_run_are_there_as_ever() -> None:
    result = run({"/d": TREE, "/e": Mount(TREE, overlay=True)}, "rm", "/d/a", "append", "/e/a", "!", accesses=True)
    plain = run({"/d": TREE, "/e": Mount(TREE, overlay=True)}, "rm", "/d/a", "append", "/e/a", "!")
    assert result.files == plain.files
    for name in ("/d", "/e"):
        assert [str(change) for change in result.changes[name]] == [str(change) for change in plain.changes[name]]


def _write(path: Path, what: Any) -> None:
    if isinstance(what, Symlink):
        path.symlink_to(what.target)
    elif isinstance(what, dict):
        path.mkdir()
        for name, value in what.items():
            _write(path / name, value)
    else:
        path.write_bytes(what)
