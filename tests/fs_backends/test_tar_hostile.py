"""TarBackend on archives that lie, break off or blow up: MountError or IO, little memory, little time."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fs_backends.tar_forge import (
    END,
    PACKERS,
    block,
    errno_of,
    forge,
    member,
    mount,
    padded,
    pax,
    pax_record,
    tree,
)
from tests.fs_backends.test_tar import pax_sparse
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.base import FileType
from vfswasi.testing.ground import read

MESSAGE = r"^cannot mount tar archive <BytesIO object>: [^\n]+; [^\n]+$"
GOOD = member("good", b"good")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whatever is taken, it is not what the archive claims."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


REFUSED = {
    "nothing": b"",
    "a byte": b"x",
    "text": b"no archive" * 200,
    "half a block": bytes(256),
    "wrong checksum": forge(GOOD, block(b"f", checksum=b"0000000\0"), GOOD),
    "checksum that is no number": forge(GOOD, block(b"f", checksum=b"hello\0\0\0")),
    "negative size": forge(GOOD, block(b"f", b"\xff" * 12), GOOD),
    "most negative size": forge(GOOD, block(b"f", b"\xc0" + bytes(11)), GOOD),
    "size that is no number": forge(GOOD, block(b"f", b"12345678901\0"[:11] + b"x"), GOOD),
    "signed octal size": forge(GOOD, block(b"f", b"-0000000001\0"), GOOD),
    "size beyond the end": forge(GOOD, block(b"f", 8 << 30), GOOD),
    "size beyond all ends": forge(GOOD, block(b"f", b"\x80" + b"\xff" * 11), GOOD),
    "PAX size beyond the end": forge(pax(("size", b"9" * 20)), member("f")),
    "PAX size that is none": forge(pax(("size", b"-1")), member("f")),
    "PAX size of many digits": forge(pax(("size", b"9" * 100_000)), member("f")),
    "PAX header beyond the end": forge(block(b"x", 1 << 40, b"x"), member("f")),
    "PAX header of 8 GiB": forge(block(b"x", b"\x80" + (8 << 30).to_bytes(11, "big"), b"x"), member("f")),
    "PAX header of 2 MiB": forge(pax(("comment", bytes(2 << 20))), member("f")),
    "global PAX header of 2 MiB": forge(pax(("comment", bytes(2 << 20)), kind=b"g"), member("f")),
    "PAX record too long": forge(member("x", b"99 path=f\n", b"x"), member("f")),
    "PAX record too short": forge(member("x", b"3 path=f\n", b"x"), member("f")),
    "PAX record of length 0": forge(member("x", b"0 path=f\n", b"x"), member("f")),
    "PAX record of negative length": forge(member("x", b"-9 path=f\n", b"x"), member("f")),
    "PAX record without length": forge(member("x", b"path=f\n", b"x"), member("f")),
    "PAX record without value": forge(member("x", b"8 pathf\n", b"x"), member("f")),
    "PAX record without newline": forge(member("x", b"10 path=f\n"[:-1] + b"x", b"x"), member("f")),
    "PAX record of a giant length": forge(member("x", b"9" * 5000 + b" path=f\n", b"x"), member("f")),
    "only a PAX header": forge(pax(("path", b"f")))[:-1024],
    "a PAX header and the end": pax(("path", b"f")),
    "long name beyond the end": forge(block(b"x", 1 << 40, b"L"), member("f")),
    "chain of long names": forge(*[member("x", b"name\0", b"L")] * 17, member("f")),
    "endless chain of long names": member("x", b"name\0", b"L") * 20_000,
    "chain of long links": forge(*[member("x", b"name\0", b"K")] * 17, member("f")),
    "chain of PAX headers": forge(*[pax(("path", b"f"))] * 17, member("f")),
    "chain of global headers": forge(*[pax(("path", b"f"), kind=b"g")] * 17, member("f")),
    "chain of empty headers": forge(*[member("x", b"", b"x")] * 17, member("f")),
    "sparse header without end": block(b"s", 0, b"S", tail=bytes(137) + b"\1" + b"0000000000\0"),
    "sparse piece that is no number": forge(block(b"s", 0, b"S", tail=bytes(41) + b"hello")),
    "sparse size that is no number": forge(block(b"s", 0, b"S", tail=bytes(138) + b"hello")),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("label", REFUSED)
def test_a_broken_chain_of_headers_is_a_mount_error(label: str) -> None:
    started = time.process_time()
    with pytest.raises(MountError, match=MESSAGE):
        mount(REFUSED[label])
    assert time.process_time() - started < 5


def test_sixteen_headers_before_a_member_are_fine() -> None:
    parts = [member("x", b"n%d\0" % number, b"L") for number in range(16)]
    assert tree(mount(forge(*parts, member("f", b"1"), *parts, member("f", b"2")))) == {"n15": b"2"}


def test_a_sparse_header_that_never_ends_is_bounded_by_the_memory_for_indexes() -> None:
    more = (b"%011o\0%011o\0" % (0, 0)) * 21 + b"\1" + bytes(7)
    header = block(b"s", 0, b"S", tail=bytes(41) + bytes(96) + b"\1" + b"%011o\0" % 10)
    little = waiting.Allowance(0, 0, 0, index_bytes=1 << 20)
    with waiting.bounded_by(None, little), pytest.raises(MountError, match=r"Limits.index_bytes \(1,048,576 bytes\)"):
        mount(header + more * 4000)
    assert little.indexes.used == 0


def test_headers_of_all_members_together_are_bounded_by_their_number() -> None:
    parts = [pax(("comment", bytes(500_000))) + member(f"f{number}") for number in range(35)]
    assert len(tree(mount(forge(*parts[:30])))) == 30
    with pytest.raises(MountError, match="more bytes of headers"):
        mount(forge(*parts))


def test_entries_are_counted_whether_they_are_seen_or_not() -> None:
    data = forge(*[member(name) for name in ("a", "../x", "b", "/y")], member("c", kind=b"1", link=b"a"))
    assert len(tree(mount(data, max_entries=5))) == 3
    with pytest.raises(MountError, match="more than 4 entries; raise max_entries"):
        mount(data, max_entries=4)
    deep = forge(member("a/" * 20 + "f"))
    assert mount(deep, max_entries=21).stat(("a",) * 20 + ("f",)).size == 0
    with pytest.raises(MountError, match="more than 20 entries"):
        mount(deep, max_entries=20)
    with pytest.raises(MountError, match="more than 1,000 entries"):
        mount(forge(*[member("same")] * 1001), max_entries=1000)


def test_pax_headers_of_many_records_take_little_time() -> None:
    records = b"".join([b"6 a=b\n"] * 170_000)
    numbers = b"".join(pax_record("GNU.sparse.numbytes", b"1") for _ in range(30_000))
    spaces = b" " * 1_000_000
    started = time.process_time()
    assert tree(mount(forge(member("x", records, b"x"), member("f", b"1")))) == {"f": b"1"}
    assert tree(mount(forge(member("x", numbers, b"x"), member("f", b"1")))) == {"f": Errno.IO}
    for bad in (spaces, b"1" * 1_000_000, b"=" * 1_000_000, b"\n" * 1_000_000):
        with pytest.raises(MountError, match="PAX record"):
            mount(forge(member("x", bad, b"x"), member("f")))
    assert time.process_time() - started < 10


@pytest.mark.usefixtures("little_memory")
def test_pax_headers_of_many_records_take_little_memory() -> None:
    records = b"".join([b"6 a=b\n"] * 40_000)
    numbers = b"".join(pax_record("GNU.sparse.numbytes", b"1") for _ in range(7_000))
    assert tree(mount(forge(member("x", records, b"x"), member("f", b"1")))) == {"f": b"1"}
    assert tree(mount(forge(member("x", numbers, b"x"), member("f", b"1")))) == {"f": Errno.IO}
    assert tracemalloc.get_traced_memory()[1] < 6 << 20


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "text", [b"1" * 600, b"999999999999999999\n", b"-1\n", b"1\n0\nx\n", b"", b"\n" * 512, b"3\n0\n1\n"]
)
def test_a_map_in_the_data_that_is_none_is_io(text: bytes) -> None:
    header = pax_sparse("1.0", [], 100, b"")[: -2 * 512]
    backend = mount(forge(header + member("GNUSparseFile.0/s", padded(text)), GOOD))
    assert tree(backend) == {"s": Errno.IO, "good": b"good"}


@pytest.mark.usefixtures("little_memory")
def test_a_map_in_the_data_without_end_is_io() -> None:
    text = b"9999999\n" + b"0\n0\n" * 400_000
    header = pax_sparse("1.0", [], 100, b"")[: -2 * 512]
    backend = mount(forge(header + member("GNUSparseFile.0/s", text), GOOD))
    with pytest.raises(FsError, match="cut short or too large"):
        backend.open(("s",), False)


def test_sparse_versions_that_are_incomplete() -> None:
    for records in (
        [("GNU.sparse.major", b"1")],
        [("GNU.sparse.size", b"-5")],
        [("GNU.sparse.size", b"5"), ("GNU.sparse.map", b"0,1,2")],
        [("GNU.sparse.size", b"5"), ("GNU.sparse.map", b"0,x")],
        [("GNU.sparse.size", b"5"), ("GNU.sparse.offset", b"0"), ("GNU.sparse.numbytes", b"9" * 19)],
        [("GNU.sparse.size", b"9" * 30), ("GNU.sparse.map", b"0,1")],
    ):
        assert tree(mount(forge(pax(*records), member("s", b"x"), GOOD))) == {"s": Errno.IO, "good": b"good"}


# Compressed streams


def bomb(size: int) -> bytes:
    encoder = zlib.compressobj(9, wbits=31)
    pieces = [encoder.compress(block(b"f", size))]
    pieces += [encoder.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*pieces, encoder.compress(END), encoder.flush()])


def test_a_bomb_takes_no_more_than_it_may() -> None:
    data = bomb(256 << 20)
    assert len(data) < 300_000
    tracemalloc.start()
    with pytest.raises(MountError, match="unpacks to more than 1,048,576 bytes; raise max_unpacked_bytes"):
        mount(data, max_unpacked_bytes=1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.reset_peak()
    backend = mount(data)
    assert read(backend.open(("f",), False), (256 << 20) - 10, 20) == bytes(10)
    # What is in memory is the first part of the spool, and what is copied when it becomes a file.
    assert tracemalloc.get_traced_memory()[1] < 128 << 20
    tracemalloc.stop()
    backend.close()


@pytest.mark.parametrize("packer", PACKERS)
def test_exactly_as_much_as_allowed_is_allowed(packer: str) -> None:
    data = forge(GOOD)
    assert tree(mount(PACKERS[packer](data), max_unpacked_bytes=len(data))) == {"good": b"good"}
    with pytest.raises(MountError, match="max_unpacked_bytes"):
        mount(PACKERS[packer](data), max_unpacked_bytes=len(data) - 1)


@pytest.mark.parametrize("packer", PACKERS)
def test_streams_one_after_the_other_are_one(packer: str) -> None:
    data = forge(member("f", bytes(range(256)) * 600), GOOD)
    pack = PACKERS[packer]
    for zeros in (b"", bytes(8)):
        both = zeros.join([pack(data[:700]), pack(b""), pack(data[700:])]) + zeros * 10_000
        assert len(tree(mount(both))) == 2
    for rubbish in (b"rubbish", b"\x1f", b"\0\0\0\0x"):
        if packer == "xz":  # whose own program refuses it too
            with pytest.raises(MountError, match=MESSAGE):
                mount(pack(data) + rubbish)
        else:
            assert len(tree(mount(pack(data) + rubbish))) == 2


@pytest.mark.parametrize("packer", PACKERS)
def test_many_empty_streams_are_refused_soon(packer: str) -> None:
    started = time.process_time()
    with pytest.raises(MountError, match="next to nothing in them"):
        mount(PACKERS[packer](b"") * 50_000)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_archives_cut_anywhere_or_changed_anywhere(packer: str) -> None:
    data = PACKERS[packer](forge(GOOD, member("d/f", bytes(range(256)) * 8)))
    for length in range(len(data)):
        with pytest.raises(MountError):
            mount(data[:length])
    rng = random.Random(5)
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        # Fields that mean nothing (a time, a name, an operating system) may change; what is read then is right.
        if probe(bytes(broken)) != "refused":
            assert tree(mount(bytes(broken))) == {"good": b"good", "d": {"f": bytes(range(256)) * 8}}


def test_a_wrong_checksum_or_length_is_noticed() -> None:
    good = gzip.compress(forge(GOOD))
    for at in (-8, -4):
        broken = bytearray(good)
        broken[at] ^= 1
        with pytest.raises(MountError, match="gzip: "):
            mount(bytes(broken))


def test_a_stream_that_wants_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
    data = bytearray(lzma.compress(forge(GOOD), filters=filters))
    # The block header: size, flags, filter, size of its properties, dictionary size, padding; then its checksum.
    assert bytes(data[12:16]) == bytes([data[12], 0, 0x21, 1])
    data[16] = 40  # 4 GiB - 1
    end = 12 + 4 * data[12]
    data[end : end + 4] = struct.pack("<I", zlib.crc32(data[12:end]))
    with pytest.raises(MountError, match=r"xz needs 4,294,967,295 bytes, more than Limits.buffer_bytes"):
        mount(bytes(data))


def test_compressed_things_that_are_no_archive() -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        for data in (b"", b"text", gzip.compress(forge(GOOD))):
            with pytest.raises(MountError, match=MESSAGE):
                mount(pack(data))


def test_a_full_disk_is_a_mount_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vfswasi.fs_backends.archive.unpacked._SPOOL_MEMORY_BYTES", 0)
    monkeypatch.setattr("vfswasi.fs_backends.archive.unpacked._write", fail)
    with pytest.raises(MountError, match=r"No space left on device; .*no space for temporary files"):
        mount(PACKERS["gz"](forge(GOOD)))


# Cut and changed archives


def probe(data: bytes) -> str:
    """Use everything in an archive; "refused", "broken" or "fine". Any other exception fails the test."""
    try:
        backend = mount(data, max_unpacked_bytes=1 << 26)
    except MountError:
        return "refused"
    outcome = "fine"
    stack: list[tuple[str, ...]] = [()]
    while stack:
        key = stack.pop()
        for entry in backend.list(key):
            below = (*key, entry.name)
            if entry.filetype is FileType.DIRECTORY:
                stack.append(below)
                continue
            try:
                if entry.filetype is FileType.SYMBOLIC_LINK:
                    backend.readlink(below)
                else:
                    handle = backend.open(below, False)
                    buffer = bytearray(1 << 16)
                    offset = 0
                    while offset < 1 << 20 and (count := handle.read_into(offset, buffer)):
                        offset += count
                    handle.close()
            except FsError as error:
                if error.errno not in (Errno.IO, Errno.ILSEQ, Errno.ACCES, Errno.NAMETOOLONG):
                    raise
                outcome = "broken"
    backend.close()
    return outcome


def sample() -> bytes:
    pieces = [(0, 5), (1000, 3)]
    return forge(
        pax(("comment", b"0123"), kind=b"g"),
        member("d/", kind=b"5"),
        member("d/f", b"data" * 200),
        pax(("path", b"n" * 150), ("mtime", b"1.5"), ("size", b"3")),
        member("short", b"123"),
        member("x", b"l" * 120 + b"\0", b"L"),
        member("l" * 100, kind=b"2", link=b"d/f"),
        member("h", kind=b"1", link=b"d/f"),
        pax_sparse("1.0", pieces, 2000, b"helloabc"),
        pax_sparse("0.1", pieces, 2000, b"helloabc"),
    )


def test_an_archive_cut_inside_a_member_is_refused_and_between_two_shows_what_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = sample()
    whole = tree(mount(data))
    assert not caplog.records
    shown = []
    for length in range(1, len(data) - 1024):
        caplog.clear()
        if probe(data[:length]) == "refused":
            continue
        found = tree(mount(data[:length]))
        assert found.items() <= whole.items() or length < 2048, "the directory may lack its file"
        assert "has no end, as if it were cut short" in caplog.text
        shown.append(len(found))
    # After each of the members, with any number of zeros behind it.
    assert sorted(set(shown)) == [1, 2, 3, 4, 5]
    for end in (0, 1, 511, 512, 1023):
        assert tree(mount(data[: len(data) - 1024 + end])) == whole


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_raise_anything_else(seed: int) -> None:
    data = sample()
    rng = random.Random(seed)
    outcomes = []
    started = time.process_time()
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    for number in range(600):
        broken = bytearray(data)
        if number % 2:
            for _ in range(rng.choice([1, 1, 8])):
                broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            # A header whose checksum is right again says what it says.
            at = rng.choice(headers)
            for _ in range(rng.choice([1, 2, 5])):
                broken[at + rng.choice([rng.randrange(512), rng.randrange(124, 160)])] ^= 1 << rng.randrange(8)
            broken[at + 148 : at + 156] = b" " * 8
            broken[at + 148 : at + 156] = b"%06o\0 " % sum(broken[at : at + 512])
        outcomes.append(probe(bytes(broken)))
    assert {"refused", "fine"} <= set(outcomes)
    assert time.process_time() - started < 60


def test_archives_that_lost_their_middle() -> None:
    data = sample()
    rng = random.Random(6)
    for _ in range(300):
        at = rng.randrange(len(data))
        lost = rng.choice([512, 1024, rng.randrange(1, 2000)])
        assert probe(data[:at] + data[at + lost :]) in ("refused", "broken", "fine")


def test_rubbish_is_refused() -> None:
    rng = random.Random(7)
    for magic in (b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"):
        for _ in range(50):
            assert probe(magic + rng.randbytes(rng.randrange(3000))) == "refused"


def test_a_source_that_fails_is_a_mount_error_and_later_io() -> None:
    class Flaky(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._file = io.BytesIO(data)
            self.broken = False

        def seek(self, offset: int, whence: int = 0, /) -> int:
            return self._file.seek(offset, whence)

        def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
            if self.broken:
                raise ConnectionResetError("a client's own exception")
            return self._file.readinto(buffer)

        def read(self, size: int = -1, /) -> bytes:
            raise NotImplementedError

    file = Flaky(forge(GOOD))
    backend = TarBackend(file)
    handle = backend.open(("good",), False)
    file.broken = True
    assert errno_of(read, handle, 0, 4) is Errno.IO
    with pytest.raises(MountError, match="cannot mount tar archive <Flaky object>"):
        TarBackend(file)


def test_an_archive_that_becomes_shorter_reads_as_io(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(forge(member("f", bytes(100_000))))
    backend = TarBackend(path)
    handle = backend.open(("f",), False)
    with path.open("r+b") as file:
        file.truncate(1000)
    assert errno_of(read, handle, 5000, 10_000) is Errno.IO
    backend.close()
    assert errno_of(read, handle, 0, 10) is Errno.IO
