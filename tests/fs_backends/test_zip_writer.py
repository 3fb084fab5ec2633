"""WritableZipBackend: what a guest may do, what a commit writes, and several runs on one backend."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import BZIP2, DEFLATED, LZMA, Entry, archive, forge, noise
from tests.fs_backends.zip_written import OLD, check, fill, only, put
from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.archive.zip.directory import extra_fields
from vfswasi.fs_backends.base import Backend, Caps, FileType
from vfswasi.fs_backends.memory.backend import MemoryBackend, Symlink
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import contents, errno_of, read

UNZIP = shutil.which("unzip")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the archive is; nothing else is in its directory."""
    (tmp_path / "d").mkdir()
    return tmp_path / "d" / "a.zip"


@pytest.fixture
def old(path: Path) -> bytes:
    """The bytes of an archive with `OLD` at `path`."""
    path.write_bytes(archive(OLD))
    return path.read_bytes()


class _Temporary(WritableZipBackend):
    """Removes its archive when it is closed; what every test leaves has to be an archive."""

    def close(self) -> None:
        self.commit()
        expected = tree(self)
        super().close()
        if os.path.exists(self._archive.path):
            check(Path(self._archive.path), expected)
        shutil.rmtree(os.path.dirname(self._archive.path))


class TestNewZip(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        backend = _Temporary(os.path.join(tempfile.mkdtemp(prefix="vfswasi-test-"), "new.zip"))
        fill(backend, tree)
        return backend


class TestZipAfterCommit(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        backend = _Temporary(os.path.join(tempfile.mkdtemp(prefix="vfswasi-test-"), "new.zip"))
        fill(backend, tree)
        backend.commit()
        return backend


class TestExistingZip(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        path = os.path.join(tempfile.mkdtemp(prefix="vfswasi-test-"), "old.zip")
        first = WritableZipBackend(path)
        fill(first, tree)
        first.commit()
        first.close()
        if not tree:
            Path(path).write_bytes(archive({}))
        return _Temporary(path)


class TestExistingZipStagedInAFile(TestExistingZip):
    def make(self, tree: dict[str, Any]) -> Backend:
        backend = super().make(tree)
        assert isinstance(backend, WritableZipBackend)
        backend.space.memory_bytes = 0
        return backend


def test_caps(path: Path) -> None:
    backend = WritableZipBackend(path)
    expected = Caps.WRITE | Caps.RANDOM_WRITE | Caps.EMPTY_DIRS | Caps.SYMLINKS | Caps.SET_TIMES
    assert backend.caps == expected | Caps.ATOMIC_RENAME | Caps.HANDLE_SURVIVES_UNLINK
    assert not isinstance(backend, MemoryBackend)
    backend.close()


# Commit


def test_a_new_archive(path: Path) -> None:
    backend = WritableZipBackend(path)
    literal: dict[str, Any] = {
        "short": b"x" * 63,
        "long": b"x" * 64,
        "empty": b"",
        "üñ": b"1",
        "d": {"e": {}, "link": Symlink("../short")},
    }
    fill(backend, literal)
    backend.set_times(("short",), None, 1_600_000_001_500_000_000)
    assert backend.changed
    assert not path.exists()
    backend.commit()
    assert not backend.changed
    only(path)
    expected = {"short": b"x" * 63, "long": b"x" * 64, "empty": b"", "üñ": b"1", "d": {"e": {}, "link": "-> ../short"}}
    check(path, expected)
    assert tree(backend) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as file:
        infos = {info.filename: info for info in file.infolist()}
    assert infos["short"].compress_type == zipfile.ZIP_STORED
    assert infos["long"].compress_type == zipfile.ZIP_DEFLATED
    assert {name: oct(info.external_attr >> 16) for name, info in infos.items()} == {
        "short": "0o100600",
        "long": "0o100600",
        "empty": "0o100600",
        "üñ": "0o100600",
        "d/": "0o40700",
        "d/e/": "0o40700",
        "d/link": "0o120777",
    }
    assert infos["üñ"].flag_bits & 0x800
    assert infos["short"].date_time == (2020, 9, 13, 12, 26, 40)
    assert infos["short"].extra == struct.pack("<HHBi", 0x5455, 5, 1, 1_600_000_001)
    # What the archive cannot hold, nobody sees any more.
    assert backend.stat(("short",)).mtim_ns == 1_600_000_001_000_000_000
    backend.close()
    again = WritableZipBackend(path)
    assert again.stat(("short",)).mtim_ns == 1_600_000_001_000_000_000
    again.close()


@pytest.mark.skipif(UNZIP is None, reason="needs unzip")
def test_unzip_reads_what_was_written(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    put(backend, ("new",), noise(100_000))
    backend.symlink("new", ("link",))
    backend.commit()
    backend.close()
    assert UNZIP is not None
    done = subprocess.run([UNZIP, "-t", path], capture_output=True, text=True, check=True)
    assert "No errors detected" in done.stdout
    subprocess.run([UNZIP, "-q", path, "-d", path.parent / "out"], check=True)
    assert (path.parent / "out" / "link").readlink() == Path("new")
    assert (path.parent / "out" / "d" / "e" / "deep").read_bytes() == b"deep"


def test_what_was_not_changed_is_not_written(path: Path, old: bytes) -> None:
    before = path.stat()
    backend = WritableZipBackend(path)
    handle = backend.open(("change",), True)
    assert read(handle, 0, 6) == b"change"
    handle.write_from(0, b"")
    handle.close()
    tree(backend)
    assert not backend.changed
    backend.commit()
    backend.close()
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path.read_bytes() == old
    new = WritableZipBackend(path.with_name("new.zip"))
    new.commit()
    new.close()
    only(path)


def test_changes_of_every_kind(path: Path, old: bytes) -> None:
    path.chmod(0o640)
    backend = WritableZipBackend(path)
    handle = backend.open(("change",), True)
    handle.write_from(3, b"NGE")
    handle.close()
    backend.remove(("gone",))
    backend.rename(("d",), ("moved",))
    backend.rename(("moved", "in"), ("out",))
    put(backend, ("moved", "e", "new"), b"new" * 100)
    backend.mkdir(("empty",))
    expected: dict[str, object] = {
        "keep": OLD["keep"],
        "change": b"chaNGE" + b"change" * 99,
        "moved": {"e": {"deep": b"deep", "new": b"new" * 100}},
        "out": b"in",
        "empty": {},
    }
    assert tree(backend) == expected
    assert path.read_bytes() == old
    backend.commit()
    only(path)
    check(path, expected)
    assert tree(backend) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    backend.close()


def raw(path: Path, name: str) -> bytes:
    """The compressed bytes of a member."""
    with zipfile.ZipFile(path) as file, path.open("rb") as data:
        info = file.getinfo(name)
        data.seek(info.header_offset + 26)
        data.seek(sum(struct.unpack("<HH", data.read(4))), 1)
        return data.read(info.compress_size)


def test_members_that_were_not_touched_are_copied_as_they_are(path: Path) -> None:
    ntfs = struct.pack("<HHIHHQQQ", 0x000A, 32, 0, 1, 24, 132_539_640_015_000_000, 1, 2)
    unix = struct.pack("<HHBiI", 0x5455, 9, 3, 77, 78)
    data = noise(20_000)
    path.write_bytes(
        forge(
            Entry("bad", data, DEFLATED, crc=1),
            Entry("deflated", data, DEFLATED, flags=0x808, after=b"PK\7\x08" + bytes(12), mode=0o100755),
            Entry("times", b"t", extra=ntfs, local_extra=ntfs),
            Entry("unix", b"u", extra=unix[:4].replace(b"\x09", b"\x05") + unix[4:9], local_extra=unix),
            Entry(b"\x81ber", b"1", flags=0),
            Entry("secret", b"x" * 12 + data, flags=0x809, after=b"PK\7\x08" + bytes(12)),
            Entry("unknown", data, 97, payload=data),
            Entry("fifo", mode=0o010644),
            Entry("link", b"target", mode=0o120777),
            Entry("odd", b"1", date=0),
        )
    )
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("bzip2", data, BZIP2)
        file.writestr("lzma", data, LZMA)
    before = {name: raw(path, name) for name in ("bad", "deflated", "secret", "unknown", "bzip2", "lzma")}
    with zipfile.ZipFile(path) as file:
        infos = {info.filename: info for info in file.infolist()}
    backend = WritableZipBackend(path)
    put(backend, ("new",), b"new")
    times = {name: backend.stat((name,)).mtim_ns for name in ("times", "unix", "deflated")}
    backend.commit()
    assert {name: raw(path, name) for name in before} == before
    with zipfile.ZipFile(path) as file:
        after = {info.filename: info for info in file.infolist()}
    assert set(after) == set(infos) | {"new"}
    for name, info in infos.items():
        for field in ("CRC", "compress_type", "file_size", "compress_size", "external_attr", "create_system"):
            assert getattr(after[name], field) == getattr(info, field), (name, field)
        assert after[name].date_time == info.date_time
    assert after["times"].extra == ntfs
    assert after["secret"].flag_bits & 0x9 == 0x9
    assert after["deflated"].flag_bits & 0x8
    backend.close()
    reader = ZipBackend(path)
    assert {name: reader.stat((name,)).mtim_ns for name in times} == times
    found = tree(reader)
    assert found["deflated"] == found["bzip2"] == found["lzma"] == data
    assert (found["über"], found["link"], found["odd"]) == (b"1", "-> target", b"1")
    assert {name for name, value in found.items() if value is Errno.IO} == {"bad", "secret", "unknown"}
    assert found["fifo"] is Errno.ACCES
    reader.close()


def test_a_time_that_was_set_replaces_those_of_the_member_only(path: Path) -> None:
    ntfs = struct.pack("<HHIHHQQQ", 0x000A, 32, 0, 1, 24, 132_539_640_015_000_000, 1, 2)
    other = struct.pack("<HH4s", 0x7875, 4, b"abcd")
    path.write_bytes(forge(Entry("f", noise(1000), DEFLATED, extra=ntfs + other, mode=0o100755)))
    before = raw(path, "f")
    backend = WritableZipBackend(path)
    backend.set_times(("f",), None, 1_700_000_000 * 10**9)
    backend.commit()
    backend.close()
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("f")
    assert info.extra == other + struct.pack("<HHBi", 0x5455, 5, 1, 1_700_000_000)
    assert info.external_attr >> 16 == 0o100755
    assert raw(path, "f") == before


@pytest.mark.parametrize("time_ns", [-(2**70), -1, 0, 2**31 * 10**9, 2**40 * 10**9, 2**70])
def test_times_that_the_format_cannot_hold_are_brought_near(path: Path, time_ns: int) -> None:
    backend = WritableZipBackend(path)
    fill(backend, {"f": b"1", "d": {}})
    for name in ("f", "d"):
        backend.set_times((name,), time_ns, time_ns)
    backend.commit()
    backend.close()
    read_back = ZipBackend(path).stat(("f",)).mtim_ns
    assert read_back is not None
    if -(2**31) <= time_ns // 10**9 < 2**31:
        assert read_back == time_ns // 10**9 * 10**9
    elif 0 <= time_ns // 10**9 < 2**32:
        assert abs(read_back - time_ns) < 2 * 10**9
    else:
        assert read_back in (4_354_819_198 * 10**9, 315_532_800 * 10**9)


def test_the_mode_of_a_file_that_is_written_to_stays(path: Path) -> None:
    path.write_bytes(forge(Entry("run", b"old", mode=0o100755), Entry("d/", mode=0o040755), Entry("dos", system=0)))
    backend = WritableZipBackend(path)
    for name in ("run", "dos"):
        put(backend, (name,), b"new")
    put(backend, ("d", "f"), b"1")
    backend.commit()
    backend.close()
    with zipfile.ZipFile(path) as file:
        modes = {info.filename: oct(info.external_attr >> 16) for info in file.infolist()}
    assert modes == {"run": "0o100755", "d/": "0o40755", "d/f": "0o100600", "dos": "0o100600"}


def test_hidden_names_are_dropped_and_siblings_stay(path: Path) -> None:
    path.write_bytes(forge(Entry("../x", b"1"), Entry("a", b"old"), Entry("a", b"2"), Entry("/y"), Entry("b//c")))
    backend = WritableZipBackend(path)
    backend.mkdir(("d",))
    backend.commit()
    backend.close()
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["a", "d/"]
        assert file.read("a") == b"2"


def test_directories_without_an_entry_get_one_when_it_is_needed(path: Path) -> None:
    path.write_bytes(archive({"a/b/f": b"1", "c/g": b"2"}))
    backend = WritableZipBackend(path)
    backend.remove(("a", "b", "f"))
    backend.commit()
    backend.close()
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["c/g", "a/b/"]
    check(path, {"a": {"b": {}}, "c": {"g": b"2"}})


def test_a_member_that_cannot_be_copied_stops_the_commit_until_it_is_removed(path: Path) -> None:
    path.write_bytes(
        forge(Entry("twin", b"data" * 11, file_size=79, compress_size=79), Entry("twin2", b"data"), Entry("good", b"1"))
    )
    before = path.read_bytes()
    backend = WritableZipBackend(path)
    backend.mkdir(("d",))
    with pytest.raises(FsError, match="zip member 'twin") as caught:
        backend.commit()
    assert caught.value.errno is Errno.IO
    assert path.read_bytes() == before
    only(path)
    backend.remove(("twin",))
    backend.remove(("twin2",))
    backend.commit()
    check(path, {"good": b"1", "d": {}})
    backend.close()


def test_zip64(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    backend = WritableZipBackend(path)
    fill(backend, {"a": noise(5000), "b": b"b"})
    backend.commit()
    for _ in range(2):  # a copy of a copy too
        put(backend, ("c",), b"c")
        backend.commit()
    backend.close()
    data = path.read_bytes()
    assert b"PK\6\6" in data
    # The first local header: both sizes stand in one extra field.
    assert data[18:26] == b"\xff" * 8
    name_bytes, extra_bytes = struct.unpack("<HH", data[26:30])
    tags = [tag for tag, _ in extra_fields(data[30 + name_bytes : 30 + name_bytes + extra_bytes])]
    assert sorted(tags) == [1, 0x5455]
    check(path, {"a": noise(5000), "b": b"b", "c": b"c"})


def test_many_entries_and_deep_trees(path: Path) -> None:
    backend = WritableZipBackend(path)
    key: tuple[str, ...] = ()
    for _ in range(1500):
        key = (*key, "d")
        backend.mkdir(key)
    for number in range(300):
        put(backend, (f"f{number}",), b"%d" % number)
    backend.commit()
    backend.close()
    again = WritableZipBackend(path)
    assert again.stat(key).filetype is FileType.DIRECTORY
    assert contents(again, ("f299",)) == b"299"
    again.rmdir(key)
    again.commit()
    again.close()


def test_root_inside_the_archive(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path, root="d/e")
    assert tree(backend) == {"deep": b"deep"}
    put(backend, ("new",), b"1")
    backend.commit()
    backend.rollback()
    assert tree(backend) == {"deep": b"deep", "new": b"1"}
    backend.close()
    reader = ZipBackend(path)
    assert tree(reader)["d"] == {"in": b"in", "e": {"deep": b"deep", "new": b"1"}}
    assert contents(reader, ("keep",)) == OLD["keep"]
    reader.close()
    for root, reason in {"none": "no such directory", "keep": "not a directory"}.items():
        with pytest.raises(MountError, match=reason):
            WritableZipBackend(path, root=root)


def test_what_is_no_archive_or_no_place_for_one_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no archive")
    os.mkfifo(tmp_path / "fifo")
    wrong = [path, tmp_path / "fifo", tmp_path, tmp_path / "none" / "a.zip", tmp_path / "nul\0", path / "below"]
    for place in wrong:
        with pytest.raises(MountError, match=r"^cannot mount zip archive [^\n]*; [^\n]*$") as caught:
            WritableZipBackend(place)
        assert repr(os.fspath(place)) in str(caught.value)
    with pytest.raises(TypeError, match="path must be a path, not BytesIO"):
        WritableZipBackend(io.BytesIO())  # type: ignore[arg-type]


def test_a_link_to_an_archive_stays_a_link(path: Path, old: bytes, tmp_path: Path) -> None:
    link = tmp_path / "link.zip"
    link.symlink_to(path)
    backend = WritableZipBackend(link)
    backend.mkdir(("new",))
    backend.commit()
    backend.close()
    assert link.is_symlink()
    assert "new/" in zipfile.ZipFile(path).namelist()


# Several runs


def test_rollback_returns_to_the_last_commit(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    before = tree(backend)
    backend.remove(("keep",))
    put(backend, ("change",), b"x")
    put(backend, ("new",), b"x" * 100_000)
    version = backend.listing_version(())
    backend.rollback()
    assert tree(backend) == before
    assert backend.listing_version(()) != version
    assert not backend.changed
    assert backend.space.used_bytes == 0
    assert path.read_bytes() == old
    put(backend, ("second",), b"2")
    backend.commit()
    backend.rename(("d",), ("dd",))
    backend.rollback()
    assert tree(backend) == before | {"second": b"2"}
    backend.close()


def test_close_without_commit_discards(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    put(backend, ("keep",), b"x")
    backend.close()
    backend.close()
    assert path.read_bytes() == old
    only(path)
    assert errno_of(backend.commit) is Errno.IO


def test_handles_go_on_through_a_commit(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    untouched = backend.open(("keep",), False)
    lazy = backend.open(("d", "in"), True)
    changed = backend.open(("change",), True)
    unlinked = backend.open(("gone",), True)
    made = backend.create(("made",))
    assert read(untouched, 0, 10) == OLD["keep"][:10]
    changed.write_from(0, b"CHANGE")
    backend.remove(("gone",))
    idents = [handle.ident() for handle in (untouched, lazy, changed, unlinked, made)]
    for number in range(3):
        backend.mkdir((f"n{number}",))
        made.append(b"made")
        backend.commit()
        assert backend.space.used_bytes == 0
        assert read(untouched, 40_000, 10_000) == OLD["keep"][40_000:]
        assert read(lazy, 0, 9) == b"in"
        assert read(changed, 0, 12) == b"CHANGEchange"
        assert read(unlinked, 0, 9) == b"gone"
        assert unlinked.stat().nlink == 0
    lazy.write_from(2, b"!")
    unlinked.write_from(0, b"still")
    assert read(unlinked, 0, 9) == b"still"
    assert [handle.ident() for handle in (untouched, lazy, changed, unlinked, made)] == idents
    assert backend.stat(("change",)).ident == idents[2]
    backend.commit()
    assert contents(backend, ("made",)) == b"made" * 3
    for handle in (untouched, lazy, changed, unlinked, made):
        handle.close()
    assert contents(backend, ("d", "in")) == b"in!"
    assert backend.space.used_bytes == 0
    backend.close()
    assert ZipBackend(path).stat(("made",)).size == 12


def test_commits_leave_no_descriptors(path: Path, old: bytes) -> None:
    before = open_files()
    backend = WritableZipBackend(path)
    orphan, late, kept = (backend.open((name,), False) for name in ("gone", "change", "keep"))
    backend.remove(("gone",))
    for number in range(5):
        put(backend, (f"f{number}",), b"x")
        backend.commit()
    assert len(opened_since(before)) == 2
    backend.remove(("change",))
    for number in range(5):
        put(backend, (f"g{number}",), b"x")
        backend.commit()
    assert len(opened_since(before)) == 3
    assert read(orphan, 0, 9) == b"gone"
    assert read(late, 0, 6) == b"change"
    assert read(kept, 0, 9) == OLD["keep"][:9]
    for handle, left in ((orphan, 2), (late, 1), (kept, 1)):
        handle.close()
        assert len(opened_since(before)) == left
    backend.close()
    assert opened_since(before) == []


def test_handles_go_on_after_a_rollback_without_a_name(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    changed, same = backend.open(("change",), True), backend.open(("keep",), False)
    changed.write_from(0, b"CHANGE")
    backend.rollback()
    assert read(changed, 0, 6) == b"CHANGE"
    assert read(same, 0, 10) == OLD["keep"][:10]
    assert changed.stat().nlink == 0
    changed.write_from(0, b"xxxxxx")
    assert contents(backend, ("change",)) == OLD["change"]
    assert not backend.changed
    changed.close()
    same.close()
    assert backend.space.used_bytes == 0
    backend.close()
