"""Guests of a few instructions, in the text format: one for each way in which a run can end or wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import wasmtime

import vfswasi
from vfswasi.engine.compiling import modules
from vfswasi.engine.interruption import rewriting, ways

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"""
_MEMORY = """(memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 16) "so far")
  (func $say (param i32) (drop (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))"""


def compiled(text: bytes) -> bytes:
    """The code of a module, as a sandbox without limits of its own would compile it."""
    wasm, way = bytes(wasmtime.wat2wasm(text.decode())), ways.wanted(vfswasi.Limits())
    if way == ways.PAGE:
        wasm = rewriting.rewrite(wasm).wasm
    return bytes(wasmtime.Module(modules.engine(way=way), wasm).serialize())


def program(body: str, imports: str = "", functions: str = "") -> bytes:
    """A module whose `_start` is `body`; `(call $say (i32.const fd))` writes "so fa"."""
    return f'(module {imports} {_IMPORTS} {_MEMORY} {functions} (func (export "_start") {body}))'.encode()


SAY = "(call $say (i32.const 1)) (call $say (i32.const 2))"
ENDLESS = "(loop $again (br $again))"
# the subscription at 1024 is zeroed memory, which is a relative timeout on a clock: 2^42 ns of it
SLEEP = """(i64.store (i32.const 1048) (i64.const 0x40000000000)) (i32.store (i32.const 1040) (i32.const 1))
  (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))"""
POLL_STDIN = """(i32.store8 (i32.const 1032) (i32.const 1))
  (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))"""
READ = """(i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 16))
  (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))"""
# creates the file "s" in the first preopen and leaves it open
OPEN = """(drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1) (i64.const 66)
  (i64.const 0) (i32.const 0) (i32.const 64)))"""
# 64 KiB at a time, forever
FLOOD = """(i32.store (i32.const 4) (i32.const 65000))
  (loop $again (call $say (i32.const 1)) (br $again))"""
ENDINGS_BY_WAITING = {"computing": ENDLESS, "sleeping": SLEEP, "polling": POLL_STDIN, "reading": READ}


@contextlib.contextmanager
def pipe_ends() -> Iterator[tuple[int, int]]:
    """(read end, write end) of a pipe; what is left open is closed."""
    ends = os.pipe()
    identities = [os.fstat(end).st_ino for end in ends]
    yield ends
    for end, identity in zip(ends, identities, strict=True):
        try:
            if os.fstat(end).st_ino == identity:
                os.close(end)
        except OSError:
            pass
