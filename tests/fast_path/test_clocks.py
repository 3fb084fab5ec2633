"""Clocks that are read without Python: the same answers as Python's, in one time with them."""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wasmtime

import vfswasi
from tests.rawguest import FREE, RawGuest
from vfswasi.abi import constants as c
from vfswasi.engine.fast_path import publishing as fastpath
from vfswasi.engine.fast_path import wasm_clocks
from vfswasi.errors import Errno
from vfswasi.fs_backends.memory.backend import MemoryBackend

pytestmark = pytest.mark.skipif(not fastpath.wanted(None), reason="compares the fast path with Python")

VERSIONS = {"preview1": "wasi_snapshot_preview1", "unstable": "wasi_unstable"}
SIZE = 65536
TOLD, OTHER = 0x1000, 0x2000  # where the guest is told things
READ, RESOLUTION, POLL = 1, 2, 3
WARM = fastpath.WARMTH + fastpath.HEAT

# A guest that makes the calls it is told to make: `next` gets the errno of the last one, and says which call is next;
# the arguments lie at 0 (u32, u32).
DRIVEN = """(module
 (import "MODULE" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
 (import "MODULE" "clock_res_get" (func $resolution (param i32 i32) (result i32)))
 (import "MODULE" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "host" "next" (func $next (param i32) (result i32)))
 (memory (export "memory") 1)
 (func (export "_start") (local $errno i32) (local $what i32)
  (loop $again
   (local.set $what (call $next (local.get $errno)))
   (if (i32.eq (local.get $what) (i32.const 1))
    (then (local.set $errno
     (call $time (i32.load (i32.const 0)) (i64.const 1) (i32.load (i32.const 4))))))
   (if (i32.eq (local.get $what) (i32.const 2))
    (then (local.set $errno (call $resolution (i32.load (i32.const 0)) (i32.load (i32.const 4))))))
   (if (i32.eq (local.get $what) (i32.const 3))
    (then (local.set $errno
     (call $poll (i32.const 0x400) (i32.const 0x500) (i32.const 1) (i32.const 0x600)))))
   (br_if $again (local.get $what)))))"""

Steps = Iterator[tuple[int, int, int]]


class Driver:
    """What the test sees of the guest: the last errno and its memory."""

    def __init__(self, steps: Callable[[Driver], Steps]) -> None:
        self.errno = Errno.SUCCESS
        self.memory: Any = None
        self._steps = steps(self)

    def next(self, memory: Any, errno: int) -> int:
        self.memory, self.errno = memory, Errno(errno)
        for what, first, second in self._steps:
            memory.write(0, struct.pack("<II", first, second))
            return what
        return 0

    def u64(self, pointer: int) -> int:
        return int(struct.unpack("<Q", self.memory.read(pointer, 8))[0])


def drive(steps: Callable[[Driver], Steps], version: str = "preview1", **options: Any) -> vfswasi.Result:
    wasm = DRIVEN.replace("MODULE", VERSIONS[version]).encode()
    return vfswasi.run(wasm, imports={"host": {"next": Driver(steps).next}}, check=True, **options)


def warm_up() -> Steps:
    for _ in range(WARM):
        yield READ, c.CLOCK_MONOTONIC, TOLD


@pytest.mark.parametrize("version", VERSIONS)
def test_realtime_and_monotonic_are_read_without_python_after_a_few_calls(version: str) -> None:
    def steps(_: Driver) -> Steps:
        yield from warm_up()
        for clock in (c.CLOCK_REALTIME, c.CLOCK_MONOTONIC):
            for _ in range(100):
                yield READ, clock, TOLD
                yield RESOLUTION, clock, TOLD

    calls = drive(steps, version).fast_calls
    assert calls["clock_time_get"] >= 200
    assert calls["clock_res_get"] == 200


def test_the_clocks_of_the_processor_stay_with_python() -> None:
    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for clock in (c.CLOCK_PROCESS_CPUTIME, c.CLOCK_THREAD_CPUTIME):
            last = 0
            for _ in range(100):
                yield READ, clock, TOLD
                assert driver.errno is Errno.SUCCESS
                assert last <= driver.u64(TOLD) < time.thread_time_ns()
                last = driver.u64(TOLD)

    assert drive(steps).fast_calls["clock_time_get"] <= WARM


@pytest.mark.parametrize("version", VERSIONS)
def test_errnos_and_memory_are_those_of_python(version: str) -> None:
    pointers = (0x800, SIZE - 8, SIZE - 7, SIZE - 1, SIZE, 2**31, 2**32 - 8, 2**32 - 7, 2**32 - 1)
    clocks = (0, 1, 2, 3, 4, 255, 256, 2**31, 2**32 - 1)
    seen: dict[bool, list[Any]] = {True: [], False: []}
    for vdso, found in seen.items():

        def steps(driver: Driver, found: list[Any] = found) -> Steps:
            yield from warm_up()
            for clock, pointer in itertools.product(clocks, pointers):
                for what in (READ, RESOLUTION):
                    driver.memory.write(0, bytes(SIZE))
                    yield what, clock, pointer
                    after = bytearray(driver.memory.read(8, SIZE - 8))
                    if driver.errno is Errno.SUCCESS and what == READ:
                        assert any(after[pointer - 8 : pointer])
                        after[pointer - 8 : pointer] = bytes(8)
                    found.append((clock, pointer, what, driver.errno, bytes(after)))

        result = drive(steps, version, vdso=vdso)
        assert (result.fast_calls.get("clock_res_get", 0) > 0) is vdso
    assert seen[True] == seen[False]
    assert {errno for _, _, _, errno, _ in seen[True]} == {Errno.SUCCESS, Errno.FAULT, Errno.INVAL}


