"""Files whose size the store does not tell: it is found out, once."""

from __future__ import annotations

import io
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vfswasi import Errno, Limits, Mount
from vfswasi.abi import constants as c

from ..rawguest import GuestErrno, RawGuest

DATA = b"of nobody knows what length" * 100


class Sizeless(MemoryFileSystem):  # type: ignore[misc]
    """Far away, with descriptions that lack a size."""

    protocol = "sizeless"
    reads = 0

    def info(self, path: str, **options: Any) -> Any:
        return self._without(super().info(path, **options))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        return [self._without(entry) for entry in super().ls(path, detail=True, **options)]

    def _without(self, entry: dict[str, Any]) -> dict[str, Any]:
        return {**entry, "size": None} if entry["type"] == "file" else entry

    def cat_file(self, path: str, **options: Any) -> bytes:
        self.reads += 1
        return bytes(super().cat_file(path, **options))


@pytest.fixture
def fs() -> Sizeless:
    made = Sizeless(skip_instance_cache=True)
    made.pipe_file("/sizeless/f", DATA)
    made.pipe_file("/sizeless/empty", b"")
    return made


@pytest.mark.parametrize("vdso", [False, True])
def test_its_size_is_told_before_it_is_read_and_after(fs: Sizeless, vdso: bool) -> None:
    with RawGuest({"/d": Mount(fs, root="/sizeless", trust=True)}, vdso=vdso) as guest:
        assert guest.stat("f").size == len(DATA)
        assert guest.stat("empty").size == 0
        fd = guest.open("f")
        assert guest.fstat(fd).size == len(DATA)
        assert guest.seek(fd, 0, c.WHENCE_END) == len(DATA)
        guest.seek(fd, 0, 0)
        assert guest.read(fd, 10) == DATA[:10]
        assert guest.fstat(fd).size == len(DATA)
        guest.close_fd(fd)
        assert guest.stat("f").size == len(DATA)


def test_it_is_read_once_for_its_size_and_to_be_opened(fs: Sizeless) -> None:
    with RawGuest({"/d": Mount(fs, root="/sizeless", trust=True)}) as guest:
        for _ in range(5):
            assert guest.stat("f").size == len(DATA)
        assert guest.contents("f") == DATA
        assert fs.reads == 1


def test_a_file_that_changes_has_another_size(fs: Sizeless) -> None:
    with RawGuest({"/d": Mount(fs, root="/sizeless", trust=True, listing=0)}) as guest:
        assert guest.stat("f").size == len(DATA)
        fs.pipe_file("/sizeless/f", b"short")
        assert guest.stat("f").size == 5


def test_what_it_costs_is_within_the_limits(fs: Sizeless) -> None:
    limits = Limits(remote_bytes=len(DATA) - 1)
    with (
        RawGuest({"/d": Mount(fs, root="/sizeless", trust=True)}, limits=limits) as guest,
        pytest.raises(GuestErrno) as caught,
    ):
        guest.stat("f")
    assert caught.value.errno is Errno.DQUOT


@pytest.mark.parametrize("seeks", [True, False])
def test_pyfilesystem_without_sizes(seeks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    memoryfs = pytest.importorskip("fs.memoryfs")

    class Plain(memoryfs.MemoryFS):  # type: ignore[misc]
        def getinfo(self, path: str, namespaces: Any = None) -> Any:
            return super().getinfo(path, ["basic"])

        def openbin(self, path: str, mode: str = "r", **options: Any) -> Any:
            file = super().openbin(path, mode, **options)
            return io.BufferedReader(Pipe(file.read())) if mode == "r" and not seeks else file

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.inner.readinto(buffer)

    store = Plain()
    store.writebytes("/f", DATA)
    with RawGuest({"/d": Mount(store, trust=True)}) as guest:
        assert guest.stat("f").size == len(DATA)
