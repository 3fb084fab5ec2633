"""`rewrite`: what becomes of the members of an archive, in each format."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fs_backends.rewriting.differences import (
    KINDS,
    NEW_NS,
    added,
    dated,
    directory,
    extracted,
    link,
    modified,
    names,
    pack,
    removed,
    renamed,
    seen,
    symlink,
)
from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import noise
from tests.fs_backends.zip_written import only
from vfswasi.errors import ConflictError, Errno, FsError, MountError
from vfswasi.fs_backends.archive.rewriting import rewrite
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.testing.ground import errno_of

OLD: dict[str, bytes | None] = {
    "keep": noise(50_000),
    "d": None,
    "d/a": b"in d",
    "d/e/deep": b"deep",
    "change": b"change" * 100,
    "gone": b"gone",
    "last": b"last",
}


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of an archive with `OLD`; nothing else is in its directory."""
    place: Path = tmp_path / "in" / f"a.{request.param}"
    place.parent.mkdir()
    pack(place, OLD)
    return place


def readable(path: Path, tmp_path: Path) -> dict[str, object]:
    """What a mount shows, which is what the system's program takes out."""
    found = seen(path)
    if shutil.which("unzip") and shutil.which("tar"):
        assert extracted(path, tmp_path / "out") == found
    return found


