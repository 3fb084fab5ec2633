"""Z3: archives made to cost memory or time where they are mounted, or where their members are open."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.fs_backends import tar_forge, zip_forge
from tests.fs_backends.tar_forge import block, forge, member, octal, padded, pax, pax_record
from tests.fs_backends.test_tar import pax_sparse
from tests.fs_backends.zip_forge import BZIP2, LZMA, Entry, read
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.writable import WritableArchive
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.budget import BUFFER_BYTES, INDEX_BYTES

ROOT = Path(__file__).parents[2]
MEMORY_MAX_BYTES = 150 << 20
SECONDS_MAX = 20  # of the processor, on a machine that does ten other things; it is 2 s when it does not


def _packed(pieces: Iterator[bytes], kind: str) -> bytes:
    packer = {"gz": zlib.compressobj(1, wbits=31), "xz": lzma.LZMACompressor(preset=0), "bz2": bz2.BZ2Compressor(1)}[
        kind
    ]
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])


def _deep_names(kind: str) -> bytes:
    def pieces() -> Iterator[bytes]:
        for number in range(480):
            yield member("L", b"%04d/" % number + b"a/" * 2043 + b"f\0", b"L") + member("f")
        yield bytes(1024)

    return _packed(pieces(), kind)


def _deep_names_in_turn() -> bytes:
    """Few directories, walked through again and again."""
    names = [b"%04d/" % number + b"a/" * 1000 for number in range(60)]
    parts = [member("L", names[number % 60] + b"%d\0" % number, b"L") + member("f") for number in range(20_000)]
    return _packed(iter([*parts, bytes(1024)]), "gz")


def _sparse_records() -> bytes:
    more = (b"%011o\0%011o\0" % (0, 1)) * 20 + b"%011o\0%011o\0" % (0, 0) + b"\1" + bytes(7)
    header = block(b"s", 0, b"S", tail=bytes(41) + bytes(96) + b"\1" + octal(10, 12))
    return _packed(iter([header, *[more * 200] * 1000]), "gz")


def _sparse_maps() -> bytes:
    one = pax(("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,0," * 200_000 + b"0,0")) + member("s")
    return _packed(iter([one] * 150 + [bytes(1024)]), "gz")


def _header_records(kind: bytes = b"x") -> bytes:
    record = b"6 a=b\n" * 170_000
    one = member("x", record, kind) + member("f")
    return _packed(iter([one] * 150 + [bytes(1024)]), "gz")


def _targets() -> bytes:
    one = pax(("linkpath", b"t" * 1_000_000)) + member("l", kind=b"2")
    return _packed(iter([one] * 1000 + [bytes(1024)]), "xz")


def _long_targets_of_their_own() -> bytes:
    parts = [
        member("K", b"t" * 4000 + b"%d\0" % number, b"K") + member(f"l{number}", kind=b"2") for number in range(60_000)
    ]
    return _packed(iter([*parts, bytes(1024)]), "gz")


def _globals() -> bytes:
    parts = [pax(("path", b"g/" * 400_000), ("mtime", b"1." + b"1" * 100_000), kind=b"g")]
    return _packed(iter([*parts, *[member("f")] * 100_000, bytes(1024)]), "gz")


def _many(of: Callable[[int], bytes], count: int) -> bytes:
    return _packed((b"".join(of(n) for n in range(at, at + 1000)) for at in range(0, count, 1000)), "gz")


def _zip(count: int, name: Callable[[int], bytes], extra: bytes = b"", system: int = 3) -> bytes:
    entries = [Entry(name(number), flags=0, extra=extra, system=system) for number in range(count)]
    data = bytearray(zip_forge.forge(*entries[:0xFFFF]))
    return bytes(data)


def _long_name(number: int) -> bytes:
    return b"/".join([b"%d" % number + b"n" * 240] * 16)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "tar.xz of deep names": lambda: _deep_names("xz"),
    "tar.gz of deep names": lambda: _deep_names("gz"),
    "tar.bz2 of deep names": lambda: _deep_names("bz2"),
    "tar of deep names in turn": _deep_names_in_turn,
    "tar of sparse records": _sparse_records,
    "tar of sparse maps": _sparse_maps,
    "tar of header records": _header_records,
    "tar of global header records": lambda: _header_records(b"g"),
    "tar of repeated keys": lambda: _packed(iter([member("x", pax_record("path", b"p") * 90_000, b"x")] * 15), "gz"),
    "tar of long targets": _targets,
    "tar of many targets": _long_targets_of_their_own,
    "tar of global names": _globals,
    "tar of directories": lambda: _many(lambda n: block(b"%d/" % n, 0, b"5"), 400_000),
    "tar of implied directories": lambda: _many(lambda n: block(b"%d/a/b/c/d/e/f/g" % n), 100_000),
    "tar of volume labels": lambda: _many(lambda n: block(b"%d" % n, 0, b"V"), 300_000),
    "tar of hidden names": lambda: _many(lambda n: block(b"../%d" % n), 300_000),
    "tar of hard links": lambda: _many(lambda n: block(b"%d" % n, 0, b"1" if n else b"0", link=b"0"), 300_000),
    "tar of extreme times": lambda: _many(lambda n: block(b"%d" % n, mtime=b"\x80" + bytes(3) + b"\x7f" * 8), 300_000),
    "tar of long names": lambda: _many(lambda n: member("L", _long_name(n), b"L") + block(), 40_000),
    "zip of deep names": lambda: _zip(1000, lambda n: b"%04d/" % n + b"a/" * 2043 + b"f"),
    "zip of implied directories": lambda: _zip(65_000, lambda n: b"%d/a/b/c/d/e/f/g/h/i/j/k" % n),
    "zip of long names": lambda: _zip(5000, _long_name),
    "zip of empty extra fields": lambda: _zip(900, lambda n: b"%d" % n, bytes(4) * 16_000),
    "zip of names in extra fields": lambda: _zip(900, lambda n: b"%d" % n, b"up" + b"\xff\xff" + bytes(65_000)),
}  # fmt: skip


@cache
def hostile(what: str) -> bytes:
    return HOSTILE[what]()


CHILD = """
import json, sys, time
from vfswasi.errors import MountError
from vfswasi.fs_backends import waiting
from vfswasi.fs_backends.budget import PROCESS_INDEX_BYTES
from vfswasi.fs_backends.archive.tar.backend import TarBackend
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
import lzma, bz2, logging
logging.disable()
kind, path = sys.argv[1:]
# Not getrusage, which begins with what the parent had.
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) << 10
allowance = waiting.Allowance(0, 0, 0)
before, started = peak(), time.process_time()
message = ""
with waiting.bounded_by(None, allowance):
    try:
        backend = (ZipBackend if kind == "zip" else TarBackend)(path)
    except MountError as error:
        message = str(error)
    else:
        backend.close()
