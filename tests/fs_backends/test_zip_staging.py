"""What WritableZipBackend keeps until a commit: its contents, its limits, its threads."""

from __future__ import annotations

import os
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fs_backends.tar_forge import tree
from tests.fs_backends.zip_forge import DEFLATED, Entry, archive, forge, noise
from tests.fs_backends.zip_written import OLD, check, put
from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno, FsError, MountError
from vfswasi.fs_backends.archive.writable import WritableZipBackend
from vfswasi.fs_backends.base import Backend, FileType
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.staging.pages import PAGE_BYTES
from vfswasi.fs_backends.staging.space import Staged, StagingSpace
from vfswasi.testing.ground import contents, errno_of


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


def test_staging_takes_little_memory_and_one_descriptor(path: Path) -> None:
    backend = WritableZipBackend(path, staging_memory_bytes=1 << 20)
    before = open_files()
    tracemalloc.start()
    expected = {}
    for number in range(50):
        data = noise(300_000, number % 3)
        expected[f"f{number}"] = data
        put(backend, (f"f{number}",), data)
    tracemalloc.stop()
    assert backend.space.used_memory_bytes <= 1 << 20
    assert len(opened_since(before)) == 1
    assert tree(backend) == expected
    backend.commit()
    assert backend.space.used_memory_bytes == 0
    check(path, expected)
    backend.close()


def test_what_is_staged_is_bounded(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path, max_staged_bytes=100_000)
    handle = backend.create(("new",))
    handle.write_from(0, bytes(60_000))
    for call, args in (
        (handle.write_from, (60_000, bytes(40_001))),
        (handle.write_from, (1 << 40, b"x")),
        (handle.truncate, (100_001,)),
        (handle.allocate, (0, 100_001)),
    ):
        assert errno_of(call, *args) is Errno.NOSPC
        assert handle.size() == 60_000
    handle.truncate(100_000)
    other = backend.open(("keep",), True)
    assert errno_of(other.write_from, 0, b"x") is Errno.NOSPC
    assert contents(backend, ("keep",)) == OLD["keep"]
    handle.truncate(10)
    other.write_from(0, b"x")
    backend.remove(("new",))
    handle.close()
    other.close()
    assert backend.space.used_bytes == len(OLD["keep"])
    backend.remove(("keep",))
    assert backend.space.used_bytes == 0
    backend.rollback()
    assert backend.space.used_bytes == backend.space.used_memory_bytes == 0
    backend.close()


def test_entries_and_names_are_bounded_by_what_readers_take(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path, max_entries=9)
    backend.mkdir(("1",))
    backend.mkdir(("2",))
    assert errno_of(backend.mkdir, ("3",)) is Errno.NOSPC
    assert errno_of(backend.mkdir, ("2",)) is Errno.EXIST
    assert errno_of(backend.create, ("none", "3")) is Errno.NOENT
    backend.rmdir(("2",))
    backend.create(("3",)).close()
    backend.commit()
    backend.close()
    with pytest.raises(MountError, match="more than 8 entries"):
        WritableZipBackend(path, max_entries=8)
    backend = WritableZipBackend(path)
    assert errno_of(backend.symlink, "t" * 4097, ("l",)) is Errno.NAMETOOLONG
    key: tuple[str, ...] = ()
    for _ in range(16):
        key = (*key, "n" * 254)
        backend.mkdir(key)
    assert errno_of(backend.create, (*key, "f" * 17)) is Errno.NAMETOOLONG
    backend.create((*key, "f" * 16)).close()
    assert errno_of(backend.rename, key[:1], ("n" * 255,)) is Errno.NAMETOOLONG
    assert errno_of(backend.rename, key[:1], ("1", "n")) is Errno.SUCCESS
    assert errno_of(backend.rename, ("1", "n"), ("1", "n" * 253)) is Errno.NAMETOOLONG
    backend.commit()
    backend.close()


