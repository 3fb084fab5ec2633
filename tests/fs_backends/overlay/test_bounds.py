"""What a program on an overlay can make the host keep, and for how long it can make it work."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from tests.rawguest import ALL_FILE_RIGHTS, RawGuest
from vfswasi.errors import Errno, FsError, HostCallError
from vfswasi.fs_backends.base import Buffer, Handle, Key, Stat
from vfswasi.fs_backends.layers.checked import Checked
from vfswasi.fs_backends.layers.overlay.backend import OverlayBackend
from vfswasi.fs_backends.memory.backend import MemoryBackend
from vfswasi.fs_backends.staging import space
from vfswasi.testing.ground import contents, errno_of


def _guest(backend: Any, **limits: int) -> RawGuest:
    return RawGuest({"/d": vfswasi.Mount(backend, rw=True)}, limits=vfswasi.Limits(**limits))


def test_quotas_hold_on_an_overlay() -> None:
    overlay = OverlayBackend(MemoryBackend({"a": bytes(40_000)}))
    with _guest(overlay, mount_bytes=50_000, stored_bytes=50_000, file_bytes=70_000, inodes=3) as guest:
        fd = guest.open("a", base=ALL_FILE_RIGHTS)
        assert guest.call("fd_filestat_set_size", fd, 70_001) is Errno.FBIG
        guest.must("fd_filestat_set_size", fd, 70_000)
        new = guest.create("new", b"x" * 10_000)
        assert guest.call("fd_filestat_set_size", new, 20_001) is Errno.DQUOT
        guest.must("fd_filestat_set_size", new, 20_000)
        guest.must("fd_filestat_set_size", fd, 0)  # what grew is given back; what the base had was never charged
        assert guest.call("fd_filestat_set_size", new, 50_001) is Errno.DQUOT
        guest.must("fd_filestat_set_size", new, 50_000)
        guest.close_fd(guest.create("second"))
        guest.close_fd(guest.create("third"))
        assert guest.try_open("fourth", oflags=1, base=ALL_FILE_RIGHTS)[0] is Errno.DQUOT
    assert overlay.stat(("a",)).size == 0


def errno_or_none(handle: Handle, offset: int) -> Errno | None:
    try:
        handle.write_from(offset, b"x")
    except FsError as error:
        return error.errno
    return None


class _Endless(MemoryBackend):
    """Its file `a` is as large as one likes, and takes a while to be read."""

    size = 1 << 30
    pause_s = 0.0

    def stat(self, key: Key) -> Stat:
        found = super().stat(key)
        return found._replace(size=self.size) if key == ("a",) else found

    def walk(self, key: Key, names: Key) -> tuple[int, Stat | None]:
        count, found = super().walk(key, names)
        return count, self.stat(("a",)) if key + names == ("a",) else found

    def open(self, key: Key, write: bool) -> Handle:
        return _EndlessHandle(self) if key == ("a",) else super().open(key, write)


class _EndlessHandle(Handle):
    def __init__(self, owner: _Endless) -> None:
        self._owner = owner

    def read_into(self, offset: int, buf: Buffer) -> int:
        time.sleep(self._owner.pause_s)
        return max(0, min(len(buf), self._owner.size - offset))

    def stat(self) -> Stat:
        return self._owner.stat(("a",))


def test_copies_of_what_the_base_has_take_no_more_disk_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_ROUNDING_BYTES", 0)
    overlay = OverlayBackend(_Endless({"a": b""}), memory_bytes=100_000, max_bytes=1 << 20)
    handle = overlay.open(("a",), True)
    written = [errno_or_none(handle, number * 40_000) for number in range(100)]
    assert None in written
    assert written[-1] is Errno.NOSPC
    assert set(written) == {None, Errno.NOSPC}
    assert handle.stat().size == 1 << 30
    handle.close()


def test_copying_a_file_of_a_slow_base_ends_with_the_time_of_the_run() -> None:
    base = _Endless({"a": b""})
    base.pause_s = 0.01
    guest = RawGuest({"/d": vfswasi.Mount(OverlayBackend(base), rw=True)})
    fd = guest.open("a", base=ALL_FILE_RIGHTS)
    guest.wasi._process.deadline.at_ns = time.monotonic_ns() + 300_000_000
    started = time.monotonic()

    def write_everywhere() -> None:
        for number in range(10_000):
            guest.must("fd_seek", fd, number * 65_536 + 1, 0, 0x8000)
            guest.write(fd, b"x")

    with pytest.raises(HostCallError):
        write_everywhere()
    assert time.monotonic() - started < 20
    guest.wasi._process.deadline.at_ns = None
    guest.close()


def test_a_full_disk_is_an_error_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = OverlayBackend(MemoryBackend({"a": bytes(100_000)}), memory_bytes=0)
    handle = overlay.open(("a",), True)
    handle.write_from(0, b"first")
    pwrite = os.pwrite

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert errno_of(handle.write_from, 90_000, b"x" * 50_000) is Errno.NOSPC
    assert errno_of(overlay.create(("new",)).write_from, 0, b"x") is Errno.NOSPC
    monkeypatch.setattr(os, "pwrite", pwrite)
    assert handle.size() == 100_000
    assert contents(overlay, ("a",)) == b"first" + bytes(99_995)
    handle.write_from(99_999, b"xy")
    handle.close()
    assert contents(overlay, ("a",))[-2:] == b"xy"


class _Liar(MemoryBackend):
    def open(self, key: Key, write: bool) -> Handle:
        return _LyingHandle(super().open(key, write))


class _LyingHandle(Handle):
    def __init__(self, inner: Handle) -> None:
        self._inner = inner

    def read_into(self, offset: int, buf: Buffer) -> int:
        return len(buf) + 5

    def stat(self) -> Stat:
        return self._inner.stat()._replace(size=-1)


def test_a_base_that_lies_is_an_error() -> None:
    overlay = OverlayBackend(Checked(_Liar({"a": b"abc"})))
    for _ in range(2):
        with pytest.raises(FsError):
            overlay.open(("a",), True).write_from(1, b"x")
    assert not overlay.changed


def test_names_come_and_go_and_leave_nothing() -> None:
    overlay = OverlayBackend(MemoryBackend({"d": {"a": b"a"}, "e": {}}), private=True)
    for number in range(20_000):
        overlay.open(("d", "a"), True).close()
        overlay.create(("e", f"n{number}")).close()
        overlay.rename(("e", f"n{number}"), ("d", "m"))
        overlay.remove(("d", "m"))
        overlay.rename(("d", "a"), ("e", "a"))
        overlay.rename(("e", "a"), ("d", "a"))
    assert overlay._tree.files == {}
    assert not overlay.changed
    assert overlay.space.used_bytes == overlay.space.used_memory_bytes == 0


def test_threads_share_an_overlay(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(2 << 20))
    overlay = OverlayBackend(vfswasi.LocalBackend(tmp_path), memory_bytes=500_000, close_base=True)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            handle = overlay.open(("a",), True)
            for turn in range(200):
                handle.write_from((turn * 8 + number) * 1000, bytes([number + 1]) * 1000)
                name = (f"t{number}",)
                overlay.create(name).close()
                overlay.rename(name, (f"u{number}",))
                overlay.remove((f"u{number}",))
                list(overlay.list(()))
            handle.close()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    data = contents(overlay, ("a",))
    expected = b"".join(bytes([number + 1]) * 1000 for _ in range(200) for number in range(8))
    assert data == expected + bytes((2 << 20) - len(expected))
    assert (tmp_path / "a").read_bytes() == bytes(2 << 20)
    overlay.close()
