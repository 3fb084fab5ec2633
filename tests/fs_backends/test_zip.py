"""ZipBackend: the tree, and the data of every kind of member."""

from __future__ import annotations

import itertools
import random
import stat
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.fs_backends.zip_forge import (
    DATE_NS,
    DEFLATED,
    METHODS,
    Entry,
    archive,
    errno_of,
    forge,
    mount,
    noise,
    read,
    read_all,
    tree,
)
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.zip.backend import ZipBackend
from vfswasi.fs_backends.base import Backend, Caps, FileType, Key

# The tree


def test_tree_of_an_ordinary_archive() -> None:
    backend = mount(archive({"a.txt": b"one", "d/e/f": b"two", "empty/": b"", "d/g": b""}))
    assert tree(backend) == {"a.txt": b"one", "d": {"e": {"f": b"two"}, "g": b""}, "empty": {}}
    assert backend.caps == Caps.IMMUTABLE | Caps.EMPTY_DIRS | Caps.HANDLE_SURVIVES_UNLINK


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["../x"], {}),
        (["/abs", "//", "/", ""], {}),
        (["."], {}),
        ([".."], {}),
        (["./y", "a/./b", "a/../b", "a/.."], {}),
        (["a//b", "a//", "c/d//"], {}),
        (["nul\0name", "nul\0/x"], {}),
        (["n" * 256, "ä" * 128, "d/" + "n" * 256 + "/f"], {}),
        (["n" * 255, "ä" * 127], {"n" * 255: b"0", "ä" * 127: b"1"}),
        (["p/" * 2048 + "f"], {}),
        (["a\\b", "..\\c", "C:d", "~"], {"a\\b": b"0", "..\\c": b"1", "C:d": b"2", "~": b"3"}),
        (["f", "f"], {"f": b"1"}),
        (["f", "f/"], {"f": {}}),
        (["f/", "f"], {"f": {}}),
        (["f", "f/g"], {"f": {"g": b"1"}}),
        (["f/g", "f"], {"f": {"g": b"0"}}),
        (["f", "f/g", "f"], {"f": {"g": b"1"}}),
        (["f", "f/../g"], {"f": b"0"}),
        (["f", "f/g/h/", "f/g"], {"f": {"g": {"h": {}}}}),
        (["d/", "d/"], {"d": {}}),
    ],
)
def test_names_map_as_documented_and_never_harm_siblings(names: list[str], expected: dict[str, object]) -> None:
    entries = [Entry(name, b"" if name.endswith("/") else b"%d" % n) for n, name in enumerate(names)]
    backend = mount(forge(Entry("before", b"x"), *entries, Entry("zz/after", b"y")))
    assert tree(backend) == {"before": b"x", **expected, "zz": {"after": b"y"}}


def test_names_without_the_utf8_flag_are_code_page_437() -> None:
    backend = mount(forge(Entry(b"\x81ber", b"1", flags=0), Entry("über.txt", b"2")))
    assert tree(backend) == {"über": b"1", "über.txt": b"2"}


def test_idents_are_positive_unique_and_those_of_the_listing() -> None:
    backend = mount(forge(Entry("a/b/c"), Entry("a/d"), Entry("f"), Entry("f/g"), Entry("h/")))
    keys: list[Key] = [(), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("f",), ("f", "g"), ("h",)]
    idents = [backend.stat(key).ident for key in keys]
    assert all(isinstance(ident, int) and ident > 0 for ident in idents)
    assert len(set(idents)) == len(keys)
    tree(backend)  # compares each entry with its stat


def test_special_files() -> None:
    kinds = {
        "fifo": (stat.S_IFIFO, FileType.UNKNOWN),
        "char": (stat.S_IFCHR, FileType.CHARACTER_DEVICE),
        "block": (stat.S_IFBLK, FileType.BLOCK_DEVICE),
        "socket": (stat.S_IFSOCK, FileType.SOCKET_STREAM),
    }
    backend = mount(forge(*[Entry(name, b"", mode=mode | 0o644) for name, (mode, _) in kinds.items()]))
    assert tree(backend) == {name: kind for name, (_, kind) in kinds.items()}
    for name in kinds:
        assert backend.stat((name,)).size == 0
        assert errno_of(backend.open, (name,), False) is Errno.ACCES
        assert errno_of(backend.readlink, (name,)) is Errno.INVAL


def test_modes_count_only_where_the_archive_is_from_unix() -> None:
    link = stat.S_IFLNK | 0o777
    backend = mount(
        forge(
            Entry("dos", b"t", mode=link, system=0),
            Entry("unix", b"t", mode=link),
            Entry("dir", mode=stat.S_IFDIR | 0o755),
            Entry("slash/", mode=link),
        )
    )
    assert tree(backend) == {"dos": b"t", "unix": "-> t", "dir": {}, "slash": {}}


