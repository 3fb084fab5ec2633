"""What a file is, its beginning says; what is written back is that kind as a whole."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fs_backends import tar_forge, zip_forge
from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import DEFLATED, Entry
from vfswasi import Mount
from vfswasi.errors import MountError
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.mounts.finding.sources import open_source

ZIP = zip_forge.forge(Entry("inner.txt", b"x", DEFLATED))
EMPTY_ZIP = zip_forge.forge()
TAR = tar_forge.forge(tar_forge.member("readme.txt", b"the tar"), tar_forge.member("pkg.whl", ZIP))
# A tar that nothing ends: its last bytes are those of the zip.
TAR_ENDING_WITH_ZIP = tar_forge.member("readme.txt", b"the tar") + tar_forge.block(b"pkg.whl", len(ZIP)) + ZIP
TAR_SEEN = {"readme.txt": b"the tar", "pkg.whl": ZIP}
PROGRAM = b"MZ\x90\0" + bytes(range(256)) * 10

SEEN: dict[str, tuple[bytes, dict[str, object]]] = {
    "a tar whose last member is a zip": (TAR, TAR_SEEN),
    "a tar that ends with a zip": (TAR_ENDING_WITH_ZIP, TAR_SEEN),
    "a tar and a zip behind its end": (TAR + ZIP, TAR_SEEN),
    "gzip that holds a tar with a zip": (gzip.compress(TAR), TAR_SEEN),
    "gzip and a zip behind it": (gzip.compress(TAR) + ZIP, TAR_SEEN),
    "bzip2 and a zip behind it": (bz2.compress(TAR) + ZIP, TAR_SEEN),
    "xz that holds a tar with a zip": (lzma.compress(TAR), TAR_SEEN),
    "a zip with a tar stored in it": (zip_forge.forge(Entry("t.tar", TAR)), {"t.tar": TAR}),
    "a zip whose first member is a tar": (
        zip_forge.forge(Entry("t.tar", TAR), Entry("z", b"1")), {"t.tar": TAR, "z": b"1"}),
    "a program with a zip at its end": (PROGRAM + ZIP, {"inner.txt": b"x"}),
    "a program with a zip that knows of it": (
        zip_forge.forge(Entry("inner.txt", b"x"), prefix=PROGRAM), {"inner.txt": b"x"}),
    "a zip with rubbish behind it": (ZIP + b"rubbish", {"inner.txt": b"x"}),
    "an empty zip": (EMPTY_ZIP, {}),
}  # fmt: skip
WRITABLE = {
    "a zip with a tar stored in it": "zip",
    "a zip whose first member is a tar": "zip",
    "an empty zip": "zip",
    "a tar whose last member is a zip": "tar",
    "a tar that ends with a zip": "tar",
    "gzip that holds a tar with a zip": "tar",
    "xz that holds a tar with a zip": "tar",
}


@pytest.mark.parametrize("what", SEEN)
def test_the_beginning_of_a_file_says_what_it_is(what: str, tmp_path: Path) -> None:
    data, seen = SEEN[what]
    path = tmp_path / "archive"
    path.write_bytes(data)
    backend = open_source(str(path))
    assert tree(backend) == seen
    backend.close()


@pytest.mark.parametrize("what", SEEN)
def test_only_what_is_an_archive_as_a_whole_is_written_to(what: str, tmp_path: Path) -> None:
    data, seen = SEEN[what]
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    kind = WRITABLE.get(what)
    spelled = {"": str(path), "zip": f"zip://{path}", "zip ": f"zip://*::file://{path}", "tar": f"tar://{path}"}
    for spelling, source in spelled.items():
        if kind is None or spelling.strip() not in ("", kind):
            with pytest.raises(MountError, match=r"for writing|it begins like|not a tar archive"):
                open_source(Mount(source, rw=True))
            assert path.read_bytes() == data
    if kind is None:
        return
    for number, source in enumerate((str(path), f"{kind}://{path}")):
        backend = open_source(Mount(source, rw=True))
        backend.mkdir((f"new{number}",))
        backend.finish(True)
        backend.close()
    again = ZipBackend(path) if kind == "zip" else TarBackend(path)
    assert tree(again) == {**seen, "new0": {}, "new1": {}}
    again.close()
    assert path.read_bytes()[:2] == data[:2]


@pytest.mark.parametrize(
    "data",
    [
        ZIP[:-22] + b"gap" + ZIP[-22:],  # between the directory and the end
        zip_forge.forge(Entry("a", b"1", after=b"hidden"), Entry("b", b"2")),
        zip_forge.forge(Entry("a", b"1"), Entry("b", b"2", after=b"signing block" * 100)),
        zip_forge.forge(Entry("a", b"1"), Entry(b"\xff", b"hidden"), Entry("b", b"2")),
        b"PK00" + ZIP,
    ],
    ids=["before the end", "between members", "before the directory", "of a broken entry", "marker"],
)
def test_bytes_that_belong_to_nobody_refuse_writing(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(MountError):
        WritableZipBackend(path)
    assert path.read_bytes() == data


def test_archives_of_the_standard_library_and_with_descriptors_are_written_to(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += memoryview(data)  # type: ignore[arg-type]
            return len(memoryview(data))  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:  # type: ignore[call-overload]
        made.writestr("a", b"a" * 1000)
        made.writestr("b", b"b")
        made.comment = b"the comment"
    path = tmp_path / "a.zip"
    path.write_bytes(pipe.data)
    before = {info.filename: info.flag_bits for info in zipfile.ZipFile(path).infolist()}
    assert before["a"] & 8
    backend = WritableZipBackend(path)
    backend.mkdir(("d",))
    backend.commit()
    backend.close()
    with zipfile.ZipFile(path) as read:
        assert read.testzip() is None
        assert read.comment == b"the comment"
        assert {info.filename: info.flag_bits for info in read.infolist()} == {**before, "d/": 0}


@pytest.mark.parametrize("data", [TAR, gzip.compress(TAR), lzma.compress(TAR), bytes(1024)])
def test_a_tar_is_no_zip_whoever_says_so(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(data)
    for attempt in (
        lambda: ZipBackend(path),
        lambda: ZipBackend(io.BytesIO(data)),
        lambda: open_source(f"zip://{path}"),
    ):
        with pytest.raises(MountError, match=r"begins like (a tar archive|a gzip file|a xz file); mount it as that"):
            attempt()


def test_a_zip_is_no_tar_whoever_says_so(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    for data in (ZIP, EMPTY_ZIP, zip_forge.forge(Entry("t.tar", TAR))):
        path.write_bytes(data)
        for attempt in (
            lambda: TarBackend(path),
            lambda data=data: TarBackend(io.BytesIO(data)),  # type: ignore[misc]
            lambda: open_source(f"tar://{path}"),
        ):
            with pytest.raises(MountError, match="begins like a zip archive; mount it as that"):
                attempt()


def test_what_begins_like_both_is_read_as_one_and_not_written_to(tmp_path: Path) -> None:
    # The name of the tar's first member begins like a zip's first header, and the header's checksum is right.
    header = bytearray(tar_forge.block(b"PK\3\4" + bytes(22) + struct.pack("<HH", 1, 481) + b"n"))
    path = tmp_path / "both"
    directory = struct.pack("<4sBB5H3L2H", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0x5043, 0, 0, 0, 1, 0)
    directory += struct.pack("<3H2L", 0, 0, 0, 0, 0) + b"n"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 512, 0)
    path.write_bytes(bytes(header) + directory + end)
    backend = open_source(str(path))
    assert tree(backend) == {"n": b""}
    backend.close()
    with pytest.raises(MountError, match="for writing"):
        WritableZipBackend(path)


def test_what_was_looked_at_is_what_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "archive"
    path.write_bytes(TAR)
    from vfswasi.fs_backends.archive import kind

    looked = kind.beginning_of

    def swapped(source: object) -> str | None:
        found = looked(source)  # type: ignore[arg-type]
        (tmp_path / "other").write_bytes(ZIP)
        os.replace(tmp_path / "other", path)
        return found

    monkeypatch.setattr(kind, "beginning_of", swapped)
    backend = open_source(str(path))
    assert tree(backend) == TAR_SEEN
    backend.close()


# The end of a zip archive


def test_a_comment_that_looks_like_an_end_is_a_comment() -> None:
    entries = Entry("a", b"1"), Entry("b", b"2")
    end = b"PK\5\6"
    for comment in (
        end,
        end + bytes(18),
        end * 100,
        struct.pack("<4s4H2LH", end, 0, 0, 1, 1, 46, 0, 0),
        struct.pack("<4s4H2LH", end, 0, 0, 1, 1, 46, 0, 10) + b"0123456789",
        struct.pack("<4s4H2LH", end, 9, 9, 1, 1, 46, 0, 0),
        (end + bytes(18)) * 2000,
    ):
        backend = zip_forge.mount(zip_forge.forge(*entries, comment=comment))
        assert zip_forge.tree(backend) == {"a": b"1", "b": b"2"}


def test_one_part_of_a_split_archive_is_told_from_a_broken_one(tmp_path: Path) -> None:
    whole = bytearray(ZIP)
    path = tmp_path / "split.zip"
    for disk, first, here, total in ((1, 0, 1, 1), (1, 1, 1, 1), (3, 3, 0, 1), (0, 0, 1, 2)):
        struct.pack_into("<4H", whole, len(whole) - 18, disk, first, here, total)
        path.write_bytes(whole)
        for attempt in (lambda: ZipBackend(path), lambda: open_source(str(path)), lambda: WritableZipBackend(path)):
            with pytest.raises(MountError, match=r"split into \d+ files or more, .*; join them first \(zip -s 0"):
                attempt()
    path.write_bytes(b"PK\7\x08" + ZIP[:40])
    with pytest.raises(MountError, match="zip archive"):
        open_source(str(path))


def test_split_archives_with_wide_fields_too(tmp_path: Path) -> None:
    start = ZIP.index(b"PK\1\2")
    directory = ZIP[start:-22]
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 2, 0, 1, 1, len(directory), start)
    for disks in (1, 3):
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), disks)
        with pytest.raises(MountError, match="split into"):
            zip_forge.mount(ZIP[:-22] + end64 + locator + ZIP[-22:])


@pytest.mark.parametrize("outer", ["zip", "tar"])
@pytest.mark.parametrize("inner", ["zip", "tar"])
def test_an_archive_in_an_archive_is_refused_unless_it_is_trusted(tmp_path: Path, outer: str, inner: str) -> None:
    """fsspec reads the inner one, without budgets."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("f", b"data")
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as archive:
        archive.write(tmp_path / "a.zip", "a.zip")
    with tarfile.open(tmp_path / "o.tar", "w") as other:
        other.add(tmp_path / "a.zip", "a.zip")
    url = f"zip://*::{inner}://a.zip::{tmp_path}/o.{inner}"
    if outer == "tar":
        url = url.replace("zip://*::", "tar://*::")
    with pytest.raises(MountError, match="an archive in an archive"):
        open_source(url)
    if outer == "zip":
        backend = open_source(Mount(url, trust=True))
        assert [name for name, *_ in backend.list(())] == ["f"]
        backend.close()
