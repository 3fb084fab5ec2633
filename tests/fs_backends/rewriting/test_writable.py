"""WritableArchive over tars: what a guest may do, what a commit writes, several runs on one backend, mounts."""

from __future__ import annotations

import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from tests.fs_backends.rewriting.differences import NEW_NS, extracted, names, pack, seen
from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import noise
from tests.fs_backends.zip_written import OLD, fill, only, put
from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, MountError
from vfswasi.fs_backends.archive.unpacked import zstd_module
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.base import Backend, Caps
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.mounts.finding.sources import open_source
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import contents, errno_of, read

TARS = ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


def _has_zstd() -> bool:
    try:
        return bool(zstd_module())
    except ImportError:
        return False


ZSTD = _has_zstd()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    return tmp_path / "d" / "a.tar"


@pytest.fixture
def old(path: Path) -> bytes:
    pack(path, {**OLD})
    return path.read_bytes()


class _Temporary(WritableArchive):
    """Removes its archive when it is closed; what every test leaves has to be an archive."""

    def close(self) -> None:
        self.commit()
        expected = tree(self)
        super().close()
        path = Path(self._archive.path)
        if path.exists():
            assert seen(path) == expected
            names(path)
        shutil.rmtree(path.parent)


def _new(name: str) -> str:
    return os.path.join(tempfile.mkdtemp(prefix="vfswasi-test-"), name)


