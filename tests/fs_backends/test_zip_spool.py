"""Large members are inflated once, however many runs read them: what leaves memory goes to a spool on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import vfswasi
from tests.fs_backends.zip_forge import DEFLATED, Entry, errno_of, forge, mount, noise, read, read_all
from tests.open_files import open_files, opened_since
from vfswasi.errors import Errno
from vfswasi.fs_backends.archive.zip.backend import ZipBackend

from ..wat_programs import program

SIZE = 4 << 20
DATA = noise(SIZE)
CACHE = 1 << 20


def test_a_second_reader_inflates_next_to_nothing(tmp_path: Path) -> None:
    backend = mount(forge(Entry("big", DATA, DEFLATED)), cache_bytes=CACHE)
    assert read_all(backend, "big") == DATA
    first = backend._cache.inflated_bytes
    assert first == SIZE
    for _ in range(3):
        assert read_all(backend, "big", step=100_000) == DATA
    assert backend._cache.inflated_bytes <= first + (1 << 20)
    assert backend._cache.used_bytes <= CACHE
    assert backend._cache.spool.used_bytes <= SIZE
    backend.close()
    assert backend._cache.spool.used_bytes == 0


def test_the_spool_is_bounded_and_closed() -> None:
    before = open_files()
    backend = mount(forge(*[Entry(f"m{n}", DATA, DEFLATED) for n in range(3)]), cache_bytes=CACHE, spool_bytes=5 << 20)
    for _ in range(2):
        for n in range(3):
            assert read_all(backend, f"m{n}") == DATA
            assert backend._cache.spool.used_bytes <= 5 << 20
    backend.close()
    assert opened_since(before) == []


def test_without_a_spool_it_is_inflated_again() -> None:
    backend = mount(forge(Entry("big", DATA, DEFLATED)), cache_bytes=CACHE, spool_bytes=0)
    for times in (1, 2):
        assert read_all(backend, "big") == DATA
        assert backend._cache.inflated_bytes >= times * (SIZE - CACHE)


@pytest.mark.parametrize("where", ["os.pwrite", "tempfile.mkstemp", "os.pread", "os.fstatvfs"])
def test_a_disk_that_fails_is_not_noticed(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    backend = mount(forge(Entry("big", DATA, DEFLATED)), cache_bytes=CACHE)
    monkeypatch.setattr(where, fail)
    for _ in range(2):
        assert read_all(backend, "big") == DATA
    monkeypatch.undo()
    assert read_all(backend, "big") == DATA
    backend.close()


def test_a_wrong_checksum_is_noticed_by_every_reader() -> None:
    backend = mount(forge(Entry("big", DATA, DEFLATED, crc=1)), cache_bytes=CACHE)
    for _ in range(3):
        handle = backend.open(("big",), False)
        assert read(handle, 0, 100) == DATA[:100]
        assert errno_of(read, handle, SIZE - 10, 10) is Errno.IO
        handle.close()


def test_runs_of_one_sandbox_share_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(forge(Entry("big", DATA, DEFLATED)))
    backend = ZipBackend(path, cache_bytes=CACHE)
    with vfswasi.Sandbox(program(""), preopens={"/d": backend}) as sandbox:
        for _ in range(2):
            assert sandbox.run().returncode == 0
            assert read_all(backend, "big") == DATA
    assert backend._cache.inflated_bytes <= SIZE + CACHE
    backend.close()