@pytest.mark.parametrize("method", [0, DEFLATED])
def test_symbolic_links(method: int) -> None:
    mode = stat.S_IFLNK | 0o777
    targets = {
        "ok": "../ä/b".encode(),
        "bad": b"\xff",
        "nul": b"a\0b",
        "most": b"t" * 4096,
        "more": b"t" * 4097,
    }
    backend = mount(forge(*[Entry(name, data, method, mode=mode) for name, data in targets.items()]))
    assert backend.stat(("ok",)).filetype is FileType.SYMBOLIC_LINK
    assert backend.stat(("ok",)).size == len(targets["ok"])
    assert backend.readlink(("ok",)) == "../ä/b"
    assert backend.readlink(("most",)) == "t" * 4096
    assert errno_of(backend.readlink, ("bad",)) is Errno.ILSEQ
    assert errno_of(backend.readlink, ("nul",)) is Errno.ILSEQ
    assert errno_of(backend.readlink, ("more",)) is Errno.NAMETOOLONG
    assert errno_of(backend.open, ("ok",), False) is Errno.LOOP
    assert errno_of(backend.open, ("ok", "x"), False) is Errno.NOTDIR
    assert errno_of(backend.readlink, ()) is Errno.INVAL


UNIX_TIME = struct.pack("<HHBi", 0x5455, 5, 1, -5)
NTFS = struct.pack("<HHLHH3Q", 0x000A, 32, 0, 1, 24, 116_444_736_000_000_007, 0, 0)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (b"", DATE_NS),
        (UNIX_TIME, -5 * 10**9),
        (NTFS, 700),
        (UNIX_TIME + NTFS, 700),
        (struct.pack("<HH", 0x9999, 0) + UNIX_TIME, -5 * 10**9),
        (struct.pack("<HHBi", 0x5455, 5, 0, 9), DATE_NS),  # the flag says: no modification time
        (struct.pack("<HHBH", 0x5455, 3, 1, 9), DATE_NS),  # too short
        (struct.pack("<HHLHH", 0x000A, 8, 0, 1, 24), DATE_NS),  # too short
        (struct.pack("<HHLHHQ", 0x000A, 16, 0, 1, 8, 0), DATE_NS),  # no time given
        (b"\x55", DATE_NS),
    ],
)
def test_times(extra: bytes, expected: int) -> None:
    status = mount(forge(Entry("f", extra=extra))).stat(("f",))
    assert (status.atim_ns, status.mtim_ns, status.ctim_ns) == (expected,) * 3


@pytest.mark.parametrize("date", [0, 13 << 5 | 1, 2 << 5 | 30, 0xFFFF])
def test_a_date_that_is_none_is_unknown(date: int) -> None:
    assert mount(forge(Entry("f", date=date))).stat(("f",)).mtim_ns is None


def test_walk_agrees_with_the_loop_over_stat() -> None:
    backend = mount(forge(Entry("a/b/f"), Entry("g"), Entry("l", b"a", mode=stat.S_IFLNK)))
    for names in itertools.product(["a", "b", "f", "g", "l", "none"], repeat=3):
        assert backend.walk((), names) == Backend.walk(backend, (), names)
        if names[0] == "a":
            assert backend.walk(("a",), names[1:]) == Backend.walk(backend, ("a",), names[1:])
    assert backend.walk((), ()) == (0, None)
    assert errno_of(backend.walk, ("g",), ("x",)) is Errno.NOTDIR
    assert errno_of(backend.walk, ("none",), ("x",)) is Errno.NOENT


def test_errors_of_lookups() -> None:
    backend = mount(forge(Entry("d/f")))
    for call in (backend.stat, backend.list):
        assert errno_of(call, ("none",)) is Errno.NOENT
        assert errno_of(call, ("d", "f", "x")) is Errno.NOTDIR
    assert errno_of(backend.list, ("d", "f")) is Errno.NOTDIR
    assert errno_of(backend.open, (), False) is Errno.ISDIR
    assert errno_of(backend.open, ("d",), False) is Errno.ISDIR
    assert errno_of(backend.open, ("none",), False) is Errno.NOENT
    assert errno_of(backend.open, ("d", "f"), True) is Errno.ROFS
    assert errno_of(backend.create, ("new",)) is Errno.ROFS
    assert errno_of(backend.symlink, "x", ("new",)) is Errno.ROFS
    assert errno_of(backend.open(("d", "f"), False).write_from, 0, b"x") is Errno.ROFS


# The data


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_001, 1_500_000])
@pytest.mark.parametrize("cache_bytes", [64 << 20, 1 << 20, 0])
def test_every_method_reads_right_in_order_and_at_random(method: int, size: int, cache_bytes: int) -> None:
    data = noise(size)
    backend = mount(archive({"f": data, "g": b"next"}, method), cache_bytes=cache_bytes)
    assert read_all(backend, "f", step=50_000) == data
    handle = backend.open(("f",), False)
    assert (handle.size(), handle.stat()) == (size, backend.stat(("f",)))
    rng = random.Random(size)
    for _ in range(12):
        offset, count = rng.randrange(size + 10), rng.choice([1, 16, 4096, 70_000, 300_000])
        assert read(handle, offset, count) == data[offset : offset + count]
    assert read(handle, size, 10) == read(handle, 2**64, 10) == read(handle, 0, 0) == b""
    handle.close()


