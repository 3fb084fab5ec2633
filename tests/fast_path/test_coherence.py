"""What others may see of a guest's files, and the guest of theirs: host functions, other runs, other processes."""

from __future__ import annotations

import gc
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from tests.rawguest import ALL_FILE_RIGHTS, RawGuest
from vfswasi.abi import constants as c
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.kernel.files import sharing

from . import guests

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="tests the fast path")


def writable(source: Any) -> vfswasi.Mount:
    return vfswasi.Mount(source, rw=True)


def fast_calls(guest: RawGuest) -> dict[str, int]:
    fast = guest.wasi._embedding.guest.fast  # type: ignore[union-attr]
    assert fast is not None
    return fast.counters()


def test_a_host_function_sees_the_files_and_may_change_them() -> None:
    backend = MemoryBackend({})
    seen: list[bytes] = []

    def look(memory: Any) -> None:
        seen.append(backend.export()["f"])
        handle = backend.open(("f",), True)
        handle.write_from(0, b"CHANGED!")
        handle.append(b"tail")
        handle.close()

    more = '(import "host" "look" (func $look))'
    read = guests.REWIND + guests.READ
    last = "(call $must (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 300)))"
    wasm = guests.writer(100, read + guests.REWIND + "(call $look)" + guests.READ + last, more)
    result = vfswasi.run(
        wasm, preopens={"/d": writable(backend)}, imports={"host": {"look": look}}, capture_output=True, check=True
    )
    assert seen == [b"0123456789abcdef" * 100]
    assert result.stdout == b"CHANGED!89abcdef"
    assert backend.export()["f"].endswith(b"tail")


def test_two_runs_on_one_store_see_each_others_writes() -> None:
    backend = MemoryBackend({"f": b"old " * 10})
    with RawGuest({"/d": writable(backend)}) as first:
        fd = first.open("f", base=ALL_FILE_RIGHTS)
        for _ in range(5):
            first.write(fd, b"new ")
        assert fast_calls(first)["fd_write"] > 0
        with RawGuest({"/d": writable(backend)}) as second:
            other = second.open("f", base=ALL_FILE_RIGHTS)
            first.tell(fd)  # its next call, whatever it is: now the store has everything
            assert second.read(other, 40) == b"new " * 5 + b"old " * 5
            second.pwrite(other, b"2nd ", 0)
            assert first.pread(fd, 8, 0) == b"2nd new "
            before = fast_calls(first)["fd_pread"]
            for _ in range(10):
                first.pread(fd, 8, 0)
            assert fast_calls(first)["fd_pread"] == before
        for _ in range(300):
            first.pread(fd, 8, 0)
        assert fast_calls(first)["fd_pread"] > before


def test_readers_of_one_store_stay_fast_together() -> None:
    backend = MemoryBackend({"f": b"x" * 100})
    mount = vfswasi.Mount(backend, rw=False)
    with RawGuest({"/d": mount}) as first, RawGuest({"/d": mount}) as second:
        for guest in (first, second):
            fd = guest.open("f")
            for _ in range(10):
                guest.pread(fd, 8, 0)
            assert fast_calls(guest)["fd_pread"] > 5


def test_shares_are_given_back() -> None:
    backend = MemoryBackend({"f": b"x"})
    for _ in range(3):
        vfswasi.run(guests.module(guests.opening() + guests.repeated(9, guests.READ)), preopens={"/d": backend})
    wasi = vfswasi.WASI(version="preview1", preopens={"/d": backend})
    assert backend in sharing._shares
    wasi.close()
    assert backend not in sharing._shares
    vfswasi.WASI(version="preview1", preopens={"/d": backend})  # dropped at once, never closed
    gc.collect()
    assert backend not in sharing._shares


