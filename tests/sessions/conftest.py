"""The guest of most of these tests, and both ways in which a guest is interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vfswasi

GUEST = (
    r"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $count (i32.const 100)))
  (func (export "next") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "same_i64") (param i64) (result i64) (local.get 0))
  (func (export "same_f32") (param f32) (result f32) (local.get 0))
  (func (export "same_f64") (param f64) (result f64) (local.get 0))
  (func (export "three") (param i32 i64 f64) (result f64 i64 i32) (local.get 2) (local.get 1) (local.get 0))
  (func (export "nothing"))
  (func (export "wide") (param v128))
  (func (export "reference") (param externref))
  (func (export "spin") (loop (br 0)))
  (func (export "work") (param i32) (local i32)
    (loop (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (local.get 0)))))
  (func (export "trap") unreachable)
  (func (export "deep") (call 33))
  (func (export "exit") (param i32) (call $proc_exit (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  ;; a path or data lies at 1024; iovec at 0, results at 8
  (func $iovec (param i32) (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (local.get 0)))
  (func (export "write") (param $fd i32) (param $size i32) (result i32)
    (call $iovec (local.get $size))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "read") (param $fd i32) (param $size i32) (result i32)
    (call $iovec (local.get $size))
    (drop (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func (export "open") (param $size i32) (param $oflags i32) (result i32)
    (if (result i32) (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (local.get $size)
          (local.get $oflags) (i64.const 0x6000ff) (i64.const 0) (i32.const 0) (i32.const 8))
      (then (i32.const -1)) (else (i32.load (i32.const 8)))))
  (func (export "close") (param i32) (result i32) (call $fd_close (local.get 0)))
  (func (export "renumber") (param i32 i32) (result i32) (call $fd_renumber (local.get 0) (local.get 1)))
  (func (export "seek") (param $fd i32) (param $to i64) (param $whence i32) (result i32)
    (call $fd_seek (local.get $fd) (local.get $to) (local.get $whence) (i32.const 8)))
  (func (export "unlink") (param i32) (result i32) (call $unlink (i32.const 3) (i32.const 1024) (local.get 0)))
  ;; the old name lies at 1024, the new one at 2048
  (func (export "rename") (param i32 i32) (result i32)
    (call $rename (i32.const 3) (i32.const 1024) (local.get 0) (i32.const 3) (i32.const 2048) (local.get 1)))
  (func (export "random") (param i32) (result i32) (call $random_get (i32.const 1024) (local.get 0)))
  (func (export "cpu") (result i64) (drop (call $clock (i32.const 2) (i64.const 1) (i32.const 8)))
    (i64.load (i32.const 8)))
)""".replace("(call 33)", "(call $deep)")
    .replace('(func (export "deep")', '(func $deep (export "deep")')
    .encode()
)


@pytest.fixture(params=["page", "epoch", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which guests are interrupted, and once without the fast path."""
    way = str(request.param)
    monkeypatch.setenv("VFSWASI_INTERRUPT", "epoch" if way == "epoch" else "page")
    monkeypatch.setenv("VFSWASI_VDSO", "0" if way == "plain" else "1")
    return way


@pytest.fixture
def sandbox(way: str) -> Iterator[vfswasi.Sandbox]:
    """One whose guest is above, with a directory in memory that each session has a copy of."""
    with vfswasi.Sandbox(GUEST, preopens={"/d": {"given": "0123456789"}}) as made:
        yield made


@pytest.fixture
def session(sandbox: vfswasi.Sandbox) -> Iterator[vfswasi.Session]:
    with sandbox.session(capture_output=True) as made:
        yield made


CREAT, TRUNC = 1, 8


def open_file(session: vfswasi.Session, name: str, oflags: int = 0) -> int:
    """The descriptor that the guest has got."""
    session.memory.write(1024, name.encode())
    fd = session.call("open", len(name), oflags)
    assert fd >= 0, name
    return int(fd)


def write(session: vfswasi.Session, fd: int, data: bytes) -> None:
    session.memory.write(1024, data)
    assert session.call("write", fd, len(data)) == 0


def read(session: vfswasi.Session, fd: int, size: int = 64) -> bytes:
    count = session.call("read", fd, size)
    return session.memory.read(1024, count)


def unlink(session: vfswasi.Session, name: str) -> None:
    session.memory.write(1024, name.encode())
    assert session.call("unlink", len(name)) == 0


def rename(session: vfswasi.Session, old: str, new: str) -> None:
    session.memory.write(1024, old.encode())
    session.memory.write(2048, new.encode())
    assert session.call("rename", len(old), len(new)) == 0