def test_differences_of_every_kind(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    rewrite(
        path,
        [
            modified("change", b"other"),
            removed("gone"),
            renamed("d", "moved"),
            renamed("d/a", "a"),
            modified("a", b"a in its new place", "d/a"),
            directory("empty"),
            symlink("link", "keep"),
            dated("last"),
            added("moved/new", b"new"),
        ],
    )
    assert readable(path, tmp_path) == {
        "keep": OLD["keep"],
        "change": b"other",
        "moved": {"e": {"deep": b"deep"}, "new": b"new"},
        "a": b"a in its new place",
        "empty": {},
        "link": "-> keep",
        "last": b"last",
    }
    # The old order, and what is new behind it.
    assert names(path) == [
        "keep", "moved/", "a", "moved/e/deep", "change", "last", "empty/", "link", "moved/new"
    ]  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    only(path)


def test_nothing_changes_where_nothing_differs(path: Path) -> None:
    before = path.read_bytes(), path.stat().st_ino
    rewrite(path, [])
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_a_directory_that_is_made_again_is_empty(path: Path, tmp_path: Path) -> None:
    rewrite(path, [removed("d"), directory("d"), added("d/x", b"x")])
    found = readable(path, tmp_path)
    assert found["d"] == {"x": b"x"}


def test_names_may_change_places(path: Path, tmp_path: Path) -> None:
    rewrite(path, [renamed("keep", "gone"), renamed("gone", "keep"), renamed("d/e", "e"), renamed("d", "e/d")])
    found = readable(path, tmp_path)
    assert (found["keep"], found["gone"]) == (b"gone", OLD["keep"])
    assert found["e"] == {"deep": b"deep", "d": {"a": b"in d"}}


def test_a_directory_without_a_member_of_its_own_stays_when_it_is_emptied(path: Path, tmp_path: Path) -> None:
    rewrite(path, [removed("d/e/deep")])
    assert readable(path, tmp_path)["d"] == {"a": b"in d", "e": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_not_there_is_made_of_the_kind_that_its_name_says(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / f"new.{kind}"
    path.parent.mkdir()
    rewrite(path, [directory("d"), added("d/f", b"1" * 1000), symlink("l", "d/f"), link("d/again", "d/f")])
    expected = {"d": {"f": b"1" * 1000, "again": b"1" * 1000}, "l": "-> d/f"}
    assert readable(path, tmp_path) == expected
    assert (
        path.read_bytes()[:2]
        == {"zip": b"PK", "tar": b"./", "gz": b"\x1f\x8b", "bz2": b"BZ", "xz": b"\xfd7"}[kind.rpartition(".")[2]]
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    only(path)


def test_names_that_no_archive_has_are_refused_for_a_new_one(tmp_path: Path) -> None:
    for name in ("new.tar.lz4", "new", "new.rar"):
        with pytest.raises(MountError, match=r"its name must end in \.zip, \.tar, \.tar\.gz"):
            rewrite(tmp_path / name, [added("f")])
    assert os.listdir(tmp_path) == []


def test_differences_that_do_not_fit_the_archive_change_nothing(path: Path) -> None:
    before = path.read_bytes()
    long = "n" * 200
    for entries, errno in [
        ([removed("none")], Errno.NOENT),
        ([renamed("none", "x")], Errno.NOENT),
        ([modified("none", b"")], Errno.NOENT),
        ([modified("d", b"")], Errno.INVAL),
        ([dated("none")], Errno.NOENT),
        ([added("keep", b"")], Errno.EXIST),
        ([added("d", b"")], Errno.EXIST),
        ([renamed("gone", "keep")], Errno.EXIST),
        ([renamed("gone", "d/a")], Errno.EXIST),
        ([renamed("d", "x"), renamed("gone", "x/a")], Errno.EXIST),
        ([added("x"), added("x")], Errno.EXIST),
        ([added("none/x")], Errno.NOTDIR),
        ([added("keep/x")], Errno.NOTDIR),
        ([renamed("gone", "none/x")], Errno.NOTDIR),
        ([link("x", "none")], Errno.NOENT),
        ([link("x", "d")], Errno.NOENT),
        ([removed("gone"), link("x", "gone")], Errno.NOENT),
        ([added("../x")], Errno.INVAL),
        ([added("/x")], Errno.INVAL),
        ([added("d//x")], Errno.INVAL),
        ([added("x\0y")], Errno.INVAL),
        ([added("n" * 256)], Errno.INVAL),
        ([added("/".join([long] * 30))], Errno.NAMETOOLONG),
    ]:
        assert errno_of(lambda entries=entries: rewrite(path, entries)) is errno, entries
    assert path.read_bytes() == before
    only(path)


def test_whoever_checks_sees_the_old_archive_and_may_stop_it(path: Path) -> None:
    before = path.read_bytes()

    def check(backend: Backend) -> None:
        assert tree(backend)["gone"] == b"gone"
        raise ConflictError("it is another one", {"gone": "edited"})

    with pytest.raises(ConflictError):
        rewrite(path, [removed("gone")], check=check)
    assert path.read_bytes() == before
    only(path)


def test_an_archive_that_changes_after_the_check_is_left_alone(path: Path) -> None:
    def check(_: Backend) -> None:
        os.utime(path, ns=(1, 1))

    before = path.read_bytes()
    assert errno_of(lambda: rewrite(path, [removed("gone")], check=check)) is Errno.STALE
    assert path.read_bytes() == before
    only(path)


def test_progress_ends_with_all_of_it(path: Path) -> None:
    told: list[tuple[int, int]] = []
    rewrite(path, [added("x", noise(100_000))], progress=lambda done, whole: told.append((done, whole)))
    assert told[-1][0] == told[-1][1] > 100_000
    assert all(done <= whole for done, whole in told)


def test_contents_that_became_shorter_stop_it(path: Path) -> None:
    before = path.read_bytes()
    entry = added("x", b"short")
    assert entry.content is not None
    longer = Entry("added", "x", FileType.REGULAR_FILE, size=100, content=entry.content)
    with pytest.raises(FsError, match="shorter than they were") as caught:
        rewrite(path, [longer])
    assert caught.value.errno is Errno.IO
    assert path.read_bytes() == before
    only(path)


@pytest.mark.parametrize("change", ["removed", "renamed"])
def test_members_of_a_zip_beside_a_directory_of_5000_keep_their_compressed_bytes(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.zip"
    pack(path, {f"{where}/f{number}": b"%d" % number * 50 for number in range(5000) for where in ("big", "other")})
    with zipfile.ZipFile(path) as file:
        before = {info.filename: raw(file, info) for info in file.infolist()}
    rewrite(path, [removed("big") if change == "removed" else renamed("big", "other/moved")])
    with zipfile.ZipFile(path) as file:
        after = {info.filename: raw(file, info) for info in file.infolist()}
        assert file.testzip() is None
    kept = {name: data for name, data in before.items() if name.startswith("other/")}
    if change == "renamed":
        kept |= {f"other/moved{name[3:]}": data for name, data in before.items() if name.startswith("big/")}
    assert after == kept


def raw(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The compressed bytes of a member."""
    assert file.fp is not None
    file.fp.seek(info.header_offset + 26)
    lengths = file.fp.read(4)
    file.fp.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
    return file.fp.read(info.compress_size)


def test_times_of_a_tar_are_exact_and_those_of_a_zip_whole_seconds(path: Path) -> None:
    rewrite(path, [dated("keep"), dated("d"), added("x")])
    from vfswasi.fs_backends.archive.rewriting import ArchiveFile

    expected = NEW_NS // 10**9 * 10**9 if path.suffix == ".zip" else NEW_NS
    with ArchiveFile(path) as archive:
        assert [archive.backend.stat((name,)).mtim_ns for name in ("keep", "d", "x")] == [expected] * 3
        assert archive.backend.stat(("gone",)).mtim_ns == 1_580_702_706 * 10**9
    if path.suffix != ".zip":
        with tarfile.open(path) as file:
            assert file.getmember("x").pax_headers["mtime"] == "1700000000.123456789"
