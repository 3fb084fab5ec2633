"""Stores that get files as a whole: what waits to be handed over takes one descriptor and bounded memory, and whoever
hands over keeps nobody else waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import fs.memoryfs
import fs.wrapfs
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import vfswasi
from tests.kernel.test_weak_stores import WeakStore
from tests.open_files import open_files, opened_since
from tests.rawguest import RawGuest
from vfswasi.errors import Errno
from vfswasi.fs_backends.base import Backend
from vfswasi.fs_backends.pyfilesystem.backend import PyFilesystemBackend
from vfswasi.fs_backends.remote.backend import RemoteBackend
from vfswasi.fs_backends.remote.fsspec.client import FsspecClient
from vfswasi.testing.ground import contents

MIB = 1 << 20
LARGE = 3 * MIB
FILES = 24  # more than may be in memory of all stores


class Gate:
    """Where uploads wait while it is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(30)


class Slow(MemoryFileSystem):  # type: ignore[misc]
    protocol = "slow"
    gate: Gate

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self.gate()
        super().pipe_file(path, value, **options)

    def put_file(self, local: str, path: str, **options: Any) -> None:
        self.gate()
        super().put_file(local, path, **options)


class SlowWhole(fs.wrapfs.WrapFS):  # type: ignore[type-arg, misc, name-defined]
    gate: Gate

    def openbin(self, path: str, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        if "+" in mode or "a" in mode:
            raise fs.errors.Unsupported("whole files only")
        return super().openbin(path, mode, buffering, **options)

    def upload(self, path: str, file: Any, chunk_size: int | None = None, **options: Any) -> None:
        self.gate()
        super().upload(path, file, chunk_size, **options)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def _remote(gate: Gate) -> Backend:
    store = Slow(skip_instance_cache=True)
    store.gate = gate
    store.store, store.pseudo_dirs = {}, [""]
    store.makedirs("/root")
    return RemoteBackend(FsspecClient(store, "/root"))


def _pyfilesystem(gate: Gate) -> Backend:
    store = SlowWhole(fs.memoryfs.MemoryFS())
    store.gate = gate
    return PyFilesystemBackend(store, trust=True)


@pytest.fixture(params=[_remote, _pyfilesystem], ids=["fsspec", "pyfilesystem"])
def backend(request: pytest.FixtureRequest, gate: Gate) -> Iterator[Backend]:
    make: Callable[[Gate], Backend] = request.param
    made = make(gate)
    yield made
    gate.open.set()
    made.close()


def block(number: int) -> bytes:
    return bytes([number + 1, 7, number]) * (LARGE // 3)


def space(backend: Backend) -> Any:
    return backend.space if isinstance(backend, RemoteBackend) else backend._files._space  # type: ignore[attr-defined]


def test_all_files_of_a_store_wait_in_one_unnamed_file(backend: Backend) -> None:
    before = open_files()
    handles = []
    for number in range(FILES):
        handle = backend.create((f"f{number}",))
        handle.write_from(0, block(number))
        handles.append(handle)
    (found,) = opened_since(before)
    assert "deleted" in found[1]
    assert 0 < space(backend).used_memory_bytes <= 64 * MIB
    assert space(backend).used_bytes == FILES * LARGE
    for number, handle in enumerate(handles):
        buf = bytearray(LARGE)
        assert handle.read_into(0, buf) == LARGE
        assert buf == block(number)
        handle.close()
    assert space(backend).used_bytes == space(backend).used_memory_bytes == 0
    assert opened_since(before) == []
    for number in range(FILES):
        assert contents(backend, (f"f{number}",)) == block(number)


def test_who_hands_a_file_over_keeps_no_other_file_waiting(backend: Backend, gate: Gate) -> None:
    first, second = backend.create(("first",)), backend.create(("second",))
    first.write_from(0, block(1))
    second.write_from(0, b"second")
    gate.open.clear()
    gate.reached.clear()
    thread = threading.Thread(target=first.sync, args=(False,))
    thread.start()
    assert gate.reached.wait(30)
    done = threading.Event()

    def work() -> None:
        second.write_from(0, block(2))
        second.truncate(10)
        buf = bytearray(20)
        assert second.read_into(0, buf) == 10
        done.set()

    other = threading.Thread(target=work)
    other.start()
    assert done.wait(20), "it waits for the upload"
    gate.open.set()
    thread.join()
    other.join()
    first.close()
    second.close()
    assert contents(backend, ("first",)) == block(1)
    assert contents(backend, ("second",)) == block(2)[:10]


def test_unlinked_open_files_of_a_store_share_one_unnamed_file() -> None:
    with RawGuest({"/d": vfswasi.Mount(WeakStore(), rw=True)}) as guest:
        before = open_files()
        fds = []
        for number in range(FILES):
            fds.append(fd := guest.create(f"f{number}"))
            for _ in range(LARGE // 65536):
                guest.write(fd, bytes([number]) * 65536)
            assert guest.unlink(f"f{number}") is Errno.SUCCESS
        assert len(opened_since(before)) == 1
        for number, fd in enumerate(fds):
            assert guest.pread(fd, 5, LARGE - 5) == bytes([number]) * 5
            assert guest.pread(fd, 5, 0) == bytes([number]) * 5
            guest.close_fd(fd)
        assert opened_since(before) == []
