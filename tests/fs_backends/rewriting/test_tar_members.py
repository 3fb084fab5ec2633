"""What becomes of the headers of a tar's members: raw bytes, records, names of one file, sparse and hidden ones."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.fs_backends.rewriting.differences import (
    NEW_NS,
    BytesContent,
    added,
    dated,
    directory,
    extracted,
    link,
    modified,
    names,
    removed,
    renamed,
    seen,
    symlink,
)
from tests.fs_backends.tar_forge import END, block, forge, member, pax, pax_record
from tests.fs_backends.zip_written import only
from vfswasi.errors import Errno, MountError
from vfswasi.fs_backends.archive.rewriting import ArchiveFile, rewrite
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.layers.overlay.entries import Entry
from vfswasi.testing.ground import contents, errno_of, read

TAR = shutil.which("tar")
LONG = "long/" * 20 + "n" * 90
LONG_NAME = LONG.replace("/", "-")
ODD = "ünïcode/" + "é" * 80


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "a.tar"


def members_of(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as file:
        return {info.name: info for info in file}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_that_did_not_change_keep_every_byte(path: Path, tmp_path: Path, form: int) -> None:
    with tarfile.open(path, "w", format=form) as file:
        for name in ("a", LONG, "d/" * 60 + "deep", "z"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 1000, 1_600_000_000
            info.uid, info.gid, info.uname, info.gname, info.mode = 1234, 5678, "someone", "some", 0o6754
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {"comment": "of " + name, "SCHILY.xattr.user.x": "1", "mtime": "1600000000.25"}
            file.addfile(info, io.BytesIO(bytes(1000)))
    before = path.read_bytes()
    blocks = members_of(path)
    starts = [info.offset for info in blocks.values()]
    end = starts[-1] + (blocks[list(blocks)[-1]].offset_data - starts[-1]) + 1024
    rewrite(path, [removed("a"), directory("ünïcode"), added("new", b"new")])
    assert path.read_bytes().startswith(before[starts[1] : end])
    rewrite(path, [renamed("z", "y"), dated(LONG), modified("d/" * 60 + "deep", b"!"), renamed("new", ODD + "2")])
    after = members_of(path)
    for name, old in (("y", "z"), (LONG, LONG), ("d/" * 60 + "deep", "d/" * 60 + "deep")):
        was, now = blocks[old], after[name]
        assert (now.uid, now.gid, now.uname, now.gname) == (1234, 5678, "someone", "some")
        for key, value in was.pax_headers.items():
            if key not in ("path", "mtime"):
                assert now.pax_headers[key] == value
    # What others wrote does not run as the owner of the file.
    assert after["d/" * 60 + "deep"].mode == 0o754
    assert after["y"].mode == 0o6754
    assert after["y"].mtime == blocks["z"].mtime
    if TAR:
        assert extracted(path, tmp_path / "out") == seen(path)


def test_large_sizes_and_odd_times_are_said_in_records(path: Path) -> None:
    from vfswasi.fs_backends.archive.tar.editing import REGULAR, Change, made

    header = made(REGULAR, Change("big", None, None, 9 << 30, -1_500_000_000), False)
    info = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "surrogateescape")
    assert info.size == 9 << 30
    assert pax_record("size", b"%d" % (9 << 30)) in header
    assert pax_record("mtime", b"-1.5") in header
    rewrite(path, [added("f"), added("g"), added("h")])
    times = {"f": -1_500_000_001, "g": 2**40 * 10**9 + 1, "h": 0}
    rewrite(path, [dated(name, time) for name, time in times.items()])
    with ArchiveFile(path) as archive:
        assert {name: archive.backend.stat((name,)).mtim_ns for name in times} == times


def test_names_of_every_length_and_script(path: Path, tmp_path: Path) -> None:
    found = ["x" * 99, "x" * 100, "x" * 101, "x" * 255, "/".join(["d" * 200] * 3), "é" * 100, "日本/語", " ", "a\nb"]
    entries: list[Entry] = []
    for number, name in enumerate(found):
        parts = name.split("/")
        entries += [directory("/".join(parts[:depth])) for depth in range(1, len(parts))]
        entries += [added(name, b"%d" % number), symlink(f"link{number}", name)]
    rewrite(path, entries)
    for _ in range(2):
        with ArchiveFile(path) as archive:
            for number, name in enumerate(found):
                assert contents(archive.backend, tuple(name.split("/"))) == b"%d" % number
                assert archive.backend.readlink((f"link{number}",)) == name
        if TAR:
            assert extracted(path, tmp_path / f"out{_}") == seen(path)
        rewrite(path, [dated(name) for name in found])


# Names of one file


def linked(path: Path) -> None:
    path.write_bytes(
        forge(
            member("first", b"shared", mtime=1000),
            member("between", b"between"),
            block(b"second", 0, b"1", link=b"first"),
            block(b"third", 0, b"1", link=b"second"),
        )
    )


@pytest.mark.parametrize(
    ("entries", "expected", "groups"),
    [
        ([removed("first")], {"second": b"shared", "third": b"shared"}, ["second third"]),
        ([removed("second")], {"first": b"shared", "third": b"shared"}, ["first third"]),
        ([removed("first"), removed("second")], {"third": b"shared"}, []),
        ([renamed("first", "x")], {"x": b"shared", "second": b"shared", "third": b"shared"}, ["x second third"]),
        ([modified("first", b"new")], {"first": b"new", "second": b"shared", "third": b"shared"}, ["second third"]),
        ([modified("third", b"new")], {"first": b"shared", "second": b"shared", "third": b"new"}, ["first second"]),
        ([removed("first"), added("first", b"!")], {"first": b"!", "second": b"shared", "third": b"shared"},
         ["second third"]),
        ([link("fourth", "second")], dict.fromkeys(("first", "second", "third", "fourth"), b"shared"),
         ["first second third fourth"]),
        ([dated("second")], {"first": b"shared", "second": b"shared", "third": b"shared"}, ["first second third"]),
        ([removed("third"), link("x", "new"), added("new", b"n")],
         {"first": b"shared", "second": b"shared", "new": b"n", "x": b"n"}, ["first second", "new x"]),
    ],
)  # fmt: skip
def test_names_of_one_file(
    path: Path, tmp_path: Path, entries: list[Entry], expected: dict[str, bytes], groups: list[str]
) -> None:
    linked(path)
    rewrite(path, entries)
    assert seen(path) == {**expected, "between": b"between"}
    with ArchiveFile(path) as archive:
        stats = {name: archive.backend.stat((name,)) for name in expected}
    for group in groups:
        inside = group.split()
        assert len({stats[name].ident for name in inside}) == 1
        assert {stats[name].nlink for name in inside} == {len(inside)}
    alone = set(expected) - {name for group in groups for name in group.split()}
    assert all(stats[name].nlink == 1 for name in alone)
    if entries[0].kind == "attributes":
        assert {stat.mtim_ns for stat in stats.values()} == {NEW_NS}
    if TAR:
        assert extracted(path, tmp_path / "out") == seen(path)


def test_one_new_content_of_several_names_stays_one_file(path: Path) -> None:
    linked(path)
    content = BytesContent(b"written through one of them")
    rewrite(path, [modified(name, content) for name in ("first", "second", "third")])
    with ArchiveFile(path) as archive:
        assert archive.backend.stat(("third",)).nlink == 3
        assert contents(archive.backend, ("second",)) == content.data


def test_links_with_contents_of_their_own(path: Path, tmp_path: Path) -> None:
    data = forge(
        member("a", b""),
        pax(("size", b"4")) + member("b", b"data", b"1", link=b"a"),
        block(b"c", 0, b"1", link=b"b"),
    )
    path.write_bytes(data)
    assert seen(path) == {"a": b"data", "b": b"data", "c": b"data"}
    rewrite(path, [removed("b")])
    assert seen(path) == {"a": b"data", "c": b"data"}
    with ArchiveFile(path) as archive:
        assert archive.backend.stat(("a",)).nlink == 2
    path.write_bytes(data)
    rewrite(path, [removed("a"), dated("c")])
    assert seen(path) == {"b": b"data", "c": b"data"}
    if TAR:
        assert extracted(path, tmp_path / "out") == seen(path)


def test_a_file_that_is_superseded_lives_on_in_its_links(path: Path, tmp_path: Path) -> None:
    path.write_bytes(forge(member("a", b"old"), block(b"b", 0, b"1", link=b"a"), member("a", b"new")))
    before = seen(path)
    assert before == {"a": b"new", "b": b"old"}
    rewrite(path, [added("x")])
    assert seen(path) == {**before, "x": b""}
    assert names(path) == ["b", "a", "x"]
    if TAR:
        assert extracted(path, tmp_path / "out") == seen(path)


# What only some archives have


def test_what_is_hidden_goes_and_what_holds_for_all_stays(path: Path) -> None:
    path.write_bytes(
        forge(
            pax(("comment", b"of the whole archive"), ("mtime", b"77"), kind=b"g"),
            block(b"label", 0, b"V"),
            member("../out", b"1"),
            member("twice", b"1"),
            member("/abs", b"1"),
            block(b"dangling", 0, b"1", link=b"missing"),
            member(b"\xff", b"1"),
            member("twice", b"2"),
            member("./dotted//f", b"f"),
            member("gone", b"gone"),
        )
    )
    assert seen(path) == {"twice": b"2", "dotted": {"f": b"f"}, "gone": b"gone"}
    rewrite(path, [removed("gone"), added("new", b"new"), renamed("dotted/f", "f")])
    assert seen(path) == {"twice": b"2", "dotted": {}, "f": b"f", "new": b"new"}
    with tarfile.open(path) as file:
        assert file.pax_headers == {"comment": "of the whole archive", "mtime": "77"}
        assert [info.name for info in file if info.type != b"V"] == ["twice", "f", "dotted", "new"]
    with ArchiveFile(path) as archive:
        assert archive.backend.stat(("new",)).mtim_ns == NEW_NS
        assert archive.backend.stat(("twice",)).mtim_ns == 77 * 10**9
    assert b"label" in path.read_bytes()


def test_the_directory_that_tar_was_called_in_stays_as_it_is_spelled(path: Path, tmp_path: Path) -> None:
    path.write_bytes(forge(member("./", kind=b"5"), member("./a", b"a"), member("./d/", kind=b"5")))
    rewrite(path, [renamed("a", "b"), added("d/x", b"x")])
    with tarfile.open(path) as file:
        assert [info.name for info in file] == [".", "./b", "./d", "./d/x"]
    if TAR:
        assert extracted(path, tmp_path / "out") == {"b": b"a", "d": {"x": b"x"}}


# The last piece has no bytes: GNU tar takes the size from it.
SPARSE = {
    "old GNU": block(b"s", 1024, b"S", magic=b"ustar  \0", tail=bytes(41) + b"".join(
                         b"%011o\0" % number for number in (1000, 512, 5000, 512, 100_000, 0))
                     + bytes(25) + b"%011o\0" % 100_000) + b"x" * 1024,
    "PAX 0.1": pax(("GNU.sparse.numblocks", b"3"), ("GNU.sparse.map", b"1000,512,5000,512,100000,0"),
                   ("GNU.sparse.size", b"100000"), ("GNU.sparse.name", b"s"))
               + member("GNUSparseFile.1/s", b"x" * 1024),
    "PAX 0.0": pax(("GNU.sparse.size", b"100000"), ("GNU.sparse.numblocks", b"3"), ("GNU.sparse.offset", b"1000"),
                   ("GNU.sparse.numbytes", b"512"), ("GNU.sparse.offset", b"5000"), ("GNU.sparse.numbytes", b"512"),
                   ("GNU.sparse.offset", b"100000"), ("GNU.sparse.numbytes", b"0")) + member("s", b"x" * 1024),
    "PAX 1.0": pax(("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"s"),
                   ("GNU.sparse.realsize", b"100000"))
               + member("GNUSparseFile.1/s", b"3\n1000\n512\n5000\n512\n100000\n0\n".ljust(512, b"\0") + b"x" * 1024),
}  # fmt: skip
WHOLE = (bytes(1000) + b"x" * 512).ljust(5000, b"\0") + b"x" * 512 + bytes(100_000 - 5512)


@pytest.mark.parametrize("form", SPARSE)
def test_sparse_files_stay_sparse_under_other_names(path: Path, tmp_path: Path, form: str) -> None:
    path.write_bytes(forge(SPARSE[form], member("f", b"f")))
    assert seen(path) == {"s": WHOLE, "f": b"f"}
    rewrite(path, [renamed("s", LONG_NAME), dated("f")])
    rewrite(path, [dated(LONG_NAME)])
    assert seen(path) == {LONG_NAME: WHOLE, "f": b"f"}
    assert path.stat().st_size < 20_000
    if TAR:
        assert extracted(path, tmp_path / "out") == seen(path)
    rewrite(path, [modified(LONG_NAME, b"dense")])
    assert seen(path) == {LONG_NAME: b"dense", "f": b"f"}
    if TAR:
        assert extracted(path, tmp_path / "out2") == seen(path)


def test_a_sparse_file_of_any_size_is_not_filled_in_beyond_the_limit(path: Path) -> None:
    sizes = ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"%d" % (1 << 60)), ("GNU.sparse.name", b"s")
    path.write_bytes(forge(pax(*sizes) + member("x", b"x")))
    before = path.read_bytes()
    backend = WritableArchive(path)
    handle = backend.open(("s",), True)
    handle.write_from(0, b"y")
    handle.close()
    assert errno_of(backend.commit) is Errno.NOSPC
    assert path.read_bytes() == before
    only(path)
    backend.close()


REST = "holds more than the archive"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (forge(member("a")) + b"rubbish", REST),
        (forge(member("a")) + bytes(1 << 20) + b"x", REST),
        (forge(member("a")) + forge(member("b")), REST),
        (gzip.compress(forge(member("a"))) + b"rubbish", REST),
        (gzip.compress(forge(member("a")) + b"rubbish"), REST),
        (member("a", b"cut")[:514], "cut short"),
        (b"", "for writing"),
    ],
    ids=["rubbish", "far behind", "another tar", "behind gzip", "in gzip", "cut short", "empty"],
)
def test_what_would_be_lost_is_not_written_to(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    with pytest.raises(MountError, match=reason):
        WritableArchive(path)
    with pytest.raises(MountError):
        rewrite(path, [added("x")])
    assert path.read_bytes() == data
    only(path)


def test_streams_of_gzip_one_after_the_other_become_one(path: Path) -> None:
    whole = forge(member("a", b"a" * 1000), member("b", b"b"))
    path.write_bytes(gzip.compress(whole[:700]) + gzip.compress(whole[700:]) + bytes(100))
    rewrite(path, [added("c", b"c")])
    assert seen(path) == {"a": b"a" * 1000, "b": b"b", "c": b"c"}
    assert names(path) == ["a", "b", "c"]


def test_an_archive_without_an_end_gets_one(path: Path) -> None:
    path.write_bytes(member("a", b"a"))
    rewrite(path, [added("b")])
    data = path.read_bytes()
    assert (len(data) % 10_240, data.endswith(END)) == (0, True)
    assert seen(path) == {"a": b"a", "b": b""}


@pytest.mark.skipif(TAR is None, reason="needs tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_archives_of_tar_itself(path: Path, tmp_path: Path, form: str) -> None:
    where = tmp_path / "tree"
    (where / "d" / "e").mkdir(parents=True)
    (where / "d" / "f").write_bytes(b"f" * 1000)
    (where / "d" / "g").hardlink_to(where / "d" / "f")
    (where / "link").symlink_to("d/f")
    (where / ("l" * 90)).write_bytes(b"long")
    subprocess.run([TAR or "", f"--format={form}", "-cf", path, "-C", where, "."], check=True)
    rewrite(path, [removed("d/f" if names(path).index("./d/f") < names(path).index("./d/g") else "d/g"),
                   renamed("d", "dd"), added("dd/e/new", b"new"), renamed("l" * 90, "l" * 120)])  # fmt: skip
    found = seen(path)
    assert [*found["dd"].values()].count(b"f" * 1000) == 1  # type: ignore[attr-defined]
    assert found["l" * 120] == b"long"
    assert extracted(path, tmp_path / "out") == found


def test_hard_links_that_a_guest_makes_and_writes_through(path: Path) -> None:
    linked(path)
    backend = WritableArchive(path)
    backend.link(("between",), ("again",))
    handle = backend.open(("second",), True)
    handle.write_from(0, b"SHARED")
    backend.remove(("third",))
    backend.commit()
    assert read(handle, 0, 9) == b"SHARED"
    handle.close()
    backend.close()
    assert seen(path) == {"first": b"SHARED", "second": b"SHARED", "between": b"between", "again": b"between"}
    with ArchiveFile(path) as archive:
        assert [archive.backend.stat((name,)).nlink for name in ("first", "second", "between", "again")] == [2] * 4