print(json.dumps([peak() - before, time.process_time() - started, message, allowance.indexes.used]))
"""


@pytest.mark.parametrize("what", HOSTILE)
def test_z3_an_archive_costs_little_to_mount_or_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(hostile(what))
    child = [sys.executable, "-c", CHILD, what[:3], path]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, check=True, timeout=300)
    grown, seconds, message, left = json.loads(done.stdout)
    print(f"{what}: {path.stat().st_size:,} bytes, {grown >> 20} MiB, {seconds:.1f} s, {message[:200]}")
    assert grown < MEMORY_MAX_BYTES
    assert seconds < SECONDS_MAX
    assert "\n" not in message
    assert left == 0


@pytest.mark.parametrize("what", ["tar of sparse records", "tar of directories", "zip of deep names"])
def test_z3_what_does_not_fit_says_which_limit(what: str) -> None:
    with pytest.raises(MountError, match=r"more than Limits.index_bytes \(134,217,728 bytes\); raise the limit"):
        (ZipBackend if what.startswith("zip") else TarBackend)(io.BytesIO(hostile(what)))


@pytest.mark.parametrize("kind", [TarBackend, ZipBackend])
def test_z3_mounts_share_the_memory_for_indexes_and_give_it_back(kind: type[TarBackend] | type[ZipBackend]) -> None:
    names = {f"d{number}/f": b"1" for number in range(500)}
    data = tar_forge.tar_of({f"f{n}": b"1" for n in range(1000)}) if kind is TarBackend else zip_forge.archive(names)
    allowance = waiting.Allowance(0, 0, 0, index_bytes=1 << 20)
    mounted: list[TarBackend | ZipBackend] = []
    refused: MountError | None = None
    with waiting.bounded_by(None, allowance):
        while len(mounted) < 20:
            try:
                mounted.append(kind(io.BytesIO(data)))
            except MountError as error:
                refused = error
                break
        assert "Limits.index_bytes" in str(refused)
        assert 1 <= len(mounted) < 20
        first = mounted[0]
        list(first.list(()))
        mounted.pop().close()
        mounted.append(kind(io.BytesIO(data)))
    for backend in mounted:
        backend.close()
        backend.close()
    assert allowance.indexes.used == 0
    with waiting.bounded_by(None, allowance):
        kind(io.BytesIO(data))  # nobody closes it
    assert allowance.indexes.used == 0


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_z3_an_archive_that_is_written_to_gives_back_what_it_takes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        path.write_bytes(zip_forge.archive({f"f{number}": b"1" for number in range(1000)}))
    else:
        path.write_bytes(forge(*(member(f"f{number}", b"1") for number in range(1000))))
    allowance = waiting.Allowance(0, 0, 0, index_bytes=100_000)
    with waiting.bounded_by(None, allowance), pytest.raises(MountError, match=r"Limits\.index_bytes"):
        WritableArchive(path)
    assert allowance.indexes.used == 0
    allowance = waiting.Allowance(0, 0, 0, index_bytes=400_000)
    with waiting.bounded_by(None, allowance):
        backend = WritableArchive(path)
        taken = allowance.indexes.used
        for _ in range(3):
            backend.mkdir(("d",))
            backend.rollback()
            backend.mkdir(("d",))
            backend.commit()
            backend.rmdir(("d",))
            backend.commit()
        backend.close()
    assert taken > 100_000
    assert allowance.indexes.used == 0


def test_z3_where_the_members_of_a_tar_stand_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(forge(*(member(f"f{number}", b"1") for number in range(1000))))
    allowance = waiting.Allowance(0, 0, 0, index_bytes=250_000)
    with waiting.bounded_by(None, allowance):
        TarBackend(path).close()
        with pytest.raises(MountError, match=r"Limits\.index_bytes"):
            WritableArchive(path)
    assert allowance.indexes.used == 0


class _Over:
    """A run whose time is over when it was asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def over(self) -> BaseException | None:
        self.left -= 1
        return TimeoutError() if self.left < 0 else None