class TestNewTar(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        backend = _Temporary(_new("new.tar"))
        fill(backend, tree)
        return backend


class TestTarAfterCommit(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        backend = _Temporary(_new("new.tar.gz"))
        fill(backend, tree)
        backend.commit()
        return backend


class TestExistingTar(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        path = _new("old.tar")
        first = WritableArchive(path)
        fill(first, tree)
        first.commit()
        first.close()
        if not tree:
            pack(Path(path), {})
        return _Temporary(path, staging_memory_bytes=0)


def test_caps(path: Path, old: bytes) -> None:
    backend = WritableArchive(path)
    expected = Caps.WRITE | Caps.RANDOM_WRITE | Caps.EMPTY_DIRS | Caps.SYMLINKS | Caps.SET_TIMES | Caps.HARDLINKS
    assert backend.caps == expected | Caps.ATOMIC_RENAME | Caps.HANDLE_SURVIVES_UNLINK
    assert backend.place == ("archive", str(path))
    backend.close()


def test_what_was_not_changed_is_not_written(path: Path, old: bytes) -> None:
    before = path.stat()
    backend = WritableArchive(path)
    handle = backend.open(("change",), True)
    assert read(handle, 0, 6) == b"change"
    handle.close()
    tree(backend)
    assert not backend.changed
    backend.commit()
    backend.close()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_rollback_returns_to_the_last_commit(path: Path, old: bytes) -> None:
    backend = WritableArchive(path)
    before = tree(backend)
    handle = backend.open(("change",), True)
    handle.write_from(0, b"CHANGE")
    backend.remove(("keep",))
    put(backend, ("new",), b"x" * 100_000)
    version = backend.listing_version(())
    backend.rollback()
    assert tree(backend) == before
    assert backend.listing_version(()) != version
    assert not backend.changed
    assert read(handle, 0, 6) == b"CHANGE"
    assert handle.stat().nlink == 0
    handle.write_from(0, b"xxxxxx")
    assert contents(backend, ("change",)) == OLD["change"]
    handle.close()
    put(backend, ("second",), b"2")
    backend.commit()
    assert seen(path) == before | {"second": b"2"}
    backend.close()


def test_handles_go_on_through_commits_and_leave_no_descriptors(path: Path, old: bytes) -> None:
    before = open_files()
    backend = WritableArchive(path)
    untouched, changed, unlinked = (backend.open((name,), True) for name in ("keep", "change", "gone"))
    idents = [handle.ident() for handle in (untouched, changed, unlinked)]
    changed.write_from(0, b"CHANGE")
    backend.remove(("gone",))
    for number in range(3):
        backend.mkdir((f"n{number}",))
        backend.commit()
        assert read(untouched, 40_000, 10_000) == OLD["keep"][40_000:]
        assert read(changed, 0, 12) == b"CHANGEchange"
        assert read(unlinked, 0, 9) == b"gone"
        assert unlinked.stat().nlink == 0
    assert [handle.ident() for handle in (untouched, changed, unlinked)] == idents
    assert backend.stat(("change",)).ident == idents[1]
    assert len({backend.stat((name,)).ident for name in ("keep", "change", "d", "n0", "n1", "n2")}) == 6
    unlinked.write_from(0, b"still")
    assert read(unlinked, 0, 9) == b"still"
    for handle in (untouched, changed, unlinked):
        handle.close()
    assert len(opened_since(before)) == 1
    backend.close()
    assert opened_since(before) == []


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_objects_of_one_archive_are_not_taken_for_those_of_the_next(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    pack(path, {"a": b"A", "b": b"B", "c": b"C"})
    backend = WritableArchive(path)
    a, c = backend.open(("a",), True), backend.open(("c",), True)
    c.write_from(0, b"c")
    backend.remove(("a",))
    backend.commit()
    a.write_from(0, b"x")
    assert (contents(backend, ("b",)), contents(backend, ("c",))) == (b"B", b"c")
    put(backend, ("d",), b"D")
    backend.commit()
    assert tree(backend) == {"b": b"B", "c": b"c", "d": b"D"}
    assert read(a, 0, 9) == b"x"
    for handle in (a, c):
        handle.close()
    backend.close()
    assert seen(path) == {"b": b"B", "c": b"c", "d": b"D"}


def test_entries_and_names_are_bounded_by_what_readers_take(path: Path) -> None:
    pack(path, {"d": None, **{f"d/{number}": b"" for number in range(7)}})
    backend = WritableArchive(path, max_entries=9)
    put(backend, ("a",), b"")
    assert errno_of(backend.mkdir, ("b",)) is Errno.NOSPC
    backend.remove(("a",))
    backend.mkdir(("n" * 255,))
    assert errno_of(backend.create, ("b",)) is Errno.NOSPC
    backend.rollback()
    key: tuple[str, ...] = ()
    for _ in range(1):
        key = (*key, "n" * 255)
        backend.mkdir(key)
    backend.commit()
    backend.close()
    backend = WritableArchive(path)
    for _ in range(14):
        key = (*key, "n" * 255)
        backend.mkdir(key)
    assert errno_of(backend.mkdir, (*key, "n" * 255, "x")) is Errno.NOENT
    backend.mkdir((*key, "n" * 255))
    assert errno_of(backend.mkdir, (*key, "n" * 255, "x")) is Errno.NAMETOOLONG
    backend.rename(("d",), ("e",))
    backend.mkdir(("dd",))
    assert errno_of(backend.rename, (key[0],), ("dd", key[0])) is Errno.NAMETOOLONG
    assert errno_of(backend.symlink, "t" * 4097, ("l",)) is Errno.NAMETOOLONG
    backend.commit()
    backend.close()
    with pytest.raises(MountError, match="more than 8 entries"):
        WritableArchive(path, max_entries=8)


def test_what_is_staged_is_bounded(path: Path, old: bytes) -> None:
    backend = WritableArchive(path, max_staged_bytes=100_000)
    handle = backend.create(("big",))
    assert errno_of(handle.write_from, 0, bytes(100_001)) is Errno.NOSPC
    handle.write_from(0, bytes(90_000))
    backend.commit()
    handle.write_from(90_000, bytes(10_000))
    handle.close()
    backend.commit()
    assert backend.stat(("big",)).size == 100_000
    backend.close()


def test_root_inside_the_archive(path: Path, old: bytes) -> None:
    backend = WritableArchive(path, root="d/e")
    assert tree(backend) == {"deep": b"deep"}
    put(backend, ("new",), b"1")
    backend.rename(("deep",), ("deeper",))
    backend.commit()
    assert tree(backend) == {"deeper": b"deep", "new": b"1"}
    assert backend.place == ("archive", str(path), "d", "e")
    backend.close()
    assert seen(path)["d"] == {"in": b"in", "e": {"deeper": b"deep", "new": b"1"}}
    for root, reason in {"none": "no such directory", "keep": "not a directory"}.items():
        with pytest.raises(MountError, match=reason):
            WritableArchive(path, root=root)
    with pytest.raises(MountError, match="it is a new one"):
        WritableArchive(path.with_name("new.tar"), root="d")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("seed", range(3))
def test_any_changes_commits_and_rollbacks_end_in_the_tree_that_memory_has(
    tmp_path: Path, kind: str, seed: int
) -> None:
    path = tmp_path / f"a.{kind}"
    backend, model = WritableArchive(path, staging_memory_bytes=seed * 20_000), MemoryBackend()
    committed = model.export()
    rng = random.Random(seed)

    def some_key() -> tuple[str, ...]:
        return tuple(rng.choice(["a", "b", "d", "e"]) for _ in range(rng.choice([1, 1, 2, 3])))

    def write(target: Backend, key: tuple[str, ...], offset: int, data: bytes) -> None:
        handle = target.open(key, True)
        try:
            handle.write_from(offset, data)
            handle.truncate(handle.size() - len(data) // 3)
        finally:
            handle.close()

    for _ in range(300):
        key, other = some_key(), some_key()
        offset, data = rng.randrange(70_000), rng.randbytes(rng.choice([3, 3000, 50_000]))
        calls: dict[str, Callable[..., object]] = {
            "create": lambda target, key, *_: target.create(key).close(),
            "write": lambda target, key, _, offset, data: write(target, key, offset, data),
            "mkdir": lambda target, key, *_: target.mkdir(key),
            "remove": lambda target, key, *_: target.remove(key),
            "rmdir": lambda target, key, *_: target.rmdir(key),
            "rename": lambda target, key, other, *_: target.rename(key, other),
            "link": lambda target, key, other, *_: target.link(key, other),
            "symlink": lambda target, key, *_: target.symlink("target", key),
        }
        name = rng.choice([*calls, "write", "create", "link", "commit", "rollback", "again"])
        if name in calls:
            if name != "rename" or other[: len(key)] != key:
                outcomes = [errno_of(calls[name], target, key, other, offset, data) for target in (backend, model)]
                assert outcomes[0] is outcomes[1], (name, key, other)
        elif name == "rollback":
            backend.rollback()
            model = MemoryBackend(committed)
        elif rng.random() < 0.4:
            backend.commit()
            committed = model.export()
            if name == "again":
                backend.close()
                backend = WritableArchive(path, staging_memory_bytes=seed * 20_000)
        if name != "rollback" and "link" not in name:
            assert tree(backend) == tree(model)
        elif name == "rollback":
            # Which names are one file, a tree that is spelled does not say.
            backend.close()
            backend = WritableArchive(path)
            model = MemoryBackend(committed)
            assert tree(backend) == tree(model)
            path.unlink(missing_ok=True)
            backend.close()
            backend, model, committed = WritableArchive(path), MemoryBackend(), MemoryBackend().export()
    backend.commit()
    backend.close()
    if path.exists():
        assert seen(path) == tree(model)
        names(path)


# Mounts


@pytest.mark.parametrize("kind", TARS)
def test_a_tar_is_mounted_rw_and_a_new_one_is_made(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "d" / f"a.{kind}"
    path.parent.mkdir()
    for number, source in enumerate((str(path), f"tar://{path}", path, str(path))):
        backend = open_source(vfswasi.Mount(source, rw=True))
        assert isinstance(backend, WritableArchive)
        put(backend, (f"f{number}",), noise(1000, number))
        backend.set_times((f"f{number}",), None, NEW_NS + number)
        backend.finish(False)
        put(backend, (f"f{number}",), noise(1000, number))
        backend.set_times((f"f{number}",), None, NEW_NS + number)
        backend.finish(True)
        backend.close()
        only(path)
    assert seen(path) == {f"f{number}": noise(1000, number) for number in range(4)}
    if shutil.which("tar"):
        assert extracted(path, tmp_path / "out") == seen(path)
    again = open_source(str(path))
    assert again.stat(("f1",)).mtim_ns == NEW_NS + 1
    assert Caps.WRITE not in again.caps
    again.close()


@pytest.mark.skipif(not ZSTD, reason="needs Python 3.14, or backports.zstd")
def test_tar_with_zstd(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.zst"
    for number in range(2):
        backend = open_source(vfswasi.Mount(str(path), rw=True))
        put(backend, (f"f{number}",), noise(10_000))
        backend.finish(True)
        backend.close()
    assert path.read_bytes().startswith(b"\x28\xb5\x2f\xfd")
    assert seen(path) == {"f0": noise(10_000), "f1": noise(10_000)}


@pytest.mark.skipif(ZSTD, reason="there is an encoder")
def test_without_an_encoder_the_mount_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("a.tar.zst", "a.tzst"):
        with pytest.raises(MountError, match=r"zstd needs Python 3\.14, or `pip install \"vfswasi\[zstd\]\"`"):
            open_source(vfswasi.Mount(str(tmp_path / name), rw=True))
    assert os.listdir(tmp_path) == []


def test_what_tar_has_no_name_for_is_refused(tmp_path: Path) -> None:
    for name in ("a.tar.lz4", "a.tar.Z"):
        with pytest.raises(MountError, match="its name must end in"):
            open_source(vfswasi.Mount(str(tmp_path / name), rw=True))
    with pytest.raises(MountError, match="does not exist"):
        open_source(vfswasi.Mount(str(tmp_path / "new"), rw=True))
    with pytest.raises(MountError, match="its name must end in"):
        open_source(vfswasi.Mount(f"tar://{tmp_path}/new.zip", rw=True))


def test_members_keep_their_owners_when_a_guest_writes_to_them(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("f")
        info.uid, info.gid, info.uname, info.gname, info.mode = 7, 8, "seven", "eight", 0o751
        info.pax_headers = {"comment": "kept"}
        file.addfile(info)
    backend = WritableArchive(path)
    put(backend, ("f",), b"new")
    backend.commit()
    backend.close()
    with tarfile.open(path) as file:
        info = file.getmember("f")
        assert (info.uid, info.gid, info.uname, info.gname, info.mode) == (7, 8, "seven", "eight", 0o751)
        assert info.pax_headers["comment"] == "kept"
        assert file.extractfile(info).read() == b"new"  # type: ignore[union-attr]