def test_hard_links_are_refused(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    assert errno_of(backend.link, ("keep",), ("second",)) is Errno.NOTSUP
    assert not backend.changed
    backend.close()


def test_what_cannot_be_opened(path: Path) -> None:
    path.write_bytes(
        forge(
            Entry("fifo", mode=0o010644),
            Entry("bad", b"x" * 5000, DEFLATED, crc=1),
            Entry("secret", b"x", flags=0x801),
            Entry("link", b"\xff", mode=0o120777),
        )
    )
    backend = WritableZipBackend(path)
    assert errno_of(backend.open, ("fifo",), True) is Errno.ACCES
    assert errno_of(backend.open, ("secret",), True) is Errno.IO
    assert errno_of(backend.open, ("link",), True) is Errno.LOOP
    assert errno_of(backend.readlink, ("link",)) is Errno.ILSEQ
    handle = backend.open(("bad",), True)
    assert errno_of(handle.write_from, 0, b"y") is Errno.IO
    assert backend.space.used_bytes == 0
    assert not backend.changed
    handle.truncate(0)
    handle.write_from(0, b"good")
    handle.close()
    backend.rename(("fifo",), ("moved",))
    backend.commit()
    assert contents(backend, ("bad",)) == b"good"
    assert backend.stat(("moved",)).filetype is FileType.UNKNOWN
    backend.close()


@pytest.mark.parametrize("memory_bytes", [0, 3 * PAGE_BYTES, 1 << 30])
@pytest.mark.parametrize("seed", range(3))
def test_staged_contents_are_those_of_a_bytearray(memory_bytes: int, seed: int) -> None:
    space = StagingSpace(memory_bytes, 1 << 20)
    pairs = [(Staged(space), bytearray()) for _ in range(3)]
    rng = random.Random(seed)
    for _ in range(600):
        staged, model = rng.choice(pairs)
        offset = rng.choice([0, len(model), rng.randrange(200_000)])
        match rng.randrange(4):
            case 0 | 1:
                data = rng.randbytes(rng.choice([1, 100, 40_000]))
                outcome = errno_of(staged.write, offset, data)
                assert outcome in (Errno.SUCCESS, Errno.NOSPC)
                if outcome is Errno.SUCCESS:
                    model.extend(bytes(max(0, offset - len(model))))
                    model[offset : offset + len(data)] = data
            case 2:
                staged.truncate(offset)
                model.extend(bytes(max(0, offset - len(model))))
                del model[offset:]
            case 3:
                buffer = bytearray(50_000)
                count = staged.read_into(offset, buffer)
                assert buffer[:count] == model[offset : offset + 50_000]
        assert staged.size == len(model)
        assert space.used_bytes == sum(len(model) for _, model in pairs)
        assert space.used_memory_bytes <= memory_bytes
    for staged, model in pairs:
        buffer = bytearray(len(model))
        assert staged.read_into(0, buffer) == len(model)
        assert buffer == model
        staged.release()
    assert space.used_bytes == space.used_memory_bytes == 0
    space.close()


def test_a_full_disk_below_the_staging_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    space = StagingSpace(0, 1 << 30)
    staged = Staged(space)
    staged.write(0, b"a" * 50_000)
    original = os.pwrite
    left = 3

    def pwrite(fd: int, data: Any, offset: int) -> int:
        nonlocal left
        left -= 1
        if left < 0 and len(data) == PAGE_BYTES:
            raise OSError(28, "No space left on device")
        return original(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(FsError) as caught:
        staged.write(49_000, b"b" * 300_000)
    assert caught.value.errno is Errno.NOSPC
    monkeypatch.setattr(os, "pwrite", original)
    assert (staged.size, space.used_bytes) == (50_000, 50_000)
    assert space.slots.used_bytes == 2 * PAGE_BYTES
    staged.truncate(400_000)
    buffer = bytearray(400_000)
    staged.read_into(0, buffer)
    assert buffer == b"a" * 50_000 + bytes(350_000)
    space.close()


def test_threads_may_share_a_backend(path: Path, old: bytes) -> None:
    backend = WritableZipBackend(path)
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                name = f"t{number}-{turn}"
                put(backend, (name,), name.encode() * 500)
                if contents(backend, (name,)) != name.encode() * 500:
                    wrong.append(name)
                if contents(backend, ("keep",)) != OLD["keep"]:
                    wrong.append("keep")
                if turn % 10 == number:
                    backend.commit()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    backend.commit()
    check(path, tree(backend))
    backend.close()


@pytest.mark.parametrize("seed", range(6))
def test_any_changes_commits_and_rollbacks_end_in_the_tree_that_memory_has(path: Path, old: bytes, seed: int) -> None:
    backend = WritableZipBackend(path, staging_memory_bytes=seed * 20_000)
    model = MemoryBackend()
    for name, data in OLD.items():
        key = tuple(name.split("/"))
        for depth in range(1, len(key)):
            errno_of(model.mkdir, key[:depth])
        put(model, key, data)
    committed = model.export()
    rng = random.Random(seed)

    def some_key() -> tuple[str, ...]:
        return tuple(rng.choice(["a", "b", "d", "e", "keep", "in"]) for _ in range(rng.choice([1, 1, 2, 3])))

    def write(target: Backend, key: tuple[str, ...], offset: int, data: bytes) -> None:
        handle = target.open(key, True)
        try:
            handle.write_from(offset, data)
            handle.truncate(handle.size() - len(data) // 3)
        finally:
            handle.close()

    for _ in range(400):
        key, other = some_key(), some_key()
        offset, data = rng.randrange(70_000), rng.randbytes(rng.choice([3, 3000, 50_000]))
        calls: dict[str, Callable[..., object]] = {
            "create": lambda target, key, *_: target.create(key).close(),
            "write": lambda target, key, _, offset, data: write(target, key, offset, data),
            "mkdir": lambda target, key, *_: target.mkdir(key),
            "remove": lambda target, key, *_: target.remove(key),
            "rmdir": lambda target, key, *_: target.rmdir(key),
            "rename": lambda target, key, other, *_: target.rename(key, other),
            "symlink": lambda target, key, *_: target.symlink("target", key),
        }
        name = rng.choice([*calls, "write", "create", "commit", "rollback", "again"])
        if name in calls:
            if name != "rename" or other[: len(key)] != key:
                outcomes = [errno_of(calls[name], target, key, other, offset, data) for target in (backend, model)]
                assert outcomes[0] is outcomes[1], (name, key, other)
        elif name == "rollback":
            backend.rollback()
            model = MemoryBackend(committed)
        elif rng.random() < 0.3:
            backend.commit()
            committed = model.export()
            if name == "again":
                backend.close()
                backend = WritableZipBackend(path, staging_memory_bytes=seed * 20_000)
        assert tree(backend) == tree(model)
    backend.commit()
    check(path, tree(model))
    backend.close()