def test_many_runs_of_one_sandbox_on_threads(tmp_path: Path) -> None:
    """Readers and writers of one store on threads: no run loses its own file, or sees another's half."""
    backend = MemoryBackend({"f": b"0123456789abcdef" * 64})
    read = guests.module(
        guests.opening() + guests.repeated(200, guests.READ + guests.REWIND) + guests.READ + guests.SAY
    )
    write = guests.writer(500)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                if number % 2:
                    result = vfswasi.run(read, preopens={"/d": backend}, capture_output=True, check=True)
                    assert result.stdout == b"0123456789abcdef"
                else:
                    vfswasi.run(write, preopens={"/d": writable(backend)}, check=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert backend.export()["f"] == b"0123456789abcdef" * 500


@pytest.fixture
def local(tmp_path: Path) -> Iterator[tuple[RawGuest, Path]]:
    (tmp_path / "f").write_bytes(b"before" * 100)
    with RawGuest({"/d": writable(tmp_path)}) as guest:
        yield guest, tmp_path / "f"


def test_a_change_by_another_process_is_seen_after_at_most_a_thousand_calls(local: tuple[RawGuest, Path]) -> None:
    guest, path = local
    fd = guest.open("f")
    for _ in range(5):
        assert guest.pread(fd, 6, 0) == b"before"
    assert fast_calls(guest)["fd_pread"] > 0
    path.write_bytes(b"after!" * 50)
    seen = [guest.pread(fd, 6, 0) for _ in range(1002)]
    assert seen[-1] == b"after!"
    assert guest.fstat(fd).size == 300
    assert guest.seek(fd, 0, c.WHENCE_END) == 300


@pytest.mark.parametrize("pause", ["sched_yield", "poll_oneoff"])
def test_a_change_by_another_process_is_seen_after_a_pause(local: tuple[RawGuest, Path], pause: str) -> None:
    guest, path = local
    fd = guest.open("f")
    for _ in range(5):
        assert guest.pread(fd, 6, 0) == b"before"
        assert guest.fstat(fd).size == 600
    path.write_bytes(b"after!" * 50)
    if pause == "poll_oneoff":
        guest.poke(0x20000, bytes(8) + b"\0" * 40)  # a clock that has struck
        guest.must("poll_oneoff", 0x20000, 0x20100, 1, 0x20200)
    else:
        guest.must("sched_yield")
    assert guest.pread(fd, 6, 0) == b"after!"
    assert guest.fstat(fd).size == 300


def test_the_guests_own_write_back_does_not_hide_anothers_change(local: tuple[RawGuest, Path]) -> None:
    guest, path = local
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for _ in range(3):
        assert guest.pread(fd, 6, 0) == b"before"
    guest.pwrite(fd, b"AA", 300)
    guest.pwrite(fd, b"AA", 300)
    with path.open("r+b") as file:
        file.write(b"after!")
    guest.must("fd_sync", fd)
    assert [guest.pread(fd, 6, 0) for _ in range(1002)][-1] == b"after!"


def test_growth_of_a_local_file_is_seen_at_its_end(local: tuple[RawGuest, Path]) -> None:
    guest, path = local
    fd = guest.open("f")
    assert guest.read(fd, 1000) == b"before" * 100
    for number in range(20):
        assert guest.read(fd, 10) == b""
        with path.open("ab") as file:
            file.write(b"%d" % (number % 10))
        assert guest.read(fd, 10) == b"%d" % (number % 10)


def test_what_a_guest_wrote_is_on_disk_when_it_pauses(local: tuple[RawGuest, Path]) -> None:
    guest, path = local
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for number in range(50):
        guest.write(fd, b"%02d" % number)
    assert fast_calls(guest)["fd_write"] > 40
    guest.must("sched_yield")
    assert path.read_bytes()[:100] == b"".join(b"%02d" % number for number in range(50))


@pytest.mark.parametrize("scarce", ["disk", "limit"])
def test_where_space_is_scarce_every_write_is_on_disk_at_once(
    local: tuple[RawGuest, Path], scarce: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scarce == "disk":
        honest = os.statvfs(local[1])
        full = os.statvfs_result([*honest[:3], 1000, 1000, *honest[5:]])
        monkeypatch.setattr(os, "fstatvfs", lambda fd: full)
    else:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (620, 620))
    guest, path = local
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    guest.seek(fd, 600)
    for number in range(1, 50):
        guest.write(fd, b"x")
        assert path.stat().st_size == 600 + number
    assert fast_calls(guest)["fd_write"] == 0


def test_bytes_between_two_writes_are_left_to_other_processes(local: tuple[RawGuest, Path]) -> None:
    """What lies between is not written back: another process may have changed it."""
    guest, path = local
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for _ in range(3):
        guest.pread(fd, 6, 0)
    guest.pwrite(fd, b"AA", 0)
    guest.pwrite(fd, b"AA", 0)
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"theirs")
    guest.pwrite(fd, b"BB", 400)
    guest.must("fd_sync", fd)
    data = path.read_bytes()
    assert (data[:2], data[200:206], data[400:402]) == (b"AA", b"theirs", b"BB")


