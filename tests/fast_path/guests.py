"""Guests in the text format that do one thing with one file, for tests that need a whole run."""

from __future__ import annotations

from vfswasi.abi import constants as c
from vfswasi.kernel import rights

_CREAT = c.OFLAG_CREAT
_FILE = rights.FILE
_READ = rights.FILE & ~rights.MUTATING

IMPORTS = """
 (import "wasi_snapshot_preview1" "path_open"
   (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""

# Memory: 100 the name "f"; 200 an iovec of 16 bytes at 1024; 300 results; 1024 "0123456789abcdef".
HEAD = """
 (memory (export "memory") 2)
 (data (i32.const 100) "f")
 (data (i32.const 200) "\\00\\04\\00\\00\\10\\00\\00\\00")
 (data (i32.const 1024) "0123456789abcdef")
 (func $must (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))
"""


def opening(oflags: int = 0, base: int = _READ) -> str:
    """Statements that open "f" below descriptor 3, as descriptor 4."""
    return (
        "(call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 1) "
        f"(i32.const {oflags}) (i64.const {base}) (i64.const 0) (i32.const 0) (i32.const 300)))"
    )


def repeated(count: int, body: str) -> str:
    """Statements that do `body` so many times; needs the local $n."""
    return (
        f"(local.set $n (i32.const {count})) (loop $again {body} "
        "(br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
    )


WRITE = "(call $must (call $fd_write (i32.const 4) (i32.const 200) (i32.const 1) (i32.const 300)))"
READ = "(call $must (call $fd_read (i32.const 4) (i32.const 200) (i32.const 1) (i32.const 300)))"
REWIND = "(call $must (call $fd_seek (i32.const 4) (i64.const 0) (i32.const 0) (i32.const 300)))"
SAY = "(call $must (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 300)))"


def module(start: str, more: str = "") -> bytes:
    """A command whose `_start` is `start`; `more`: further imports and functions."""
    return f'(module {IMPORTS} {more} {HEAD} (func (export "_start") (local $n i32) {start}))'.encode()


def writer(count: int, ending: str = "", more: str = "") -> bytes:
    """Creates "f", writes the 16 bytes `count` times, and ends without closing it."""
    return module(opening(_CREAT, _FILE) + repeated(count, WRITE) + ending, more)
