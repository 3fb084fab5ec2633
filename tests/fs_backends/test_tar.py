"""TarBackend: the tree, the formats, and what a mount reads."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fs_backends.tar_forge import (
    PACKERS,
    block,
    errno_of,
    forge,
    member,
    mount,
    pax,
    tar_of,
    tree,
)
from vfswasi.errors import Errno, MountError
from vfswasi.fs_backends.archive.kind import beginning_of
from vfswasi.fs_backends.archive.source import ArchiveSource, BytesSource, PathSource
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.unpacked import zstd_module
from vfswasi.fs_backends.base import Backend, Caps, FileType
from vfswasi.fs_backends.memory.backend import Symlink
from vfswasi.testing import BackendConformance
from vfswasi.testing.ground import TREE, contents, read

LITERAL = {"a.txt": b"one", "d": {"e": {"f": b"two" * 1000}, "g": b"", "l": Symlink("../a.txt")}, "empty": {}}
AS_READ = {"a.txt": b"one", "d": {"e": {"f": b"two" * 1000}, "g": b"", "l": "-> ../a.txt"}, "empty": {}}
GNU_TAR = shutil.which("tar")


class TestTarPlain(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return mount(tar_of(tree))


class TestTarGnu(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return mount(tar_of(tree, tarfile.GNU_FORMAT))


class TestTarGzip(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return mount(PACKERS["gz"](tar_of(tree)))


class TestTarBzip2(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return mount(PACKERS["bz2"](tar_of(tree)))


class TestTarXz(BackendConformance):
    def make(self, tree: dict[str, Any]) -> Backend:
        return mount(PACKERS["xz"](tar_of(tree)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_gives_the_same_tree(form: int) -> None:
    backend = mount(tar_of(LITERAL, form))
    assert tree(backend) == AS_READ
    assert backend.caps == Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK
    backend.close()


def _beginning(path: Path) -> str | None:
    source = PathSource(path, "tar")
    try:
        return beginning_of(source)
    finally:
        source.close()


@pytest.mark.parametrize("name", ["plain.zip", "x"])
@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_the_bytes_say_what_it_is_and_not_the_name(tmp_path: Path, packer: str | None, name: str) -> None:
    data = tar_of(LITERAL)
    path = tmp_path / name
    path.write_bytes(PACKERS[packer](data) if packer else data)
    assert _beginning(path) == {None: "tar", "gz": "gzip", "bz2": "bzip2"}.get(packer, packer)
    backend = TarBackend(path)
    assert tree(backend) == AS_READ
    backend.close()


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"", None), (b"text" * 500, None), (b"PK\3\4" + bytes(600), "zip"), (bytes(10240), "tar")],
    ids=["empty", "text", "zip", "zeros"],
)
def test_what_begins_otherwise_is_no_tar(tmp_path: Path, data: bytes, kind: str | None) -> None:
    (tmp_path / "x").write_bytes(data)
    assert _beginning(tmp_path / "x") == kind


def test_zstd_is_read_or_refused_with_a_reason() -> None:
    data = tar_of(LITERAL)
    try:
        zstd = zstd_module()
    except ImportError:
        with pytest.raises(MountError, match=r"zstd needs Python 3\.14, or `pip install .*`, or unpack it first"):
            mount(b"\x28\xb5\x2f\xfd" + data)
    else:
        assert tree(mount(zstd.compress(data))) == AS_READ


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["../x"], {}),
        (["/abs", "//", "/", ""], {}),
        ([".", "./"], {}),
        ([".."], {}),
        (["a/./b", "a/../b", "a/..", "././x", "./../y", ".//z"], {"a": {"b": b"0"}, "x": b"3", "z": b"5"}),
        (["./x", "./a/b"], {"x": b"0", "a": {"b": b"1"}}),
        (["a//b", "a//", "c/d//"], {"a": {"b": b"0"}, "c": {"d": {}}}),
        (["n" * 256, "d/" + "ä" * 128 + "/f"], {}),
        (["n" * 255], {"n" * 255: b"0"}),
        (["p/" * 2048 + "f"], {}),
        (["q" * 70_000], {}),
        (["a\\b", "C:d", "~"], {"a\\b": b"0", "C:d": b"1", "~": b"2"}),
        (["f", "f"], {"f": b"1"}),
        (["f", "f/"], {"f": {}}),
        (["f/", "f"], {"f": {}}),
        (["f", "f/g"], {"f": {"g": b"1"}}),
        (["f/g", "f"], {"f": {"g": b"0"}}),
    ],
)
@pytest.mark.parametrize("how", ["longname", "pax"])
def test_names_map_as_documented_and_never_harm_siblings(
    names: list[str], expected: dict[str, object], how: str
) -> None:
    parts = [member("before", b"x")]
    for number, name in enumerate(names):
        data = b"" if name.endswith("/") else b"%d" % number
        if how == "pax":
            parts += [pax(("path", name.encode())), member("p" if data else "p/", data)]
            if not name:
                parts[-1] = member("", data)  # an empty value stands for that of the header
        else:
            parts += [member("././@LongLink", name.encode() + b"\0", b"L"), member("", data)]
    parts.append(member("zz/after", b"y"))
    assert tree(mount(forge(*parts))) == {"before": b"x", **expected, "zz": {"after": b"y"}}


def test_names_with_nul_or_without_meaning_in_utf8_are_invisible() -> None:
    backend = mount(
        forge(
            member(b"\xff\xfe", b"1"), pax(("path", b"a\0b")), member("x", b"2"), member("ü", b"3"), member("z", b"4")
        )
    )
    assert tree(backend) == {"ü": b"3", "z": b"4"}


def test_ustar_prefix_counts_and_old_gnu_headers_have_none() -> None:
    other = member("g", b"2", magic=b"ustar  \0", tail=b"00001234567\0")
    assert tree(mount(forge(member("f", b"1", prefix=b"a/b"), other))) == {"a": {"b": {"f": b"1"}}, "g": b"2"}


def test_an_archive_older_than_ustar() -> None:
    data = forge(member("d/", magic=bytes(8)), member("d/f", b"1", b"\0", magic=bytes(8)))
    assert tree(mount(data)) == {"d": {"f": b"1"}}


def test_checksums_of_signed_bytes_are_accepted() -> None:
    header = bytearray(block("ü".encode(), 0))
    header[148:156] = b" " * 8
    signed = sum(header) - 256 * sum(byte > 127 for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert tree(mount(forge(bytes(header)))) == {"ü": b""}


def test_hard_links_share_ident_and_count() -> None:
    backend = mount(
        forge(
            member("a", b"data"),
            member("d/b", kind=b"1", link=b"a"),
            member("./c", kind=b"1", link=b"./d/b", size=100),  # a size without data
            member("e", b"other"),
            member("l", kind=b"2", link=b"a"),
            member("m", kind=b"1", link=b"l"),
        )
    )
    assert tree(backend) == {"a": b"data", "d": {"b": b"data"}, "c": b"data", "e": b"other", "l": "-> a", "m": "-> a"}
    statuses = [backend.stat(key) for key in (("a",), ("d", "b"), ("c",))]
    assert {(status.ident, status.nlink) for status in statuses} == {(statuses[0].ident, 3)}
    assert backend.stat(("e",)).nlink == 1
    assert backend.stat(("l",)).ident == backend.stat(("m",)).ident
    assert backend.stat(("l",)).nlink == 2
    assert backend.open(("c",), False).stat().nlink == 3


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([("x", "missing")], {}),
        ([("x", "x")], {}),
        ([("x", "y"), ("y", "x")], {}),
        ([("x", "../f")], {}),
        ([("x", "/f")], {}),
        ([("x", "d")], {}),
        ([("x", "d/")], {}),
        ([("x", "")], {}),
        ([("x", "f/g")], {}),
        ([("x", "d/../f")], {}),
        ([("../x", "f")], {}),
        ([("d", "f")], {}),
        ([("x", "y"), ("y", "f")], {"y": b"f"}),
        ([("f", "f")], {}),
    ],
)
def test_hard_links_that_lead_nowhere_are_invisible(links: list[tuple[str, str]], expected: dict[str, object]) -> None:
    parts = [member(name, kind=b"1", link=target.encode()) for name, target in links]
    backend = mount(forge(member("f", b"f"), member("d/"), *parts, member("z", b"z")))
    assert tree(backend) == {"f": b"f", "d": {}, "z": b"z"} | expected
    assert backend.stat(("f",)).nlink == 1 + len(expected)


def test_a_name_that_was_taken_away_is_not_counted() -> None:
    backend = mount(
        forge(member("a", b"old"), member("b", kind=b"1", link=b"a"), member("a", b"new"), member("b/c", b"x"))
    )
    assert tree(backend) == {"a": b"new", "b": {"c": b"x"}}
    backend = mount(forge(member("a", b"old"), member("b", kind=b"1", link=b"a"), member("a", b"new")))
    assert (backend.stat(("b",)).nlink, contents(backend, ("b",))) == (1, b"old")


def test_devices_and_fifos_are_not_files() -> None:
    backend = mount(forge(member("c", kind=b"3"), member("b", kind=b"4"), member("p", kind=b"6"), member("f", b"1")))
    kinds = {"c": FileType.CHARACTER_DEVICE, "b": FileType.BLOCK_DEVICE, "p": FileType.UNKNOWN}
    for name, kind in kinds.items():
        assert backend.stat((name,)).filetype is kind
        assert errno_of(backend.open, (name,), False) is Errno.ACCES
        assert errno_of(backend.readlink, (name,)) is Errno.INVAL
    assert contents(backend, ("f",)) == b"1"


def test_links_hold_their_target_as_it_stands() -> None:
    targets = {"a": b"../../etc/passwd", "b": b"/abs", "c": b"a//b/", "d": b"."}
    parts = [member(name, kind=b"2", link=target) for name, target in targets.items()]
    long = b"t/" * 2000
    parts += [
        member("x", long, b"K"),
        member("long", kind=b"2"),
        pax(("linkpath", b"ab\xff")),
        member("bad", kind=b"2"),
    ]
    parts += [member("x", b"t" * 5000, b"K"), member("longer", kind=b"2")]
    backend = mount(forge(*parts))
    for name, target in targets.items():
        assert backend.readlink((name,)) == target.decode()
        assert backend.stat((name,)).size == len(target)
    assert backend.readlink(("long",)) == long.decode()
    assert errno_of(backend.readlink, ("bad",)) is Errno.ILSEQ
    assert errno_of(backend.readlink, ("longer",)) is Errno.NAMETOOLONG


def test_types_that_are_no_objects_and_types_that_nobody_knows() -> None:
    backend = mount(
        forge(
            member("label", kind=b"V"),
            member("names", b"x" * 600, b"N"),
            member("rest", b"x" * 600, b"M"),
            member("what", b"data", b"?"),
            member("contiguous", b"c", b"7"),
            member("dump", b"Yname\0", b"D"),
        )
    )
    assert tree(backend) == {"rest": Errno.IO, "what": b"data", "contiguous": b"c", "dump": {}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.5", 1_500_000_000),
        (b"1600000000.123456789", 1_600_000_000_123_456_789),
        (b"1600000000.1234567899", 1_600_000_000_123_456_789),
        (b"-1.25", -1_250_000_000),
        (b"-0.0000000001", -1),
        (b"7", 7_000_000_000),
        (b"7.", 7_000_000_000),
        (b"1e9", None),
        (b"nan", None),
        (b"9" * 20, None),
        (b"9" * 5000, None),
        (b"", 1000 * 10**9),
    ],
)
def test_times_of_pax(text: bytes, expected: int | None) -> None:
    status = mount(forge(pax(("mtime", text)), member("f"))).stat(("f",))
    assert (status.mtim_ns, status.atim_ns, status.ctim_ns) == (expected, expected, expected)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"00000000012\0", 10 * 10**9),
        (b"         12 ", 10 * 10**9),
        (b"\xff" * 12, -(10**9)),
        (b"\x80" + bytes(7) + b"\x01\0\0\0", (1 << 24) * 10**9),
        (b"\x80" + b"\xff" * 11, None),
        (b"hello\0\0\0\0\0\0\0", None),
        (bytes(12), 0),
    ],
)
def test_times_of_headers(field: bytes, expected: int | None) -> None:
    assert mount(forge(block(b"f", mtime=field))).stat(("f",)).mtim_ns == expected


def test_sizes_in_base_256_and_in_pax_headers() -> None:
    wide = b"\x80" + (5).to_bytes(11, "big")
    data = forge(member("a", b"12345", size=wide), pax(("size", b"3")), member("b", b"123", size=0), member("c", b"x"))
    assert tree(mount(data)) == {"a": b"12345", "b": b"123", "c": b"x"}


def test_global_headers_hold_for_all_that_follow() -> None:
    note = pax(("comment", b"0123abc"), ("mtime", b"5"), kind=b"g")
    backend = mount(forge(note, member("a"), pax(("mtime", b"6")), member("b"), member("c")))
    assert [backend.stat((name,)).mtim_ns for name in "abc"] == [5 * 10**9, 6 * 10**9, 5 * 10**9]


def test_the_root_has_the_times_of_its_entry() -> None:
    backend = mount(forge(member("./", kind=b"5", mtime=77), member("./f", b"1")))
    assert backend.stat(()).mtim_ns == 77 * 10**9
    assert tree(backend) == {"f": b"1"}


def test_root_inside_the_archive() -> None:
    data = tar_of({"a": {"b": {"f": b"1"}, "g": b"2"}})
    assert tree(mount(data, root="a/b")) == {"f": b"1"}
    for root, reason in {"none": "no such directory", "a/g": "not a directory", "../a": "no such"}.items():
        with pytest.raises(MountError, match=f"of tar archive <BytesIO object>: {reason}"):
            mount(data, root=root)


# Sparse files

PIECES = [(0, 5), (1000, 3), (70_000, 600)]
FULL = 100_000
PACKED = b"hello" + b"abc" + b"x" * 600
SPREAD = b"hello".ljust(1000, b"\0") + b"abc".ljust(69_000, b"\0") + b"x" * 600 + bytes(FULL - 70_600)


def old_gnu(pieces: list[tuple[int, int]], full: int, packed: bytes) -> bytes:
    def pairs(part: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in part)

    more = [pieces[at : at + 21] for at in range(4, len(pieces), 21)]
    tail = bytes(41) + pairs(pieces[:4]).ljust(96, b"\0") + bytes([bool(more)]) + b"%011o\0" % full
    header = block(b"s", len(packed), b"S", magic=b"ustar  \0", tail=tail)
    for number, part in enumerate(more, 1):
        header += (pairs(part).ljust(504, b"\0") + bytes([number < len(more)])).ljust(512, b"\0")
    return header + packed + bytes(-len(packed) % 512)


def pax_sparse(version: str, pieces: list[tuple[int, int]], full: int, packed: bytes) -> bytes:
    if version == "0.0":
        records = [("GNU.sparse.size", b"%d" % full)]
        for offset, length in pieces:
            records += [("GNU.sparse.offset", b"%d" % offset), ("GNU.sparse.numbytes", b"%d" % length)]
        return pax(*records) + member("s", packed)
    if version == "0.1":
        numbers = b",".join(b"%d,%d" % pair for pair in pieces)
        header = pax(("GNU.sparse.size", b"%d" % full), ("GNU.sparse.name", b"s"), ("GNU.sparse.map", numbers))
        return header + member("GNUSparseFile.0/s", packed)
    text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % pair for pair in pieces)
    records = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"s")]
    header = pax(*records, ("GNU.sparse.realsize", b"%d" % full))
    return header + member("GNUSparseFile.0/s", text + bytes(-len(text) % 512) + packed)


def sparse(version: str, pieces: list[tuple[int, int]], full: int, packed: bytes) -> bytes:
    return old_gnu(pieces, full, packed) if version == "old" else pax_sparse(version, pieces, full, packed)


VERSIONS = ["old", "0.0", "0.1", "1.0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_sparse_files(version: str) -> None:
    backend = mount(forge(member("a", b"a"), sparse(version, PIECES, FULL, PACKED), member("z", b"z")))
    assert tree(backend) == {"a": b"a", "s": SPREAD, "z": b"z"}
    handle = backend.open(("s",), False)
    assert handle.size() == handle.stat().size == FULL
    rng = random.Random(1)
    for _ in range(300):
        offset, count = rng.randrange(FULL + 100), rng.randrange(3000)
        assert read(handle, offset, count) == SPREAD[offset : offset + count]


@pytest.mark.parametrize("version", VERSIONS)
def test_sparse_files_of_many_pieces(version: str) -> None:
    pieces = [(number * 100, 7) for number in range(500)]
    packed = random.Random(2).randbytes(3500)
    spread = b"".join(packed[at : at + 7].ljust(100, b"\0") for at in range(0, 3500, 7))
    assert tree(mount(forge(sparse(version, pieces, 50_000, packed), member("z", b"z")))) == {"s": spread, "z": b"z"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("pieces", "full"),
    [
        ([(0, 5), (3, 3)], 100),
        ([(10, 5), (0, 3)], 100),
        ([(0, 5), (98, 3)], 100),
        ([(0, 9)], 100),
        ([(2**33 - 1, 1)], 100),
    ],
)
def test_a_sparse_file_that_lies_is_io_and_its_neighbours_are_fine(
    version: str, pieces: list[tuple[int, int]], full: int
) -> None:
    backend = mount(forge(member("a", b"a"), sparse(version, pieces, full, b"12345678"), member("z", b"z")))
    assert tree(backend) == {"a": b"a", "s": Errno.IO, "z": b"z"}


def test_sparse_files_of_absurd_sizes_cost_nothing() -> None:
    backend = mount(forge(sparse("1.0", [(2**62, 1)], 2**63 - 1, b"x")))
    handle = backend.open(("s",), False)
    assert read(handle, 2**62 - 1, 3) == b"\0x\0"
    assert tree(mount(forge(sparse("0.1", [(0, 1)], 2**63, b"x")))) == {"s": Errno.IO}


@pytest.mark.skipif(GNU_TAR is None, reason="needs tar")
@pytest.mark.parametrize("form", ["v7", "ustar", "gnu", "oldgnu", "posix"])
def test_archives_of_the_tar_program(tmp_path: Path, form: str) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"data" * 500)
    (root / "link").symlink_to("d/f")
    os.link(root / "d" / "f", root / "second")
    expected: dict[str, object] = {"d": {"f": b"data" * 500}, "link": "-> d/f", "second": b"data" * 500}
    flags = []
    if form in ("gnu", "oldgnu", "posix"):
        with (root / "sparse").open("wb") as file:
            for at in range(0, 1 << 20, 100_000):
                file.seek(at)
                file.write(b"piece")
            file.truncate(1 << 20)
        (root / ("n" * 200)).write_bytes(b"long")
        expected |= {"sparse": (root / "sparse").read_bytes(), "n" * 200: b"long"}
        flags = ["--sparse"]
    assert GNU_TAR is not None
    subprocess.run([GNU_TAR, *flags, f"--format={form}", "-cf", tmp_path / "t", "-C", root, "."], check=True)
    backend = TarBackend(tmp_path / "t")
    assert tree(backend) == expected
    assert backend.stat(("second",)).nlink == backend.stat(("d", "f")).nlink == 2
    if form == "posix":
        assert backend.stat(("d", "f")).mtim_ns == (root / "d" / "f").stat().st_mtime_ns
    backend.close()


# What is read


class Counting(ArchiveSource):
    """Counts requests and bytes."""

    def __init__(self, data: bytes) -> None:
        self._inner = BytesSource(data, "counting")
        self.name, self.size = "counting", len(data)
        self.requests: list[tuple[int, int]] = []

    def read_into(self, offset: int, view: memoryview) -> None:
        self.requests.append((offset, len(view)))
        self._inner.read_into(offset, view)


def test_a_mount_seeks_over_the_data() -> None:
    source = Counting(tar_of({f"f{number}": bytes(1 << 20) for number in range(20)}, tarfile.GNU_FORMAT))
    backend = TarBackend(source)
    assert sum(count for _, count in source.requests) <= 22 * 512
    assert len(source.requests) <= 22
    source.requests.clear()
    assert read(backend.open(("f7",), False), 500_000, 10_000) == bytes(10_000)
    assert sum(count for _, count in source.requests) == 10_000


def test_a_mount_of_small_members_makes_few_requests() -> None:
    source = Counting(tar_of({f"f{number}": b"x" for number in range(1000)}, tarfile.GNU_FORMAT))
    TarBackend(source)
    assert len(source.requests) <= source.size // (15 << 10) + 3
    assert sum(count for _, count in source.requests) <= source.size * 1.1


def test_small_reads_in_sequence_make_few_requests() -> None:
    source = Counting(forge(member("f", bytes(1 << 20))))
    handle = TarBackend(source).open(("f",), False)
    source.requests.clear()
    for offset in range(0, 1 << 20, 1024):
        assert read(handle, offset, 1024) == bytes(1024)
    assert len(source.requests) <= 17


def test_threads_may_share_a_backend_and_a_handle(tmp_path: Path) -> None:
    rng = random.Random(3)
    files = {f"f{number}": rng.randbytes(300_000) for number in range(4)}
    path = tmp_path / "t"
    path.write_bytes(PACKERS["gz"](tar_of(files)))
    backend = TarBackend(path)
    shared = {name: backend.open((name,), False) for name in files}
    wrong: list[object] = []

    def work(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(500):
            name = mine.choice(list(files))
            offset, count = mine.randrange(300_000), mine.choice([10, 1000, 5000])
            if read(shared[name], offset, count) != files[name][offset : offset + count]:
                wrong.append((name, offset, count))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    backend.close()


def test_a_spool_larger_than_memory_allows_is_a_file_and_has_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vfswasi.fs_backends.archive.unpacked._SPOOL_MEMORY_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backend = mount(PACKERS["xz"](tar_of(TREE)))
    assert list(tmp_path.iterdir()) == []
    assert tree(backend) == TREE
    handle = backend.open(("file",), False)
    backend.close()
    assert errno_of(read, handle, 0, 5) is Errno.IO


def test_file_objects_and_what_is_none(tmp_path: Path) -> None:
    data = tar_of({"f": b"1"})
    with (tmp_path / "t").open("wb+") as file:
        file.write(data)
        backend = TarBackend(file)
        assert tree(backend) == {"f": b"1"}
        backend.close()
        assert not file.closed
    with pytest.raises(TypeError, match="path or a seekable binary file"):
        TarBackend(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(MountError, match=r"^cannot mount tar archive .*no such file; check the path"):
        TarBackend(tmp_path / "missing")


def test_urls() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/test_tar/a.tar.gz", PACKERS["gz"](tar_of({"a": {"f": b"1"}})))
    try:
        backend = TarBackend.open_url("memory://test_tar/a.tar.gz", root="a")
        assert tree(backend) == {"f": b"1"}
        backend.close()
        with pytest.raises(MountError, match="cannot mount tar archive 'memory://test_tar/none'"):
            TarBackend.open_url("memory://test_tar/none")
    finally:
        memory.rm("/test_tar", recursive=True)
