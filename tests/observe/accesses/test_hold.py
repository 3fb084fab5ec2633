"""`Accesses.hold`: yes, or the first difference in words."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi import Accesses, Changes, MemoryBackend, Mount, Symlink
from vfswasi.fs_backends.base import Backend, Caps

from .looking import looked, run

TREE: dict[str, Any] = {"a": b"hello", "sub": {"b": b"0123456789"}, "link": Symlink("a")}
READS = ["read", "/d/a", "read", "/d/link", "part", "/d/sub/b", "2", "3", "there", "/d/no"]


def _stores(tmp_path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """The same files in every kind of store that has links."""
    _write(tmp_path / "dir", tree)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(tmp_path / "dir", ".")
    (tmp_path / "t.tar.gz").write_bytes(packed.getvalue())
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as zipped:
        for name, data in (("a", tree["a"]), ("sub/b", tree["sub"]["b"])):
            zipped.writestr(name, data)
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        zipped.writestr(link, tree["link"].target)
    return {
        "dict": dict(tree),
        "MemoryBackend": MemoryBackend(tree),
        "directory": tmp_path / "dir",
        "writable directory": Mount(tmp_path / "dir", rw=True),
        "tar": tmp_path / "t.tar.gz",
        "zip": tmp_path / "z.zip",
    }


def test_the_same_contents_are_the_same_in_every_store(tmp_path: Path) -> None:
    stores = _stores(tmp_path, TREE)
    others = _stores(tmp_path / "other", {**TREE, "sub": {"b": b"01x3456789"}})
    for kinds in (("dict", "MemoryBackend", "writable directory"), ("directory", "tar", "zip")):
        for name in kinds:
            accesses = looked({"/d": stores[name]}, *READS, how="digest")
            for other in kinds:
                assert accesses.hold({"/d": stores[other]}), (name, other)
                assert accesses.hold({"/d": others[other]}).difference == "'/d/sub/b' has other contents"
    for name in ("dict", "directory", "tar", "zip"):
        overlay = {"/d": Mount(stores[name], overlay=True)}
        of_overlay = run(overlay, *READS, accesses="digest", deterministic=True).accesses
        assert of_overlay is not None
        for other in ("dict", "MemoryBackend", "directory", "tar", "zip"):
            assert of_overlay.hold({"/d": Mount(stores[other], overlay=True)}), (name, other)


def test_where_contents_differ_that_nobody_read_it_holds(tmp_path: Path) -> None:
    accesses = looked({"/d": TREE}, "part", "/d/sub/b", "2", "3", fast=False)
    assert accesses.hold({"/d": {"sub": {"b": b"__234_____and more", "new": b""}}})
    assert not accesses.hold({"/d": {"sub": {"b": b"__23"}}})


# (what the guest does, what is there then, what is said of it)
DIFFERENCES: list[tuple[list[str], Any, str]] = [
    (["read", "/d/a"], {}, "'/d/a' was a file, and is not there now"),
    (["there", "/d/no"], {**TREE, "no": {}}, "'/d/no' was not there, and is a directory now"),
    (["there", "/d/sub/no"], {**TREE, "sub": b""}, "'/d/sub' was a directory, and is a file now"),
    (["read", "/d/a"], {**TREE, "a": Symlink("sub/b")}, "'/d/a' was a file, and is a link now"),
    (["read", "/d/a"], {**TREE, "a": b"hello!"}, "'/d/a' had 5 bytes, and has 6 now"),
    (["read", "/d/a"], {**TREE, "a": b"hellp"}, "'/d/a' has other contents"),
    (["size", "/d/a"], {**TREE, "a": b"hell"}, "'/d/a' had 5 bytes, and has 4 now"),
    (["read", "/d/link"], {**TREE, "link": Symlink("sub/b")}, "'/d/link' is a link to something else now"),
    (
        ["list", "/d/sub"],
        {**TREE, "sub": {"b": b"", "c": b""}},
        "'/d/sub' holds other names, or something else under one of them",
    ),
    (["read", "/d/a"], TREE, ""),
    (["read", "/d/a"], Mount(TREE, overlay=True), "'/d' was mounted writable, and is writable, with an overlay now"),
    (["read", "/d/a"], Mount(TREE, rw=False), "'/d' was mounted writable, and is read-only now"),
    (["rm", "/d/a"], Mount(TREE, rw=False), "'/d' was mounted writable, and is read-only now"),
    (["read", "/d/a"], "/nowhere/at/all", "what is to be mounted cannot be opened: "),
]


@pytest.mark.parametrize("number", range(len(DIFFERENCES)))
def test_the_first_difference_is_told(number: int) -> None:
    words, other, told = DIFFERENCES[number]
    accesses = looked({"/d": TREE}, *words)
    held = accesses.hold({"/d": other})
    if not told:
        assert held
        assert str(held) == "nothing that the program looked at has changed"
    else:
        assert not held
        assert str(held).startswith(told)


def test_all_mounts_are_compared_in_their_order() -> None:
    accesses = looked({"/d": {"a": b"x"}, "/e": {}}, "read", "/d/a")
    assert accesses.hold({"/d": {"a": b"x"}, "/e/": {"other": b""}})
    assert accesses.hold({"/d": {"a": b"x"}}).difference == "'/e' was mounted, and is not now"
    more = {"/d": {"a": b"x"}, "/e": {}, "/f": {}}
    assert accesses.hold(more).difference == "'/f' is mounted now, and was not"
    assert accesses.hold({"/e": {}, "/d": {"a": b"x"}}).difference == "the mounts come in another order"


# What a program can tell a mount that it may change from another by, without changing anything.
TRIED: list[list[str]] = [
    ["mv", "/d/no", "/d/x"],
    ["mv", "/d/a", "/d/a"],
    ["mv", "/d/sub", "/d/sub/x"],
    ["hard", "/d/no", "/d/x"],
    ["soft", "x", "/d/a"],
    ["mv", "/d/sub", "/d/a"],
    ["rm", "/d/."],
    ["mkdir", "/d/sub/"],
]


@pytest.mark.parametrize("words", TRIED, ids=" ".join)
def test_what_was_writable_must_be_so_whatever_came_of_it(words: list[str]) -> None:
    assert run({"/d": TREE}, *words).stdout != run({"/d": Mount(TREE, rw=False)}, *words).stdout
    held = looked({"/d": TREE}, *words).hold({"/d": Mount(TREE, rw=False)})
    assert held.difference == "'/d' was mounted writable, and is read-only now"


@pytest.mark.parametrize("deterministic", [False, True])
def test_mounts_share_files_as_they_did_then(deterministic: bool) -> None:
    def stores(count: int) -> dict[str, Any]:
        first = MemoryBackend({"a": b"x"})
        return {"/d": first, "/e": first if count == 1 else MemoryBackend({"a": b"x"})}

    words = ["create", "/d/new", "hello", "there", "/e/new"]
    for then, now in ((1, 2), (2, 1)):
        result = run(stores(then), *words, accesses=True, deterministic=deterministic)
        assert result.stdout != run(stores(now), *words, deterministic=deterministic).stdout
        assert result.accesses is not None
        held = result.accesses.hold(stores(now))
        assert held.difference == "'/e' has other files together with other mounts than then"
    reads = run(stores(1), "there", "/e/a", accesses=True, deterministic=True)
    assert reads.accesses is not None
    assert reads.accesses.hold(stores(1))
    assert Accesses.from_json(reads.accesses.to_json()) == reads.accesses


def test_a_directory_in_another_that_can_be_written_is_shared(tmp_path: Path) -> None:
    for name in ("one/sub", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "one/sub/a").write_bytes(b"x")
    (tmp_path / "other/a").write_bytes(b"x")

    def mounts(second: str, **options: Any) -> dict[str, Any]:
        return {"/d": Mount(tmp_path / "one", **options), "/e": Mount(tmp_path / second, **options)}

    writable = run(mounts("other", rw=True), "there", "/e/a", deterministic=True, accesses="digest").accesses
    looked_at = run(mounts("other"), "there", "/e/a", deterministic=True, accesses="digest").accesses
    assert writable is not None
    assert looked_at is not None
    assert writable.hold(mounts("other", rw=True))
    held = writable.hold(mounts("one/sub", rw=True))
    assert held.difference == "'/e' has other files together with other mounts than then"
    assert looked_at.hold(mounts("one/sub"))  # nobody changes them, so nobody can tell


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("words", [["patch", "/d/a", "0", "X"], ["create", "/d/a", "X"], ["append", "/d/a", "X"]])
def test_what_is_changed_in_place_has_no_other_names(words: list[str], deterministic: bool, tmp_path: Path) -> None:
    def mounts(linked: bool) -> dict[str, Any]:
        path = Path(tempfile.mkdtemp(dir=tmp_path))
        (path / "a").write_bytes(b"hello")
        if linked:
            (path / "b").hardlink_to(path / "a")
        else:
            (path / "b").write_bytes(b"hello")
        return {"/d": Mount(path, rw=True)}

    def begin(linked: bool) -> vfswasi.Result[bytes]:
        return run(mounts(linked), *words, "read", "/d/b", accesses="digest", deterministic=deterministic)

    apart, linked = begin(False), begin(True)
    assert apart.stdout != linked.stdout
    assert apart.accesses is not None
    assert linked.accesses is not None
    told = "'/d/a' has another number of links"
    assert str(apart.accesses.hold(mounts(True))).startswith(told)
    told = "nobody can say what the program saw in '/d': a: the program changed it, and it had other names"
    for other in (True, False):
        assert str(linked.accesses.hold(mounts(other))).startswith(told)
    if deterministic:
        assert apart.accesses.hold(mounts(False))


def test_one_file_mounted_twice_is_shared(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"x")

    def mounts(second: str, **options: Any) -> dict[str, Any]:
        return {"/d/a": Mount(tmp_path / "one", **options), "/d/b": Mount(tmp_path / second, **options)}

    for options, told in (({"rw": True}, "'/d' has other files together with other mounts than then"), ({}, None)):
        accesses = run(mounts("other", **options), "read", "/d/b", deterministic=True, accesses="digest").accesses
        assert accesses is not None
        assert accesses.hold(mounts("other", **options))
        assert accesses.hold(mounts("one", **options)).difference == told


def test_what_was_read_only_must_be_so() -> None:
    accesses = looked({"/d": Mount({"a": b"x"}, rw=False)}, "create", "/d/b", "x")
    told = "'/d' was mounted read-only, and is writable now"
    assert accesses.hold({"/d": {"a": b"x"}}).difference == told
    assert accesses.hold({"/d": Mount({}, rw=False)})


def test_an_overlay_begins_with_the_same_changes() -> None:
    changes = run({"/d": Mount(TREE, overlay=True)}, "create", "/d/new", "x").changes["/d"]
    begun = Mount(TREE, overlay=changes)
    accesses = looked({"/d": begun}, "read", "/d/new")
    assert accesses.hold({"/d": begun})
    for other in (Mount(TREE, overlay=True), Mount(TREE, overlay=Changes([]))):
        assert accesses.hold({"/d": other}).difference == "the overlay of '/d' begins with other changes"


def test_where_something_was_changed_the_store_can_do_the_same() -> None:
    class Poor(MemoryBackend):
        caps = MemoryBackend.caps & ~Caps.SYMLINKS

        def symlink(self, target: str, key: Any) -> None:
            Backend.symlink(self, target, key)

    accesses = looked({"/d": MemoryBackend()}, "soft", "a", "/d/s")
    held = accesses.hold({"/d": Mount(Poor(), rw=True)})
    assert held.difference == "'/d' is in another kind of store, which can do other things than the one then"


def test_a_version_that_can_be_relied_on_saves_reading(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    time.sleep(2.1)
    accesses, with_digests = (looked({"/d": tmp_path}, "read", "/d/a", how=how) for how in (True, "digest"))
    access = accesses["/d"][1]
    assert (access.digest, access.read) == (None, "whole")
    assert access.version is not None
    assert accesses.hold({"/d": tmp_path})
    _touch(tmp_path / "a")
    assert str(accesses.hold({"/d": tmp_path})).startswith("'/d/a' ")
    # Its times may have been seen where the fast path looked at them.
    assert str(with_digests.hold({"/d": tmp_path})) in (
        "nothing that the program looked at has changed",
        "'/d/a' has another time of modification, which the program could see; a run with deterministic=True is not "
        "shown that",
    )


def test_a_file_that_was_changed_just_before_is_known_by_its_digest(tmp_path: Path) -> None:
    """Its times could be the same with other contents."""
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    accesses = looked({"/d": tmp_path}, "read", "/d/a")
    access = accesses["/d"][1]
    assert access.version is None
    assert access.digest is not None
    assert accesses.hold({"/d": tmp_path})
    times = os.stat(path)
    path.write_bytes(b"hellp")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not accesses.hold({"/d": tmp_path})


@pytest.mark.parametrize("future_s", [3600, 0.0])
def test_times_that_are_no_times_of_now_are_not_relied_on(tmp_path: Path, future_s: float) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    time.sleep(2.1)
    if future_s:
        os.utime(path, (time.time() + future_s,) * 2)
    access = looked({"/d": tmp_path}, "read", "/d/a")["/d"][1]
    assert (access.version is None) is bool(future_s)


def test_a_run_that_saw_times_needs_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    accesses = looked({"/d": tmp_path}, "when", "/d/a")
    assert accesses.hold({"/d": tmp_path})
    os.utime(tmp_path / "a", (5, 5))
    assert str(accesses.hold({"/d": tmp_path})).startswith("'/d/a' has another time of modification, which the program")
    # Those of a tree that is made for the run come from its clock, which is no matter of the mounts.
    accesses = looked({"/d": {"a": b"hello"}}, "when", "/d/a")
    assert accesses.hold({"/d": {"a": b"hello"}})
    assert not accesses.hold({"/d": MemoryBackend({"a": b"hello"})})


def test_a_run_that_saw_the_order_needs_the_same() -> None:
    accesses = looked({"/d": {"a": b"", "b": b""}}, "create", "/d/c", "", "list", "/d")
    assert accesses.hold({"/d": {"a": b"", "b": b""}})
    told = "'/d' is listed in another order, or with other inode numbers"
    assert str(accesses.hold({"/d": {"b": b"", "a": b""}})).startswith(told)


def test_what_it_wrote_in_place_is_another_beginning(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    mount = Mount(tmp_path, rw=True)
    accesses = looked({"/d": mount}, "append", "/d/a", "!")
    assert accesses.hold({"/d": mount}).difference == "'/d/a' had 5 bytes, and has 6 now"
    accesses = looked({"/d": mount}, "create", "/d/a", "same", "create", "/d/a", "same")
    assert accesses.hold({"/d": mount})


def test_accesses_are_values() -> None:
    accesses = looked({"/d": TREE}, *READS, fast=False)
    assert pickle.loads(pickle.dumps(accesses)) == accesses == looked({"/d": dict(TREE)}, *READS, fast=False)
    assert hash(accesses) == hash(pickle.loads(pickle.dumps(accesses)))
    assert accesses != looked({"/d": TREE}, "read", "/d/a")
    assert accesses != 3
    with pytest.raises(AttributeError):
        accesses.mounts = {}  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del accesses.mounts
    assert repr(accesses) == "<Accesses: /d: 6 names>"
    assert str(accesses) == (
        "/d (rw)\n"
        "  .: directory\n"
        "  a: file; read whole; 5 bytes\n"
        "  link: link\n"
        "  no: missing\n"
        "  sub: directory\n"
        "  sub/b: file; read 2-5"
    )


def test_what_are_no_preopens() -> None:
    accesses = looked({"/d": TREE}, "read", "/d/a")
    for wrong in (None, [], "/d"):
        with pytest.raises(TypeError, match="preopens must map"):
            accesses.hold(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        accesses.hold({"/d": 3})


def test_wrong_options() -> None:
    for wrong in ("digests", 1.5, 1, 0, None):
        with pytest.raises(ValueError, match='accesses must be True, False or "digest"'):
            vfswasi.run(b"(module)", accesses=wrong)  # type: ignore[call-overload]


def _touch(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def _write(path: Path, what: Any) -> None:
    if isinstance(what, Symlink):
        path.symlink_to(what.target)
    elif isinstance(what, dict):
        path.mkdir(parents=True)
        for name, value in what.items():
            _write(path / name, value)
    else:
        path.write_bytes(what)
