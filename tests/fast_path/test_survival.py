"""A write that returned success is there afterwards, whatever ended the guest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import vfswasi
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.errors import Errno
from vfswasi.fs_backends.layers.faulty import Faulty
from vfswasi.fs_backends.memory.backend import MemoryBackend

from . import guests

COUNT = 3000
EXPECTED = b"0123456789abcdef" * COUNT

HOST = '(import "host" "fail" (func $fail))'
DEEP = "(func $deep (call $deep))"
ENDINGS = {
    "return": ("", "", 0),
    "exit": ("(call $proc_exit (i32.const 7))", "", 7),
    "trap": ("unreachable", "", -6),
    "out of bounds": ("(drop (i32.load (i32.const -4)))", "", -6),
    "stack": ("(call $deep)", DEEP, -6),
    "timeout": ("(loop $for_ever (br $for_ever))", "", vfswasi.GuestTimeoutError),
    "timeout in calls": (
        "(loop $for_ever (drop (call $fd_seek (i32.const 4) (i64.const 0) (i32.const 1) (i32.const 300))) "
        "(br $for_ever))",
        "",
        vfswasi.GuestTimeoutError,
    ),
    "host exception": ("(call $fail)", HOST, ZeroDivisionError),
    "interrupted": ("(call $fail)", HOST, KeyboardInterrupt),
}


@pytest.mark.parametrize("place", ["memory", "local"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_there(ending: str, place: str, tmp_path: Path) -> None:
    code, more, expected = ENDINGS[ending]

    def fail(memory: Any) -> None:
        raise expected  # type: ignore[misc]

    backend = MemoryBackend({})
    source: Any = backend if place == "memory" else tmp_path
    options: dict[str, Any] = {
        "preopens": {"/d": vfswasi.Mount(source, rw=True)},
        "imports": {"host": {"fail": fail}},
        "timeout": 2 if "timeout" in ending else 60,
    }
    wasm = guests.writer(COUNT, code, more)
    if isinstance(expected, type):
        with pytest.raises(expected):
            vfswasi.run(wasm, **options)
    else:
        result = vfswasi.run(wasm, **options)
        assert result.returncode == expected
        if result.fast_calls:
            assert result.fast_calls["fd_write"] > COUNT * 0.9
    found = backend.export()["f"] if place == "memory" else (tmp_path / "f").read_bytes()
    assert found == EXPECTED


def test_the_result_shows_what_a_dict_mount_got() -> None:
    result = vfswasi.run(guests.writer(COUNT, "unreachable"), preopens={"/d": {}})
    assert result.files["/d"]["f"] == EXPECTED


def test_a_local_file_takes_no_more_space_than_its_contents(tmp_path: Path) -> None:
    vfswasi.run(guests.writer(50), preopens={"/d": vfswasi.Mount(tmp_path, rw=True)}, check=True)
    (tmp_path / "plain").write_bytes(b"0123456789abcdef" * 50)
    assert (tmp_path / "f").stat().st_blocks == (tmp_path / "plain").stat().st_blocks


def _failing(nth: int) -> Faulty:
    return Faulty(MemoryBackend({}), {("handle.write_from", nth): Errno.IO})


def test_a_write_back_that_fails_at_close_is_the_error_of_close() -> None:
    faulty = _failing(2)  # the first write publishes
    close = "(call $proc_exit (call $fd_close (i32.const 4)))"
    result = vfswasi.run(guests.writer(10, close), preopens={"/d": vfswasi.Mount(faulty, rw=True)})
    assert result.returncode == Errno.IO


@pytest.mark.skipif(not fastpath.wanted(None), reason="without the fast path nothing is written back")
def test_a_write_back_that_fails_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        vfswasi.run(guests.writer(10), preopens={"/d": vfswasi.Mount(_failing(2), rw=True)})
    assert "closing a file after the run failed" in caplog.text


@pytest.mark.skipif(not fastpath.wanted(None), reason="without the fast path nothing is written back")
def test_a_write_back_that_failed_is_tried_again() -> None:
    """Reading what was written needs a write-back, which fails once; nothing is lost by that."""
    inner = MemoryBackend({})
    faulty = Faulty(inner, {("handle.write_from", 2): Errno.IO})
    big = "(i32.store (i32.const 204) (i32.const 65536))"  # a read of 64 KiB goes to the store
    read = guests.READ.replace("$must", "$note")
    note = "(global $errno (mut i32) (i32.const 0)) (func $note (param i32) (global.set $errno (local.get 0)))"
    ending = f"{guests.REWIND} {big} {read} (call $proc_exit (global.get $errno))"
    result = vfswasi.run(guests.writer(10, ending, note), preopens={"/d": vfswasi.Mount(faulty, rw=True)})
    assert result.returncode in (Errno.IO, 0)
    assert inner.export()["f"] == b"0123456789abcdef" * 10


@pytest.mark.parametrize("quota", [16 * 100, 16 * 100 + 5, 70_000])
def test_a_quota_is_met_at_the_same_byte(quota: int) -> None:
    """The space of deferred writes is reserved, and what is reserved is no one else's loss."""
    sizes = []
    for vdso in (True, False):
        backend = MemoryBackend({}, max_bytes=quota)
        stop = guests.WRITE.replace("$must", "$proc_exit_unless_0")
        more = "(func $proc_exit_unless_0 (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))"
        wasm = guests.module(guests.opening(1, guests._FILE) + guests.repeated(10_000, stop), more)
        result = vfswasi.run(wasm, preopens={"/d": vfswasi.Mount(backend, rw=True)}, vdso=vdso)
        assert result.returncode == Errno.NOSPC
        sizes.append(len(backend.export()["f"]))
    assert sizes[0] == sizes[1] == quota // 16 * 16
