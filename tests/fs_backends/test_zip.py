"""ZipBackend: the tree, the data of every kind of member, and where archives come from."""

from __future__ import annotations

import io
import itertools
import os
import random
import stat
import struct
import threading
import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.fs_backends.zip_forge import DATE_NS, DEFLATED, Entry, forge
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.base import Backend, Caps, FileType, Handle, Key
from vfswasi.fs_backends.zip import ZipBackend
from vfswasi.fs_backends.zip_source import redacted

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that compress to about half."""
    rng = random.Random(seed)
    words = [rng.randbytes(8) for _ in range(2000)]
    return b"".join(rng.choices(words, k=size // 8 + 1))[:size]


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return file.getvalue()


def mount(data: bytes, **options: object) -> ZipBackend:
    return ZipBackend(io.BytesIO(data), **options)  # type: ignore[arg-type]


def read(handle: Handle, offset: int, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: handle.read_into(offset, buffer)])


def read_all(backend: ZipBackend, *key: str, step: int = 1 << 16) -> bytes:
    handle = backend.open(key, False)
    pieces = []
    while piece := read(handle, sum(map(len, pieces)), step):
        pieces.append(piece)
    handle.close()
    return b"".join(pieces)


def tree(backend: ZipBackend, key: Key = ()) -> dict[str, object]:
    """Nested dicts; files as bytes, links as `-> target`, other objects as their type."""
    found: dict[str, object] = {}
    for entry in backend.list(key):
        below = (*key, entry.name)
        status = backend.stat(below)
        assert (status.filetype, status.ident) == (entry.filetype, entry.ident)
        match entry.filetype:
            case FileType.DIRECTORY:
                found[entry.name] = tree(backend, below)
            case FileType.REGULAR_FILE:
                found[entry.name] = read_all(backend, *below)
            case FileType.SYMBOLIC_LINK:
                found[entry.name] = "-> " + backend.readlink(below)
            case _:
                found[entry.name] = entry.filetype
    return found


def errno_of(call: object, *args: object) -> Errno:
    with pytest.raises(FsError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.errno


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
def test_names_map_as_documented_and_never_harm_siblings(
    names: list[str], expected: dict[str, object]
) -> None:
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
    backend = mount(forge(*[Entry(name, b"data", mode=mode | 0o644) for name, (mode, _) in kinds.items()]))
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
            assert memory[:2] == b".." and not memory[2 + max(6, count) :].strip(b".")
            assert memory[2 : 2 + count] == noise(9000)[offset : offset + count]
            memory[:] = b"." * 12_000
        memory.extend(b"resizable: the handle holds no part of the buffer")


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
                    if (
                        read(backend.open((name,), False), offset, 5000)
                        != members[name][offset : offset + 5000]
                    ):
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


# Where archives come from


def test_root_inside_the_archive() -> None:
    data = archive({"a/b/f": b"1", "a/g": b"2"})
    assert tree(mount(data, root="a/b")) == {"f": b"1"}
    assert tree(mount(data, root="/a/")) == {"b": {"f": b"1"}, "g": b"2"}
    for root, reason in {
        "none": "no such directory",
        "a/g": "not a directory",
        "../a": "no such",
        "a//b": "no such",
    }.items():
        with pytest.raises(MountError, match=reason) as caught:
            mount(data, root=root)
        assert repr(root) in str(caught.value)


def test_an_archive_with_something_in_front_and_a_comment() -> None:
    file = io.BytesIO(b"#!/bin/sh\n" * 9)
    file.seek(0, 2)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as target:
        target.writestr("f", b"data")
        target.comment = b"PK\1\2" * 20
    assert tree(mount(file.getvalue(), max_entries=1)) == {"f": b"data"}


class ReadOnlyObject:
    """The least that a file object can be."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.seek = self._file.seek
        self.read = self._file.read


@pytest.mark.parametrize("kind", [io.BytesIO, ReadOnlyObject, type("Sub", (io.BytesIO,), {})])
def test_file_objects(kind: type) -> None:
    backend = ZipBackend(kind(archive({"f": b"data"})))
    assert tree(backend) == {"f": b"data"}
    backend.close()


def test_a_file_object_that_fails_later_is_io() -> None:
    class Flaky(ReadOnlyObject):
        def fail(self, *_: object) -> bytes:
            raise ConnectionResetError("a client's own exception")

    file = Flaky(archive({"f": b"data", "s": b"d"}))
    backend = ZipBackend(file)
    file.read = file.fail  # type: ignore[method-assign, assignment]
    assert errno_of(backend.open, ("f",), False) is Errno.IO


@pytest.mark.parametrize("source", [7, None, b"name.zip", io.StringIO("text"), object()])
def test_what_is_no_source_is_a_type_error(source: object) -> None:
    with pytest.raises(TypeError, match="path or a seekable binary file"):
        ZipBackend(source)  # type: ignore[arg-type]


def test_a_file_object_that_cannot_seek_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe, pytest.raises(MountError, match="cannot seek"):
        ZipBackend(pipe)


def test_fsspec_urls(tmp_path: Path) -> None:
    data = archive({"a/f": b"data", "a/big": noise(200_000)})
    (tmp_path / "outer.zip").write_bytes(archive({"inner.zip": data}, zipfile.ZIP_STORED))
    memory = fsspec.filesystem("memory")
    memory.pipe("/test_zip/a.zip", data)
    try:
        for url in ("memory://test_zip/a.zip", f"zip://inner.zip::{tmp_path}/outer.zip"):
            backend = ZipBackend.open_url(url, root="a")
            assert tree(backend) == {"f": b"data", "big": noise(200_000)}
            backend.close()
        second = ZipBackend.open_url("memory://test_zip/a.zip")
        memory.open("/test_zip/a.zip").seek(3)
        assert read_all(second, "a", "f") == b"data"
        with pytest.raises(MountError, match=r"memory://test_zip/none.zip.*FileNotFoundError"):
            ZipBackend.open_url("memory://test_zip/none.zip")
    finally:
        memory.rm("/test_zip", recursive=True)


def test_secrets_of_a_url_do_not_reach_messages() -> None:
    assert redacted("zip://a::https://me:pw@host/a.zip?sig=1#f") == "zip://a::https://***@host/a.zip?***"
    with pytest.raises(MountError) as caught:
        ZipBackend.open_url("nosuchprotocol://user:hunter2@host/a.zip?token=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_mount_error_is_one_line_that_names_the_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    os.mkfifo(tmp_path / "fifo.zip")
    for name in ("none.zip", "bad.zip", "fifo.zip", "", "nul\0.zip"):
        with pytest.raises(MountError, match=r"^cannot mount zip archive [^\n]*; [^\n]*$") as caught:
            ZipBackend(tmp_path / name)
        assert repr(os.fspath(tmp_path / name)) in str(caught.value)


def test_a_closed_backend_and_a_shortened_archive_read_as_io(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive({"f": noise(500_000)}, zipfile.ZIP_STORED))
    backend = ZipBackend(path)
    handle = backend.open(("f",), False)
    os.truncate(path, 1000)
    assert errno_of(read, handle, 5000, 100) is Errno.IO
    assert errno_of(read, handle, 0, 100_000) is Errno.IO
    backend.close()
    assert errno_of(read, handle, 0, 10) is Errno.IO