def test_appending_writers_of_a_local_file_do_not_overwrite_each_other(local: tuple[RawGuest, Path]) -> None:
    guest, path = local
    fd = guest.open("f", base=ALL_FILE_RIGHTS, fdflags=c.FDFLAG_APPEND)
    for _ in range(20):
        guest.write(fd, b"mine")
        with path.open("ab") as file:
            file.write(b"other")
    assert path.read_bytes()[600:] == b"mineother" * 20


def test_a_directory_and_one_below_it_show_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f").write_bytes(b"x" * 50)
    with RawGuest({"/a": writable(tmp_path), "/b": writable(tmp_path / "sub")}) as guest:
        one = guest.open("sub/f", base=ALL_FILE_RIGHTS, fd=3)
        two = guest.open("f", base=ALL_FILE_RIGHTS, fd=4)
        for number in range(10):
            guest.pwrite(one, b"%d" % number, 0)
            assert guest.pread(two, 1, 0) == b"%d" % number


def test_two_preopens_of_one_store(tmp_path: Path) -> None:
    for source in (MemoryBackend({"f": b"x" * 50}), tmp_path):
        (tmp_path / "f").write_bytes(b"x" * 50)
        with RawGuest({"/a": writable(source), "/b": writable(source)}) as guest:
            one = guest.open("f", base=ALL_FILE_RIGHTS, fd=3)
            two = guest.open("f", base=ALL_FILE_RIGHTS, fd=4)
            for number in range(10):
                guest.pwrite(one, b"%d" % number, 0)
                assert guest.pread(two, 1, 0) == b"%d" % number
            assert fast_calls(guest)["fd_pread"] > 5


def test_paths_and_descriptors_agree(mount: vfswasi.Mount) -> None:
    with RawGuest({"/d": mount}) as guest:
        fd = guest.create("f", b"123")
        for size in range(4, 40):
            guest.write(fd, b"x")
            assert guest.fstat(fd).size == guest.stat("f").size == size
        before = guest.fstat(fd)
        assert guest.link("f", "g") is Errno.SUCCESS
        assert guest.fstat(fd).nlink == guest.stat("g").nlink == 2
        assert guest.unlink("f") is Errno.SUCCESS
        assert guest.fstat(fd).nlink == 1
        guest.write(fd, b"y")
        after = guest.stat("g")
        assert after.size == 40
        assert after.mtim >= before.mtim
        guest.must("path_filestat_set_times", 3, 1, *guest.text("g"), 5, 7, 5)
        assert (guest.fstat(fd).atim, guest.fstat(fd).mtim) == (5, 7)
        assert guest.stat("g").mtim == 7


def test_settle_lets_the_host_look_and_change() -> None:
    backend = MemoryBackend({})
    with RawGuest({"/d": writable(backend)}) as guest:
        fd = guest.create("f", b"")
        for _ in range(10):
            guest.write(fd, b"ab")
        guest.wasi.settle()
        assert backend.export() == {"f": b"ab" * 10}
        handle = backend.open(("f",), True)
        handle.write_from(0, b"XY")
        handle.close()
        guest.wasi.settle()
        assert guest.pread(fd, 4, 0) == b"XYab"
    assert backend.export() == {"f": b"XY" + b"ab" * 9}


def test_a_store_that_goes_without_close_loses_no_descriptors() -> None:
    backend = MemoryBackend({"f": b"x" * 100})
    guest = RawGuest({"/d": writable(backend)})
    fd = guest.open("f", base=ALL_FILE_RIGHTS)
    for _ in range(5):
        guest.read(fd, 3)
    process = guest.wasi._process
    guest.store.close()
    assert len(process.fds) == 0
    guest.wasi.close()