@pytest.mark.parametrize("method", METHODS)
def test_small_reads_in_sequence(method: int) -> None:
    data = noise(150_000)
    assert read_all(mount(archive({"f": data}, method)), "f", step=777) == data


def test_a_read_changes_only_its_part_of_a_memory_view() -> None:
    for method in METHODS:
        handle = mount(archive({"f": noise(9000)}, method)).open(("f",), False)
        memory = bytearray(b"." * 12_000)
        for offset, count in ((8997, 3), (0, 6), (1000, 6), (100, 8000)):
            with memoryview(memory)[2 : 2 + max(6, count)] as view:
                assert handle.read_into(offset, view) == count
            assert memory[:2] == b".."
            assert not memory[2 + max(6, count) :].strip(b".")
            assert memory[2 : 2 + count] == noise(9000)[offset : offset + count]
            memory[:] = b"." * 12_000
        memory.extend(b"resizable: the handle holds no part of the buffer")


def test_the_checksum_of_a_stored_member_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = mount(archive({"f": noise(300_000)}, zipfile.ZIP_STORED))
    summed = 0
    original = zlib.crc32

    def counting(data: memoryview, value: int) -> int:
        nonlocal summed
        summed += len(data)
        return original(data, value)

    monkeypatch.setattr(zlib, "crc32", counting)
    for step in (5000, 777, 65_536):
        read_all(backend, "f", step=step)
        assert summed == 300_000


def test_random_reads_of_a_large_member_inflate_each_byte_about_once() -> None:
    size = 32 << 20
    data = noise(1 << 20) * 32
    backend = mount(archive({"big": data}))
    handle = backend.open(("big",), False)
    rng = random.Random(7)
    for _ in range(300):
        offset = rng.randrange(size)
        assert read(handle, offset, 4096) == data[offset : offset + 4096]
    assert backend._cache.inflated_bytes <= size


def test_seeking_back_starts_at_a_checkpoint_when_the_cache_is_small() -> None:
    size = 16 << 20
    data = noise(1 << 20) * 16
    backend = mount(archive({"big": data}), cache_bytes=4 << 20)
    handle = backend.open(("big",), False)
    assert read(handle, size - 10, 10) == data[-10:]
    before = backend._cache.inflated_bytes
    assert before == size
    for number, offset in enumerate(range(size - (1 << 16), 0, -(1 << 20)), 1):
        assert read(handle, offset, 16) == data[offset : offset + 16]
        # At most 8 checkpoints fit: 2 MiB, then one page.
        assert backend._cache.inflated_bytes - before <= number * ((2 << 20) + (1 << 16))
    assert backend._cache.used_bytes <= 4 << 20


def test_interleaved_readers_of_one_large_member_do_not_start_over() -> None:
    size = 4 << 20
    data = noise(1 << 20) * 4
    backend = mount(archive({"big": data}), cache_bytes=256 << 10)
    handles = [backend.open(("big",), False) for _ in range(2)]
    for offset in range(0, size // 2, 1 << 16):
        assert read(handles[0], offset, 100) == data[offset : offset + 100]
        assert read(handles[1], offset + size // 2, 100) == data[offset + size // 2 :][:100]
    assert backend._cache.inflated_bytes <= size + size // 2


def test_the_cache_is_shared_and_bounded() -> None:
    members = {f"f{number}": noise(100_000, number) for number in range(20)}
    backend = mount(archive(members), cache_bytes=1 << 20)
    for name, data in members.items():
        assert read_all(backend, name) == data
        assert backend._cache.used_bytes <= 1 << 20
    before = backend._cache.inflated_bytes
    assert read_all(backend, "f19") == members["f19"]
    assert backend._cache.inflated_bytes == before


@pytest.mark.parametrize("as_object", [False, True])
def test_threads_share_one_backend(as_object: bool, tmp_path: Path) -> None:
    members = {f"f{number}": noise(300_000, number) for number in range(4)}
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        for number, (name, data) in enumerate(members.items()):
            target.writestr(name, data, METHODS[number % 2])
    wrong: list[object] = []
    with path.open("rb") as file:
        backend = ZipBackend(file if as_object else path, cache_bytes=1 << 20)

        def work(seed: int) -> None:
            rng = random.Random(seed)
            try:
                for _ in range(150):
                    name, offset = rng.choice(list(members)), rng.randrange(300_000)
                    if read(backend.open((name,), False), offset, 5000) != members[name][offset : offset + 5000]:
                        wrong.append((name, offset))
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        backend.close()
        assert not file.closed
    assert wrong == []
