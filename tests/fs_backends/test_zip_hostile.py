"""ZipBackend on archives that lie, break off or blow up: MountError or IO, little memory, little time."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from typing import Any

import pytest

from tests.fs_backends.zip_forge import (
    BZIP2,
    DEFLATED,
    LZMA,
    STORED,
    Entry,
    archive,
    deflate,
    errno_of,
    forge,
    mount,
    noise,
    read,
    read_all,
    tree,
)
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.base import FileType

DATA = noise(20_000)
LARGE = noise(300_000)
# One deflate block, not compressed, that fills the reader's 32 KiB of input exactly.
BLOCK = DATA + DATA[: 32_768 - 5 - len(DATA)]
BLOCK_STREAM = struct.pack("<BHH", 1, len(BLOCK), len(BLOCK) ^ 0xFFFF) + BLOCK
GOOD = Entry("good", b"good", DEFLATED)
GOOD_BYTES = 30 + len("good") + len(deflate(b"good"))

# Each is refused with IO at open or, at the latest, when the last byte is read; its neighbours are fine.
LIARS = {
    "stored, sizes differ": Entry("bad", DATA, file_size=10),
    "stored, longer than it is": Entry("bad", DATA, file_size=1 << 31, compress_size=1 << 31),
    "stored, wrong checksum": Entry("bad", DATA, crc=1),
    "deflated, more than declared": Entry("bad", DATA, DEFLATED, file_size=100),
    "deflated, one more than declared": Entry("bad", DATA, DEFLATED, file_size=len(DATA) - 1),
    "deflated, declared empty": Entry("bad", DATA, DEFLATED, file_size=0),
    "deflated, less than declared": Entry("bad", DATA, DEFLATED, file_size=len(DATA) + 1),
    "deflated, declared 4 GiB": Entry("bad", DATA, DEFLATED, file_size=0xFFFFFFFE),
    "deflated, wrong checksum": Entry("bad", DATA, DEFLATED, crc=1),
    "deflated, compressed size too small": Entry("bad", DATA, DEFLATED, compress_size=5000),
    "deflated, compressed size zero": Entry("bad", DATA, DEFLATED, compress_size=0),
    "deflated, rubbish after the end": Entry("bad", DATA, DEFLATED, payload=deflate(DATA) + b"rubbish"),
    "deflated, much rubbish after the end": Entry("bad", DATA, DEFLATED, payload=deflate(DATA) + bytes(100_000)),
    "deflated, rubbish after a full input": Entry("bad", BLOCK, DEFLATED, payload=BLOCK_STREAM + b"rubbish"),
    "deflated, cut inside": Entry("bad", DATA, DEFLATED, payload=deflate(DATA)[:-1]),
    "deflated, rubbish": Entry("bad", DATA, DEFLATED, payload=b"\xff" * 1000),
    "deflated, large, wrong checksum": Entry("bad", LARGE, DEFLATED, crc=1),
    "deflated, large, more than declared": Entry("bad", LARGE, DEFLATED, file_size=len(LARGE) - 1),
    "deflated, large, cut": Entry("bad", LARGE, DEFLATED, payload=deflate(LARGE)[:-1]),
    "bzip2, rubbish": Entry("bad", DATA, BZIP2, payload=b"rubbish" * 9),
    "bzip2, nothing": Entry("bad", DATA, BZIP2, payload=b""),
    "lzma, rubbish": Entry("bad", DATA, LZMA, payload=b"\x09\x04\x05\0" + b"\xff" * 50),
    "lzma, header cut": Entry("bad", DATA, LZMA, payload=b"\x09"),
    "lzma, huge dictionary": Entry(
        "bad", DATA, LZMA, payload=b"\x09\x04\x05\0\x5d\xff\xff\xff\xff\0rubbish", file_size=0xFFFFFFFE
    ),
    "encrypted": Entry("bad", DATA, flags=0x801),
    "strong encryption": Entry("bad", DATA, flags=0x841),
    "patch": Entry("bad", DATA, flags=0x820),
    "unknown method": Entry("bad", DATA, 97, payload=DATA),
    "implode": Entry("bad", DATA, 6, payload=DATA),
    "header beyond the end": Entry("bad", DATA, header_offset=0x7FFFFFFF),
    "header elsewhere": Entry("bad", DATA, file_size=9, compress_size=9, header_offset=GOOD_BYTES + 40),
    "local name differs": Entry("bad", DATA, local_name=b"dab"),
    "local name is longer": Entry("bad", DATA, local_name=b"bad" * 9000),
    "local method differs": Entry("bad", DATA, DEFLATED, local_method=STORED),
}


@pytest.mark.parametrize("cache_bytes", [64 << 20, 1 << 20], ids=["whole", "pages"])
@pytest.mark.parametrize("label", LIARS)
def test_a_lying_member_is_io_and_its_neighbours_are_fine(label: str, cache_bytes: int) -> None:
    backend = mount(forge(GOOD, LIARS[label], Entry("last", b"last")), cache_bytes=cache_bytes)
    with pytest.raises(FsError) as caught:
        read_all(backend, "bad")
    assert caught.value.errno is Errno.IO
    assert "bad" in caught.value.detail or "outside the archive" in caught.value.detail
    assert read_all(backend, "good") == b"good"
    if "longer than" not in label:  # that one claims the bytes of `last` too
        assert read_all(backend, "last") == b"last"


@pytest.mark.parametrize(
    ("label", "cause"),
    [
        ("encrypted", RuntimeError),
        ("unknown method", NotImplementedError),
        ("header elsewhere", zipfile.BadZipFile),
        ("stored, sizes differ", zipfile.BadZipFile),
    ],
)
def test_what_headers_show_is_refused_at_open_with_its_cause(label: str, cause: type) -> None:
    backend = mount(forge(LIARS[label]))
    with pytest.raises(FsError) as caught:
        backend.open(("bad",), False)
    assert isinstance(caught.value.__cause__, cause)


def test_the_checksum_of_a_large_member_counts_in_whatever_order_it_is_read() -> None:
    backend = mount(forge(Entry("bad", LARGE, DEFLATED, crc=1)), cache_bytes=1 << 20)
    handle = backend.open(("bad",), False)
    assert read(handle, 100_000, 10) == LARGE[100_000:100_010]
    assert read(handle, 0, 10) == LARGE[:10]
    for _ in range(2):
        assert errno_of(read, handle, len(LARGE) - 1, 1) is Errno.IO
    assert read(handle, 0, 10) == LARGE[:10]


@pytest.mark.parametrize("step", [100, 4096, 5000, 1 << 20])
def test_the_checksum_of_a_stored_member_read_from_start_to_end(step: int) -> None:
    broken = bytearray(LARGE)
    broken[123_456] ^= 1
    backend = mount(forge(Entry("bad", LARGE, payload=bytes(broken)), Entry("ok", LARGE)))
    assert read_all(backend, "ok", step=step) == LARGE
    with pytest.raises(FsError, match="checksum"):
        read_all(backend, "bad", step=step)


def test_a_bomb_takes_no_more_memory_than_it_is_read() -> None:
    # 256 MiB of zeros in 256 KiB, declared as a small file and as what it is.
    encoder = zlib.compressobj(wbits=-15)
    payload = b"".join(encoder.compress(bytes(1 << 20)) for _ in range(256)) + encoder.flush()
    data = forge(
        Entry("liar", method=DEFLATED, payload=payload, file_size=1000, crc=0),
        Entry("honest", method=DEFLATED, payload=payload, file_size=256 << 20, crc=0),
    )
    backend = mount(data, cache_bytes=2 << 20)
    tracemalloc.start()
    try:
        assert errno_of(read_all, backend, "liar") is Errno.IO
        assert read(backend.open(("honest",), False), 64 << 20, 100) == bytes(100)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_overlapping_members_are_refused_and_the_others_are_not() -> None:
    """One kernel of data claimed by many entries, the way of the 42 kB bomb that inflates to petabytes."""
    quoted = forge(Entry("inner", DATA, DEFLATED))
    outer = Entry("outer", quoted[: quoted.index(b"PK\1\2")])
    # The entry for `inner` points into the data of `outer`; what forge writes for it stays unused.
    inside = Entry("inner", DATA, DEFLATED, header_offset=GOOD_BYTES + 30 + len("outer"))
    backend = mount(forge(GOOD, outer, inside, Entry("last", b"last")))
    for name in ("outer", "inner"):
        with pytest.raises(FsError, match="overlap") as caught:
            backend.open((name,), False)
        assert caught.value.errno is Errno.IO
    assert read_all(backend, "good") == b"good"
    assert read_all(backend, "last") == b"last"


def test_two_entries_with_one_local_header_overlap() -> None:
    backend = mount(forge(Entry("twin", b"data"), Entry("twin", b"data", header_offset=0), GOOD))
    assert errno_of(backend.open, ("twin",), False) is Errno.IO
    assert read_all(backend, "good") == b"good"


def test_an_overlap_made_by_the_local_extra_field_is_found() -> None:
    local = Entry("bad", DATA, payload=DATA[:-100], compress_size=len(DATA) - 100, file_size=len(DATA) - 100)
    good = forge(local, Entry("next", b"next"))
    at = good.index(b"PK\3\4") + 28
    longer = good[:at] + struct.pack("<H", 50) + good[at + 2 :]
    backend = mount(longer)
    with pytest.raises(FsError, match="overlap"):
        backend.open(("bad",), False)
    assert read_all(backend, "next") == b"next"


def test_data_descriptors_and_gaps_are_fine() -> None:
    backend = mount(forge(Entry("a", DATA, DEFLATED, flags=0x808, after=b"PK\7\x08" + bytes(12)), Entry("b", b"b")))
    assert tree(backend) == {"a": DATA, "b": b"b"}


def test_a_link_or_an_empty_file_cannot_hide_a_bomb() -> None:
    link = Entry("link", DATA, DEFLATED, file_size=10, mode=0o120777)
    backend = mount(forge(link, GOOD))
    assert backend.stat(("link",)).filetype is FileType.SYMBOLIC_LINK
    assert errno_of(backend.readlink, ("link",)) is Errno.IO


def test_a_huge_lzma_dictionary_is_refused_before_it_is_allocated() -> None:
    backend = mount(forge(LIARS["lzma, huge dictionary"]))
    with pytest.raises(FsError, match="dictionary of 4,294,967,294 bytes is too large"):
        read_all(backend, "bad")


def test_a_member_that_is_declared_empty_and_is_not_stays_refused() -> None:
    backend = mount(forge(LIARS["deflated, declared empty"]))
    for _ in range(2):
        assert errno_of(backend.open, ("bad",), False) is Errno.IO


def test_an_empty_deflated_member_without_data_is_empty() -> None:
    assert tree(mount(forge(Entry("f", method=DEFLATED, payload=b""), GOOD))) == {"f": b"", "good": b"good"}


def test_entries_are_counted_before_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = forge(*[Entry(f"f{number}") for number in range(50)])
    assert len(mount(data, max_entries=50).list(())) == 50
    made: list[object] = []
    original = zipfile.ZipInfo.__init__

    def counting(self: zipfile.ZipInfo, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(zipfile.ZipInfo, "__init__", counting)
    with pytest.raises(MountError, match="more than 49 entries; raise max_entries"):
        mount(data, max_entries=49)
    assert made == []


def test_implied_directories_are_counted_too() -> None:
    data = forge(Entry("a/" * 20 + "f"))
    assert mount(data, max_entries=21).stat(("a",) * 20 + ("f",)).size == 0
    with pytest.raises(MountError, match="more than 20 entries"):
        mount(data, max_entries=20)


def test_a_directory_with_giant_entries_is_not_loaded() -> None:
    extra = struct.pack("<HH", 0x9999, 60_000) + bytes(60_000)
    data = forge(*[Entry(f"f{number}", extra=extra) for number in range(20)])
    assert len(mount(data, max_entries=200).list(())) == 20
    with pytest.raises(MountError, match="too large"):
        mount(data, max_entries=20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"PK\5\6" + bytes(17),
        b"PK\5\6" + b"\xff" * 18,
        b"PK\6\7" + b"\xff" * 16 + b"PK\5\6" + b"\xff" * 18,
        forge(GOOD)[:-30],
    ],
)
def test_a_broken_directory_is_a_mount_error(data: bytes) -> None:
    with pytest.raises(MountError, match=r"^cannot mount zip archive <BytesIO object>: [^\n]+$"):
        mount(data)


@pytest.mark.parametrize(
    ("broken", "visible"),
    [
        (Entry(b"\xff\xfe", b"x"), False),  # flagged as UTF-8
        (Entry("f", b"x", extra=b"\x01\0\xff\xff"), True),  # an extra field longer than its space
        (Entry("f", b"x", extra=b"\x01"), True),
        (Entry("f", b"x", file_size=0xFFFFFFFF), False),  # its size should stand in a zip64 field
        (Entry("f", b"x", file_size=0xFFFFFFFF, extra=struct.pack("<HHI", 1, 4, 1)), False),
        (Entry("f", b"x", file_size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 1)), True),
        (Entry("f", b"x", header_offset=0xFFFFFFFF), False),
    ],
)
def test_a_broken_entry_does_no_harm_to_its_siblings(broken: Entry, visible: bool) -> None:
    backend = mount(forge(Entry("before", b"1"), broken, Entry("after", b"2")))
    assert tree(backend) == {"before": b"1", "after": b"2"} | ({"f": b"x"} if visible else {})


def test_a_version_that_nobody_knows_concerns_its_entry_alone() -> None:
    data = bytearray(forge(Entry("f", b"x"), Entry("g", b"y")))
    data[data.index(b"PK\1\2") + 6] = 99
    assert tree(mount(bytes(data))) == {"f": b"x", "g": b"y"}


@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\n"])
def test_zip64_records(monkeypatch: pytest.MonkeyPatch, prefix: bytes) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("a", b"1" * 100)
        target.writestr("b", b"2" * 100)
    data = file.getvalue()
    assert b"PK\6\6" in data
    assert tree(mount(prefix + data)) == {"a": b"1" * 100, "b": b"2" * 100}


def probe(data: bytes) -> str:
    """Use everything in an archive; "refused", "broken" or "fine". Any other exception fails the test."""
    try:
        backend = mount(data, cache_bytes=1 << 20)
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
                    while offset < 4 << 20 and (count := handle.read_into(offset, buffer)):
                        offset += count
                    handle.close()
            except FsError as error:
                if error.errno not in (Errno.IO, Errno.ILSEQ, Errno.ACCES, Errno.NAMETOOLONG):
                    raise
                outcome = "broken"
    backend.close()
    return outcome


def sample() -> bytes:
    file = io.BytesIO(
        forge(
            Entry("stored", DATA[:300]),
            Entry("d/deflated", DATA[:2000], DEFLATED),
            Entry("link", b"stored", mode=0o120777),
            Entry("e/", extra=struct.pack("<HHBi", 0x5455, 5, 1, 5)),
        )
    )
    with zipfile.ZipFile(file, "a") as target:
        target.writestr("bzip2", DATA[:1000], zipfile.ZIP_BZIP2)
        target.writestr("lzma", DATA[:1000], zipfile.ZIP_LZMA)
    return file.getvalue()


def test_truncated_archives_are_refused() -> None:
    data = sample()
    assert probe(data) == "fine"
    assert {probe(data[:length]) for length in range(0, len(data), 7)} == {"refused"}


def test_archives_that_lost_their_middle() -> None:
    data = sample()
    rng = random.Random(4)
    started = time.process_time()
    for _ in range(300):
        at = rng.randrange(len(data))
        assert probe(data[:at] + data[at + rng.randrange(1, 200) :]) in ("refused", "broken", "fine")
    assert time.process_time() - started < 60


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_never_raise_anything_else(seed: int) -> None:
    data = sample()
    directory = data.index(b"PK\1\2")
    rng = random.Random(seed)
    outcomes = []
    started = time.process_time()
    for number in range(500):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 8])):
            # Every other archive is hit in its directory, where a bit says most.
            broken[rng.randrange(directory if number % 2 else 0, len(data))] ^= 1 << rng.randrange(8)
        outcomes.append(probe(bytes(broken)))
    assert {"refused", "broken"} <= set(outcomes)
    assert time.process_time() - started < 60


def test_flipped_data_are_noticed_in_every_method() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        data = archive({"f": DATA}, method)
        middle = data.index(b"PK\1\2") // 2
        assert probe(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]) == "broken"