def test_realtime_is_the_hosts() -> None:
    """The clock that files get their times from, too."""

    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for _ in range(200):
            before = time.time_ns()
            yield READ, c.CLOCK_REALTIME, TOLD
            assert before <= driver.u64(TOLD) <= time.time_ns()

    assert drive(steps).fast_calls["clock_time_get"] >= 200


def test_monotonic_never_goes_back_whoever_answers() -> None:
    """Another run that begins on the store sends the next call to Python."""
    backend = MemoryBackend({"f": b"x"})
    empty = b'(module (memory (export "memory") 1) (func (export "_start")))'
    told: list[int] = []

    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for number in range(600):
            if number % 10 == 0:
                vfswasi.run(empty, preopens={"/d": backend})
            yield READ, c.CLOCK_MONOTONIC, TOLD
            told.append(driver.u64(TOLD))

    calls = drive(steps, preopens={"/d": backend}).fast_calls
    assert told == sorted(told)
    assert 400 < calls["clock_time_get"] <= 540 + WARM


def test_monotonic_is_the_hosts_within_a_moment() -> None:
    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for _ in range(100):
            before = time.monotonic_ns()
            yield READ, c.CLOCK_MONOTONIC, TOLD
            assert before <= driver.u64(TOLD) <= time.monotonic_ns() + wasm_clocks.LOOK_MAX_NS

    drive(steps)


@pytest.mark.parametrize("absolute", [False, True])
def test_no_sleep_looks_shorter_than_it_was_asked_for(absolute: bool) -> None:
    asked_ns = 2_000_000

    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for _ in range(20):
            yield READ, c.CLOCK_MONOTONIC, TOLD
            start = driver.u64(TOLD)
            timeout = start + asked_ns if absolute else asked_ns
            driver.memory.write(0x400, struct.pack("<QB7xI4xQQH6x", 7, 0, c.CLOCK_MONOTONIC, timeout, 0, absolute))
            yield POLL, 0, 0
            assert driver.errno is Errno.SUCCESS
            yield READ, c.CLOCK_MONOTONIC, TOLD
            assert driver.u64(TOLD) - start >= asked_ns

    assert drive(steps).fast_calls["clock_time_get"] >= 40


def test_without_a_good_look_at_both_clocks_python_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm_clocks, "LOOK_MAX_NS", -1)

    def steps(driver: Driver) -> Steps:
        yield from warm_up()
        for _ in range(100):
            before = time.monotonic_ns()
            yield READ, c.CLOCK_MONOTONIC, TOLD
            assert before <= driver.u64(TOLD) <= time.monotonic_ns()

    assert drive(steps).fast_calls["clock_time_get"] == 0


POLLING = """(module
 (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
 (memory (export "memory") 1)
 (func (export "_start") (loop $again (br_if $again (i32.eqz (call $time (i32.const 1) (i64.const 0) (i32.const 8)))))))
"""


def test_a_loop_that_reads_the_clock_ends_at_its_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(vfswasi.GuestTimeoutError):
        vfswasi.run(POLLING.encode(), timeout=0.3)
    assert time.monotonic() - started < 20


def test_a_loop_that_reads_the_clock_can_be_interrupted() -> None:
    with vfswasi.Sandbox(POLLING.encode()) as sandbox:
        threading.Timer(0.3, sandbox.interrupt).start()
        with pytest.raises(vfswasi.HostCallError):
            sandbox.run(timeout=60)


@pytest.mark.parametrize("name", ["clock_time_get", "fd_write", "proc_exit"])
def test_a_guest_cannot_import_what_the_fast_path_has_of_wasmtime(name: str) -> None:
    wasm = f"""(module (import "wasmtime" "{name}" (func (param i32 i64 i32) (result i32)))
      (memory (export "memory") 1) (func (export "_start")))"""
    with pytest.raises(vfswasi.MissingImportError):
        vfswasi.run(wasm.encode())


def test_in_a_store_of_the_users_the_clocks_stay_with_python_and_its_own_wasi_as_it_was() -> None:
    with RawGuest() as guest:
        config = wasmtime.WasiConfig()
        config.argv = ["mine", "alone"]
        guest.store.set_wasi(config)
        linker = wasmtime.Linker(guest.store.engine)
        linker.define_wasi()
        for _ in range(2 * WARM):
            before = time.monotonic_ns()
            guest.must("clock_time_get", c.CLOCK_MONOTONIC, 1, FREE)
            assert before <= guest.u64(FREE) <= time.monotonic_ns()
            guest.must("random_get", FREE, 4)
        fast = guest.wasi._embedding.guest.fast  # type: ignore[union-attr]
        assert fast is not None
        assert fast.counters()["random_get"] > 0
        assert fast.counters()["clock_time_get"] == 0
        asking = wasmtime.Module(
            guest.store.engine,
            """(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
              (memory (export "memory") 1)
              (func (export "count") (result i32)
               (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))""",
        )
        count = linker.instantiate(guest.store, asking).exports(guest.store)["count"]
        assert isinstance(count, wasmtime.Func)
        assert count(guest.store) == 2