@pytest.mark.parametrize(
    "what",
    [
        "tar of directories",
        "tar.xz of deep names",
        "tar of header records",
        "tar of sparse records",
        "zip of implied directories",
    ],
)
def test_z3_mounting_ends_with_the_runs_time(what: str, tmp_path: Path) -> None:
    data = hostile(what)
    for times in (0, 1, 5):
        over = _Over(times)
        with waiting.bounded_by(over), pytest.raises(FsError) as caught:
            (ZipBackend if what.startswith("zip") else TarBackend)(io.BytesIO(data))
        assert caught.value.errno is Errno.CANCELED
        assert over.left == -1, "asked again afterwards"


# Members that are open


def _lzma_member(dictionary: int, size: int) -> Entry:
    """`size` zeros that ask for a dictionary of so many bytes."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": 3, "lp": 0, "pb": 2}]
    data = bytes(size)
    body = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    payload = b"\x09\x04\x05\0\x5d" + dictionary.to_bytes(4, "little") + body
    return Entry("", data, LZMA, payload=payload, flags=0x802)


@pytest.mark.parametrize("method", ["lzma", "bzip2", "deflate"])
def test_z3_decoders_of_open_members_share_the_memory_for_buffers(method: str) -> None:
    size = 9 << 20  # too large to be kept whole
    data = bytes(size)
    if method == "lzma":
        one = _lzma_member(4 << 20, size)
    elif method == "bzip2":
        one = Entry("", data, BZIP2, payload=bz2.compress(data, 9))
    else:
        one = Entry("", data, zip_forge.DEFLATED)
    members = [Entry(f"m{n}", one.data, one.method, payload=one.payload, flags=one.flags) for n in range(12)]
    limit = {"lzma": 10 << 20, "bzip2": 10 << 20, "deflate": 200 << 10}[method]
    allowance = waiting.Allowance(0, 0, 0, buffer_bytes=limit)
    backend = zip_forge.mount(zip_forge.forge(*members), cache_bytes=1 << 20, spool_bytes=0)
    with waiting.bounded_by(None, allowance):
        handles = [backend.open((f"m{n}",), False) for n in range(12)]
        for offset in (0, 1 << 16, 3 << 16):
            for handle in handles:
                assert read(handle, offset, 100) == bytes(100)
                assert 0 < allowance.buffers.used <= limit
        for handle in handles:
            handle.close()
    assert allowance.buffers.used == 0
    backend.close()


def test_z3_a_dictionary_larger_than_the_memory_for_buffers_is_told() -> None:
    one = _lzma_member(8 << 20, 9 << 20)
    backend = zip_forge.mount(zip_forge.forge(Entry("big", one.data, LZMA, payload=one.payload, flags=0x802)))
    allowance = waiting.Allowance(0, 0, 0, buffer_bytes=4 << 20)
    with waiting.bounded_by(None, allowance), pytest.raises(FsError) as caught:
        read(backend.open(("big",), False), 0, 1)
    assert caught.value.errno is Errno.NOMEM
    assert "the lzma dictionary of zip member 'big' needs" in caught.value.detail
    assert "Limits.buffer_bytes (4,194,304 bytes)" in caught.value.detail
    assert allowance.buffers.used == 0


def test_z3_a_decoder_that_works_does_not_give_way() -> None:
    one = _lzma_member(4 << 20, 9 << 20)
    data = zip_forge.forge(*[Entry(n, one.data, LZMA, payload=one.payload, flags=0x802) for n in ("a", "b")])
    allowance = waiting.Allowance(0, 0, 0, buffer_bytes=6 << 20)
    with waiting.bounded_by(None, allowance):
        backend = zip_forge.mount(data)
        first = backend.open(("a",), False)
        assert read(first, 0, 1) == b"\0"
        decoder = first._idle.take()  # type: ignore[attr-defined]  # as if another thread were reading
        with pytest.raises(FsError) as caught:
            read(backend.open(("b",), False), 0, 1)
        assert caught.value.errno is Errno.NOMEM
        assert decoder.position == 1 << 16
        first._idle.put(decoder)  # type: ignore[attr-defined]
        assert read(backend.open(("b",), False), 0, 1) == b"\0"
        assert read(first, 1 << 16, 1) == b"\0"


def test_z3_a_tar_whose_dictionary_is_larger_than_the_memory_for_buffers(tmp_path: Path) -> None:
    data = lzma.compress(forge(member("f", b"1")), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 8 << 20}])
    second = lzma.compress(bytes(512), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}])
    for packed in (data, lzma.compress(padded(b""), preset=0) + data, lzma.compress(member("a"), preset=0) + second):
        allowance = waiting.Allowance(0, 0, 0, buffer_bytes=4 << 20)
        with (
            waiting.bounded_by(None, allowance),
            pytest.raises(MountError, match=r"xz needs .* more than Limits.buffer"),
        ):
            TarBackend(io.BytesIO(packed))
        assert allowance.buffers.used == 0
    largest = lzma.compress(forge(member("f", b"1")), preset=9)  # 64 MiB, as much as there is
    with waiting.bounded_by(None, waiting.Allowance(0, 0, 0)):
        assert tar_forge.tree(TarBackend(io.BytesIO(largest))) == {"f": b"1"}


def test_z3_maps_of_open_sparse_files_share_the_memory_for_buffers() -> None:
    pieces = [(2 * number, 1) for number in range(20_000)]
    backend = tar_forge.mount(forge(pax_sparse("1.0", pieces, 40_000, b"x" * 20_000)))
    (name,) = [entry.name for entry in backend.list(())]
    allowance = waiting.Allowance(0, 0, 0, buffer_bytes=8 << 20)
    with waiting.bounded_by(None, allowance):
        handles = []
        while (errno := tar_forge.errno_of(backend.open, (name,), False)) is Errno.SUCCESS:
            handles.append(backend.open((name,), False))
        assert errno is Errno.NOMEM
        assert 2 < len(handles) < 50
        assert read(handles[0], 0, 4) == b"x\0x\0"
        for handle in handles:
            handle.close()
    assert allowance.buffers.used == 0


def test_the_defaults_are_those_of_the_limits() -> None:
    import vfswasi

    assert (vfswasi.Limits().index_bytes, vfswasi.Limits().buffer_bytes) == (INDEX_BYTES, BUFFER_BYTES)
    assert zipfile.ZIP_LZMA == LZMA
